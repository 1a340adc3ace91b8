/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines: life cycle and pool.
 *
 * A stack is mapped once and runs many coroutines one after another: its first
 * function, coroutine_main(), loops for ever over "run the function, tell the
 * scheduler, sleep in the pool". So a spawn from the pool costs no system call
 * and no set-up. Every jump goes between the thread's own stack and a
 * coroutine's, never between two coroutines.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <glib.h>

#include "coroutine-internal.h"
#include "loop-internal.h"
#include "sanitizer.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

#define GUARD_BYTES      4096
#define MAP_BYTES        (GUARD_BYTES + CO_STACK_BYTES)
#define POOL_MAX         512 /* stacks a thread keeps, each with what its deepest run touched */

/*
 * Stacks lie a multiple of a page apart, so their hottest lines would fall into
 * the same few sets of the processor's cache. Start each one a bit lower than
 * the last.
 */
#define COLOURS          16
#define COLOUR_BYTES     192

#if defined(__clang__)
struct CoroutineCapability coroutine_capability;
#endif

typedef struct CoThread {
    Coroutine *current; /* NULL: the thread's own stack runs */
    CoContext main;
    const void *main_stack; /* as ASan sees it */
    size_t main_stack_bytes;
    void *main_fake_stack;
    void *main_fiber;
    ReadyList pool; /* used as a stack through pool_get() and pool_put() */
    unsigned colour;
} CoThread;

static __thread CoThread th;

/* --- jumps --- */

/* @last: these frames are left for good. */
static inline __attribute__((always_inline)) void leave(Coroutine *co, bool last)
{
    san_start_switch(last ? NULL : &co->fake_stack, th.main_stack, th.main_stack_bytes);
    san_fiber_switch(th.main_fiber);
    co_context_switch(&co->ctx, &th.main);
    san_finish_switch(last ? NULL : co->fake_stack, &th.main_stack, &th.main_stack_bytes);
}

static inline void enter(Coroutine *co)
{
    san_start_switch(&th.main_fake_stack, co->stack, CO_STACK_BYTES);
    san_fiber_switch(co->fiber);
    co_context_switch(&th.main, &co->ctx);
    san_finish_switch(th.main_fake_stack, NULL, NULL);
}

/* No frame of its own for ASan: its fake stack dies at each leave(..., true). */
static NO_ASAN void coroutine_main(void *opaque)
{
    Coroutine *co = opaque;

    san_finish_switch(NULL, &th.main_stack, &th.main_stack_bytes);
    for (;;) {
        co->fn(co->opaque);
        co->state = CO_DONE;
        leave(co, true);
    }
}

/* --- stacks --- */

static void NORETURN die_of_memory(const char *what)
{
    fprintf(stderr, "tandem: no memory for a coroutine's stack: %s: %s\n", what, strerror(errno));
    abort();
}

/*
 * A guard in the page tables does not split the mapping, so the number of
 * coroutines is not bounded by vm.max_map_count. Older kernels: a hole of its
 * own.
 */
static void guard_install(void *page)
{
    if (madvise(page, GUARD_BYTES, MADV_GUARD_INSTALL) == 0) {
        return;
    }
    if (mprotect(page, GUARD_BYTES, PROT_NONE) < 0) {
        die_of_memory("mprotect");
    }
}

static Coroutine *coroutine_new(void)
{
    Coroutine *co = g_new0(Coroutine, 1);
    char *map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        die_of_memory("mmap");
    }
    guard_install(map);
    co->node.run = coroutine_run;
    co->stack = map + GUARD_BYTES;
    co->stack_id = san_stack_register(co->stack, CO_STACK_BYTES);
    co->fiber = san_fiber_new();
    co_context_init(&co->ctx, co->stack, CO_STACK_BYTES - th.colour * COLOUR_BYTES, coroutine_main,
                    co);
    th.colour = (th.colour + 1) % COLOURS;
    return co;
}

static void coroutine_free(Coroutine *co)
{
    san_fiber_free(co->fiber);
    san_stack_deregister(co->stack_id);
    san_unpoison(co->stack, CO_STACK_BYTES);
    munmap(co->stack - GUARD_BYTES, MAP_BYTES);
    g_free(co);
}

static void pool_put(Coroutine *co)
{
    co->state = CO_POOLED;
    if (th.pool.n >= POOL_MAX) {
        coroutine_free(co);
        return;
    }
    co->node.next = th.pool.head;
    th.pool.head = &co->node;
    th.pool.n++;
}

static Coroutine *pool_get(void)
{
    ReadyNode *node = th.pool.head;

    if (!node) {
        return coroutine_new();
    }
    th.pool.head = node->next;
    th.pool.n--;
    return container_of(node, Coroutine, node);
}

void co_pool_trim(void)
{
    while (th.pool.head) {
        Coroutine *co = container_of(th.pool.head, Coroutine, node);

        th.pool.head = co->node.next;
        th.pool.n--;
        coroutine_free(co);
    }
}

/* --- scheduling --- */

void coroutine_run(ReadyNode *node)
{
    Coroutine *co = container_of(node, Coroutine, node);

    assert(co->state == CO_READY && !th.current);
    if (unlikely(!th.main_fiber)) {
        th.main_fiber = san_fiber_current();
    }
    co->state = CO_RUNNING;
    th.current = co;
    enter(co);
    th.current = NULL;
    if (co->state == CO_DONE) {
        co->loop->n_coroutines--;
        pool_put(co);
    }
}

Coroutine *co_spawn(CoroutineFn *fn, void *opaque)
{
    Loop *loop = loop_current();
    Coroutine *co;

    assert(loop);
    co = pool_get();
    co->fn = fn;
    co->opaque = opaque;
    co->loop = loop;
    co->state = CO_READY;
    loop->n_coroutines++;
    ready_push(&loop->ready, &co->node);
    return co;
}

Coroutine *co_self(void)
{
    return th.current;
}

bool in_coroutine(void)
{
    return th.current != NULL;
}

void coroutine_fn co_yield(void)
{
    Coroutine *co = th.current;

    assert(co);
    co->state = CO_WAITING;
    leave(co, false);
}

void co_wake(Coroutine *co)
{
    assert(co->state == CO_WAITING);
    assert(co->loop == loop_current());
    co->state = CO_READY;
    ready_push(&co->loop->ready, &co->node);
}

void coroutine_fn co_reschedule(void)
{
    Coroutine *co = th.current;

    assert(co);
    co->state = CO_READY;
    ready_push_late(&co->loop->ready, &co->node);
    leave(co, false);
}
