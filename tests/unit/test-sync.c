/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sync: queues, locks, groups and rates in virtual time. */
#include "util/sync.h"

#include <errno.h>

#include "vtest.h"

/* Who did what, in order: tests compare it as a string. */
static GString *log_text;

static void log_start(void)
{
    log_text = g_string_new(NULL);
}

static void log_add(const char *what)
{
    g_string_append(log_text, what);
}

static void log_expect(const char *all)
{
    g_assert_cmpstr(log_text->str, ==, all);
    g_string_free(log_text, TRUE);
}

/* --- CoQueue --- */

static CoQueue queue;

static void coroutine_fn queue_waiter(void *name)
{
    co_queue_wait(&queue);
    log_add(name);
}

static void coroutine_fn test_queue_wakes_in_order(void)
{
    log_start();
    co_spawn(queue_waiter, (void *)"a");
    co_spawn(queue_waiter, (void *)"b");
    co_spawn(queue_waiter, (void *)"c");
    co_reschedule();
    g_assert_true(co_queue_wake_one(&queue));
    log_add("-"); /* waking runs nobody at once */
    co_reschedule();
    co_queue_wake_all(&queue);
    g_assert_true(co_queue_is_empty(&queue));
    g_assert_false(co_queue_wake_one(&queue));
    co_reschedule();
    log_expect("-abc");
}

static void coroutine_fn test_queue_deadline_passes(void)
{
    int64_t start_ns = loop_now_ns();

    g_assert_false(co_queue_wait_deadline(&queue, start_ns + 5 * NS_PER_MS));
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 5 * NS_PER_MS);
    g_assert_true(co_queue_is_empty(&queue));
    g_assert_false(co_queue_wait_deadline(&queue, loop_now_ns())); /* it is there already */
}

static void coroutine_fn wake_later(void *delay_ns)
{
    co_sleep_ns(*(int64_t *)delay_ns);
    log_add(co_queue_wake_one(&queue) ? "woke" : "nobody");
}

static void coroutine_fn test_wake_before_deadline(void)
{
    int64_t delay_ns = 3 * NS_PER_MS, start_ns = loop_now_ns();

    log_start();
    co_spawn(wake_later, &delay_ns);
    g_assert_true(co_queue_wait_deadline(&queue, start_ns + 5 * NS_PER_MS));
    g_assert_cmpint(loop_now_ns(), ==, start_ns + delay_ns);
    co_sleep_ns(10 * NS_PER_MS); /* the deadline does not fire behind our back */
    log_expect("woke");
}

/* In the same instant either the wake or the deadline wins, and both sides agree on it. */
static void coroutine_fn test_wake_and_deadline_in_one_instant(void)
{
    int64_t delay_ns = 5 * NS_PER_MS;

    for (int order = 0; order < 2; order++) {
        int64_t deadline_ns = loop_now_ns() + delay_ns;
        bool woken;

        log_start();
        co_spawn(wake_later, &delay_ns);
        if (order == 1) {
            co_reschedule(); /* the other one's timer is armed first */
        }
        woken = co_queue_wait_deadline(&queue, deadline_ns);
        g_assert_cmpint(loop_now_ns(), ==, deadline_ns);
        co_sleep_ns(1);
        log_expect(woken ? "woke" : "nobody");
    }
}

static void coroutine_fn deadline_waiter(void *name)
{
    log_add(co_queue_wait_deadline(&queue, loop_now_ns() + NS_PER_MS) ? "!" : name);
}

static void coroutine_fn test_deadline_leaves_the_others_in_line(void)
{
    log_start();
    co_spawn(queue_waiter, (void *)"a");
    co_spawn(deadline_waiter, (void *)"x");
    co_spawn(queue_waiter, (void *)"b");
    co_sleep_ns(2 * NS_PER_MS);
    co_queue_wake_all(&queue);
    co_reschedule();
    log_expect("xab");
}

/* --- CoMutex --- */

static CoMutex mutex;

