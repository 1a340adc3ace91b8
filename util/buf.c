/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * buf: page-aligned buffers from a pool per thread.
 *
 * Sizes up to 4 MiB are rounded up to a power of two, their class. A freed
 * buffer goes to the class's list of the freeing thread, last in first out, so
 * that the next user finds warm pages. Larger buffers are mapped and unmapped.
 *
 * Invariant: a pool keeps at most KEEP_BYTES. A class that grows takes room
 * from the class that keeps most, so one burst of small buffers cannot turn
 * the pool off for large ones.
 *
 * Under ASan kept buffers and the unasked part of handed-out ones are poisoned;
 * the first word of a kept buffer is the list and stays readable, because the
 * leak checker follows no pointer in poisoned memory.
 */
#include "util/buf.h"

#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "util/fault.h"

#if defined(__SANITIZE_ADDRESS__)
#define BUF_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUF_ASAN 1
#endif
#endif
#ifndef BUF_ASAN
#define BUF_ASAN 0
#endif

#if BUF_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define CLASSES    11 /* 4 KiB << 0..10 */
#define KEEP_BYTES ((size_t)(32 * MiB))

typedef struct KeptBuf KeptBuf;
struct KeptBuf {
    KeptBuf *next;
};

typedef struct BufPool {
    KeptBuf *head[CLASSES];
    size_t class_kept[CLASSES]; /* bytes */
    size_t kept;                /* sum of class_kept */
    bool registered;            /* the destructor will run */
    bool gone;                  /* it has run: keep nothing more */
} BufPool;

static __thread BufPool pool;
static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static size_t class_bytes(int class)
{
    return (size_t)BUF_ALIGN << class;
}

/* The smallest class that holds @bytes; CLASSES if none does. */
static int class_of(size_t bytes)
{
    if (bytes <= BUF_ALIGN) {
        return 0;
    }
    if (bytes > class_bytes(CLASSES - 1)) {
        return CLASSES;
    }
    return 64 - __builtin_clzll((bytes - 1) / BUF_ALIGN);
}

static void *system_alloc(size_t bytes)
{
    void *buf;

    return posix_memalign(&buf, BUF_ALIGN, bytes) == 0 ? buf : NULL;
}

/* Where ASan watches, large ones come from its heap too: it finds overruns and leaks. */
static void *large_alloc(size_t bytes)
{
    if (BUF_ASAN) {
        return system_alloc(bytes);
    }

    void *buf = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return buf == MAP_FAILED ? NULL : buf;
}

static void large_free(void *buf, size_t bytes)
{
    if (BUF_ASAN) {
        free(buf);
    } else {
        int r = munmap(buf, ALIGN_UP(bytes, BUF_ALIGN));

        assert(r == 0);
    }
}

static void *pool_take(int class)
{
    KeptBuf *kept = pool.head[class];

    if (kept == NULL) {
        return NULL;
    }
    pool.head[class] = kept->next;
    pool.class_kept[class] -= class_bytes(class);
    pool.kept -= class_bytes(class);
    return kept;
}

static void pool_drop(int class)
{
    void *buf = pool_take(class);

    ASAN_UNPOISON_MEMORY_REGION(buf, class_bytes(class));
    free(buf);
}

void buf_pool_trim(void)
{
    for (int class = 0; class < CLASSES; class ++) {
        while (pool.head[class] != NULL) {
            pool_drop(class);
        }
    }
}

static void pool_thread_exit(void *unused)
{
    (void)unused;
    pool.gone = true;
    buf_pool_trim();
}

static void pool_key_make(void)
{
    int r = pthread_key_create(&pool_key, pool_thread_exit);

    assert(r == 0);
}

static void pool_register(void)
{
    pthread_once(&pool_once, pool_key_make);
    pool.registered = pthread_setspecific(pool_key, &pool) == 0;
}

/* Make room for one more of @class at the cost of classes that keep more than it. */
static bool pool_make_room(int class)
{
    while (pool.kept + class_bytes(class) > KEEP_BYTES) {
        int most = class;

        for (int i = 0; i < CLASSES; i++) {
            if (pool.class_kept[i] > pool.class_kept[most]) {
                most = i;
            }
        }
        if (most == class) {
            return false;
        }
        pool_drop(most);
    }
    return true;
}

static bool pool_keep(int class, KeptBuf *buf)
{
    if (!pool.registered) {
        pool_register();
    }
    if (pool.gone || !pool.registered || !pool_make_room(class)) {
        return false;
    }
    ASAN_UNPOISON_MEMORY_REGION(buf, sizeof(*buf));
    buf->next = pool.head[class];
    ASAN_POISON_MEMORY_REGION(buf + 1, class_bytes(class) - sizeof(*buf));
    pool.head[class] = buf;
    pool.class_kept[class] += class_bytes(class);
    pool.kept += class_bytes(class);
    return true;
}

static void *alloc(size_t bytes)
{
    int class = class_of(bytes);

    if (bytes > PTRDIFF_MAX) {
        return NULL;
    }
    if (class == CLASSES) {
        return large_alloc(bytes);
    }

    void *buf = pool_take(class);

    if (buf == NULL) {
        buf = system_alloc(class_bytes(class));
    }
    if (buf != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(buf, bytes);
        ASAN_POISON_MEMORY_REGION((char *)buf + ALIGN_UP(bytes, 8),
                                  class_bytes(class) - ALIGN_UP(bytes, 8));
    }
    return buf;
}

void *buf_alloc(size_t bytes)
{
    assert(bytes > 0);

    void *buf = alloc(bytes);

    if (buf == NULL) {
        g_error("could not allocate a buffer of %zu bytes", bytes);
    }
    return buf;
}

void *buf_try_alloc(size_t bytes)
{
    if (fault_hit("buf-alloc")) {
        return NULL;
    }
    return alloc(bytes);
}

void buf_free(void *buf, size_t bytes)
{
    int class = class_of(bytes);

    if (buf == NULL) {
        return;
    }
    assert(IS_ALIGNED((uintptr_t)buf, BUF_ALIGN));
    if (class == CLASSES) {
        large_free(buf, bytes);
    } else if (!pool_keep(class, buf)) {
        ASAN_UNPOISON_MEMORY_REGION(buf, class_bytes(class));
        free(buf);
    }
}
