/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz: options as text, in both syntaxes, and what becomes of them.
 */
#include <stdint.h>

#include "qapi/keyval.h"
#include "qapi/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
take(json_t *json, QapiMode mode)
{
    BlockdevOptions *opts;

    if (json) {
        opts = qapi_from_json(&qapi_type_blockdev_options, json, mode, NULL);
        blockdev_options_free(opts);
    }
    json_decref(json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    g_autofree char *text = g_strndup((const char *)data, bytes);
    QapiMode mode;
    bool help;
    json_t *flat;

    take(keyval_parse(text, "driver", &help, NULL), QAPI_TEXT);
    take(keyval_or_json_parse(text, NULL, &mode, NULL, NULL), QAPI_LENIENT);
    flat = qemu_opts_parse(text, "file", &help, NULL);
    if (flat) {
        take(json_crumple(flat, NULL), QAPI_LENIENT);
    }
    json_decref(flat);
    return 0;
}
