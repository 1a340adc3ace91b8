/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream-connect: open a connection, address after address, until a deadline.
 *
 * The deadline covers the connecting; looking up a name cannot be called off
 * and ends when the resolver gives up.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream-addr.h"
#include "util/error.h"
#include "util/fault.h"

/* How long to wait between tries while a unix server's backlog is full. */
#define BACKLOG_WAIT_MIN_NS (1 * NS_PER_MS)
#define BACKLOG_WAIT_MAX_NS (50 * NS_PER_MS)

typedef struct ConnectWait {
    LoopFd *lfd;
    LoopTimer timer;
    int gave_up; /* -ETIMEDOUT or -ECANCELED */
} ConnectWait;

/* Deleting the registration is what wakes the one who waits on it. */
static void connect_timeout(void *opaque)
{
    ConnectWait *w = opaque;

    w->gave_up = -ETIMEDOUT;
    loop_fd_del(w->lfd);
}

void stream_cancel(StreamCancel *cancel)
{
    ConnectWait *w = cancel->wait;

    cancel->cancelled = true;
    if (w != NULL && w->gave_up == 0) {
        timer_cancel(&w->timer);
        w->gave_up = -ECANCELED;
        loop_fd_del(w->lfd);
    }
}

/* What became of a connection in progress; -EINPROGRESS if nothing yet. */
static int connect_result(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int err;
    socklen_t len = sizeof(err);

    if (poll(&p, 1, 0) == 0) {
        return -EINPROGRESS;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
        return -errno;
    }
    return -err;
}

static int coroutine_fn connect_co_finish(int fd, int64_t deadline_ns, StreamCancel *cancel)
{
    ConnectWait w = {.lfd = loop_fd_add(fd)};
    int r = -EINPROGRESS;

    if (w.lfd == NULL) {
        return -errno;
    }
    timer_init(&w.timer, connect_timeout, &w);
    if (deadline_ns != 0) {
        timer_arm(&w.timer, deadline_ns);
    }
    cancel->wait = &w;
    while (r == -EINPROGRESS) {
        loop_fd_co_wait_out(w.lfd);
        if (w.gave_up != 0) {
            cancel->wait = NULL;
            return w.gave_up;
        }
        r = connect_result(fd);
    }
    cancel->wait = NULL;
    timer_cancel(&w.timer);
    loop_fd_del(w.lfd);
    return r;
}

/* A unix socket whose backlog is full says EAGAIN and gives no event when it has room. */
static int coroutine_fn connect_co_fd(int fd, const struct sockaddr *sa, socklen_t len,
                                      int64_t deadline_ns, StreamCancel *cancel)
{
    int64_t wait_ns = BACKLOG_WAIT_MIN_NS;

    for (;;) {
        if (connect(fd, sa, len) == 0) {
            return 0;
        }
        if (errno == EINPROGRESS || errno == EINTR) {
            return connect_co_finish(fd, deadline_ns, cancel);
        }
        if (errno != EAGAIN || sa->sa_family != AF_UNIX) {
            return -errno;
        }
        if (deadline_ns != 0 && loop_now_ns() + wait_ns > deadline_ns) {
            return -ETIMEDOUT;
        }
        if (cancel->cancelled) {
            return -ECANCELED;
        }
        co_sleep_ns(wait_ns);
        wait_ns = MIN(wait_ns * 2, BACKLOG_WAIT_MAX_NS);
    }
}

/* A connected descriptor, or -errno. */
static int coroutine_fn connect_co_sockaddr(const struct sockaddr *sa, socklen_t len,
                                            int64_t deadline_ns, StreamCancel *cancel)
{
    int fd, r;

    if (cancel->cancelled) {
        return -ECANCELED;
    }

    if (deadline_ns != 0 && loop_now_ns() >= deadline_ns) {
        return -ETIMEDOUT;
    }
    fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    r = fault_hit("stream-connect") ? -ENETUNREACH
                                    : connect_co_fd(fd, sa, len, deadline_ns, cancel);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

static int coroutine_fn
connect_co_inet(const StreamAddr *addr, int64_t deadline_ns, StreamCancel *cancel, GError **errp)
{
    struct addrinfo *list = addr_co_resolve(addr, false, errp);
    int fd = -EADDRNOTAVAIL;

    if (list == NULL) {
        return -1;
    }
    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = connect_co_sockaddr(ai->ai_addr, ai->ai_addrlen, deadline_ns, cancel);
    }
    freeaddrinfo(list);
    if (fd < 0) {
        g_autofree char *name = addr_str(addr);

        fail_errno(errp, -fd, "Failed to connect to '%s'", name);
    }
    return fd;
}

static int coroutine_fn
connect_co_unix(const StreamAddr *addr, int64_t deadline_ns, StreamCancel *cancel, GError **errp)
{
    struct sockaddr_un un;
    socklen_t len;
    int fd;

    if (!addr_unix(addr, &un, &len, errp)) {
        return -1;
    }
    fd = connect_co_sockaddr((struct sockaddr *)&un, len, deadline_ns, cancel);
    if (fd < 0) {
        fail_errno(errp, -fd, "Failed to connect to '%s'", addr->path);
    }
    return fd;
}

Stream *coroutine_fn stream_co_connect_cancellable(const StreamAddr *addr, int64_t deadline_ns,
                                                   StreamCancel *cancel, GError **errp)
{
    int fd = -1;

    if (loop_poller(loop_current()) == LOOP_POLLER_VIRTUAL) {
        fail(errp, "A virtual loop has no sockets");
        return NULL;
    }
    switch (addr->kind) {
    case STREAM_ADDR_UNIX:
        fd = connect_co_unix(addr, deadline_ns, cancel, errp);
        break;
    case STREAM_ADDR_INET:
        fd = connect_co_inet(addr, deadline_ns, cancel, errp);
        break;
    case STREAM_ADDR_FD:
        return stream_from_fd(addr->fd, errp);
    }
    return fd >= 0 ? stream_from_fd(fd, errp) : NULL;
}

Stream *coroutine_fn stream_co_connect(const StreamAddr *addr, int64_t deadline_ns, GError **errp)
{
    StreamCancel never = {0};

    return stream_co_connect_cancellable(addr, deadline_ns, &never, errp);
}
