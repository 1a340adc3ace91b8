/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options as -drive, json: names and --image-opts have them: dotted keys,
 * scalars as text, drivers left out, keys of old. This makes the form that the
 * schema describes of them; types are the walker's business.
 */
#include "core.h"

#include <string.h>

#include "util/error.h"

#define KEY_PARTS_MAX 64

static bool depth_within(const json_t *value, int max)
{
    const char *key;
    json_t *inner;

    if (max == 0) {
        return false;
    }
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        if (!depth_within(json_array_get(value, i), max - 1)) {
            return false;
        }
    }
    json_object_foreach((json_t *)value, key, inner)
    {
        if (!depth_within(inner, max - 1)) {
            return false;
        }
    }
    return true;
}

/* --- "a.b.c": v -> {"a": {"b": {"c": v}}} --- */

static json_t *nest(const json_t *value, GError **errp);

/* Put @value where the parts say, making objects on the way. */
static bool put(json_t *object, char **parts, const char *key, json_t *value, GError **errp)
{
    json_t *inner;

    if (!**parts) {
        return fail(errp, "Invalid parameter '%s'", key);
    }
    inner = json_object_get(object, parts[0]);
    if (!parts[1]) {
        if (inner) {
            return fail(errp, "Parameter '%s' is used both as a value and as an object", key);
        }
        json_object_set(object, parts[0], value);
        return true;
    }
    if (!inner) {
        inner = json_object();
        json_object_set_new(object, parts[0], inner);
    }
    if (!json_is_object(inner)) {
        return fail(errp, "Parameter '%s' is used both as a value and as an object", key);
    }
    return put(inner, parts + 1, key, value, errp);
}

/* {"0": a, "1": b} -> [a, b]; what has another key stays an object. Consumes @object. */
static json_t *to_array(json_t *object, GError **errp)
{
    size_t n = json_object_size(object), numeric = 0;
    json_t *array, *value;
    const char *key;

    json_object_foreach(object, key, value)
    {
        numeric += g_ascii_isdigit(key[0]) ? 1 : 0;
    }
    if (n == 0 || numeric == 0) {
        return object;
    }
    array = json_array();
    for (size_t i = 0; i < n && array; i++) {
        g_autofree char *index = g_strdup_printf("%zu", i);

        value = json_object_get(object, index);
        if (!value) {
            fail(errp, "Parameter '%s' is missing: array indexes have no gaps", index);
            json_decref(array);
            array = NULL;
        } else {
            json_array_append(array, value);
        }
    }
    json_decref(object);
    return array;
}

/* After all keys have been put, objects with numbers as keys become arrays, from the inside. */
static json_t *arrays_of(json_t *value, GError **errp)
{
    json_t *result, *inner;
    const char *key;

    if (!json_is_object(value)) {
        return json_incref(value);
    }
    result = json_object();
    json_object_foreach(value, key, inner)
    {
        json_t *converted = arrays_of(inner, errp);

        if (!converted) {
            json_decref(result);
            return NULL;
        }
        json_object_set_new(result, key, converted);
    }
    return to_array(result, errp);
}

static json_t *nest_array(const json_t *array, GError **errp)
{
    json_t *result = json_array();

    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *inner = nest(json_array_get(array, i), errp);

        if (!inner) {
            json_decref(result);
            return NULL;
        }
        json_array_append_new(result, inner);
    }
    return result;
}

/* The members of an object of @into may themselves have come in dotted; merge them. */
static bool nest_into(json_t *into, const char *key, json_t *value, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    json_t *inner;
    const char *name;

    if (!parts[0] || g_strv_length(parts) > KEY_PARTS_MAX) {
        return fail(errp, "Invalid parameter '%s'", key);
    }
    if (!json_is_object(value) || json_object_size(value) == 0) {
        return put(into, parts, key, value, errp);
    }
    json_object_foreach(value, name, inner)
    {
        g_autofree char *longer = g_strdup_printf("%s.%s", key, name);

        if (!nest_into(into, longer, inner, errp)) {
            return false;
        }
    }
    return true;
}

