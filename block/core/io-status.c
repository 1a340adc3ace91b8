/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status: what a layer, or a chain of them, holds at the start of a range.
 *
 * A driver answers in the terms of STATUS_*; RAW is followed to the child it
 * names, RECURSE makes the core look whether the child's range is zero. An
 * answer covers at least one byte of the range unless the range is empty or
 * starts at the end.
 */
#include "io-internal.h"

static void assert_status(const BlockNode *node, int64_t asked, const BlockStatus *st)
{
    assert(st->bytes > 0);
    assert(IS_ALIGNED(st->bytes, (int64_t)node->limits.request_alignment));
    assert(asked > 0);
    assert(!(st->flags & STATUS_OFFSET_VALID) || st->map >= 0);
    assert(!(st->flags & STATUS_RAW) || (st->file && (st->flags & STATUS_OFFSET_VALID)));
}

/* The answer of a driver without a callback. */
static BlockStatus plain_status(BlockNode *node, int64_t offset, int64_t bytes)
{
    BlockStatus st = {.bytes = bytes, .map = offset};

    if (node->drv->is_filter && node->file) {
        st.flags = STATUS_RAW | STATUS_OFFSET_VALID;
        st.file = node->file->node;
    } else {
        st.flags = STATUS_DATA | STATUS_ALLOCATED;
        if (node->drv->is_protocol) {
            st.flags |= STATUS_OFFSET_VALID;
            st.file = node;
        }
    }
    return st;
}

/* Ask the driver about the rounded range and cut the answer to the one asked for. */
static int coroutine_fn
driver_status(BlockNode *node, bool want_zero, int64_t offset, int64_t bytes, BlockStatus *ret)
{
    int64_t unit = node->limits.request_alignment;
    int64_t start = ALIGN_DOWN(offset, unit);
    int64_t end = ALIGN_UP(offset + bytes, unit);
    BlockStatus st = {0};
    int r;

    if (!node->drv->co_block_status) {
        *ret = plain_status(node, offset, bytes);
        return 0;
    }
    node_request_begin(node);
    r = io_answer(node->drv->co_block_status(node, want_zero, start, end - start, &st));
    node_request_end(node);
    if (r < 0) {
        return r;
    }
    assert_status(node, end - start, &st);
    st.bytes = MIN(st.bytes - (offset - start), bytes);
    st.map += st.flags & STATUS_OFFSET_VALID ? offset - start : 0;
    *ret = st;
    return 0;
}

/* The child may know that the stored data are zeroes. */
static void coroutine_fn look_for_zeroes(BlockNode *node, BlockStatus *st)
{
    BlockStatus below;
    int r;

    if (!(st->flags & STATUS_DATA) || (st->flags & STATUS_ZERO) ||
        !(st->flags & STATUS_OFFSET_VALID) || !st->file || st->file == node) {
        return;
    }
    r = node_co_block_status(st->file, true, st->map, st->bytes, &below);
    if (r < 0) {
        return; /* an optimisation: the answer is right without it */
    }
    if ((below.flags & STATUS_EOF) && below.bytes == 0) {
        st->flags |= STATUS_ZERO; /* a file that ends early reads as zeroes */
    } else if (below.flags & STATUS_ZERO) {
        st->bytes = MIN(st->bytes, below.bytes);
        st->flags |= STATUS_ZERO;
    } else {
        st->bytes = MIN(st->bytes, below.bytes);
    }
}

/* What the layer itself leaves open but its place in the graph decides. */
static void add_what_follows(BlockNode *node, bool want_zero, int64_t offset, BlockStatus *st)
{
    if (st->flags & (STATUS_DATA | STATUS_ZERO)) {
        st->flags |= STATUS_ALLOCATED;
    } else if (want_zero && node->drv->supports_backing && !(st->flags & STATUS_ALLOCATED)) {
        BlockNode *below = node_backing(node);

        if (!below || node_length(below) <= offset) {
            st->flags |= STATUS_ZERO;
        }
    }
}

