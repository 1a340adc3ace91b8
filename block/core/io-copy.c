/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy offload and emptying: requests that move or drop whole contents.
 *
 * The source of a copy is followed down to the file that stores it: through
 * drivers that only shift the offset (they answer block status with RAW), and
 * by drivers with a map of their own, who hold what they map until the copy is
 * done. The destination's drivers pass the request down themselves. Whoever
 * cannot says -ENOTSUP, and the caller copies through memory.
 *
 * What the source holds must not be waited for by what the destination does.
 * So only drivers that do nothing but pass the copy on may stand above the
 * destination's file: copy-before-write would first save into its target what
 * is overwritten, and wait for the readers of that, of whom we may be one.
 */
#include "io-internal.h"

static bool leads_to_file(const BlockNode *dst)
{
    while (dst->drv->co_copy_range && !dst->drv->is_protocol) {
        dst = dst->file->node;
    }
    return dst->drv->co_copy_range != NULL;
}

/* Follow @offset of @node, which is held, through drivers that shift it at most. What tracks its
 * requests below that would have to be held as well. */
static int coroutine_fn find_source(BlockNode **node, int64_t *offset, int64_t bytes)
{
    while (!(*node)->drv->is_protocol && !(*node)->drv->co_copy_range_from) {
        const BlockDriver *drv = (*node)->drv;

        if (drv->is_filter && !drv->co_preadv && (*node)->file) {
            *node = (*node)->file->node;
        } else if (drv->co_block_status && !drv->supports_backing && bytes > 0) {
            BlockStatus st = {0};
            int r = drv->co_block_status(*node, false, *offset, bytes, &st);

            if (r < 0 || !(st.flags & STATUS_RAW) || st.bytes < bytes) {
                return -ENOTSUP;
            }
            *node = st.file;
            *offset = st.map;
        } else {
            return -ENOTSUP;
        }
        if ((*node)->track_requests) {
            return -ENOTSUP;
        }
    }
    return 0;
}

/* @src is a protocol node: the destination's drivers do the rest. */
static int coroutine_fn copy_to(BlockChild *dst_child, int64_t dst_offset, BlockNode *src,
                                int64_t src_offset, int64_t bytes, ReqFlags flags)
{
    BlockNode *dst = dst_child->node;
    ReqFlags drv_flags = flags & (REQ_HINTS | dst->supported_write_flags);
    IoHold hold;
    int r = io_co_hold_write(&hold, dst, dst_offset, bytes, false, flags);

    if (r == 0) {
        node_request_begin(dst);
        r = io_answer(dst->drv->co_copy_range(dst, src, src_offset, dst_offset, bytes, drv_flags));
        node_request_end(dst);
        io_release(&hold);
    }
    return io_finish_write(dst, dst_offset, bytes, flags, dst->supported_write_flags, r);
}

static int coroutine_fn copy_held(BlockNode *src, int64_t src_offset, BlockChild *dst,
                                  int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    int r = find_source(&src, &src_offset, bytes);

    if (r < 0) {
        return r;
    }
    if (!src->drv->co_copy_range_from) {
        return copy_to(dst, dst_offset, src, src_offset, bytes, flags);
    }
    node_request_begin(src);
    r = io_answer(
        src->drv->co_copy_range_from(src, src_offset, dst, dst_offset, bytes, flags));
    node_request_end(src);
    return r;
}

int coroutine_fn node_co_copy_range(BlockNode *src, int64_t src_offset, BlockChild *dst_child,
                                    int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    IoRights rights = {.grow = (dst_child->perm.taken & PERM_RESIZE) != 0};
    BlockNode *dst = dst_child->node;
    IoHold hold;
    int r;

    if (!(dst_child->perm.taken & PERM_WRITE)) {
        return -EPERM;
    }
    r = io_co_may_change(dst, &rights, dst_offset, bytes);
    if (r < 0 || bytes == 0) {
        return r;
    }
    if (!io_range_is_sane(src_offset, bytes) || src_offset + bytes > node_length(src)) {
        return -EIO;
    }
    if (!leads_to_file(dst) || bytes > io_max_transfer(dst) ||
        !io_is_aligned(dst, dst_offset, bytes) || !io_is_aligned(src, src_offset, bytes)) {
        return -ENOTSUP;
    }
    r = io_co_hold_read(&hold, src, src_offset, bytes, flags & ~REQ_SERIALISING);
    if (r == 0) {
        r = copy_held(src, src_offset, dst_child, dst_offset, bytes, flags);
        io_release(&hold);
    }
    return r;
}

int coroutine_fn child_co_copy_range(BlockChild *src, int64_t src_offset, BlockChild *dst,
                                     int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    return node_co_copy_range(src->node, src_offset, dst, dst_offset, bytes, flags);
}
