/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From JSON to C objects, by descriptor.
 *
 * An object under construction is zeroed first, so that at every moment
 * qapi_free() can take it: a failure frees what was there and returns. Input is
 * hostile: depth is bounded, and an object allocates no more than its schema
 * says plus what the input holds.
 */
#include "qapi/walker.h"

#include <inttypes.h>
#include <string.h>

#include "qapi/scalar.h"
#include "util/error.h"

/* Where we are; a list on the stack, from the value to the root. */
typedef struct Path {
    const struct Path *up;
    const char *name; /* NULL: element @index */
    size_t index;
    int depth;
} Path;

static const Path root = { .name = "" };

typedef struct Walk {
    QapiMode mode;
    GError **errp;
} Walk;

static bool walk_value(Walk *w, const QapiType *type, const json_t *json, const Path *path,
                       void *slot);

static void
path_append(GString *out, const Path *path, QapiMode mode)
{
    if (!path) {
        return;
    }
    path_append(out, path->up, mode);
    if (!path->name && mode == QAPI_STRICT) {
        g_string_append_printf(out, "[%zu]", path->index);
        return;
    }
    if (out->len) {
        g_string_append_c(out, '.');
    }
    if (path->name) {
        g_string_append(out, path->name);
    } else {
        g_string_append_printf(out, "%zu", path->index);
    }
}

static char *
path_text(const Walk *w, const Path *path)
{
    GString *out = g_string_new(NULL);

    path_append(out, path, w->mode);
    if (!out->len) {
        g_string_append(out, "<anonymous>");
    }
    return g_string_free(out, FALSE);
}

static bool
bad_type(Walk *w, const Path *path, const char *expected)
{
    g_autofree char *where = path_text(w, path);

    return fail(w->errp, "Invalid parameter type for '%s', expected: %s", where, expected);
}

static bool
bad_value(Walk *w, const Path *path, const char *expected)
{
    g_autofree char *where = path_text(w, path);

    return fail(w->errp, "Parameter '%s' expects %s", where, expected);
}

/* May this scalar be written as a string, and is it? Then its text, else NULL. */
static const char *
text_of(const Walk *w, const json_t *json)
{
    return w->mode != QAPI_STRICT && json_is_string(json) ? json_string_value(json) : NULL;
}

/* May it have its JSON type? */
static bool
typed(const Walk *w)
{
    return w->mode != QAPI_TEXT;
}

static bool
walk_bool(Walk *w, const json_t *json, const Path *path, bool *ret)
{
    const char *text = text_of(w, json);

    if (text) {
        return scalar_bool(text, ret) || bad_value(w, path, "'on' or 'off'");
    }
    if (!typed(w) || !json_is_boolean(json)) {
        return bad_type(w, path, "boolean");
    }
    *ret = json_is_true(json);
    return true;
}

static bool
walk_int(Walk *w, const QapiType *type, const json_t *json, const Path *path, int64_t *ret)
{
    const char *text = text_of(w, json);
    uint64_t size;

    if (text) {
        if (scalar_int(text, ret)) {
            return true;
        }
        if (w->mode == QAPI_LENIENT && scalar_size(text, &size) && size <= INT64_MAX) {
            *ret = (int64_t)size;
            return true;
        }
        return bad_value(w, path, "integer");
    }
    if (!typed(w) || !json_is_integer(json)) {
        return bad_type(w, path, "integer");
    }
    *ret = json_integer_value(json);
    return true;
}

static bool
walk_uint(Walk *w, const QapiType *type, const json_t *json, const Path *path, uint64_t *ret)
{
    const char *text = text_of(w, json);
    bool is_size = type->kind == QAPI_SIZE;

    if (text) {
        if (is_size || w->mode == QAPI_LENIENT) {
            return scalar_size(text, ret) || bad_value(w, path, is_size ? "size" : "integer");
        }
        return scalar_uint(text, ret) ||
               bad_value(w, path, *text == '-' && type->size < 8 ? type->name : "integer");
    }
    if (!typed(w) || !json_is_integer(json)) {
        return bad_type(w, path, "integer");
    }
    if (json_integer_value(json) < 0) {
        return bad_value(w, path, type->kind == QAPI_SIZE ? "size" : type->name);
    }
    *ret = (uint64_t)json_integer_value(json);
    return true;
}

