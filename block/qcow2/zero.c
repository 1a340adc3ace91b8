/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discarding and zeroing: only entries change, no data is written.
 *
 * Source: qcow2 specification, the zero flag. A version 2 image has no zero
 * flag, so with a backing file nothing can be discarded there and zeroes are
 * written as data.
 */
#include "qcow2.h"
#include "scratch.h"

/* Discarding says nothing new where nothing is; zeroes that were written are allocated, as far as
 * the format can say so. */
static bool stays_unallocated(const Qcow2 *q, uint64_t guest, Qcow2Drop how)
{
    bool writes = how == QCOW2_DROP_ZERO || how == QCOW2_DROP_UNMAP;

    return how == QCOW2_DROP_FULL ||
           (guest >= qcow2_backing_bytes(q) && !(writes && q->h.version >= 3));
}

/* What the entry becomes; false: nothing changes. */
static bool new_entry(const Qcow2 *q, uint64_t guest, uint64_t old, Qcow2Drop how, uint64_t *ret)
{
    bool keep = how == QCOW2_DROP_ZERO || q->discard_no_unref;
    uint64_t zero = q->h.version >= 3 ? QCOW2_L2_ZERO : 0;
    Qcow2Type type = qcow2_entry_type(old);

    if (how == QCOW2_DROP_FULL) {
        *ret = 0;
        return old != 0;
    }
    if (type == QCOW2_UNALLOCATED && stays_unallocated(q, guest, how)) {
        return false;
    }
    if (keep && type == QCOW2_ZERO_ALLOC) {
        return false;
    }
    *ret = keep && type == QCOW2_DATA && zero ? old | zero : zero;
    return *ret != old;
}

/* Host clusters whose entries say zero but keep them (discard-no-unref). */
typedef struct Hole {
    uint64_t host, bytes;
} Hole;

/*
 * Under alloc_ranges, so that nobody has written into the clusters again: that
 * would change their entries. The entries need not be on disk: whoever reads
 * zeroes after a power cut reads what was asked for.
 */
static void coroutine_fn punch(Qcow2 *q, Hole *hole)
{
    if (hole->bytes > 0) {
        QCOW2_EVENT(q, "cluster_free");
        (void)!child_co_pdiscard(qcow2_file(q), (int64_t)hole->host,
                                 (int64_t)hole->bytes); /* space only */
        hole->bytes = 0;
    }
}

static void coroutine_fn add_to_hole(Qcow2 *q, Hole *hole, uint64_t host)
{
    if (hole->host + hole->bytes != host) {
        punch(q, hole);
        hole->host = host;
    }
    hole->bytes += q->cluster_size;
}

/* One cluster, under alloc_ranges. */
static int coroutine_fn drop_cluster(Qcow2 *q, uint64_t guest, Qcow2Drop how, Hole *hole)
{
    uint64_t old, entry = 0;
    int r = qcow2_co_l2_get(q, guest, &old);

    if (r < 0 || !new_entry(q, guest, old, how, &entry)) {
        return r;
    }
    r = qcow2_co_l2_ensure(q, guest);
    if (r == 0) {
        r = qcow2_co_l2_set(q, guest, entry, &old);
    }
    if (r < 0) {
        return r;
    }
    if ((entry & QCOW2_OFFSET_MASK) == 0) {
        qcow2_free_entry(q, old,
                         how == QCOW2_DROP_FULL ? QCOW2_FREE_ALWAYS : QCOW2_FREE_REQUEST);
    } else if (how != QCOW2_DROP_ZERO && entry & QCOW2_COPIED &&
               q->pass_discard[QCOW2_FREE_REQUEST]) {
        add_to_hole(q, hole, entry & QCOW2_OFFSET_MASK);
    }
    return 0;
}

/* May the whole range be skipped because nothing there would change? */
static bool nothing_to_do(const Qcow2 *q, const Qcow2Extent *e, uint64_t guest, Qcow2Drop how)
{
    return e->type == QCOW2_UNALLOCATED && stays_unallocated(q, guest, how);
}

static int coroutine_fn
drop_clusters(Qcow2 *q, uint64_t guest, uint64_t end, Qcow2Drop how, Hole *hole)
{
    while (guest < end) {
        Qcow2Extent e;
        int r = qcow2_co_map(q, guest, end - guest, &e);

        if (r < 0) {
            return r;
        }
        if (!nothing_to_do(q, &e, guest, how)) {
            e.bytes = q->cluster_size;
            r = drop_cluster(q, guest, how, hole);
        }
        if (r < 0) {
            return r;
        }
        guest += e.bytes;
    }
    return 0;
}

static int coroutine_fn drop_range(Qcow2 *q, uint64_t guest, uint64_t end, Qcow2Drop how)
{
    Hole hole = {0};
    int r = drop_clusters(q, guest, end, how, &hole);

    punch(q, &hole);
    return r;
}

/* Pieces, so that a request for everything does not keep everybody out. */
#define PIECE_CLUSTERS 1024

int coroutine_fn qcow2_co_drop(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Drop how)
{
    uint64_t end = guest + bytes;
    int r = 0;

    assert(IS_ALIGNED(guest, q->cluster_size) && IS_ALIGNED(bytes, q->cluster_size));
    while (guest < end && r == 0) {
        uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
        uint64_t piece = PIECE_CLUSTERS << q->cluster_bits;
        CoRange range;
        Qcow2Extent e;

        r = qcow2_co_map(q, guest, end - guest, &e);
        if (r < 0) {
            break;
        }
        if (nothing_to_do(q, &e, guest, how)) {
            guest += e.bytes;
            continue;
        }
        piece = MIN(MIN(piece, span), end - guest);
        co_range_lock(&q->alloc_ranges, &range, guest, piece, CO_RANGE_EXCLUSIVE);
        r = drop_range(q, guest, guest + piece, how);
        co_range_unlock(&q->alloc_ranges, &range);
        guest += piece;
    }
    return r;
}

