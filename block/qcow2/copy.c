/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy offload out of an image: each run goes to the destination from where it
 * is stored, as a read of it would. What is not worth a call of its own is
 * left to the caller, who copies through memory.
 */
#include <errno.h>

#include "qcow2.h"
#include "scratch.h"

/* Below this, handing a copy to another thread costs more than two calls of our own. */
#define COPY_MIN_RUN (64 * KiB)

int coroutine_fn qcow2_co_copy_stored(Qcow2 *q, uint64_t host, const Qcow2Copy *c)
{
    BlockNode *file = qcow2_file(q)->node;

    /* The last cluster may reach beyond the file's end, where a read gives zeroes. */
    if (c->bytes < COPY_MIN_RUN || host + c->bytes > (uint64_t)node_length(file)) {
        return -ENOTSUP;
    }
    return node_co_copy_range(file, (int64_t)host, c->dst, (int64_t)c->to,
                              (int64_t)c->bytes, c->flags);
}

int coroutine_fn qcow2_co_copy_zeroes(const Qcow2Copy *c)
{
    return child_co_pwrite_zeroes(c->dst, (int64_t)c->to, (int64_t)c->bytes,
                                  c->flags | REQ_MAY_UNMAP);
}

int coroutine_fn qcow2_co_copy_backing(Qcow2 *q, uint64_t guest, const Qcow2Copy *c)
{
    uint64_t below = qcow2_backing_bytes(q);

    if (guest >= below) {
        return qcow2_co_copy_zeroes(c);
    }
    if (c->bytes < COPY_MIN_RUN || c->bytes > below - guest) {
        return -ENOTSUP;
    }
    return node_co_copy_range(q->node->backing->node, (int64_t)guest, c->dst, (int64_t)c->to,
                              (int64_t)c->bytes, c->flags);
}

static int coroutine_fn copy_extent(Qcow2 *q, const Qcow2Extent *e, uint64_t guest,
                                    const Qcow2Copy *c)
{
    switch (e->type) {
    case QCOW2_DATA:
        return qcow2_co_copy_stored(q, e->host, c);
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC:
        return qcow2_co_copy_zeroes(c);
    case QCOW2_COMPRESSED:
        return -ENOTSUP;
    case QCOW2_UNALLOCATED:
        return qcow2_co_copy_backing(q, guest, c);
    }
    g_assert_not_reached();
}

int coroutine_fn qcow2_co_copy_range_from(BlockNode *node, int64_t offset, BlockChild *dst,
                                          int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    Qcow2 *q = qcow2_of(node);
    Qcow2Copy c = {.dst = dst, .to = (uint64_t)dst_offset, .flags = flags};
    uint64_t guest = (uint64_t)offset, end = guest + (uint64_t)bytes;
    unsigned parity;
    int r = 0;

    if (!qcow2_is_usable(q)) {
        return -EIO;
    }
    if (q->scratch) {
        c.bytes = (uint64_t)bytes;
        return scratch_co_copy_from(q, guest, &c);
    }
    parity = qcow2_enter(q);
    while (guest < end && r == 0) {
        Qcow2Extent e;

        r = qcow2_co_map(q, guest, end - guest, &e);
        if (r == 0) {
            c.bytes = e.bytes;
            r = copy_extent(q, &e, guest, &c);
            guest += e.bytes;
            c.to += e.bytes;
        }
    }
    qcow2_leave(q, parity);
    return r;
}
