/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench-sync: what locks, buffers, the zero test and bitmaps cost, in ns an operation. */
#include <string.h>

#include "bench.h"
#include "util/buf.h"
#include "util/hbitmap.h"
#include "util/prng.h"
#include "util/sync.h"
#include "vtest.h"

/* --- locks --- */

static void coroutine_fn bench_mutex(uint64_t n, void *opaque)
{
    for (uint64_t i = 0; i < n; i++) {
        co_mutex_lock(opaque);
        co_mutex_unlock(opaque);
    }
}

static void coroutine_fn bench_range(uint64_t n, void *opaque)
{
    for (uint64_t i = 0; i < n; i++) {
        CoRange r;

        co_range_lock(opaque, &r, i % 4096 * 65536 + 4096, 4096, CO_RANGE_EXCLUSIVE);
        co_range_unlock(opaque, &r);
    }
}

static void coroutine_fn bench_range_among(CoRangeLock *lock, int others)
{
    g_autofree CoRange *held = g_new(CoRange, others);
    g_autofree char *name = g_strdup_printf("range/lock-unlock/others=%d", others);

    for (int i = 0; i < others; i++) {
        co_range_lock(lock, &held[i], (uint64_t)i * 65536, 4096, CO_RANGE_EXCLUSIVE);
    }
    bench_ns(name, bench_range, 1000000, lock);
    for (int i = 0; i < others; i++) {
        co_range_unlock(lock, &held[i]);
    }
}

static void coroutine_fn bench_locks(void)
{
    CoMutex mutex = {0};
    CoRangeLock lock = {0};

    bench_ns("mutex/lock-unlock", bench_mutex, 10000000, &mutex);
    bench_range_among(&lock, 0);
    bench_range_among(&lock, 32);
    bench_range_among(&lock, 1024);
}

/* --- buffers --- */

static void bench_buf(uint64_t n, void *opaque)
{
    size_t bytes = *(size_t *)opaque;

    for (uint64_t i = 0; i < n; i++) {
        void *volatile buf = buf_alloc(bytes);

        buf_free(buf, bytes);
    }
}

typedef struct ZeroRun {
    void *buf;
    size_t bytes;
} ZeroRun;

static void bench_zero(uint64_t n, void *opaque)
{
    const ZeroRun *run = opaque;

    for (uint64_t i = 0; i < n; i++) {
        g_assert_true(buf_is_zero(run->buf, run->bytes));
    }
}

static void bench_zero_of(size_t bytes)
{
    ZeroRun run = {buf_alloc(bytes), bytes};
    g_autofree char *name = g_strdup_printf("zero-test/bytes=%zu", bytes);

    memset(run.buf, 0, bytes);
    bench_ns(name, bench_zero, GiB / bytes, &run);
    buf_free(run.buf, bytes);
}

/* --- bitmaps --- */

static void bench_hbitmap_set(uint64_t n, void *opaque)
{
    Prng p;

    prng_init(&p, 1);
    for (uint64_t i = 0; i < n; i++) {
        hbitmap_set(opaque, prng_next(&p) >> 20, 1); /* 16 TiB */
    }
}

static void bench_hbitmap_next(uint64_t n, void *opaque)
{
    Prng p;
    uint64_t sum = 0;

    prng_init(&p, 2);
    for (uint64_t i = 0; i < n; i++) {
        sum += hbitmap_next_set(opaque, prng_next(&p) >> 20);
    }
    g_assert_cmpuint(sum, !=, 1);
}

int main(void)
{
    static const size_t sizes[] = {4096, 65536, 16 * MiB};
    size_t bytes = 64 * KiB;
    HBitmap *hb = hbitmap_new(16 * TiB, 65536);

    vtest_run_fn(bench_locks, 0);
    bench_ns("buf/alloc-free/bytes=65536", bench_buf, 10000000, &bytes);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        bench_zero_of(sizes[i]);
    }
    bench_ns("hbitmap/set-random", bench_hbitmap_set, 100000, hb);
    bench_ns("hbitmap/next-set", bench_hbitmap_next, 1000000, hb);
    hbitmap_free(hb);
    return 0;
}