static void coroutine_fn mutex_user(void *name)
{
    CO_LOCK_GUARD(&mutex);
    log_add(name);
    co_sleep_ns(NS_PER_MS);
    log_add(name);
}

static void coroutine_fn test_mutex_excludes_in_order(void)
{
    log_start();
    co_spawn(mutex_user, (void *)"a");
    co_spawn(mutex_user, (void *)"b");
    co_spawn(mutex_user, (void *)"c");
    co_sleep_ns(10 * NS_PER_MS);
    log_expect("aabbcc");
    g_assert_true(co_mutex_trylock(&mutex));
    co_mutex_unlock(&mutex);
}

/* Between unlock and the next holder's turn nobody else gets it. */
static void coroutine_fn test_mutex_is_handed_over(void)
{
    log_start();
    co_mutex_lock(&mutex);
    co_spawn(mutex_user, (void *)"b");
    co_reschedule();
    co_mutex_unlock(&mutex);
    g_assert_false(co_mutex_trylock(&mutex));
    co_mutex_lock(&mutex); /* behind b */
    log_add("a");
    co_mutex_unlock(&mutex);
    log_expect("bba");
}

static int counter;

static void coroutine_fn mutex_counter(void *unused)
{
    for (int i = 0; i < 10; i++) {
        CO_LOCK_GUARD(&mutex);
        int before = counter;

        co_sleep_ns(i % 3);
        counter = before + 1;
    }
}

static void coroutine_fn test_mutex_loses_no_update(void)
{
    counter = 0;
    for (int i = 0; i < 10; i++) {
        co_spawn(mutex_counter, NULL);
    }
    co_sleep_ns(NS_PER_S);
    g_assert_cmpint(counter, ==, 100);
}

/* --- CoRwLock --- */

static CoRwLock rwlock;
static int readers_in, writers_in, readers_most;

static void coroutine_fn reader(void *name)
{
    co_rwlock_rdlock(&rwlock);
    readers_in++;
    g_assert_cmpint(writers_in, ==, 0);
    readers_most = MAX(readers_most, readers_in);
    log_add(name);
    co_sleep_ns(NS_PER_MS);
    readers_in--;
    co_rwlock_unlock(&rwlock);
}

static void coroutine_fn writer(void *name)
{
    co_rwlock_wrlock(&rwlock);
    g_assert_cmpint(readers_in + writers_in++, ==, 0);
    log_add(name);
    co_sleep_ns(NS_PER_MS);
    writers_in--;
    co_rwlock_unlock(&rwlock);
}

static void coroutine_fn test_rwlock_writers_do_not_starve(void)
{
    log_start();
    readers_most = 0;
    co_spawn(reader, (void *)"r");
    co_spawn(reader, (void *)"r");
    co_spawn(writer, (void *)"W");
    co_spawn(reader, (void *)"s"); /* behind the writer, though only readers hold it */
    co_spawn(reader, (void *)"s");
    co_spawn(reader, (void *)"s");
    co_spawn(writer, (void *)"X");
    co_sleep_ns(10 * NS_PER_MS);
    log_expect("rrWsssX");
    g_assert_cmpint(readers_most, ==, 3);
    g_assert_cmpint(rwlock.readers, ==, 0);
}

static void coroutine_fn test_rwlock_excludes_in_any_order(void)
{
    log_start();
    for (int i = 0; i < 20; i++) {
        co_spawn(i % 3 == 0 ? writer : reader, (void *)".");
    }
    co_sleep_ns(NS_PER_S);
    log_expect("....................");
}

/* --- ranges: what the property in test-range.c does not say --- */

static CoRangeLock ranges;

static void coroutine_fn range_user(void *name)
{
    CoRange r;

    co_range_lock(&ranges, &r, 100, 50, CO_RANGE_EXCLUSIVE);
    log_add(name);
    co_sleep_ns(NS_PER_MS);
    co_range_unlock(&ranges, &r);
}

