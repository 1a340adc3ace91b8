/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the schema compiler makes of test-schema.json: the shape of types, the
 * table of commands, events.
 */
#include <glib.h>
#include <string.h>

#include "qapi/json.h"
#include "qapi/test-commands.h"
#include "qapi/test-events.h"
#include "qapi/test-introspect.h"
#include "qapi/test-walk.h"
#include "util/error.h"

/* --- types --- */

static void
test_enums_have_names(void)
{
    TestEnum value = TEST_ENUM_ONE;

    g_assert_cmpint(TEST_ENUM__MAX, ==, 4);
    g_assert_cmpstr(test_enum_str(TEST_ENUM_TWO_WORDS), ==, "two-words");
    g_assert_true(test_enum_parse("2nd", &value));
    g_assert_cmpint(value, ==, TEST_ENUM_2ND);
    g_assert_false(test_enum_parse("left-out", &value));
    g_assert_cmpint(value, ==, TEST_ENUM_2ND);
    g_assert_cmpint(COLOUR_GREEN, ==, 1);
}

static void
test_optional_members_are_marked(void)
{
    json_t *json = json_parse("{'str': 'x', 'i8': -3, 'enum': 'int'}", NULL);
    g_autoptr(TestOptional) o = test_optional_from_json(json, NULL);

    g_assert_cmpstr(o->str, ==, "x");
    g_assert_true(o->has_i8 && o->i8 == -3);
    g_assert_true(o->has_enum && o->q_enum == TEST_ENUM_INT);
    g_assert_false(o->has_bool || o->has_number || o->has_u32 || o->has_size);
    g_assert_null(o->any);
    g_assert_null(o->empty);
    json_decref(json);
}

static void
test_empty_arrays_differ_from_absent_ones(void)
{
    json_t *json = json_parse("{'strs': ['a', 'b'], 'numbers': [], 'bools': []}", NULL);
    g_autoptr(TestArrays) a = test_arrays_from_json(json, NULL);
    json_t *back = test_arrays_to_json(a);

    g_assert_cmpuint(a->n_strs, ==, 2);
    g_assert_cmpstr(a->strs[1], ==, "b");
    g_assert_null(a->strs[2]);
    g_assert_cmpuint(a->n_numbers, ==, 0);
    g_assert_true(a->has_bools && a->n_bools == 0);
    g_assert_false(a->has_enums || a->enums || a->n_enums);
    g_assert_true(json_equal(json, back));
    json_decref(back);
    json_decref(json);
}

static void
test_alternates_have_a_kind(void)
{
    static const struct {
        const char *text;
        TestChoiceKind kind;
    } cases[] = {
        { "{'kind': 'int'}", TEST_CHOICE_OBJECT }, { "true", TEST_CHOICE_FLAG },
        { "7", TEST_CHOICE_COUNT },                { "'green'", TEST_CHOICE_NAME },
        { "null", TEST_CHOICE_NOTHING },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *json = json_parse(cases[i].text, NULL);
        g_autoptr(TestChoice) choice = test_choice_from_json(json, NULL);
        g_assert_cmpint(choice->kind, ==, cases[i].kind);
        json_decref(json);
    }
}

static void
test_branches_are_by_value(void)
{
    json_t *json = json_parse("{'kind': '2nd', 'common': 'c', 'which': 'one', 'leaf': 9}", NULL);
    g_autoptr(TestUnion) u = test_union_from_json(json, NULL);
    g_autoptr(TestUnion) copy = test_union_copy(u);

    g_assert_cmpint(copy->kind, ==, TEST_ENUM_2ND);
    g_assert_cmpstr(copy->common, ==, "c");
    g_assert_true(copy->common != u->common);
    g_assert_cmpint(copy->u.q_2nd.which, ==, TEST_ENUM_ONE);
    g_assert_cmpint(copy->u.q_2nd.u.one.leaf, ==, 9);
    json_decref(json);
}

