/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request of an NBD client: check, serve, answer.
 *
 * Source: NBD protocol specification, "Request types" and "Structured reply
 * chunks". An error is always an answer, never the end of the connection, also
 * when it is met in the middle of a read.
 */
#include "nbd-server.h"

#include <errno.h>

#include "util/buf.h"

#define MAX_READ_CHUNKS  32         /* of one READ; the rest is sent as data */
#define SPARSE_MIN       (64 * KiB) /* shorter reads are not worth asking for holes */
#define MAX_EXTENTS      4096       /* of one BLOCK_STATUS; the client asks again */
#define MAX_STATUS_CALLS 4096
#define MAX_EFFECT       (128 * MiB) /* of one call for TRIM and WRITE_ZEROES */
#define CACHE_STEP       (1 * MiB)

/* --- checking --- */

static uint16_t allowed_flags(const NbdConn *c, uint16_t type)
{
    switch (type) {
    case NBD_CMD_READ:
        return NBD_CMD_FLAG_FUA | (c->structured ? NBD_CMD_FLAG_DF : 0);
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static bool changes_disk(uint16_t type)
{
    return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

static int check_range(const NbdConn *c, const NbdRequest *r)
{
    uint64_t size = c->export->ops->length(c->export->disk);

    if (r->offset > size || r->length > size - r->offset) {
        return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES ? ENOSPC : EINVAL;
    }
    return 0;
}

static int check_type(const NbdConn *c, const NbdRequest *r)
{
    switch (r->type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
    case NBD_CMD_CACHE:
        return r->length > NBD_MAX_PAYLOAD ? EINVAL : 0;
    case NBD_CMD_FLUSH:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        return 0;
    case NBD_CMD_BLOCK_STATUS:
        return c->contexts == 0 || r->length == 0 ? EINVAL : 0;
    default:
        return EINVAL;
    }
}

int nbd_req_check(const NbdConn *c, const NbdRequest *r)
{
    int err = check_type(c, r);

    if (err) {
        return err;
    }
    if (r->flags & ~allowed_flags(c, r->type)) {
        return EINVAL;
    }
    if (changes_disk(r->type)) {
        if (!c->export->writable) {
            return EPERM;
        }
        if (c->export->fence_err) {
            return c->export->fence_err;
        }
    }
    return r->type == NBD_CMD_FLUSH ? 0 : check_range(c, r);
}

uint64_t nbd_req_payload(const NbdConn *c, const NbdRequest *r)
{
    switch (r->type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return r->length;
    case NBD_CMD_CACHE:
        return MIN(r->length, CACHE_STEP);
    case NBD_CMD_BLOCK_STATUS: {
        size_t extents = r->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : MAX_EXTENTS;

        return __builtin_popcount(c->contexts) * extents * NBD_EXTENT_BYTES;
    }
    default:
        return 0;
    }
}

/* --- life --- */

NbdServeReq *nbd_req_new(NbdConn *c, const NbdRequest *r)
{
    NbdServeReq *req = g_new(NbdServeReq, 1);

    req->conn = c;
    req->r = *r;
    req->buf = NULL;
    req->buf_bytes = 0;
    req->charged = 0;
    req->first.req = req;
    req->more = NULL;
    req->unsent = 0;
    return req;
}

void nbd_req_free(NbdServeReq *req)
{
    buf_free(req->buf, req->buf_bytes);
    if (req->more) {
        g_ptr_array_unref(req->more);
    }
    g_free(req);
}

void nbd_conn_sent(NbdOut *out, void *opaque)
{
    NbdServeReq *req = container_of(out, NbdReqOut, out)->req;
    NbdConn *c = opaque;
    uint64_t charged = req->charged;

    assert(req->unsent > 0);
    if (--req->unsent > 0) {
        return;
    }
    nbd_req_free(req);
    nbd_conn_put(c, charged);
}

/* --- answering --- */

static NbdReqOut *add_out(NbdServeReq *req)
{
    NbdReqOut *o = &req->first;

    if (req->unsent++ > 0) {
        if (!req->more) {
            req->more = g_ptr_array_new_with_free_func(g_free);
        }
        o = g_new(NbdReqOut, 1);
        o->req = req;
        g_ptr_array_add(req->more, o);
    }
    o->out.body = (IoVec){0};
    o->out.head.iov_base = o->head;
    return o;
}

static void set_body(NbdReqOut *o, void *buf, size_t bytes)
{
    o->out.body = iov_one(&o->vec, buf, bytes);
}

/* Hand all messages of @req to the sender; the last may be gone afterwards, and @req with it. */
static void push_all(NbdServeReq *req)
{
    NbdConn *c = req->conn;

    nbd_sender_push(&c->sender, &req->first.out);
    for (guint i = 0; req->more && i < req->more->len; i++) {
        nbd_sender_push(&c->sender, &((NbdReqOut *)req->more->pdata[i])->out);
    }
}

static void add_simple(NbdServeReq *req, int err)
{
    NbdReqOut *o = add_out(req);

    nbd_simple_reply_encode(o->head, err ? nbd_errno_to_wire(err) : 0, req->r.cookie);
    o->out.head.iov_len = NBD_SIMPLE_REPLY_BYTES;
}

static NbdReqOut *
add_chunk(NbdServeReq *req, uint16_t type, size_t head_payload, size_t body, bool done)
{
    NbdReqOut *o = add_out(req);

    assert(NBD_CHUNK_BYTES + head_payload <= NBD_REQ_HEAD);
    nbd_chunk_encode(o->head, done ? NBD_REPLY_FLAG_DONE : 0, type, req->r.cookie,
                     head_payload + body);
    o->out.head.iov_len = NBD_CHUNK_BYTES + head_payload;
    return o;
}

static void add_none(NbdServeReq *req)
{
    add_chunk(req, NBD_CHUNK_NONE, 0, 0, true);
}

static void add_data(NbdServeReq *req, uint64_t offset, size_t bytes, bool done)
{
    NbdReqOut *o = add_chunk(req, NBD_CHUNK_OFFSET_DATA, NBD_DATA_HEAD_BYTES, bytes, done);

    be64_put(o->head + NBD_CHUNK_BYTES, offset);
    set_body(o, req->buf + (offset - req->r.offset), bytes);
}

static void add_hole(NbdServeReq *req, uint64_t offset, uint32_t bytes, bool done)
{
    NbdReqOut *o = add_chunk(req, NBD_CHUNK_OFFSET_HOLE, NBD_HOLE_BYTES, 0, done);

    be64_put(o->head + NBD_CHUNK_BYTES, offset);
    be32_put(o->head + NBD_CHUNK_BYTES + 8, bytes);
}

static void add_error_chunk(NbdServeReq *req, int err)
{
    NbdReqOut *o = add_chunk(req, NBD_CHUNK_ERROR, NBD_ERROR_BYTES, 0, true);

    be32_put(o->head + NBD_CHUNK_BYTES, nbd_errno_to_wire(err));
    be16_put(o->head + NBD_CHUNK_BYTES + 4, 0);
}

static void add_error_at(NbdServeReq *req, int err, uint64_t offset)
{
    NbdReqOut *o = add_chunk(req, NBD_CHUNK_ERROR_OFFSET, NBD_ERROR_BYTES + 8, 0, true);

    be32_put(o->head + NBD_CHUNK_BYTES, nbd_errno_to_wire(err));
    be16_put(o->head + NBD_CHUNK_BYTES + 4, 0);
    be64_put(o->head + NBD_CHUNK_BYTES + NBD_ERROR_BYTES, offset);
}

static void add_result(NbdServeReq *req, int err)
{
    bool chunks = req->conn->structured &&
                  (req->r.type == NBD_CMD_READ || req->r.type == NBD_CMD_BLOCK_STATUS);

    if (!chunks) {
        add_simple(req, err);
    } else if (err) {
        add_error_chunk(req, err);
    } else {
        add_none(req);
    }
}

void nbd_req_fail(NbdServeReq *req, int err)
{
    add_result(req, err);
    push_all(req);
}

/* --- READ --- */

static int coroutine_fn disk_pread(NbdServeReq *req, uint64_t offset, size_t bytes)
{
    const NbdExport *e = req->conn->export;
    struct iovec v;

    return e->ops->co_preadv(e->disk, offset,
                             iov_one(&v, req->buf + (offset - req->r.offset), bytes));
}

static void coroutine_fn read_plain(NbdServeReq *req)
{
    int ret = disk_pread(req, req->r.offset, req->r.length);
    NbdReqOut *o;

    add_simple(req, -ret);
    if (ret == 0) {
        o = &req->first;
        set_body(o, req->buf, req->r.length);
    }
}

static void coroutine_fn read_one_chunk(NbdServeReq *req)
{
    int ret = disk_pread(req, req->r.offset, req->r.length);

    if (ret < 0) {
        add_error_at(req, -ret, req->r.offset);
    } else if (!(req->r.flags & NBD_CMD_FLAG_DF) && buf_is_zero(req->buf, req->r.length)) {
        add_hole(req, req->r.offset, req->r.length, true);
    } else {
        add_data(req, req->r.offset, req->r.length, true);
    }
}

/*
 * The length of what starts at @offset and is alike. Failing to find out is no
 * reason to fail a read: then it is data.
 */
static bool coroutine_fn
next_is_zero(NbdServeReq *req, uint64_t offset, uint64_t left, uint64_t *ret_bytes)
{
    const NbdExport *e = req->conn->export;
    BlockStatus st;
    int depth;

    if (req->unsent >= MAX_READ_CHUNKS - 1 ||
        e->ops->co_block_status(e->disk, offset, left, &st, &depth) < 0) {
        *ret_bytes = left;
        return false;
    }
    *ret_bytes = MIN((uint64_t)st.bytes, left);
    return st.flags & STATUS_ZERO;
}

static void coroutine_fn read_sparse(NbdServeReq *req)
{
    uint64_t offset = req->r.offset, end = offset + req->r.length, bytes;

    for (; offset < end; offset += bytes) {
        bool zero = next_is_zero(req, offset, end - offset, &bytes);
        bool done = offset + bytes == end;
        int ret;

        if (zero) {
            add_hole(req, offset, bytes, done);
            continue;
        }
        ret = disk_pread(req, offset, bytes);
        if (ret < 0) {
            add_error_at(req, -ret, offset);
            return;
        }
        add_data(req, offset, bytes, done);
    }
}

static void coroutine_fn serve_read(NbdServeReq *req)
{
    if (req->r.length == 0) {
        add_result(req, 0);
    } else if (!req->conn->structured) {
        read_plain(req);
    } else if (req->r.length < SPARSE_MIN || (req->r.flags & NBD_CMD_FLAG_DF)) {
        read_one_chunk(req);
    } else {
        read_sparse(req);
    }
}

/* --- what changes the disk --- */

static int coroutine_fn do_write(NbdServeReq *req)
{
    const NbdExport *e = req->conn->export;
    ReqFlags flags = req->r.flags & NBD_CMD_FLAG_FUA ? REQ_FUA : 0;
    struct iovec v;

    if (req->r.length == 0) {
        return 0;
    }
    return e->ops->co_pwritev(e->disk, req->r.offset, iov_one(&v, req->buf, req->r.length), flags);
}

/* In pieces, so that a request for gigabytes ends soon after its client has gone. */
static int coroutine_fn do_zeroes(NbdServeReq *req)
{
    const NbdExport *e = req->conn->export;
    uint64_t offset = req->r.offset, end = offset + req->r.length, bytes;
    ReqFlags flags = 0;
    int ret = 0;

    flags |= req->r.flags & NBD_CMD_FLAG_FUA ? REQ_FUA : 0;
    flags |= req->r.flags & NBD_CMD_FLAG_NO_HOLE ? 0 : REQ_MAY_UNMAP;
    flags |= req->r.flags & NBD_CMD_FLAG_FAST_ZERO ? REQ_NO_FALLBACK : 0;
    for (; offset < end && ret == 0; offset += bytes) {
        if (req->conn->cut) {
            return -ESHUTDOWN;
        }
        if (e->fence_err) {
            return -e->fence_err;
        }
        bytes = MIN(end - offset, (uint64_t)MAX_EFFECT);
        ret = e->ops->co_pwrite_zeroes(e->disk, offset, bytes, flags);
    }
    return ret;
}

static int coroutine_fn do_trim(NbdServeReq *req)
{
    const NbdExport *e = req->conn->export;
    uint64_t offset = req->r.offset, end = offset + req->r.length, bytes;
    int ret = 0;

    for (; offset < end && ret == 0; offset += bytes) {
        if (req->conn->cut) {
            return -ESHUTDOWN;
        }
        if (e->fence_err) {
            return -e->fence_err;
        }
        bytes = MIN(end - offset, (uint64_t)MAX_EFFECT);
        ret = e->ops->co_pdiscard(e->disk, offset, bytes);
        if (ret == -ENOTSUP) {
            ret = 0; /* advisory */
        }
    }
    if (ret == 0 && (req->r.flags & NBD_CMD_FLAG_FUA)) {
        ret = e->ops->co_flush(e->disk);
    }
    return ret;
}

static int coroutine_fn do_cache(NbdServeReq *req)
{
    const NbdExport *e = req->conn->export;
    uint64_t offset = req->r.offset, end = offset + req->r.length;

    while (offset < end && !req->conn->cut) {
        struct iovec v;
        size_t bytes = MIN(end - offset, (uint64_t)req->buf_bytes);
        int ret = e->ops->co_preadv(e->disk, offset, iov_one(&v, req->buf, bytes));

        if (ret < 0) {
            return ret;
        }
        offset += bytes;
    }
    return 0;
}

/* --- BLOCK_STATUS --- */

typedef struct Extents {
    uint8_t *wire; /* room for @max */
    size_t n, max;
    uint32_t last_length, last_flags;
} Extents;

static void extents_store_last(Extents *x)
{
    uint8_t *p = x->wire + (x->n - 1) * NBD_EXTENT_BYTES;

    be32_put(p, x->last_length);
    be32_put(p + 4, x->last_flags);
}

/* Add @bytes of @flags, joined to an equal neighbour; false when there is no room. */
static bool extents_add(Extents *x, uint32_t bytes, uint32_t flags)
{
    if (x->n > 0 && x->last_flags == flags) {
        x->last_length += bytes; /* the sum is inside a request of 32 bits */
    } else {
        if (x->n == x->max) {
            return false;
        }
        x->n++;
        x->last_length = bytes;
        x->last_flags = flags;
    }
    extents_store_last(x);
    return true;
}

static uint32_t base_flags(const BlockStatus *st)
{
    return (st->flags & STATUS_DATA ? 0 : NBD_STATE_HOLE) |
           (st->flags & STATUS_ZERO ? NBD_STATE_ZERO : 0);
}

/* One walk serves all contexts; a context whose room is used up just stops early. */
static int coroutine_fn collect_extents(NbdServeReq *req, Extents *base, Extents *depth)
{
    const NbdExport *e = req->conn->export;
    uint64_t offset = req->r.offset, end = offset + req->r.length;
    bool want_base = base->max > 0, want_depth = depth->max > 0;

    for (int i = 0; offset < end && i < MAX_STATUS_CALLS && (want_base || want_depth); i++) {
        BlockStatus st;
        int layer = 0;
        uint32_t bytes;
        int ret = e->ops->co_block_status(e->disk, offset, end - offset, &st, &layer);

        if (ret < 0) {
            return i > 0 ? 0 : ret; /* what is known is an answer */
        }
        bytes = MIN((uint64_t)st.bytes, end - offset);
        want_base = want_base && extents_add(base, bytes, base_flags(&st));
        want_depth =
            want_depth && extents_add(depth, bytes, st.flags & STATUS_ALLOCATED ? layer + 1 : 0);
        offset += bytes;
        if (i % 128 == 127) {
            co_reschedule(); /* others on this loop have work too */
        }
    }
    return 0;
}

static void add_extents(NbdServeReq *req, const Extents *x, uint32_t id, bool done)
{
    size_t bytes = x->n * NBD_EXTENT_BYTES;
    NbdReqOut *o = add_chunk(req, NBD_CHUNK_BLOCK_STATUS, 4, bytes, done);

    be32_put(o->head + NBD_CHUNK_BYTES, id);
    set_body(o, x->wire, bytes);
}

static void coroutine_fn serve_block_status(NbdServeReq *req)
{
    uint32_t ctx = req->conn->contexts;
    size_t max = req->r.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : MAX_EXTENTS;
    Extents base = {.wire = req->buf, .max = ctx & NBD_CTX_BASE ? max : 0};
    Extents depth = {.wire = req->buf + base.max * NBD_EXTENT_BYTES,
                     .max = ctx & NBD_CTX_DEPTH ? max : 0};
    int ret = collect_extents(req, &base, &depth);

    if (ret < 0) {
        add_error_chunk(req, -ret);
        return;
    }
    if (ctx & NBD_CTX_BASE) {
        add_extents(req, &base, 0, !(ctx & NBD_CTX_DEPTH));
    }
    if (ctx & NBD_CTX_DEPTH) {
        add_extents(req, &depth, 1, true);
    }
}

/* --- all --- */

static int coroutine_fn do_effect(NbdServeReq *req)
{
    const NbdExport *e = req->conn->export;

    switch (req->r.type) {
    case NBD_CMD_WRITE:
        return do_write(req);
    case NBD_CMD_FLUSH:
        return e->ops->co_flush(e->disk);
    case NBD_CMD_TRIM:
        return do_trim(req);
    case NBD_CMD_CACHE:
        return do_cache(req);
    case NBD_CMD_WRITE_ZEROES:
        return do_zeroes(req);
    default:
        g_assert_not_reached(); /* nbd_req_check() */
    }
}

void coroutine_fn nbd_req_co_serve(void *opaque)
{
    NbdServeReq *req = opaque;
    NbdConn *c = req->conn;
    NbdExport *e = c->export;

    if (changes_disk(req->r.type) && e->fence_err) {
        add_simple(req, e->fence_err); /* fenced while its payload was on the way */
    } else if (req->r.type == NBD_CMD_READ) {
        serve_read(req);
    } else if (req->r.type == NBD_CMD_BLOCK_STATUS) {
        serve_block_status(req);
    } else {
        add_simple(req, -do_effect(req));
    }
    push_all(req);
    nbd_conn_served(c);
}
