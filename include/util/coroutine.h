/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stackful coroutines on pooled stacks with guard pages.
 *
 * A coroutine belongs to the loop of the thread that spawned it and runs only
 * from that loop's ready queue, in FIFO order. Waking never runs the target at
 * once. A coroutine that has yielded is woken exactly once by whoever it told;
 * waking one that is not waiting is a bug (asserted).
 *
 * Stack: CO_STACK_BYTES usable. No large arrays on it; no deep recursion.
 */
#ifndef UTIL_COROUTINE_H
#define UTIL_COROUTINE_H

#include "util/compiler.h"

#define CO_STACK_BYTES (256 * 1024)

typedef struct Coroutine Coroutine;
typedef struct Loop Loop;

/* First function of a coroutine; it is a coroutine_fn. */
typedef void CoroutineFn(void *opaque);

/**
 * co_spawn() - make a coroutine and put it at the end of this loop's ready queue
 *
 * It frees itself when @fn returns. May be called inside or outside a
 * coroutine, on the thread of the current loop.
 */
Coroutine *co_spawn(CoroutineFn *fn, void *opaque);

/** co_self() - the running coroutine, NULL outside one */
Coroutine *co_self(void);
bool in_coroutine(void);

/** co_yield() - give up the processor until somebody calls co_wake() on us */
void coroutine_fn co_yield(void);

/** co_wake() - put a waiting coroutine of this thread's loop on the ready queue */
void co_wake(Coroutine *co);

/** co_reschedule() - let every coroutine that is ready now run before us */
void coroutine_fn co_reschedule(void);

/** co_pool_trim() - unmap the stacks this thread keeps for reuse */
void co_pool_trim(void);

#endif
