/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Padding: requests that are not multiples of the node's alignment.
 *
 * A read takes whole units and throws the edges away. A write reads the units
 * at its two edges first and writes them back with its own bytes in between;
 * the caller holds the rounded range, so no other write comes in between. If
 * an edge cannot be read the write fails: writing what we do not know would
 * destroy the bytes beside it.
 */
#include "io-internal.h"

#include "util/buf.h"

typedef struct Padding {
    size_t unit;        /* the alignment */
    int64_t start, end; /* of the rounded range */
    size_t head, tail;  /* bytes of it before and after the request's */
    uint8_t *buf;       /* first unit, then (if another one) last unit */
    uint8_t *last;      /* the last unit: in buf */
    struct iovec *v;    /* head, the request's vectors, tail */
    IoVec iov;          /* all of v */
} Padding;

static size_t padding_bytes(const Padding *p)
{
    return p->end - p->start > (int64_t)p->unit ? 2 * p->unit : p->unit;
}

static void padding_init(Padding *p, const BlockNode *node, int64_t offset, IoVec iov)
{
    int n = 0;

    p->unit = node->limits.request_alignment;
    p->start = ALIGN_DOWN(offset, (int64_t)p->unit);
    p->end = ALIGN_UP(offset + (int64_t)iov.bytes, (int64_t)p->unit);
    p->head = offset - p->start;
    p->tail = p->end - (offset + (int64_t)iov.bytes);
    p->buf = buf_alloc(padding_bytes(p));
    p->last = p->buf + padding_bytes(p) - p->unit;

    p->v = g_new(struct iovec, iov.n + 2);
    if (p->head > 0) {
        p->v[n++] = (struct iovec){p->buf, p->head};
    }
    n += iov_to_sys(iov, p->v + n, iov.n);
    if (p->tail > 0) {
        p->v[n++] = (struct iovec){p->last + p->unit - p->tail, p->tail};
    }
    p->iov = iov_of(p->v, n);
    assert((int64_t)p->iov.bytes == p->end - p->start);
}

static void padding_free(Padding *p)
{
    buf_free(p->buf, padding_bytes(p));
    g_free(p->v);
}

int coroutine_fn io_co_read_padded(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Padding p;
    int r;

    padding_init(&p, node, offset, iov);
    r = io_split_preadv(node, p.start, p.iov, flags);
    padding_free(&p);
    return r;
}

/* One unit at @offset; zeroes where the node has not grown to yet. */
static int coroutine_fn read_unit(BlockNode *node, int64_t offset, uint8_t *unit, size_t bytes)
{
    int64_t length = node_length(node);
    struct iovec v;

    if (offset >= length) {
        memset(unit, 0, bytes);
        return 0;
    }
    return io_split_preadv(node, offset, iov_one(&v, unit, bytes), 0);
}

static int coroutine_fn read_edges(BlockNode *node, Padding *p)
{
    bool one_unit = p->last == p->buf;
    int r = 0;

    if (p->head > 0 || one_unit) {
        io_debug_event(node, "pwritev_rmw_head");
        r = read_unit(node, p->start, p->buf, p->unit);
        if (r < 0) {
            return r;
        }
        io_debug_event(node, "pwritev_rmw_after_head");
    }
    if (p->tail > 0 && !one_unit) {
        io_debug_event(node, "pwritev_rmw_tail");
        r = read_unit(node, p->end - (int64_t)p->unit, p->last, p->unit);
        if (r < 0) {
            return r;
        }
        io_debug_event(node, "pwritev_rmw_after_tail");
    }
    return 0;
}

int coroutine_fn io_co_write_padded(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Padding p;
    int r;

    padding_init(&p, node, offset, iov);
    r = read_edges(node, &p);
    if (r == 0) {
        r = io_split_pwritev(node, p.start, p.iov, flags);
    }
    padding_free(&p);
    return r;
}
