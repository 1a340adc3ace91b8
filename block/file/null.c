/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * null-co: a disk that stores nothing, for measurements and tests.
 *
 * Writes vanish. Reads leave the buffer as it is, or give zeroes with
 * read-zeroes. Each request takes latency-ns.
 */
#include "block/driver.h"
#include "qapi/drivers.h"
#include "util/loop.h"

typedef struct NullState {
    int64_t latency_ns;
    bool read_zeroes;
} NullState;

static bool coroutine_fn null_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsNull *o = &opts->u.null_co;
    NullState *s = node->state;

    if (o->has_latency_ns && o->latency_ns > INT64_MAX / 2) {
        return fail(errp, "latency-ns is too large");
    }
    s->latency_ns = o->has_latency_ns ? (int64_t)o->latency_ns : 0;
    s->read_zeroes = o->has_read_zeroes && o->read_zeroes;
    node->length = o->has_size ? MIN(o->size, BLOCK_MAX_LENGTH) : 1 * GiB;
    node->supported_write_flags = REQ_FUA;
    node->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    return true;
}

static int coroutine_fn take_time(const NullState *s)
{
    if (s->latency_ns > 0) {
        co_sleep_ns(s->latency_ns);
    }
    return 0;
}

static int coroutine_fn null_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    const NullState *s = node->state;

    if (s->read_zeroes) {
        iov_fill(iov, 0);
    }
    return take_time(s);
}

static int coroutine_fn null_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return take_time(node->state);
}

static int coroutine_fn
null_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    return take_time(node->state);
}

static int coroutine_fn null_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    return take_time(node->state);
}

static int coroutine_fn null_co_flush(BlockNode *node)
{
    return take_time(node->state);
}

static int coroutine_fn null_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                             int64_t bytes, BlockStatus *ret)
{
    const NullState *s = node->state;

    /* What reads as anything is neither data nor zeroes. */
    *ret = (BlockStatus){
        .flags = STATUS_OFFSET_VALID | (s->read_zeroes ? STATUS_ZERO : 0),
        .bytes = bytes,
        .map = offset,
        .file = node,
    };
    return 0;
}

static int64_t coroutine_fn null_co_allocated_size(BlockNode *node)
{
    return 0;
}

static bool coroutine_fn null_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    if (rs->opts && rs->opts->u.null_co.has_size && rs->opts->u.null_co.size != node->length) {
        return fail(errp, "Cannot change the option 'size'");
    }
    return true;
}

static void null_reopen_commit(BlockNode *node, ReopenState *rs)
{
    NullState *s = node->state;

    if (rs->opts) {
        const BlockdevOptionsNull *o = &rs->opts->u.null_co;

        s->latency_ns = o->has_latency_ns ? (int64_t)MIN(o->latency_ns, INT64_MAX / 2) : 0;
        s->read_zeroes = o->has_read_zeroes && o->read_zeroes;
    }
}

const BlockDriver driver_null_co = {
    .name = "null-co",
    .state_size = sizeof(NullState),
    .is_protocol = true,
    .co_open = null_co_open,
    .co_reopen_prepare = null_co_reopen_prepare,
    .reopen_commit = null_reopen_commit,
    .co_preadv = null_co_preadv,
    .co_pwritev = null_co_pwritev,
    .co_pwrite_zeroes = null_co_pwrite_zeroes,
    .co_pdiscard = null_co_pdiscard,
    .co_flush = null_co_flush,
    .co_block_status = null_co_block_status,
    .co_allocated_size = null_co_allocated_size,
};
