/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of a request inside a node, shared by the io-*.c files.
 *
 * A request passes: the checks and the short way (io.c), the hold (io-hold.c),
 * padding (io-align.c), splitting (io-split.c), the driver. Functions named
 * io_drv_* call the driver: aligned, bounded by max_transfer. io_split_* take
 * aligned ranges of any length. Nothing below the hold takes a hold again.
 */
#ifndef BLOCK_CORE_IO_INTERNAL_H
#define BLOCK_CORE_IO_INTERNAL_H

#include <errno.h>

#include "block/driver.h"
#include "block/io.h"
#include "block/node.h"
#include "core.h"
#include "util/sync.h"

/* Flags that every driver may be handed: it ignores what it has no use for. */
#define REQ_HINTS (REQ_REGISTERED_BUF | REQ_WRITE_UNCHANGED | REQ_SERIALISING | REQ_NO_WAIT)

/* What a request that changes a node may do, from the edge or the backend it came on. */
typedef struct IoRights {
    bool grow;        /* write past the end: the edge holds PERM_RESIZE */
    const int *fence; /* of the backend that started it; *fence > 0: fail with it. Or NULL */
} IoRights;

static inline int64_t io_max_transfer(const BlockNode *node)
{
    int64_t max = node->limits.max_transfer;

    return max > 0 && max < BLOCK_MAX_REQUEST ? max : BLOCK_MAX_REQUEST;
}

static inline bool io_is_aligned(const BlockNode *node, int64_t offset, int64_t bytes)
{
    return (((uint64_t)offset | (uint64_t)bytes) & (node->limits.request_alignment - 1)) == 0;
}

static inline bool io_range_is_sane(int64_t offset, int64_t bytes)
{
    return offset >= 0 && bytes >= 0 && bytes <= BLOCK_MAX_LENGTH - offset;
}

static inline bool io_is_fenced(const IoRights *rights)
{
    return rights->fence && *rights->fence > 0;
}

/* An answer of a driver is 0 or a negative errno; anything else is its bug. */
static inline int io_answer(int r)
{
    assert(r <= 0 && r >= -4095);
    return r;
}

/* A request of ours on @node itself has come to @event. */
static inline void coroutine_fn io_debug_event(BlockNode *node, const char *event)
{
    if (unlikely(__atomic_load_n(&debug_listeners, __ATOMIC_RELAXED)) &&
        node->drv->co_debug_event) {
        node->drv->co_debug_event(node, event);
    }
}

static inline bool io_may_pass_by(const BlockNode *node)
{
    return node->drv->is_filter && !node->track_requests && !node->order_writes && node->file;
}

/* --- io.c: requests on a node, for child_co_* and backend_co_* --- */
int coroutine_fn io_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn
io_co_pwritev(BlockNode *node, IoRights rights, int64_t offset, IoVec iov, ReqFlags flags);
/** io_write_done() - for flush and the statistics: bytes up to @end may have changed */
static inline void io_write_done(BlockNode *node, int64_t end)
{
    node->write_gen++;
    if ((uint64_t)end > node->p->wr_highest_offset) {
        node->p->wr_highest_offset = end;
    }
}
/** io_co_may_change() - the check that every request that changes a node passes first; it makes
 * room for a write past the end of an image */
int coroutine_fn
io_co_may_change(BlockNode *node, const IoRights *rights, int64_t offset, int64_t bytes);
/** io_finish_write() - count it for flush, let the node grow, emulate FUA */
int coroutine_fn io_finish_write(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags,
                                 ReqFlags native, int r);

/* --- io-zero.c, io-discard.c, io-flush.c, io-copy.c, io-truncate.c --- */
int coroutine_fn io_co_pwrite_zeroes(BlockNode *node, IoRights rights, int64_t offset,
                                     int64_t bytes, ReqFlags flags);
int coroutine_fn io_co_pdiscard(BlockNode *node, IoRights rights, int64_t offset, int64_t bytes);
bool coroutine_fn io_co_truncate(BlockNode *node, int64_t length, bool exact,
                                 BlockPreallocMode prealloc, ReqFlags flags, GError **errp);

/* --- io-hold.c: ranges that a request keeps for itself --- */
typedef struct IoHold {
    BlockNode *node;
    bool ordered, tracked;
    CoRange order_range, track_range;
} IoHold;

/** io_co_hold_read() - 0, or -EBUSY with REQ_NO_WAIT */
int coroutine_fn
io_co_hold_read(IoHold *h, BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags);
/** io_co_hold_write() - @alone: keep out every other write of the range rounded to the alignment */
int coroutine_fn io_co_hold_write(IoHold *h, BlockNode *node, int64_t offset, int64_t bytes,
                                  bool alone, ReqFlags flags);
void io_release(IoHold *h);

/* --- io-align.c: ranges that are not aligned; under a hold where they write --- */
int coroutine_fn io_co_read_padded(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn io_co_write_padded(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);

/* --- io-split.c --- */
int coroutine_fn io_drv_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn io_drv_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn io_split_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn io_split_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);

#endif
