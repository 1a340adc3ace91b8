/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench-io: what the request path costs over a driver that does nothing, in ns a request. */
#include "bench.h"
#include "block/backend.h"
#include "block/drivers.h"
#include "block/node.h"
#include "user.h"
#include "vtest.h"

#define DISK_BYTES (1 * GiB)

typedef struct Bench {
    BlockBackend *be;
    uint8_t buf[4096];
    bool write;
} Bench;

static void coroutine_fn one_by_one(uint64_t n, void *opaque)
{
    Bench *b = opaque;

    for (uint64_t i = 0; i < n; i++) {
        int64_t offset = (int64_t)(i % (DISK_BYTES / 4096)) * 4096;
        int r = b->write ? backend_co_pwrite(b->be, offset, b->buf, 4096, 0)
                         : backend_co_pread(b->be, offset, b->buf, 4096);

        g_assert_cmpint(r, ==, 0);
    }
}

static void coroutine_fn below_the_gate(uint64_t n, void *opaque)
{
    Bench *b = opaque;
    BlockChild *root = backend_root(b->be);

    for (uint64_t i = 0; i < n; i++) {
        int64_t offset = (int64_t)(i % (DISK_BYTES / 4096)) * 4096;
        int r = b->write ? child_co_pwrite(root, offset, b->buf, 4096, 0)
                         : child_co_pread(root, offset, b->buf, 4096);

        g_assert_cmpint(r, ==, 0);
    }
}

static void coroutine_fn open_node(Bench *b, const char *text)
{
    g_autoptr(GError) err = NULL;
    json_t *json = json_loads(text, 0, NULL);
    BlockNode *node = node_co_open_json(json, NULL, &err);

    json_decref(json);
    g_assert_no_error(err);
    b->be = user_co_new(NULL, node, PERM_CONSISTENT_READ | PERM_WRITE);
    node_co_unref(node);
}

static void coroutine_fn
measure(const char *name, const char *options, BenchFn *fn, bool write, bool order_writes)
{
    Bench b = {.write = write};

    open_node(&b, options);
    backend_node(b.be)->order_writes = order_writes;
    bench_ns(name, fn, 2000000, &b);
    backend_co_free(b.be);
}

#define NULL_NODE "{\"driver\": \"null-co\", \"size\": 1073741824}"
#define RAW_NODE  "{\"driver\": \"raw\", \"file\": " NULL_NODE "}"
#define DEBUG_512 "{\"driver\": \"blkdebug\", \"align\": 512, \"image\": " NULL_NODE "}"

static void coroutine_fn run(void)
{
    measure("io/null/read", NULL_NODE, one_by_one, false, false);
    measure("io/raw-null/read", RAW_NODE, one_by_one, false, false);
    measure("io/raw-null/write", RAW_NODE, one_by_one, true, false);
    measure("io/raw-null/read-below-the-gate", RAW_NODE, below_the_gate, false, false);
    measure("io/raw-null/write-below-the-gate", RAW_NODE, below_the_gate, true, false);
    measure("io/raw-null/write-ordered", RAW_NODE, one_by_one, true, true);
    measure("io/blkdebug-512-null/write", DEBUG_512, one_by_one, true, false);
}

int main(void)
{
    drivers_register();
    loop_test_run(run, LOOP_POLLER_AUTO);
    return 0;
}
