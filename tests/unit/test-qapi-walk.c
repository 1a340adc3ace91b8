/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walker on the real schema: what is refused, in which words, and what the
 * three ways of writing scalars accept.
 */
#include <glib.h>

#include "qapi/keyval.h"
#include "qapi/scalar.h"
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

static BlockdevOptions *
from_text(const char *text, GError **errp)
{
    json_t *json = keyval_parse(text, "driver", NULL, NULL);
    BlockdevOptions *opts = blockdev_options_from_text(json, errp);

    json_decref(json);
    return opts;
}

static void
test_text_becomes_the_type_of_the_schema(void)
{
    g_autoptr(BlockdevOptions) opts =
        from_text("raw,read-only=on,auto-read-only=n,offset=0x200,file.driver=null-co,"
                  "file.size=1024,file.cache.direct=true",
                  NULL);
    const BlockdevOptions *file;

    g_assert_nonnull(opts);
    g_assert_true(opts->read_only && opts->has_auto_read_only && !opts->auto_read_only);
    g_assert_cmpint(opts->u.raw.offset, ==, 512);
    file = opts->u.raw.file->u.definition;
    g_assert_cmpint(file->u.null_co.size, ==, 1024);
    g_assert_true(file->cache->has_direct && file->cache->direct);
}

static void
test_text_is_refused_as_strictly(void)
{
    static const char *const cases[][2] = {
        { "null-co,size=1M", "Parameter 'size' expects integer" },
        { "null-co,size=", "Parameter 'size' expects integer" },
        { "null-co,size=-1", "Parameter 'size' expects a value between 0 and 9223372036854775807" },
        { "null-co,latency-ns=-1", "Parameter 'latency-ns' expects integer" },
        { "null-co,read-only=ON", "Parameter 'read-only' expects 'on' or 'off'" },
        { "null-co,discard=maybe", "Parameter 'discard' does not accept value 'maybe'" },
        { "null-co,sise=1", "Parameter 'sise' is unexpected" },
        { "raw,file.driver=null-co,file.x.y=1", "Parameter 'file.x' is unexpected" },
        { "null-co,cache=on", "Invalid parameter type for 'cache', expected: object" },
        { "raw,file.0=x", "Invalid parameter type for 'file', expected: BlockdevRef" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        g_assert_null(from_text(cases[i][0], &err));
        g_assert_cmpstr(err->message, ==, cases[i][1]);
    }
}

static void
test_text_mode_takes_no_typed_values(void)
{
    json_t *json = parse("{\"driver\": \"null-co\", \"size\": 1}");
    g_autoptr(GError) err = NULL;

    g_assert_null(blockdev_options_from_text(json, &err));
    g_assert_cmpstr(err->message, ==, "Invalid parameter type for 'size', expected: integer");
    json_decref(json);
}

static void
test_lenient_takes_both(void)
{
    json_t *flat = parse("{\"driver\": \"raw\", \"read-only\": true, \"size\": \"1M\","
                         " \"offset\": 512, \"auto-read-only\": \"off\","
                         " \"file.driver\": \"file\", \"file.filename\": 7}");
    json_t *json = json_crumple(flat, NULL);
    g_autoptr(BlockdevOptions) opts = blockdev_options_from_lenient(json, NULL);

    g_assert_nonnull(opts);
    g_assert_true(opts->read_only && !opts->auto_read_only);
    g_assert_cmpint(opts->u.raw.size, ==, MiB);
    g_assert_cmpint(opts->u.raw.offset, ==, 512);
    g_assert_cmpstr(opts->u.raw.file->u.definition->u.file.filename, ==, "7");
    json_decref(json);
    json_decref(flat);
}

static void
test_lenient_is_strict_about_names_and_numbers(void)
{
    static const char *const cases[][2] = {
        { "{\"driver\": \"null-co\", \"x\": \"1\"}", "Parameter 'x' is unexpected" },
        { "{\"driver\": \"null-co\", \"size\": \"1x\"}", "Parameter 'size' expects integer" },
        { "{\"driver\": \"null-co\", \"size\": \"9E\"}", "Parameter 'size' expects integer" },
        { "{\"driver\": \"null-co\", \"read-only\": 1}",
          "Invalid parameter type for 'read-only', expected: boolean" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *json = parse(cases[i][0]);
        g_autoptr(GError) err = NULL;
        g_assert_null(blockdev_options_from_lenient(json, &err));
        g_assert_cmpstr(err->message, ==, cases[i][1]);
        json_decref(json);
    }
}

static void
test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 },
        { "512", 512 },
        { "1b", 1 },
        { "1k", 1024 },
        { "1K", 1024 },
        { "3M", 3 << 20 },
        { "1.5G", UINT64_C(3) << 29 },
        { "0.5k", 512 },
        { "1.0001k", 1024 },
        { "2T", UINT64_C(2) << 40 },
        { "1P", UINT64_C(1) << 50 },
        { "15E", UINT64_C(15) << 60 },
        { "0x10", 16 },
        { "18446744073709551615", UINT64_MAX },
    };
    static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "k", "1kk", "1kB", "1.5", "1.5b",
                                       "1.k", ".5k", "16E", "18446744073709551616", "0x", "0x1k",
                                       "1e3", "nan" };
    uint64_t bytes = 7;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(scalar_size(good[i].text, &bytes));
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        bytes = 7;
        g_assert_false(scalar_size(bad[i], &bytes));
        g_assert_cmpuint(bytes, ==, 7);
    }
    g_assert_true(scalar_size_unit("2", 'M', &bytes) && bytes == 2 << 20);
    g_assert_true(scalar_size_unit("1.5", 'k', &bytes) && bytes == 1536);
}

static void
test_integers(void)
{
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;

    g_assert_true(scalar_int("-9223372036854775808", &i) && i == INT64_MIN);
    g_assert_true(scalar_int("9223372036854775807", &i) && i == INT64_MAX);
    g_assert_true(scalar_int("010", &i) && i == 10);
    g_assert_true(scalar_int("-0x10", &i) && i == -16);
    g_assert_false(scalar_int("9223372036854775808", &i));
    g_assert_false(scalar_int("-9223372036854775809", &i));
    g_assert_false(scalar_int("--1", &i) || scalar_int("-", &i) || scalar_int("1k", &i));
    g_assert_true(scalar_uint("0xffffffffffffffff", &u) && u == UINT64_MAX);
    g_assert_false(scalar_uint("-1", &u) || scalar_uint("0xg", &u) || scalar_uint("", &u));
    g_assert_true(scalar_number("-1.25e2", &d) && d == -125);
    g_assert_false(scalar_number("inf", &d) || scalar_number("1e999", &d));
    g_assert_false(scalar_number("", &d) || scalar_number("1x", &d) || scalar_number(" 1", &d));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/walk/errors-name-the-place", test_errors_name_the_place);
    g_test_add_func("/qapi/walk/options-become-a-struct", test_options_become_a_struct);
    g_test_add_func("/qapi/text/types", test_text_becomes_the_type_of_the_schema);
    g_test_add_func("/qapi/text/refused", test_text_is_refused_as_strictly);
    g_test_add_func("/qapi/text/typed", test_text_mode_takes_no_typed_values);
    g_test_add_func("/qapi/lenient/both", test_lenient_takes_both);
    g_test_add_func("/qapi/lenient/refused", test_lenient_is_strict_about_names_and_numbers);
    g_test_add_func("/qapi/scalar/sizes", test_sizes);
    g_test_add_func("/qapi/scalar/integers", test_integers);
    return g_test_run();
}
