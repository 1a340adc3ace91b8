/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loop: the turn.
 *
 * A turn runs what is ready, hands the file operations that this made to the
 * kernel in one call, looks for events (sleeping only if nothing is ready), and
 * runs the timers that are due. Events and timers make coroutines ready; code
 * of the upper layers runs only from the ready queue, from timers and from
 * posted functions.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aio.h"
#include "coroutine-internal.h"
#include "loop-internal.h"
#include "ring.h"
#include "util/error.h"
#include "worker.h"

static __thread Loop *current_loop;

/* --- names --- */

static const char *const poller_names[] = {
    [LOOP_POLLER_AUTO] = "auto",
    [LOOP_POLLER_IO_URING] = "io_uring",
    [LOOP_POLLER_EPOLL] = "epoll",
    [LOOP_POLLER_VIRTUAL] = "virtual",
};

bool loop_poller_parse(const char *name, LoopPoller *ret)
{
    for (size_t i = 0; i < G_N_ELEMENTS(poller_names); i++) {
        if (strcmp(name, poller_names[i]) == 0) {
            *ret = (LoopPoller)i;
            return true;
        }
    }
    return false;
}

const char *loop_poller_str(LoopPoller poller)
{
    return poller_names[poller];
}

/* --- life --- */

/* TANDEM_POLLER instead of @poller where the caller leaves the choice to us. */
static bool poller_from_environment(LoopPoller *poller, GError **errp)
{
    const char *name = g_getenv("TANDEM_POLLER");
    LoopPoller forced;

    if (*poller != LOOP_POLLER_AUTO || !name || !*name) {
        return true;
    }
    if (!loop_poller_parse(name, &forced) || forced == LOOP_POLLER_VIRTUAL) {
        return fail(errp, "TANDEM_POLLER is '%s', want 'io_uring', 'epoll' or 'auto'", name);
    }
    *poller = forced;
    return true;
}

/* The ring, if @poller asks for it or permits it and the kernel has it. */
static bool choose_files(Loop *loop, LoopPoller poller, GError **errp)
{
    loop->kind = LOOP_POLLER_EPOLL;
    if (poller == LOOP_POLLER_EPOLL) {
        return true;
    }
    loop->ring = ring_new(loop, poller == LOOP_POLLER_IO_URING ? errp : NULL);
    if (loop->ring) {
        loop->kind = LOOP_POLLER_IO_URING;
        return true;
    }
    return poller == LOOP_POLLER_AUTO;
}

Loop *loop_new(LoopPoller poller, GError **errp)
{
    Loop *loop;

    assert(!current_loop);
    if (!poller_from_environment(&poller, errp)) {
        return NULL;
    }
    loop = g_new0(Loop, 1);
    if (poller == LOOP_POLLER_VIRTUAL) {
        loop->kind = poller;
        poller_virtual_init(loop);
    } else {
        if (!poller_epoll_init(loop, errp)) {
            g_free(loop);
            return NULL;
        }
        if (!choose_files(loop, poller, errp)) {
            loop->ops->free(loop);
            g_free(loop);
            return NULL;
        }
    }
    current_loop = loop;
    return loop;
}

void loop_free(Loop *loop)
{
    assert(loop == current_loop && !in_coroutine());
    assert(loop->n_coroutines == 0 && loop->n_fds == 0);
    worker_pool_free(loop->workers);
    assert(ready_len(&loop->ready) == 0 && !__atomic_load_n(&loop->posted, __ATOMIC_ACQUIRE));
    loop_signals_free(loop, loop->signals);
    aio_free(loop->aio);
    ring_free(loop->ring);
    timer_heap_free(&loop->timers);
    loop->ops->free(loop);
    g_free(loop);
    current_loop = NULL;
    co_pool_trim();
}

Loop *loop_current(void)
{
    return current_loop;
}

LoopPoller loop_poller(const Loop *loop)
{
    return loop->kind;
}

void loop_virtual_seed(Loop *loop, uint64_t seed)
{
    assert(loop->kind == LOOP_POLLER_VIRTUAL);
    ready_seed(&loop->ready, seed);
}

