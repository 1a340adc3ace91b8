/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Properties of the walker and the framer: what goes in comes out, for every
 * type of the schema and of the one made for tests.
 */
#include "test.h"

#include <string.h>

#include "qapi/json.h"
#include "qapi/keyval.h"
#include "qapi/test-walk.h"
#include "qapi/walk.h"

/* --- random values of a type --- */

static json_t *any_value(Choices *c, const QapiType *type, int depth);

static json_t *
any_text(Choices *c)
{
    static const char *const pieces[] = { "", "a", "on", "12", "\"", "\\", "'", "{", "]",
                                          "\xc3\xa9", "\xf0\x9f\x98\x80", "\x7f", " ", "," };
    GString *text = g_string_new(NULL);
    json_t *json;

    while (choose_more(c, 2)) {
        g_string_append(text, pieces[choose_in(c, 0, G_N_ELEMENTS(pieces) - 1)]);
    }
    json = json_string(text->str);
    g_string_free(text, TRUE);
    return json;
}

static json_t *
any_int(Choices *c, const QapiType *type, const QapiLimits *limits)
{
    int bits = 8 * (int)type->size;

    if (type->kind == QAPI_INT) {
        int64_t min = limits ? limits->min : -(INT64_C(1) << (bits - 2)) * 2;
        int64_t max = limits ? (int64_t)limits->max : (int64_t)(UINT64_MAX >> (65 - bits));
        return json_integer(
            (int64_t)((uint64_t)min + choose_in(c, 0, (uint64_t)max - (uint64_t)min)));
    }
    /* JSON integers have a sign */
    return json_integer((int64_t)choose_in(
        c, limits ? (uint64_t)limits->min : 0,
        MIN(limits ? limits->max : UINT64_MAX >> (64 - bits), (uint64_t)INT64_MAX)));
}

static json_t *
any_array(Choices *c, const QapiType *type, int depth)
{
    json_t *array = json_array();

    while (depth < 5 && choose_more(c, 2)) {
        json_array_append_new(array, any_value(c, type, depth + 1));
    }
    return array;
}

static void
add_members(Choices *c, const QapiType *type, json_t *json, int depth)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        json_t *value;

        if (m->optional && (depth > 4 || !choose(c))) {
            continue;
        }
        if (m->is_array) {
            value = any_array(c, m->type, depth);
        } else if (m->limits) {
            value = any_int(c, m->type, m->limits);
        } else {
            value = any_value(c, m->type, depth);
        }
        json_object_set_new(json, m->name, value);
    }
}

/* Every type must end somewhere: deep down, take the branch without members. */
static json_t *
any_struct(Choices *c, const QapiType *type, int depth)
{
    json_t *json = json_object();

    for (;;) {
        const QapiType *variant;

        add_members(c, type, json, depth);
        if (!type->is_union) {
            return json;
        }
        const QapiMember *tag = &type->members[type->tag];
        uint32_t value = (uint32_t)choose_in(c, 0, tag->type->n_values - 1);
        if (depth > 6) {
            for (value = 0; value + 1 < tag->type->n_values && type->variants[value]; value++) {
            }
        }
        json_object_set_new(json, tag->name, json_string(tag->type->values[value]));
        variant = type->variants[value];
        if (!variant) {
            return json;
        }
        type = variant;
    }
}

static json_t *
any_value(Choices *c, const QapiType *type, int depth)
{
    switch (type->kind) {
    case QAPI_BOOL:
        return json_boolean(choose(c));
    case QAPI_INT:
    case QAPI_UINT:
    case QAPI_SIZE:
        return any_int(c, type, NULL);
    case QAPI_NUMBER:
        return json_real((double)choose_in(c, 0, 1000) / 8);
    case QAPI_STR:
    case QAPI_ANY:
        return any_text(c);
    case QAPI_NULL:
        return json_null();
    case QAPI_ENUM:
        return json_string(type->values[choose_in(c, 0, type->n_values - 1)]);
    case QAPI_STRUCT:
        return any_struct(c, type, depth + 1);
    case QAPI_ALTERNATE: {
        uint32_t last = type->n_branches - 1;
        return any_value(c, type->branches[depth > 4 ? last : choose_in(c, 0, last)].type, depth);
    }
    }
    g_assert_not_reached();
}

