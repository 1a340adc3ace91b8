/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host clusters: finding free ones, and letting go of them safely.
 *
 * Allocating raises counts in memory at once. Freeing goes in stages: the
 * range waits in q->freed until a commit has made the removal of its last
 * reference durable (R7), then in quarantine until every request that may
 * still use it has ended, and only then is its count lowered, which is what
 * lets it be found again (R8).
 */
#include "qcow2.h"

#include "util/fault.h"

/* --- finding --- */

typedef struct Search {
    uint64_t want;
    bool exact;
    uint64_t start, n; /* the run of free clusters that ends at the cursor */
} Search;

static bool search_done(const Search *s)
{
    return s->n >= s->want;
}

/* Put the missing block of @cluster there; the run goes on behind it. */
static int coroutine_fn make_block(Qcow2 *q, Search *s, uint64_t cluster)
{
    uint64_t end;
    int r = qcow2_co_refcount_cover(q, cluster, cluster, cluster, &end);

    if (r == 0 && (s->exact || s->n == 0)) {
        s->start = end;
        s->n = 0;
    }
    return r;
}

static bool block_exists(const Qcow2 *q, uint64_t cluster)
{
    uint64_t i = cluster >> q->rb_bits;

    return i < q->rt_entries && q->rt[i] != 0;
}

