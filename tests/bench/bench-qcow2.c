/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench-qcow2: an image on a real file, against what stock QEMU does.
 *
 *   bench-qcow2 [DIRECTORY]    default: /dev/shm
 *
 * Random and allocating 4 KiB requests at depth 1 and 32 (compare with
 * "qemu-img bench -c N -d D -s 4096 -S STEP"), lookups in memory, opening, and
 * emptying with and without the scratch policy.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "bench.h"
#include "block/backend.h"
#include "block/driver.h"
#include "block/drivers.h"
#include "user.h"
#include "util/buf.h"
#include "util/loop.h"
#include "util/prng.h"

#define DISK_BYTES (1 * GiB)
#define BLOCK      4096

static const char *directory = "/dev/shm";

typedef struct Image {
    BlockNode *node;
    BlockBackend *be;
    char *path;
} Image;

static void report(const char *name, const char *unit, double value)
{
    printf("{\"bench\": \"qcow2/%s\", \"unit\": \"%s\", \"median\": %.1f}\n", name, unit, value);
    fflush(stdout);
}

/* --- an image --- */

static void coroutine_fn create(const char *path, uint64_t size)
{
    BlockdevOptions file = {.driver = BLOCKDEV_DRIVER_FILE, .u.file.filename = (char *)path};
    BlockdevRef ref = {.kind = BLOCKDEV_REF_DEFINITION, .u.definition = &file};
    BlockdevCreateOptions o = {.driver = BLOCKDEV_DRIVER_QCOW2};
    GError *err = NULL;

    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    o.u.qcow2.file = &ref;
    o.u.qcow2.size = size;
    driver_find("qcow2")->co_create(&o, &err);
    g_assert_no_error(err);
}

static Image coroutine_fn open_image(const char *path, bool scratch)
{
    json_t *opts =
        json_pack("{s:s, s:s, s:s, s:s}", "driver", "qcow2", "file.driver", "file", "file.filename",
                  path, "metadata-policy", scratch ? "scratch" : "writeback");
    Image i = {.path = g_strdup(path)};
    GError *err = NULL;

    i.node = node_co_open_json(opts, NULL, &err);
    g_assert_no_error(err);
    i.be = user_co_new(NULL, i.node, PERM_CONSISTENT_READ | PERM_WRITE);
    json_decref(opts);
    return i;
}

static void coroutine_fn close_image(Image *i)
{
    backend_co_free(i->be);
    node_co_unref(i->node);
    g_free(i->path);
}

/* --- many requests at once --- */

typedef struct Load {
    BlockBackend *be;
    Prng prng;
    uint64_t left, at, step, blocks;
    bool write, random;
} Load;

static int coroutine_fn worker(void *opaque)
{
    Load *l = opaque;
    uint8_t *buf = buf_alloc(BLOCK);
    int r = 0;

    memset(buf, 0x5a, BLOCK);
    while (l->left > 0 && r == 0) {
        uint64_t block = l->random ? prng_below(&l->prng, l->blocks) : l->at;
        int64_t offset = (int64_t)(block % l->blocks * BLOCK);

        l->left--;
        l->at += l->step;
        r = l->write ? backend_co_pwrite(l->be, offset, buf, BLOCK, 0)
                     : backend_co_pread(l->be, offset, buf, BLOCK);
    }
    buf_free(buf, BLOCK);
    return r;
}

static void coroutine_fn load(const char *name, Image *i, Load l, uint64_t n, int depth)
{
    CoGroup group = {0};
    int64_t start = bench_clock_ns();

    l.be = i->be;
    l.left = n;
    prng_init(&l.prng, 42);
    for (int k = 0; k < depth; k++) {
        co_group_spawn(&group, worker, &l);
    }
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    report(name, "IOPS", (double)n * 1e9 / (double)(bench_clock_ns() - start));
}

