/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream-socket: a connected unix or TCP socket as a stream.
 *
 * Every operation tries its system call first and waits only on EAGAIN; the
 * loop remembers edges that come in between. shutdown(2) wakes who waits: the
 * kernel reports a hang-up on both directions.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stream-addr.h"
#include "stream-internal.h"
#include "util/error.h"
#include "util/fault.h"

#define VECTORS_PER_CALL 64

typedef struct SocketStream {
    Stream stream;
    int fd;
    LoopFd *lfd;
    bool drained; /* the last read got less than it asked for */
} SocketStream;

static SocketStream *socket_of(Stream *s)
{
    return container_of(s, SocketStream, stream);
}

static ssize_t socket_try_readv(Stream *s, IoVec iov)
{
    struct iovec sys[VECTORS_PER_CALL];
    int n = iov_to_sys(iov, sys, VECTORS_PER_CALL);
    SocketStream *sock = socket_of(s);
    ssize_t r;

    do {
        r = n == 1 ? recv(sock->fd, sys[0].iov_base, sys[0].iov_len, 0) : readv(sock->fd, sys, n);
    } while (r < 0 && errno == EINTR);
    sock->drained = r >= 0 && (size_t)r < iov.bytes && n < VECTORS_PER_CALL;
    return r < 0 ? -errno : r;
}

/* What comes after a short read makes an edge. An end that came with that data does not. */
static bool is_drained(SocketStream *sock)
{
    bool drained = sock->drained && !loop_fd_hung_up(sock->lfd);

    sock->drained = false;
    return drained;
}

static ssize_t coroutine_fn socket_co_readv(Stream *s, IoVec iov)
{
    for (;;) {
        ssize_t n = is_drained(socket_of(s)) ? -EAGAIN : socket_try_readv(s, iov);

        if (s->down) {
            return -ESHUTDOWN;
        }
        if (n != -EAGAIN) {
            return n;
        }
        loop_fd_co_wait_in(socket_of(s)->lfd);
    }
}

static ssize_t socket_try_writev(Stream *s, IoVec iov)
{
    struct iovec sys[VECTORS_PER_CALL];
    struct msghdr msg = {.msg_iov = sys};
    ssize_t r;

    msg.msg_iovlen = iov_to_sys(iov, sys, VECTORS_PER_CALL);
    do {
        r = sendmsg(socket_of(s)->fd, &msg, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int coroutine_fn socket_co_writev(Stream *s, IoVec iov)
{
    while (iov.bytes > 0) {
        ssize_t n = socket_try_writev(s, iov);

        if (s->down) {
            return -ESHUTDOWN;
        }
        if (n == -EAGAIN) {
            loop_fd_co_wait_out(socket_of(s)->lfd);
        } else if (n < 0) {
            return n;
        } else {
            iov = iov_slice(iov, n, iov.bytes - n);
        }
    }
    return 0;
}

static void socket_shutdown(Stream *s)
{
    (void)shutdown(socket_of(s)->fd, SHUT_RDWR); /* ENOTCONN: the peer was faster */
}

static void socket_free(Stream *s)
{
    SocketStream *sock = socket_of(s);

    loop_fd_del(sock->lfd);
    close(sock->fd);
    g_free(sock);
}

static const StreamOps socket_ops = {
    .co_readv = socket_co_readv,
    .try_readv = socket_try_readv,
    .co_writev = socket_co_writev,
    .shutdown = socket_shutdown,
    .free = socket_free,
};

/* A unix client has no name: then the name of the socket it came to. */
static char *peer_name_of(int fd)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);

    if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0) {
        return g_strdup("unknown"); /* it is gone already; reading will tell */
    }
    if (sa.ss_family == AF_UNIX && len <= offsetof(struct sockaddr_un, sun_path)) {
        len = sizeof(sa);
        (void)getsockname(fd, (struct sockaddr *)&sa, &len); /* else it stays unnamed */
    }
    return sockaddr_str((struct sockaddr *)&sa, len);
}

#define VANISHED_S 120

/*
 * Requests are small and wait for replies; a peer that vanished has to be
 * noticed: until then it counts as a client, or its server as connected.
 * Keepalive tells on an idle connection (usual: after two hours), the user
 * timeout where something is under way (usual: after a quarter of an hour).
 */
static void tune_tcp(int fd)
{
    const struct {
        int level, option, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, VANISHED_S / 2},
        {IPPROTO_TCP, TCP_KEEPINTVL, VANISHED_S / 12},
        {IPPROTO_TCP, TCP_KEEPCNT, 6},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, VANISHED_S * 1000}, /* ms */
    };

    /* Not a TCP socket, or refused: it works without. */
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        (void)setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof(int));
    }
}

static bool prepare_fd(int fd, GError **errp)
{
    int type, flags = fcntl(fd, F_GETFL);
    socklen_t len = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        return fail_errno(errp, errno, "File descriptor %d is not a socket", fd);
    }
    if (type != SOCK_STREAM) {
        return fail(errp, "File descriptor %d is not a stream socket", fd);
    }
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return fail_errno(errp, errno, "Could not make socket %d non-blocking", fd);
    }
    tune_tcp(fd);
    return true;
}

Stream *stream_from_fd(int fd, GError **errp)
{
    LoopFd *lfd = NULL;
    SocketStream *sock;

    if (prepare_fd(fd, errp)) {
        errno = ENOSPC;
        lfd = fault_hit("stream-watch") ? NULL : loop_fd_add(fd);
        if (lfd == NULL) {
            fail_errno(errp, errno, "Could not watch socket %d", fd);
        }
    }
    if (lfd == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    sock = g_new0(SocketStream, 1);
    stream_init(&sock->stream, &socket_ops, peer_name_of(fd));
    sock->fd = fd;
    sock->lfd = lfd;
    return &sock->stream;
}
