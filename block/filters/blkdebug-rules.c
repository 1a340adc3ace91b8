/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules of blkdebug: see blkdebug-rules.h. */
#include "blkdebug-rules.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512
#define ALL_BUT_STATUS                                                                             \
    (((1u << BLKDEBUG_IO_TYPE__MAX) - 1) & ~(1u << BLKDEBUG_IO_TYPE_BLOCK_STATUS))

void rule_free(Rule *r)
{
    g_free(r->tag);
    g_free(r);
}

static void rule_free_any(void *r)
{
    rule_free(r);
}

GPtrArray *rules_new(void)
{
    return g_ptr_array_new_with_free_func(rule_free_any);
}

static Rule *rule_add(GPtrArray *rules, RuleKind kind, BlkdebugEvent event)
{
    Rule *r = g_new0(Rule, 1);

    *r = (Rule){.kind = kind, .event = event, .offset = -1, .error = EIO};
    r->iotypes = ALL_BUT_STATUS;
    r->armed = kind == RULE_INJECT_ERROR && event == BLKDEBUG_EVENT_NONE;
    g_ptr_array_add(rules, r);
    return r;
}

void rules_add_break(GPtrArray *rules, BlkdebugEvent event, const char *tag)
{
    rule_add(rules, RULE_BREAK, event)->tag = g_strdup(tag);
}

/* --- from options --- */

static bool set_sector(Rule *r, int64_t sector, GError **errp)
{
    if (sector < -1 || sector > INT64_MAX / SECTOR) {
        return fail(errp, "sector is %lld, want -1 to %lld", (long long)sector,
                    (long long)(INT64_MAX / SECTOR));
    }
    r->offset = sector < 0 ? -1 : sector * SECTOR;
    return true;
}

static bool add_inject_error(GPtrArray *rules, const BlkdebugInjectErrorOptions *o, GError **errp)
{
    Rule *r = rule_add(rules, RULE_INJECT_ERROR, o->event);

    r->state = o->has_state ? o->state : 0;
    r->iotypes = o->has_iotype ? 1u << o->iotype : ALL_BUT_STATUS;
    r->error = o->has_errno ? (int)o->q_errno : EIO;
    r->once = o->has_once && o->once;
    r->immediately = o->has_immediately && o->immediately;
    return !o->has_sector || set_sector(r, o->sector, errp);
}

bool rules_add_options(GPtrArray *rules, const BlockdevOptionsBlkdebug *o, GError **errp)
{
    for (size_t i = 0; i < o->n_inject_error; i++) {
        if (!add_inject_error(rules, o->inject_error[i], errp)) {
            return false;
        }
    }
    for (size_t i = 0; i < o->n_set_state; i++) {
        Rule *r = rule_add(rules, RULE_SET_STATE, o->set_state[i]->event);

        r->state = o->set_state[i]->has_state ? o->set_state[i]->state : 0;
        r->new_state = o->set_state[i]->new_state;
    }
    return true;
}

/* --- from a config file --- */

static bool parse_number(const char *value, int64_t *ret, GError **errp)
{
    return g_ascii_string_to_signed(value, 10, INT64_MIN, INT64_MAX, ret, NULL) ||
           fail(errp, "'%s' is not a number", value);
}

static bool parse_errno(const char *value, int *ret, GError **errp)
{
    int64_t n;

    if (!parse_number(value, &n, errp)) {
        return false;
    }
    if (n < 1 || n > 4095) {
        return fail(errp, "errno is %lld, want 1 to 4095", (long long)n);
    }
    *ret = (int)n;
    return true;
}

static bool parse_bool(const char *value, bool *ret, GError **errp)
{
    *ret = strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0;
    return *ret || strcmp(value, "off") == 0 || strcmp(value, "no") == 0 ||
           strcmp(value, "false") == 0 || fail(errp, "'%s' is neither on nor off", value);
}

static bool parse_event(const char *value, Rule *r, GError **errp)
{
    if (!blkdebug_event_parse(value, &r->event)) {
        return fail(errp, "Invalid event name \"%s\"", value);
    }
    r->armed = r->kind == RULE_INJECT_ERROR && r->event == BLKDEBUG_EVENT_NONE;
    return true;
}

