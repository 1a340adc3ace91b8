/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace: the ring, its dump, and that it is dumped when the process dies. */
#include "util/trace.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtest.h"

/* What trace_dump() writes, without the times. */
static char *dump_text(void)
{
    g_autofree char *path = NULL, *text = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;
    int fd = g_file_open_tmp("tandem-trace-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    trace_dump(fd);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    unlink(path);
    close(fd);
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i] != NULL && lines[i][0] != '\0'; i++) {
        g_assert_true(g_str_has_prefix(lines[i], "trace "));
        g_string_append_printf(out, "%s;", strchr(lines[i] + strlen("trace "), ' ') + 1);
    }
    return g_strdup(out->str);
}

static gpointer dump_in_thread(gpointer unused)
{
    g_autofree char *empty = dump_text();

    g_assert_cmpstr(empty, ==, "");
    trace("one", 0, 1);
    trace("two", UINT64_MAX, 0x10);
    return dump_text();
}

static void test_dump_is_of_this_thread_and_oldest_first(void)
{
    g_autofree char *text = NULL;

    trace("main", 0, 0);
    text = g_thread_join(g_thread_new("trace", dump_in_thread, NULL));
    g_assert_cmpstr(text, ==, "one 0x0 0x1;two 0xffffffffffffffff 0x10;");
}

/* --- selected events --- */

static GString *warnings;

static void collect(const char *text)
{
    g_string_append_printf(warnings, "%s;", text);
}

/* In a process of its own: a selection is for good. */
static void test_selected_events_are_written(void)
{
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        return;
    }
    g_autofree char *path = NULL, *list = NULL, *text = NULL, *arg = NULL;
    g_auto(GStrv) lines = NULL;
    GError *err = NULL;

    warnings = g_string_new(NULL);
    close(g_file_open_tmp("tandem-trace-XXXXXX", &path, NULL));
    list = g_strconcat(path, ".events", NULL);
    g_assert_true(g_file_set_contents(list, "# those of graphs\ngraph-*\n\n-drain-all-*\n", -1,
                                      NULL));
    arg = g_strdup_printf("drain-*,events=%s,enable=nope,file=%s", list, path);
    g_assert_true(trace_option(arg, collect, &err));
    g_assert_cmpstr(warnings->str, ==, "trace event 'nope' does not exist;");
    trace("drain-begin", 1, 2);
    trace("drain-all-begin", 1, 2);
    trace("nbd-client-state", 1, 2);
    trace("graph-commit", 3, 4);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 3);
    g_assert_true(g_str_has_suffix(lines[0], " drain-begin 0x1 0x2"));
    g_assert_true(g_str_has_suffix(lines[1], " graph-commit 0x3 0x4"));

    g_assert_false(trace_option("drain-*,fiel=x", collect, &err));
    g_assert_cmpstr(err->message, ==, "Invalid parameter 'fiel'");
    g_clear_error(&err);
    g_assert_false(trace_option("drain-*,file=/no/such/folder", collect, &err));
    g_assert_cmpstr(err->message, ==,
                    "Could not open trace file '/no/such/folder': No such file or directory");
    g_clear_error(&err);
    g_assert_false(trace_option("events=/no/such/folder", collect, &err));
    g_clear_error(&err);
    unlink(path);
    unlink(list);
}
TEST("/trace/selected-events-are-written", test_selected_events_are_written)

static gpointer wrap_in_thread(gpointer unused)
{
    for (uint64_t i = 0; i < 10000; i++) {
        trace("i", i, 0);
    }
    return dump_text();
}

static void test_ring_keeps_the_newest(void)
{
    g_autofree char *text = g_thread_join(g_thread_new("trace", wrap_in_thread, NULL));

    g_assert_true(g_str_has_prefix(text, "i 0x1710 0x0;")); /* 10000 - 4096 */
    g_assert_true(g_str_has_suffix(text, ";i 0x270f 0x0;"));
}

static void coroutine_fn trace_in_virtual_time(void)
{
    char text[100];
    int fds[2];
    ssize_t n;

    co_sleep_ns(23);
    trace("virtual", 0, 0);
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    trace_dump(fds[1]);
    n = read(fds[0], text, sizeof(text) - 1);
    text[MAX(n, 0)] = '\0';
    g_assert_cmpstr(text, ==, "trace 1.000000023 virtual 0x0 0x0\n");
    close(fds[0]);
    close(fds[1]);
}

static gpointer virtual_in_thread(gpointer unused)
{
    vtest_run_fn(trace_in_virtual_time, 0);
    return NULL;
}

static void test_time_is_that_of_the_loop(void)
{
    g_thread_join(g_thread_new("trace", virtual_in_thread, NULL));
}

static void die_by_assertion(void)
{
    trace("before the assertion", 1, 2);
    assert(g_get_monotonic_time() < 0); /* g_assert() would only exit in a subprocess */
}

static void die_by_fault(void)
{
    volatile int *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    trace("before the fault", 3, 4);
    *page = 1; /* read only */
}

static void die_by_signal(void)
{
    trace("before the signal", 5, 6);
    raise(SIGBUS);
}

static void test_death_dumps(void)
{
    static const char *const deaths[] = {"assertion", "fault", "signal"};

    for (size_t i = 0; i < G_N_ELEMENTS(deaths); i++) {
        g_autofree char *path = g_strdup_printf("/trace/subprocess/%s", deaths[i]);
        g_autofree char *want = g_strdup_printf("*trace *before the %s 0x*", deaths[i]);

        g_test_trap_subprocess(path, 0, 0);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr(want);
    }
}

TEST("/trace/this-thread-oldest-first", test_dump_is_of_this_thread_and_oldest_first)
TEST("/trace/ring-keeps-the-newest", test_ring_keeps_the_newest)
TEST("/trace/time-is-that-of-the-loop", test_time_is_that_of_the_loop)
TEST("/trace/death-dumps", test_death_dumps)
TEST("/trace/subprocess/assertion", die_by_assertion)
TEST("/trace/subprocess/fault", die_by_fault)
TEST("/trace/subprocess/signal", die_by_signal)
