/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listener: accept connections, each handed to a coroutine of its own.
 *
 * One coroutine accepts. It owns the memory of the Listener: listener_free()
 * takes everything back, marks it closing and wakes the coroutine, which looks
 * at the mark after each wait and frees what is left.
 *
 * A connection that cannot be accepted (no descriptors, no memory) stays in the
 * backlog; we try again after a nap, because the kernel would report it at once
 * again and again.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stream-addr.h"
#include "util/error.h"
#include "util/fault.h"
#include "util/sync.h"
#include "util/trace.h"

#define NAP_NS           (100 * NS_PER_MS)
#define DIR_LOCK_TRIES   100
#define DIR_LOCK_WAIT_NS (5 * NS_PER_MS)

struct Listener {
    int fd;
    LoopFd *lfd;
    ListenerFn *fn;
    void *opaque;
    bool paused, closing;
    CoQueue wake; /* the coroutine while it naps or is paused */
    int port;     /* -1: unix */
    char *path;   /* to unlink, NULL: nothing */
    dev_t dev;    /* of the path as we made it */
    ino_t ino;
};

/* --- accepting --- */

typedef struct Accepted {
    Stream *stream;
    ListenerFn *fn;
    void *opaque;
} Accepted;

static void coroutine_fn accepted_entry(void *opaque)
{
    Accepted a = *(Accepted *)opaque;

    g_free(opaque);
    a.fn(a.stream, a.opaque);
}

static void hand_over(Listener *l, int fd)
{
    g_autoptr(GError) err = NULL;
    Stream *s = stream_from_fd(fd, &err);
    Accepted *a;

    if (s == NULL) {
        trace("listener-dropped", fd, 0); /* out of epoll watches: nobody to tell */
        return;
    }
    a = g_new(Accepted, 1);
    *a = (Accepted){.stream = s, .fn = l->fn, .opaque = l->opaque};
    co_spawn(accepted_entry, a);
}

static void coroutine_fn listener_co_step(Listener *l)
{
    int fd;

    if (l->paused) {
        co_queue_wait(&l->wake);
        return;
    }
    fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        hand_over(l, fd);
        co_reschedule(); /* a flood of connections must not keep others from running */
    } else if (errno == EAGAIN) {
        loop_fd_co_wait_in(l->lfd);
    } else if (errno != EINTR && errno != ECONNABORTED) {
        trace("listener-accept-failed", errno, l->fd);
        /* Woken early or not, we try again. */
        (void)!co_queue_wait_deadline(&l->wake, loop_now_ns() + NAP_NS);
    }
}

static void coroutine_fn listener_entry(void *opaque)
{
    Listener *l = opaque;

    while (!l->closing) {
        listener_co_step(l);
    }
    g_free(l);
}

void listener_pause(Listener *l, bool paused)
{
    l->paused = paused;
    co_queue_wake_all(&l->wake);
}

int listener_port(const Listener *l)
{
    return l->port;
}

/* Only what we made: somebody may have put a socket of his own there. */
static void unlink_own_path(const Listener *l)
{
    struct stat st;

    if (l->path != NULL && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) {
        (void)unlink(l->path); /* what remains is stale and will be replaced */
    }
}

void listener_free(Listener *l)
{
    unlink_own_path(l);
    g_free(l->path);
    loop_fd_del(l->lfd);
    close(l->fd);
    l->closing = true;
    co_queue_wake_all(&l->wake);
}

/* --- unix: bind, replacing what nobody serves --- */

/*
 * Lock the folder of @path, so that two who start at once do not each take the
 * other's fresh socket for a stale one. It is a courtesy: where the folder
 * cannot be locked we go on without. Returns a descriptor or -1.
 */
static int coroutine_fn folder_co_lock(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; fd >= 0 && i < DIR_LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
            break;
        }
        co_sleep_ns(DIR_LOCK_WAIT_NS);
    }
    return fd;
}

/* Is there a socket at @un that refuses connections? */
static bool is_stale(const struct sockaddr_un *un, socklen_t len)
{
    struct stat st;
    int fd, r;

    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    r = connect(fd, (const struct sockaddr *)un, len) < 0 ? errno : 0;
    close(fd);
    return r == ECONNREFUSED;
}

static int unix_bind(int fd, const StreamAddr *addr, const struct sockaddr_un *un, socklen_t len)
{
    int r = bind(fd, (const struct sockaddr *)un, len);

    if (r < 0 && errno == EADDRINUSE && !addr->abstract) {
        if (!is_stale(un, len)) {
            return -EADDRINUSE;
        }
        if (unlink(un->sun_path) < 0) {
            return -errno;
        }
        r = bind(fd, (const struct sockaddr *)un, len);
    }
    return r < 0 ? -errno : 0;
}

