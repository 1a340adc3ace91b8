/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zero writes: the driver's own way where it has one, data writes of zeroes
 * where it has not.
 *
 * What is not aligned is written as data, padded. The rest is cut so that a
 * part either lies inside one unit of pwrite_zeroes_alignment or is made of
 * whole ones, which is what drivers do cheaply. Data writes go in chunks of 16
 * MiB, or one unit where that is more, from one page-aligned area that is never
 * written to.
 */
#include "io-internal.h"

#define ZERO_AREA  (1 * MiB)
#define ZERO_CHUNK (16 * MiB)
#define ZERO_VECS  (NODE_ALIGN_MAX / ZERO_AREA)

static uint8_t zero_area[ZERO_AREA] __attribute__((aligned(4096)));
static const struct iovec zero_vecs[ZERO_VECS] = {[0 ... ZERO_VECS - 1] = {zero_area, ZERO_AREA}};

typedef struct ZeroWrite {
    BlockNode *node;
    ReqFlags data_flags; /* what its data writes are handed */
    ReqFlags flags;      /* what the driver's zero write is handed */
    ReqFlags native;     /* flags that every part so far has honoured */
    bool fallback;       /* may write data */
    bool unsupported;    /* the driver has said -ENOTSUP: do not ask again */
} ZeroWrite;

static IoVec zeroes(int64_t bytes)
{
    return iov_slice(iov_of(zero_vecs, (int)DIV_ROUND_UP(bytes, ZERO_AREA)), 0, (size_t)bytes);
}

static int coroutine_fn write_data(ZeroWrite *z, int64_t offset, int64_t bytes)
{
    int64_t unit = z->node->limits.request_alignment;
    int64_t max = ALIGN_DOWN(MIN(MAX(ZERO_CHUNK, unit), io_max_transfer(z->node)), unit);
    int r = 0;

    z->native &= z->node->supported_write_flags;
    while (bytes > 0 && r == 0) {
        int64_t n = MIN(bytes, max);

        r = io_drv_pwritev(z->node, offset, zeroes(n), z->data_flags);
        offset += n;
        bytes -= n;
    }
    return r;
}

static int coroutine_fn
drv_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    int r;

    if (!node->drv->co_pwrite_zeroes) {
        return node->drv->is_filter && node->file
                   ? child_co_pwrite_zeroes(node->file, offset, bytes, flags)
                   : -ENOTSUP;
    }
    io_debug_event(node, "pwritev_zero");
    node_request_begin(node);
    r = io_answer(node->drv->co_pwrite_zeroes(node, offset, bytes, flags));
    node_request_end(node);
    return r;
}

/* One part, aligned and within the driver's limits. */
static int coroutine_fn write_part(ZeroWrite *z, int64_t offset, int64_t bytes)
{
    int r = -ENOTSUP;

    if (!z->unsupported) {
        r = drv_pwrite_zeroes(z->node, offset, bytes, z->flags);
        if (r == 0) {
            z->native &= z->node->supported_zero_flags;
        }
    }
    if (r != -ENOTSUP || !z->fallback) {
        return r;
    }
    z->unsupported = bytes >= z->node->limits.pwrite_zeroes_alignment;
    return write_data(z, offset, bytes);
}

/* How much of an aligned range to do at once. */
static int64_t part_bytes(const BlockNode *node, int64_t offset, int64_t bytes)
{
    const BlockLimits *l = &node->limits;
    int64_t unit = MAX(l->pwrite_zeroes_alignment, l->request_alignment);
    int64_t max = l->max_pwrite_zeroes > 0 ? l->max_pwrite_zeroes : BLOCK_MAX_REQUEST;
    int64_t into = offset % unit;

    max = MAX(MIN(max, BLOCK_MAX_REQUEST) / unit * unit, unit);
    if (into != 0) {
        return MIN(bytes, unit - into);
    }
    return bytes < unit ? bytes : MIN(bytes / unit * unit, max);
}

static int coroutine_fn write_aligned(ZeroWrite *z, int64_t offset, int64_t bytes)
{
    int r = 0;

    while (bytes > 0 && r == 0) {
        int64_t n = part_bytes(z->node, offset, bytes);

        r = write_part(z, offset, n);
        offset += n;
        bytes -= n;
    }
    return r;
}

/* Less than a unit, or what sticks out of whole units. */
static int coroutine_fn write_edge(ZeroWrite *z, int64_t offset, int64_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    if (!z->fallback) {
        return -ENOTSUP;
    }
    z->native &= z->node->supported_write_flags;
    return io_co_write_padded(z->node, offset, zeroes(bytes), z->data_flags);
}

static int coroutine_fn write_all(ZeroWrite *z, int64_t offset, int64_t bytes)
{
    int64_t unit = z->node->limits.request_alignment;
    int64_t head = MIN(bytes, ALIGN_UP(offset, unit) - offset);
    int64_t tail = (offset + bytes) % unit;
    int r;

    if (head == bytes) {
        return write_edge(z, offset, bytes);
    }
    r = write_edge(z, offset, head);
    if (r == 0) {
        r = write_aligned(z, offset + head, bytes - head - tail);
    }
    if (r == 0) {
        r = write_edge(z, offset + bytes - tail, tail);
    }
    return r;
}

int coroutine_fn
io_co_pwrite_zeroes(BlockNode *node, IoRights rights, int64_t offset, int64_t bytes, ReqFlags flags)
{
    ZeroWrite z = {.native = REQ_FUA};
    IoHold hold;
    int r;

    while (!node->drv->co_pwrite_zeroes && io_may_pass_by(node) && !node->flags.read_only) {
        flags &= node->flags.unmap ? ~0u : ~REQ_MAY_UNMAP;
        node = node->file->node;
    }
    z.node = node;
    r = io_co_may_change(node, &rights, offset, bytes);
    if (r < 0 || bytes == 0) {
        return r;
    }
    if (!node->flags.unmap) {
        flags &= ~REQ_MAY_UNMAP;
    }
    z.fallback = !(flags & REQ_NO_FALLBACK);
    if (!z.fallback && node->drv->co_pwrite_zeroes &&
        !(node->supported_zero_flags & REQ_NO_FALLBACK)) {
        return -ENOTSUP; /* the driver may write data itself */
    }
    z.flags = flags & (REQ_HINTS | node->supported_zero_flags);
    z.data_flags = flags & (REQ_HINTS | REQ_FUA);

    r = io_co_hold_write(&hold, node, offset, bytes, !io_is_aligned(node, offset, bytes), flags);
    if (r < 0) {
        return r;
    }
    r = io_is_fenced(&rights) ? -*rights.fence : write_all(&z, offset, bytes);
    io_release(&hold);
    return io_finish_write(node, offset, bytes, flags, z.native, r);
}