static void coroutine_fn test_range_is_granted_in_order_of_arrival(void)
{
    CoRange low, high;

    log_start();
    co_range_lock(&ranges, &low, 0, 101, CO_RANGE_EXCLUSIVE);
    co_range_lock(&ranges, &high, 149, 10, CO_RANGE_SHARED);
    co_spawn(range_user, (void *)"a"); /* waits for both */
    co_spawn(range_user, (void *)"b");
    co_reschedule();
    co_range_unlock(&ranges, &low);
    co_sleep_ns(NS_PER_MS);
    log_add("-");
    co_range_unlock(&ranges, &high);
    co_sleep_ns(5 * NS_PER_MS);
    log_expect("-ab");
}

static void coroutine_fn test_range_edges(void)
{
    CoRange a, b, c, last;

    g_assert_true(co_range_trylock(&ranges, &a, 0, 100, CO_RANGE_EXCLUSIVE));
    g_assert_true(co_range_trylock(&ranges, &b, 100, 100, CO_RANGE_EXCLUSIVE)); /* neighbours */
    g_assert_false(co_range_trylock(&ranges, &c, 99, 1, CO_RANGE_SHARED));
    g_assert_true(co_range_trylock(&ranges, &c, 50, 0, CO_RANGE_EXCLUSIVE)); /* empty */
    g_assert_true(co_range_trylock(&ranges, &last, UINT64_MAX - 1, 1, CO_RANGE_EXCLUSIVE));
    co_range_unlock(&ranges, &a);
    g_assert_false(co_range_conflicts(&ranges, 0, 100, CO_RANGE_EXCLUSIVE));
    g_assert_true(co_range_conflicts(&ranges, 0, 101, CO_RANGE_SHARED));
    co_range_unlock(&ranges, &b);
    co_range_unlock(&ranges, &c);
    co_range_unlock(&ranges, &last);
    g_assert_null(ranges.root);
}

/* A wanted range holds back later ones that conflict with it alone. */
static void coroutine_fn test_range_wanted_counts(void)
{
    CoRange shared;

    log_start();
    co_range_lock(&ranges, &shared, 100, 10, CO_RANGE_SHARED);
    co_spawn(range_user, (void *)"a");
    co_reschedule();
    g_assert_true(co_range_conflicts(&ranges, 145, 1, CO_RANGE_SHARED));
    co_range_unlock(&ranges, &shared);
    co_sleep_ns(2 * NS_PER_MS);
    g_assert_false(co_range_conflicts(&ranges, 145, 1, CO_RANGE_SHARED));
    log_expect("a");
}

/* --- CoGroup --- */

typedef struct Work {
    int64_t ns;
    int result;
} Work;

static int coroutine_fn work(void *opaque)
{
    const Work *w = opaque;

    co_sleep_ns(w->ns);
    return w->result;
}

static void coroutine_fn test_group_keeps_the_first_error(void)
{
    Work works[] = {{3, 0}, {2, -EIO}, {1, -ENOSPC}, {4, -EPERM}, {0, 0}};
    CoGroup g = {0};
    int64_t start_ns = loop_now_ns();

    for (size_t i = 0; i < G_N_ELEMENTS(works); i++) {
        co_group_spawn(&g, work, &works[i]);
    }
    g_assert_cmpint(co_group_wait(&g), ==, -ENOSPC); /* first in time */
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 4);
    g_assert_cmpint(co_group_wait(&g), ==, 0); /* cleared */
}

static void coroutine_fn test_group_is_bounded(void)
{
    Work w = {NS_PER_MS, 0};
    CoGroup g = {0};
    int64_t start_ns = loop_now_ns();

    for (int i = 0; i < 10; i++) {
        co_group_throttle(&g, 4);
        g_assert_cmpint(g.running, <, 4);
        co_group_spawn(&g, work, &w);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 3 * NS_PER_MS); /* 4 + 4 + 2 */
}

static void coroutine_fn throttled(void *opaque)
{
    CoGroup *g = opaque;

    co_group_throttle(g, 1); /* and then spawns nothing */
    log_add(".");
}

