/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last step before the driver: aligned requests, cut at what the driver
 * takes at once. The parts go one after the other; the first error ends it.
 */
#include "io-internal.h"

int coroutine_fn io_drv_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int r;

    if (unlikely(!node->drv->co_preadv)) {
        return node->drv->is_filter && node->file ? child_co_preadv(node->file, offset, iov, flags)
                                                  : -ENOTSUP;
    }
    node_request_begin(node);
    r = io_answer(node->drv->co_preadv(node, offset, iov, flags));
    node_request_end(node);
    return r;
}

int coroutine_fn io_drv_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int r;

    if (unlikely(!node->drv->co_pwritev)) {
        return node->drv->is_filter && node->file ? child_co_pwritev(node->file, offset, iov, flags)
                                                  : -ENOTSUP;
    }
    flags &= REQ_HINTS | node->supported_write_flags;
    io_debug_event(node, "pwritev");
    node_request_begin(node);
    r = io_answer(node->drv->co_pwritev(node, offset, iov, flags));
    node_request_end(node);
    io_debug_event(node, "pwritev_done");
    return r;
}

static size_t part_bytes(const BlockNode *node, size_t left)
{
    int64_t max = ALIGN_DOWN(io_max_transfer(node), (int64_t)node->limits.request_alignment);

    assert(max > 0);
    return MIN(left, (size_t)max);
}

int coroutine_fn io_split_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    size_t done = 0;
    int r = 0;

    while (done < iov.bytes && r == 0) {
        size_t n = part_bytes(node, iov.bytes - done);

        r = io_drv_preadv(node, offset + (int64_t)done, iov_slice(iov, done, n), flags);
        done += n;
    }
    return r;
}

int coroutine_fn io_split_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    size_t done = 0;
    int r = 0;

    while (done < iov.bytes && r == 0) {
        size_t n = part_bytes(node, iov.bytes - done);

        r = io_drv_pwritev(node, offset + (int64_t)done, iov_slice(iov, done, n), flags);
        done += n;
    }
    return r;
}
