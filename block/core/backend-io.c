/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests start here: the gate, the backend's own checks, the statistics.
 *
 * A backend's request lies inside the disk (-EIO if not), needs the permission
 * of the root edge, and is refused while the backend is fenced. The fence is
 * looked at after the gate, and once more by the request path after each wait
 * for other requests of the root, so nothing that waited slips through.
 */
#include "io-internal.h"

#include "acct.h"

/* A request between backend_enter() and backend_leave(). */
typedef struct Started {
    BackendReq req;
    int64_t start_ns;
    AcctType type;
    int64_t bytes;
} Started;

static inline void coroutine_fn start(Started *s, BlockBackend *be, AcctType type, int64_t bytes)
{
    s->start_ns = loop_now_ns();
    s->type = type;
    s->bytes = bytes;
    backend_enter(be, &s->req);
}

static inline int finish(Started *s, BlockBackend *be, int r)
{
    backend_leave(be, &s->req);
    acct_done(be->stats, s->type, s->bytes, s->start_ns, loop_now_ns(), r);
    return r;
}

/* Refused before it reached the node. */
static int refuse(Started *s, BlockBackend *be, int r)
{
    backend_leave(be, &s->req);
    acct_invalid(be->stats, s->type);
    return r;
}

static inline int check_read(const BlockBackend *be, int64_t offset, int64_t bytes)
{
    if (unlikely(!be->root)) {
        return -ENOMEDIUM;
    }
    if (unlikely(!io_range_is_sane(offset, bytes) ||
                 offset + bytes > node_length(be->root->node))) {
        return -EIO;
    }
    return 0;
}

static inline int check_change(const BlockBackend *be, int64_t offset, int64_t bytes)
{
    int r = check_read(be, offset, bytes);

    if (unlikely(r < 0)) {
        return r;
    }
    if (unlikely(be->fence)) {
        return -be->fence;
    }
    if (unlikely(!(be->root->perm.taken & PERM_WRITE) || be->root->node->flags.read_only)) {
        return -EPERM;
    }
    return 0;
}

static inline ReqFlags with_cache_mode(const BlockBackend *be, ReqFlags flags)
{
    return be->write_cache ? flags : flags | REQ_FUA;
}

static inline IoRights rights_of(const BlockBackend *be)
{
    return (IoRights){.fence = &be->fence};
}

/* --- data --- */

int coroutine_fn backend_co_preadv(BlockBackend *be, int64_t offset, IoVec iov, ReqFlags flags)
{
    Started s;
    int r;

    start(&s, be, ACCT_READ, iov.bytes);
    r = check_read(be, offset, iov.bytes);
    if (unlikely(r < 0)) {
        return refuse(&s, be, r);
    }
    return finish(&s, be, io_co_preadv(be->root->node, offset, iov, flags));
}

int coroutine_fn backend_co_pwritev(BlockBackend *be, int64_t offset, IoVec iov, ReqFlags flags)
{
    Started s;
    int r;

    start(&s, be, ACCT_WRITE, iov.bytes);
    r = check_change(be, offset, iov.bytes);
    if (unlikely(r < 0)) {
        return refuse(&s, be, r);
    }
    r = io_co_pwritev(be->root->node, rights_of(be), offset, iov, with_cache_mode(be, flags));
    return finish(&s, be, r);
}

int coroutine_fn backend_co_pread(BlockBackend *be, int64_t offset, void *buf, size_t bytes)
{
    struct iovec v;

    return backend_co_preadv(be, offset, iov_one(&v, buf, bytes), 0);
}

int coroutine_fn
backend_co_pwrite(BlockBackend *be, int64_t offset, const void *buf, size_t bytes, ReqFlags flags)
{
    struct iovec v;

    return backend_co_pwritev(be, offset, iov_one(&v, (void *)buf, bytes), flags);
}

int coroutine_fn
backend_co_pwrite_zeroes(BlockBackend *be, int64_t offset, int64_t bytes, ReqFlags flags)
{
    Started s;
    int r;

    start(&s, be, ACCT_WRITE, bytes);
    r = check_change(be, offset, bytes);
    if (r < 0) {
        return refuse(&s, be, r);
    }
    r = io_co_pwrite_zeroes(be->root->node, rights_of(be), offset, bytes,
                            with_cache_mode(be, flags));
    return finish(&s, be, r);
}

int coroutine_fn backend_co_pdiscard(BlockBackend *be, int64_t offset, int64_t bytes)
{
    Started s;
    int r;

    start(&s, be, ACCT_UNMAP, bytes);
    r = check_change(be, offset, bytes);
    if (r < 0) {
        return refuse(&s, be, r);
    }
    return finish(&s, be, io_co_pdiscard(be->root->node, rights_of(be), offset, bytes));
}

int coroutine_fn backend_co_flush(BlockBackend *be)
{
    Started s;

    start(&s, be, ACCT_FLUSH, 0);
    if (!be->root) {
        return refuse(&s, be, -ENOMEDIUM);
    }
    return finish(&s, be, node_co_flush(be->root->node));
}

/* --- questions and changes of the whole --- */

int coroutine_fn
backend_co_block_status_above(BlockBackend *be, BlockNode *base, bool want_zero, int64_t offset,
                              int64_t bytes, BlockStatus *ret, int *ret_depth)
{
    BackendReq req;
    int r;

    backend_enter(be, &req);
    r = check_read(be, offset, bytes);
    if (r == 0) {
        r = node_co_block_status_above(be->root->node, base, want_zero, offset, bytes, ret,
                                       ret_depth);
    }
    backend_leave(be, &req);
    return r;
}

static bool may_truncate(const BlockBackend *be, GError **errp)
{
    if (!be->root) {
        return fail(errp, "No medium inserted");
    }
    if (be->fence) {
        return fail_errno(errp, be->fence, "Could not resize '%s'", be->root->node->node_name);
    }
    return true;
}

bool coroutine_fn backend_co_truncate(BlockBackend *be, int64_t length, bool exact,
                                      BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    BackendReq req;
    bool ok;

    backend_enter(be, &req);
    ok =
        may_truncate(be, errp) && child_co_truncate(be->root, length, exact, prealloc, flags, errp);
    backend_leave(be, &req);
    return ok;
}

int coroutine_fn backend_co_make_empty(BlockBackend *be)
{
    BackendReq req;
    int r;

    backend_enter(be, &req);
    r = check_change(be, 0, 0);
    if (r == 0) {
        r = node_co_make_empty(be->root->node);
    }
    backend_leave(be, &req);
    return r;
}

/* --- a whole of several requests --- */

void coroutine_fn backend_co_enter(BlockBackend *be, BackendReq *req)
{
    backend_enter(be, req);
}

bool backend_try_enter(BlockBackend *be, BackendReq *req)
{
    if (be->gate_closed) {
        return false;
    }
    backend_admit(be, req);
    return true;
}

void backend_exit(BlockBackend *be, BackendReq *req)
{
    backend_leave(be, req);
}
