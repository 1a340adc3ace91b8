/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IoFile against a model, on each engine, poller and kind of file: tmpfs and
 * the file system of the build, through the page cache and O_DIRECT.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loops.h"
#include "util/buf.h"
#include "util/fault.h"
#include "util/file.h"
#include "util/prng.h"

enum { FILE_MAX = 512 * 1024, OPS = 120 };

typedef struct Setup {
    const char *dir;
    IoEngine engine;
    bool direct;
} Setup;

typedef struct World {
    Setup setup;
    IoFile *f;
    size_t align;
    Prng rng;
    uint8_t *model; /* the bytes below length; zeros above */
    int64_t length;
    bool done;
} World;

static int open_tmp(const char *dir, bool direct)
{
    g_autofree char *name = g_strdup_printf("%s/tandem-test-file-XXXXXX", dir);
    int fd = mkostemp(name, O_CLOEXEC | (direct ? O_DIRECT : 0));

    if (fd >= 0) {
        unlink(name);
    }
    return fd;
}

static bool world_open(World *w, Setup setup)
{
    int fd = open_tmp(setup.dir, setup.direct);

    *w = (World){.setup = setup, .align = setup.direct ? 512 : 1};
    if (fd < 0) {
        return false; /* this file system has no O_DIRECT */
    }
    w->f = io_file_new(fd, setup.engine, NULL);
    g_assert_nonnull(w->f);
    g_assert_cmpint(io_file_fd(w->f), ==, fd);
    w->model = g_malloc0(2 * FILE_MAX);
    prng_init(&w->rng, 4711);
    return true;
}

static void world_close(World *w)
{
    io_file_free(w->f);
    g_free(w->model);
}

/* A random range, aligned as the file needs it, not empty. */
static void pick(World *w, int64_t *offset, size_t *bytes)
{
    static const size_t grain[] = {1, 512, 4096};
    size_t drawn = grain[prng_below(&w->rng, 3)];
    size_t g = MAX(w->align, drawn);
    int64_t o = prng_below(&w->rng, FILE_MAX / g) * g;
    int64_t n = (1 + prng_below(&w->rng, (prng_below(&w->rng, 4) ? 16384 : 262144) / g)) * g;

    *offset = o;
    *bytes = MIN(n, FILE_MAX - o);
}

/* Cut a buffer into vectors at random aligned places. Return: how many. */
static int cut(World *w, uint8_t *buf, size_t bytes, struct iovec *v, int max)
{
    int n = 0;

    while (bytes) {
        size_t units = bytes / w->align;
        size_t len = n == max - 1 ? bytes : (1 + prng_below(&w->rng, units)) * w->align;

        v[n++] = (struct iovec){buf, len};
        buf += len;
        bytes -= len;
    }
    return n;
}

static void coroutine_fn do_write(World *w)
{
    struct iovec v[20];
    int64_t offset;
    size_t bytes;
    uint8_t *buf;
    int n;

    pick(w, &offset, &bytes);
    buf = buf_alloc(bytes);
    prng_fill(&w->rng, buf, bytes);
    n = cut(w, buf, bytes, v, 1 + prng_below(&w->rng, 20));
    g_assert_cmpint(
        io_file_co_pwritev(w->f, offset, iov_of(v, n), prng_below(&w->rng, 16) ? 0 : IO_FILE_FUA),
        ==, 0);
    memcpy(w->model + offset, buf, bytes);
    w->length = MAX(w->length, offset + (int64_t)bytes);
    buf_free(buf, bytes);
}

/* Reads may reach past the end of the file. */
static void coroutine_fn do_read(World *w)
{
    struct iovec v[20];
    int64_t offset;
    size_t bytes;
    uint8_t *buf;
    int n;

    pick(w, &offset, &bytes);
    buf = buf_alloc(bytes);
    memset(buf, 0xa5, bytes);
    n = cut(w, buf, bytes, v, 1 + prng_below(&w->rng, 20));
    g_assert_cmpint(io_file_co_preadv(w->f, offset, iov_of(v, n)), ==, 0);
    g_assert_cmpmem(buf, bytes, w->model + offset, bytes);
    buf_free(buf, bytes);
}

static void coroutine_fn do_truncate(World *w)
{
    int64_t length = prng_below(&w->rng, FILE_MAX); /* any byte, also under O_DIRECT */

    g_assert_cmpint(io_file_co_truncate(w->f, length), ==, 0);
    if (length < w->length) {
        memset(w->model + length, 0, w->length - length);
    }
    w->length = length;
}

static void coroutine_fn do_punch(World *w)
{
    int64_t offset;
    size_t bytes;

    pick(w, &offset, &bytes);
    g_assert_cmpint(
        io_file_co_fallocate(w->f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes), ==,
        0);
    memset(w->model + offset, 0, bytes);
}