/* --- time --- */

int64_t loop_now_ns(void)
{
    if (unlikely(!current_loop)) {
        return g_get_monotonic_time() * NS_PER_US;
    }
    return current_loop->ops->now_ns(current_loop);
}

int64_t loop_wall_ns(void)
{
    if (unlikely(!current_loop)) {
        return g_get_real_time() * NS_PER_US;
    }
    return current_loop->ops->wall_ns(current_loop);
}

void timer_init(LoopTimer *t, LoopFn *fn, void *opaque)
{
    *t = (LoopTimer){.fn = fn, .opaque = opaque};
}

void timer_arm(LoopTimer *t, int64_t deadline_ns)
{
    timer_cancel(t);
    t->deadline_ns = deadline_ns;
    timer_heap_add(&current_loop->timers, t);
}

void timer_cancel(LoopTimer *t)
{
    if (timer_is_armed(t)) {
        timer_heap_remove(&current_loop->timers, t);
    }
}

static void wake_sleeper(void *opaque)
{
    co_wake(opaque);
}

void coroutine_fn co_sleep_ns(int64_t ns)
{
    LoopTimer t;

    timer_init(&t, wake_sleeper, co_self());
    timer_arm(&t, loop_now_ns() + MAX(ns, 0));
    co_yield ();
}

/* --- functions to run later --- */

typedef struct LoopCall {
    union {
        PostNode post;   /* first on the way from another thread... */
        ReadyNode ready; /* ...then, or at once, on the ready queue */
    } node;
    LoopFn *fn;
    void *opaque;
} LoopCall;

static void call_run(ReadyNode *node)
{
    LoopCall call = *container_of(node, LoopCall, node.ready);

    g_free(container_of(node, LoopCall, node.ready));
    call.fn(call.opaque);
}

static LoopCall *call_new(LoopFn *fn, void *opaque)
{
    LoopCall *call = g_new(LoopCall, 1);

    call->fn = fn;
    call->opaque = opaque;
    return call;
}

void loop_defer(LoopFn *fn, void *opaque)
{
    LoopCall *call = call_new(fn, opaque);

    call->node.ready.run = call_run;
    ready_push_late(&current_loop->ready, &call->node.ready);
}

static void call_arrive(Loop *loop, PostNode *node)
{
    LoopCall *call = container_of(node, LoopCall, node.post);

    call->node.ready.run = call_run;
    ready_push(&loop->ready, &call->node.ready);
}

void loop_post(Loop *loop, LoopFn *fn, void *opaque)
{
    LoopCall *call = call_new(fn, opaque);

    call->node.post.arrive = call_arrive;
    loop_post_node(loop, &call->node.post);
}

/*
 * A stack that the loop takes whole. Only the one who finds it empty kicks: the
 * others arrive with it. The kick may reach a loop that has taken the stack
 * already, which costs it one empty turn.
 */
