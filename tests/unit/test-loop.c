/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop: turns, posts, workers, signals, descriptors, the virtual poller. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loops.h"

/* --- order --- */

static void append(GString *log, char c)
{
    g_string_append_c(log, c);
}

static void log_a(void *opaque)
{
    append(opaque, 'a');
}

static void coroutine_fn log_c_then_d(void *opaque)
{
    append(opaque, 'c');
    co_reschedule();
    append(opaque, 'd');
}

static void test_defer_takes_its_turn(Loop *loop)
{
    g_autoptr(GString) log = g_string_new(NULL);

    loop_defer(log_a, log);
    co_spawn(log_c_then_d, log);
    loop_defer(log_a, log);
    while (loop_step(loop, false)) {
    }
    g_assert_cmpstr(log->str, ==, "acad");
}

static void stop_it(void *opaque)
{
    loop_stop(opaque);
}

static void test_stop_runs_what_is_ready(Loop *loop)
{
    g_autoptr(GString) log = g_string_new(NULL);

    loop_defer(stop_it, loop);
    loop_defer(log_a, log);
    loop_run(loop);
    g_assert_cmpstr(log->str, ==, "a");
}

typedef struct Countdown {
    Loop *loop;
    size_t left;
} Countdown;

static void count(void *opaque)
{
    Countdown *c = opaque;

    if (--c->left == 0) {
        loop_stop(c->loop);
    }
}

static void test_100k_deferred(Loop *loop)
{
    Countdown c = {loop, 100000};

    for (int i = 0; i < 100000; i++) {
        loop_defer(count, &c);
    }
    loop_run(loop);
    g_assert_cmpuint(c.left, ==, 0);
}

/* --- posts --- */

enum { POSTERS = 8, POSTS = 2000 };

typedef struct Poster {
    Loop *loop;
    pthread_t thread;
    size_t next;     /* loop thread: the number that must come next */
    size_t *pending; /* loop thread */
} Poster;

typedef struct Letter {
    Poster *from;
    size_t number;
} Letter;

static void receive(void *opaque)
{
    Letter *l = opaque;
    Poster *p = l->from;

    g_assert_cmpuint(l->number, ==, p->next);
    p->next++;
    g_free(l);
    if (--*p->pending == 0) {
        loop_stop(p->loop);
    }
}

static void *poster(void *opaque)
{
    Poster *p = opaque;

    for (size_t i = 0; i < POSTS; i++) {
        Letter *l = g_new(Letter, 1);

        *l = (Letter){p, i};
        loop_post(p->loop, receive, l);
        if (i % 64 == 0) {
            g_usleep(50); /* let the loop fall asleep now and then */
        }
    }
    return NULL;
}

static void test_posts_from_threads_arrive_in_order(Loop *loop)
{
    Poster p[POSTERS];
    size_t pending = (size_t)POSTERS * POSTS;

    for (int i = 0; i < POSTERS; i++) {
        p[i] = (Poster){.loop = loop, .pending = &pending};
        g_assert_cmpint(pthread_create(&p[i].thread, NULL, poster, &p[i]), ==, 0);
    }
    loop_run(loop);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(p[i].thread, NULL);
        g_assert_cmpuint(p[i].next, ==, POSTS);
    }
}

/* --- workers --- */

static int square(void *opaque)
{
    int *n = opaque;

    g_usleep(1000);
    *n *= *n;
    return -*n;
}

typedef struct Job {
    int n;
    int *pending;
} Job;

static void coroutine_fn run_square(void *opaque)
{
    Job *j = opaque;
    int n = j->n;

    g_assert_cmpint(co_run_blocking(square, &j->n), ==, -n * n);
    g_assert_cmpint(j->n, ==, n * n);
    if (--*j->pending == 0) {
        loop_stop(loop_current());
    }
}

static void test_blocking_calls_run_and_return(Loop *loop)
{
    enum { N = 200 }; /* more than threads */
    Job jobs[N];
    int pending = N;

    for (int i = 0; i < N; i++) {
        jobs[i] = (Job){i, &pending};
        co_spawn(run_square, &jobs[i]);
    }
    loop_run(loop);
    g_assert_cmpint(pending, ==, 0);
}

static int thread_is_other(void *opaque)
{
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    g_assert_true(sigismember(&blocked, SIGTERM));
    return !pthread_equal(*(pthread_t *)opaque, pthread_self());
}

static void coroutine_fn check_thread(void *opaque)
{
    pthread_t self = pthread_self();

    g_assert_cmpint(co_run_blocking(thread_is_other, &self), ==, 1);
}

static void test_blocking_calls_leave_the_loop_thread(Loop *loop)
{
    loop_run_coroutine(loop, check_thread, NULL);
}

