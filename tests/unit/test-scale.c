/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one graph costs does not depend on how many others there are.
 *
 * Processor time of the same work among few nodes and among many: the least of
 * several tries, so that other programs do not count. What is bounded is the
 * growth over a factor of MANY / FEW; whatever looks at every node or backend
 * each time grows by far more than the bound.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "block/blockdev.h"
#include "block/driver.h"
#include "block/drivers.h"
#include "block/info.h"
#include "qapi/walk.h"
#include "user.h"
#include "util/error.h"
#include "vtest.h"

#define FEW   50
#define MANY  4000
#define TRIES 40
#define GROWTH 8 /* of MANY / FEW == 80 */

static int64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static BlockdevOptions *options(const char *format, ...)
{
    va_list ap;
    g_autofree char *text = NULL;
    GError *err = NULL;
    BlockdevOptions *o;
    json_t *j;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    j = json_loads(text, 0, NULL);
    o = blockdev_options_from_json(j, &err);
    g_assert_no_error(err);
    json_decref(j);
    return o;
}

static void coroutine_fn add(const char *name)
{
    g_autoptr(BlockdevOptions) o =
        options("{\"driver\":\"raw\",\"node-name\":\"%s\",\"read-only\":false,"
                "\"file\":{\"driver\":\"null-co\",\"read-zeroes\":true}}",
                name);
    GError *err = NULL;

    blockdev_co_add(o, &err);
    g_assert_no_error(err);
}

static void coroutine_fn del(const char *name)
{
    GError *err = NULL;

    blockdev_co_del(name, &err);
    g_assert_no_error(err);
}

/* --- the work --- */

static BlockBackend *reader;

static void coroutine_fn open_and_close(void)
{
    add("one");
    del("one");
}

static void coroutine_fn use_and_leave(void)
{
    backend_co_free(user_co_new(NULL, node_find("still"), PERM_WRITE));
}

static void coroutine_fn drain(void)
{
    BlockNode *node = node_find("still");

    for (int i = 0; i < 20; i++) {
        drain_co_begin(node);
        drain_end(node);
    }
}

static void coroutine_fn reopen(void)
{
    g_autoptr(BlockdevOptions) o = options("{\"driver\":\"raw\",\"node-name\":\"still\","
                                           "\"file\":\"%s\"}",
                                           node_find("still")->file->node->node_name);
    GError *err = NULL;

    blockdev_co_reopen(&o, 1, &err);
    g_assert_no_error(err);
}

static void coroutine_fn tell(void)
{
    GError *err = NULL;

    for (int i = 0; i < 20; i++) {
        block_device_info_free(info_co_node(node_find("still"), NULL, false, &err));
        g_assert_no_error(err);
    }
}

static void coroutine_fn read_it(void)
{
    char buf[512];

    for (int i = 0; i < 200; i++) {
        g_assert_cmpint(backend_co_pread(reader, 0, buf, sizeof(buf)), ==, 0);
    }
}

static const struct {
    const char *name;
    void (*coroutine_ptr run)(void);
} work[] = {
    {"open and close a node", open_and_close},
    {"add and remove a backend", use_and_leave},
    {"drain", drain},
    {"reopen", reopen},
    {"tell about a node", tell},
    {"read", read_it},
};

static int64_t coroutine_fn least_ns(void (*coroutine_ptr run)(void))
{
    int64_t least = INT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        int64_t start = cpu_ns();

        run();
        least = MIN(least, cpu_ns() - start);
    }
    return least;
}

