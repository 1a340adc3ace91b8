/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdReader: see reader.h.
 *
 * Invariant: the big buffer exists only while unread bytes are in it or a read
 * into it is under way.
 */
#include "block/nbd/reader.h"

#include <errno.h>

#include "util/buf.h"

#define MAX_VECTORS 64

void nbd_reader_init(NbdReader *r, Stream *stream)
{
    r->stream = stream;
    r->buf = r->small;
    r->size = sizeof(r->small);
    r->pos = r->len = 0;
    r->big = NULL;
}

void nbd_reader_destroy(NbdReader *r)
{
    buf_free(r->big, NBD_READER_BIG);
    r->big = NULL;
}

void nbd_reader_move(NbdReader *to, NbdReader *from)
{
    Stream *stream = to->stream;

    assert(nbd_reader_buffered(to) == 0 && !to->big);
    *to = *from;
    to->stream = stream;
    to->buf = to->big ? to->big : to->small;
    from->big = NULL;
    nbd_reader_init(from, from->stream);
}

static void use_small(NbdReader *r)
{
    assert(r->pos == r->len);
    r->buf = r->small;
    r->size = sizeof(r->small);
    r->pos = r->len = 0;
    buf_free(r->big, NBD_READER_BIG);
    r->big = NULL;
}

static void use_big(NbdReader *r)
{
    assert(r->pos == r->len);
    if (!r->big) {
        r->big = buf_alloc(NBD_READER_BIG);
    }
    r->buf = r->big;
    r->size = NBD_READER_BIG;
    r->pos = r->len = 0;
}

/* Make room for @bytes in one piece. Little moves: less than one header is left over. */
static void make_room(NbdReader *r, size_t bytes)
{
    if (r->pos == r->len) {
        use_small(r);
    } else if (r->size - r->pos < bytes) {
        memmove(r->buf, r->buf + r->pos, r->len - r->pos);
        r->len -= r->pos;
        r->pos = 0;
    }
}

int coroutine_fn nbd_reader_co_need(NbdReader *r, size_t bytes, const uint8_t **ret)
{
    assert(bytes <= NBD_READER_SMALL);
    while (nbd_reader_buffered(r) < bytes) {
        make_room(r, bytes);
        ssize_t n = stream_co_read(r->stream, r->buf + r->len, r->size - r->len);

        if (n < 0) {
            return n;
        }
        if (n == 0) {
            return nbd_reader_buffered(r) ? -ECONNRESET : -ENODATA;
        }
        r->len += n;
    }
    *ret = r->buf + r->pos;
    return 0;
}

/*
 * One read that goes on behind @iov into our buffer, which is empty. A long
 * payload gets the small one behind it: the start of the next would only be
 * copied.
 */
static ssize_t coroutine_fn read_through(NbdReader *r, IoVec iov)
{
    struct iovec v[MAX_VECTORS + 1];
    size_t sum = 0;
    ssize_t got;
    int n;

    if (iov.bytes < (size_t)NBD_READER_BIG) {
        use_big(r);
    } else {
        use_small(r);
    }
    n = iov_to_sys(iov, v, MAX_VECTORS);
    for (int i = 0; i < n; i++) {
        sum += v[i].iov_len;
    }
    if (sum == iov.bytes) {
        v[n++] = (struct iovec){r->buf, r->size};
    }
    got = stream_co_readv(r->stream, iov_of(v, n));
    if (got > 0 && (size_t)got > sum) {
        r->len = got - sum;
        got = sum;
    }
    return got;
}

int coroutine_fn nbd_reader_co_readv(NbdReader *r, IoVec iov)
{
    while (iov.bytes > 0) {
        ssize_t n = MIN(nbd_reader_buffered(r), iov.bytes);

        if (n > 0) {
            iov_copy_in(iov, r->buf + r->pos, n);
            r->pos += n;
        } else {
            n = read_through(r, iov);
            if (n <= 0) {
                return n < 0 ? n : -ECONNRESET;
            }
        }
        iov = iov_slice(iov, n, iov.bytes - n);
    }
    return 0;
}

int coroutine_fn nbd_reader_co_read(NbdReader *r, void *buf, size_t bytes)
{
    struct iovec v;

    return nbd_reader_co_readv(r, iov_one(&v, buf, bytes));
}

int coroutine_fn nbd_reader_co_skip(NbdReader *r, uint64_t bytes)
{
    while (bytes > 0) {
        size_t n = MIN(nbd_reader_buffered(r), bytes);

        if (n == 0) {
            use_big(r);
            ssize_t got = stream_co_read(r->stream, r->buf, r->size);

            if (got <= 0) {
                return got < 0 ? got : -ECONNRESET;
            }
            r->len = got;
            continue;
        }
        r->pos += n;
        bytes -= n;
    }
    return 0;
}
