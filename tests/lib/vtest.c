/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vtest: run a coroutine until nothing is left to do, and check that it got there. */
#include "vtest.h"

typedef struct Body {
    CoroutineFn *fn;
    TestFn *plain; /* instead of fn */
    void *opaque;
    bool returned;
} Body;

static void coroutine_fn body_entry(void *opaque)
{
    Body *b = opaque;

    if (b->plain != NULL) {
        b->plain();
    } else {
        b->fn(b->opaque);
    }
    b->returned = true;
}

static void run_virtual(Body *b, uint64_t seed)
{
    g_autoptr(GError) err = NULL;
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, &err);

    g_assert_no_error(err);
    loop_virtual_seed(loop, seed);
    co_spawn(body_entry, b);
    while (loop_step(loop, true)) {
        /* until nothing can happen any more */
    }
    if (!b->returned) {
        g_error("deadlock: the test waits and nothing can wake it (ready order %" G_GUINT64_FORMAT
                ")",
                seed);
    }
    loop_free(loop); /* asserts that no coroutine and no timer is left */
}

void vtest_run(CoroutineFn *fn, void *opaque, uint64_t seed)
{
    Body b = {.fn = fn, .opaque = opaque};

    run_virtual(&b, seed);
}

void vtest_run_fn(TestFn *fn, uint64_t seed)
{
    Body b = {.plain = fn};

    run_virtual(&b, seed);
}

void loop_test_run(TestFn *fn, LoopPoller poller)
{
    g_autoptr(GError) err = NULL;
    Body b = {.plain = fn};
    Loop *loop = loop_new(poller, &err);

    g_assert_no_error(err);
    loop_run_coroutine(loop, body_entry, &b);
    while (loop_step(loop, false)) {
        /* what the test closed gets to end */
    }
    loop_free(loop);
}
