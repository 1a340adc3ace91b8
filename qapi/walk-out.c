/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * C objects by descriptor: to JSON, copy, free.
 *
 * Free takes objects that are only partly built; the other two take complete
 * ones, and assert it.
 */
#include "qapi/walker.h"

#include <string.h>

#define BUILTIN(cname, schema_name, k, ctype)                                                  \
    const QapiType qapi_builtin_##cname = {                                                        \
        .name = schema_name,                                                                       \
        .kind = k,                                                                                 \
        .size = sizeof(ctype),                                                                     \
    }

BUILTIN(bool, "bool", QAPI_BOOL, bool);
BUILTIN(number, "number", QAPI_NUMBER, double);
BUILTIN(int, "int", QAPI_INT, int64_t);
BUILTIN(int8, "int8_t", QAPI_INT, int8_t);
BUILTIN(int16, "int16_t", QAPI_INT, int16_t);
BUILTIN(int32, "int32_t", QAPI_INT, int32_t);
BUILTIN(int64, "int64_t", QAPI_INT, int64_t);
BUILTIN(uint8, "uint8_t", QAPI_UINT, uint8_t);
BUILTIN(uint16, "uint16_t", QAPI_UINT, uint16_t);
BUILTIN(uint32, "uint32_t", QAPI_UINT, uint32_t);
BUILTIN(uint64, "uint64", QAPI_UINT, uint64_t);
BUILTIN(size, "size", QAPI_SIZE, uint64_t);

const QapiType qapi_builtin_str = { .name = "str", .kind = QAPI_STR, .size = 1 };
const QapiType qapi_builtin_any = { .name = "any", .kind = QAPI_ANY, .size = 1 };
const QapiType qapi_builtin_null = { .name = "null", .kind = QAPI_NULL, .size = 0 };

static json_t *value_to_json(const QapiType *type, const void *slot);
static void value_copy(const QapiType *type, const void *from, void *to);
static void value_free(const QapiType *type, void *slot);

/* The variant that a union's tag chooses, or NULL. */
static const QapiType *
variant_of(const QapiType *type, const char *obj)
{
    int tag;

    if (!type->is_union) {
        return NULL;
    }
    tag = *(const int *)(obj + type->members[type->tag].offset);
    assert(tag >= 0 && (uint32_t)tag < MAX(1, type->members[type->tag].type->n_values));
    return type->variants[tag];
}

static const QapiType *
branch_of(const QapiType *type, const void *obj)
{
    int kind = *(const int *)obj;

    assert(kind >= 0 && (uint32_t)kind < type->n_branches);
    return type->branches[kind].type;
}

/* Is an optional member there? */
static bool
is_present(const QapiMember *m, const char *obj)
{
    if (m->has_flag) {
        return *(const bool *)(obj + m->has_offset);
    }
    return !m->optional || *(void *const *)(obj + m->offset);
}

/* --- to JSON --- */

static int64_t
load_int(const QapiType *type, const void *slot)
{
    switch (type->size) {
    case 1:
        return *(const int8_t *)slot;
    case 2:
        return *(const int16_t *)slot;
    case 4:
        return *(const int32_t *)slot;
    default:
        return *(const int64_t *)slot;
    }
}

static uint64_t
load_uint(const QapiType *type, const void *slot)
{
    switch (type->size) {
    case 1:
        return *(const uint8_t *)slot;
    case 2:
        return *(const uint16_t *)slot;
    case 4:
        return *(const uint32_t *)slot;
    default:
        return *(const uint64_t *)slot;
    }
}

static json_t *
uint_to_json(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((int64_t)value) : json_real((double)value);
}

static json_t *
text_to_json(const char *text)
{
    g_autofree char *valid = NULL;

    assert(text);
    if (g_utf8_validate(text, -1, NULL)) {
        return json_string(text);
    }
    valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}

static void
members_to_json(const QapiType *type, const char *obj, json_t *out)
{
    const QapiType *variant = variant_of(type, obj);

    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        json_t *value;

        if (!is_present(m, obj)) {
            continue;
        }
        if (m->is_array) {
            value = qapi_elements_to_json(m->type, *(const size_t *)(obj + m->n_offset),
                                          *(void *const *)(obj + m->offset));
        } else {
            value = value_to_json(m->type, obj + m->offset);
        }
        json_object_set_new(out, m->name, value);
    }
    if (variant) {
        members_to_json(variant, obj + type->u_offset, out);
    }
}

json_t *
qapi_to_json(const QapiType *type, const void *obj)
{
    json_t *out;

    assert(obj);
    if (type->kind == QAPI_ALTERNATE) {
        return value_to_json(branch_of(type, obj), (const char *)obj + type->u_offset);
    }
    assert(type->kind == QAPI_STRUCT);
    out = json_object();
    members_to_json(type, obj, out);
    return out;
}

