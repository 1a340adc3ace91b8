/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LoopFd: waiting for a descriptor to become readable or writable.
 *
 * Edges that arrive while nobody waits are remembered, so the order "try, wait
 * if EAGAIN" loses none. Writability is watched only from the first wait for it
 * on: a unix socket reports it each time the peer reads, which would wake a
 * server once per reply. An edge that finds nobody ends the watch.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <glib.h>

#include "loop-internal.h"

#define IN_EVENTS  (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)
#define OUT_EVENTS (EPOLLOUT | EPOLLHUP | EPOLLERR)
#define HUP_EVENTS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

struct LoopFd {
    LoopSource source;
    Loop *loop;
    Coroutine *in, *out; /* who waits */
    bool in_edge, out_edge;
    bool watches_out;
    bool hung_up;
};

static void wake(Coroutine **waiter)
{
    Coroutine *co = *waiter;

    *waiter = NULL;
    co_wake(co);
}

static void fd_dispatch(LoopSource *src, uint32_t events)
{
    LoopFd *lfd = container_of(src, LoopFd, source);

    lfd->hung_up |= (events & HUP_EVENTS) != 0;
    if (events & IN_EVENTS) {
        if (lfd->in) {
            wake(&lfd->in);
        } else {
            lfd->in_edge = true;
        }
    }
    if (events & OUT_EVENTS) {
        if (lfd->out) {
            wake(&lfd->out);
        } else {
            lfd->out_edge = true;
            if (lfd->watches_out && events & EPOLLOUT) {
                lfd->watches_out = false;
                lfd->loop->ops->change(lfd->loop, src, EPOLLIN);
            }
        }
    }
}

LoopFd *loop_fd_add(int fd)
{
    Loop *loop = loop_current();
    LoopFd *lfd = g_new0(LoopFd, 1);
    int r;

    lfd->loop = loop;
    lfd->source = (LoopSource){fd, fd_dispatch};
    r = loop->ops->add(loop, &lfd->source, EPOLLIN);
    if (r < 0) {
        g_free(lfd);
        errno = -r;
        return NULL;
    }
    loop->n_fds++;
    return lfd;
}

void loop_fd_del(LoopFd *lfd)
{
    Loop *loop = lfd->loop;

    assert(loop == loop_current());
    loop->ops->del(loop, &lfd->source);
    loop->n_fds--;
    if (lfd->in) {
        wake(&lfd->in);
    }
    if (lfd->out) {
        wake(&lfd->out);
    }
    g_free(lfd);
}

/* @lfd may be gone after the yield: touch it no more. */
bool loop_fd_hung_up(const LoopFd *lfd)
{
    return lfd->hung_up;
}

void coroutine_fn loop_fd_co_wait_in(LoopFd *lfd)
{
    assert(!lfd->in);
    if (lfd->in_edge) {
        lfd->in_edge = false;
        return;
    }
    lfd->in = co_self();
    co_yield();
}

void coroutine_fn loop_fd_co_wait_out(LoopFd *lfd)
{
    assert(!lfd->out);
    if (!lfd->watches_out) {
        lfd->watches_out = true;
        lfd->out_edge = false;
        lfd->loop->ops->change(lfd->loop, &lfd->source, EPOLLIN | EPOLLOUT);
    } else if (lfd->out_edge) {
        lfd->out_edge = false;
        return;
    }
    lfd->out = co_self();
    co_yield();
}
