/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timers: order, cancelling, many, time. */
#include "loops.h"
#include "util/prng.h"

typedef struct Alarm {
    LoopTimer timer;
    GArray *fired; /* int */
    int id;
} Alarm;

static void ring_alarm(void *opaque)
{
    Alarm *a = opaque;

    g_array_append_val(a->fired, a->id);
}

static void alarm_set(Alarm *a, GArray *fired, int id, int64_t deadline_ns)
{
    *a = (Alarm){.fired = fired, .id = id};
    timer_init(&a->timer, ring_alarm, a);
    timer_arm(&a->timer, deadline_ns);
}

static void run_until_n(Loop *loop, const GArray *fired, guint n)
{
    while (fired->len < n) {
        loop_step(loop, true);
    }
}

static void test_order_is_that_of_deadlines(Loop *loop)
{
    g_autoptr(GArray) fired = g_array_new(false, false, sizeof(int));
    int64_t now = loop_now_ns();
    const int64_t ms[] = {5, 1, 3, 1, 0};
    const int want[] = {4, 1, 3, 2, 0};
    Alarm a[5];

    for (int i = 0; i < 5; i++) {
        alarm_set(&a[i], fired, i, now + ms[i] * NS_PER_MS);
        g_assert_true(timer_is_armed(&a[i].timer));
    }
    run_until_n(loop, fired, 5);
    g_assert_cmpmem(fired->data, 5 * sizeof(int), want, sizeof(want));
    g_assert_false(timer_is_armed(&a[0].timer));
    g_assert_cmpint(loop_now_ns(), >=, now + 5 * NS_PER_MS);
}

static void test_cancelled_does_not_fire(Loop *loop)
{
    g_autoptr(GArray) fired = g_array_new(false, false, sizeof(int));
    int64_t now = loop_now_ns();
    Alarm a, b;

    alarm_set(&a, fired, 1, now);
    alarm_set(&b, fired, 2, now + NS_PER_MS);
    timer_cancel(&a.timer);
    timer_cancel(&a.timer);
    run_until_n(loop, fired, 1);
    g_assert_cmpint(g_array_index(fired, int, 0), ==, 2);
    g_assert_false(loop_step(loop, false));
}

static void test_arming_again_moves_it(Loop *loop)
{
    g_autoptr(GArray) fired = g_array_new(false, false, sizeof(int));
    int64_t now = loop_now_ns();
    Alarm a, b;

    alarm_set(&a, fired, 1, now);
    alarm_set(&b, fired, 2, now + NS_PER_MS);
    timer_arm(&a.timer, now + 2 * NS_PER_MS);
    run_until_n(loop, fired, 2);
    g_assert_cmpint(g_array_index(fired, int, 0), ==, 2);
    g_assert_cmpint(g_array_index(fired, int, 1), ==, 1);
}

typedef struct Rearm {
    LoopTimer timer;
    int n;
} Rearm;

static void rearm(void *opaque)
{
    Rearm *r = opaque;

    r->n++;
    timer_arm(&r->timer, 0);
}

static void test_rearming_in_the_past_does_not_starve(Loop *loop)
{
    Rearm r = {0};

    timer_init(&r.timer, rearm, &r);
    timer_arm(&r.timer, 0);
    for (int i = 1; i <= 10; i++) {
        g_assert_true(loop_step(loop, true));
        g_assert_cmpint(r.n, ==, i);
    }
    timer_cancel(&r.timer);
}

typedef struct Checked {
    LoopTimer timer;
    int64_t *last_ns;
    size_t *n;
} Checked;

static void check_order(void *opaque)
{
    Checked *c = opaque;

    g_assert_cmpint(c->timer.deadline_ns, >=, *c->last_ns);
    *c->last_ns = c->timer.deadline_ns;
    (*c->n)++;
}

/* 100,000 timers, a third of them cancelled and a third moved, fire in order. */
static void test_many(Loop *loop)
{
    enum { N = 100000 };
    g_autofree Checked *c = g_new0(Checked, N);
    int64_t base = loop_now_ns(), last_ns = 0;
    size_t fired = 0, cancelled = 0;
    Prng rng;

    prng_init(&rng, 42);
    for (int i = 0; i < N; i++) {
        c[i] = (Checked){.last_ns = &last_ns, .n = &fired};
        timer_init(&c[i].timer, check_order, &c[i]);
        timer_arm(&c[i].timer, base + prng_below(&rng, 50 * NS_PER_MS));
    }
    for (int i = 0; i < N; i++) {
        switch (prng_below(&rng, 3)) {
        case 0:
            timer_cancel(&c[i].timer);
            cancelled++;
            break;
        case 1:
            timer_arm(&c[i].timer, base + prng_below(&rng, 50 * NS_PER_MS));
        }
    }
    while (fired < N - cancelled) {
        loop_step(loop, true);
    }
    g_assert_false(loop_step(loop, false));
}

static void coroutine_fn sleep_some(void *opaque)
{
    int64_t start = loop_now_ns();

    co_sleep_ns(3 * NS_PER_MS);
    g_assert_cmpint(loop_now_ns() - start, >=, 3 * NS_PER_MS);
    co_sleep_ns(0);
    co_sleep_ns(-1);
}

static void test_sleep_lasts(Loop *loop)
{
    loop_run_coroutine(loop, sleep_some, NULL);
}

static void coroutine_fn sleep_a_year(void *opaque)
{
    co_sleep_ns(365 * 86400 * NS_PER_S);
    *(int64_t *)opaque = loop_now_ns();
}

static void test_virtual_time_jumps(void)
{
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
    int64_t end = 0;

    g_assert_cmpint(loop_now_ns(), ==, NS_PER_S);
    g_assert_cmpint(loop_wall_ns(), ==, NS_PER_S);
    co_spawn(sleep_a_year, &end);
    g_assert_true(loop_step(loop, false));
    g_assert_false(loop_step(loop, false)); /* time stands still */
    g_assert_cmpint(loop_now_ns(), ==, NS_PER_S);
    g_assert_true(loop_step(loop, true));
    g_assert_cmpint(end, ==, NS_PER_S + 365 * 86400 * NS_PER_S);
    g_assert_false(loop_step(loop, true));
    loop_free(loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    test_on_all_loops("/timer/order", test_order_is_that_of_deadlines);
    test_on_all_loops("/timer/cancelled", test_cancelled_does_not_fire);
    test_on_all_loops("/timer/arming-again", test_arming_again_moves_it);
    test_on_all_loops("/timer/rearming-in-the-past", test_rearming_in_the_past_does_not_starve);
    test_on_all_loops("/timer/many", test_many);
    test_on_all_loops("/timer/sleep", test_sleep_lasts);
    g_test_add_func("/timer/virtual-time-jumps", test_virtual_time_jumps);
    return g_test_run();
}