json_t *
qapi_elements_to_json(const QapiType *type, size_t n, const void *items)
{
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++) {
        const char *slot = (const char *)items + i * qapi_slot_size(type);
        json_array_append_new(out, value_to_json(type, slot));
    }
    return out;
}

static json_t *
value_to_json(const QapiType *type, const void *slot)
{
    switch (type->kind) {
    case QAPI_BOOL:
        return json_boolean(*(const bool *)slot);
    case QAPI_INT:
        return json_integer(load_int(type, slot));
    case QAPI_UINT:
    case QAPI_SIZE:
        return uint_to_json(load_uint(type, slot));
    case QAPI_NUMBER:
        return json_real(*(const double *)slot);
    case QAPI_STR:
        return text_to_json(*(char *const *)slot);
    case QAPI_ANY:
        assert(*(json_t *const *)slot);
        return json_deep_copy(*(json_t *const *)slot);
    case QAPI_NULL:
        return json_null();
    case QAPI_ENUM:
        return json_string(qapi_enum_str(type, *(const int *)slot));
    case QAPI_STRUCT:
    case QAPI_ALTERNATE:
        return qapi_to_json(type, *(void *const *)slot);
    }
    g_assert_not_reached();
}

/* --- copy --- */

static void *
elements_copy(const QapiType *type, size_t n, const void *items)
{
    size_t slot = qapi_slot_size(type);
    char *out;

    if (!items) {
        return NULL;
    }
    out = g_malloc0_n(n + 1, slot);
    for (size_t i = 0; i < n; i++) {
        value_copy(type, (const char *)items + i * slot, out + i * slot);
    }
    return out;
}

static void
members_copy(const QapiType *type, const char *from, char *to)
{
    const QapiType *variant = variant_of(type, from);

    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];

        if (m->has_flag) {
            *(bool *)(to + m->has_offset) = *(const bool *)(from + m->has_offset);
        }
        if (m->is_array) {
            size_t n = *(const size_t *)(from + m->n_offset);
            *(size_t *)(to + m->n_offset) = n;
            *(void **)(to + m->offset) =
                elements_copy(m->type, n, *(void *const *)(from + m->offset));
        } else {
            value_copy(m->type, from + m->offset, to + m->offset);
        }
    }
    if (variant) {
        members_copy(variant, from + type->u_offset, to + type->u_offset);
    }
}

void *
qapi_copy(const QapiType *type, const void *obj)
{
    char *out;

    if (!obj) {
        return NULL;
    }
    out = g_malloc0(type->size);
    if (type->kind == QAPI_ALTERNATE) {
        *(int *)out = *(const int *)obj;
        value_copy(branch_of(type, obj), (const char *)obj + type->u_offset,
                   out + type->u_offset);
    } else {
        members_copy(type, obj, out);
    }
    return out;
}

static void
value_copy(const QapiType *type, const void *from, void *to)
{
    switch (type->kind) {
    case QAPI_STR:
        *(char **)to = g_strdup(*(char *const *)from);
        break;
    case QAPI_ANY:
        *(json_t **)to = json_deep_copy(*(json_t *const *)from);
        break;
    case QAPI_STRUCT:
    case QAPI_ALTERNATE:
        *(void **)to = qapi_copy(type, *(void *const *)from);
        break;
    default:
        memcpy(to, from, type->size);
    }
}

/* --- free --- */

void
qapi_free_elements(const QapiType *type, size_t n, void *items)
{
    for (size_t i = 0; items && i < n; i++) {
        value_free(type, (char *)items + i * qapi_slot_size(type));
    }
    g_free(items);
}

static void
members_free(const QapiType *type, char *obj)
{
    const QapiType *variant = variant_of(type, obj);

    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];

        if (m->is_array) {
            qapi_free_elements(m->type, *(size_t *)(obj + m->n_offset),
                               *(void **)(obj + m->offset));
        } else {
            value_free(m->type, obj + m->offset);
        }
    }
    if (variant) {
        members_free(variant, obj + type->u_offset);
    }
}

void
qapi_free(const QapiType *type, void *obj)
{
    if (!obj) {
        return;
    }
    if (type->kind == QAPI_ALTERNATE) {
        value_free(branch_of(type, obj), (char *)obj + type->u_offset);
    } else {
        members_free(type, obj);
    }
    g_free(obj);
}

static void
value_free(const QapiType *type, void *slot)
{
    switch (type->kind) {
    case QAPI_STR:
        g_free(*(char **)slot);
        break;
    case QAPI_ANY:
        json_decref(*(json_t **)slot);
        break;
    case QAPI_STRUCT:
    case QAPI_ALTERNATE:
        qapi_free(type, *(void **)slot);
        break;
    default:
        break;
    }
}
