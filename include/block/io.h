/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one door for requests. It checks range, flags, alignment and permission,
 * tracks the request, orders overlapping serialising ones, pads, splits, falls
 * back (zero -> write, copy -> bounce), calls the driver and asserts its answer.
 *
 * Outside the node: a backend's request is -EIO. On an edge a read past the end
 * reads zeroes there, a write past the end grows the node if the edge holds
 * PERM_RESIZE and is -EIO if not; such an edge's discard is cut short.
 *
 * All return 0 or -errno: -EIO as above, -EPERM on a read-only node or on an
 * edge without write permission, -ENOTSUP as documented. bytes may be 0 (success, nothing happens).
 *
 * child_co_*: a request that came from above, on an edge. Only a backend
 * (backend.h) starts requests.
 */
#ifndef BLOCK_IO_H
#define BLOCK_IO_H

#include <glib.h>

#include "block/types.h"
#include "util/iov.h"

int coroutine_fn child_co_preadv(BlockChild *c, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn child_co_pwritev(BlockChild *c, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn child_co_pread(BlockChild *c, int64_t offset, void *buf, size_t bytes);
int coroutine_fn child_co_pwrite(BlockChild *c, int64_t offset, const void *buf, size_t bytes,
                                 ReqFlags flags);
/** child_co_pwrite_zeroes() - any length; falls back to writes unless REQ_NO_FALLBACK */
int coroutine_fn child_co_pwrite_zeroes(BlockChild *c, int64_t offset, int64_t bytes,
                                        ReqFlags flags);
/** child_co_pdiscard() - advisory: 0 also where nothing can be discarded */
int coroutine_fn child_co_pdiscard(BlockChild *c, int64_t offset, int64_t bytes);
int coroutine_fn child_co_flush(BlockChild *c);
/** child_co_copy_range() - offloaded if both ends can, else -ENOTSUP (callers bounce) */
int coroutine_fn child_co_copy_range(BlockChild *src, int64_t src_offset, BlockChild *dst,
                                     int64_t dst_offset, int64_t bytes, ReqFlags flags);
/** node_co_copy_range() - for drivers that pass a copy down: @src is where the data is stored */
int coroutine_fn node_co_copy_range(BlockNode *src, int64_t src_offset, BlockChild *dst,
                                    int64_t dst_offset, int64_t bytes, ReqFlags flags);
bool coroutine_fn child_co_truncate(BlockChild *c, int64_t length, bool exact,
                                    BlockPreallocMode prealloc, ReqFlags flags, GError **errp);

/* --- questions --- */

/** node_co_block_status() - this layer's answer for the start of the range */
int coroutine_fn node_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                      int64_t bytes, BlockStatus *ret);
/** node_co_block_status_above() - the answer of the chain from @node down to, not including,
 * @base (NULL: to the bottom); @ret_depth (may be NULL): layers passed, 0 = @node */
int coroutine_fn node_co_block_status_above(BlockNode *node, BlockNode *base, bool want_zero,
                                            int64_t offset, int64_t bytes, BlockStatus *ret,
                                            int *ret_depth);
/** node_co_is_allocated_above() - 1 if a layer from @node down to @base (included if
 * @include_base) decides the start of the range, 0 if not, -errno; *ret_bytes: for how long */
int coroutine_fn node_co_is_allocated_above(BlockNode *node, BlockNode *base, bool include_base,
                                            int64_t offset, int64_t bytes, int64_t *ret_bytes);

/** node_co_flush() - for commands and jobs that hold the node */
int coroutine_fn node_co_flush(BlockNode *node);
int coroutine_fn node_co_make_empty(BlockNode *node);

#endif