static void
test_text_in_an_alternate_goes_to_who_can_read_it(void)
{
    static const struct {
        const char *text;
        TestChoiceKind kind;
    } cases[] = {
        { "'on'", TEST_CHOICE_FLAG }, { "'-12'", TEST_CHOICE_COUNT },
        { "'0x1f'", TEST_CHOICE_COUNT }, { "'red'", TEST_CHOICE_NAME },
    };
    json_t *json = json_parse("'blue'", NULL);
    g_autoptr(GError) err = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *text = json_parse(cases[i].text, NULL);
        g_autoptr(TestChoice) choice = test_choice_from_text(text, NULL);
        g_assert_cmpint(choice->kind, ==, cases[i].kind);
        json_decref(text);
    }
    g_assert_null(test_choice_from_text(json, &err));
    g_assert_nonnull(err);
    json_decref(json);
}

/* --- what is refused, on the way in --- */

static void
assert_scalar_refused(const char *member, const char *value, const char *words)
{
    g_autoptr(GError) err = NULL;
    json_t *json = json_parse("{'str': '', 'number': 0, 'bool': true, 'int': 0, 'any': 0,"
                              " 'i8': 0, 'i16': 0, 'i32': 0, 'i64': 0, 'u8': 0, 'u16': 0,"
                              " 'u32': 0, 'u64': 0, 'size': 0, 'enum': 'one', 'low': -1,"
                              " 'high': 10, 'wanted': false}",
                              NULL);
    g_autoptr(TestScalars) ok = test_scalars_from_json(json, NULL);

    g_assert_nonnull(ok);
    json_object_set_new(json, member, json_parse(value, NULL));
    g_assert_null(test_scalars_from_json(json, &err));
    g_assert_cmpstr(err->message, ==, words);
    json_decref(json);
}

static void
test_values_out_of_range_are_refused(void)
{
    assert_scalar_refused("i8", "128", "Parameter 'i8' expects int8_t");
    assert_scalar_refused("i8", "-129", "Parameter 'i8' expects int8_t");
    assert_scalar_refused("i16", "32768", "Parameter 'i16' expects int16_t");
    assert_scalar_refused("i32", "-2147483649", "Parameter 'i32' expects int32_t");
    assert_scalar_refused("u8", "256", "Parameter 'u8' expects uint8_t");
    assert_scalar_refused("u8", "-1", "Parameter 'u8' expects uint8_t");
    assert_scalar_refused("u16", "65536", "Parameter 'u16' expects uint16_t");
    assert_scalar_refused("u32", "4294967296", "Parameter 'u32' expects uint32_t");
    assert_scalar_refused("u64", "-1", "Parameter 'u64' expects uint64");
    assert_scalar_refused("size", "-1", "Parameter 'size' expects size");
    assert_scalar_refused("low", "0", "Parameter 'low' expects a value between -5 and -1");
    assert_scalar_refused("low", "-6", "Parameter 'low' expects a value between -5 and -1");
    assert_scalar_refused("high", "9",
                          "Parameter 'high' expects a value between 10 and 9000000000");
    assert_scalar_refused("high", "9000000001",
                          "Parameter 'high' expects a value between 10 and 9000000000");
}

static void
test_wrong_types_are_refused(void)
{
    assert_scalar_refused("str", "1", "Invalid parameter type for 'str', expected: string");
    assert_scalar_refused("str", "null", "Invalid parameter type for 'str', expected: string");
    assert_scalar_refused("str", "'a\\u0000b'",
                          "Parameter 'str' expects a string without NUL characters");
    assert_scalar_refused("number", "'1'", "Invalid parameter type for 'number', expected: number");
    assert_scalar_refused("bool", "'on'", "Invalid parameter type for 'bool', expected: boolean");
    assert_scalar_refused("int", "1.5", "Invalid parameter type for 'int', expected: integer");
    assert_scalar_refused("int", "'1'", "Invalid parameter type for 'int', expected: integer");
    assert_scalar_refused("enum", "0", "Invalid parameter type for 'enum', expected: string");
    assert_scalar_refused("enum", "'left-out'",
                          "Parameter 'enum' does not accept value 'left-out'");
    assert_scalar_refused("unwanted", "true", "Parameter 'unwanted' is unexpected");
}

static void
assert_arrays_refused(const char *text, QapiMode mode, const char *words)
{
    g_autoptr(GError) err = NULL;
    json_t *json = json_parse(text, NULL);

    g_assert_null(qapi_from_json(&qapi_type_test_arrays, json, mode, &err));
    g_assert_cmpstr(err->message, ==, words);
    json_decref(json);
}

