/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the length, and giving ranges host clusters in advance.
 *
 * Growing may need a larger L1 table: written elsewhere, then one header write
 * (R6). What a longer backing file would show in the new part is hidden before
 * the length tells anybody of it: who hears of it may write there at once.
 * Shrinking drops what lies behind the new end first, so that the header never
 * promises less than the tables hold.
 */
#include "qcow2.h"
#include "scratch.h"

/* --- a larger L1 table; under commit_lock and meta_lock --- */

static int coroutine_fn switch_l1(Qcow2 *q, uint64_t *l1, uint32_t entries, uint64_t host)
{
    uint8_t now[12], before[12];

    qcow2_put32(now, entries);
    qcow2_put64(now + 4, host);
    qcow2_put32(before, q->h.l1_size);
    qcow2_put64(before + 4, q->h.l1_offset);
    return qcow2_co_switch(q, "l1_grow_activate_table", QCOW2_AT_L1_SIZE, now, before, sizeof(now));
}

static int coroutine_fn move_l1(Qcow2 *q, uint64_t *l1, uint32_t entries)
{
    uint64_t clusters = DIV_ROUND_UP((uint64_t)entries * 8, q->cluster_size);
    uint64_t host, got, old_bytes = (uint64_t)q->h.l1_size * 8;
    bool fresh;
    int r;

    QCOW2_EVENT(q, "l1_grow_alloc_table");
    r = qcow2_co_alloc_locked(q, clusters, true, &host, &got, &fresh);
    if (r < 0) {
        return r;
    }
    r = qcow2_co_guard(q, host, clusters << q->cluster_bits, QCOW2_OWNER_DATA);
    if (r == 0) {
        QCOW2_EVENT(q, "l1_grow_write_table");
        r = qcow2_co_write_table(q, host, l1, entries, clusters << q->cluster_bits);
    }
    if (r == 0) {
        r = qcow2_co_commit_locked(q); /* R6; and R1, R3: what the new table says */
    }
    if (r == 0) {
        r = switch_l1(q, l1, entries, host);
    }
    if (r < 0) {
        qcow2_co_unalloc(q, host, clusters);
        return r;
    }
    if (old_bytes) {
        qcow2_free(q, q->h.l1_offset, old_bytes, QCOW2_FREE_OTHER);
    }
    q->h.l1_offset = host;
    q->h.l1_size = entries;
    return 0;
}

static int coroutine_fn grow_l1_locked(Qcow2 *q, uint32_t entries)
{
    uint64_t *l1 = g_try_new0(uint64_t, entries);
    int r;

    if (!l1) {
        return -ENOMEM;
    }
    memcpy(l1, q->l1, (size_t)q->h.l1_size * 8);
    r = move_l1(q, l1, entries);
    if (r < 0) {
        g_free(l1);
        return r;
    }
    g_free(q->l1);
    q->l1 = l1;
    return 0;
}

static int coroutine_fn grow_l1(Qcow2 *q, uint64_t entries)
{
    CO_LOCK_GUARD(&q->commit_lock);
    CO_LOCK_GUARD(&q->meta_lock);

    return grow_l1_locked(q, (uint32_t)entries);
}

/* --- the length --- */

static int coroutine_fn write_size(Qcow2 *q, uint64_t size)
{
    uint8_t now[8], before[8];
    int r;

    qcow2_put64(now, size);
    qcow2_put64(before, q->h.size);
    r = qcow2_co_switch(q, NULL, QCOW2_AT_SIZE, now, before, sizeof(now));
    if (r == 0) {
        q->h.size = size;
        q->node->length = (int64_t)size;
    }
    return r;
}

/* As data: parts of clusters, and images without zero clusters. */
static int coroutine_fn write_zeroes(Qcow2 *q, uint64_t from, uint64_t to)
{
    uint64_t most = MIN(to - from, MiB);
    uint8_t *zeroes = buf_try_alloc(most);
    int r = zeroes ? 0 : -ENOMEM;

    if (zeroes) {
        memset(zeroes, 0, most);
    }
    while (from < to && r == 0) {
        uint64_t n = MIN(to - from, most);
        struct iovec v;

        r = qcow2_co_pwritev(q->node, (int64_t)from, iov_one(&v, zeroes, n), 0);
        from += n;
    }
    if (zeroes) {
        buf_free(zeroes, most);
    }
    return r;
}

/* What the backing file has between the end and @size shall not be seen there. */
static int coroutine_fn hide_backing(Qcow2 *q, uint64_t size)
{
    uint64_t from = q->h.size, end = MIN(qcow2_backing_bytes(q), size);
    uint64_t whole = ALIGN_UP(from, q->cluster_size), whole_end = ALIGN_UP(end, q->cluster_size);
    int r = 0;

    if (end <= from) {
        return 0;
    }
    if (q->h.version < 3) {
        return write_zeroes(q, from, end);
    }
    if (whole > from) {
        r = write_zeroes(q, from, whole);
    }
    if (r == 0 && whole_end > whole) {
        r = qcow2_co_drop(q, whole, whole_end - whole, QCOW2_DROP_ZERO);
    }
    return r;
}

static bool coroutine_fn grow(Qcow2 *q, uint64_t size, GError **errp)
{
    uint64_t need = DIV_ROUND_UP(size, UINT64_C(1) << (q->cluster_bits + q->l2_bits));
    int r = 0;

    if (need > QCOW2_L1_BYTES_MAX / 8) {
        return fail(errp, "Failed to grow the L1 table: File too large");
    }
    if (need > q->h.l1_size) {
        r = grow_l1(q, need);
    }
    if (r == 0) {
        r = hide_backing(q, size);
    }
    if (r == 0) {
        r = qcow2_co_commit(q); /* no crash shows it either */
    }
    if (r == 0) {
        r = write_size(q, size);
    }
    return r == 0 || fail_errno(errp, -r, "Could not grow the image");
}

