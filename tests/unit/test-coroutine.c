/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coroutines: order, waking, the pool, the guard page. */
#include <glib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "util/coroutine.h"
#include "util/loop.h"

typedef struct Log {
    int n;
    int who[64];
} Log;

typedef struct Actor {
    Log *log;
    int id;
    int rounds;
} Actor;

static Loop *loop_for_test(void)
{
    g_autoptr(GError) err = NULL;
    Loop *loop = loop_new(LOOP_POLLER_AUTO, &err);

    g_assert_no_error(err);
    return loop;
}

static void note(Log *log, int id)
{
    log->who[log->n++] = id;
}

static void run_all(Loop *loop)
{
    while (loop_step(loop, false)) {
    }
}

static void coroutine_fn actor(void *opaque)
{
    Actor *a = opaque;

    for (int i = 0; i < a->rounds; i++) {
        note(a->log, a->id);
        co_reschedule();
    }
}

static void test_spawn_does_not_run_at_once(void)
{
    Loop *loop = loop_for_test();
    Log log = {0};
    Actor a = {&log, 1, 1};

    co_spawn(actor, &a);
    g_assert_cmpint(log.n, ==, 0);
    run_all(loop);
    g_assert_cmpint(log.n, ==, 1);
    loop_free(loop);
}

static void test_ready_queue_is_fifo(void)
{
    Loop *loop = loop_for_test();
    Log log = {0};
    Actor a[3] = {{&log, 1, 3}, {&log, 2, 3}, {&log, 3, 3}};
    const int want[] = {1, 2, 3, 1, 2, 3, 1, 2, 3};

    for (int i = 0; i < 3; i++) {
        co_spawn(actor, &a[i]);
    }
    run_all(loop);
    g_assert_cmpmem(log.who, log.n * sizeof(int), want, sizeof(want));
    loop_free(loop);
}

typedef struct Sleeper {
    Coroutine *co;
    Log *log;
} Sleeper;

static void coroutine_fn sleeper(void *opaque)
{
    Sleeper *s = opaque;

    s->co = co_self();
    note(s->log, 1);
    co_yield();
    note(s->log, 3);
}

static void test_wake_does_not_run_at_once(void)
{
    Loop *loop = loop_for_test();
    Log log = {0};
    Sleeper s = {NULL, &log};
    const int want[] = {1, 2, 3};

    co_spawn(sleeper, &s);
    run_all(loop);
    co_wake(s.co);
    note(&log, 2);
    run_all(loop);
    g_assert_cmpmem(log.who, log.n * sizeof(int), want, sizeof(want));
    loop_free(loop);
}

static void coroutine_fn spawner(void *opaque)
{
    Log *log = opaque;
    Actor *a = g_new(Actor, 1);

    *a = (Actor){log, 2, 1};
    g_assert_true(in_coroutine());
    co_spawn(actor, a);
    note(log, 1);
    co_reschedule();
    note(log, 3);
    co_reschedule();
    g_free(a);
}

static void test_spawn_from_a_coroutine(void)
{
    Loop *loop = loop_for_test();
    Log log = {0};
    const int want[] = {1, 2, 3};

    g_assert_null(co_self());
    g_assert_false(in_coroutine());
    co_spawn(spawner, &log);
    run_all(loop);
    g_assert_cmpmem(log.who, log.n * sizeof(int), want, sizeof(want));
    loop_free(loop);
}

static void coroutine_fn keep_registers(void *opaque)
{
    double *ret = opaque;
    double x = *ret;
    long a = (long)x, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5;

    for (int i = 0; i < 10; i++) {
        co_reschedule();
        x += 0.5;
        a++, b++, c++, d++, e++, f++;
    }
    g_assert_cmpint(f - e + d - c + b - a, ==, 3);
    g_assert_cmpint(a, ==, (long)*ret + 10);
    *ret = x;
}

static void test_switch_keeps_registers(void)
{
    Loop *loop = loop_for_test();
    double v[8];

    for (int i = 0; i < 8; i++) {
        v[i] = i * 100;
        co_spawn(keep_registers, &v[i]);
    }
    run_all(loop);
    for (int i = 0; i < 8; i++) {
        g_assert_cmpfloat(v[i], ==, i * 100 + 5);
    }
    loop_free(loop);
}

