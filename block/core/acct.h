/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics of a backend: a handful of additions a request, and one test for
 * what is only kept where a user has asked for it.
 */
#ifndef BLOCK_CORE_ACCT_H
#define BLOCK_CORE_ACCT_H

#include "core.h"
#include "util/loop.h"

/** acct_detail() - the part of acct_done() for s->detailed */
void acct_detail(AcctStats *s, AcctType type, int64_t ns, int64_t end_ns, bool timed);

/** acct_set_histogram() - begin to count; anew if it was. NULL: stop. Valid boundaries only */
void acct_set_histogram(AcctStats *s, AcctType type, const uint64_t *boundaries, size_t n);

/** acct_add_interval() - from now on tell about the last @length_s seconds too; not 0 */
void acct_add_interval(AcctStats *s, uint32_t length_s);

/** acct_interval_sum() - what happened in the last @i->length_s seconds
 * Return: how long that was, in ns; shorter for an interval that is young; not 0 */
int64_t acct_interval_sum(const AcctInterval *i, int64_t now_ns, AcctSum ret[ACCT__MAX]);

/** acct_new() - all counts at their beginning; one count of its own for the caller */
AcctStats *acct_new(void);
AcctStats *acct_ref(AcctStats *s);
void acct_unref(AcctStats *s);

static inline void
acct_done(AcctStats *s, AcctType type, int64_t bytes, int64_t start_ns, int64_t end_ns, int r)
{
    int64_t ns = end_ns - start_ns;
    bool timed = true;

    if (unlikely(r < 0)) {
        s->failed[type]++;
        timed = s->account_failed;
    } else {
        s->ops[type]++;
        s->bytes[type] += bytes;
    }
    if (likely(timed)) {
        s->last_access_ns = end_ns;
        s->time_ns[type] += ns;
    }
    if (unlikely(s->detailed)) {
        acct_detail(s, type, ns, end_ns, timed);
    }
}

static inline void acct_invalid(AcctStats *s, AcctType type)
{
    s->invalid[type]++;
    if (s->account_invalid) {
        s->last_access_ns = loop_now_ns();
    }
}

#endif