static void coroutine_fn test_cost_of_one_among_many(void)
{
    int64_t few[G_N_ELEMENTS(work)];
    GPtrArray *backends = g_ptr_array_new();
    int64_t start;
    int n = 0;

    drivers_register();
    add("still");
    reader = user_co_new(NULL, node_find("still"), PERM_CONSISTENT_READ);
    for (int stage = 0; stage < 2; stage++) {
        for (; n < (stage == 0 ? FEW : MANY); n++) {
            g_autofree char *name = g_strdup_printf("n%d", n);

            add(name);
            g_ptr_array_add(backends, user_co_new(NULL, node_find(name), PERM_WRITE));
        }
        for (size_t i = 0; i < G_N_ELEMENTS(work); i++) {
            int64_t ns = least_ns(work[i].run);

            if (stage == 0) {
                few[i] = ns;
                continue;
            }
            g_test_message("%s: %" PRId64 " ns among %d, %" PRId64 " ns among %d: %.2f times",
                           work[i].name, few[i], FEW, ns, MANY, (double)ns / (double)few[i]);
            g_assert_cmpint(ns, <, GROWTH * few[i]);
        }
    }
    start = cpu_ns();
    for (guint i = 0; i < backends->len; i++) {
        backend_co_free(backends->pdata[i]);
    }
    g_ptr_array_free(backends, TRUE);
    backend_co_free(reader);
    blockdev_co_close_all();
    g_test_message("close all: %" PRId64 " ns each", (cpu_ns() - start) / MANY);
    g_assert_cmpint(cpu_ns() - start, <, GROWTH * MANY * few[0]);
}
VTEST("/scale/cost-of-one-among-many", test_cost_of_one_among_many)

/* --- depth --- */

static const char *const stackable[] = {
    "{\"driver\":\"raw\",\"node-name\":\"l%d\",\"file\":\"l%d\"}",
    "{\"driver\":\"quorum\",\"node-name\":\"l%d\",\"children\":[\"l%d\"],"
    "\"vote-threshold\":1}",
    "{\"driver\":\"blkdebug\",\"node-name\":\"l%d\",\"image\":\"l%d\"}",
};

static void coroutine_fn every_request(BlockNode *node)
{
    BlockBackend *be = user_co_new(NULL, node, PERM_WRITE);
    char buf[4096] = {0};
    BlockStatus st;
    int depth;

    g_assert_cmpint(backend_co_pwrite(be, 0, buf, sizeof(buf), 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite(be, 100, buf, 1, REQ_FUA), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 100, buf, sizeof(buf)), ==, 0);
    g_assert_cmpint(backend_co_pwrite_zeroes(be, 100, 65536, 0), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(be, 0, 65536), ==, 0);
    g_assert_cmpint(backend_co_flush(be), ==, 0);
    g_assert_cmpint(
        backend_co_block_status_above(be, NULL, true, 0, sizeof(buf), &st, &depth), ==, 0);
    backend_co_free(be);
}

static void coroutine_fn use_in_every_way(int level)
{
    g_autofree char *name = g_strdup_printf("l%d", level);
    BlockNode *top = node_find(name);
    GError *err = NULL;

    every_request(top);
    block_device_info_free(info_co_node(top, NULL, false, &err));
    block_stats_free(info_node_stats(top));
}

/* Under AddressSanitizer the frames are several times as large. */
#if defined(__SANITIZE_ADDRESS__)
static const bool large_frames = true;
#else
static const bool large_frames = false;
#endif

/* Names allow any stack of nodes; the stack of a coroutine does not. */
static void coroutine_fn test_depth(void)
{
    drivers_register();
    for (size_t k = 0; k < G_N_ELEMENTS(stackable); k++) {
        g_autoptr(BlockdevOptions) lowest =
            options("{\"driver\":\"null-co\",\"node-name\":\"l0\",\"read-zeroes\":true}");
        GError *err = NULL;
        int level = 0;

        g_assert_true(blockdev_co_add(lowest, &err));
        while (!err) {
            g_autoptr(BlockdevOptions) o = options(stackable[k], level + 1, level);

            level += blockdev_co_add(o, &err);
        }
        g_assert_nonnull(strstr(err->message, "would stack more nodes than"));
        g_clear_error(&err);
        g_assert_cmpint(level, ==, 100);
        if (!large_frames) {
            use_in_every_way(level);
        }
        blockdev_co_close_all();
    }
}
VTEST("/scale/depth", test_depth)