static void coroutine_fn check_length(World *w)
{
    g_assert_cmpint(lseek(io_file_fd(w->f), 0, SEEK_END), ==, w->length);
}

static void coroutine_fn run_model(void *opaque)
{
    World *w = opaque;

    for (int i = 0; i < OPS; i++) {
        switch (prng_below(&w->rng, 10)) {
        case 0:
            do_truncate(w);
            break;
        case 1:
            do_punch(w);
            break;
        case 2:
            g_assert_cmpint(io_file_co_fdatasync(w->f), ==, 0);
            break;
        case 3:
        case 4:
        case 5:
            do_write(w);
            break;
        default:
            do_read(w);
        }
        check_length(w);
    }
}

static const char *const dirs[] = {"/dev/shm", "."};

/* Call @fn(world) in a coroutine for every setup that this machine has. */
static void on_every_setup(Loop *loop, CoroutineFn *fn)
{
    for (size_t d = 0; d < G_N_ELEMENTS(dirs); d++) {
        for (int direct = 0; direct < 2; direct++) {
            for (int e = IO_ENGINE_AUTO; e <= IO_ENGINE_NATIVE; e++) {
                World w;

                if (e == IO_ENGINE_NATIVE && !direct) {
                    continue;
                }
                if (e == IO_ENGINE_IO_URING && loop_poller(loop) != LOOP_POLLER_IO_URING) {
                    continue; /* may be refused here */
                }
                if (world_open(&w, (Setup){dirs[d], e, direct})) {
                    loop_run_coroutine(loop, fn, &w);
                    world_close(&w);
                }
            }
        }
    }
}

static void test_model(Loop *loop)
{
    on_every_setup(loop, run_model);
}

/* --- the end of the file --- */

static void coroutine_fn read_across_the_end(void *opaque)
{
    World *w = opaque;
    const int64_t lengths[] = {0, 1, 511, 512, 513, 4095, 4097, 10000};
    uint8_t *buf = buf_alloc(16384);
    struct iovec v;

    memset(buf, 0x5a, 16384);
    g_assert_cmpint(io_file_co_pwritev(w->f, 0, iov_one(&v, buf, 16384), 0), ==, 0);
    for (int i = G_N_ELEMENTS(lengths) - 1; i >= 0; i--) {
        int64_t len = lengths[i];

        g_assert_cmpint(io_file_co_truncate(w->f, len), ==, 0);
        memset(buf, 0xff, 16384);
        g_assert_cmpint(io_file_co_preadv(w->f, 0, iov_one(&v, buf, 16384)), ==, 0);
        for (int64_t b = 0; b < 16384; b++) {
            g_assert_cmpint(buf[b], ==, b < len ? 0x5a : 0);
        }
        memset(buf, 0xff, 4096);
        g_assert_cmpint(io_file_co_preadv(w->f, 1 * MiB, iov_one(&v, buf, 4096)), ==, 0);
        g_assert_true(buf_is_zero(buf, 4096));
    }
    buf_free(buf, 16384);
}

static void test_reads_past_the_end_are_zeros(Loop *loop)
{
    on_every_setup(loop, read_across_the_end);
}

/* --- many vectors --- */

static void coroutine_fn many_vectors(void *opaque)
{
    World *w = opaque;
    enum { N = 3000 }; /* more than IOV_MAX */
    size_t part = w->setup.direct ? 512 : 3;
    g_autofree struct iovec *v = g_new(struct iovec, N);
    size_t bytes = N * part;
    uint8_t *out = buf_alloc(bytes), *in = buf_alloc(bytes);
    IoVec iov;

    prng_fill(&w->rng, out, bytes);
    for (int i = 0; i < N; i++) {
        v[i] = (struct iovec){out + i * part, part};
    }
    iov = iov_of(v, N);
    g_assert_cmpint(io_file_co_pwritev(w->f, 0, iov, 0), ==, 0);
    for (int i = 0; i < N; i++) {
        v[i].iov_base = in + i * part;
    }
    g_assert_cmpint(io_file_co_preadv(w->f, 0, iov_slice(iov, 0, bytes)), ==, 0);
    g_assert_cmpmem(in, bytes, out, bytes);
    buf_free(out, bytes);
    buf_free(in, bytes);
}

static void test_more_vectors_than_a_call_takes(Loop *loop)
{
    on_every_setup(loop, many_vectors);
}

/* --- at once --- */

enum { WRITERS = 700 }; /* more than the submission queue holds */

typedef struct Writer {
    World *w;
    int id;
    int *pending;
    Coroutine **waiter;
} Writer;