static int coroutine_fn
status_inside(BlockNode *node, bool want_zero, int64_t offset, int64_t bytes, BlockStatus *ret)
{
    BlockStatus st;
    int r = driver_status(node, want_zero, offset, bytes, &st);

    if (r < 0) {
        return r;
    }
    if (st.flags & STATUS_RAW) {
        r = node_co_block_status(st.file, want_zero, st.map, st.bytes, ret);
        if (r == 0 && ret->bytes == 0) { /* the child has shrunk under its parent */
            *ret = (BlockStatus){.flags = STATUS_ZERO | STATUS_ALLOCATED, .bytes = st.bytes};
        }
        if (r == 0) {
            ret->flags &= ~STATUS_EOF;
        }
        return r;
    }
    add_what_follows(node, want_zero, offset, &st);
    if (want_zero && (st.flags & STATUS_RECURSE)) {
        look_for_zeroes(node, &st);
    }
    st.flags &= ~(STATUS_RECURSE | STATUS_EOF);
    *ret = st;
    return 0;
}

int coroutine_fn node_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                      int64_t bytes, BlockStatus *ret)
{
    int64_t length = node_length(node);
    int r;

    if (length < 0 || !io_range_is_sane(offset, bytes)) {
        return -EIO;
    }
    if (offset >= length) {
        *ret = (BlockStatus){.flags = STATUS_EOF};
        return 0;
    }
    bytes = MIN(bytes, length - offset);
    if (bytes == 0) {
        *ret = (BlockStatus){0};
        return 0;
    }
    r = status_inside(node, want_zero, offset, bytes, ret);
    if (r == 0 && offset + ret->bytes == length) {
        ret->flags |= STATUS_EOF;
    }
    return r;
}

/* --- chains --- */

static BlockNode *layer_below(BlockNode *node, int *depth)
{
    if (node->drv->is_filter) {
        return node->file ? node->file->node : NULL;
    }
    *depth += 1;
    return node->backing ? node->backing->node : NULL;
}

/*
 * @include_base: @base is asked too. @st has the answer for @node. On the way
 * down the range only gets shorter, so that one layer's answer holds for it all.
 */
static int coroutine_fn
ask_layers_below(BlockNode *node, BlockNode *base, bool include_base, bool want_zero,
                 int64_t offset, BlockStatus *st, int *depth)
{
    int64_t end = st->flags & STATUS_EOF ? offset + st->bytes : -1;
    int64_t bytes = st->bytes;

    for (BlockNode *p = layer_below(node, depth); p && (include_base || p != base);
         p = layer_below(p, depth)) {
        int r = node_co_block_status(p, want_zero, offset, bytes, st);

        if (r < 0) {
            return r;
        }
        if (st->bytes == 0) { /* past the end of a shorter layer: zeroes, and here is decided so */
            *st = (BlockStatus){.flags = STATUS_ZERO | STATUS_ALLOCATED, .bytes = bytes, .file = p};
            break;
        }
        st->flags &= ~STATUS_EOF;
        bytes = st->bytes;
        if ((st->flags & STATUS_ALLOCATED) || p == base) {
            break;
        }
    }
    if (end >= 0 && offset + st->bytes == end) {
        st->flags |= STATUS_EOF;
    }
    return 0;
}

static int coroutine_fn
status_above(BlockNode *node, BlockNode *base, bool include_base, bool want_zero, int64_t offset,
             int64_t bytes, BlockStatus *ret, int *ret_depth)
{
    BlockStatus st;
    int depth = 0;
    int r;

    if (!include_base && node == base) {
        *ret = (BlockStatus){.bytes = bytes};
        *ret_depth = 0;
        return 0;
    }
    r = node_co_block_status(node, want_zero, offset, bytes, &st);
    if (r < 0) {
        return r;
    }
    if (st.bytes > 0 && !(st.flags & STATUS_ALLOCATED) && node != base) {
        r = ask_layers_below(node, base, include_base, want_zero, offset, &st, &depth);
        if (r < 0) {
            return r;
        }
    }
    *ret = st;
    *ret_depth = depth;
    return 0;
}

int coroutine_fn
node_co_block_status_above(BlockNode *node, BlockNode *base, bool want_zero, int64_t offset,
                           int64_t bytes, BlockStatus *ret, int *ret_depth)
{
    int depth;

    return status_above(node, base, false, want_zero, offset, bytes, ret,
                        ret_depth ? ret_depth : &depth);
}

int coroutine_fn node_co_is_allocated_above(BlockNode *node, BlockNode *base, bool include_base,
                                            int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    BlockStatus st;
    int depth;
    int r = status_above(node, base, include_base, false, offset, bytes, &st, &depth);

    if (r < 0) {
        return r;
    }
    *ret_bytes = st.bytes;
    return (st.flags & STATUS_ALLOCATED) != 0;
}
