/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics that a user has asked for: histograms of latencies, and what the
 * last seconds were like.
 *
 * An interval is cut into ACCT_SLOTS slots by the clock. A slot knows which
 * piece of time it holds and is emptied by the first request of another one, so
 * nothing has to happen when time passes without requests. A report adds up the
 * slot that is being filled and the full ones before it: it covers the interval
 * but for at most one slot.
 */
#include "acct.h"

#include <string.h>

#include "util/error.h"

static int64_t slot_ns(const AcctInterval *i)
{
    return i->length_s * NS_PER_S / ACCT_SLOTS;
}

/* --- histograms --- */

static AcctHistogram *histogram_new(const uint64_t *boundaries, size_t n)
{
    AcctHistogram *h = g_new0(AcctHistogram, 1);

    h->n = n;
    h->boundaries = g_new0(uint64_t, n + 1);
    for (size_t i = 0; i < n; i++) {
        h->boundaries[i] = boundaries[i];
    }
    h->bins = g_new0(uint64_t, n + 1);
    return h;
}

static void histogram_free(AcctHistogram *h)
{
    if (h) {
        g_free(h->boundaries);
        g_free(h->bins);
        g_free(h);
    }
}

/* Bin k holds what lies in [boundary k-1, boundary k). */
static void histogram_count(AcctHistogram *h, uint64_t ns)
{
    size_t low = 0, high = h->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (ns < h->boundaries[mid]) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    h->bins[low]++;
}

bool acct_boundaries_are_valid(const uint64_t *boundaries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (boundaries[i] <= (i ? boundaries[i - 1] : 0)) {
            return false;
        }
    }
    return n <= ACCT_BOUNDARIES_MAX;
}

static void update_detailed(AcctStats *s)
{
    s->detailed = s->n_intervals > 0;
    for (AcctType t = 0; t < ACCT__MAX; t++) {
        s->detailed |= s->histogram[t] != NULL;
    }
}

void acct_set_histogram(AcctStats *s, AcctType type, const uint64_t *boundaries, size_t n)
{
    assert(!boundaries || acct_boundaries_are_valid(boundaries, n));
    histogram_free(s->histogram[type]);
    s->histogram[type] = boundaries ? histogram_new(boundaries, n) : NULL;
    update_detailed(s);
}

/* --- intervals --- */

void acct_add_interval(AcctStats *s, uint32_t length_s)
{
    AcctInterval *i;

    assert(length_s > 0);
    s->intervals = g_renew(AcctInterval, s->intervals, s->n_intervals + 1);
    i = &s->intervals[s->n_intervals++];
    memset(i, 0, sizeof(*i));
    i->length_s = length_s;
    i->start_ns = loop_now_ns();
    update_detailed(s);
}

static AcctSlot *slot_at(AcctInterval *i, int64_t now_ns)
{
    int64_t number = now_ns / slot_ns(i);
    AcctSlot *slot = &i->slots[number % ACCT_SLOTS];

    if (slot->number != number) {
        memset(slot, 0, sizeof(*slot));
        slot->number = number;
    }
    return slot;
}

static void sum_add(AcctSum *sum, const AcctSum *more)
{
    if (more->count) {
        sum->min_ns = sum->count ? MIN(sum->min_ns, more->min_ns) : more->min_ns;
        sum->max_ns = MAX(sum->max_ns, more->max_ns);
        sum->total_ns += more->total_ns;
        sum->count += more->count;
    }
}

int64_t acct_interval_sum(const AcctInterval *i, int64_t now_ns, AcctSum ret[ACCT__MAX])
{
    int64_t number = now_ns / slot_ns(i), oldest = number - (ACCT_SLOTS - 1);
    int64_t since = MAX(oldest * slot_ns(i), i->start_ns);

    memset(ret, 0, sizeof(*ret) * ACCT__MAX);
    for (unsigned k = 0; k < ACCT_SLOTS; k++) {
        if (i->slots[k].number >= oldest) {
            for (AcctType t = 0; t < ACCT__MAX; t++) {
                sum_add(&ret[t], &i->slots[k].sum[t]);
            }
        }
    }
    return MAX(now_ns - since, 1);
}

/* --- a request --- */

void acct_detail(AcctStats *s, AcctType type, int64_t ns, int64_t end_ns, bool timed)
{
    const AcctSum one = {.count = 1, .min_ns = ns, .max_ns = ns, .total_ns = ns};

    if (s->histogram[type]) {
        histogram_count(s->histogram[type], (uint64_t)ns);
    }
    for (size_t k = 0; timed && k < s->n_intervals; k++) {
        sum_add(&slot_at(&s->intervals[k], end_ns)->sum[type], &one);
    }
}

/* --- life --- */

AcctStats *acct_new(void)
{
    AcctStats *s = g_new0(AcctStats, 1);

    s->refs = 1;
    s->account_failed = s->account_invalid = true;
    return s;
}

AcctStats *acct_ref(AcctStats *s)
{
    s->refs++;
    return s;
}

void acct_unref(AcctStats *s)
{
    if (--s->refs) {
        return;
    }
    for (AcctType t = 0; t < ACCT__MAX; t++) {
        histogram_free(s->histogram[t]);
    }
    g_free(s->intervals);
    g_free(s);
}