static bool set_key(Rule *r, const char *key, const char *value, GError **errp)
{
    BlkdebugIOType iotype;
    int64_t sector;

    if (strcmp(key, "event") == 0) {
        return parse_event(value, r, errp);
    }
    if (strcmp(key, "state") == 0) {
        return parse_number(value, &r->state, errp);
    }
    if (r->kind == RULE_SET_STATE) {
        return strcmp(key, "new_state") == 0 ? parse_number(value, &r->new_state, errp)
                                             : fail(errp, "Invalid parameter '%s'", key);
    }
    if (strcmp(key, "errno") == 0) {
        return parse_errno(value, &r->error, errp);
    }
    if (strcmp(key, "sector") == 0) {
        return parse_number(value, &sector, errp) && set_sector(r, sector, errp);
    }
    if (strcmp(key, "once") == 0) {
        return parse_bool(value, &r->once, errp);
    }
    if (strcmp(key, "immediately") == 0) {
        return parse_bool(value, &r->immediately, errp);
    }
    if (strcmp(key, "iotype") == 0 && blkdebug_io_type_parse(value, &iotype)) {
        r->iotypes = 1u << iotype;
        return true;
    }
    return fail(errp, "Invalid parameter '%s'", key);
}

static Rule *start_section(GPtrArray *rules, const char *line, GError **errp)
{
    if (strcmp(line, "[inject-error]") == 0) {
        return rule_add(rules, RULE_INJECT_ERROR, BLKDEBUG_EVENT__MAX);
    }
    if (strcmp(line, "[set-state]") == 0) {
        return rule_add(rules, RULE_SET_STATE, BLKDEBUG_EVENT__MAX);
    }
    return fail(errp, "unknown section %s", line), NULL;
}

/* `key = "value"`, in place. */
static bool parse_line(char *line, Rule *r, GError **errp)
{
    char *eq = strchr(line, '=');
    char *value;
    size_t n;

    if (!r || !eq) {
        return fail(errp, "parse error");
    }
    *eq = '\0';
    value = g_strstrip(eq + 1);
    n = strlen(value);
    if (n < 2 || value[0] != '"' || value[n - 1] != '"') {
        return fail(errp, "parse error: the value is not in double quotes");
    }
    value[n - 1] = '\0';
    return set_key(r, g_strstrip(line), value + 1, errp);
}

static bool check_events(const GPtrArray *rules, GError **errp)
{
    for (size_t i = 0; i < rules->len; i++) {
        if (((const Rule *)rules->pdata[i])->event == BLKDEBUG_EVENT__MAX) {
            return fail(errp, "Missing event name for rule");
        }
    }
    return true;
}

bool rules_add_config(GPtrArray *rules, const char *text, const char *filename, GError **errp)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    Rule *r = NULL;

    for (size_t i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);
        bool ok = true;

        if (line[0] == '[') {
            r = start_section(rules, line, errp);
            ok = r != NULL;
        } else if (line[0] != '\0' && line[0] != '#') {
            ok = parse_line(line, r, errp);
        }
        if (!ok) {
            g_prefix_error(errp, "%s:%zu: ", filename, i + 1);
            return false;
        }
    }
    return check_events(rules, errp);
}

/* --- what happens --- */

static bool is_in_state(const Rule *r, int64_t state)
{
    return r->state == 0 || r->state == state;
}

/* An event that arms rules disarms those of other events. */
static void disarm_others(GPtrArray *rules, BlkdebugEvent event)
{
    for (size_t i = 0; i < rules->len; i++) {
        Rule *r = rules->pdata[i];

        r->armed = r->armed && (r->event == event || r->event == BLKDEBUG_EVENT_NONE);
    }
}

Rule *rules_event(GPtrArray *rules, BlkdebugEvent event, int64_t *state)
{
    int64_t old = *state;
    bool arms = false;
    guint hit = G_MAXUINT;

    for (guint i = 0; i < rules->len; i++) {
        Rule *r = rules->pdata[i];

        if (r->event != event || !is_in_state(r, old)) {
            continue;
        }
        if (r->kind == RULE_INJECT_ERROR) {
            r->armed = arms = true;
        } else if (r->kind == RULE_SET_STATE) {
            *state = r->new_state;
        } else if (hit == G_MAXUINT) {
            hit = i;
        }
    }
    if (arms) {
        disarm_others(rules, event);
    }
    return hit == G_MAXUINT ? NULL : g_ptr_array_steal_index(rules, hit);
}

static bool fits(const Rule *r, int64_t state, BlkdebugIOType iotype, int64_t offset, int64_t bytes)
{
    return r->kind == RULE_INJECT_ERROR && r->armed && (r->iotypes & (1u << iotype)) &&
           (r->event != BLKDEBUG_EVENT_NONE || is_in_state(r, state)) &&
           (r->offset < 0 || (bytes > 0 && r->offset >= offset && r->offset < offset + bytes));
}

int rules_match(GPtrArray *rules, int64_t state, BlkdebugIOType iotype, int64_t offset,
                int64_t bytes, bool *ret_immediately)
{
    for (guint i = 0; i < rules->len; i++) {
        const Rule *r = rules->pdata[i];

        if (fits(r, state, iotype, offset, bytes)) {
            int error = -r->error;

            *ret_immediately = r->immediately;
            if (r->once) {
                g_ptr_array_remove_index(rules, i);
            }
            return error;
        }
    }
    return 0;
}
