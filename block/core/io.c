/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The door: reads and writes enter a node here.
 *
 * The short way, for an aligned request inside the node that nobody tracks or
 * orders, is a few comparisons and the call of the driver: no allocation, no
 * lock, no list. Everything else goes the long way: hold, pad, split, finish.
 *
 * A filter without a callback of its own is passed by: the request enters the
 * node below as if its edge pointed there.
 *
 * On an edge, a read past the end of the node reads zeroes there (a format's
 * last cluster may be cut short, a backing file may be shorter than its
 * overlay); a write past the end grows the node if the edge may resize it, and
 * is -EIO if not.
 */
#include "io-internal.h"

#include "util/buf.h"

/* --- passing filters by --- */

static inline BlockNode *read_target(BlockNode *node)
{
    while (unlikely(!node->drv->co_preadv) && io_may_pass_by(node)) {
        node = node->file->node;
    }
    return node;
}

static inline BlockNode *write_target(BlockNode *node)
{
    while (unlikely(!node->drv->co_pwritev) && io_may_pass_by(node) && !node->flags.read_only &&
           node->flags.detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        node = node->file->node;
    }
    return node;
}

/* --- reads --- */

/* The range lies inside the node. */
static int coroutine_fn read_inside(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    if (io_is_aligned(node, offset, iov.bytes)) {
        return io_split_preadv(node, offset, iov, flags);
    }
    return io_co_read_padded(node, offset, iov, flags);
}

static int coroutine_fn __attribute__((noinline))
read_long_way(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int64_t length;
    size_t inside;
    IoHold hold;
    int r;

    if (!io_range_is_sane(offset, iov.bytes)) {
        return -EIO;
    }
    if (iov.bytes == 0) {
        return 0;
    }
    r = io_co_hold_read(&hold, node, offset, iov.bytes, flags);
    if (r < 0) {
        return r;
    }
    length = node_length(node); /* the node may have grown while we waited */
    if (length < 0) {
        io_release(&hold);
        return -EIO;
    }
    inside = offset >= length ? 0 : MIN((int64_t)iov.bytes, length - offset);
    if (inside > 0) {
        r = read_inside(node, offset, iov_slice(iov, 0, inside), flags);
    }
    if (r == 0 && inside < iov.bytes) {
        iov_fill(iov_slice(iov, inside, iov.bytes - inside), 0);
    }
    io_release(&hold);
    return r;
}

int coroutine_fn io_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    node = read_target(node);
    if (likely(offset >= 0 && iov.bytes > 0 && iov.bytes <= (uint64_t)io_max_transfer(node) &&
               offset <= node->length - (int64_t)iov.bytes &&
               io_is_aligned(node, offset, iov.bytes) && !node->track_requests)) {
        return io_drv_preadv(node, offset, iov, flags);
    }
    return read_long_way(node, offset, iov, flags);
}

/* --- writes --- */

/* An image keeps its length itself: what is written behind that would be lost with the node. */
static int coroutine_fn grow_image(BlockNode *node, int64_t end)
{
    CO_LOCK_GUARD(&node->p->growing);

    if (end <= node_length(node) ||
        io_co_truncate(node, ALIGN_UP(end, 512), false, BLOCK_PREALLOC_OFF, 0, NULL)) {
        return 0;
    }
    return -ENOSPC;
}

int coroutine_fn
io_co_may_change(BlockNode *node, const IoRights *rights, int64_t offset, int64_t bytes)
{
    if (node->flags.read_only) {
        return -EPERM;
    }
    if (!io_range_is_sane(offset, bytes)) {
        return -EIO;
    }
    if (!rights->grow && offset + bytes > node_length(node)) {
        return -EIO;
    }
    if (io_is_fenced(rights)) {
        return -*rights->fence;
    }
    if (unlikely(node->drv->stores_length && bytes > 0 && offset + bytes > node_length(node))) {
        return grow_image(node, offset + bytes);
    }
    return 0;
}

int coroutine_fn io_finish_write(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags,
                                 ReqFlags native, int r)
{
    bool durable = (flags & native & REQ_FUA) != 0;

    if (!durable || r < 0) {
        io_write_done(node, offset + bytes); /* also what failed may have changed something */
    }
    if (r < 0) {
        return r;
    }
    if (offset + bytes > node->length && (!node->drv->is_filter || node->drv->own_length)) {
        node->length = offset + bytes;
    }
    return (flags & REQ_FUA) && !durable ? node_co_flush(node) : 0;
}

static ReqFlags zero_flags_of(const BlockNode *node, ReqFlags flags)
{
    if (node->flags.detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP) {
        flags |= REQ_MAY_UNMAP;
    }
    return flags;
}

