/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holds: which requests of one node wait for each other.
 *
 * Two range locks, always taken in this order, each granted in order of
 * arrival where ranges overlap:
 *
 *  write_order  among writes, zero writes and discards. On a node that orders
 *               writes each takes its range EXCLUSIVE, so overlapping ones
 *               reach the driver in the order they arrived in. On a node whose
 *               requests must be aligned, whole ones take it SHARED and a
 *               read-modify-write EXCLUSIVE, so no write is lost under it.
 *  requests     only on nodes that track requests: reads and writes SHARED,
 *               serialising ones EXCLUSIVE.
 *
 * Ranges are rounded out to the alignment: that is what reaches the driver.
 * Requests wait here only for requests of the same node that arrived earlier,
 * so there is no cycle.
 */
#include "io-internal.h"

static bool coroutine_fn hold_one(CoRangeLock *lock, CoRange *range, uint64_t start, uint64_t end,
                                  CoRangeMode mode, ReqFlags flags)
{
    if (flags & REQ_NO_WAIT) {
        return co_range_trylock(lock, range, start, end - start, mode);
    }
    co_range_lock(lock, range, start, end - start, mode);
    return true;
}

static int coroutine_fn hold_tracked(IoHold *h, uint64_t start, uint64_t end, ReqFlags flags)
{
    CoRangeMode mode = flags & REQ_SERIALISING ? CO_RANGE_EXCLUSIVE : CO_RANGE_SHARED;

    if (!h->node->track_requests) {
        return 0;
    }
    if (!hold_one(&h->node->requests, &h->track_range, start, end, mode, flags)) {
        return -EBUSY;
    }
    h->tracked = true;
    return 0;
}

int coroutine_fn
io_co_hold_read(IoHold *h, BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    uint64_t align = node->limits.request_alignment;

    h->node = node;
    h->ordered = h->tracked = false;
    return hold_tracked(h, ALIGN_DOWN((uint64_t)offset, align),
                        ALIGN_UP((uint64_t)(offset + bytes), align), flags);
}

int coroutine_fn io_co_hold_write(IoHold *h, BlockNode *node, int64_t offset, int64_t bytes,
                                  bool alone, ReqFlags flags)
{
    uint64_t align = node->limits.request_alignment;
    uint64_t start = ALIGN_DOWN((uint64_t)offset, align);
    uint64_t end = ALIGN_UP((uint64_t)(offset + bytes), align);
    int r;

    h->node = node;
    h->ordered = h->tracked = false;
    if (node->order_writes || align > 1) {
        CoRangeMode mode = node->order_writes || alone ? CO_RANGE_EXCLUSIVE : CO_RANGE_SHARED;

        if (!hold_one(&node->write_order, &h->order_range, start, end, mode, flags)) {
            return -EBUSY;
        }
        h->ordered = true;
    }
    r = hold_tracked(h, start, end, flags);
    if (r < 0) {
        io_release(h);
    }
    return r;
}

void io_release(IoHold *h)
{
    if (h->tracked) {
        co_range_unlock(&h->node->requests, &h->track_range);
    }
    if (h->ordered) {
        co_range_unlock(&h->node->write_order, &h->order_range);
    }
    h->tracked = h->ordered = false;
}