static const QapiType *
any_type(Choices *c)
{
    size_t n = 0, n_test = 0, i;

    while (qapi_all_types[n]) {
        n++;
    }
    while (qapi_test_all_types[n_test]) {
        n_test++;
    }
    i = choose_in(c, 0, n + n_test - 1);
    return i < n ? qapi_all_types[i] : qapi_test_all_types[i - n];
}

/* --- properties --- */

/* From JSON to an object, to a copy, and back: the same JSON. */
static void
prop_objects_say_what_json_said(Choices *c)
{
    const QapiType *type = any_type(c);
    json_t *json = any_value(c, type, 0);
    g_autoptr(GError) err = NULL;
    void *obj = qapi_from_json(type, json, QAPI_STRICT, &err);
    void *copy, *lenient;
    json_t *back, *from_lenient;

    g_assert_no_error(err);
    copy = qapi_copy(type, obj);
    qapi_free(type, obj);
    back = qapi_to_json(type, copy);
    qapi_free(type, copy);
    g_assert_true(json_equal(json, back));

    lenient = qapi_from_json(type, json, QAPI_LENIENT, &err);
    g_assert_no_error(err);
    from_lenient = qapi_to_json(type, lenient);
    qapi_free(type, lenient);
    g_assert_true(json_equal(json, from_lenient));
    json_decref(from_lenient);
    json_decref(back);
    json_decref(json);
}

PROPERTY("/qapi/round-trip", prop_objects_say_what_json_said)

/* One thing wrong somewhere: refused, and nothing leaks. */
static void
prop_a_member_too_many_is_refused(Choices *c)
{
    const QapiType *type = any_type(c);
    json_t *json = any_value(c, type, 0), *at = json;
    g_autoptr(GError) err = NULL;

    if (!json_is_object(json)) {
        json_decref(json);
        return;
    }
    for (;;) {
        const char *key;
        json_t *value, *next = NULL;

        json_object_foreach (at, key, value) {
            if (json_is_object(value) && choose(c)) {
                next = value;
            }
        }
        if (!next) {
            break;
        }
        at = next;
    }
    json_object_set_new(at, "no such member", json_true());
    g_assert_null(qapi_from_json(type, json, QAPI_STRICT, &err));
    g_assert_true(g_str_has_suffix(err->message, "no such member' is unexpected"));
    json_decref(json);
}

PROPERTY("/qapi/unexpected", prop_a_member_too_many_is_refused)

/* --- streams --- */

static json_t *
any_json(Choices *c, int depth)
{
    json_t *json;

    switch (choose_in(c, 0, depth > 5 ? 4 : 6)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(choose(c));
    case 2:
        return json_integer((int64_t)choose_in(c, 0, UINT64_MAX));
    case 3:
        return json_real((double)choose_in(c, 0, 1000) / 8);
    case 4:
        return any_text(c);
    case 5:
        json = json_array();
        while (choose_more(c, 2)) {
            json_array_append_new(json, any_json(c, depth + 1));
        }
        return json;
    default:
        json = json_object();
        while (choose_more(c, 2)) {
            json_t *key = any_text(c);
            json_object_set_new(json, json_string_value(key), any_json(c, depth + 1));
            json_decref(key);
        }
        return json;
    }
}

static void
take_all(JsonFramer *f, const char *buf, size_t n, json_t *into)
{
    json_t *json;

    while (json_framer_next(f, &buf, &n, &json, NULL) == JSON_FRAME_VALUE) {
        json_array_append_new(into, json);
    }
    g_assert_cmpuint(n, ==, 0);
}

/* Documents with anything blank between them, cut anywhere, come out whole and in order. */
static void
prop_a_stream_may_be_cut_anywhere(Choices *c)
{
    json_t *sent = json_array(), *got = json_array();
    GString *stream = g_string_new(NULL);
    g_autoptr(JsonFramer) f = json_framer_new();

    while (choose_more(c, 4)) {
        json_t *json = any_json(c, 0);
        g_autofree char *text = json_print(json, choose(c));

        json_array_append_new(sent, json);
        g_string_append(stream, text);
        g_string_append(stream, choose(c) ? "\r\n" : " ");
    }
    for (size_t at = 0; at < stream->len;) {
        size_t n = choose_in(c, 1, stream->len - at);

        take_all(f, stream->str + at, n, got);
        at += n;
    }
    g_assert_true(json_equal(sent, got));
    g_string_free(stream, TRUE);
    json_decref(sent);
    json_decref(got);
}

