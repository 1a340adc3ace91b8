/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream: what all kinds share: who may be inside, and transfers of exactly
 * so many bytes.
 */
#include "stream-internal.h"

#include <errno.h>

#include "util/fault.h"

void stream_init(Stream *s, const StreamOps *ops, char *peer_name)
{
    *s = (Stream){.ops = ops, .peer_name = peer_name};
}

ssize_t coroutine_fn stream_co_readv(Stream *s, IoVec iov)
{
    ssize_t n;

    assert(!s->reading && iov.bytes > 0);
    if (s->down) {
        return -ESHUTDOWN;
    }
    if (fault_hit("stream-read")) {
        return -EIO;
    }
    s->reading = true;
    n = s->ops->co_readv(s, iov);
    s->reading = false;
    assert(n <= (ssize_t)iov.bytes && n != -EAGAIN);
    return n;
}

ssize_t coroutine_fn stream_co_read(Stream *s, void *buf, size_t bytes)
{
    struct iovec v;

    return stream_co_readv(s, iov_one(&v, buf, bytes));
}

ssize_t stream_try_read(Stream *s, void *buf, size_t bytes)
{
    struct iovec v;

    assert(!s->reading && bytes > 0);
    return s->down ? -ESHUTDOWN : s->ops->try_readv(s, iov_one(&v, buf, bytes));
}

int coroutine_fn stream_co_readv_all(Stream *s, IoVec iov)
{
    while (iov.bytes > 0) {
        ssize_t n = stream_co_readv(s, iov);

        if (n <= 0) {
            return n < 0 ? n : -EPIPE;
        }
        iov = iov_slice(iov, n, iov.bytes - n);
    }
    return 0;
}

int coroutine_fn stream_co_read_all(Stream *s, void *buf, size_t bytes)
{
    struct iovec v;

    return stream_co_readv_all(s, iov_one(&v, buf, bytes));
}

int coroutine_fn stream_co_writev_all(Stream *s, IoVec iov)
{
    int r;

    assert(!s->writing);
    if (s->down) {
        return -ESHUTDOWN;
    }
    if (iov.bytes == 0) {
        return 0;
    }
    if (fault_hit("stream-write")) {
        return -EIO;
    }
    s->writing = true;
    r = s->ops->co_writev(s, iov);
    s->writing = false;
    assert(r <= 0 && r != -EAGAIN);
    return r;
}

int coroutine_fn stream_co_write_all(Stream *s, const void *buf, size_t bytes)
{
    struct iovec v;

    return stream_co_writev_all(s, iov_one(&v, (void *)buf, bytes)); /* only read from */
}

void stream_shutdown(Stream *s)
{
    if (!s->down) {
        s->down = true;
        s->ops->shutdown(s);
    }
}

void stream_close(Stream *s)
{
    char *peer_name = s->peer_name;

    assert(!s->reading && !s->writing);
    stream_shutdown(s);
    s->ops->free(s);
    g_free(peer_name);
}

const char *stream_peer_name(const Stream *s)
{
    return s->peer_name;
}