static int count_threads(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    int n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static void coroutine_fn doze(void *opaque)
{
    co_sleep_ns(100 * NS_PER_MS);
}

static void test_idle_threads_end(Loop *loop)
{
    int before = count_threads();

    test_blocking_calls_run_and_return(loop);
    g_assert_cmpint(count_threads(), <=, before + 64);
    while (count_threads() > before) { /* the test's time limit ends this if they stay */
        loop_run_coroutine(loop, doze, NULL);
    }
}

/* --- signals --- */

static void test_signals_arrive_on_the_loop(Loop *loop)
{
    g_autoptr(GString) log = g_string_new(NULL);
    g_autoptr(GError) err = NULL;

    g_assert_true(loop_signal_add(loop, SIGUSR1, log_a, log, &err));
    g_assert_true(loop_signal_add(loop, SIGUSR2, stop_it, loop, &err));
    kill(getpid(), SIGUSR1);
    g_assert_cmpstr(log->str, ==, "");
    while (loop_step(loop, false)) {
    }
    g_assert_cmpstr(log->str, ==, "a");
    kill(getpid(), SIGUSR2);
    loop_run(loop);
}

static void test_signals_are_refused_on_a_virtual_loop(void)
{
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
    g_autoptr(GError) err = NULL;

    g_assert_false(loop_signal_add(loop, SIGUSR1, log_a, NULL, &err));
    g_assert_nonnull(err);
    errno = 0;
    g_assert_null(loop_fd_add(0));
    g_assert_cmpint(errno, ==, ENOTSUP);
    loop_free(loop);
}

/* --- descriptors --- */

typedef struct Pipe {
    int fd[2]; /* a socket pair */
    LoopFd *lfd[2];
    size_t bytes;
    uint32_t sum_in, sum_out;
} Pipe;

static void pipe_open(Pipe *p, size_t bytes)
{
    *p = (Pipe){.bytes = bytes};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fd), ==, 0);
    for (int i = 0; i < 2; i++) {
        p->lfd[i] = loop_fd_add(p->fd[i]);
        g_assert_nonnull(p->lfd[i]);
    }
}

static void pipe_close(Pipe *p)
{
    for (int i = 0; i < 2; i++) {
        loop_fd_del(p->lfd[i]);
        close(p->fd[i]);
    }
}

static void coroutine_fn write_pipe(void *opaque)
{
    Pipe *p = opaque;
    uint8_t buf[5000];

    for (size_t done = 0; done < p->bytes;) {
        size_t n = MIN(sizeof(buf), p->bytes - done);
        ssize_t r;

        for (size_t i = 0; i < n; i++) {
            buf[i] = (uint8_t)((done + i) * 7);
        }
        r = write(p->fd[0], buf, n);
        if (r < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            loop_fd_co_wait_out(p->lfd[0]);
            continue;
        }
        for (ssize_t i = 0; i < r; i++) {
            p->sum_in = p->sum_in * 31 + buf[i];
        }
        done += r;
    }
}

static void coroutine_fn read_pipe(void *opaque)
{
    Pipe *p = opaque;
    uint8_t buf[3000];

    for (size_t done = 0; done < p->bytes;) {
        ssize_t r = read(p->fd[1], buf, sizeof(buf));

        if (r < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            loop_fd_co_wait_in(p->lfd[1]);
            continue;
        }
        for (ssize_t i = 0; i < r; i++) {
            p->sum_out = p->sum_out * 31 + buf[i];
        }
        done += r;
    }
    loop_stop(loop_current());
}

static void test_socket_carries_bytes(Loop *loop)
{
    Pipe p;

    pipe_open(&p, 4 * MiB);
    co_spawn(write_pipe, &p);
    co_spawn(read_pipe, &p);
    loop_run(loop);
    g_assert_cmpuint(p.sum_in, ==, p.sum_out);
    pipe_close(&p);
}

static void coroutine_fn wait_in(void *opaque)
{
    Pipe *p = opaque;

    loop_fd_co_wait_in(p->lfd[1]);
    p->bytes++;
}

static void coroutine_fn wait_out(void *opaque)
{
    Pipe *p = opaque;

    loop_fd_co_wait_out(p->lfd[1]);
    p->bytes += 10;
}

static void run_all(Loop *loop)
{
    while (loop_step(loop, false)) {
    }
}

static void test_edges_are_remembered(Loop *loop)
{
    Pipe p;

    pipe_open(&p, 0);
    g_assert_cmpint(write(p.fd[0], "x", 1), ==, 1);
    run_all(loop);
    co_spawn(wait_in, &p);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 1);
    co_spawn(wait_out, &p);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 11);
    pipe_close(&p);
}

