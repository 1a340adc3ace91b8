/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coroutine: what the loop needs to know of one. */
#ifndef UTIL_COROUTINE_INTERNAL_H
#define UTIL_COROUTINE_INTERNAL_H

#include "coroutine-context.h"
#include "ready.h"
#include "util/coroutine.h"

typedef enum CoState {
    CO_POOLED,  /* no function; on its thread's free list */
    CO_READY,   /* on the ready queue */
    CO_RUNNING, /* the one that runs on this thread */
    CO_WAITING, /* has yielded; somebody will wake it */
    CO_DONE,    /* its function has returned; it leaves its stack for good */
} CoState;

struct Coroutine {
    ReadyNode node; /* on the ready queue, or linked into the pool */
    CoContext ctx;
    CoState state;
    CoroutineFn *fn;
    void *opaque;
    Loop *loop;
    char *stack;      /* lowest usable byte; the guard page lies below */
    void *fake_stack; /* ASan's */
    void *fiber;      /* TSan's */
    unsigned stack_id; /* valgrind's */
};

/** coroutine_run() - ReadyNode.run of every coroutine */
void coroutine_run(ReadyNode *node);

#endif