static void coroutine_fn test_group_room_is_told_to_all_who_wait(void)
{
    Work w = {NS_PER_MS, 0};
    CoGroup g = {0};

    log_start();
    co_group_spawn(&g, work, &w);
    co_spawn(throttled, &g);
    co_spawn(throttled, &g);
    co_sleep_ns(2 * NS_PER_MS);
    log_expect("..");
    g_assert_cmpint(co_group_wait(&g), ==, 0);
}

/* --- RateLimit --- */

static void coroutine_fn test_rate_is_kept(void)
{
    RateLimit rate = {0};
    int64_t start_ns;

    g_assert_cmpint(rate_limit_delay_ns(&rate, UINT64_MAX), ==, 0); /* unlimited */
    rate_limit_set(&rate, 1000);
    start_ns = loop_now_ns();
    for (int i = 0; i < 100; i++) {
        co_sleep_ns(rate_limit_delay_ns(&rate, 50));
    }
    /* The first is free at once, the others wait for those before them. */
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 99 * 50 * NS_PER_MS);
}

static void coroutine_fn test_rate_saves_nothing_up(void)
{
    RateLimit rate = {0};

    rate_limit_set(&rate, 1000);
    co_sleep_ns(NS_PER_S);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 10), ==, 0);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 10), ==, 10 * NS_PER_MS);
}

static void coroutine_fn test_rate_change_keeps_the_debt(void)
{
    RateLimit rate = {0};

    rate_limit_set(&rate, 1000);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 1000), ==, 0);
    rate_limit_set(&rate, 10000); /* 1000 units still to pay, ten times faster */
    g_assert_cmpint(rate_limit_delay_ns(&rate, 1), ==, 100 * NS_PER_MS);
    rate_limit_set(&rate, 0);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 1), ==, 0);
}

static void coroutine_fn test_rate_survives_huge_amounts(void)
{
    RateLimit rate = {0};

    rate_limit_set(&rate, 1);
    g_assert_cmpint(rate_limit_delay_ns(&rate, UINT64_MAX), ==, 0);
    g_assert_cmpint(rate_limit_delay_ns(&rate, UINT64_MAX), >, INT64_C(1) << 60);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 1), >, INT64_C(1) << 60);
    rate_limit_set(&rate, UINT64_MAX);
    g_assert_cmpint(rate_limit_delay_ns(&rate, 1), >=, 0);
}

VTEST("/queue/wakes-in-order", test_queue_wakes_in_order)
VTEST_ANY_ORDER("/queue/deadline-passes", test_queue_deadline_passes)
VTEST_ANY_ORDER("/queue/wake-before-deadline", test_wake_before_deadline)
VTEST_ANY_ORDER("/queue/wake-and-deadline-in-one-instant", test_wake_and_deadline_in_one_instant)
VTEST("/queue/deadline-leaves-others-in-line", test_deadline_leaves_the_others_in_line)
VTEST("/mutex/excludes-in-order", test_mutex_excludes_in_order)
VTEST("/mutex/is-handed-over", test_mutex_is_handed_over)
VTEST_ANY_ORDER("/mutex/loses-no-update", test_mutex_loses_no_update)
VTEST("/rwlock/writers-do-not-starve", test_rwlock_writers_do_not_starve)
VTEST_ANY_ORDER("/rwlock/excludes-in-any-order", test_rwlock_excludes_in_any_order)
VTEST("/range/order-of-arrival", test_range_is_granted_in_order_of_arrival)
VTEST("/range/edges", test_range_edges)
VTEST("/range/wanted-counts", test_range_wanted_counts)
VTEST_ANY_ORDER("/group/first-error", test_group_keeps_the_first_error)
VTEST_ANY_ORDER("/group/is-bounded", test_group_is_bounded)
VTEST_ANY_ORDER("/group/room-is-told-to-all", test_group_room_is_told_to_all_who_wait)
VTEST("/rate/is-kept", test_rate_is_kept)
VTEST("/rate/saves-nothing-up", test_rate_saves_nothing_up)
VTEST("/rate/change-keeps-the-debt", test_rate_change_keeps_the_debt)
VTEST("/rate/survives-huge-amounts", test_rate_survives_huge_amounts)
