/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walker on the real schema: what is refused, in which words, and what the
 * three ways of writing scalars accept.
 */
#include <glib.h>

#include "qapi/walk.h"

static json_t *
parse(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

    g_assert_nonnull(json);
    return json;
}

static void
assert_refused(const char *text, const char *words)
{
    json_t *json = parse(text);
    g_autoptr(GError) err = NULL;
    BlockdevOptions *opts = blockdev_options_from_json(json, &err);

    g_assert_null(opts);
    g_assert_cmpstr(err->message, ==, words);
    json_decref(json);
}

static void
test_errors_name_the_place(void)
{
    assert_refused("{}", "Parameter 'driver' is missing");
    assert_refused("[]", "Invalid parameter type for '<anonymous>', expected: object");
    assert_refused("{\"driver\": 1}", "Invalid parameter type for 'driver', expected: string");
    assert_refused("{\"driver\": \"foo\"}", "Parameter 'driver' does not accept value 'foo'");
    assert_refused("{\"driver\": \"raw\"}", "Parameter 'file' is missing");
    assert_refused("{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filenam\": \"x\"}}",
                   "Parameter 'file.filename' is missing");
    assert_refused("{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"x\","
                   " \"filenam\": \"x\"}}",
                   "Parameter 'file.filenam' is unexpected");
    assert_refused("{\"driver\": \"raw\", \"file\": 7}",
                   "Invalid parameter type for 'file', expected: BlockdevRef");
    assert_refused("{\"driver\": \"null-co\", \"cache\": {\"direct\": \"on\"}}",
                   "Invalid parameter type for 'cache.direct', expected: boolean");
    assert_refused("{\"driver\": \"null-co\", \"filename\": \"x\"}",
                   "Parameter 'filename' is unexpected");
}

static void
test_options_become_a_struct(void)
{
    json_t *json = parse("{\"driver\": \"raw\", \"offset\": 512, \"read-only\": true,"
                         " \"file\": {\"driver\": \"file\", \"filename\": \"x\"}}");
    g_autoptr(BlockdevOptions) opts = blockdev_options_from_json(json, NULL);

    g_assert_nonnull(opts);
    g_assert_cmpint(opts->driver, ==, BLOCKDEV_DRIVER_RAW);
    g_assert_true(opts->has_read_only && opts->read_only);
    g_assert_false(opts->has_discard);
    g_assert_true(opts->u.raw.has_offset && !opts->u.raw.has_size);
    g_assert_cmpint(opts->u.raw.offset, ==, 512);
    g_assert_cmpint(opts->u.raw.file->kind, ==, BLOCKDEV_REF_DEFINITION);
    g_assert_cmpstr(opts->u.raw.file->u.definition->u.file.filename, ==, "x");
    json_decref(json);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/walk/errors-name-the-place", test_errors_name_the_place);
    g_test_add_func("/qapi/walk/options-become-a-struct", test_options_become_a_struct);
    return g_test_run();
}
