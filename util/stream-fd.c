/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream-fd: two descriptors that are no sockets as a stream.
 *
 * What can be watched (pipes, terminals) is made non-blocking and waited for;
 * files never make a caller wait for long. The flags of a terminal belong to
 * the shell too, so they are put back.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "stream-internal.h"
#include "util/sync.h"

#define WRITE_MAX ((size_t)(64 * KiB))

typedef struct Side {
    int fd;      /* -1: none */
    int flags;   /* as we found them; -1: left alone */
    LoopFd *lfd; /* NULL: cannot be watched, or shut down */
} Side;

typedef struct FdStream {
    Stream stream;
    Side in, out;
    CoQueue no_input; /* a reader without a descriptor waits for the shutdown */
} FdStream;

static FdStream *
fd_stream_of(Stream *s)
{
    return container_of(s, FdStream, stream);
}

static void
side_init(Side *side, int fd)
{
    *side = (Side){ .fd = fd, .flags = -1 };
    if (fd >= 0) {
        side->lfd = loop_fd_add(fd);
    }
    if (side->lfd) {
        side->flags = fcntl(fd, F_GETFL);
        (void)fcntl(fd, F_SETFL, side->flags | O_NONBLOCK); /* else it waits as it always did */
    }
}

static void
side_shutdown(Side *side)
{
    if (side->lfd) {
        loop_fd_del(side->lfd);
        side->lfd = NULL;
    }
}

static void
side_close(Side *side)
{
    if (side->flags >= 0) {
        (void)fcntl(side->fd, F_SETFL, side->flags);
    }
    if (side->fd >= 0) {
        close(side->fd);
    }
}

static ssize_t
fd_try_readv(Stream *s, IoVec iov)
{
    struct iovec one;
    Side *in = &fd_stream_of(s)->in;
    ssize_t n;

    if (in->fd < 0) {
        return -EAGAIN;
    }
    iov_to_sys(iov, &one, 1);
    do {
        n = read(in->fd, one.iov_base, one.iov_len);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t coroutine_fn
fd_co_readv(Stream *s, IoVec iov)
{
    FdStream *f = fd_stream_of(s);

    for (;;) {
        ssize_t n = fd_try_readv(s, iov);

        if (n != -EAGAIN) {
            return n;
        }
        if (f->in.lfd) {
            loop_fd_co_wait_in(f->in.lfd);
        } else {
            co_queue_wait(&f->no_input);
        }
        if (s->down) {
            return -ESHUTDOWN;
        }
    }
}

static int coroutine_fn
fd_co_writev(Stream *s, IoVec iov)
{
    Side *out = &fd_stream_of(s)->out;

    while (iov.bytes > 0 && out->fd >= 0) {
        struct iovec one;
        ssize_t n;

        iov_to_sys(iov, &one, 1);
        n = write(out->fd, one.iov_base, MIN(one.iov_len, WRITE_MAX));
        if (n >= 0) {
            iov = iov_slice(iov, n, iov.bytes - n);
        } else if (errno == EAGAIN && out->lfd) {
            loop_fd_co_wait_out(out->lfd);
        } else if (errno != EINTR) {
            return -errno;
        }
        if (s->down) {
            return -ESHUTDOWN;
        }
    }
    return 0;
}

static void
fd_shutdown(Stream *s)
{
    FdStream *f = fd_stream_of(s);

    side_shutdown(&f->in);
    side_shutdown(&f->out);
    co_queue_wake_all(&f->no_input);
}

static void
fd_free(Stream *s)
{
    FdStream *f = fd_stream_of(s);

    side_close(&f->in);
    side_close(&f->out);
    g_free(f);
}

static const StreamOps fd_ops = {
    .co_readv = fd_co_readv,
    .try_readv = fd_try_readv,
    .co_writev = fd_co_writev,
    .shutdown = fd_shutdown,
    .free = fd_free,
};

Stream *
stream_from_fds(int in, int out)
{
    FdStream *f = g_new0(FdStream, 1);

    stream_init(&f->stream, &fd_ops, g_strdup_printf("fd:%d,%d", in, out));
    side_init(&f->in, in);
    side_init(&f->out, out);
    return &f->stream;
}
