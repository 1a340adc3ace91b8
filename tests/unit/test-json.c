/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cutting a stream into JSON documents, and printing them.
 */
#include <glib.h>
#include <string.h>

#include "qapi/json.h"

/* What came out of a stream, one line each: a document, or "!" and the error. */
static void
collect(JsonFramer *f, const char *text, size_t n, GString *out)
{
    for (;;) {
        json_t *json = NULL;
        GError *err = NULL;
        JsonFrame frame = json_framer_next(f, &text, &n, &json, &err);

        if (frame == JSON_FRAME_MORE) {
            return;
        }
        if (frame == JSON_FRAME_VALUE) {
            g_autofree char *printed = json_print(json, false);
            g_string_append(out, printed);
            json_decref(json);
        } else {
            g_string_append_c(out, '!');
            g_error_free(err);
        }
        g_string_append_c(out, '\n');
    }
}

/* The stream gives @expected, wherever it is cut in two. */
static void
assert_stream(const char *text, size_t n, const char *expected)
{
    for (size_t cut = 0; cut <= n; cut++) {
        g_autoptr(JsonFramer) f = json_framer_new();
        GString *out = g_string_new(NULL);

        collect(f, text, cut, out);
        collect(f, text + cut, n - cut, out);
        g_assert_cmpstr(out->str, ==, expected);
        g_string_free(out, TRUE);
    }
}

#define ASSERT_STREAM(text, expected) assert_stream(text, sizeof(text) - 1, expected)

static void
test_documents_need_no_separator(void)
{
    ASSERT_STREAM("{\"a\": 1}{\"b\":[2,{}]} [3]\r\n\t\"x\"'y'", "{\"a\": 1}\n{\"b\": [2, {}]}\n"
                                                               "[3]\n\"x\"\n\"y\"\n");
}

static void
test_words_end_with_what_follows(void)
{
    ASSERT_STREAM("1 true null[2]3\"x\"-4.5\n5", "1\ntrue\nnull\n[2]\n3\n\"x\"\n-4.5\n");
}

static void
test_single_quotes_are_strings(void)
{
    ASSERT_STREAM("{'a': 'it\\'s \"so\"', \"b\": \"it\\'s 'so'\"}",
                  "{\"a\": \"it's \\\"so\\\"\", \"b\": \"it's 'so'\"}\n");
    ASSERT_STREAM("'\\\\' '\\\"' '\\u00e9'", "\"\\\\\"\n\"\\\"\"\n\"\\u00E9\"\n");
}

static void
test_brackets_in_strings_do_not_count(void)
{
    ASSERT_STREAM("{\"}\": \"]{[\", '\"}': 1}[]", "{\"}\": \"]{[\", \"\\\"}\": 1}\n[]\n");
}

static void
test_a_bad_document_is_one_error(void)
{
    ASSERT_STREAM("{\"a\": foo, [1, 2,]} {}", "!\n{}\n");
    ASSERT_STREAM("{\"a\" 1}{}", "!\n{}\n");
    ASSERT_STREAM("{\"a\": 1, \"a\": 2}{}", "!\n{}\n");
    ASSERT_STREAM("[NaN][1e999][99999999999999999999]{}", "!\n!\n!\n{}\n");
    ASSERT_STREAM("]{}", "!\n{}\n");
    ASSERT_STREAM("[}{}", "!\n{}\n");
    ASSERT_STREAM("foo @bar\n{}", "!\n!\n{}\n");
    ASSERT_STREAM(",{}", "!\n{}\n");
    ASSERT_STREAM("[\"\\x\"]{}", "!\n{}\n");
    ASSERT_STREAM("[\"\xc3\x28\"]{}", "!\n{}\n");
    ASSERT_STREAM("[\"\\ud800\"]{}", "!\n{}\n");
}

static void
test_control_characters_begin_anew(void)
{
    ASSERT_STREAM("{\"a\": [\x01{}", "!\n{}\n");
    ASSERT_STREAM("{\"a\": \"[\xff{}", "!\n{}\n");
    ASSERT_STREAM("\xff{}", "!\n{}\n");
    ASSERT_STREAM("{\"a\": \"b\n{}", "!\n{}\n");
    ASSERT_STREAM("{\"a\": \"b\\\x1b{}", "!\n{}\n");
    ASSERT_STREAM("12\xff{}", "12\n!\n{}\n");
    ASSERT_STREAM("[\x00]{}", "!\n!\n{}\n");
}

static void
test_strings_may_hold_nul(void)
{
    ASSERT_STREAM("\"a\\u0000b\"", "\"a\\u0000b\"\n");
}

static void
test_output_is_ascii(void)
{
    ASSERT_STREAM("\"\xc3\xa9\xf0\x9f\x98\x80\\u0001\\b\\t\\/\\\\\"",
                  "\"\\u00E9\\uD83D\\uDE00\\u0001\\b\\t/\\\\\"\n");
}

static void
test_pretty_output_is_indented_by_four(void)
{
    json_t *json = json_parse("{'a': [1, {}], 'b': []}", NULL);
    g_autofree char *text = json_print(json, true);

    g_assert_cmpstr(text, ==,
                    "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\": []\n}");
    json_decref(json);
}

