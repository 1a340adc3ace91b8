/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz: bytes to a monitor. Each document is printed and must read back as what
 * it was; each is also taken for options, in every mode.
 */
#include <stdint.h>

#include "qapi/json.h"
#include "qapi/keyval.h"
#include "qapi/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
reread(const json_t *json, bool pretty)
{
    g_autofree char *text = json_print(json, pretty);
    json_t *again = json_parse(text, NULL);

    assert(json_equal(json, again));
    json_decref(again);
}

static void
walk(const json_t *json)
{
    for (QapiMode mode = QAPI_STRICT; mode <= QAPI_LENIENT; mode++) {
        g_autoptr(GError) err = NULL;
        BlockdevOptions *opts = qapi_from_json(&qapi_type_blockdev_options, json, mode, &err);

        assert((opts != NULL) == (err == NULL));
        if (opts) {
            json_t *back = blockdev_options_to_json(opts);
            BlockdevOptions *again = blockdev_options_from_json(back, NULL);
            assert(again);
            blockdev_options_free(again);
            json_decref(back);
        }
        blockdev_options_free(opts);
    }
}

static void
crumple(const json_t *json)
{
    json_t *nested = json_is_object(json) ? json_crumple(json, NULL) : NULL;

    if (nested) {
        walk(nested);
    }
    json_decref(nested);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    g_autoptr(JsonFramer) f = json_framer_new();
    const char *buf = (const char *)data;

    while (bytes) {
        json_t *json = NULL;

        if (json_framer_next(f, &buf, &bytes, &json, NULL) == JSON_FRAME_VALUE) {
            reread(json, false);
            reread(json, true);
            walk(json);
            crumple(json);
            json_decref(json);
        }
    }
    return 0;
}