static bool unix_listen(Listener *l, const StreamAddr *addr, int backlog, GError **errp)
{
    struct sockaddr_un un;
    struct stat st;
    socklen_t len;
    int r;

    if (!addr_unix(addr, &un, &len, errp)) {
        return false;
    }
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) {
        return fail_errno(errp, errno, "Failed to create Unix socket");
    }
    r = unix_bind(l->fd, addr, &un, len);
    if (r < 0) {
        return fail_errno(errp, -r, "Failed to bind socket to %s", addr->path);
    }
    if (!addr->abstract && lstat(addr->path, &st) == 0) {
        l->path = g_strdup(addr->path);
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
    if (listen(l->fd, backlog) < 0) {
        return fail_errno(errp, errno, "Failed to listen on socket");
    }
    return true;
}

static bool coroutine_fn
unix_co_listen(Listener *l, const StreamAddr *addr, int backlog, GError **errp)
{
    int lock = addr->abstract ? -1 : folder_co_lock(addr->path);
    bool ok = unix_listen(l, addr, backlog, errp);

    if (lock >= 0) {
        close(lock);
    }
    return ok;
}

/* --- inet --- */

/* A bound and listening descriptor, or -errno. */
static int inet_listen_one(const struct addrinfo *ai, bool only6, int backlog)
{
    int on = 1, v6only = only6;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    /* Without it a restart has to wait for old connections to time out. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    }
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, backlog) < 0) {
        int err = errno;

        close(fd);
        return -err;
    }
    return fd;
}

static int bound_port(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);

    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
        return -1;
    }
    switch (sa.ss_family) {
    case AF_INET:
        return ntohs(((struct sockaddr_in *)&sa)->sin_port);
    case AF_INET6:
        return ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
    default:
        return -1;
    }
}

static bool coroutine_fn
inet_co_listen(Listener *l, const StreamAddr *addr, int backlog, GError **errp)
{
    struct addrinfo *list = addr_co_resolve(addr, true, errp);
    g_autofree char *name = addr_str(addr);

    if (list == NULL) {
        return false;
    }
    l->fd = -EADDRNOTAVAIL;
    for (struct addrinfo *ai = list; ai != NULL && l->fd < 0; ai = ai->ai_next) {
        l->fd = inet_listen_one(ai, addr->ipv6 && !addr->ipv4, backlog);
    }
    freeaddrinfo(list);
    if (l->fd < 0) {
        return fail_errno(errp, -l->fd, "Failed to bind socket to %s", name);
    }
    return true;
}

/* --- a descriptor that listens already --- */

static bool fd_listen(Listener *l, int fd, GError **errp)
{
    int listens = 0, flags = fcntl(fd, F_GETFL);
    socklen_t len = sizeof(listens);

    l->fd = fd;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens) {
        return fail(errp, "File descriptor %d is not a listening socket", fd);
    }
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return fail_errno(errp, errno, "Could not make socket %d non-blocking", fd);
    }
    return true;
}

static bool coroutine_fn
listener_co_open(Listener *l, const StreamAddr *addr, int backlog, GError **errp)
{
    switch (addr->kind) {
    case STREAM_ADDR_UNIX:
        return unix_co_listen(l, addr, backlog, errp);
    case STREAM_ADDR_INET:
        return inet_co_listen(l, addr, backlog, errp);
    case STREAM_ADDR_FD:
        return fd_listen(l, addr->fd, errp);
    }
    g_assert_not_reached();
}

Listener *coroutine_fn
listener_co_new(const StreamAddr *addr, int backlog, ListenerFn *fn, void *opaque, GError **errp)
{
    Listener *l;

    if (loop_poller(loop_current()) == LOOP_POLLER_VIRTUAL) {
        fail(errp, "A virtual loop has no sockets");
        return NULL;
    }
    l = g_new0(Listener, 1);
    l->fd = -1;
    l->fn = fn;
    l->opaque = opaque;
    if (listener_co_open(l, addr, backlog, errp)) {
        errno = ENOSPC;
        l->lfd = fault_hit("listener-watch") ? NULL : loop_fd_add(l->fd);
        if (l->lfd != NULL) {
            l->port = bound_port(l->fd);
            co_spawn(listener_entry, l);
            return l;
        }
        fail_errno(errp, errno, "Could not watch a listening socket");
    }
    unlink_own_path(l);
    if (l->fd >= 0) {
        close(l->fd);
    }
    g_free(l->path);
    g_free(l);
    return NULL;
}
