/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing: in place where the entry says COPIED, else into new clusters.
 *
 * A write into new clusters holds its guest clusters in alloc_ranges from
 * looking at the entries until they are changed, so that two writers to one
 * cluster do not both allocate; writers to different clusters go on in
 * parallel, and the data is written under no other lock. What the request does
 * not cover of its first and last cluster is copied; all of it goes to the
 * file in one write, before the entries change in memory (R2).
 *
 * A write in place takes no lock. If its cluster is dropped meanwhile, R8
 * keeps the cluster from being anybody else's before the write has ended.
 */
#include "qcow2.h"
#include "scratch.h"

/* Clusters that get a host cluster together. */
typedef struct Alloc {
    uint64_t guest; /* first byte of the request in this run */
    uint64_t bytes; /* of the request in this run */
    uint64_t start; /* guest offset of the first cluster */
    uint64_t clusters;
    uint64_t host; /* of the first cluster */
    bool fresh;    /* the file reads as zeroes there */
    bool reuse;    /* ZERO_ALLOC: host is what the entries have already */
} Alloc;

/* --- what is beside the request in its first and last cluster --- */

typedef struct Side {
    uint64_t guest, bytes;
    uint8_t *buf; /* NULL: not to be written */
} Side;

static bool coroutine_fn reads_zero(Qcow2 *q, const Side *s, int *ret_error)
{
    Qcow2Extent e;

    *ret_error = qcow2_co_map(q, s->guest, s->bytes, &e);
    if (*ret_error < 0 || e.bytes < s->bytes) {
        return false;
    }
    return e.type == QCOW2_ZERO_PLAIN || e.type == QCOW2_ZERO_ALLOC ||
           (e.type == QCOW2_UNALLOCATED && s->guest >= qcow2_backing_bytes(q));
}

static int coroutine_fn read_old(Qcow2 *q, const Side *s)
{
    uint64_t done = 0;
    struct iovec v;
    int r = 0;

    QCOW2_EVENT(q, "cow_read");
    while (done < s->bytes && r == 0) {
        Qcow2Extent e;

        r = qcow2_co_map(q, s->guest + done, s->bytes - done, &e);
        if (r == 0) {
            IoVec iov = iov_one(&v, s->buf + done, e.bytes);

            switch (e.type) {
            case QCOW2_DATA:
                r = child_co_preadv(qcow2_file(q), (int64_t)e.host, iov, 0);
                break;
            case QCOW2_COMPRESSED:
                r = qcow2_co_inflate(q, e.entry, (s->guest + done) & (q->cluster_size - 1), iov);
                break;
            case QCOW2_UNALLOCATED:
                r = qcow2_co_read_backing(q, s->guest + done, iov);
                break;
            default:
                memset(s->buf + done, 0, e.bytes);
            }
            done += e.bytes;
        }
    }
    return r;
}

/* Fetch a side unless the new place holds what it should already. */
static int coroutine_fn side_load(Qcow2 *q, Side *s, bool fresh)
{
    bool zero;
    int r;

    s->buf = NULL;
    if (s->bytes == 0) {
        return 0;
    }
    zero = reads_zero(q, s, &r);
    if (r < 0 || (zero && fresh)) {
        return r;
    }
    s->buf = buf_try_alloc(s->bytes);
    if (!s->buf) {
        return -ENOMEM;
    }
    if (zero) {
        memset(s->buf, 0, s->bytes);
        return 0;
    }
    r = read_old(q, s);
    if (r == 0 && fresh && buf_is_zero(s->buf, s->bytes)) {
        buf_free(s->buf, s->bytes);
        s->buf = NULL;
    }
    return r;
}