static bool
walk_number(Walk *w, const json_t *json, const Path *path, double *ret)
{
    const char *text = text_of(w, json);

    if (text) {
        return scalar_number(text, ret) || bad_value(w, path, "number");
    }
    if (!typed(w) || !json_is_number(json)) {
        return bad_type(w, path, "number");
    }
    *ret = json_number_value(json);
    return true;
}

/* The text of a string value; NULL and an error if it is none or has a NUL inside. */
static const char *
walk_text(Walk *w, const json_t *json, const Path *path)
{
    const char *text = json_string_value(json);

    if (!text) {
        bad_type(w, path, "string");
        return NULL;
    }
    if (strlen(text) != json_string_length(json)) {
        bad_value(w, path, "a string without NUL characters");
        return NULL;
    }
    return text;
}

static bool
walk_str(Walk *w, const json_t *json, const Path *path, char **ret)
{
    const char *text;

    if (w->mode == QAPI_LENIENT && json_is_integer(json)) {
        *ret = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(json));
        return true;
    }
    text = walk_text(w, json, path);
    *ret = g_strdup(text);
    return text != NULL;
}

static bool
walk_enum(Walk *w, const QapiType *type, const json_t *json, const Path *path, int *ret)
{
    const char *text = walk_text(w, json, path);
    int value;

    if (!text) {
        return false;
    }
    value = qapi_enum_parse(type, text);
    if (value < 0) {
        g_autofree char *where = path_text(w, path);
        return fail(w->errp, "Parameter '%s' does not accept value '%s'", where, text);
    }
    *ret = value;
    return true;
}

/* Signed or not, the low bytes are the same. */
static void
store_low(size_t size, uint64_t value, void *slot)
{
    switch (size) {
    case 1:
        *(uint8_t *)slot = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)slot = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)slot = (uint32_t)value;
        break;
    default:
        *(uint64_t *)slot = value;
    }
}

static bool
store_int(Walk *w, const QapiType *type, const Path *path, int64_t value, void *slot)
{
    int bits = 8 * (int)type->size;

    if (bits < 64 && (value < -(INT64_C(1) << (bits - 1)) || value >= INT64_C(1) << (bits - 1))) {
        return bad_value(w, path, type->name);
    }
    store_low(type->size, (uint64_t)value, slot);
    return true;
}

static bool
store_uint(Walk *w, const QapiType *type, const Path *path, uint64_t value, void *slot)
{
    int bits = 8 * (int)type->size;

    if (bits < 64 && value >> bits) {
        return bad_value(w, path, type->name);
    }
    store_low(type->size, value, slot);
    return true;
}

/* An integer with the limits of its member. */
static bool
walk_limited(Walk *w, const QapiType *type, const QapiLimits *limits, const json_t *json,
             const Path *path, void *slot)
{
    bool is_signed = type->kind == QAPI_INT;
    int64_t value = 0;
    uint64_t uvalue = 0;
    bool inside;

    if (!(is_signed ? walk_int(w, type, json, path, &value)
                    : walk_uint(w, type, json, path, &uvalue))) {
        return false;
    }
    if (is_signed) {
        inside = !limits || (value >= limits->min && value <= (int64_t)limits->max);
    } else {
        inside = !limits || (uvalue >= (uint64_t)limits->min && uvalue <= limits->max);
    }
    if (!inside) {
        g_autofree char *text =
            is_signed ? g_strdup_printf("a value between %" PRId64 " and %" PRId64, limits->min,
                                        (int64_t)limits->max)
                      : g_strdup_printf("a value between %" PRIu64 " and %" PRIu64,
                                        (uint64_t)limits->min, limits->max);
        return bad_value(w, path, text);
    }
    return is_signed ? store_int(w, type, path, value, slot)
                     : store_uint(w, type, path, uvalue, slot);
}

