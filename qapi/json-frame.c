/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cutting a stream into JSON documents.
 *
 * The framer knows strings, brackets and nothing else; the JSON library
 * decides whether a document is one. What it collects is strict JSON already:
 * single quotes are rewritten on the way. Limits hold before the library sees a
 * byte, so that its recursion and its memory are bounded.
 */
#include "qapi/json.h"

#include <string.h>

#include "util/error.h"

typedef enum State {
    BETWEEN, /* nothing collected */
    INSIDE,  /* within brackets */
    STRING,
    ESCAPE, /* behind a backslash in a string */
    WORD,   /* a number or word outside of brackets */
} State;

struct JsonFramer {
    State state;
    char quote;      /* of the string: ' or " */
    bool skipping;   /* its error is reported; only the end is looked for */
    uint64_t braces, brackets;
    uint64_t tokens; /* of this document */
    GString *doc;
};

JsonFramer *
json_framer_new(void)
{
    JsonFramer *f = g_new0(JsonFramer, 1);

    f->doc = g_string_new(NULL);
    return f;
}

void
json_framer_free(JsonFramer *f)
{
    if (f) {
        g_string_free(f->doc, TRUE);
        g_free(f);
    }
}

static void
start_over(JsonFramer *f)
{
    f->state = BETWEEN;
    f->skipping = false;
    f->braces = f->brackets = 0;
    f->tokens = 0;
    if (f->doc->allocated_len > 64 * KiB) { /* do not keep what one big document took */
        g_string_free(f->doc, TRUE);
        f->doc = g_string_new(NULL);
    }
    g_string_truncate(f->doc, 0);
}

/* The document is over; NULL and no error if it was only skipped. */
static JsonFrame
finish(JsonFramer *f, json_t **ret, GError **errp)
{
    json_error_t err;
    json_t *json = NULL;
    bool skipped = f->skipping;

    if (!skipped) {
        json = json_loadb(f->doc->str, f->doc->len,
                          JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &err);
    }
    start_over(f);
    if (skipped) {
        return JSON_FRAME_MORE;
    }
    if (!json) {
        fail(errp, "JSON parse error, %s", err.text);
        return JSON_FRAME_ERROR;
    }
    *ret = json;
    return JSON_FRAME_VALUE;
}

/* Give up on the document but look for its end. */
static JsonFrame
skip_rest(JsonFramer *f, GError **errp, const char *why)
{
    f->skipping = true;
    g_string_truncate(f->doc, 0);
    fail(errp, "JSON parse error, %s", why);
    return JSON_FRAME_ERROR;
}

/* Give up on the document and what was to come of it. */
static JsonFrame
abandon(JsonFramer *f, unsigned char c, GError **errp)
{
    bool reported = f->skipping;
    bool in_string = f->state == STRING || f->state == ESCAPE;

    start_over(f);
    if (reported) {
        return JSON_FRAME_MORE;
    }
    fail(errp, "JSON parse error, stray '\\x%02x'%s", c, in_string ? " in a string" : "");
    return JSON_FRAME_ERROR;
}

static void
collect(JsonFramer *f, char c)
{
    if (!f->skipping) {
        g_string_append_c(f->doc, c);
    }
}

