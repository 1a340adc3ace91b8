/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options as text: what each syntax makes of a text, or in which words it
 * refuses it.
 */
#include <glib.h>
#include <string.h>

#include "qapi/json.h"
#include "qapi/keyval.h"

typedef struct Case {
    const char *text;
    const char *expected; /* JSON with single quotes, or "!" and the error */
} Case;

static void
assert_result(const char *text, json_t *json, const GError *err, const char *expected)
{
    g_autofree char *got = json ? json_print(json, false) : g_strconcat("!", err->message, NULL);
    json_t *want = *expected == '!' ? NULL : json_parse(expected, NULL);

    g_test_message("%s", text);
    g_assert_cmpint(json != NULL, ==, err == NULL);
    if (want) {
        g_assert_true(json_equal(json, want));
    } else {
        g_assert_cmpstr(got, ==, expected);
    }
    json_decref(want);
    json_decref(json);
}

static void
test_keyval(void)
{
    static const Case cases[] = {
        { "", "{}" },
        { "a=b", "{'a': 'b'}" },
        { "a=b,", "{'a': 'b'}" },
        { "a=", "{'a': ''}" },
        { "a=b,c=d", "{'a': 'b', 'c': 'd'}" },
        { "a=b,,c,d=e", "{'a': 'b,c', 'd': 'e'}" },
        { "a=b,,", "{'a': 'b,'}" },
        { "a=b=c", "{'a': 'b=c'}" },
        { "a=1,a=2", "{'a': '2'}" },
        { "a.b=1,a.c.d=2", "{'a': {'b': '1', 'c': {'d': '2'}}}" },
        { "a.b=1,a.b=2", "{'a': {'b': '2'}}" },
        { "a.0=x,a.1=y", "{'a': ['x', 'y']}" },
        { "a.1=y,a.0=x", "{'a': ['x', 'y']}" },
        { "a.0.b=x,a.1.b=y", "{'a': [{'b': 'x'}, {'b': 'y'}]}" },
        { "a.0.0=x", "{'a': [['x']]}" },
        { "node-name=n_1,__vendor_x=1", "{'node-name': 'n_1', '__vendor_x': '1'}" },
        { "__=1", "!Invalid parameter '__'" },
        { "_a=1", "!Invalid parameter '_a'" },
        { "a.0=x,a.2=y", "!Parameter 'a.1' missing" },
        { "a.4000000000=x", "!Parameter 'a.0' missing" },
        { "a.00=x", "!Parameter 'a.0' missing" },
        { "a.0=x,a.b=y", "!Parameters 'a.*' used inconsistently" },
        { "a=1,a.b=2", "!Parameters 'a.*' used inconsistently" },
        { "a.b=2,a=1", "!Parameters 'a.*' used inconsistently" },
        { "=b", "!Invalid parameter ''" },
        { ",a=b", "!Invalid parameter ''" },
        { "a=b,,,c=d", "{'a': 'b,', 'c': 'd'}" },
        { "0=b", "!Invalid parameter '0'" },
        { "a..b=c", "!Invalid parameter 'a..b'" },
        { ".a=c", "!Invalid parameter '.a'" },
        { "a.=c", "!Invalid parameter 'a.'" },
        { "a b=c", "!Invalid parameter 'a b'" },
        { "1a=c", "!Invalid parameter '1a'" },
        { "a.1b=c", "!Invalid parameter 'a.1b'" },
        { "a", "!Expected '=' after parameter 'a'" },
        { "a=b,c", "!Expected '=' after parameter 'c'" },
        { "help", "!Expected '=' after parameter 'help'" },
        { "a=\xff", "!Parameters are not valid UTF-8" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        json_t *json = keyval_parse(cases[i].text, NULL, NULL, &err);
        assert_result(cases[i].text, json, err, cases[i].expected);
    }
}

static void
test_keyval_implied_key(void)
{
    static const Case cases[] = {
        { "raw", "{'driver': 'raw'}" },
        { "raw,a=b", "{'driver': 'raw', 'a': 'b'}" },
        { "driver=raw,a=b", "{'driver': 'raw', 'a': 'b'}" },
        { "r,,w,a=b", "{'driver': 'r,w', 'a': 'b'}" },
        { "raw,driver=file", "{'driver': 'file'}" },
        { "a=b,raw", "!Expected '=' after parameter 'raw'" },
        { "raw,file", "!Expected '=' after parameter 'file'" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        json_t *json = keyval_parse(cases[i].text, "driver", NULL, &err);
        assert_result(cases[i].text, json, err, cases[i].expected);
    }
}

static void
test_keyval_help(void)
{
    static const struct {
        const char *text;
        bool help;
        const char *expected;
    } cases[] = {
        { "help", true, "{}" },
        { "?", true, "{}" },
        { "raw,help", true, "{'driver': 'raw'}" },
        { "help,a=b", true, "{'a': 'b'}" },
        { "driver=help", false, "{'driver': 'help'}" },
        { "helper", false, "{'driver': 'helper'}" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool help = !cases[i].help;
        g_autoptr(GError) err = NULL;
        json_t *json = keyval_parse(cases[i].text, "driver", &help, &err);

        g_assert_cmpint(help, ==, cases[i].help);
        assert_result(cases[i].text, json, err, cases[i].expected);
    }
}

static void
test_keyval_bounds(void)
{
    g_autofree char *longest = g_strnfill(127, 'k');
    g_autofree char *too_long = g_strnfill(128, 'k');
    g_autofree char *ok = g_strdup_printf("%s.%s=1", longest, longest);
    g_autofree char *bad = g_strdup_printf("%s=1", too_long);
    GString *deep = g_string_new("a");
    json_t *json = keyval_parse(ok, NULL, NULL, NULL);

    g_assert_nonnull(json);
    json_decref(json);
    g_assert_null(keyval_parse(bad, NULL, NULL, NULL));
    for (int i = 0; i < 100000; i++) {
        g_string_append(deep, ".a");
    }
    g_string_append(deep, "=1");
    g_assert_null(keyval_parse(deep->str, NULL, NULL, NULL));
    g_string_free(deep, TRUE);
}

static void
test_json_instead_of_keyval(void)
{
    QapiMode mode = QAPI_TEXT;
    json_t *json = keyval_or_json_parse("{'a': 1}", NULL, &mode, NULL, NULL);
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(mode, ==, QAPI_STRICT);
    g_assert_cmpint(json_integer_value(json_object_get(json, "a")), ==, 1);
    json_decref(json);
    json = keyval_or_json_parse("a=1", NULL, &mode, NULL, NULL);
    g_assert_cmpint(mode, ==, QAPI_TEXT);
    json_decref(json);
    g_assert_null(keyval_or_json_parse("{'a': 1", NULL, &mode, NULL, &err));
    g_assert_nonnull(err);
}

static void
test_qemu_opts(void)
{
    static const Case cases[] = {
        { "", "{}" },
        { "a=b,c.d.0=e", "{'a': 'b', 'c.d.0': 'e'}" },
        { "a=b,,c", "{'a': 'b,c'}" },
        { "a=1,a=2", "{'a': '2'}" },
        { "server,nowait", "{'server': 'on', 'wait': 'off'}" },
        { "server=on,wait=off", "{'server': 'on', 'wait': 'off'}" },
        { "no", "{'no': 'on'}" },
        { "nodelay", "{'nodelay': 'on'}" },
        { "file=x,driver=raw", "{'file': 'x', 'driver': 'raw'}" },
        { "=x", "!Invalid parameter ''" },
        { "a=\xff", "!Parameters are not valid UTF-8" },
    };
    g_autoptr(GError) err = NULL;
    json_t *json = qemu_opts_parse("socket,path=/x,server", "backend", NULL, &err);

    assert_result("implied", json, err, "{'backend': 'socket', 'path': '/x', 'server': 'on'}");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json = qemu_opts_parse(cases[i].text, NULL, NULL, &err);
        assert_result(cases[i].text, json, err, cases[i].expected);
        g_clear_error(&err);
    }
}

static void
test_crumple(void)
{
    static const Case cases[] = {
        { "{}", "{}" },
        { "{'a.b': 1, 'a': {'c.0': 2}}", "{'a': {'b': 1, 'c': [2]}}" },
        { "{'a': {'c.0': 2}, 'a.b': 1}", "{'a': {'b': 1, 'c': [2]}}" },
        { "{'a': [{'b.c': 1}, 2]}", "{'a': [{'b': {'c': 1}}, 2]}" },
        { "{'a': [{'b.0': 1, 'b.1': 2}]}", "{'a': [{'b': [1, 2]}]}" },
        { "{'children.0': 'x', 'children.1.driver': 'raw'}",
          "{'children': ['x', {'driver': 'raw'}]}" },
        { "{'a': null, 'b': true}", "{'a': null, 'b': true}" },
        { "{'a': 1, 'a.b': 2}", "!Parameters 'a.*' used inconsistently" },
        { "{'a.1': 1}", "!Parameter 'a.0' missing" },
        { "{'a..b': 1}", "!Invalid parameter 'a..b'" },
        { "{'': 1}", "!Invalid parameter ''" },
        { "{'a': [1], 'a.0': 1}", "!Parameters 'a.*' used inconsistently" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;
        json_t *flat = json_parse(cases[i].text, NULL);
        json_t *json = json_crumple(flat, &err);

        assert_result(cases[i].text, json, err, cases[i].expected);
        json_decref(flat);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyval/table", test_keyval);
    g_test_add_func("/keyval/implied-key", test_keyval_implied_key);
    g_test_add_func("/keyval/help", test_keyval_help);
    g_test_add_func("/keyval/bounds", test_keyval_bounds);
    g_test_add_func("/keyval/json", test_json_instead_of_keyval);
    g_test_add_func("/keyval/qemu-opts", test_qemu_opts);
    g_test_add_func("/keyval/crumple", test_crumple);
    return g_test_run();
}