void loop_post_node(Loop *loop, PostNode *node)
{
    PostNode *head = __atomic_load_n(&loop->posted, __ATOMIC_RELAXED);

    do {
        node->next = head;
    } while (!__atomic_compare_exchange_n(&loop->posted, &head, node, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (!head) {
        loop->ops->kick(loop);
    }
}

static void take_posted(Loop *loop)
{
    PostNode *newest, *oldest = NULL;

    if (!__atomic_load_n(&loop->posted, __ATOMIC_RELAXED)) {
        return;
    }
    newest = __atomic_exchange_n(&loop->posted, NULL, __ATOMIC_ACQUIRE);
    while (newest) {
        PostNode *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        PostNode *next = oldest->next;

        oldest->arrive(loop, oldest);
        oldest = next;
    }
}

/* --- the turn --- */

/*
 * With many coroutines nothing of the next one is in the cache: fetch where its
 * stack was left, and the entry after it, while this one runs.
 */
static inline void fetch_ahead(const ReadyNode *next)
{
    if (!next) {
        return;
    }
    if (next->run == coroutine_run) {
        __builtin_prefetch(co_context_hot(&container_of(next, Coroutine, node)->ctx));
    }
    __builtin_prefetch(next->next);
}

static void run_one(Loop *loop)
{
    ReadyNode *node = ready_pop(&loop->ready);

    fetch_ahead(loop->ready.now.head);
    node->run(node);
}

/* All that is ready now, but nothing that becomes ready meanwhile. Return: how many. */
static size_t run_ready(Loop *loop)
{
    size_t n = ready_len(&loop->ready);

    loop->budget = LOOP_TURN_BUDGET;
    for (size_t i = 0; i < n; i++) {
        run_one(loop);
    }
    return n;
}

/* What is ready and what becomes so, as far as the budget goes. Return: whether any. */
static bool run_budget(Loop *loop)
{
    bool any = ready_len(&loop->ready) > 0;

    loop->budget = LOOP_TURN_BUDGET;
    while (loop->budget-- > 0 && ready_len(&loop->ready)) {
        run_one(loop);
    }
    return any;
}

/* Everything that makes things ready without waiting for the kernel. */
static void collect(Loop *loop)
{
    take_posted(loop);
    if (loop->ring) {
        ring_flush(loop->ring);
    }
    if (loop->aio) {
        aio_flush(loop->aio);
    }
    if (loop->workers) {
        worker_pool_flush(loop->workers);
    }
}

/* How long poll() may wait: 0 if something is ready, < 0 for ever. */
static int64_t time_to_wait(Loop *loop)
{
    int64_t next = timer_heap_next_ns(&loop->timers);
    int64_t wait;

    if (ready_len(&loop->ready)) {
        return 0;
    }
    if (loop->ring && ring_must_retry(loop->ring)) {
        return NS_PER_MS;
    }
    if (next == INT64_MAX) {
        return -1;
    }
    wait = next - loop->ops->now_ns(loop);
    return MAX(wait, 0);
}

/* Return: whether a timer ran; the ready queue shows the rest. */
static bool look_for_events(Loop *loop, bool may_block)
{
    collect(loop);
    loop->ops->poll(loop, may_block ? time_to_wait(loop) : 0);
    collect(loop);
    return loop->timers.n && timer_heap_expire(&loop->timers, loop->ops->now_ns(loop));
}

bool loop_step(Loop *loop, bool may_block)
{
    size_t ran = run_ready(loop);
    bool timers = look_for_events(loop, may_block && ran == 0);

    ran += run_ready(loop);
    return ran || timers;
}

static void NORETURN die_of_deadlock(Loop *loop)
{
    fprintf(stderr, "tandem: deadlock: %zu coroutines wait and nothing can wake them\n",
            loop->n_coroutines);
    abort();
}

/* New entries run in the same turn up to the budget. @stop: do not sleep once it is set. */
static void turn(Loop *loop, const bool *stop)
{
    bool ran = run_budget(loop);
    bool timers = look_for_events(loop, !*stop);

    if (loop->kind == LOOP_POLLER_VIRTUAL && !ran && !timers && !*stop &&
        !ready_len(&loop->ready)) {
        die_of_deadlock(loop);
    }
}

void loop_run(Loop *loop)
{
    assert(loop == current_loop && !in_coroutine());
    while (!loop->stop) {
        turn(loop, &loop->stop);
    }
    loop->stop = false;
    run_ready(loop);
}

void loop_stop(Loop *loop)
{
    loop->stop = true;
}

typedef struct MainCoroutine {
    CoroutineFn *fn;
    void *opaque;
    bool done;
} MainCoroutine;

static void coroutine_fn main_coroutine(void *opaque)
{
    MainCoroutine *m = opaque;

    m->fn(m->opaque);
    m->done = true;
}

void loop_run_coroutine(Loop *loop, CoroutineFn *fn, void *opaque)
{
    MainCoroutine m = {fn, opaque, false};

    assert(loop == current_loop && !in_coroutine());
    co_spawn(main_coroutine, &m);
    while (!m.done) {
        turn(loop, &m.done);
    }
}
