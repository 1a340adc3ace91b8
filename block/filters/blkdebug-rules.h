/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of a blkdebug node: which requests fail, when, and how.
 *
 * A rule waits for its event, in its state. An inject-error rule is then armed
 * and fails the requests it fits until an event arms others; the event `none`
 * is with every request. A set-state rule changes the state after all rules of
 * the event have been looked at, so the rules of one event see one state.
 */
#ifndef BLOCK_FILTERS_BLKDEBUG_RULES_H
#define BLOCK_FILTERS_BLKDEBUG_RULES_H

#include <glib.h>

#include "qapi/types.h"
#include "util/error.h"

typedef enum RuleKind {
    RULE_INJECT_ERROR,
    RULE_SET_STATE,
    RULE_BREAK,
} RuleKind;

typedef struct Rule {
    RuleKind kind;
    BlkdebugEvent event;
    int64_t state;     /* 0: any */
    int64_t new_state; /* RULE_SET_STATE */
    unsigned iotypes;  /* RULE_INJECT_ERROR: bit per BlkdebugIOType */
    int64_t offset;    /* -1: any */
    int error;         /* positive errno */
    bool once, immediately;
    bool armed;
    char *tag; /* RULE_BREAK */
} Rule;

void rule_free(Rule *r);

/* of Rule, owned */
GPtrArray *rules_new(void);
/** rules_add_options() - from the typed options; false and @errp where they make no sense */
bool rules_add_options(GPtrArray *rules, const BlockdevOptionsBlkdebug *o, GError **errp);
/** rules_add_config() - from the text of a config file named @filename */
bool rules_add_config(GPtrArray *rules, const char *text, const char *filename, GError **errp);
void rules_add_break(GPtrArray *rules, BlkdebugEvent event, const char *tag);

/** rules_event() - arm, change *@state; returns the break rule that is hit, taken out, or NULL */
Rule *rules_event(GPtrArray *rules, BlkdebugEvent event, int64_t *state);

/** rules_match() - does a request fail? A rule with @once is gone then.
 * Return: the negative errno, and whether to fail without yielding; 0 if not. */
int rules_match(GPtrArray *rules, int64_t state, BlkdebugIOType iotype, int64_t offset,
                int64_t bytes, bool *ret_immediately);

#endif
