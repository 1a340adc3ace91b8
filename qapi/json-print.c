/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Printing JSON in ASCII.
 *
 * A client may send, and have sent back, values that nest as deep as the framer
 * allows; the stack of a coroutine is too small to print them by recursion.
 * So the open arrays and objects are on a list of our own.
 */
#include "qapi/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct Open {
    const json_t *json;
    size_t index; /* of an array: the next element */
    void *iter;   /* of an object: the next member */
    bool begun;   /* something was printed in it */
} Open;

typedef struct Printer {
    GString *out;
    GArray *open; /* of Open */
    bool pretty;
} Printer;

static void
print_code_unit(GString *out, gunichar unit)
{
    g_string_append_printf(out, "\\u%04X", unit);
}

static void
print_char(GString *out, gunichar c)
{
    static const char escapes[] = "\bb\tt\nn\ff\rr\"\"\\\\";

    for (const char *e = escapes; *e; e += 2) {
        if ((gunichar)*e == c) {
            g_string_append_c(out, '\\');
            g_string_append_c(out, e[1]);
            return;
        }
    }
    if (c >= 0x20 && c < 0x7f) {
        g_string_append_c(out, (char)c);
    } else if (c < 0x10000) {
        print_code_unit(out, c);
    } else {
        print_code_unit(out, 0xd800 + ((c - 0x10000) >> 10));
        print_code_unit(out, 0xdc00 + ((c - 0x10000) & 0x3ff));
    }
}

static void
print_string(GString *out, const char *text, size_t len)
{
    const char *end = text + len;

    g_string_append_c(out, '"');
    while (text < end) {
        print_char(out, g_utf8_get_char(text));
        text = g_utf8_next_char(text);
    }
    g_string_append_c(out, '"');
}

static void
print_real(GString *out, const json_t *json)
{
    char *text = json_dumps(json, JSON_ENCODE_ANY);

    assert(text);
    g_string_append(out, text);
    free(text);
}

static void
print_line_break(Printer *p)
{
    if (p->pretty) {
        g_string_append_c(p->out, '\n');
        for (guint i = 0; i < p->open->len; i++) {
            g_string_append(p->out, "    ");
        }
    }
}

/* A scalar, or the beginning of what has members. */
static void
print_value(Printer *p, const json_t *json)
{
    Open open = { .json = json };

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        open.iter = json_object_iter((json_t *)json);
        g_string_append_c(p->out, '{');
        g_array_append_val(p->open, open);
        break;
    case JSON_ARRAY:
        g_string_append_c(p->out, '[');
        g_array_append_val(p->open, open);
        break;
    case JSON_STRING:
        print_string(p->out, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        g_string_append_printf(p->out, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        break;
    case JSON_REAL:
        print_real(p->out, json);
        break;
    case JSON_TRUE:
        g_string_append(p->out, "true");
        break;
    case JSON_FALSE:
        g_string_append(p->out, "false");
        break;
    case JSON_NULL:
        g_string_append(p->out, "null");
        break;
    }
}

static void
close_last(Printer *p, bool begun, bool is_object)
{
    g_array_set_size(p->open, p->open->len - 1);
    if (begun) {
        print_line_break(p);
    }
    g_string_append_c(p->out, is_object ? '}' : ']');
}

/* The next member of the innermost open value, or its end. */
static void
print_next(Printer *p)
{
    Open *o = &g_array_index(p->open, Open, p->open->len - 1);
    bool is_object = json_is_object(o->json);
    const json_t *value;

    if (is_object ? !o->iter : o->index >= json_array_size(o->json)) {
        close_last(p, o->begun, is_object);
        return;
    }
    if (o->begun) {
        g_string_append(p->out, p->pretty ? "," : ", ");
    }
    o->begun = true;
    print_line_break(p);
    if (is_object) {
        const char *key = json_object_iter_key(o->iter);

        value = json_object_iter_value(o->iter);
        print_string(p->out, key, strlen(key));
        g_string_append(p->out, ": ");
        o->iter = json_object_iter_next((json_t *)o->json, o->iter);
    } else {
        value = json_array_get(o->json, o->index++);
    }
    print_value(p, value); /* may move what o points to */
}

char *
json_print(const json_t *json, bool pretty)
{
    Printer p = {
        .out = g_string_new(NULL),
        .open = g_array_new(FALSE, FALSE, sizeof(Open)),
        .pretty = pretty,
    };

    print_value(&p, json);
    while (p.open->len) {
        print_next(&p);
    }
    g_array_free(p.open, TRUE);
    return g_string_free(p.out, FALSE);
}