static void test_hangup_wakes(Loop *loop)
{
    Pipe p;

    pipe_open(&p, 0);
    co_spawn(wait_in, &p);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 0);
    shutdown(p.fd[0], SHUT_RDWR);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 1);
    pipe_close(&p);
}

static void test_removing_wakes_the_waiters(Loop *loop)
{
    Pipe p;
    char full[4096] = {0};

    pipe_open(&p, 0);
    while (write(p.fd[1], full, sizeof(full)) > 0) {
    }
    co_spawn(wait_in, &p);
    co_spawn(wait_out, &p);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 0);
    pipe_close(&p);
    run_all(loop);
    g_assert_cmpuint(p.bytes, ==, 11);
}

static void test_regular_files_are_refused(Loop *loop)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp(NULL, &name, NULL);

    errno = 0;
    g_assert_null(loop_fd_add(fd));
    g_assert_cmpint(errno, ==, EPERM);
    close(fd);
    unlink(name);
}

/* --- idleness --- */

static long context_switches(void)
{
    struct rusage u;

    getrusage(RUSAGE_THREAD, &u);
    return u.ru_nvcsw;
}

static void *wait_and_post(void *opaque)
{
    g_usleep(200000);
    loop_post(opaque, stop_it, opaque);
    return NULL;
}

static void test_idle_loop_does_not_wake_up(Loop *loop)
{
    pthread_t thread;
    long before;

    run_all(loop);
    pthread_create(&thread, NULL, wait_and_post, loop);
    before = context_switches();
    loop_run(loop);
    g_assert_cmpint(context_switches() - before, <=, 20); /* in 200 ms */
    pthread_join(thread, NULL);
}

/* --- the virtual poller --- */

static void coroutine_fn wait_for_ever(void *opaque)
{
    *(Coroutine **)opaque = co_self();
    co_yield ();
}

static void test_deadlock_is_told(void)
{
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
    Coroutine *co;

    co_spawn(wait_for_ever, &co);
    g_assert_true(loop_step(loop, true));
    g_assert_false(loop_step(loop, true));
    co_wake(co);
    g_assert_true(loop_step(loop, true));
    loop_free(loop);
}

static void test_deadlock_of_run_aborts(void)
{
    if (g_test_subprocess()) {
        struct rlimit none = {0, 0};
        Coroutine *co;

        setrlimit(RLIMIT_CORE, &none);
        loop_run_coroutine(loop_new(LOOP_POLLER_VIRTUAL, NULL), wait_for_ever, &co);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*deadlock: 1 coroutines wait*");
}

typedef struct Racer {
    GString *log;
    char name;
} Racer;

static void coroutine_fn race(void *opaque)
{
    Racer *r = opaque;

    for (int i = 0; i < 4; i++) {
        append(r->log, r->name);
        co_sleep_ns(0);
    }
}

static char *race_with_seed(uint64_t seed)
{
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
    GString *log = g_string_new(NULL);
    Racer r[8];

    loop_virtual_seed(loop, seed);
    for (int i = 0; i < 8; i++) {
        r[i] = (Racer){log, (char)('a' + i)};
        co_spawn(race, &r[i]);
    }
    while (loop_step(loop, true)) {
    }
    loop_free(loop);
    return g_string_free(log, false);
}

static void test_seed_draws_the_order(void)
{
    g_autofree char *plain = race_with_seed(0);
    g_autofree char *one = race_with_seed(1);
    g_autofree char *again = race_with_seed(1);
    g_autofree char *two = race_with_seed(2);

    g_assert_cmpstr(plain, ==, "abcdefghabcdefghabcdefghabcdefgh");
    g_assert_cmpstr(one, ==, again);
    g_assert_cmpstr(one, !=, plain);
    g_assert_cmpstr(one, !=, two);
}

typedef struct Promise {
    int ran; /* of the others */
    int seen;
} Promise;

static void coroutine_fn other(void *opaque)
{
    ((Promise *)opaque)->ran++;
}

static void coroutine_fn promised(void *opaque)
{
    Promise *p = opaque;

    for (int i = 0; i < 10; i++) {
        co_spawn(other, p);
    }
    co_reschedule();
    p->seen = p->ran;
}

static void test_seed_keeps_the_promise_of_reschedule(void)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
        Promise p = {0};

        loop_virtual_seed(loop, seed);
        co_spawn(promised, &p);
        run_all(loop);
        g_assert_cmpint(p.seen, ==, 10);
        loop_free(loop);
    }
}

static void coroutine_fn spin_on_reschedule(void *opaque)
{
    bool *stop = opaque;

    while (!*stop) {
        co_reschedule();
    }
}

static void coroutine_fn stop_spinning(void *opaque)
{
    for (int i = 0; i < 100; i++) {
        co_reschedule();
    }
    *(bool *)opaque = true;
}