static int coroutine_fn __attribute__((noinline))
write_long_way(BlockNode *node, IoRights rights, int64_t offset, IoVec iov, ReqFlags flags)
{
    bool aligned;
    IoHold hold;
    int r = io_co_may_change(node, &rights, offset, iov.bytes);

    if (r < 0 || iov.bytes == 0) {
        return r;
    }
    if ((flags & REQ_COMPRESSED) && !(node->supported_write_flags & REQ_COMPRESSED)) {
        return -ENOTSUP;
    }
    if (node->flags.detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF &&
        !(flags & REQ_COMPRESSED) && iov_is_zero(iov)) {
        return io_co_pwrite_zeroes(node, rights, offset, iov.bytes, zero_flags_of(node, flags));
    }

    aligned = io_is_aligned(node, offset, iov.bytes);
    r = io_co_hold_write(&hold, node, offset, iov.bytes, !aligned, flags);
    if (r < 0) {
        return r;
    }
    if (io_is_fenced(&rights)) {
        r = -*rights.fence; /* came while we waited for others */
    } else if (aligned) {
        r = io_split_pwritev(node, offset, iov, flags);
    } else {
        r = io_co_write_padded(node, offset, iov, flags);
    }
    io_release(&hold);
    return io_finish_write(node, offset, iov.bytes, flags, node->supported_write_flags, r);
}

int coroutine_fn
io_co_pwritev(BlockNode *node, IoRights rights, int64_t offset, IoVec iov, ReqFlags flags)
{
    node = write_target(node);
    if (likely(offset >= 0 && iov.bytes > 0 && iov.bytes <= (uint64_t)io_max_transfer(node) &&
               offset <= node->length - (int64_t)iov.bytes && node->limits.request_alignment == 1 &&
               !node->track_requests && !node->order_writes && !node->flags.read_only &&
               !(flags & ~REQ_HINTS) &&
               node->flags.detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF)) {
        int r = io_drv_pwritev(node, offset, iov, flags);

        io_write_done(node, offset + (int64_t)iov.bytes);
        return r;
    }
    return write_long_way(node, rights, offset, iov, flags);
}

/* --- on an edge --- */

static inline bool child_may_write(const BlockChild *c, ReqFlags flags)
{
    Perm enough = flags & REQ_WRITE_UNCHANGED ? PERM_WRITE | PERM_WRITE_UNCHANGED : PERM_WRITE;

    return (c->perm.taken & enough) != 0;
}

static inline IoRights child_rights(const BlockChild *c)
{
    return (IoRights){.grow = (c->perm.taken & PERM_RESIZE) != 0};
}

int coroutine_fn child_co_preadv(BlockChild *c, int64_t offset, IoVec iov, ReqFlags flags)
{
    return io_co_preadv(c->node, offset, iov, flags);
}

int coroutine_fn child_co_pwritev(BlockChild *c, int64_t offset, IoVec iov, ReqFlags flags)
{
    if (unlikely(!child_may_write(c, flags))) {
        return -EPERM;
    }
    return io_co_pwritev(c->node, child_rights(c), offset, iov, flags);
}

int coroutine_fn child_co_pread(BlockChild *c, int64_t offset, void *buf, size_t bytes)
{
    struct iovec v;

    return child_co_preadv(c, offset, iov_one(&v, buf, bytes), 0);
}

int coroutine_fn
child_co_pwrite(BlockChild *c, int64_t offset, const void *buf, size_t bytes, ReqFlags flags)
{
    struct iovec v;

    return child_co_pwritev(c, offset, iov_one(&v, (void *)buf, bytes), flags);
}

int coroutine_fn
child_co_pwrite_zeroes(BlockChild *c, int64_t offset, int64_t bytes, ReqFlags flags)
{
    if (!child_may_write(c, flags)) {
        return -EPERM;
    }
    return io_co_pwrite_zeroes(c->node, child_rights(c), offset, bytes, flags);
}

int coroutine_fn child_co_pdiscard(BlockChild *c, int64_t offset, int64_t bytes)
{
    if (!child_may_write(c, 0)) {
        return -EPERM;
    }
    return io_co_pdiscard(c->node, child_rights(c), offset, bytes);
}

int coroutine_fn child_co_flush(BlockChild *c)
{
    return node_co_flush(c->node);
}

bool coroutine_fn child_co_truncate(BlockChild *c, int64_t length, bool exact,
                                    BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    if (!(c->perm.taken & PERM_RESIZE)) {
        return fail(errp, "Node '%s' may not be resized by this user", c->node->node_name);
    }
    return io_co_truncate(c->node, length, exact, prealloc, flags, errp);
}