PROPERTY("/json/cut-anywhere", prop_a_stream_may_be_cut_anywhere)

/* Whatever comes, the framer ends, and a reset brings it back. */
static void
prop_garbage_is_recovered_from(Choices *c)
{
    static const char alphabet[] = "{}[]\"'\\,:ux1 \n\x01\xff\x80";
    g_autoptr(JsonFramer) f = json_framer_new();
    json_t *got = json_array();

    while (choose_more(c, 40)) {
        char byte = alphabet[choose_in(c, 0, sizeof(alphabet) - 2)];
        const char *buf = &byte;
        size_t n = 1;

        while (n) {
            json_t *json = NULL;
            g_autoptr(GError) err = NULL;
            JsonFrame frame = json_framer_next(f, &buf, &n, &json, &err);
            g_assert_cmpint(frame == JSON_FRAME_ERROR, ==, err != NULL);
            g_assert_cmpint(frame == JSON_FRAME_VALUE, ==, json != NULL);
            json_decref(json);
        }
    }
    for (int i = 0; i < 2; i++) { /* a word in front of it is a document of its own */
        const char *reset = "\xff";
        size_t n = 1;
        while (n) {
            json_t *json = NULL;
            json_framer_next(f, &reset, &n, &json, NULL);
            json_decref(json);
        }
    }
    take_all(f, "{\"a\": 1}", 8, got);
    g_assert_cmpuint(json_array_size(got), ==, 1);
    json_decref(got);
}

PROPERTY("/json/garbage", prop_garbage_is_recovered_from)

/* --- text --- */

/* @json as options: every scalar one item with a dotted key. False if text cannot say it. */
static bool
as_keyval(const json_t *json, const char *prefix, GString *out)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_object(json) ? !json_object_size(json)
                             : json_is_array(json) && !json_array_size(json)) {
        return false;
    }
    if (json_is_object(json)) {
        json_object_foreach ((json_t *)json, key, value) {
            g_autofree char *inner = g_strdup_printf("%s%s%s", prefix, *prefix ? "." : "", key);
            if (!as_keyval(value, inner, out)) {
                return false;
            }
        }
    } else if (json_is_array(json)) {
        json_array_foreach (json, i, value) {
            g_autofree char *inner = g_strdup_printf("%s.%zu", prefix, i);
            if (!as_keyval(value, inner, out)) {
                return false;
            }
        }
    } else if (json_is_null(json) || !*prefix) {
        return false;
    } else {
        g_autofree char *text = json_is_string(json)    ? g_strdup(json_string_value(json))
                                : json_is_boolean(json) ? g_strdup(json_is_true(json) ? "on" : "no")
                                                        : json_print(json, false);
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);
        g_autofree char *escaped = g_strjoinv(",,", parts);
        g_string_append_printf(out, "%s=%s,", prefix, escaped);
    }
    return true;
}

/* Options as text mean what the same options mean as JSON. */
static void
prop_text_says_what_json_says(Choices *c)
{
    const QapiType *type = any_type(c);
    json_t *json = any_value(c, type, 0);
    GString *text = g_string_new(NULL);

    if (json_is_object(json) && as_keyval(json, "", text)) {
        g_autoptr(GError) err = NULL;
        json_t *parsed = keyval_parse(text->str, NULL, NULL, &err), *back;
        void *obj;

        g_assert_no_error(err);
        obj = qapi_from_json(type, parsed, QAPI_TEXT, &err);
        g_assert_no_error(err);
        back = qapi_to_json(type, obj);
        qapi_free(type, obj);
        g_assert_true(json_equal(json, back));
        json_decref(back);
        json_decref(parsed);
    }
    g_string_free(text, TRUE);
    json_decref(json);
}

PROPERTY("/qapi/text", prop_text_says_what_json_says)