static void coroutine_fn write_own_block(void *opaque)
{
    Writer *wr = opaque;
    uint8_t *buf = buf_alloc(4096);
    struct iovec v;

    memset(buf, wr->id, 4096);
    g_assert_cmpint(io_file_co_pwritev(wr->w->f, (int64_t)wr->id * 4096, iov_one(&v, buf, 4096), 0),
                    ==, 0);
    memset(buf, 0, 4096);
    g_assert_cmpint(io_file_co_preadv(wr->w->f, (int64_t)wr->id * 4096, iov_one(&v, buf, 4096)), ==,
                    0);
    g_assert_cmpint(buf[0], ==, (uint8_t)wr->id);
    g_assert_cmpint(buf[4095], ==, (uint8_t)wr->id);
    buf_free(buf, 4096);
    if (--*wr->pending == 0) {
        co_wake(*wr->waiter);
    }
}

static void coroutine_fn start_writers(void *opaque)
{
    g_autofree Writer *wr = g_new(Writer, WRITERS);
    Coroutine *self = co_self();
    int pending = WRITERS;

    for (int i = 0; i < WRITERS; i++) {
        wr[i] = (Writer){opaque, i, &pending, &self};
        co_spawn(write_own_block, &wr[i]);
    }
    co_yield ();
}

static void test_many_at_once(Loop *loop)
{
    on_every_setup(loop, start_writers);
}

/* --- copies --- */

static void coroutine_fn copy_range(void *opaque)
{
    World *w = opaque;
    World other;
    uint8_t *buf = buf_alloc(65536);
    g_autofree uint8_t *want = g_malloc(65536);
    struct iovec v;
    int r;

    g_assert_true(world_open(&other, w->setup));
    prng_fill(&w->rng, buf, 65536);
    memcpy(want, buf, 65536);
    g_assert_cmpint(io_file_co_pwritev(w->f, 0, iov_one(&v, buf, 65536), 0), ==, 0);
    r = io_file_co_copy_range(w->f, 4096, other.f, 8192, 32768);
    if (r != -ENOTSUP) {
        g_assert_cmpint(r, ==, 0);
        g_assert_cmpint(io_file_co_preadv(other.f, 8192, iov_one(&v, buf, 32768)), ==, 0);
        g_assert_cmpmem(buf, 32768, want + 4096, 32768);
    }
    g_assert_cmpint(io_file_co_copy_range(w->f, 0, other.f, 0, 65536 * 2), ==, -ENOTSUP);
    buf_free(buf, 65536);
    world_close(&other);
}

static void test_copy_range(Loop *loop)
{
    on_every_setup(loop, copy_range);
}

/* --- short writes --- */

/* The first call writes up to the limit, the one that continues it says why it cannot. */
static void coroutine_fn write_over_the_limit(void *opaque)
{
    World *w = opaque;
    const struct rlimit limit = {8192, RLIM_INFINITY};
    struct rlimit old;
    uint8_t *buf = buf_alloc(16384);
    struct iovec v;
    int r;

    memset(buf, 0x77, 16384);
    getrlimit(RLIMIT_FSIZE, &old);
    setrlimit(RLIMIT_FSIZE, &limit);
    r = io_file_co_pwritev(w->f, 0, iov_one(&v, buf, 16384), 0);
    setrlimit(RLIMIT_FSIZE, &old);
    g_assert_cmpint(r, ==, -EFBIG);
    memset(buf, 0, 16384);
    g_assert_cmpint(io_file_co_preadv(w->f, 0, iov_one(&v, buf, 16384)), ==, 0);
    for (int i = 0; i < 16384; i++) {
        g_assert_cmpint(buf[i], ==, i < 8192 ? 0x77 : 0);
    }
    buf_free(buf, 16384);
}

static void test_short_writes_are_continued(Loop *loop)
{
    signal(SIGXFSZ, SIG_IGN);
    on_every_setup(loop, write_over_the_limit);
}

/* --- fairness --- */

typedef struct Greedy {
    World *w;
    void (*coroutine_ptr co_again)(World *w);
    bool stop;
    bool ended;
} Greedy;

static void stop_greedy(void *opaque)
{
    ((Greedy *)opaque)->stop = true;
}

static void coroutine_fn do_greedily(void *opaque)
{
    Greedy *g = opaque;

    while (!g->stop) {
        g->co_again(g->w);
    }
    g->ended = true;
}

static void coroutine_fn read_again(World *w)
{
    uint8_t *buf = buf_alloc(4096);
    struct iovec v;

    g_assert_cmpint(io_file_co_preadv(w->f, 0, iov_one(&v, buf, 4096)), ==, 0);
    buf_free(buf, 4096);
}

static void coroutine_fn copy_again(World *w)
{
    g_assert_cmpint(io_file_co_copy_range(w->f, 0, w->f, 65536, 65536), ==, 0);
}

