/* SPDX-License-Identifier: GPL-2.0-or-later */
/* buf: alignment, reuse, the bound on what is kept. */
#include <glib.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "test.h"
#include "util/buf.h"

static void test_each_size_is_usable_and_aligned(void)
{
    for (size_t bytes = 1; bytes <= 16 * (size_t)MiB; bytes += bytes / 2 + 1) {
        void *buf = buf_alloc(bytes);

        g_assert_true(IS_ALIGNED((uintptr_t)buf, BUF_ALIGN));
        memset(buf, 0xa5, bytes);
        buf_free(buf, bytes);
    }
    buf_free(NULL, 4096);
}

static void test_freed_buffer_is_handed_out_again(void)
{
    void *a = buf_alloc(64 * KiB);
    void *b;

    buf_free(a, 64 * KiB);
    b = buf_alloc(40 * KiB); /* the same class */
    g_assert_true(a == b);
    buf_free(b, 40 * KiB);
}

static void test_live_buffers_are_apart(void)
{
    enum { N = 64 };
    uint8_t *bufs[N];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            bufs[i] = buf_alloc(4096 << i % 4);
            memset(bufs[i], i, 4096 << i % 4);
        }
        for (int i = 0; i < N; i++) {
            for (int at = 0; at < 4096 << i % 4; at += 512) {
                g_assert_cmpuint(bufs[i][at], ==, i);
            }
            buf_free(bufs[i], 4096 << i % 4);
        }
    }
}

/* Resident bytes of this process. */
static size_t resident(void)
{
    g_autofree char *text = NULL;
    unsigned long long size, pages;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%llu %llu", &size, &pages), ==, 2);
    return pages * sysconf(_SC_PAGESIZE);
}

static void free_many(size_t bytes, int n)
{
    g_autofree void **bufs = g_new(void *, n);

    for (int i = 0; i < n; i++) {
        bufs[i] = buf_alloc(bytes);
        memset(bufs[i], 1, bytes);
    }
    for (int i = 0; i < n; i++) {
        buf_free(bufs[i], bytes);
    }
}

static void test_kept_memory_is_bounded(void)
{
    size_t before, after;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    g_test_skip("a sanitizer keeps freed memory");
    return;
#endif
    before = resident();
    free_many(MiB, 200);
    free_many(4096, 20000);
    malloc_trim(0);
    after = resident();
    g_assert_cmpuint(after, <, before + 48 * MiB);

    buf_pool_trim();
    malloc_trim(0);
    g_assert_cmpuint(resident(), <, before + 12 * MiB);
}

/* A pool full of small buffers still keeps a large one. */
static void test_full_class_gives_way(void)
{
    void *a, *b;

    free_many(4096, 10000); /* 39 MiB, more than is kept */
    a = buf_alloc(4 * MiB);
    buf_free(a, 4 * MiB);
    b = buf_alloc(4 * MiB);
    g_assert_true(a == b);
    buf_free(b, 4 * MiB);
    buf_pool_trim();
}

static void test_impossible_size_is_refused(void)
{
    g_assert_null(buf_try_alloc(SIZE_MAX));
    g_assert_null(buf_try_alloc((size_t)PTRDIFF_MAX + 1));
}

static void test_try_alloc_is_a_fault_place(void)
{
    int failures = 0;

    for_each_failure(i)
    {
        void *a = buf_try_alloc(4096);
        void *b = a != NULL ? buf_try_alloc(4096) : NULL;

        g_assert_true((b == NULL) == fault_fired());
        failures += b == NULL;
        buf_free(a, 4096);
        buf_free(b, 4096);
    }
    g_assert_cmpint(failures, ==, 2);
}

static gpointer thread_body(gpointer from_main)
{
    buf_free(from_main, 4096); /* goes to this thread's pool */
    free_many(64 * KiB, 10);
    return buf_alloc(4096);
}

/* With ASan the leak checker sees whether the thread's pool was emptied. */
static void test_buffers_cross_threads(void)
{
    for (int i = 0; i < 10; i++) {
        GThread *t = g_thread_new("buf", thread_body, buf_alloc(4096));

        buf_free(g_thread_join(t), 4096);
    }
}

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>

/* The pool must not hide from ASan what malloc() would show it. */
static void test_pool_is_poisoned(void)
{
    char *buf = buf_alloc(5000);

    g_assert_null(__asan_region_is_poisoned(buf, 5000));
    g_assert_true(__asan_address_is_poisoned(buf + 5000));
    buf_free(buf, 5000);
    g_assert_true(__asan_address_is_poisoned(buf + 100));
    g_assert_true(buf_alloc(8192) == buf);
    g_assert_null(__asan_region_is_poisoned(buf, 8192));
    buf_free(buf, 8192);
}

TEST("/buf/pool-is-poisoned", test_pool_is_poisoned)
#endif

TEST("/buf/each-size-is-usable-and-aligned", test_each_size_is_usable_and_aligned)
TEST("/buf/freed-buffer-is-handed-out-again", test_freed_buffer_is_handed_out_again)
TEST("/buf/live-buffers-are-apart", test_live_buffers_are_apart)
TEST("/buf/kept-memory-is-bounded", test_kept_memory_is_bounded)
TEST("/buf/full-class-gives-way", test_full_class_gives_way)
TEST("/buf/impossible-size-is-refused", test_impossible_size_is_refused)
TEST("/buf/try-alloc-is-a-fault-place", test_try_alloc_is_a_fault_place)
TEST("/buf/buffers-cross-threads", test_buffers_cross_threads)
