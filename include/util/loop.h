/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loop: one thread's scheduler and its source of time and I/O.
 *
 * Upper layers ask for operations (file.h, stream.h, sleep) as coroutine calls
 * and are resumed with results. One loop per thread; everything of a graph
 * lives on one loop, so upper layers need no locks. Other threads use
 * loop_post(), the only function here that may be called from any thread.
 *
 * Pollers: io_uring (files on the ring, whose registered eventfd sits in the
 * same epoll as the sockets), epoll (files on a worker pool), virtual (tests:
 * no file descriptors; when nothing is ready time jumps to the next timer; the
 * order of the ready queue may be drawn from a seed).
 *
 * Environment: TANDEM_POLLER=io_uring|epoll forces LOOP_POLLER_AUTO's choice.
 * Fork before making a loop, not after.
 */
#ifndef UTIL_LOOP_H
#define UTIL_LOOP_H

#include <glib.h>

#include "util/coroutine.h"

typedef enum LoopPoller {
    LOOP_POLLER_AUTO, /* io_uring where the kernel permits it, else epoll */
    LOOP_POLLER_IO_URING,
    LOOP_POLLER_EPOLL,
    LOOP_POLLER_VIRTUAL,
} LoopPoller;

typedef void LoopFn(void *opaque);

/**
 * loop_new() - a loop for the calling thread, which becomes loop_current()
 *
 * Fails when LOOP_POLLER_IO_URING is asked for and refused by the kernel, or
 * descriptors run out.
 */
Loop *loop_new(LoopPoller poller, GError **errp);

/** loop_free() - nothing may be running, waiting or armed on it (asserted) */
void loop_free(Loop *loop);

/** loop_current() - of this thread, NULL if it has none */
Loop *loop_current(void);

LoopPoller loop_poller(const Loop *loop);
bool loop_poller_parse(const char *name, LoopPoller *ret);
const char *loop_poller_str(LoopPoller poller);

/** loop_run() - run until loop_stop(); then what is ready at that moment has run.
 * A virtual loop on which nothing can happen any more aborts. */
void loop_run(Loop *loop);
void loop_stop(Loop *loop);

/**
 * loop_step() - run what is ready, look for events, run what they made ready
 * @may_block: sleep until something happens
 *
 * Return: whether anything ran. On a virtual loop false with @may_block means
 * that nothing can ever happen any more: every coroutine waits for another.
 */
bool loop_step(Loop *loop, bool may_block);

/** loop_run_coroutine() - spawn @fn(@opaque) and run the loop until it has returned.
 * For main() of tools and for tests; not from inside a coroutine. */
void loop_run_coroutine(Loop *loop, CoroutineFn *fn, void *opaque);

/** loop_post() - run @fn(@opaque) soon on the thread of @loop. From any thread. */
void loop_post(Loop *loop, LoopFn *fn, void *opaque);

/** loop_defer() - run @fn(@opaque) from the ready queue of this thread's loop, as a plain
 * function, after what is ready now */
void loop_defer(LoopFn *fn, void *opaque);

/** loop_virtual_seed() - draw the order of the ready queue from @seed; 0: FIFO.
 * What was ready before a co_reschedule() or loop_defer() still runs before it. */
void loop_virtual_seed(Loop *loop, uint64_t seed);

/* --- time: CLOCK_MONOTONIC, or the virtual clock which starts at 1 s --- */

/** loop_now_ns() - the clock of this thread's loop, fresh at each call */
int64_t loop_now_ns(void);

/** loop_wall_ns() - time of day since the epoch; virtual: virtual clock */
int64_t loop_wall_ns(void);

typedef struct LoopTimer {
    int64_t deadline_ns;
    LoopFn *fn;
    void *opaque;
    size_t heap_index; /* 0: not armed */
} LoopTimer;

void timer_init(LoopTimer *t, LoopFn *fn, void *opaque);
/** timer_arm() - (re)arm on this thread's loop; @fn runs from the loop, outside coroutines */
void timer_arm(LoopTimer *t, int64_t deadline_ns);
void timer_cancel(LoopTimer *t);
static inline bool timer_is_armed(const LoopTimer *t)
{
    return t->heap_index != 0;
}

void coroutine_fn co_sleep_ns(int64_t ns);

/* --- readiness of descriptors, for streams and the like; not on a virtual loop --- */

typedef struct LoopFd LoopFd; /* an edge-triggered registration */

/** loop_fd_add() - @fd is non-blocking and stays the caller's; NULL and errno on failure */
LoopFd *loop_fd_add(int fd);
void loop_fd_del(LoopFd *lfd); /* waiters are woken */
/** loop_fd_co_wait_in() - yield until @fd may be readable (or in error); spurious returns happen.
 * Call it only after the descriptor said EAGAIN, or after a short read of a socket that has not
 * hung up. One waits for each direction (asserted). */
void coroutine_fn loop_fd_co_wait_in(LoopFd *lfd);
void coroutine_fn loop_fd_co_wait_out(LoopFd *lfd);
/** loop_fd_hung_up() - an edge has told that the peer will send no more: no other will follow */
bool loop_fd_hung_up(const LoopFd *lfd);

/* --- threads, signals, children --- */

/**
 * co_run_blocking() - run @fn(@opaque) on a worker thread; returns its value
 *
 * For the calls that the kernel has no asynchronous form of (open, ioctl,
 * getaddrinfo...). On a virtual loop it runs inline.
 */
int coroutine_fn co_run_blocking(int (*fn)(void *opaque), void *opaque);

/**
 * loop_ignore_io_signals() - let EPIPE and EFBIG be errors of the call alone
 *
 * For main(): a peer that went away or a file at its size limit (RLIMIT_FSIZE)
 * otherwise ends the process by SIGPIPE or SIGXFSZ.
 */
void loop_ignore_io_signals(void);

/** loop_signal_add() - call @fn on the loop when @signo arrives (blocked and read by signalfd) */
bool loop_signal_add(Loop *loop, int signo, LoopFn *fn, void *opaque, GError **errp);

#endif
