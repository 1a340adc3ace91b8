/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * property: run trials, in child processes, and report the first that fails.
 *
 * An assertion aborts and a sanitizer exits, so a trial that may fail needs a
 * process of its own. A fork per trial would cost more than most trials: one
 * child runs all of them and says in shared memory which one it is at and what
 * it was given. If the child only fails as it exits (a leak found by LSan),
 * the trials are run again one child each to find whose leak it is.
 */
#include "property.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_SEEDS       200
#define DEFAULT_SECONDS     60
#define MAX_ENUMERATED      5000000
#define EXIT_PROPERTY_FAILS 77

/* --- one trial, in whatever process --- */

static unsigned trial_seconds(void)
{
    const char *text = g_getenv("TANDEM_TRIAL_SECONDS");
    guint64 n = text != NULL ? g_ascii_strtoull(text, NULL, 10) : 0;

    return n > 0 && n < G_MAXINT ? n : DEFAULT_SECONDS;
}

static void run_trial(const Property *p, Choices *c)
{
    alarm(trial_seconds());
    p->fn(c);
    alarm(0);
}

static void run_seed(const Property *p, uint64_t seed, Recording *r)
{
    Choices *c = choices_of_seed(seed);

    r->seed = seed;
    choices_record(c, r);
    run_trial(p, c);
    choices_free(c);
}

static void run_values(const Property *p, const uint64_t *values, size_t n, Recording *r)
{
    Choices *c = choices_of_recording(values, n);

    if (r != NULL) {
        choices_record(c, r);
    }
    run_trial(p, c);
    choices_free(c);
}

static void run_enumeration(const Property *p, Recording *r)
{
    Choices *c = choices_enumerate();
    bool more = true;

    for (r->seed = 0; more; r->seed++) {
        g_assert_cmpuint(r->seed, <, MAX_ENUMERATED);
        choices_record(c, r);
        run_trial(p, c);
        more = choices_next(c);
    }
    choices_free(c);
}

/* --- children --- */

static Recording *recording_shared(void)
{
    void *r = mmap(NULL, sizeof(Recording), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert_true(r != MAP_FAILED);
    return r;
}

static pid_t child_fork(bool silent)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0 && silent) {
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
    }
    return pid;
}

/* Leave through exit(), where LSan looks for leaks. */
static NORETURN void child_exit(void)
{
    exit(g_test_failed() ? EXIT_PROPERTY_FAILS : 0);
}

static bool child_failed(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        g_assert_cmpint(errno, ==, EINTR);
    }
    return status != 0;
}

bool property_fails(const Property *p, const uint64_t *values, size_t n, Recording *shared)
{
    pid_t pid = child_fork(true);

    if (pid == 0) {
        run_values(p, values, n, shared);
        child_exit();
    }
    return child_failed(pid);
}

/* --- which trials --- */

typedef struct SeedRange {
    uint64_t first, last;
    gint64 deadline_us; /* 0: no limit */
} SeedRange;

/* A soak starts somewhere else each time. */
static SeedRange seeds_of_soak(guint64 seconds)
{
    return (SeedRange){
        .first = (uint64_t)g_random_int() << 20,
        .last = UINT64_MAX - 1,
        .deadline_us =
            g_get_monotonic_time() + (gint64)(seconds * G_USEC_PER_SEC / MAX(property_count(), 1)),
    };
}

static SeedRange seeds_wanted(void)
{
    const char *text = g_getenv("TANDEM_SEEDS"), *soak = g_getenv("TANDEM_SOAK_SECONDS");
    SeedRange range = {.first = 1, .last = DEFAULT_SEEDS};
    char *end;

    if (text == NULL && soak != NULL) {
        return seeds_of_soak(g_ascii_strtoull(soak, NULL, 10));
    }
    if (text != NULL) {
        range.last = g_ascii_strtoull(text, &end, 10);
        if (*end == '-') {
            range.first = range.last;
            range.last = g_ascii_strtoull(end + 1, NULL, 10);
        }
    }
    return range;
}

static void run_all(const Property *p, SeedRange range, Recording *r)
{
    if (p->kind == PROPERTY_EXHAUSTIVE) {
        run_enumeration(p, r);
        return;
    }
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        run_seed(p, seed, r);
        if (g_test_failed()) {
            break; /* a soft failure: its recording is the one in @r */
        }
        if (range.deadline_us != 0 && g_get_monotonic_time() > range.deadline_us) {
            break;
        }
    }
}

