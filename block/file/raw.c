/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw: an image without a format, the whole of a file or a window into it.
 *
 * Without offset and size it is as good as not there: permissions pass through
 * as those of a filter. With a size the length is fixed.
 *
 * A node whose format was guessed to be raw must not be given a first sector
 * that the next guess would take for another format, so such a node takes
 * whole sectors and looks at writes to the first one.
 */
#include <errno.h>

#include "block/driver.h"
#include "qapi/drivers.h"

#define SECTOR 512

typedef struct RawState {
    int64_t offset; /* of our first byte in the file */
    int64_t size;
    bool has_size;
} RawState;

static bool is_whole_file(const RawState *s)
{
    return s->offset == 0 && !s->has_size;
}

/* --- the window --- */

static bool check_window(const RawState *s, int64_t file_length, GError **errp)
{
    if (s->offset > file_length) {
        return fail(errp, "Offset (%lld) cannot be greater than size of the containing file (%lld)",
                    (long long)s->offset, (long long)file_length);
    }
    if (s->has_size && s->size > file_length - s->offset) {
        return fail(errp,
                    "The sum of offset (%lld) and size (%lld) has to be smaller or equal to "
                    " the actual size of the containing file (%lld)",
                    (long long)s->offset, (long long)s->size, (long long)file_length);
    }
    if (s->has_size && s->size % SECTOR != 0) {
        return fail(errp, "Specified size is not multiple of %d", SECTOR);
    }
    return true;
}

static int64_t window_length(const RawState *s, int64_t file_length)
{
    return s->has_size ? s->size : MAX(file_length - s->offset, 0);
}

static RawState window_of_options(const BlockdevOptionsRaw *o)
{
    return (RawState){
        .offset = o->has_offset ? o->offset : 0,
        .size = o->has_size ? o->size : 0,
        .has_size = o->has_size,
    };
}

/* --- life --- */

static bool coroutine_fn raw_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsRaw *o = &opts->u.raw;
    RawState *s = node->state;
    int64_t file_length;

    *s = window_of_options(o);
    if (!node_co_open_child(node, "file", o->file, CHILD_DATA | CHILD_PRIMARY, errp)) {
        return false;
    }
    file_length = node_length(node->file->node);
    if (!check_window(s, file_length, errp)) {
        return false;
    }
    node->length = window_length(s, file_length);
    node->supported_write_flags = REQ_FUA;
    node->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    return true;
}

static bool coroutine_fn raw_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    const RawState *old = node->state;
    RawState s = *old;

    if (rs->opts) {
        s = window_of_options(&rs->opts->u.raw);
    }
    if (is_whole_file(&s) != is_whole_file(old)) {
        return fail(errp, "Cannot change between a whole file and a part of it");
    }
    if (!check_window(&s, node_length(node->file->node), errp)) {
        return false;
    }
    rs->driver_private = g_memdup2(&s, sizeof(s));
    return true;
}

static void raw_reopen_commit(BlockNode *node, ReopenState *rs)
{
    RawState *s = node->state;

    *s = *(RawState *)rs->driver_private;
    node->length = window_length(s, node_length(node->file->node));
    g_free(rs->driver_private);
}

static void raw_reopen_abort(BlockNode *node, ReopenState *rs)
{
    g_free(rs->driver_private);
}

static PermPair raw_child_perm(BlockNode *node, const BlockChild *child, const char *name,
                               ChildRole role, PermPair parents, const NodeFlags *flags)
{
    PermPair p;

    if (is_whole_file(node->state)) {
        return perm_default_filter(node, child, name, role, parents, flags);
    }
    p = perm_default_format(node, child, name, role, parents, flags);
    p.taken &= ~(PERM_WRITE | PERM_RESIZE) | parents.taken; /* there is no metadata to write */
    return p;
}

static void raw_refresh_limits(BlockNode *node)
{
    if (node_is_probed(node)) {
        node->limits.request_alignment = MAX(node->limits.request_alignment, SECTOR);
    }
}

static int raw_probe(const uint8_t *head, size_t bytes, const char *filename)
{
    return 1; /* anything can be raw: the last resort */
}

