/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What coroutines, the ready queue and timers cost. */
#include <stdio.h>

#include "bench.h"
#include "util/loop.h"
#include "util/prng.h"

static Loop *loop;

static void coroutine_fn nothing(void *opaque)
{
}

/* From the pool: make, run, finish. */
static void spawn_one_by_one(uint64_t n, void *opaque)
{
    for (uint64_t i = 0; i < n; i++) {
        co_spawn(nothing, NULL);
        loop_step(loop, false);
    }
}

static void coroutine_fn spawn_many(void *opaque)
{
    uint64_t n = *(uint64_t *)opaque;

    for (uint64_t i = 0; i < n; i++) {
        co_spawn(nothing, NULL);
        if (i % 100 == 99) {
            co_reschedule();
        }
    }
}

static void spawn_in_hundreds(uint64_t n, void *opaque)
{
    loop_run_coroutine(loop, spawn_many, &n);
}

/* Fresh stacks: what the pool saves. */
static void spawn_unpooled(uint64_t n, void *opaque)
{
    for (uint64_t i = 0; i < n; i++) {
        co_spawn(nothing, NULL);
        loop_step(loop, false);
        co_pool_trim();
    }
}

typedef struct Yielder {
    uint64_t rounds;
    uint64_t *left;
} Yielder;

static void coroutine_fn yield_often(void *opaque)
{
    Yielder *y = opaque;

    for (uint64_t i = 0; i < y->rounds; i++) {
        co_reschedule();
    }
    if (--*y->left == 0) {
        loop_stop(loop);
    }
}

/* Pairs of yield and resume, with @opaque coroutines in the ready queue. */
static void reschedule(uint64_t n, void *opaque)
{
    uint64_t entries = *(int *)opaque, left = entries;
    Yielder y = {n / entries, &left};

    for (uint64_t i = 0; i < entries; i++) {
        co_spawn(yield_often, &y);
    }
    loop_run(loop);
}

static void count(void *opaque)
{
    if (--*(uint64_t *)opaque == 0) {
        loop_stop(loop);
    }
}

static void defer(uint64_t n, void *opaque)
{
    uint64_t entries = *(int *)opaque;

    for (uint64_t done = 0; done < n; done += entries) {
        uint64_t left = entries;

        for (uint64_t i = 0; i < entries; i++) {
            loop_defer(count, &left);
        }
        loop_run(loop);
    }
}

static void ignore(void *opaque)
{
}

/* Arm and cancel among @opaque timers that are armed for later. */
static void timers(uint64_t n, void *opaque)
{
    int armed = *(int *)opaque;
    LoopTimer *t = g_new(LoopTimer, armed);
    int64_t base = loop_now_ns() + 3600 * NS_PER_S;
    Prng rng;

    prng_init(&rng, 1);
    for (int i = 0; i < armed; i++) {
        timer_init(&t[i], ignore, NULL);
        timer_arm(&t[i], base + (int64_t)prng_below(&rng, NS_PER_S));
    }
    for (uint64_t i = 0; i < n; i++) {
        timer_arm(&t[i % armed], base + (int64_t)prng_below(&rng, NS_PER_S));
    }
    for (int i = 0; i < armed; i++) {
        timer_cancel(&t[i]);
    }
    g_free(t);
}

int main(void)
{
    int hundred = 100, thousand = 1000, many = 100000;

    loop = loop_new(LOOP_POLLER_VIRTUAL, NULL); /* no system calls in the way */
    bench_ns("coroutine/spawn-run-finish", spawn_in_hundreds, 2000000, NULL);
    bench_ns("coroutine/spawn-run-finish-with-a-turn-each", spawn_one_by_one, 2000000, NULL);
    bench_ns("coroutine/spawn-run-finish-unpooled", spawn_unpooled, 20000, NULL);
    bench_ns("coroutine/yield-resume/100-ready", reschedule, 10000000, &hundred);
    bench_ns("coroutine/yield-resume/1000-ready", reschedule, 10000000, &thousand);
    bench_ns("coroutine/yield-resume/100000-ready", reschedule, 10000000, &many);
    bench_ns("loop/defer/100-ready", defer, 10000000, &hundred);
    bench_ns("loop/defer/100000-ready", defer, 10000000, &many);
    bench_ns("timer/arm-again/100-armed", timers, 5000000, &hundred);
    bench_ns("timer/arm-again/100000-armed", timers, 5000000, &many);
    loop_free(loop);
    return 0;
}
