/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Building nested JSON from dotted keys.
 *
 * While it is built everything is objects; crumple_lists() makes arrays of those
 * with numbers for keys.
 */
#ifndef QAPI_CRUMPLE_H
#define QAPI_CRUMPLE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/** crumple_put() - set @key of @root, whose fragments are separated by dots; takes @value */
bool crumple_put(json_t *root, const char *key, json_t *value, GError **errp);

/** crumple_lists() - false if a list has gaps or also names; @root itself stays an object */
bool crumple_lists(json_t *root, GError **errp);

#endif