/* The rest of the last cluster shall read as zeroes if the image grows again. */
static int coroutine_fn clear_last_cluster(Qcow2 *q, uint64_t size)
{
    uint64_t end = MIN(ALIGN_UP(size, q->cluster_size), q->h.size);
    Qcow2Extent e;
    int r;

    if (end == size) {
        return 0;
    }
    r = qcow2_co_map(q, size, end - size, &e);
    if (r < 0 || e.type == QCOW2_UNALLOCATED || e.type == QCOW2_ZERO_PLAIN ||
        e.type == QCOW2_ZERO_ALLOC) {
        return r;
    }
    return write_zeroes(q, size, end);
}

static bool coroutine_fn shrink(Qcow2 *q, uint64_t size, GError **errp)
{
    uint64_t from = ALIGN_UP(size, q->cluster_size);
    uint64_t end = ALIGN_UP(q->h.size, q->cluster_size);
    int r = clear_last_cluster(q, size);

    if (r == 0 && end > from) {
        r = qcow2_co_drop(q, from, end - from, QCOW2_DROP_FULL);
    }
    if (r == 0) {
        r = qcow2_co_commit(q);
    }
    if (r == 0) {
        r = write_size(q, size);
    }
    return r == 0 || fail_errno(errp, -r, "Could not shrink the image");
}

bool coroutine_fn qcow2_co_truncate(BlockNode *node, int64_t length, bool exact,
                                    BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    uint64_t size = (uint64_t)length, old = q->h.size;
    int r;

    r = qcow2_co_begin_change(q);
    if (r < 0) {
        return fail_errno(errp, -r, "The image cannot be resized");
    }
    if (q->scratch) {
        return fail(errp, "An image with the scratch policy cannot be resized");
    }
    if (size % 512 != 0) {
        return fail(errp, "The new size must be a multiple of 512");
    }
    if (size < old) {
        return prealloc == BLOCK_PREALLOC_OFF
                   ? shrink(q, size, errp)
                   : fail(errp, "Preallocation can't be used for shrinking an image");
    }
    if (size > old && !grow(q, size, errp)) {
        return false;
    }
    if (prealloc == BLOCK_PREALLOC_OFF || size == old) {
        return true;
    }
    r = qcow2_co_preallocate(q, old, size, prealloc);
    return r == 0 || fail_errno(errp, -r, "Could not preallocate the new part of the image");
}

/* --- preallocation --- */

/* Make the host range read as zeroes and be there, as far as @mode promises. */
static int coroutine_fn
prepare_host(Qcow2 *q, uint64_t host, uint64_t bytes, bool fresh, BlockPreallocMode mode)
{
    BlockChild *file = qcow2_file(q);
    int64_t end = (int64_t)(host + bytes);
    BlockPreallocMode how = mode == BLOCK_PREALLOC_METADATA ? BLOCK_PREALLOC_OFF : mode;

    QCOW2_EVENT(q, "cluster_alloc_space");
    if (fresh && node_length(file->node) <= (int64_t)host) {
        return child_co_truncate(file, end, false, how, 0, NULL) ? 0 : -ENOSPC;
    }
    return child_co_pwrite_zeroes(file, (int64_t)host, (int64_t)bytes, 0);
}

static int coroutine_fn preallocate_run(Qcow2 *q, uint64_t guest, uint64_t clusters,
                                        BlockPreallocMode mode, uint64_t *ret_bytes)
{
    uint64_t host, got, old;
    bool fresh;
    int r = qcow2_co_l2_ensure(q, guest);

    if (r == 0) {
        r = qcow2_co_alloc(q, clusters, false, &host, &got, &fresh);
    }
    if (r < 0) {
        return r;
    }
    r = qcow2_co_guard(q, host, got << q->cluster_bits, QCOW2_OWNER_DATA);
    if (r == 0) {
        r = prepare_host(q, host, got << q->cluster_bits, fresh, mode);
    }
    for (uint64_t i = 0; i < got && r == 0; i++) {
        uint64_t off = i << q->cluster_bits;

        r = qcow2_co_l2_set(q, guest + off, (host + off) | QCOW2_COPIED, &old);
    }
    *ret_bytes = got << q->cluster_bits;
    return r; /* on failure some clusters may leak */
}

int coroutine_fn qcow2_co_preallocate(Qcow2 *q, uint64_t from, uint64_t to, BlockPreallocMode mode)
{
    uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
    uint64_t at = ALIGN_DOWN(from, q->cluster_size), end = ALIGN_UP(to, q->cluster_size);
    CoRange range;
    int r = 0;

    co_range_lock(&q->alloc_ranges, &range, at, end - at, CO_RANGE_EXCLUSIVE);
    while (at < end && r == 0) {
        uint64_t left = MIN(end, ALIGN_DOWN(at, span) + span) - at, n;
        Qcow2Extent e;

        r = qcow2_co_map(q, at, left, &e);
        n = e.bytes;
        if (r == 0 && (e.type == QCOW2_UNALLOCATED || e.type == QCOW2_ZERO_PLAIN)) {
            r = preallocate_run(q, at, e.bytes >> q->cluster_bits, mode, &n);
        }
        at += n;
    }
    co_range_unlock(&q->alloc_ranges, &range);
    return r == 0 ? qcow2_co_commit(q) : r;
}
