/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects that users make with --object and object-add: iothreads and secrets.
 *
 * An iothread is a name that other options may give; all graphs run on the main
 * loop. One list for the process, on the main loop's thread.
 */
#ifndef MONITOR_OBJECT_H
#define MONITOR_OBJECT_H

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>

#include "qapi/types.h"
#include "util/coroutine.h"

/** object_is_id() - a letter, then letters, digits, '-', '.', '_': what may name a thing */
bool object_is_id(const char *id);

/** object_help() - if @text of --object asks for it, tell what there is to @out: true */
bool object_help(const char *text, FILE *out);

/** object_co_add() - kinds that are not there are refused by name; reads the file of a secret */
bool coroutine_fn object_co_add(const ObjectOptions *o, GError **errp);
bool object_del(const char *id, GError **errp);

/** object_find() - the options of the object called @id, or NULL; borrowed */
const ObjectOptions *object_find(const char *id);
/** object_secret() - the bytes of the secret called @id; counted. NULL and errp if there is none */
GBytes *object_secret(const char *id, GError **errp);

ObjectPropertyInfoArray *object_query(void);

/** objects_free() - at the end of the program; secrets are wiped */
void objects_free(void);

#endif