/* A byte that no document has, outside of strings or inside. */
static bool
is_reset(const JsonFramer *f, unsigned char c)
{
    bool in_string = f->state == STRING || f->state == ESCAPE;
    bool is_blank = c == '\t' || c == '\r' || c == '\n';

    return c == 0xff || (c < 0x20 && (in_string || !is_blank));
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Ends a word without being part of it. */
static bool
ends_word(char c)
{
    return is_blank(c) || strchr("{}[],:\"'", c);
}

/* After a string or bracket: is the document complete? */
static bool
is_complete(const JsonFramer *f)
{
    return f->braces == 0 && f->brackets == 0;
}

static void
begin_string(JsonFramer *f, char quote)
{
    f->state = STRING;
    f->quote = quote;
    collect(f, '"');
}

/* Within a string; true if it ended the document. */
static bool
in_string(JsonFramer *f, char c)
{
    if (f->state == ESCAPE) {
        if (c != '\'') { /* not JSON's */
            collect(f, '\\');
        }
        collect(f, c);
        f->state = STRING;
    } else if (c == '\\') {
        f->state = ESCAPE;
    } else if (c == f->quote) {
        collect(f, '"');
        f->state = INSIDE;
        return is_complete(f);
    } else {
        if (c == '"') {
            collect(f, '\\');
        }
        collect(f, c);
    }
    return false;
}

/* A closing bracket; true if it ended the document, for good or bad. */
static bool
close_bracket(JsonFramer *f, uint64_t *open)
{
    if (*open == 0) {
        f->braces = f->brackets = 0; /* the library says what is wrong */
        return true;
    }
    --*open;
    return is_complete(f);
}

/* Within brackets, or at the first byte of a document; true if it ended it. */
static bool
structural(JsonFramer *f, char c)
{
    bool outside = f->state == BETWEEN;

    if (c == '\'' || c == '"') {
        begin_string(f, c);
        return false;
    }
    f->state = INSIDE;
    collect(f, c);
    f->tokens += strchr("{}[],:", c) != NULL;
    switch (c) {
    case '{':
        f->braces++;
        return false;
    case '[':
        f->brackets++;
        return false;
    case '}':
        return close_bracket(f, &f->braces);
    case ']':
        return close_bracket(f, &f->brackets);
    default:
        return outside && (c == ',' || c == ':');
    }
}

/* NULL, or which limit the document breaks. */
static const char *
broken_limit(const JsonFramer *f)
{
    if (f->skipping) {
        return NULL;
    }
    if (f->doc->len > JSON_MAX_BYTES) {
        return "document is too large";
    }
    if (f->tokens > JSON_MAX_TOKENS) {
        return "document has too many values";
    }
    if (f->braces + f->brackets > JSON_MAX_DEPTH) {
        return "nesting is too deep";
    }
    return NULL;
}

/* One byte; *ret_used is false if it begins something new. */
static JsonFrame
step(JsonFramer *f, char c, bool *ret_used, json_t **ret, GError **errp)
{
    const char *limit;
    bool done = false;

    *ret_used = true;
    if (f->state == WORD && (ends_word(c) || is_reset(f, (unsigned char)c))) {
        *ret_used = false;
        return finish(f, ret, errp);
    }
    if (is_reset(f, (unsigned char)c)) {
        return abandon(f, (unsigned char)c, errp);
    }
    if (f->state == STRING || f->state == ESCAPE) {
        done = in_string(f, c);
    } else if (f->state == BETWEEN && is_blank(c)) {
        return JSON_FRAME_MORE;
    } else if (f->state == WORD || (f->state == BETWEEN && !ends_word(c))) {
        f->state = WORD;
        collect(f, c);
    } else {
        done = structural(f, c);
    }
    limit = broken_limit(f);
    if (limit) {
        return skip_rest(f, errp, limit);
    }
    return done ? finish(f, ret, errp) : JSON_FRAME_MORE;
}

JsonFrame
json_framer_next(JsonFramer *f, const char **buf, size_t *n, json_t **ret, GError **errp)
{
    while (*n) {
        bool used;
        JsonFrame frame = step(f, **buf, &used, ret, errp);

        *buf += used;
        *n -= used;
        if (frame != JSON_FRAME_MORE) {
            return frame;
        }
    }
    return JSON_FRAME_MORE;
}

JsonFrame
json_framer_end(JsonFramer *f, json_t **ret, GError **errp)
{
    bool reported = f->skipping;

    if (f->state == BETWEEN) {
        return JSON_FRAME_MORE;
    }
    if (f->state == WORD) {
        return finish(f, ret, errp);
    }
    start_over(f);
    if (reported) {
        return JSON_FRAME_MORE;
    }
    fail(errp, "JSON parse error, premature end of input");
    return JSON_FRAME_ERROR;
}

json_t *
json_parse(const char *text, GError **errp)
{
    g_autoptr(JsonFramer) f = json_framer_new();
    size_t n = strlen(text);
    json_t *json = NULL, *more = NULL;
    JsonFrame frame = json_framer_next(f, &text, &n, &json, errp);

    if (frame == JSON_FRAME_MORE) {
        frame = json_framer_end(f, &json, errp);
    }
    if (frame == JSON_FRAME_MORE) {
        fail(errp, "JSON parse error, expecting value");
    }
    if (frame != JSON_FRAME_VALUE) {
        return NULL;
    }
    if (json_framer_next(f, &text, &n, &more, NULL) == JSON_FRAME_MORE &&
        json_framer_end(f, &more, NULL) == JSON_FRAME_MORE) {
        return json;
    }
    json_decref(more);
    json_decref(json);
    fail(errp, "JSON parse error, expecting end of input");
    return NULL;
}
