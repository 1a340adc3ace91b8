/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The epoll poller: every source edge-triggered in one epoll set.
 *
 * Eventfds (kick, ring, libaio) are not read: each write to one is an edge of
 * its own, and their counters are far from overflowing. That saves a system call
 * per wake-up.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "loop-internal.h"
#include "util/error.h"

#define EVENTS_PER_POLL 128

/* epoll_wait() counts in ms: round up, an early return would spin. */
static int timeout_to_ms(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return -1;
    }
    return (int)MIN(DIV_ROUND_UP(timeout_ns, NS_PER_MS), (int64_t)G_MAXINT);
}

static int wait_for_events(Loop *loop, struct epoll_event *events, int64_t timeout_ns)
{
    if (timeout_ns > 0 && !loop->no_pwait2) {
        struct timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
        int n = epoll_pwait2(loop->epoll_fd, events, EVENTS_PER_POLL, &ts, NULL);

        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }
        loop->no_pwait2 = true; /* before Linux 5.11, or a filter of system calls */
    }
    return epoll_wait(loop->epoll_fd, events, EVENTS_PER_POLL, timeout_to_ms(timeout_ns));
}

static void epoll_ops_poll(Loop *loop, int64_t timeout_ns)
{
    struct epoll_event events[EVENTS_PER_POLL];
    int n = wait_for_events(loop, events, timeout_ns);

    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++) {
        LoopSource *src = events[i].data.ptr;

        src->dispatch(src, events[i].events);
    }
}

static int control(Loop *loop, int op, LoopSource *src, uint32_t events)
{
    struct epoll_event ev = {.events = events | EPOLLRDHUP | EPOLLET, .data.ptr = src};

    return epoll_ctl(loop->epoll_fd, op, src->fd, &ev) < 0 ? -errno : 0;
}

static int epoll_ops_add(Loop *loop, LoopSource *src, uint32_t events)
{
    return control(loop, EPOLL_CTL_ADD, src, events);
}

static void epoll_ops_change(Loop *loop, LoopSource *src, uint32_t events)
{
    int r = control(loop, EPOLL_CTL_MOD, src, events);

    assert(r == 0);
}

static void epoll_ops_del(Loop *loop, LoopSource *src)
{
    int r = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, src->fd, NULL);

    assert(r == 0); /* the descriptor must be open until here: a stale entry would dangle */
}

static void epoll_ops_kick(Loop *loop)
{
    uint64_t one = 1;
    ssize_t r;

    do {
        r = write(loop->kick_source.fd, &one, sizeof(one));
    } while (r < 0 && errno == EINTR);
    assert(r == sizeof(one));
}

/* Being awake is all that a kick is for. */
static void kick_dispatch(LoopSource *src, uint32_t events)
{
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t epoll_ops_now_ns(Loop *loop)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static int64_t epoll_ops_wall_ns(Loop *loop)
{
    return clock_ns(CLOCK_REALTIME);
}

static void epoll_ops_free(Loop *loop)
{
    close(loop->kick_source.fd);
    close(loop->epoll_fd);
}

static const PollerOps epoll_ops = {
    .poll = epoll_ops_poll,
    .add = epoll_ops_add,
    .change = epoll_ops_change,
    .del = epoll_ops_del,
    .kick = epoll_ops_kick,
    .now_ns = epoll_ops_now_ns,
    .wall_ns = epoll_ops_wall_ns,
    .free = epoll_ops_free,
};

bool poller_epoll_init(Loop *loop, GError **errp)
{
    int r;

    loop->ops = &epoll_ops;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return fail_errno(errp, errno, "Could not create an epoll descriptor");
    }
    loop->kick_source.dispatch = kick_dispatch;
    loop->kick_source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->kick_source.fd < 0) {
        fail_errno(errp, errno, "Could not create an event descriptor");
        close(loop->epoll_fd);
        return false;
    }
    r = epoll_ops_add(loop, &loop->kick_source, EPOLLIN);
    if (r < 0) {
        epoll_ops_free(loop);
        return fail_errno(errp, -r, "Could not watch the event descriptor");
    }
    return true;
}