/* @depth opening brackets and as many closing ones. */
static char *
nested(size_t depth)
{
    char *text = g_malloc(2 * depth + 1);

    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[2 * depth] = '\0';
    return text;
}

static void
test_nesting_is_bounded(void)
{
    g_autofree char *most = nested(JSON_MAX_DEPTH);
    g_autofree char *more = nested(JSON_MAX_DEPTH + 1);
    g_autofree char *printed = NULL;
    g_autoptr(JsonFramer) f = json_framer_new();
    GString *out = g_string_new(NULL);
    json_t *json = json_parse(most, NULL);

    printed = json_print(json, false);
    g_assert_cmpstr(printed, ==, most);
    json_decref(json);
    collect(f, more, strlen(more), out);
    collect(f, "{}", 2, out);
    g_assert_cmpstr(out->str, ==, "!\n{}\n");
    g_string_free(out, TRUE);
}

static void
test_a_flood_of_brackets_takes_no_memory(void)
{
    g_autoptr(JsonFramer) f = json_framer_new();
    GString *out = g_string_new(NULL);
    g_autofree char *chunk = g_malloc(MiB);

    memset(chunk, '[', MiB);
    for (int i = 0; i < 64; i++) {
        collect(f, chunk, MiB, out);
    }
    collect(f, "\xff{}", 3, out);
    g_assert_cmpstr(out->str, ==, "!\n{}\n");
    g_string_free(out, TRUE);
}

static void
test_size_is_bounded(void)
{
    g_autoptr(JsonFramer) f = json_framer_new();
    GString *out = g_string_new(NULL);
    g_autofree char *chunk = g_malloc(MiB);

    memset(chunk, 'x', MiB);
    collect(f, "[\"", 2, out);
    for (int i = 0; i < 65; i++) {
        collect(f, chunk, MiB, out);
    }
    g_assert_cmpstr(out->str, ==, "!\n");
    collect(f, "\"]{}", 4, out);
    g_assert_cmpstr(out->str, ==, "!\n{}\n");
    g_string_free(out, TRUE);
}

static void
test_number_of_values_is_bounded(void)
{
    g_autoptr(JsonFramer) f = json_framer_new();
    GString *out = g_string_new(NULL);
    g_autofree char *chunk = g_malloc(2 * MiB);

    for (int i = 0; i < MiB; i++) {
        chunk[2 * i] = '1';
        chunk[2 * i + 1] = ',';
    }
    collect(f, "[", 1, out);
    for (int i = 0; i < 3; i++) {
        collect(f, chunk, 2 * MiB, out);
    }
    collect(f, "1]{}", 4, out);
    g_assert_cmpstr(out->str, ==, "!\n{}\n");
    g_string_free(out, TRUE);
}

static void
test_the_end_of_the_stream(void)
{
    const char *const cases[][2] = { { "", "" }, { " \n", "" }, { "12", "12" }, { "[1", "!" },
                                     { "\"x", "!" }, { "\xff", "" } };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(JsonFramer) f = json_framer_new();
        g_autoptr(GError) err = NULL;
        GString *before = g_string_new(NULL);
        json_t *json = NULL;
        JsonFrame frame;

        collect(f, cases[i][0], strlen(cases[i][0]), before);
        frame = json_framer_end(f, &json, &err);
        g_assert_cmpint(frame, ==,
                        !*cases[i][1]         ? JSON_FRAME_MORE
                        : *cases[i][1] == '!' ? JSON_FRAME_ERROR
                                              : JSON_FRAME_VALUE);
        g_assert_cmpint(err != NULL, ==, frame == JSON_FRAME_ERROR);
        json_decref(json);
        g_string_free(before, TRUE);
    }
}

static void
test_parse_takes_one_document(void)
{
    const char *const bad[] = { "", " ", "{", "{} {}", "1 2", "{}x", "\"", "foo" };
    json_t *json = json_parse(" {'a': 1} ", NULL);

    g_assert_nonnull(json);
    json_decref(json);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) err = NULL;
        g_assert_null(json_parse(bad[i], &err));
        g_assert_true(g_str_has_prefix(err->message, "JSON parse error, "));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/no-separator", test_documents_need_no_separator);
    g_test_add_func("/json/words", test_words_end_with_what_follows);
    g_test_add_func("/json/single-quotes", test_single_quotes_are_strings);
    g_test_add_func("/json/brackets-in-strings", test_brackets_in_strings_do_not_count);
    g_test_add_func("/json/bad-document", test_a_bad_document_is_one_error);
    g_test_add_func("/json/control-characters", test_control_characters_begin_anew);
    g_test_add_func("/json/nul", test_strings_may_hold_nul);
    g_test_add_func("/json/ascii", test_output_is_ascii);
    g_test_add_func("/json/pretty", test_pretty_output_is_indented_by_four);
    g_test_add_func("/json/nesting", test_nesting_is_bounded);
    g_test_add_func("/json/flood", test_a_flood_of_brackets_takes_no_memory);
    g_test_add_func("/json/size", test_size_is_bounded);
    g_test_add_func("/json/values", test_number_of_values_is_bounded);
    g_test_add_func("/json/end", test_the_end_of_the_stream);
    g_test_add_func("/json/one", test_parse_takes_one_document);
    return g_test_run();
}
