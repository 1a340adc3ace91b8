/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Poller: where a loop's events and its time come from.
 *
 * Two of them: epoll (also under LOOP_POLLER_IO_URING, whose ring is one more
 * source in the same epoll) and virtual. Everything with a descriptor is a
 * LoopSource. Dispatching a source runs no code of the upper layers: it wakes
 * coroutines and pushes to the ready queue. So nothing can free a source while
 * a batch of events that names it is being walked.
 */
#ifndef UTIL_POLLER_H
#define UTIL_POLLER_H

#include <glib.h>

#include "util/loop.h"

typedef struct LoopSource LoopSource;
struct LoopSource {
    int fd;
    void (*dispatch)(LoopSource *src, uint32_t events); /* EPOLL* bits */
};

typedef struct PollerOps {
    /* Look for events and dispatch them. @timeout_ns: 0: do not wait; < 0: no limit. May return
     * early. */
    void (*poll)(Loop *loop, int64_t timeout_ns);
    /* Edge-triggered. @events: EPOLLIN, EPOLLOUT. 0 or -errno. */
    int (*add)(Loop *loop, LoopSource *src, uint32_t events);
    /* An event that is true now is reported anew. */
    void (*change)(Loop *loop, LoopSource *src, uint32_t events);
    void (*del)(Loop *loop, LoopSource *src);
    /* From any thread: poll() returns soon, or does not wait when it is called next. */
    void (*kick)(Loop *loop);
    int64_t (*now_ns)(Loop *loop);
    int64_t (*wall_ns)(Loop *loop);
    void (*free)(Loop *loop);
} PollerOps;

bool poller_epoll_init(Loop *loop, GError **errp);
void poller_virtual_init(Loop *loop);

#endif
