/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loop: its parts, for the files of this folder. */
#ifndef UTIL_LOOP_INTERNAL_H
#define UTIL_LOOP_INTERNAL_H

#include "poller.h"
#include "ready.h"
#include "timer.h"
#include "util/loop.h"

/* What another thread hands to a loop. @arrive runs on the loop; it owns the node. */
typedef struct PostNode PostNode;
struct PostNode {
    PostNode *next;
    void (*arrive)(Loop *loop, PostNode *node);
};

typedef struct LoopSignals LoopSignals;
typedef struct WorkerPool WorkerPool;
typedef struct Ring Ring;
typedef struct Aio Aio;

struct Loop {
    ReadyQueue ready;
    TimerHeap timers;
    size_t n_coroutines; /* spawned and not yet returned */
    size_t n_fds;
    bool stop;

    LoopPoller kind;
    const PollerOps *ops;
    int epoll_fd;
    LoopSource kick_source; /* an eventfd */
    bool no_pwait2;         /* the kernel has no epoll_pwait2() */
    int64_t virtual_ns;

    int64_t budget; /* what this turn may still do before it looks for events */


    PostNode *posted; /* atomic; newest first */

    WorkerPool *workers; /* each of these made when first needed */
    LoopSignals *signals;
    Ring *ring;
    Aio *aio;
};

/* A turn may run LOOP_TURN_BUDGET entries of the ready queue, or do file operations inline that
 * cost as much: each LOOP_BUDGET_BYTES of data are an entry. */
#define LOOP_TURN_BUDGET  256
#define LOOP_BUDGET_BYTES (2 * KiB)

/** loop_post_node() - from any thread; loop_post() without an allocation */
void loop_post_node(Loop *loop, PostNode *node);

/** loop_signals_free() - unblock and forget; @s may be NULL */
void loop_signals_free(Loop *loop, LoopSignals *s);

#endif
