/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window of a copying job: wide on a long link, narrow on a disk. */
#include "block/jobs/window.h"

#include "test.h"

/* A link with this delay that carries a piece in @piece_us: what a full window takes. */
static int64_t link_us(int size, int64_t delay_us, int64_t piece_us)
{
    return MAX(delay_us + piece_us, size * piece_us);
}

static void run(CopyWindow *w, int pieces, int64_t delay_us, int64_t piece_us)
{
    for (int i = 0; i < pieces; i++) {
        copy_window_done(w, link_us(w->size, delay_us, piece_us) * 1000);
    }
}

static void test_fills_a_link(void)
{
    CopyWindow w;

    copy_window_init(&w);
    run(&w, 300, 4000, 200);
    g_assert_cmpint(w.size * 200, >=, 4000);
}

static void test_stays_narrow_where_pieces_queue(void)
{
    CopyWindow w;

    copy_window_init(&w);
    copy_window_done(&w, 60 * 1000);
    run(&w, 300, 0, 60);
    g_assert_cmpint(w.size, ==, COPY_WINDOW_MIN);
}

static void test_is_bounded(void)
{
    CopyWindow w;

    copy_window_init(&w);
    run(&w, 300, 1000000, 1);
    g_assert_cmpint(w.size, ==, COPY_WINDOW_MAX);
}

static void test_believes_that_a_link_has_become_longer(void)
{
    CopyWindow w;

    copy_window_init(&w);
    run(&w, 300, 100, 10);
    run(&w, 100, 50000, 10);
    g_assert_cmpint(w.size, ==, COPY_WINDOW_MIN);
    run(&w, 3 * COPY_WINDOW_MEMORY, 50000, 10);
    g_assert_cmpint(w.size, ==, COPY_WINDOW_MAX);
}

TEST("/copy-window/fills-a-link", test_fills_a_link)
TEST("/copy-window/queueing", test_stays_narrow_where_pieces_queue)
TEST("/copy-window/bounds", test_is_bounded)
TEST("/copy-window/longer-link", test_believes_that_a_link_has_become_longer)