static void
test_paths_go_into_arrays(void)
{
    assert_arrays_refused("{'strs': ['a', 1], 'numbers': []}", QAPI_STRICT,
                          "Invalid parameter type for 'strs[1]', expected: string");
    assert_arrays_refused("{'strs': {}, 'numbers': []}", QAPI_STRICT,
                          "Invalid parameter type for 'strs', expected: array");
    assert_arrays_refused("{'strs': [], 'numbers': [], 'unions': [{'kind': 'one',"
                          " 'strs': [], 'numbers': [true]}]}",
                          QAPI_STRICT,
                          "Invalid parameter type for 'unions[0].numbers[0]', expected: number");
    assert_arrays_refused("{'strs': {'0': 'a', '2': 'c'}, 'numbers': {}}", QAPI_TEXT,
                          "Parameter 'strs.1' is missing");
    assert_arrays_refused("{'strs': {}, 'numbers': {'0': 'x'}}", QAPI_TEXT,
                          "Parameter 'numbers.0' expects number");
}

static void
test_endless_nesting_is_refused(void)
{
    json_t *json = json_object();
    g_autoptr(GError) err = NULL;

    for (int i = 0; i < 1000; i++) {
        json_t *outer = json_object();
        json_object_set_new(outer, "self", json);
        json_object_set_new(outer, "inner", json_object());
        json = outer;
    }
    g_assert_null(test_derived_from_json(json, &err));
    json_decref(json);
}

/* --- commands --- */

bool coroutine_fn
qmp_test_nothing(GError **errp)
{
    return true;
}

char *coroutine_fn
qmp_test_inline(const QmpTestInlineArgs *args, GError **errp)
{
    return args->fail ? (fail(errp, "as asked"), NULL) : g_strdup(args->q_unix ?: "none");
}

TestUnion *coroutine_fn
qmp_test_named(const TestUnion *args, GError **errp)
{
    return test_union_copy(args);
}

TestLeafArray *coroutine_fn
qmp_test_list(GError **errp)
{
    TestLeafArray *list = g_new0(TestLeafArray, 1);

    list->n = 2;
    list->items = g_new0(TestLeaf *, 2);
    list->items[0] = g_new0(TestLeaf, 1);
    list->items[1] = g_new0(TestLeaf, 1);
    list->items[1]->leaf = 200;
    return list;
}

StrArray *coroutine_fn
qmp_test_strings(GError **errp)
{
    StrArray *list = g_new0(StrArray, 1);

    list->items = g_new0(char *, 1);
    list->items[0] = g_strdup("x");
    list->n = 1;
    return list;
}

json_t *coroutine_fn
qmp_test_any(const QmpTestAnyArgs *args, GError **errp)
{
    return json_incref(args->what);
}

/* @expected: JSON, or "!" and the error. */
static void
assert_command(const char *name, const char *arguments, const char *expected)
{
    const QmpCommand *command = qmp_test_command_find(name);
    json_t *args = arguments ? json_parse(arguments, NULL) : NULL;
    json_t *want = *expected == '!' ? NULL : json_parse(expected, NULL);
    g_autoptr(GError) err = NULL;
    json_t *got = command->run(args, &err);

    g_assert_cmpint(got != NULL, ==, want != NULL);
    g_assert_cmpint(got == NULL, ==, err != NULL);
    if (want) {
        g_assert_true(json_equal(got, want));
    } else {
        g_assert_cmpstr(err->message, ==, expected + 1);
    }
    json_decref(want);
    json_decref(got);
    json_decref(args);
}

static void
test_commands_run_their_handlers(void)
{
    assert_command("test-nothing", NULL, "{}");
    assert_command("test-nothing", "{}", "{}");
    assert_command("test-nothing", "{'a': 1}", "!Parameter 'a' is unexpected");
    assert_command("test-inline", "{'fail': false}", "'none'");
    assert_command("test-inline", "{'fail': false, 'unix': 'u'}", "'u'");
    assert_command("test-inline", "{'fail': true}", "!as asked");
    assert_command("test-inline", NULL, "!Parameter 'fail' is missing");
    assert_command("test-inline", "{'fail': 1}",
                   "!Invalid parameter type for 'fail', expected: boolean");
    assert_command("test_named", "{'kind': 'two-words'}", "{'kind': 'two-words'}");
    assert_command("test-list", NULL, "[{'leaf': 0}, {'leaf': 200}]");
    assert_command("test-strings", NULL, "['x']");
    assert_command("test-any", "{'what': [null]}", "[null]");
}

