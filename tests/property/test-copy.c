/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy offload out of images: what has been copied is what a reader of the
 * source would have seen, wherever the parts of it are stored.
 */
#include <errno.h>
#include <string.h>

#include "qcow2-disk.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH ((int64_t)(1 * MiB))
#define OTHER  0xee /* a byte that nobody writes where the copies read */

static const char *const policies[] = {"", ",\"metadata-policy\":\"scratch\""};

typedef struct World {
    Choices *c;
    Memdisk *base, *image, *to;
    BlockNode *backing, *target;
    Qcow2Disk source;
    BlockBackend *dst;
    uint8_t model[LENGTH];
} World;

static void coroutine_fn source_open(World *w, const char *policy, int64_t cluster, int64_t below)
{
    BlockdevCreateOptionsQcow2 create = {
        .size = LENGTH, .has_cluster_size = true, .cluster_size = cluster};
    MemdiskOptions file = {.jitter_ns = 20 * NS_PER_US};
    MemdiskOptions backing = {.length = below};
    g_autofree char *more =
        g_strdup_printf(",\"backing\":\"below\",\"discard\":\"unmap\"%s", policy);

    w->image = memdisk_new(&file);
    w->base = memdisk_new(&backing);
    memset(memdisk_data(w->base), 0xbb, below);
    memcpy(w->model, memdisk_data(w->base), below);
    qcow2_disk_create(w->image, create);
    w->backing = memdisk_open(w->base, "below", NULL, NULL);
    w->source = qcow2_disk_open(w->image, "source", more);
}

static void coroutine_fn target_open(World *w)
{
    MemdiskOptions o = {.length = LENGTH};

    w->to = memdisk_new(&o);
    w->target = memdisk_open(w->to, "target", &(NodeFlags){.unmap = true}, NULL);
    w->dst = user_co_new(NULL, w->target, PERM_WRITE);
}

static void coroutine_fn world_close(World *w)
{
    qcow2_disk_close(&w->source);
    backend_co_free(w->dst);
    node_co_unref(w->target);
    node_co_unref(w->backing);
    memdisk_free(w->base);
    memdisk_free(w->image);
    memdisk_free(w->to);
}

/* Long runs and short ones, data and zeroes. */
static void coroutine_fn change(World *w, int64_t start, int64_t end)
{
    int64_t offset = start + choose_in(w->c, 0, end - start - 1);
    int64_t bytes = choose_in(w->c, 1, end - offset);
    uint8_t byte = choose(w->c) ? choose_in(w->c, 1, OTHER - 1) : 0;
    int r;

    memset(w->model + offset, byte, bytes);
    r = byte ? backend_co_pwrite(w->source.be, offset, w->model + offset, bytes, 0)
             : backend_co_pwrite_zeroes(w->source.be, offset, bytes, REQ_MAY_UNMAP);
    g_assert_cmpint(r, ==, 0);
}

/* Beside the copy clusters go where it reads, and others are taken where it does not. */
static int coroutine_fn other_co_entry(void *opaque)
{
    g_autofree uint8_t *data = g_malloc(LENGTH / 2);
    World *w = opaque;

    memset(data, OTHER, LENGTH / 2);
    for (unsigned n = choose_in(w->c, 0, 6); n > 0; n--) {
        int64_t offset = choose_in(w->c, 0, LENGTH / 2 - 1);
        int64_t bytes = choose_in(w->c, 1, LENGTH / 2 - offset);

        g_assert_cmpint(backend_co_pdiscard(w->source.be, offset, bytes), ==, 0);
        g_assert_cmpint(backend_co_flush(w->source.be), ==, 0); /* dropped clusters are free */
        g_assert_cmpint(backend_co_pwrite(w->source.be, LENGTH / 2 + offset, data, bytes, 0), ==,
                        0);
    }
    return 0;
}