/* What always completes inline must not keep a timer from running. */
static void leaves_room(Loop *loop, void (*coroutine_ptr co_again)(World *w))
{
    World w;
    Greedy g = {.w = &w, .co_again = co_again};
    LoopTimer t;

    g_assert_true(world_open(&w, (Setup){"/dev/shm", IO_ENGINE_AUTO, false}));
    g_assert_cmpint(ftruncate(io_file_fd(w.f), 65536 * 2), ==, 0);
    timer_init(&t, stop_greedy, &g);
    timer_arm(&t, loop_now_ns() + 5 * NS_PER_MS);
    co_spawn(do_greedily, &g);
    while (!g.ended) {
        loop_step(loop, true);
    }
    world_close(&w);
}

static void test_inline_operations_leave_room(Loop *loop)
{
    leaves_room(loop, read_again);
    leaves_room(loop, copy_again);
}

/* --- errors --- */

static void coroutine_fn each_fault(void *opaque)
{
    World *w = opaque;
    uint8_t *buf = buf_alloc(4096);
    struct iovec v;
    IoVec iov = iov_one(&v, buf, 4096);

    memset(buf, 1, 4096);
    fault_arm_nth(1, "file-read");
    g_assert_cmpint(io_file_co_preadv(w->f, 0, iov), ==, -EIO);
    fault_arm_nth(1, "file-write");
    g_assert_cmpint(io_file_co_pwritev(w->f, 0, iov, 0), ==, -EIO);
    fault_arm_nth(1, "file-fdatasync");
    g_assert_cmpint(io_file_co_fdatasync(w->f), ==, -EIO);
    fault_arm_nth(1, "file-fallocate");
    g_assert_cmpint(io_file_co_fallocate(w->f, 0, 0, 4096), ==, -EIO);
    fault_arm_nth(1, "file-truncate");
    g_assert_cmpint(io_file_co_truncate(w->f, 4096), ==, -EIO);
    fault_arm_nth(1, "file-copy-range");
    g_assert_cmpint(io_file_co_copy_range(w->f, 0, w->f, 8192, 4096), ==, -EIO);
    fault_arm_nth(0, NULL);
    check_length(w); /* nothing has happened */
    g_assert_cmpint(io_file_co_pwritev(w->f, 0, iov, 0), ==, 0);
    buf_free(buf, 4096);
}

static void test_injected_errors_are_returned(Loop *loop)
{
    on_every_setup(loop, each_fault);
}

typedef struct Refused {
    IoFile *f;
    uint8_t *buf;
} Refused;

static void coroutine_fn write_refused(void *opaque)
{
    Refused *r = opaque;
    struct iovec v;

    g_assert_cmpint(io_file_co_pwritev(r->f, 0, iov_one(&v, r->buf, 4096), 0), ==, -EBADF);
    g_assert_cmpint(io_file_co_fallocate(r->f, 0, 0, 4096), ==, -EBADF);
    g_assert_cmpint(io_file_co_truncate(r->f, 4096), <, 0);
    g_assert_cmpint(io_file_co_preadv(r->f, 0, iov_one(&v, r->buf, 4096)), ==, 0);
}

static void test_errors_of_the_kernel_are_returned(Loop *loop)
{
    for (int e = IO_ENGINE_AUTO; e <= IO_ENGINE_THREADS; e++) {
        Refused r = {.buf = buf_alloc(4096)};
        int rw = open_tmp(".", false);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", rw);
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        g_assert_cmpint(fd, >=, 0);
        r.f = io_file_new(fd, (IoEngine)e, NULL);
        loop_run_coroutine(loop, write_refused, &r);
        io_file_free(r.f);
        close(rw);
        buf_free(r.buf, 4096);
    }
}

static void test_native_needs_o_direct(Loop *loop)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(io_file_new(open_tmp(".", false), IO_ENGINE_NATIVE, &err));
    g_assert_nonnull(strstr(err->message, "O_DIRECT"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    test_on_all_loops("/file/model", test_model);
    test_on_all_loops("/file/past-the-end", test_reads_past_the_end_are_zeros);
    test_on_all_loops("/file/many-vectors", test_more_vectors_than_a_call_takes);
    test_on_all_loops("/file/many-at-once", test_many_at_once);
    test_on_all_loops("/file/copy-range", test_copy_range);
    test_on_all_loops("/file/short-writes", test_short_writes_are_continued);
    test_on_real_loops("/file/fairness", test_inline_operations_leave_room);
    test_on_all_loops("/file/injected-errors", test_injected_errors_are_returned);
    test_on_all_loops("/file/kernel-errors", test_errors_of_the_kernel_are_returned);
    test_on_real_loops("/file/native-needs-o-direct", test_native_needs_o_direct);
    return g_test_run();
}