/* --- requests --- */

/* The whole clusters of a request; the last one of the image counts as whole. */
static void whole_clusters(const Qcow2 *q, uint64_t offset, uint64_t bytes, uint64_t *ret_start,
                           uint64_t *ret_end)
{
    uint64_t end = offset + bytes;

    *ret_start = ALIGN_UP(offset, q->cluster_size);
    *ret_end = end >= q->h.size ? ALIGN_UP(end, q->cluster_size) : ALIGN_DOWN(end, q->cluster_size);
    *ret_end = MAX(*ret_end, *ret_start);
}

static bool any_backing(const Qcow2 *q, uint64_t offset)
{
    return offset < qcow2_backing_bytes(q);
}

/* Not if it cannot be told. */
static bool coroutine_fn backing_says_zero(Qcow2 *q, uint64_t from, uint64_t to)
{
    bool zero = true;

    while (from < to && zero) {
        BlockStatus st;
        int r = node_co_block_status_above(q->node->backing->node, NULL, true, (int64_t)from,
                                           (int64_t)(to - from), &st, NULL);

        zero = r == 0 && st.flags & STATUS_ZERO;
        from += r == 0 ? (uint64_t)st.bytes : 0;
    }
    return zero;
}

/*
 * The status is of each layer at another moment: while one layer saves what
 * another loses, it may be wrong. What is read is not.
 */
static bool coroutine_fn backing_is_zero(Qcow2 *q, uint64_t from, uint64_t to)
{
    uint64_t end = MIN(to, qcow2_backing_bytes(q));
    struct iovec v;
    uint8_t *buf;
    bool zero;

    if (from >= end) {
        return true;
    }
    if (!backing_says_zero(q, from, end)) {
        return false;
    }
    buf = buf_try_alloc(end - from);
    zero = buf && qcow2_co_read_backing(q, from, iov_one(&v, buf, end - from)) == 0 &&
           buf_is_zero(buf, end - from);
    buf_free(buf, end - from);
    return zero;
}

/*
 * Less than a cluster: the whole of it if the rest reads as zeroes anyway, and
 * -ENOTSUP if it does not, so that zeroes are written as data.
 */
static int coroutine_fn zero_small(Qcow2 *q, uint64_t offset, uint64_t bytes, Qcow2Drop how)
{
    uint64_t start = ALIGN_DOWN(offset, q->cluster_size), end = start + q->cluster_size;
    CoRange range;
    Qcow2Extent e;
    bool rest;
    int r;

    if (q->h.version < 3) {
        return -ENOTSUP;
    }
    r = qcow2_co_map(q, start, q->cluster_size, &e);
    if (r < 0 || e.type == QCOW2_DATA || e.type == QCOW2_COMPRESSED) {
        return r < 0 ? r : -ENOTSUP; /* the backing file does not matter */
    }
    rest = e.type == QCOW2_UNALLOCATED && backing_is_zero(q, start, offset) &&
           backing_is_zero(q, offset + bytes, end);
    co_range_lock(&q->alloc_ranges, &range, start, q->cluster_size, CO_RANGE_EXCLUSIVE);
    r = qcow2_co_map(q, start, q->cluster_size, &e);
    if (r == 0 && (e.type == QCOW2_DATA || e.type == QCOW2_COMPRESSED ||
                   (e.type == QCOW2_UNALLOCATED && !rest))) {
        r = -ENOTSUP;
    }
    if (r == 0) {
        r = drop_range(q, start, end, how);
    }
    co_range_unlock(&q->alloc_ranges, &range);
    return r;
}

/* What is not in a whole cluster is left by a discard, and zeroed or refused otherwise. */
static int coroutine_fn
drop_request(BlockNode *node, uint64_t offset, uint64_t bytes, Qcow2Drop how, ReqFlags flags)
{
    Qcow2 *q = qcow2_of(node);
    bool all = how != QCOW2_DROP_DISCARD, small;
    uint64_t start, end;
    unsigned parity;
    int r = qcow2_co_begin_change(q);

    if (r < 0) {
        return r;
    }
    if (q->scratch) {
        return scratch_co_zero(q, offset, bytes, !all);
    }
    if (q->h.version < 3 && any_backing(q, offset)) {
        return -ENOTSUP;
    }
    whole_clusters(q, offset, bytes, &start, &end);
    small = all && (start != offset || end < offset + bytes);
    if (small && flags & REQ_NO_FALLBACK) {
        return -ENOTSUP; /* a later part may fail, and then nothing may have changed */
    }
    parity = qcow2_enter(q);
    r = small ? zero_small(q, offset, bytes, how) : qcow2_co_drop(q, start, end - start, how);
    qcow2_leave(q, parity);
    return r == 0 ? qcow2_co_relieve(q) : r;
}

int coroutine_fn qcow2_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    return drop_request(node, (uint64_t)offset, (uint64_t)bytes, QCOW2_DROP_DISCARD, 0);
}

/* The core cuts requests at pwrite_zeroes_alignment: what is not whole is less than a cluster. */
int coroutine_fn
qcow2_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    Qcow2Drop how = flags & REQ_MAY_UNMAP ? QCOW2_DROP_UNMAP : QCOW2_DROP_ZERO;

    return drop_request(node, (uint64_t)offset, (uint64_t)bytes, how, flags);
}