/* Leaves a run of 1..want free clusters in @s (want if exact), all with blocks; or start is 0. */
static int coroutine_fn find_free(Qcow2 *q, Search *s)
{
    uint64_t limit = QCOW2_HOST_END >> q->cluster_bits;

    s->start = q->free_hint;
    while (!search_done(s)) {
        uint64_t cluster = s->start + s->n, count;
        int r;

        if (cluster >= limit) {
            return -EFBIG;
        }
        if (!block_exists(q, cluster)) {
            if (cluster == 0) {
                return 0; /* not even the header counts as used: the caller sees that */
            }
            if (s->n > 0 && !s->exact) {
                return 0;
            }
            r = make_block(q, s, cluster);
            if (r < 0) {
                return r;
            }
            continue;
        }
        r = qcow2_co_refcount_get(q, cluster, &count);
        if (r < 0) {
            return r;
        }
        if (count == 0) {
            s->n++;
        } else if (s->n > 0 && !s->exact) {
            return 0;
        } else {
            s->start = cluster + 1;
            s->n = 0;
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_alloc_locked(Qcow2 *q, uint64_t want, bool exact, uint64_t *ret_host,
                                       uint64_t *ret_got, bool *ret_fresh)
{
    Search s = {.want = want, .exact = exact};
    uint64_t old_hint = q->free_hint, host;
    int r;

    assert(want > 0);
    if (fault_hit("qcow2-alloc")) {
        return -ENOMEM;
    }
    QCOW2_EVENT(q, "cluster_alloc");
    r = find_free(q, &s);
    if (r == 0 && s.start == 0) {
        r = qcow2_co_corrupt(q, 0, q->cluster_size,
                             "Preventing invalid allocation of the header's cluster");
    }
    for (uint64_t i = 0; i < s.n && r == 0; i++) {
        r = qcow2_co_refcount_set(q, s.start + i, 1);
        if (r < 0 && i > 0) {
            qcow2_co_unalloc(q, s.start << q->cluster_bits, i);
        }
    }
    if (r < 0) {
        return r;
    }
    host = s.start << q->cluster_bits;
    if (!exact || want == 1 || s.start == old_hint) {
        q->free_hint = s.start + s.n; /* else smaller holes may have been passed over */
    }
    *ret_host = host;
    *ret_got = s.n;
    *ret_fresh = host >= q->fresh_from ||
                 (unlikely(q->used_end) &&
                  qcow2_co_blank(q, host, host + (s.n << q->cluster_bits)));
    qcow2_note_used(q, host + (s.n << q->cluster_bits));
    return 0;
}

int coroutine_fn qcow2_co_alloc(Qcow2 *q, uint64_t want, bool exact, uint64_t *ret_host,
                                uint64_t *ret_got, bool *ret_fresh)
{
    CO_LOCK_GUARD(&q->meta_lock);

    return qcow2_co_alloc_locked(q, want, exact, ret_host, ret_got, ret_fresh);
}

void coroutine_fn qcow2_co_unalloc(Qcow2 *q, uint64_t host, uint64_t clusters)
{
    uint64_t first = host >> q->cluster_bits;

    for (uint64_t i = 0; i < clusters; i++) {
        (void)!qcow2_co_refcount_set(q, first + i, 0); /* a leak at worst */
    }
    q->free_hint = MIN(q->free_hint, first);
}

/* --- freeing --- */

void qcow2_free(Qcow2 *q, uint64_t host, uint64_t bytes, Qcow2FreeWhy why)
{
    Qcow2Range r = {ALIGN_DOWN(host, q->cluster_size), 0, why};

    r.bytes = ALIGN_UP(host + bytes, q->cluster_size) - r.host;
    q->freed_bytes += r.bytes;
    if (q->freed->len > 0) {
        Qcow2Range *last = &g_array_index(q->freed, Qcow2Range, q->freed->len - 1);

        if (last->host + last->bytes == r.host && last->why == why) {
            last->bytes += r.bytes;
            return;
        }
    }
    g_array_append_val(q->freed, r);
}

void qcow2_free_entry(Qcow2 *q, uint64_t entry, Qcow2FreeWhy why)
{
    uint64_t offset, bytes;

    if (entry & QCOW2_L2_COMPRESSED) {
        qcow2_compressed_extent(entry, q->cluster_bits, &offset, &bytes);
        qcow2_free(q, offset, bytes, why);
    } else if (entry & QCOW2_OFFSET_MASK) {
        qcow2_free(q, entry & QCOW2_OFFSET_MASK, q->cluster_size, why);
    }
}

static int compare_ranges(const void *a, const void *b)
{
    const Qcow2Range *x = a, *y = b;

    return x->host < y->host ? -1 : x->host > y->host;
}

/* Let the file forget the clusters from @first on; their counts are still up, so nobody uses them.
 */
static void coroutine_fn discard_clusters(Qcow2 *q, uint64_t first, uint64_t n, Qcow2FreeWhy why)
{
    if (n > 0 && q->pass_discard[why]) {
        QCOW2_EVENT(q, "cluster_free");
        (void)!child_co_pdiscard(qcow2_file(q), (int64_t)(first << q->cluster_bits),
                                 (int64_t)(n << q->cluster_bits)); /* space only */
    }
}

/* Lower the counts of a range by one. An image may claim anything: 0 stays 0, with a complaint. */
static int coroutine_fn lower(Qcow2 *q, const Qcow2Range *range)
{
    uint64_t first = range->host >> q->cluster_bits, n = range->bytes >> q->cluster_bits;
    uint64_t gone = 0; /* clusters before the cursor whose last reference this is */
    int r = 0;

    for (uint64_t i = 0; i <= n && r == 0; i++) {
        uint64_t count = 0;

        if (i < n) {
            r = qcow2_co_refcount_get(q, first + i, &count);
        }
        if (r == 0 && count == 1) {
            gone++;
            continue;
        }
        discard_clusters(q, first + i - gone, gone, range->why);
        for (uint64_t k = i - gone; k < i && r == 0; k++) {
            r = qcow2_co_refcount_set(q, first + k, 0);
        }
        if (gone) {
            q->free_hint = MIN(q->free_hint, first + i - gone);
            gone = 0;
        }
        if (r == 0 && count > 1) {
            r = qcow2_co_refcount_set(q, first + i, count - 1);
        } else if (r == 0 && i < n && count == 0) {
            r = qcow2_co_corrupt(q, (first + i) << q->cluster_bits, q->cluster_size,
                                 "Freeing cluster %" PRIu64 " whose refcount is 0", first + i);
        }
    }
    return r;
}

static int coroutine_fn lower_batch(Qcow2 *q, GArray *ranges)
{
    int first_error = 0;

    qsort(ranges->data, ranges->len, sizeof(Qcow2Range), compare_ranges);
    for (guint i = 0; i < ranges->len; i++) {
        Qcow2Range range = g_array_index(ranges, Qcow2Range, i);
        int r;

        while (i + 1 < ranges->len &&
               g_array_index(ranges, Qcow2Range, i + 1).host == range.host + range.bytes &&
               g_array_index(ranges, Qcow2Range, i + 1).why == range.why) {
            range.bytes += g_array_index(ranges, Qcow2Range, ++i).bytes;
        }
        r = lower(q, &range); /* what fails is a leak */
        first_error = first_error ? first_error : r;
    }
    return first_error;
}

/* Requests count in the epoch they start in; an epoch ends when the one before it has none left. */
static void advance_epoch(Qcow2 *q)
{
    for (int i = 0; i < 2; i++) {
        if (q->active[(q->io_epoch + 1) & 1] == 0) {
            q->io_epoch++;
        }
    }
}

int coroutine_fn qcow2_co_release(Qcow2 *q)
{
    int first_error = 0;

    advance_epoch(q);
    while (q->quarantine && q->io_epoch >= q->quarantine->epoch + 2) {
        Qcow2FreedBatch *b = q->quarantine;
        int r;

        q->quarantine = b->next;
        if (!q->quarantine) {
            q->quarantine_tail = &q->quarantine;
        }
        r = lower_batch(q, b->ranges);
        first_error = first_error ? first_error : r;
        g_array_free(b->ranges, TRUE);
        g_free(b);
    }
    return first_error;
}

void qcow2_forget_freed(Qcow2 *q)
{
    while (q->quarantine) {
        Qcow2FreedBatch *b = q->quarantine;

        q->quarantine = b->next;
        g_array_free(b->ranges, TRUE);
        g_free(b);
    }
    q->quarantine_tail = &q->quarantine;
    g_array_set_size(q->freed, 0);
    q->freed_bytes = 0;
}
