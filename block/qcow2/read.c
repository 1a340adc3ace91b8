/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading: map, then one read of the file for each run of clusters.
 *
 * The usual request finds its slice in memory and is one run: a lookup and a
 * read, nothing else. No lock: an entry that changes while we read leads to
 * old or new content, and R8 keeps our clusters from being reused under us.
 */
#include "qcow2.h"
#include "scratch.h"

int coroutine_fn qcow2_co_read_backing(Qcow2 *q, uint64_t guest, IoVec iov)
{
    BlockChild *backing = q->node->backing;

    if (!backing || guest >= qcow2_backing_bytes(q)) {
        iov_fill(iov, 0);
        return 0;
    }
    QCOW2_EVENT(q, "read_backing_aio");
    return child_co_preadv(backing, (int64_t)guest, iov, 0); /* zeroes behind its end */
}

static int coroutine_fn read_extent(Qcow2 *q, const Qcow2Extent *e, uint64_t guest, IoVec iov)
{
    switch (e->type) {
    case QCOW2_DATA:
        QCOW2_EVENT(q, "read_aio");
        return child_co_preadv(qcow2_file(q), (int64_t)e->host, iov, 0);
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC:
        iov_fill(iov, 0);
        return 0;
    case QCOW2_COMPRESSED:
        return qcow2_co_inflate(q, e->entry, guest & (q->cluster_size - 1), iov);
    case QCOW2_UNALLOCATED:
        return qcow2_co_read_backing(q, guest, iov);
    }
    g_assert_not_reached();
}

static int coroutine_fn read_runs(Qcow2 *q, uint64_t guest, IoVec iov)
{
    size_t done = 0;

    while (done < iov.bytes) {
        Qcow2Extent e;
        int r = qcow2_co_map(q, guest + done, iov.bytes - done, &e);

        if (r == 0) {
            r = read_extent(q, &e, guest + done, iov_slice(iov, done, e.bytes));
        }
        if (r < 0) {
            return r;
        }
        done += e.bytes;
    }
    return 0;
}

int coroutine_fn qcow2_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Qcow2 *q = qcow2_of(node);
    Qcow2Extent e;
    unsigned parity;
    int r;

    if (!qcow2_is_usable(q)) {
        return -EIO;
    }
    if (q->scratch) {
        return scratch_co_preadv(q, (uint64_t)offset, iov);
    }
    parity = qcow2_enter(q);
    if (likely(qcow2_map_cached(q, (uint64_t)offset, iov.bytes, &e) && e.bytes == iov.bytes)) {
        r = read_extent(q, &e, (uint64_t)offset, iov);
    } else {
        r = read_runs(q, (uint64_t)offset, iov);
    }
    qcow2_leave(q, parity);
    return r;
}
