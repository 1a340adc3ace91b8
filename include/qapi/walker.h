/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walker: generic functions between JSON values and C objects, driven by
 * descriptors that the schema compiler makes. Use the typed wrappers of
 * "qapi/walk.h"; this header is for them and for tests.
 *
 * Messages name the place: "Parameter 'file.offset' is missing".
 */
#ifndef QAPI_WALKER_H
#define QAPI_WALKER_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/compiler.h"

typedef enum QapiKind {
    QAPI_BOOL,
    QAPI_INT,  /* signed, of size 1, 2, 4 or 8 */
    QAPI_UINT, /* unsigned, of size 1, 2, 4 or 8 */
    QAPI_SIZE, /* uint64_t whose text form may have a unit: "64k" */
    QAPI_NUMBER,
    QAPI_STR,
    QAPI_ANY, /* json_t *, a reference of its own */
    QAPI_NULL,
    QAPI_ENUM,
    QAPI_STRUCT, /* or union */
    QAPI_ALTERNATE,
} QapiKind;

/* How scalars are written. */
typedef enum QapiMode {
    QAPI_STRICT,  /* with their JSON types */
    QAPI_TEXT,    /* as strings; {"0": .., "1": ..} stands for an array */
    QAPI_LENIENT, /* either; numbers as text may have a unit */
} QapiMode;

typedef struct QapiType QapiType;

typedef struct QapiLimits {
    int64_t min;
    uint64_t max; /* of a signed type: read as int64_t */
} QapiLimits;

typedef struct QapiMember {
    const char *name;
    const QapiType *type; /* of the elements, if an array */
    uint32_t offset;
    uint32_t n_offset;   /* size_t, if is_array */
    uint32_t has_offset; /* bool, if has_flag */
    bool is_array;
    bool has_flag;
    bool optional;
    const QapiLimits *limits; /* NULL: those of the type */
} QapiMember;

typedef struct QapiBranch {
    const char *name;
    const QapiType *type;
} QapiBranch;

struct QapiType {
    const char *name;
    QapiKind kind;
    bool is_union;
    uint32_t size;              /* of the C type; for a pointed-to type, of what it points to */
    uint32_t u_offset;          /* union, alternate */
    uint32_t n_values;          /* enum */
    uint32_t n_members;         /* struct; members of a base count */
    uint32_t tag;               /* union: index of the member that chooses the variant */
    uint32_t n_branches;        /* alternate; the kind is the first field of the C type */
    const char *const *values;  /* enum */
    const QapiMember *members;  /* struct */
    const QapiType *const *variants; /* union: by value of the tag; NULL: no members */
    const QapiBranch *branches; /* alternate: by kind */
};

extern const QapiType qapi_builtin_str, qapi_builtin_number, qapi_builtin_bool, qapi_builtin_null;
extern const QapiType qapi_builtin_any, qapi_builtin_int, qapi_builtin_int8, qapi_builtin_int16;
extern const QapiType qapi_builtin_int32, qapi_builtin_int64, qapi_builtin_uint8;
extern const QapiType qapi_builtin_uint16, qapi_builtin_uint32, qapi_builtin_uint64;
extern const QapiType qapi_builtin_size;

/* Objects nest at most this deep; deeper input is an error. The walker recurses, on the stack
 * of a coroutine. */
#define QAPI_MAX_DEPTH 64

/** qapi_from_json() - a new object of @type (struct or alternate), or NULL and errp */
void *qapi_from_json(const QapiType *type, const json_t *json, QapiMode mode, GError **errp);

/**
 * qapi_to_json() - a new reference to what @obj says
 *
 * Every member that is not optional must be set (asserted). Strings must be
 * UTF-8; other bytes become U+FFFD. A uint64 above INT64_MAX becomes a real.
 */
json_t *qapi_to_json(const QapiType *type, const void *obj);

void *qapi_copy(const QapiType *type, const void *obj);
void qapi_free(const QapiType *type, void *obj);

/** qapi_free_elements() - of an array as structs hold them: elements and the array itself */
void qapi_free_elements(const QapiType *type, size_t n, void *items);
/** qapi_elements_from_json() - an array (not NULL even when empty), or NULL and errp */
void *qapi_elements_from_json(const QapiType *type, const json_t *json, size_t *ret_n,
                              GError **errp);
json_t *qapi_elements_to_json(const QapiType *type, size_t n, const void *items);

/** qapi_enum_parse() - index of the value called @text, or -1 */
int qapi_enum_parse(const QapiType *type, const char *text);
/** qapi_enum_str() - name of a value; asserts that there is one */
const char *qapi_enum_str(const QapiType *type, int value);

/* Held by pointer in C: NULL when absent. */
static inline bool
qapi_is_pointer(const QapiType *type)
{
    return type->kind == QAPI_STR || type->kind == QAPI_ANY || type->kind == QAPI_STRUCT ||
           type->kind == QAPI_ALTERNATE;
}

/* Bytes that a value takes in its struct or array. */
static inline size_t
qapi_slot_size(const QapiType *type)
{
    return qapi_is_pointer(type) ? sizeof(void *) : type->size;
}

#endif