static void coroutine_fn measure_requests(const char *path)
{
    uint64_t blocks = DISK_BYTES / BLOCK;
    Image i;

    create(path, DISK_BYTES);
    i = open_image(path, false);
    /* One block of each cluster, then the next: what qemu-img bench -S 65536 does. */
    load("allocate/64k-steps/depth32", &i, (Load){.write = true, .step = 16, .blocks = blocks},
         DISK_BYTES / 65536, 32);
    load("sequential-fill/depth32", &i, (Load){.write = true, .step = 1, .blocks = blocks}, blocks,
         32);
    for (int depth = 1; depth <= 32; depth *= 32) {
        g_autofree char *w = g_strdup_printf("random-write/depth%d", depth);
        g_autofree char *r = g_strdup_printf("random-read/depth%d", depth);
        g_autofree char *s = g_strdup_printf("sequential-read/depth%d", depth);

        load(w, &i, (Load){.write = true, .random = true, .blocks = blocks}, 200000, depth);
        load(r, &i, (Load){.random = true, .blocks = blocks}, 200000, depth);
        load(s, &i, (Load){.step = 1, .blocks = blocks}, 200000, depth);
    }
    close_image(&i);
}

/* --- opening --- */

static void coroutine_fn measure_open(const char *path)
{
    int64_t best = INT64_MAX;

    create(path, 16 * TiB);
    for (int n = 0; n < 20; n++) {
        int64_t start = bench_clock_ns();
        Image i = open_image(path, false);

        best = MIN(best, bench_clock_ns() - start);
        close_image(&i);
    }
    report("open/16TiB-best-of-20", "us", (double)best / 1000);
}

/* --- emptying 512 MiB that lie all over 1 TiB --- */

static int64_t blocks_in_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_blocks * 512 : -1;
}

static void coroutine_fn measure_scratch(const char *path)
{
    uint64_t n = 512 * MiB / BLOCK, blocks = 1 * TiB / BLOCK;
    Load random = {.write = true, .random = true, .blocks = blocks};
    int64_t before, start;
    Image i;

    create(path, 1 * TiB);
    i = open_image(path, true);
    before = blocks_in_file(path);
    load("scratch/first-epoch-random-write/depth32", &i, random, n, 32);
    report("scratch/file-growth-per-byte", "ratio",
           (double)(blocks_in_file(path) - before) / (double)(n * BLOCK));
    for (int round = 0; round < 3; round++) {
        start = bench_clock_ns();
        i.node->drv->scratch_empty(i.node);
        report("scratch/empty", "us", (double)(bench_clock_ns() - start) / 1000);
        load("scratch/next-epoch-random-write/depth32", &i, random, n, 32);
    }
    load("scratch/random-read/depth32", &i, (Load){.random = true, .blocks = blocks}, n, 32);
    g_assert_cmpint(backend_co_make_empty(i.be), ==, 0);
    start = bench_clock_ns();
    close_image(&i);
    report("scratch/close-when-empty", "us", (double)(bench_clock_ns() - start) / 1000);
}

/* The first writes after emptying are the ones that a guest waits for after a checkpoint. */
static void coroutine_fn measure_writeback_empty(const char *path)
{
    Load random = {.write = true, .random = true, .blocks = 1 * TiB / BLOCK};
    int64_t start;
    Image i;

    create(path, 1 * TiB);
    i = open_image(path, false);
    load("writeback/fresh-first-random-write/depth1", &i, random, 256, 1);
    load("writeback/fresh-random-write/depth1", &i, random, 4096, 1);
    for (int round = 0; round < 2; round++) {
        load("writeback/random-allocating-write/depth32", &i, random, 131072, 32);
        start = bench_clock_ns();
        g_assert_cmpint(backend_co_make_empty(i.be), ==, 0);
        report("writeback/empty", "us", (double)(bench_clock_ns() - start) / 1000);
        load("writeback/first-random-write/depth1", &i, random, 256, 1);
        load("writeback/next-random-write/depth1", &i, random, 4096, 1);
    }
    start = bench_clock_ns();
    close_image(&i);
    report("writeback/close", "us", (double)(bench_clock_ns() - start) / 1000);
}

static void coroutine_fn run(void *opaque)
{
    g_autofree char *path = g_build_filename(directory, "tandem-bench.qcow2", NULL);

    measure_open(path);
    measure_requests(path);
    measure_scratch(path);
    measure_writeback_empty(path);
    (void)remove(path);
}

int main(int argc, char **argv)
{
    GError *err = NULL;
    Loop *loop;

    if (argc > 1) {
        directory = argv[1];
    }
    drivers_register();
    loop = loop_new(LOOP_POLLER_AUTO, &err);
    g_assert_no_error(err);
    loop_run_coroutine(loop, run, NULL);
    loop_free(loop);
    return 0;
}
