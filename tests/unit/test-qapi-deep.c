/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deepest input that is accepted fits on the stack of a coroutine, where
 * the monitor handles it. A stack that overflows kills the test.
 */
#include <glib.h>
#include <string.h>

#include "qapi/json.h"
#include "qapi/keyval.h"
#include "qapi/walk.h"
#include "util/coroutine.h"
#include "util/loop.h"

static void
in_a_coroutine(CoroutineFn *fn)
{
    Loop *loop = loop_new(LOOP_POLLER_AUTO, NULL);

    co_spawn(fn, NULL);
    while (loop_step(loop, false)) {
    }
    loop_free(loop);
}

/* {"driver": "raw", "file": {... {"driver": "null-co"} ...}}, @levels objects. */
static char *
chain(int levels)
{
    GString *text = g_string_new(NULL);

    for (int i = 1; i < levels; i++) {
        g_string_append(text, "{'driver': 'raw', 'file': ");
    }
    g_string_append(text, "{'driver': 'null-co'}");
    for (int i = 1; i < levels; i++) {
        g_string_append_c(text, '}');
    }
    return g_string_free(text, FALSE);
}

static void coroutine_fn
nest_json(void *opaque)
{
    g_autofree char *text = g_strnfill(2 * JSON_MAX_DEPTH, '[');
    g_autofree char *printed = NULL;
    json_t *json;

    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    json = json_parse(text, NULL);
    printed = json_print(json, false);
    g_assert_cmpstr(printed, ==, text);
    json_decref(json);
}

static void coroutine_fn
nest_options(void *opaque)
{
    g_autofree char *text = chain(QAPI_MAX_DEPTH);
    json_t *json = json_parse(text, NULL), *flat = json_crumple(json, NULL), *back;
    g_autoptr(BlockdevOptions) opts = blockdev_options_from_json(json, NULL);
    g_autoptr(BlockdevOptions) copy = blockdev_options_copy(opts);

    back = blockdev_options_to_json(copy);
    g_assert_true(json_equal(json, back));
    g_assert_true(json_equal(json, flat));
    json_decref(json);
    json_decref(flat);
    json_decref(back);
}

static void coroutine_fn
nest_too_deep(void *opaque)
{
    g_autofree char *text = chain(QAPI_MAX_DEPTH + 1);
    json_t *json = json_parse(text, NULL);
    g_autoptr(GError) err = NULL;

    g_assert_null(blockdev_options_from_json(json, &err));
    g_assert_true(g_str_has_suffix(err->message, "expects fewer levels of nesting"));
    json_decref(json);
}

static void
test_deep_json_fits(void)
{
    in_a_coroutine(nest_json);
}

static void
test_deep_options_fit(void)
{
    in_a_coroutine(nest_options);
}

static void
test_deeper_options_are_refused(void)
{
    in_a_coroutine(nest_too_deep);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/deep/json", test_deep_json_fits);
    g_test_add_func("/qapi/deep/options", test_deep_options_fit);
    g_test_add_func("/qapi/deep/refused", test_deeper_options_are_refused);
    return g_test_run();
}
