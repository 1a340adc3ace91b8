/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Discard: an advice. What is not made of whole units is left alone, what the
 * driver cannot do is no error, and nothing happens with discard=ignore.
 *
 * debug_event_deliver() is here too: see block/driver.h.
 */
#include "io-internal.h"

unsigned debug_listeners;

void coroutine_fn debug_event_deliver(BlockNode *node, const char *event)
{
    while (!node->drv->co_debug_event && node->drv->is_filter && node->file) {
        node = node->file->node;
    }
    if (node->drv->co_debug_event) {
        node->drv->co_debug_event(node, event);
    }
}

static int64_t discard_unit(const BlockNode *node)
{
    return MAX(node->limits.pdiscard_alignment, node->limits.request_alignment);
}

/* An aligned range, cut at what the driver takes at once. */
static int coroutine_fn discard_parts(BlockNode *node, int64_t offset, int64_t bytes)
{
    int64_t unit = discard_unit(node);
    int64_t max = node->limits.max_pdiscard > 0 ? node->limits.max_pdiscard : BLOCK_MAX_REQUEST;
    int r = 0;

    max = MAX(MIN(max, BLOCK_MAX_REQUEST) / unit * unit, unit);
    while (bytes > 0 && (r == 0 || r == -ENOTSUP)) {
        int64_t n = MIN(bytes, max);

        node_request_begin(node);
        r = io_answer(node->drv->co_pdiscard(node, offset, n));
        node_request_end(node);
        offset += n;
        bytes -= n;
    }
    return r == -ENOTSUP ? 0 : r;
}

int coroutine_fn io_co_pdiscard(BlockNode *node, IoRights rights, int64_t offset, int64_t bytes)
{
    int64_t unit, start, end;
    IoHold hold;
    int r;

    while (!node->drv->co_pdiscard && io_may_pass_by(node) && !node->flags.read_only &&
           node->flags.unmap) {
        node = node->file->node;
    }
    if (rights.grow && io_range_is_sane(offset, bytes)) {
        /* A format may give back clusters that it never wrote, past the end of its file. */
        bytes = MAX(MIN(bytes, node_length(node) - offset), 0);
    }
    r = io_co_may_change(node, &rights, offset, bytes);
    if (r < 0 || !node->flags.unmap || !node->drv->co_pdiscard) {
        return r;
    }
    unit = discard_unit(node);
    start = (offset + unit - 1) / unit * unit;
    end = offset + bytes == node_length(node) ? offset + bytes : (offset + bytes) / unit * unit;
    end = ALIGN_DOWN(end, (int64_t)node->limits.request_alignment);
    if (start >= end) {
        return 0;
    }
    r = io_co_hold_write(&hold, node, start, end - start, false, 0);
    assert(r == 0); /* only REQ_NO_WAIT is refused */
    r = io_is_fenced(&rights) ? -*rights.fence : discard_parts(node, start, end - start);
    io_release(&hold);
    io_write_done(node, end);
    return r;
}