/* Does @json name a member of @type or of the chosen variant? */
static bool
has_member(const QapiType *type, const void *obj, const char *name)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        if (strcmp(type->members[i].name, name) == 0) {
            return true;
        }
    }
    if (type->is_union) {
        int tag = *(const int *)((const char *)obj + type->members[type->tag].offset);
        const QapiType *variant = type->variants[tag];
        return variant && has_member(variant, (const char *)obj + type->u_offset, name);
    }
    return false;
}

static bool
check_unexpected(Walk *w, const QapiType *type, const void *obj, const json_t *json,
                 const Path *path)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)json, key, value) {
        if (!has_member(type, obj, key)) {
            Path at = { .up = path, .name = key };
            g_autofree char *where = path_text(w, &at);
            return fail(w->errp, "Parameter '%s' is unexpected", where);
        }
    }
    return true;
}

/* Element @i of an array, which outside strict mode may be {"0": .., "1": ..}. */
static json_t *
element_at(const json_t *json, size_t i)
{
    char key[24];

    if (json_is_array(json)) {
        return json_array_get(json, i);
    }
    g_snprintf(key, sizeof(key), "%zu", i);
    return json_object_get(json, key);
}

static bool
walk_elements(Walk *w, const QapiType *type, const json_t *json, const Path *path, size_t *ret_n,
              void **ret)
{
    size_t slot = qapi_slot_size(type);
    bool as_object = w->mode != QAPI_STRICT && json_is_object(json);
    size_t n = as_object ? json_object_size(json) : json_array_size(json);

    if (!as_object && !json_is_array(json)) {
        return bad_type(w, path, "array");
    }
    *ret = g_malloc0_n(n + 1, slot);
    *ret_n = n;
    for (size_t i = 0; i < n; i++) {
        Path at = { .up = path, .index = i, .depth = path->depth };
        const json_t *value = element_at(json, i);

        if (!value) {
            g_autofree char *where = path_text(w, &at);
            return fail(w->errp, "Parameter '%s' is missing", where);
        }
        if (!walk_value(w, type, value, &at, (char *)*ret + i * slot)) {
            return false;
        }
    }
    return true;
}

static bool
walk_member(Walk *w, const QapiMember *m, const json_t *json, const Path *path, char *obj)
{
    if (m->has_flag) {
        *(bool *)(obj + m->has_offset) = true;
    }
    if (m->is_array) {
        return walk_elements(w, m->type, json, path, (size_t *)(obj + m->n_offset),
                             (void **)(obj + m->offset));
    }
    if (m->limits) {
        return walk_limited(w, m->type, m->limits, json, path, obj + m->offset);
    }
    return walk_value(w, m->type, json, path, obj + m->offset);
}

/* All members that @type has, not looking for others in @json. */
static bool
walk_members(Walk *w, const QapiType *type, const json_t *json, const Path *path, char *obj)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        Path at = { .up = path, .name = m->name, .depth = path->depth };
        const json_t *value = json_object_get(json, m->name);

        if (!value && !m->optional) {
            g_autofree char *where = path_text(w, &at);
            return fail(w->errp, "Parameter '%s' is missing", where);
        }
        if (value && !walk_member(w, m, value, &at, obj)) {
            return false;
        }
    }
    if (type->is_union) {
        int tag = *(int *)(obj + type->members[type->tag].offset);
        const QapiType *variant = type->variants[tag];
        return !variant || walk_members(w, variant, json, path, obj + type->u_offset);
    }
    return true;
}

static bool
walk_struct(Walk *w, const QapiType *type, const json_t *json, const Path *path, void *obj)
{
    Path here = *path;

    if (!json_is_object(json)) {
        return bad_type(w, path, "object");
    }
    if (++here.depth > QAPI_MAX_DEPTH) {
        return bad_value(w, path, "fewer levels of nesting");
    }
    return walk_members(w, type, json, &here, obj) && check_unexpected(w, type, obj, json, &here);
}