static int coroutine_fn
write_merged(Qcow2 *q, const Alloc *a, const Side *head, const Side *tail, IoVec iov)
{
    struct iovec *v = g_new(struct iovec, iov.n + 2);
    uint64_t at = a->host + (a->guest - a->start);
    int n = 0, r;

    if (head->buf) {
        at -= head->bytes;
        v[n++] = (struct iovec){head->buf, head->bytes};
    }
    n += iov_to_sys(iov, v + n, iov.n);
    if (tail->buf) {
        v[n++] = (struct iovec){tail->buf, tail->bytes};
    }
    r = qcow2_co_guard(q, a->host, a->clusters << q->cluster_bits, QCOW2_OWNER_DATA);
    if (r == 0) {
        QCOW2_EVENT(q, "write_aio");
        if (head->buf || tail->buf) {
            QCOW2_EVENT(q, "cow_write");
        }
        r = child_co_pwritev(qcow2_file(q), (int64_t)at, iov_of(v, n), 0);
    }
    g_free(v);
    return r;
}

static int coroutine_fn write_data(Qcow2 *q, const Alloc *a, IoVec iov)
{
    uint64_t end = a->start + (a->clusters << q->cluster_bits);
    Side head = {.guest = a->start, .bytes = a->guest - a->start};
    Side tail = {.guest = a->guest + a->bytes, .bytes = end - (a->guest + a->bytes)};
    int r = side_load(q, &head, a->fresh);

    if (r == 0) {
        r = side_load(q, &tail, a->fresh);
        if (r == 0) {
            r = write_merged(q, a, &head, &tail, iov);
        }
        buf_free(tail.buf, tail.bytes);
    }
    buf_free(head.buf, head.bytes);
    return r;
}

/* --- entries --- */

static int coroutine_fn link_clusters(Qcow2 *q, const Alloc *a, uint64_t *ret_linked)
{
    for (uint64_t i = 0; i < a->clusters; i++) {
        uint64_t off = i << q->cluster_bits, old;
        uint64_t entry = (a->host + off) | QCOW2_COPIED;
        int r = qcow2_co_l2_set(q, a->start + off, entry, &old);

        *ret_linked = i;
        if (r < 0) {
            return r;
        }
        if (!a->reuse) {
            qcow2_free_entry(q, old, QCOW2_FREE_OTHER);
        }
    }
    *ret_linked = a->clusters;
    return 0;
}

static void coroutine_fn give_back(Qcow2 *q, const Alloc *a, uint64_t linked)
{
    if (!a->reuse) {
        CO_LOCK_GUARD(&q->meta_lock);
        qcow2_co_unalloc(q, a->host + (linked << q->cluster_bits), a->clusters - linked);
    }
}

static bool in_place(const Qcow2Extent *e)
{
    return e->type == QCOW2_DATA && e->copied;
}

/* Look at the entries from a->start on: how many clusters to do at once, and how. */
static int coroutine_fn survey(Qcow2 *q, Alloc *a, uint64_t max_clusters)
{
    uint64_t end = a->start + (max_clusters << q->cluster_bits), at = a->start;
    Qcow2Extent e;
    int r = qcow2_co_map(q, at, end - at, &e);

    if (r < 0) {
        return r;
    }
    a->clusters = 0;
    a->reuse = e.type == QCOW2_ZERO_ALLOC && e.copied;
    a->host = a->reuse ? e.host : 0;
    a->fresh = false;
    if (a->reuse) {
        a->clusters = e.bytes >> q->cluster_bits;
        return 0;
    }
    while (!in_place(&e) && !(e.type == QCOW2_ZERO_ALLOC && e.copied)) {
        at += e.bytes;
        if (at >= end) {
            break;
        }
        r = qcow2_co_map(q, at, end - at, &e);
        if (r < 0) {
            return r;
        }
    }
    a->clusters = (at - a->start) >> q->cluster_bits;
    return 0;
}

static int coroutine_fn take_clusters(Qcow2 *q, Alloc *a)
{
    uint64_t got;
    int r;

    if (a->reuse) {
        return 0;
    }
    r = qcow2_co_alloc(q, a->clusters, false, &a->host, &got, &a->fresh);
    if (r == 0) {
        a->clusters = got;
    }
    return r;
}