/* --- requests --- */

static int coroutine_fn raw_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    const RawState *s = node->state;

    node_debug_event(node, "read_aio");
    return child_co_preadv(node->file, offset + s->offset, iov, flags);
}

static bool fits(const RawState *s, int64_t offset, int64_t bytes)
{
    return !s->has_size || offset + bytes <= s->size;
}

static bool looks_like_a_format(IoVec iov)
{
    uint8_t head[SECTOR];
    size_t n = iov_copy_out(iov, head, sizeof(head));

    return probe_refuses_write(head, n);
}

static int coroutine_fn raw_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    const RawState *s = node->state;

    if (unlikely(!fits(s, offset, iov.bytes))) {
        return -ENOSPC;
    }
    if (unlikely(offset == 0) && node_is_probed(node) && looks_like_a_format(iov)) {
        return -EPERM;
    }
    node_debug_event(node, "write_aio");
    return child_co_pwritev(node->file, offset + s->offset, iov, flags);
}

static int coroutine_fn
raw_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    const RawState *s = node->state;

    if (!fits(s, offset, bytes)) {
        return -ENOSPC;
    }
    return child_co_pwrite_zeroes(node->file, offset + s->offset, bytes, flags);
}

static int coroutine_fn raw_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    const RawState *s = node->state;

    return child_co_pdiscard(node->file, offset + s->offset, bytes);
}

static int coroutine_fn raw_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                            int64_t bytes, BlockStatus *ret)
{
    const RawState *s = node->state;

    *ret = (BlockStatus){
        .flags = STATUS_RAW | STATUS_OFFSET_VALID,
        .bytes = bytes,
        .map = offset + s->offset,
        .file = node->file->node,
    };
    return 0;
}

static int coroutine_fn raw_co_copy_range(BlockNode *node, BlockNode *src, int64_t src_offset,
                                          int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    const RawState *s = node->state;

    if (!fits(s, dst_offset, bytes)) {
        return -ENOSPC;
    }
    if (node_is_probed(node) && dst_offset < SECTOR) {
        return -ENOTSUP; /* the bytes must be looked at */
    }
    return node_co_copy_range(src, src_offset, node->file, dst_offset + s->offset, bytes, flags);
}

static bool coroutine_fn raw_co_truncate(BlockNode *node, int64_t length, bool exact,
                                         BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    const RawState *s = node->state;

    if (s->has_size) {
        return fail(errp, "Cannot resize fixed-size raw disks");
    }
    if (length > BLOCK_MAX_LENGTH - s->offset) {
        return fail(errp, "Disk size too large for the chosen offset");
    }
    if (!child_co_truncate(node->file, length + s->offset, exact, prealloc, flags, errp)) {
        return false;
    }
    node->length = window_length(s, node_length(node->file->node)); /* that of whole sectors */
    return true;
}

static bool coroutine_fn raw_co_refresh_length(BlockNode *node, GError **errp)
{
    const RawState *s = node->state;
    int64_t file_length = node_length(node->file->node);

    if (!check_window(s, file_length, errp)) {
        return false;
    }
    node->length = window_length(s, file_length);
    return true;
}

static void raw_get_info(BlockNode *node, BlockInfoData *ret)
{
    node_get_info(node->file->node, ret);
}

const BlockDriver driver_raw = {
    .name = "raw",
    .state_size = sizeof(RawState),
    .is_format = true,
    .co_open = raw_co_open,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .reopen_commit = raw_reopen_commit,
    .reopen_abort = raw_reopen_abort,
    .child_perm = raw_child_perm,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_pwrite_zeroes = raw_co_pwrite_zeroes,
    .co_pdiscard = raw_co_pdiscard,
    .co_block_status = raw_co_block_status,
    .co_copy_range = raw_co_copy_range,
    .co_truncate = raw_co_truncate,
    .co_refresh_length = raw_co_refresh_length,
    .refresh_limits = raw_refresh_limits,
    .get_info = raw_get_info,
    .probe = raw_probe,
};
