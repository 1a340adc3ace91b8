/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options as text: "driver=raw,file.filename=x". Three syntaxes; all make JSON
 * that the walker takes.
 *
 * All return a new reference to an object, or NULL with errp.
 */
#ifndef QAPI_KEYVAL_H
#define QAPI_KEYVAL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "qapi/walker.h"

/**
 * keyval_parse() - key=value,key=value, with dotted keys
 * @implied_key: what a first item without '=' is the value of; NULL: an error
 * @ret_help: set if there is an item 'help' or '?'; NULL: those are errors
 *
 * Values are strings; 'a.b' nests, 'a.0' is an array element; ',,' is a comma in
 * a value. Use T_from_text() on the result.
 */
json_t *keyval_parse(const char *text, const char *implied_key, bool *ret_help, GError **errp);

/**
 * keyval_or_json_parse() - as keyval_parse(), or JSON if @text begins with '{'
 * @ret_mode: how to walk the result: QAPI_TEXT or QAPI_STRICT
 */
json_t *keyval_or_json_parse(const char *text, const char *implied_key, QapiMode *ret_mode,
                             bool *ret_help, GError **errp);

/**
 * qemu_opts_parse() - key=value,key, in the older syntax
 *
 * A bare 'key' is 'on', a bare 'nokey' makes 'key' 'off'. Keys are not taken
 * apart: the result is flat. json_crumple() nests it; use T_from_lenient() then.
 */
json_t *qemu_opts_parse(const char *text, const char *implied_key, bool *ret_help, GError **errp);

/**
 * json_crumple() - nest what dotted keys say, at every level of @json
 *
 * {"a.b": 1, "a": {"c.0": 2}} -> {"a": {"b": 1, "c": [2]}}
 */
json_t *json_crumple(const json_t *json, GError **errp);

#endif