/* Under alloc_ranges. a->bytes becomes what was done: 0 if nothing needs allocating any more. */
static int coroutine_fn allocate_and_write(Qcow2 *q, Alloc *a, uint64_t max_clusters, IoVec iov)
{
    uint64_t linked = 0;
    int r = survey(q, a, max_clusters);

    if (r < 0 || a->clusters == 0) {
        a->bytes = 0;
        return r;
    }
    r = qcow2_co_l2_ensure(q, a->start);
    if (r == 0) {
        r = take_clusters(q, a);
    }
    if (r < 0) {
        return r;
    }
    a->bytes = MIN(a->bytes, a->start + (a->clusters << q->cluster_bits) - a->guest);
    r = write_data(q, a, iov_slice(iov, 0, a->bytes));
    if (r == 0) {
        r = link_clusters(q, a, &linked);
    }
    if (r < 0) {
        give_back(q, a, linked);
    }
    return r;
}

/* Write the start of @iov into new clusters; at most to the end of the L2 table. */
static int coroutine_fn write_new(Qcow2 *q, uint64_t guest, IoVec iov, uint64_t *ret_done)
{
    uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
    uint64_t table_end = ALIGN_DOWN(guest, span) + span;
    uint64_t start = ALIGN_DOWN(guest, q->cluster_size);
    uint64_t end = MIN(ALIGN_UP(guest + iov.bytes, q->cluster_size), table_end);
    Alloc a = {.guest = guest, .start = start, .bytes = MIN(iov.bytes, end - guest)};
    CoRange range;
    int r;

    co_range_lock(&q->alloc_ranges, &range, start, end - start, CO_RANGE_EXCLUSIVE);
    r = allocate_and_write(q, &a, (end - start) >> q->cluster_bits, iov);
    co_range_unlock(&q->alloc_ranges, &range);
    if (r == 0) {
        *ret_done = a.bytes;
    }
    return r;
}

/* --- the request --- */

static int coroutine_fn write_in_place(Qcow2 *q, const Qcow2Extent *e, IoVec iov)
{
    int r = qcow2_co_guard(q, e->host, e->bytes, QCOW2_OWNER_DATA);

    if (r < 0) {
        return r;
    }
    QCOW2_EVENT(q, "write_aio");
    return child_co_pwritev(qcow2_file(q), (int64_t)e->host, iov, 0);
}

static int coroutine_fn write_runs(Qcow2 *q, uint64_t guest, IoVec iov)
{
    uint64_t done = 0;

    while (done < iov.bytes) {
        IoVec rest = iov_slice(iov, done, iov.bytes - done);
        uint64_t n = 0;
        Qcow2Extent e;
        int r = qcow2_co_map(q, guest + done, rest.bytes, &e);

        if (r == 0 && in_place(&e)) {
            n = e.bytes;
            r = write_in_place(q, &e, iov_slice(rest, 0, n));
        } else if (r == 0) {
            r = write_new(q, guest + done, rest, &n);
        }
        if (r < 0) {
            return r;
        }
        done += n;
    }
    return 0;
}

int coroutine_fn qcow2_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Qcow2 *q = qcow2_of(node);
    Qcow2Extent e;
    unsigned parity;
    int r;

    r = qcow2_co_begin_change(q);
    if (unlikely(r < 0)) {
        return r;
    }
    if (q->scratch) {
        return scratch_co_pwritev(q, (uint64_t)offset, iov);
    }
    parity = qcow2_enter(q);
    if (likely(qcow2_map_cached(q, (uint64_t)offset, iov.bytes, &e) && in_place(&e) &&
               e.bytes == iov.bytes)) {
        r = write_in_place(q, &e, iov);
    } else {
        r = write_runs(q, (uint64_t)offset, iov);
    }
    qcow2_leave(q, parity);
    return r == 0 ? qcow2_co_relieve(q) : r;
}