static void coroutine_fn check_alignment(void *opaque)
{
    __attribute__((aligned(16))) volatile char buf[64] = {0};

    g_assert_cmpuint((uintptr_t)buf % 16, ==, 0);
    /* printf of a double uses aligned vector stores below this frame */
    g_autofree char *s = g_strdup_printf("%.3f", *(double *)opaque + buf[0]);

    g_assert_cmpstr(s, ==, "1.500");
}

static void test_stack_is_aligned(void)
{
    Loop *loop = loop_for_test();
    double d = 1.5;

    for (int i = 0; i < 40; i++) { /* each colour of a fresh stack */
        co_spawn(check_alignment, &d);
    }
    run_all(loop);
    loop_free(loop);
}

static void coroutine_fn use_stack(void *opaque)
{
    enum { KEEP = 8192 }; /* what libraries below a coroutine may need is left free */
    volatile char buf[CO_STACK_BYTES - 16384];

    for (size_t i = 0; i < sizeof(buf); i += 1024) {
        buf[i] = (char)i;
    }
    co_reschedule();
    for (size_t i = 0; i < sizeof(buf); i += 1024) {
        g_assert_cmpint(buf[i], ==, (char)i);
    }
    (*(int *)opaque)++;
}

static void test_stack_has_its_size(void)
{
    Loop *loop = loop_for_test();
    int n = 0;

    for (int i = 0; i < 3; i++) {
        co_spawn(use_stack, &n);
    }
    run_all(loop);
    g_assert_cmpint(n, ==, 3);
    loop_free(loop);
}

static void coroutine_fn count_up(void *opaque)
{
    co_reschedule();
    (*(int *)opaque)++;
}

static void test_many_at_once(void)
{
    Loop *loop = loop_for_test();
    int n = 0;

    for (int i = 0; i < 3000; i++) { /* more than the pool keeps */
        co_spawn(count_up, &n);
    }
    run_all(loop);
    g_assert_cmpint(n, ==, 3000);
    co_pool_trim();
    co_spawn(count_up, &n);
    run_all(loop);
    g_assert_cmpint(n, ==, 3001);
    loop_free(loop);
}

static void coroutine_fn run_nested(void *opaque)
{
    *(bool *)opaque = true;
    co_sleep_ns(1000);
}

static void test_run_coroutine_returns_when_it_has_ended(void)
{
    Loop *loop = loop_for_test();
    bool ran = false;

    loop_run_coroutine(loop, run_nested, &ran);
    g_assert_true(ran);
    loop_free(loop);
}

/* --- bugs that must stop the program --- */

static void no_core(void)
{
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
}

static void test_wake_of_one_that_is_ready_aborts(void)
{
    if (g_test_subprocess()) {
        Loop *loop = loop_for_test();
        int n = 0;

        no_core();
        loop_run_coroutine(loop, count_up, &n);
        co_wake(co_spawn(count_up, &n));
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*CO_WAITING*");
}

static int coroutine_fn sink(volatile char *p)
{
    volatile char frame[4096];

    frame[0] = *p;
    return frame[0] ? 0 : sink(frame) + 1;
}

static void coroutine_fn overflow(void *opaque)
{
    volatile char zero = 0;

    *(int *)opaque = sink(&zero);
}

static void test_overflow_hits_the_guard_page(void)
{
    if (g_test_subprocess()) {
        Loop *loop = loop_for_test();
        int depth;

        no_core();
        co_spawn(overflow, &depth);
        run_all(loop);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coroutine/spawn-does-not-run-at-once", test_spawn_does_not_run_at_once);
    g_test_add_func("/coroutine/ready-queue-is-fifo", test_ready_queue_is_fifo);
    g_test_add_func("/coroutine/wake-does-not-run-at-once", test_wake_does_not_run_at_once);
    g_test_add_func("/coroutine/spawn-from-a-coroutine", test_spawn_from_a_coroutine);
    g_test_add_func("/coroutine/switch-keeps-registers", test_switch_keeps_registers);
    g_test_add_func("/coroutine/stack-is-aligned", test_stack_is_aligned);
    g_test_add_func("/coroutine/stack-has-its-size", test_stack_has_its_size);
    g_test_add_func("/coroutine/many-at-once", test_many_at_once);
    g_test_add_func("/coroutine/run-coroutine", test_run_coroutine_returns_when_it_has_ended);
    g_test_add_func("/coroutine/wake-of-ready-aborts", test_wake_of_one_that_is_ready_aborts);
    g_test_add_func("/coroutine/overflow-hits-guard", test_overflow_hits_the_guard_page);
    return g_test_run();
}