static void test_nobody_starves_under_a_seed(void)
{
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);
    bool stop = false;

    loop_virtual_seed(loop, 7);
    co_spawn(spin_on_reschedule, &stop);
    co_spawn(stop_spinning, &stop);
    run_all(loop);
    g_assert_true(stop);
    loop_free(loop);
}

/* --- choosing --- */

static void test_poller_names(void)
{
    LoopPoller p = LOOP_POLLER_VIRTUAL;

    g_assert_true(loop_poller_parse("io_uring", &p));
    g_assert_cmpint(p, ==, LOOP_POLLER_IO_URING);
    g_assert_true(loop_poller_parse("auto", &p));
    g_assert_cmpint(p, ==, LOOP_POLLER_AUTO);
    g_assert_false(loop_poller_parse("kqueue", &p));
    g_assert_cmpint(p, ==, LOOP_POLLER_AUTO);
    g_assert_cmpstr(loop_poller_str(LOOP_POLLER_EPOLL), ==, "epoll");
}

static void test_environment_forces_the_poller(void)
{
    g_autofree char *before = g_strdup(g_getenv("TANDEM_POLLER"));
    g_autoptr(GError) err = NULL;
    Loop *loop;

    g_setenv("TANDEM_POLLER", "epoll", true);
    loop = loop_new(LOOP_POLLER_AUTO, NULL);
    g_assert_cmpint(loop_poller(loop), ==, LOOP_POLLER_EPOLL);
    loop_free(loop);

    g_setenv("TANDEM_POLLER", "teapot", true);
    g_assert_null(loop_new(LOOP_POLLER_AUTO, &err));
    g_assert_nonnull(strstr(err->message, "teapot"));
    if (before) {
        g_setenv("TANDEM_POLLER", before, true);
    } else {
        g_unsetenv("TANDEM_POLLER");
    }
}

/* As many containers do it. */
static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {G_N_ELEMENTS(code), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void test_forbidden_io_uring_means_epoll(void)
{
    if (g_test_subprocess()) {
        g_autoptr(GError) err = NULL;
        Loop *loop;

        g_unsetenv("TANDEM_POLLER");
        if (!forbid_io_uring()) {
            g_test_skip("no seccomp filters here");
            return;
        }
        loop = loop_new(LOOP_POLLER_AUTO, &err);
        g_assert_no_error(err);
        g_assert_cmpint(loop_poller(loop), ==, LOOP_POLLER_EPOLL);
        loop_free(loop);
        g_assert_null(loop_new(LOOP_POLLER_IO_URING, &err));
        g_assert_nonnull(strstr(err->message, "io_uring"));
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    test_on_all_loops("/loop/defer-takes-its-turn", test_defer_takes_its_turn);
    test_on_all_loops("/loop/stop-runs-what-is-ready", test_stop_runs_what_is_ready);
    test_on_all_loops("/loop/100k-deferred", test_100k_deferred);
    test_on_real_loops("/loop/posts-from-threads", test_posts_from_threads_arrive_in_order);
    test_on_all_loops("/loop/blocking-calls", test_blocking_calls_run_and_return);
    test_on_real_loops("/loop/blocking-thread", test_blocking_calls_leave_the_loop_thread);
    test_on_real_loops("/loop/idle-threads-end", test_idle_threads_end);
    test_on_real_loops("/loop/signals", test_signals_arrive_on_the_loop);
    g_test_add_func("/loop/virtual-refuses", test_signals_are_refused_on_a_virtual_loop);
    test_on_real_loops("/loop/socket-carries-bytes", test_socket_carries_bytes);
    test_on_real_loops("/loop/edges-are-remembered", test_edges_are_remembered);
    test_on_real_loops("/loop/hangup-wakes", test_hangup_wakes);
    test_on_real_loops("/loop/removing-wakes", test_removing_wakes_the_waiters);
    test_on_real_loops("/loop/regular-files-are-refused", test_regular_files_are_refused);
    test_on_real_loops("/loop/idle-does-not-wake-up", test_idle_loop_does_not_wake_up);
    g_test_add_func("/loop/deadlock-is-told", test_deadlock_is_told);
    g_test_add_func("/loop/deadlock-of-run-aborts", test_deadlock_of_run_aborts);
    g_test_add_func("/loop/seed-draws-the-order", test_seed_draws_the_order);
    g_test_add_func("/loop/seed-keeps-promises", test_seed_keeps_the_promise_of_reschedule);
    g_test_add_func("/loop/seed-starves-nobody", test_nobody_starves_under_a_seed);
    g_test_add_func("/loop/poller-names", test_poller_names);
    g_test_add_func("/loop/environment", test_environment_forces_the_poller);
    g_test_add_func("/loop/forbidden-io_uring", test_forbidden_io_uring_means_epoll);
    return g_test_run();
}