static json_t *nest(const json_t *value, GError **errp)
{
    json_t *result, *inner, *arrays;
    const char *key;

    if (json_is_array(value)) {
        return nest_array(value, errp);
    }
    if (!json_is_object(value)) {
        return json_incref((json_t *)value);
    }
    result = json_object();
    json_object_foreach((json_t *)value, key, inner)
    {
        json_t *nested = json_is_array(inner) ? nest_array(inner, errp) : json_incref(inner);
        bool ok = nested && nest_into(result, key, nested, errp);

        json_decref(nested);
        if (!ok) {
            json_decref(result);
            return NULL;
        }
    }
    arrays = arrays_of(result, errp);
    json_decref(result);
    return arrays;
}

/* --- old keys of nbd: host, port, path --- */

static json_t *nbd_server(const json_t *host, const json_t *port, const json_t *path)
{
    if (path) {
        return json_pack("{s:s, s:O}", "type", "unix", "path", path);
    }
    return json_pack("{s:s, s:O, s:o}", "type", "inet", "host", host, "port",
                     port ? json_incref((json_t *)port) : json_string("10809"));
}

static bool modern_nbd(json_t *o, GError **errp)
{
    json_t *host = json_object_get(o, "host"), *path = json_object_get(o, "path");
    json_t *port = json_object_get(o, "port");

    if (!host && !path && !port) {
        return true;
    }
    if (json_object_get(o, "server")) {
        return fail(errp, "'server' and 'host'/'port'/'path' cannot be used at the same time");
    }
    if (host && path) {
        return fail(errp, "path and host may not be used at the same time");
    }
    if (!host && !path) {
        return fail(errp, "port may not be used without host");
    }
    if (path && port) {
        return fail(errp, "port may not be used without host");
    }
    json_object_set_new(o, "server", nbd_server(host, port, path));
    json_object_del(o, "host");
    json_object_del(o, "port");
    json_object_del(o, "path");
    return true;
}

/* --- drivers left out --- */

/* {"filename": "nbd://..."} without a driver: the name tells it. */
static bool coroutine_fn take_filename_apart(json_t *o, GError **errp)
{
    json_t *parsed;

    parsed = filename_co_parse(json_string_value(json_object_get(o, "filename")), NULL, errp);
    if (!parsed) {
        return false;
    }
    json_object_del(o, "filename");
    json_object_update_missing(o, parsed);
    json_decref(parsed);
    return true;
}