static bool all_pass(const Property *p, SeedRange range, Recording *shared)
{
    pid_t pid = child_fork(false);

    if (pid == 0) {
        run_all(p, range, shared);
        shared->at_exit = !g_test_failed();
        child_exit();
    }
    return !child_failed(pid);
}

/* Only the exit of the child failed: find the first seed that does it alone. */
static bool find_seed_alone(const Property *p, SeedRange range, Recording *shared)
{
    uint64_t last = shared->seed; /* a soak may not have reached the end of its range */

    for (uint64_t seed = range.first; seed <= last && p->kind == PROPERTY_RANDOM; seed++) {
        pid_t pid = child_fork(true);

        if (pid == 0) {
            run_seed(p, seed, shared);
            child_exit();
        }
        if (child_failed(pid)) {
            return true;
        }
    }
    return false;
}

/* --- the report --- */

static char *values_text(const uint64_t *values, size_t n)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < n; i++) {
        g_string_append_printf(s, "%s%" G_GUINT64_FORMAT, i > 0 ? "," : "", values[i]);
    }
    return g_string_free(s, FALSE);
}

static const char *program_path(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    path[MAX(n, 0)] = '\0';
    return path;
}

static NORETURN void report(const Property *p, Recording *shared)
{
    size_t n = MIN(shared->n, RECORDING_MAX);
    uint64_t seed = shared->seed;
    uint64_t *values = g_memdup2(shared->values, n * sizeof(*values));
    g_autofree char *text = NULL;

    if (p->kind == PROPERTY_RANDOM) {
        fprintf(stderr, "\n%s fails with seed %" G_GUINT64_FORMAT ":\n", p->path, seed);
        fprintf(stderr, "  TANDEM_SEED=%" G_GUINT64_FORMAT " %s -p %s\n", seed, program_path(),
                p->path);
    }
    if (shared->n <= RECORDING_MAX) {
        fprintf(stderr, "shrinking %zu answers...\n", n);
        property_shrink(p, values, &n, shared);
        text = values_text(values, n);
        fprintf(stderr, "%s fails with %zu answers:\n  TANDEM_CHOICES=%s %s -p %s\n", p->path, n,
                text, program_path(), p->path);
        run_values(p, values, n, NULL);
    }
    fprintf(stderr, "%s failed; see above\n", p->path);
    fflush(NULL);
    abort();
}

/* --- replays, in this process --- */

static bool replay_seed(const Property *p)
{
    const char *text = g_getenv("TANDEM_SEED");
    Recording *r;

    if (text == NULL || p->kind != PROPERTY_RANDOM) {
        return false;
    }
    r = recording_shared();
    run_seed(p, g_ascii_strtoull(text, NULL, 10), r);
    munmap(r, sizeof(*r));
    return true;
}

static bool replay_choices(const Property *p)
{
    const char *text = g_getenv("TANDEM_CHOICES");
    g_auto(GStrv) parts = NULL;
    g_autofree uint64_t *values = NULL;
    size_t n = 0;

    if (text == NULL) {
        return false;
    }
    parts = g_strsplit(text, ",", -1);
    values = g_new0(uint64_t, g_strv_length(parts) + 1);
    for (; parts[n] != NULL; n++) {
        values[n] = g_ascii_strtoull(parts[n], NULL, 10);
    }
    run_values(p, values, n, NULL);
    return true;
}

void property_run(const Property *p)
{
    SeedRange range = seeds_wanted();
    Recording *shared;

    if (replay_choices(p) || replay_seed(p)) {
        return;
    }
    shared = recording_shared();
    if (!all_pass(p, range, shared)) {
        if (shared->at_exit && !find_seed_alone(p, range, shared)) {
            fprintf(stderr, "%s: fails at exit, but no trial alone does\n", p->path);
            abort();
        }
        report(p, shared);
    }
    munmap(shared, sizeof(*shared));
}

void property_fuzz(PropertyFn *fn, const uint8_t *data, size_t bytes)
{
    Choices *c = choices_of_bytes(data, bytes);

    fn(c);
    choices_free(c);
}