static bool
branch_takes(const Walk *w, const QapiType *type, const json_t *json)
{
    switch (type->kind) {
    case QAPI_STRUCT:
        return json_is_object(json);
    case QAPI_STR:
    case QAPI_ENUM:
        return json_is_string(json);
    case QAPI_BOOL:
        return json_is_boolean(json) || text_of(w, json);
    case QAPI_INT:
        return json_is_integer(json) || text_of(w, json);
    case QAPI_NUMBER:
        return json_is_number(json) || text_of(w, json);
    case QAPI_NULL:
        return json_is_null(json);
    default:
        return false;
    }
}

/* Which branch a value belongs to. Text goes to the scalar that can read it. */
static int
choose_branch(const Walk *w, const QapiType *type, const json_t *json)
{
    const char *text = text_of(w, json);
    int fallback = -1;

    for (uint32_t i = 0; i < type->n_branches; i++) {
        const QapiType *branch = type->branches[i].type;
        bool b;
        double d;

        if (!branch_takes(w, branch, json)) {
            continue;
        }
        if (text && ((branch->kind == QAPI_BOOL && !scalar_bool(text, &b)) ||
                     (branch->kind == QAPI_INT && !g_ascii_isdigit(text[0]) && text[0] != '-') ||
                     (branch->kind == QAPI_NUMBER && !scalar_number(text, &d)) ||
                     (branch->kind == QAPI_ENUM && qapi_enum_parse(branch, text) < 0))) {
            fallback = (int)i;
            continue;
        }
        return (int)i;
    }
    return fallback;
}

static bool
walk_alternate(Walk *w, const QapiType *type, const json_t *json, const Path *path, void *obj)
{
    int kind = choose_branch(w, type, json);

    if (kind < 0) {
        return bad_type(w, path, type->name);
    }
    *(int *)obj = kind;
    return walk_value(w, type->branches[kind].type, json, path, (char *)obj + type->u_offset);
}

static bool
walk_pointed(Walk *w, const QapiType *type, const json_t *json, const Path *path, void **slot)
{
    *slot = g_malloc0(type->size);
    if (type->kind == QAPI_STRUCT) {
        return walk_struct(w, type, json, path, *slot);
    }
    return walk_alternate(w, type, json, path, *slot);
}

/* A value into its place in a struct or array. */
static bool
walk_value(Walk *w, const QapiType *type, const json_t *json, const Path *path, void *slot)
{
    switch (type->kind) {
    case QAPI_BOOL:
        return walk_bool(w, json, path, slot);
    case QAPI_INT:
    case QAPI_UINT:
    case QAPI_SIZE:
        return walk_limited(w, type, NULL, json, path, slot);
    case QAPI_NUMBER:
        return walk_number(w, json, path, slot);
    case QAPI_STR:
        return walk_str(w, json, path, slot);
    case QAPI_ANY:
        *(json_t **)slot = json_deep_copy(json);
        return true;
    case QAPI_NULL:
        return true;
    case QAPI_ENUM:
        return walk_enum(w, type, json, path, slot);
    case QAPI_STRUCT:
    case QAPI_ALTERNATE:
        return walk_pointed(w, type, json, path, slot);
    }
    g_assert_not_reached();
}

void *
qapi_from_json(const QapiType *type, const json_t *json, QapiMode mode, GError **errp)
{
    Walk w = { .mode = mode, .errp = errp };
    void *obj = NULL;

    if (!walk_pointed(&w, type, json, &root, &obj)) {
        qapi_free(type, obj);
        return NULL;
    }
    return obj;
}

void *
qapi_elements_from_json(const QapiType *type, const json_t *json, size_t *ret_n, GError **errp)
{
    Walk w = { .mode = QAPI_STRICT, .errp = errp };
    void *items = NULL;
    size_t n = 0;

    if (!walk_elements(&w, type, json, &root, &n, &items)) {
        qapi_free_elements(type, n, items);
        return NULL;
    }
    *ret_n = n;
    return items;
}

int
qapi_enum_parse(const QapiType *type, const char *text)
{
    for (uint32_t i = 0; i < type->n_values; i++) {
        if (strcmp(type->values[i], text) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const char *
qapi_enum_str(const QapiType *type, int value)
{
    assert(value >= 0 && (uint32_t)value < type->n_values);
    return type->values[value];
}