static bool is_child_key(const char *key)
{
    static const char *const keys[] = {"file",      "backing", "image", "target",
                                       "data-file", "test",    "raw",   "log"};

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool coroutine_fn fix_node(json_t *o, const char *path, GError **errp);

static bool coroutine_fn fix_child(json_t *child, const char *path, GError **errp)
{
    if (!json_is_object(child)) {
        return true; /* a reference, or an error that the walker will name */
    }
    if (!json_object_get(child, "driver")) {
        if (!json_is_string(json_object_get(child, "filename"))) {
            return fail(errp, "Parameter '%s.driver' is missing", path);
        }
        if (!take_filename_apart(child, errp)) {
            return false;
        }
    }
    return fix_node(child, path, errp);
}

static bool coroutine_fn fix_array(json_t *array, const char *path, GError **errp)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        g_autofree char *at = g_strdup_printf("%s.%zu", path, i);

        if (!fix_child(json_array_get(array, i), at, errp)) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn fix_node(json_t *o, const char *path, GError **errp)
{
    const char *driver = json_string_value(json_object_get(o, "driver"));
    const char *key;
    json_t *value;

    if (driver && strcmp(driver, "nbd") == 0 && !modern_nbd(o, errp)) {
        return false;
    }
    json_object_foreach(o, key, value)
    {
        g_autofree char *at = *path ? g_strdup_printf("%s.%s", path, key) : g_strdup(key);

        if (is_child_key(key) && !fix_child(value, at, errp)) {
            return false;
        }
        if (strcmp(key, "children") == 0 && !fix_array(value, at, errp)) {
            return false;
        }
    }
    return true;
}

/* A format's "filename" is that of its file. */
static bool move_filename_down(json_t *o, GError **errp)
{
    const char *name = json_string_value(json_object_get(o, "driver"));
    const BlockDriver *drv = name ? driver_find(name) : NULL;
    json_t *filename = json_object_get(o, "filename");

    if (!filename || (drv && drv->is_protocol) || (name && !drv)) {
        return true;
    }
    if (json_object_get(o, "file")) {
        return fail(errp, "Cannot specify both 'file' and 'filename'");
    }
    json_object_set_new(o, "file", json_pack("{s:O}", "filename", filename));
    json_object_del(o, "filename");
    return true;
}

json_t *coroutine_fn untyped_co_normalise(const json_t *opts, GError **errp)
{
    json_t *o;

    if (!json_is_object(opts) || !depth_within(opts, KEY_PARTS_MAX)) {
        return fail(errp, "Block options must be an object of at most %d levels", KEY_PARTS_MAX),
               NULL;
    }
    o = nest(opts, errp);
    if (o && (!move_filename_down(o, errp) || !fix_node(o, "", errp))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* --- what users of such options read when they are wrong --- */

/* The object that the part of @path before its last '.' leads to. */
static const json_t *owner_of(const json_t *o, const char *path, const char **ret_key)
{
    g_auto(GStrv) parts = g_strsplit(path, ".", -1);

    for (char **p = parts; *p && p[1] && o; p++) {
        o = json_is_array(o) ? json_array_get(o, (size_t)g_ascii_strtoull(*p, NULL, 10))
                             : json_object_get(o, *p);
        path += strlen(*p) + 1;
    }
    *ret_key = path;
    return o;
}

static char *words_for_unknown(const json_t *o, const char *path)
{
    const char *key, *name = json_string_value(json_object_get(owner_of(o, path, &key), "driver"));
    const BlockDriver *drv = name ? driver_find(name) : NULL;

    if (!drv) {
        return NULL;
    }
    return drv->is_protocol
               ? g_strdup_printf("Block protocol '%s' doesn't support the option '%s'", name, key)
               : g_strdup_printf("Block format '%s' does not support the option '%s'", name, key);
}

static char *words_for_value(const char *path, const char *value)
{
    const char *dot = strrchr(path, '.'), *key = dot ? dot + 1 : path;

    if (strcmp(key, "driver") == 0) {
        return g_strdup_printf("Unknown driver '%s'", value);
    }
    if (strcmp(key, "discard") == 0) {
        return g_strdup("Invalid discard option");
    }
    if (strcmp(key, "detect-zeroes") == 0) {
        return g_strdup_printf("invalid parameter value: %s", value);
    }
    return NULL;
}

/* "Parameter 'PATH' REST": the three ways in which options do not fit the schema. */
void untyped_reword(const json_t *o, GError *err)
{
    g_auto(GStrv) parts = g_strsplit(err->message, "'", -1);
    char *text = NULL;

    if (g_strv_length(parts) < 3 || strcmp(parts[0], "Parameter ") != 0) {
        return;
    }
    if (strcmp(parts[2], " is unexpected") == 0) {
        text = words_for_unknown(o, parts[1]);
    } else if (strcmp(parts[2], " is missing") == 0 && strcmp(parts[1], "file") == 0) {
        text = g_strdup("A block device must be specified for \"file\"");
    } else if (strcmp(parts[2], " does not accept value ") == 0 && parts[3]) {
        text = words_for_value(parts[1], parts[3]);
    }
    if (text) {
        g_free(err->message);
        err->message = text;
    }
}
