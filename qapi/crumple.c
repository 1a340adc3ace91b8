/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Building nested JSON from dotted keys.
 *
 * Depth is bounded by QAPI_MAX_DEPTH, so recursion is; an array is not larger
 * than the number of keys given for it, whatever index one of them names.
 */
#include "crumple.h"

#include <string.h>

#include "qapi/keyval.h"
#include "util/error.h"

#define FRAGMENT_MAX 127

static bool put_at(json_t *at, const char *key, const char *whole, json_t *value, int depth,
                   GError **errp);

/* All members of @from into @to, where keys may have dots. Borrows @from. */
static bool
merge(json_t *to, const json_t *from, const char *whole, int depth, GError **errp)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)from, key, value) {
        if (!put_at(to, key, whole ? whole : key, json_incref(value), depth, errp)) {
            return false;
        }
    }
    return true;
}

/* A copy of an element of an array that was an array before. */
static json_t *
crumple_value(const json_t *value, const char *whole, int depth, GError **errp)
{
    json_t *copy;

    if (depth > QAPI_MAX_DEPTH) {
        fail(errp, "Parameter '%s' is nested too deeply", whole);
        return NULL;
    }
    if (json_is_object(value)) {
        copy = json_object();
        if (merge(copy, value, whole, depth + 1, errp)) {
            return copy;
        }
    } else if (json_is_array(value)) {
        copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++) {
            json_t *element = crumple_value(json_array_get(value, i), whole, depth + 1, errp);
            if (!element) {
                json_decref(copy);
                return NULL;
            }
            json_array_append_new(copy, element);
        }
        return copy;
    } else {
        return json_deep_copy(value);
    }
    json_decref(copy);
    return NULL;
}

static bool
inconsistent(const char *whole, GError **errp)
{
    return fail(errp, "Parameters '%s.*' used inconsistently", whole);
}

/* The last fragment; takes @value. */
static bool
put_leaf(json_t *at, const char *name, const char *whole, json_t *value, int depth, GError **errp)
{
    json_t *old = json_object_get(at, name);
    json_t *copy;

    if (old && (json_is_object(old) != json_is_object(value))) {
        json_decref(value);
        return inconsistent(whole, errp);
    }
    if (old && json_is_object(old)) {
        bool ok = merge(old, value, whole, depth + 1, errp);
        json_decref(value);
        return ok;
    }
    copy = crumple_value(value, whole, depth, errp);
    json_decref(value);
    return copy && json_object_set_new(at, name, copy) == 0;
}

static bool
put_at(json_t *at, const char *key, const char *whole, json_t *value, int depth, GError **errp)
{
    char name[FRAGMENT_MAX + 1];
    size_t len = strcspn(key, ".");
    json_t *next;

    if (len == 0 || len > FRAGMENT_MAX || depth > QAPI_MAX_DEPTH) {
        json_decref(value);
        return len == 0             ? fail(errp, "Invalid parameter '%s'", whole)
               : len > FRAGMENT_MAX ? fail(errp, "Parameter '%.*s' is too long", FRAGMENT_MAX, key)
                                    : fail(errp, "Parameter '%.*s' is nested too deeply",
                                           FRAGMENT_MAX, whole);
    }
    memcpy(name, key, len);
    name[len] = '\0';
    if (!key[len]) {
        return put_leaf(at, name, whole, value, depth, errp);
    }
    next = json_object_get(at, name);
    if (!next) {
        next = json_object();
        json_object_set_new(at, name, next);
    } else if (!json_is_object(next)) {
        json_decref(value);
        return inconsistent(name, errp);
    }
    return put_at(next, key + len + 1, whole, value, depth + 1, errp);
}

bool
crumple_put(json_t *root, const char *key, json_t *value, GError **errp)
{
    return put_at(root, key, key, value, 1, errp);
}

/* Is it the name of an array element, as opposed to a member? */
static bool
is_index(const char *key)
{
    return *key && key[strspn(key, "0123456789")] == '\0';
}

/* Elements 0.. of @object as an array; NULL and errp if there is a gap. */
static json_t *
to_array(json_t *object, const char *name, GError **errp)
{
    json_t *array = json_array();
    size_t n = json_object_size(object);

    for (size_t i = 0; i < n; i++) {
        char key[24];
        json_t *value;

        g_snprintf(key, sizeof(key), "%zu", i);
        value = json_object_get(object, key);
        if (!value) {
            fail(errp, "Parameter '%s.%zu' missing", name, i);
            json_decref(array);
            return NULL;
        }
        json_array_append(array, value);
    }
    return array;
}

static json_t *lists_in(json_t *value, const char *name, GError **errp);

static bool
lists_in_members(json_t *object, GError **errp)
{
    const char *key;
    void *tmp;
    json_t *value;

    json_object_foreach_safe (object, tmp, key, value) {
        json_t *now = lists_in(value, key, errp);

        if (!now) {
            return false;
        }
        json_object_set_new(object, key, now);
    }
    return true;
}

/* What @value, called @name, is with arrays in it: a new reference. */
static json_t *
lists_in(json_t *value, const char *name, GError **errp)
{
    size_t indexes = 0, i;
    const char *key;
    json_t *member;

    if (json_is_array(value)) {
        json_array_foreach (value, i, member) {
            json_t *now = lists_in(member, name, errp);
            if (!now) {
                return NULL;
            }
            json_array_set_new(value, i, now);
        }
        return json_incref(value);
    }
    if (!json_is_object(value)) {
        return json_incref(value);
    }
    if (!lists_in_members(value, errp)) {
        return NULL;
    }
    json_object_foreach (value, key, member) {
        indexes += is_index(key);
    }
    if (indexes == 0) {
        return json_incref(value);
    }
    if (indexes != json_object_size(value)) {
        inconsistent(name, errp);
        return NULL;
    }
    return to_array(value, name, errp);
}

bool
crumple_lists(json_t *root, GError **errp)
{
    return lists_in_members(root, errp);
}

json_t *
json_crumple(const json_t *json, GError **errp)
{
    json_t *root = json_object();

    if (merge(root, json, NULL, 1, errp) && crumple_lists(root, errp)) {
        return root;
    }
    json_decref(root);
    return NULL;
}