static void
test_the_table_has_what_the_schema_has(void)
{
    const char *const names[] = { "test-nothing", "test-inline",  "test_named",
                                  "test-list",    "test-strings", "test-any" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_cmpstr(qmp_test_commands[i].name, ==, names[i]);
        g_assert_cmpint(qmp_test_commands[i].allow_oob, ==, i == 2);
    }
    g_assert_null(qmp_test_commands[G_N_ELEMENTS(names)].name);
    g_assert_null(qmp_test_command_find("test-none"));
}

static void
test_introspection_is_json(void)
{
    g_assert_cmpuint(qapi_test_introspection_lines, >, 20);
    for (unsigned i = 0; i < qapi_test_introspection_lines; i++) {
        json_t *json = json_parse(qapi_test_introspection[i], NULL);
        g_assert_true(json_is_string(json_object_get(json, "meta-type")));
        json_decref(json);
    }
}

/* --- events --- */

static void
note_event(const char *name, json_t *data, void *opaque)
{
    g_autofree char *text = data ? json_print(data, false) : g_strdup("-");

    g_string_append_printf(opaque, "%s %s\n", name, text);
}

static void
test_events_go_to_every_sink(void)
{
    GString *a = g_string_new(NULL), *b = g_string_new(NULL);
    TestInlineEvent in = { .value = 3 };
    TestLeaf named = { .leaf = 4 };

    event_emit_test_bare();
    event_sink_add(note_event, a);
    event_emit_test_bare();
    event_sink_add(note_event, b);
    event_emit_test_inline(&in);
    event_sink_remove(note_event, a);
    event_emit_test_named(&named);
    event_sink_remove(note_event, b);
    event_emit_test_bare();
    g_assert_cmpstr(a->str, ==, "TEST_BARE -\nTEST_INLINE {\"value\": 3}\n");
    g_assert_cmpstr(b->str, ==, "TEST_INLINE {\"value\": 3}\nTEST_NAMED {\"leaf\": 4}\n");
    g_string_free(a, TRUE);
    g_string_free(b, TRUE);
}

static void
remove_itself(const char *name, json_t *data, void *opaque)
{
    ++*(int *)opaque;
    event_sink_remove(remove_itself, opaque);
    event_sink_add(note_event, opaque);
    event_sink_remove(note_event, opaque);
}

static void
test_a_sink_may_remove_itself(void)
{
    GString *log = g_string_new(NULL);
    int calls = 0;

    event_sink_add(remove_itself, &calls);
    event_sink_add(note_event, log);
    event_emit_test_bare();
    event_emit_test_bare();
    event_sink_remove(note_event, log);
    g_assert_cmpint(calls, ==, 1);
    g_assert_cmpstr(log->str, ==, "TEST_BARE -\nTEST_BARE -\n");
    g_string_free(log, TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qapi/types/enums", test_enums_have_names);
    g_test_add_func("/qapi/types/optional", test_optional_members_are_marked);
    g_test_add_func("/qapi/types/arrays", test_empty_arrays_differ_from_absent_ones);
    g_test_add_func("/qapi/types/alternates", test_alternates_have_a_kind);
    g_test_add_func("/qapi/types/branches", test_branches_are_by_value);
    g_test_add_func("/qapi/types/alternate-text",
                    test_text_in_an_alternate_goes_to_who_can_read_it);
    g_test_add_func("/qapi/refused/range", test_values_out_of_range_are_refused);
    g_test_add_func("/qapi/refused/type", test_wrong_types_are_refused);
    g_test_add_func("/qapi/refused/arrays", test_paths_go_into_arrays);
    g_test_add_func("/qapi/refused/nesting", test_endless_nesting_is_refused);
    g_test_add_func("/qapi/commands/run", test_commands_run_their_handlers);
    g_test_add_func("/qapi/commands/table", test_the_table_has_what_the_schema_has);
    g_test_add_func("/qapi/introspection", test_introspection_is_json);
    g_test_add_func("/qapi/events/sinks", test_events_go_to_every_sink);
    g_test_add_func("/qapi/events/remove", test_a_sink_may_remove_itself);
    return g_test_run();
}
