/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a test once on each poller. */
#include "loops.h"

typedef struct LoopTest {
    LoopTestFn *fn;
    LoopPoller poller;
} LoopTest;

static void run(gconstpointer opaque)
{
    const LoopTest *t = opaque;
    g_autoptr(GError) err = NULL;
    Loop *loop = loop_new(t->poller, &err);

    if (!loop && t->poller == LOOP_POLLER_IO_URING) {
        g_test_skip(err->message);
        return;
    }
    g_assert_no_error(err);
    g_assert_cmpint(loop_poller(loop), ==, t->poller);
    t->fn(loop);
    loop_free(loop);
}

static void add(const char *name, LoopTestFn *fn, LoopPoller poller)
{
    g_autofree char *path = g_strdup_printf("%s/%s", name, loop_poller_str(poller));
    LoopTest *t = g_new(LoopTest, 1);

    *t = (LoopTest){fn, poller};
    g_test_add_data_func_full(path, t, run, g_free);
}

void test_on_real_loops(const char *name, LoopTestFn *fn)
{
    add(name, fn, LOOP_POLLER_EPOLL);
    add(name, fn, LOOP_POLLER_IO_URING);
}

void test_on_all_loops(const char *name, LoopTestFn *fn)
{
    test_on_real_loops(name, fn);
    add(name, fn, LOOP_POLLER_VIRTUAL);
}