static int coroutine_fn copy_co_entry(void *opaque)
{
    World *w = opaque;
    int64_t offset = choose_in(w->c, 0, LENGTH / 2 - 1);
    int64_t bytes = choose_in(w->c, 1, LENGTH / 2 - offset);
    bool fault = choose(w->c);
    const uint8_t *seen = memdisk_data(w->to);
    int r;

    memset(memdisk_data(w->to), 0xdd, LENGTH);
    if (fault) {
        memdisk_fail_nth(w->to, MEMDISK_WRITE | MEMDISK_ZERO, choose_in(w->c, 1, 3), EIO);
    }
    r = child_co_copy_range(backend_root(w->source.be), offset, backend_root(w->dst), offset, bytes,
                            0);
    memdisk_heal(w->to);
    if (r == 0) {
        for (int64_t i = offset; i < offset + bytes; i++) { /* as before, or dropped meanwhile */
            g_assert_true(seen[i] == w->model[i] || seen[i] == 0);
        }
    } else if (r != -ENOTSUP) {
        g_assert_true(fault && r == -EIO);
    }
    for (int64_t i = 0; i < LENGTH; i++) {
        if (i < offset || i >= offset + bytes) {
            g_assert_cmpuint(seen[i], ==, 0xdd);
        }
    }
    return 0;
}

static void coroutine_fn copies_co_entry(void *opaque)
{
    World *w = opaque;
    const char *policy = policies[choose_in(w->c, 0, 1)];
    int64_t cluster = 4096 << choose_in(w->c, 0, 5);

    source_open(w, policy, cluster, choose(w->c) ? LENGTH : LENGTH / 4 + 512);
    target_open(w);
    do {
        CoGroup g = {0};

        for (unsigned n = choose_in(w->c, 0, 4); n > 0; n--) {
            change(w, 0, LENGTH);
        }
        g_assert_cmpint(backend_co_pread(w->source.be, 0, w->model, LENGTH), ==, 0);
        co_group_spawn(&g, copy_co_entry, w);
        if (choose(w->c)) {
            memdisk_set_latency(w->image, MEMDISK_READ, NS_PER_MS); /* time to reuse clusters */
            co_group_spawn(&g, other_co_entry, w);
        }
        g_assert_cmpint(co_group_wait(&g), ==, 0);
        memdisk_set_latency(w->image, MEMDISK_READ, 0);
    } while (choose_more(w->c, 4));
    world_close(w);
}

static void prop_copies(Choices *c)
{
    g_autofree World *w = g_new0(World, 1);

    w->c = c;
    vtest_run(copies_co_entry, w, choose_in(c, 0, 100));
}

PROPERTY("/copy/is-what-a-reader-sees", prop_copies)

/* One call for what lies together; what is too small, or not in a file, is left to the caller. */
static void coroutine_fn test_long_runs(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(policies); i++) {
        g_autofree World *w = g_new0(World, 1);
        BlockChild *from, *to;

        source_open(w, policies[i], 64 * KiB, LENGTH / 2);
        target_open(w);
        from = backend_root(w->source.be);
        to = backend_root(w->dst);
        memset(w->model, 0x11, 256 * KiB);
        g_assert_cmpint(backend_co_pwrite(w->source.be, 0, w->model, 256 * KiB, 0), ==, 0);

        g_assert_cmpint(child_co_copy_range(from, 0, to, 0, 256 * KiB, 0), ==, 0);
        g_assert_cmpuint(memdisk_log_count(w->to, MEMDISK_ALL), ==, 1);
        g_assert_cmpint(child_co_copy_range(from, 256 * KiB, to, 256 * KiB, 256 * KiB, 0), ==, 0);
        g_assert_cmpmem(memdisk_data(w->to), LENGTH / 2, w->model, LENGTH / 2);
        g_assert_cmpint(child_co_copy_range(from, 0, to, 0, 32 * KiB, 0), ==, -ENOTSUP);
        world_close(w);
    }
}

VTEST("/copy/long-runs-in-one-call", test_long_runs)
