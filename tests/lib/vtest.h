/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vtest: tests that are coroutines on a virtual loop.
 *
 *   static void coroutine_fn test_two_wait(void) { ... }
 *   VTEST("/sync/two-wait", test_two_wait)
 *
 * Each test gets a fresh loop whose clock starts at 1 s. It fails if everybody
 * waits for somebody else (deadlock), or if a coroutine or timer is left when
 * nothing is ready any more.
 */
#ifndef TESTS_LIB_VTEST_H
#define TESTS_LIB_VTEST_H

#include "test.h"
#include "util/loop.h"

/** vtest_run() - @fn(@opaque) as a coroutine on a new virtual loop
 * @seed: order of the ready queue; 0: FIFO */
void vtest_run(CoroutineFn *fn, void *opaque, uint64_t seed);

/** vtest_run_fn() - the same for a function without arguments */
void vtest_run_fn(TestFn *fn, uint64_t seed);

/** loop_test_run() - the same on a real loop */
void loop_test_run(TestFn *fn, LoopPoller poller);

/* One run, FIFO. */
#define VTEST(path, fn)                                                                            \
    static void fn##_on_loop(void)                                                                 \
    {                                                                                              \
        vtest_run_fn(fn, 0);                                                                       \
    }                                                                                              \
    TEST(path, fn##_on_loop)

/* FIFO and 20 random orders of the ready queue: for tests that must not depend on it. */
#define VTEST_ANY_ORDER(path, fn)                                                                  \
    static void fn##_on_loops(void)                                                                \
    {                                                                                              \
        for (uint64_t seed = 0; seed <= 20; seed++) {                                              \
            vtest_run_fn(fn, seed);                                                                \
        }                                                                                          \
    }                                                                                              \
    TEST(path, fn##_on_loops)

/* On the loop that programs use, with real time and descriptors. */
#define LOOP_TEST(path, fn)                                                                        \
    static void fn##_on_loop(void)                                                                 \
    {                                                                                              \
        loop_test_run(fn, LOOP_POLLER_AUTO);                                                       \
    }                                                                                              \
    TEST(path, fn##_on_loop)

#endif
