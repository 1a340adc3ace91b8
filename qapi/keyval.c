/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two option syntaxes of the command line.
 *
 * An item is cut off first, then its key is checked, then it is put in place;
 * keyval nests at once, the older syntax stays flat.
 */
#include "qapi/keyval.h"

#include <string.h>

#include "crumple.h"
#include "qapi/json.h"
#include "util/error.h"

#define FRAGMENT_MAX 127

static bool
is_help(const char *text, size_t len)
{
    return (len == 4 && memcmp(text, "help", 4) == 0) || (len == 1 && *text == '?');
}

/* A value up to a single comma or the end; *text is then behind the comma. */
static char *
take_value(const char **text)
{
    GString *value = g_string_new(NULL);
    const char *p = *text;

    for (; *p; p++) {
        if (*p == ',') {
            if (p[1] != ',') {
                p++;
                break;
            }
            p++;
        }
        g_string_append_c(value, *p);
    }
    *text = p;
    return g_string_free(value, FALSE);
}

/* A member of the schema: a letter, then letters, digits, '-', '_'; "__" may come first. */
static bool
is_name(const char *text, size_t len)
{
    size_t i = len > 2 && text[0] == '_' && text[1] == '_' ? 2 : 0;

    if (i >= len || !g_ascii_isalpha(text[i])) {
        return false;
    }
    while (i < len && (g_ascii_isalnum(text[i]) || text[i] == '-' || text[i] == '_')) {
        i++;
    }
    return i == len;
}

static bool
is_number(const char *text, size_t len)
{
    return len && strspn(text, "0123456789") >= len;
}

/* Names and, but not first, numbers, with dots between. */
static bool
check_key(const char *key, GError **errp)
{
    const char *p = key;

    for (;;) {
        size_t len = strcspn(p, ".");

        if (!is_name(p, len) && (p == key || !is_number(p, len))) {
            return fail(errp, "Invalid parameter '%s'", key);
        }
        if (len > FRAGMENT_MAX) {
            return fail(errp, "Parameter '%.*s' is too long", FRAGMENT_MAX, p);
        }
        if (!p[len]) {
            return true;
        }
        p += len + 1;
    }
}

/* "key=value," or "value," or "help,", from *text on. */
static bool
keyval_item(json_t *root, const char **text, const char *implied_key, bool *ret_help,
            GError **errp)
{
    size_t len = strcspn(*text, "=,");
    g_autofree char *key = g_strndup(*text, len);
    g_autofree char *value = NULL;

    if ((*text)[len] == '=') {
        *text += len + 1;
    } else if (ret_help && is_help(*text, len)) {
        *ret_help = true;
        *text += len + ((*text)[len] == ',');
        return true;
    } else if (len && implied_key) {
        g_free(key);
        key = g_strdup(implied_key);
    } else if (len) {
        return fail(errp, "Expected '=' after parameter '%s'", key);
    }
    value = take_value(text);
    return check_key(key, errp) &&
           crumple_put(root, key, json_stringn_nocheck(value, strlen(value)), errp);
}

json_t *
keyval_parse(const char *text, const char *implied_key, bool *ret_help, GError **errp)
{
    json_t *root = json_object();
    bool help = false;

    if (!g_utf8_validate(text, -1, NULL)) {
        fail(errp, "Parameters are not valid UTF-8");
        goto bad;
    }
    while (*text) {
        if (!keyval_item(root, &text, implied_key, ret_help ? &help : NULL, errp)) {
            goto bad;
        }
        implied_key = NULL;
    }
    if (!crumple_lists(root, errp)) {
        goto bad;
    }
    if (ret_help) {
        *ret_help = help;
    }
    return root;

bad:
    json_decref(root);
    return NULL;
}

json_t *
keyval_or_json_parse(const char *text, const char *implied_key, QapiMode *ret_mode,
                     bool *ret_help, GError **errp)
{
    json_t *json;

    if (text[0] != '{') {
        *ret_mode = QAPI_TEXT;
        return keyval_parse(text, implied_key, ret_help, errp);
    }
    json = json_parse(text, errp);
    if (!json) {
        return NULL;
    }
    if (ret_help) {
        *ret_help = false;
    }
    *ret_mode = QAPI_STRICT;
    return json;
}

/* A bare "key" or "nokey" as key and value. */
static const char *
bare_option(char **key)
{
    /* "nodelay" is a name of its own, not the opposite of "delay". */
    if (g_str_has_prefix(*key, "no") && (*key)[2] && strcmp(*key, "nodelay") != 0) {
        char *rest = g_strdup(*key + 2);
        g_free(*key);
        *key = rest;
        return "off";
    }
    return "on";
}

static bool
opts_item(json_t *flat, const char **text, const char *implied_key, bool *ret_help, GError **errp)
{
    size_t len = strcspn(*text, "=,");
    g_autofree char *key = g_strndup(*text, len);
    g_autofree char *value = NULL;

    if ((*text)[len] == '=') {
        *text += len + 1;
        value = take_value(text);
    } else if (ret_help && is_help(*text, len)) {
        *ret_help = true;
        *text += len + ((*text)[len] == ',');
        return true;
    } else if (implied_key) {
        g_free(key);
        key = g_strdup(implied_key);
        value = take_value(text);
    } else {
        *text += len + ((*text)[len] == ',');
        value = g_strdup(bare_option(&key));
    }
    if (!*key) {
        return fail(errp, "Invalid parameter ''");
    }
    json_object_set_new(flat, key, json_string(value));
    return true;
}

json_t *
qemu_opts_parse(const char *text, const char *implied_key, bool *ret_help, GError **errp)
{
    json_t *flat = json_object();
    bool help = false;

    if (!g_utf8_validate(text, -1, NULL)) {
        fail(errp, "Parameters are not valid UTF-8");
        json_decref(flat);
        return NULL;
    }
    while (*text) {
        if (!opts_item(flat, &text, implied_key, ret_help ? &help : NULL, errp)) {
            json_decref(flat);
            return NULL;
        }
        implied_key = NULL;
    }
    if (ret_help) {
        *ret_help = help;
    }
    return flat;
}
