/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics of a backend: a handful of additions a request.
 *
 * A latency bucket n counts the requests that took [2^n, 2^(n+1)) ns, so that
 * a histogram costs one count-leading-zeroes and needs no settings.
 */
#ifndef BLOCK_CORE_ACCT_H
#define BLOCK_CORE_ACCT_H

#include "core.h"
#include "util/loop.h"

static inline unsigned acct_bucket(int64_t ns)
{
    unsigned n = 63 - __builtin_clzll((uint64_t)(ns > 0 ? ns : 0) | 1);

    return n < ACCT_BUCKETS ? n : ACCT_BUCKETS - 1;
}

static inline void
acct_done(AcctStats *s, AcctType type, int64_t bytes, int64_t start_ns, int64_t end_ns, int r)
{
    int64_t ns = end_ns - start_ns;

    s->last_access_ns = end_ns;
    s->time_ns[type] += ns;
    s->latency[type][acct_bucket(ns)]++;
    if (unlikely(r < 0)) {
        s->failed[type]++;
    } else {
        s->ops[type]++;
        s->bytes[type] += bytes;
    }
}

#endif
