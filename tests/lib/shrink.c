/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shrink: make a failing recording shorter and its answers smaller.
 *
 * Greedy: a candidate that still fails replaces the best, as the answers it
 * really used. Three passes repeat until none of them helps: drop runs of
 * answers, zero runs of answers, halve single answers. Bounded in trials and
 * time, because a trial may be slow and any failing recording is of use.
 */
#include <glib.h>
#include <string.h>

#include "property.h"

#define MAX_TRIALS  3000
#define MAX_SECONDS 20

typedef struct Shrinker {
    const Property *property;
    Recording *shared;
    uint64_t *best, *candidate; /* room for the first failing recording */
    size_t n;                   /* of best */
    int trials_left;
    gint64 deadline_us;
} Shrinker;

static bool smaller(const Shrinker *s, const uint64_t *values, size_t n)
{
    if (n != s->n) {
        return n < s->n;
    }
    for (size_t i = 0; i < n; i++) {
        if (values[i] != s->best[i]) {
            return values[i] < s->best[i];
        }
    }
    return false;
}

/* Does candidate[0..n) fail, and as something smaller? Then it is the best. */
static bool attempt(Shrinker *s, size_t n)
{
    if (s->trials_left == 0 || g_get_monotonic_time() > s->deadline_us) {
        s->trials_left = 0;
        return false;
    }
    s->trials_left--;
    if (!property_fails(s->property, s->candidate, n, s->shared) ||
        !smaller(s, s->shared->values, s->shared->n)) {
        return false;
    }
    s->n = s->shared->n;
    memcpy(s->best, s->shared->values, s->n * sizeof(*s->best));
    return true;
}

static bool pass_drop(Shrinker *s, size_t run)
{
    bool helped = false;

    for (size_t end = s->n; end >= run; end = MIN(end - 1, s->n)) {
        size_t start = end - run;

        memcpy(s->candidate, s->best, start * sizeof(*s->best));
        memcpy(s->candidate + start, s->best + end, (s->n - end) * sizeof(*s->best));
        helped |= attempt(s, s->n - run);
        if (s->trials_left == 0) {
            break;
        }
    }
    return helped;
}

static bool pass_zero(Shrinker *s, size_t run)
{
    bool helped = false;

    for (size_t start = 0; start + run <= s->n && s->trials_left > 0; start += run) {
        memcpy(s->candidate, s->best, s->n * sizeof(*s->best));
        memset(s->candidate + start, 0, run * sizeof(*s->best));
        if (memcmp(s->candidate, s->best, s->n * sizeof(*s->best)) != 0) {
            helped |= attempt(s, s->n);
        }
    }
    return helped;
}

static bool pass_lower(Shrinker *s)
{
    bool helped = false;

    for (size_t i = 0; i < s->n && s->trials_left > 0; i++) {
        /* The smallest failing answer at i, if failing is monotonic in it. */
        for (uint64_t step = s->best[i]; step > 0 && i < s->n; step /= 2) {
            while (i < s->n && s->best[i] >= step) {
                memcpy(s->candidate, s->best, s->n * sizeof(*s->best));
                s->candidate[i] -= step;
                if (!attempt(s, s->n)) {
                    break;
                }
                helped = true;
            }
        }
    }
    return helped;
}

void property_shrink(const Property *p, uint64_t *values, size_t *n, Recording *shared)
{
    Shrinker s = {
        .property = p,
        .shared = shared,
        .best = values,
        .candidate = g_new(uint64_t, *n + 1),
        .n = *n,
        .trials_left = MAX_TRIALS,
        .deadline_us = g_get_monotonic_time() + MAX_SECONDS * G_USEC_PER_SEC,
    };
    bool helped = true;

    while (helped && s.trials_left > 0) {
        helped = false;
        for (size_t run = MAX(s.n / 2, 1); run > 0 && s.n > 0; run /= 2) {
            helped |= pass_drop(&s, MIN(run, s.n));
            helped |= pass_zero(&s, run);
        }
        helped |= pass_lower(&s);
    }
    while (s.n > 0 && values[s.n - 1] == 0) {
        s.n--; /* what a used-up recording answers anyway */
    }
    *n = s.n;
    g_free(s.candidate);
}
