/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON as QMP has it: cut a stream into documents, parse them, print them.
 *
 * Source: QMP specification. Input is UTF-8 JSON; strings may also be in
 * single quotes, and \' is an escape. Output is ASCII. Beyond RFC 8259 input
 * is refused: duplicate keys, integers that do not fit 64 bits with sign.
 */
#ifndef QAPI_JSON_H
#define QAPI_JSON_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/compiler.h"

/* Limits of one document. */
#define JSON_MAX_BYTES  (64 * MiB)
#define JSON_MAX_DEPTH  1024
#define JSON_MAX_TOKENS (2 * MiB) /* brackets, commas and colons */

typedef struct JsonFramer JsonFramer;

typedef enum JsonFrame {
    JSON_FRAME_MORE,  /* all input is used up */
    JSON_FRAME_VALUE, /* a document */
    JSON_FRAME_ERROR, /* something that is none */
} JsonFrame;

JsonFramer *json_framer_new(void);
void json_framer_free(JsonFramer *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonFramer, json_framer_free)

/**
 * json_framer_next() - go on with the next bytes of the stream
 * @buf, @n: moved past what was used
 * @ret: a new reference, if the answer is JSON_FRAME_VALUE
 *
 * Call it until it says JSON_FRAME_MORE. A document ends with its last bracket
 * or quote; a number or word with what follows it. After an error what belongs
 * to the bad document is skipped: up to where its brackets balance, or to a
 * control character other than tab, CR and LF, or a byte 0xFF, which always
 * begin anew. Memory: at most JSON_MAX_BYTES, whatever the stream.
 */
JsonFrame json_framer_next(JsonFramer *f, const char **buf, size_t *n, json_t **ret,
                           GError **errp);

/** json_framer_end() - the stream ends: JSON_FRAME_MORE if nothing was left over */
JsonFrame json_framer_end(JsonFramer *f, json_t **ret, GError **errp);

/** json_parse() - the one document that @text is; a new reference, or NULL and errp */
json_t *json_parse(const char *text, GError **errp);

/**
 * json_print() - as text that the caller frees, without line end
 * @pretty: several lines ending in LF, indented by 4
 */
char *json_print(const json_t *json, bool pretty);

#endif
