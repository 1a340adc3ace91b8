/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The request path, one behaviour a test, on disks in memory with virtual time. */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/graph.h"
#include "memdisk.h"
#include "user.h"
#include "util/buf.h"
#include "util/sync.h"
#include "vtest.h"

typedef struct Fixture {
    Memdisk *disk;
    BlockNode *node;
    BlockBackend *be;
} Fixture;

static void coroutine_fn set_up(Fixture *f, const MemdiskOptions *o)
{
    NodeFlags flags = {.unmap = true};
    g_autoptr(GError) err = NULL;

    f->disk = memdisk_new(o);
    f->node = memdisk_open(f->disk, NULL, &flags, &err);
    g_assert_no_error(err);
    f->be = user_co_new(NULL, f->node, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);
}

static void coroutine_fn tear_down(Fixture *f)
{
    backend_co_free(f->be);
    node_co_unref(f->node);
    memdisk_free(f->disk);
}

/* --- flush --- */

static int coroutine_fn flush_one(void *opaque)
{
    return backend_co_flush(opaque);
}

static void coroutine_fn test_flushes_share_one(void)
{
    MemdiskOptions o = {.length = 65536, .latency_ns = 1000};
    uint8_t buf[512] = {1};
    CoGroup g = {0};
    Fixture f;

    set_up(&f, &o);
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, 0), ==, 0);
    for (int i = 0; i < 10; i++) {
        co_group_spawn(&g, flush_one, f.be);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_FLUSH), ==, 1);
    g_assert_cmpint(backend_co_flush(f.be), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_FLUSH), ==, 1); /* nothing was written */
    tear_down(&f);
}
VTEST("/io/flush/share", test_flushes_share_one)

typedef struct Late {
    BlockBackend *be;
    int64_t wait_ns;
    bool write;
} Late;

static int coroutine_fn late_request(void *opaque)
{
    const Late *l = opaque;
    uint8_t buf[512] = {1};

    co_sleep_ns(l->wait_ns);
    return l->write ? backend_co_pwrite(l->be, 512, buf, 512, 0) : backend_co_flush(l->be);
}

/*
 * Each request takes 1000 ns. The write ends while the first flush runs, so
 * that one does not cover it, whether the second comes meanwhile or later.
 */
static void coroutine_fn check_flush_covers(int64_t second_ns)
{
    MemdiskOptions o = {.length = 65536, .latency_ns = 1000};
    uint8_t buf[512] = {1};
    CoGroup g = {0};
    Fixture f;
    Late write = {.write = true}, first = {.wait_ns = 500}, second = {.wait_ns = second_ns};

    set_up(&f, &o);
    write.be = first.be = second.be = f.be;
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, 0), ==, 0);
    co_group_spawn(&g, late_request, &write);
    co_group_spawn(&g, late_request, &first);
    co_group_spawn(&g, late_request, &second);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_FLUSH), ==, 2);
    tear_down(&f);
}

static void coroutine_fn test_flush_covers_what_ended_before(void)
{
    check_flush_covers(1200);
    check_flush_covers(5000);
}
VTEST("/io/flush/covers", test_flush_covers_what_ended_before)

static void coroutine_fn test_failed_flush_is_tried_again(void)
{
    MemdiskOptions o = {.length = 65536};
    uint8_t buf[512] = {1};
    Fixture f;

    set_up(&f, &o);
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, 0), ==, 0);
    memdisk_fail_nth(f.disk, MEMDISK_FLUSH, 1, ENOSPC);
    g_assert_cmpint(backend_co_flush(f.be), ==, -ENOSPC);
    g_assert_cmpint(backend_co_flush(f.be), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_FLUSH), ==, 2);
    tear_down(&f);
}
VTEST("/io/flush/again", test_failed_flush_is_tried_again)

static void coroutine_fn test_fua_without_support_flushes(void)
{
    MemdiskOptions o = {.length = 65536};
    uint8_t buf[512] = {1};
    Fixture f;

    set_up(&f, &o);
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, REQ_FUA), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_FLUSH), ==, 1);
    tear_down(&f);
}
VTEST("/io/fua/flush", test_fua_without_support_flushes)

/* --- padding --- */

static void coroutine_fn test_failed_head_read_fails_the_write(void)
{
    MemdiskOptions o = {.length = 65536, .alignment = 512};
    uint8_t buf[100] = {1};
    Fixture f;

    set_up(&f, &o);
    memdisk_fail_nth(f.disk, MEMDISK_READ, 1, EIO);
    g_assert_cmpint(backend_co_pwrite(f.be, 1000, buf, 100, 0), ==, -EIO);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_WRITE), ==, 0);
    tear_down(&f);
}
VTEST("/io/padding/failed-read", test_failed_head_read_fails_the_write)

/* --- serialising --- */

typedef struct Req {
    BlockBackend *be;
    int64_t offset;
    ReqFlags flags;
    int64_t end_ns;
} Req;

static int coroutine_fn read_one(void *opaque)
{
    Req *q = opaque;
    uint8_t buf[4096];
    int r = backend_co_pread(q->be, q->offset, buf, sizeof(buf));

    q->end_ns = loop_now_ns();
    return r;
}

static int coroutine_fn write_one(void *opaque)
{
    Req *q = opaque;
    uint8_t buf[4096] = {1};
    int r = backend_co_pwrite(q->be, q->offset, buf, sizeof(buf), q->flags);

    q->end_ns = loop_now_ns();
    return r;
}

static void coroutine_fn test_serialising_write_waits_for_readers(void)
{
    MemdiskOptions o = {.length = 65536, .latency_ns = 1000};
    Fixture f;
    CoGroup g = {0};
    Req before = {0}, write = {.flags = REQ_SERIALISING}, after = {.offset = 4000},
        beside = {.offset = 8192};

    set_up(&f, &o);
    node_track_requests(f.node, true);
    before.be = write.be = after.be = beside.be = f.be;
    co_group_spawn(&g, read_one, &before);
    co_group_spawn(&g, write_one, &write);
    co_group_spawn(&g, read_one, &after);
    co_group_spawn(&g, read_one, &beside);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpint(write.end_ns, >=, before.end_ns + 1000);
    g_assert_cmpint(after.end_ns, >=, write.end_ns + 1000);
    g_assert_cmpint(beside.end_ns, ==, before.end_ns);
    node_track_requests(f.node, false);
    tear_down(&f);
}
VTEST("/io/serialising/waits", test_serialising_write_waits_for_readers)

static void coroutine_fn test_no_wait_is_busy(void)
{
    MemdiskOptions o = {.length = 65536, .latency_ns = 1000};
    uint8_t buf[512] = {1};
    Fixture f;
    CoGroup g = {0};
    Req read = {0};

    set_up(&f, &o);
    node_track_requests(f.node, true);
    read.be = f.be;
    co_group_spawn(&g, read_one, &read);
    co_reschedule();
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, REQ_SERIALISING | REQ_NO_WAIT), ==,
                    -EBUSY);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpint(backend_co_pwrite(f.be, 0, buf, 512, REQ_SERIALISING | REQ_NO_WAIT), ==, 0);
    node_track_requests(f.node, false);
    tear_down(&f);
}
VTEST("/io/serialising/no-wait", test_no_wait_is_busy)

/* --- fence --- */

/* A write that waits for another one when the fence comes does not reach the disk. */
static void coroutine_fn test_fence_catches_who_waits(void)
{
    MemdiskOptions o = {.length = 65536, .latency_ns = 1000};
    Fixture f;
    CoGroup first = {0}, second = {0};
    Req a = {0}, b = {0};

    set_up(&f, &o);
    f.node->order_writes = true;
    a.be = b.be = f.be;
    co_group_spawn(&first, write_one, &a);
    co_group_spawn(&second, write_one, &b);
    co_reschedule();
    backend_fence(f.be, EPERM);
    g_assert_cmpint(co_group_wait(&first), ==, 0);
    g_assert_cmpint(co_group_wait(&second), ==, -EPERM);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_WRITE), ==, 1);
    tear_down(&f);
}
VTEST("/io/fence/waiting", test_fence_catches_who_waits)

/* --- zeroes --- */

/* Larger units than the area of zeroes, and than a chunk of it. */
static void coroutine_fn test_zeroes_of_large_units(void)
{
    static const uint32_t units[] = {4 * MiB, 32 * MiB};

    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        MemdiskOptions o = {.length = 3 * (int64_t)units[i], .alignment = units[i],
                            .no_zeroes = true};
        int64_t from = units[i] / 2, to = 2 * (int64_t)units[i] + 512;
        uint8_t *bytes;
        Fixture f;

        set_up(&f, &o);
        bytes = memdisk_data(f.disk);
        memset(bytes, 0x55, (size_t)o.length);
        g_assert_cmpint(backend_co_pwrite_zeroes(f.be, from, to - from, 0), ==, 0);
        g_assert_cmphex(bytes[from - 1], ==, 0x55);
        g_assert_true(buf_is_zero(bytes + from, (size_t)(to - from)));
        g_assert_cmphex(bytes[to], ==, 0x55);
        g_assert_cmpint(backend_co_pwrite_zeroes(f.be, 512, 3 * MiB, 0), ==, 0);
        g_assert_true(buf_is_zero(bytes + 512, 3 * MiB));
        tear_down(&f);
    }
}
VTEST("/io/zeroes/large-units", test_zeroes_of_large_units)

/* --- discard --- */

static void coroutine_fn test_unaligned_rest_is_left_alone(void)
{
    MemdiskOptions o = {.length = 65536, .limits = {.pdiscard_alignment = 4096}};
    const MemdiskEntry *log;
    Fixture f;
    size_t n;

    set_up(&f, &o);
    g_assert_cmpint(backend_co_pdiscard(f.be, 100, 4000), ==, 0);
    g_assert_cmpuint(memdisk_log_count(f.disk, MEMDISK_DISCARD), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(f.be, 100, 12288), ==, 0);
    log = memdisk_log(f.disk, &n);
    g_assert_cmpuint(n, ==, 1);
    g_assert_cmpint(log[0].offset, ==, 4096);
    g_assert_cmpint(log[0].bytes, ==, 8192);
    tear_down(&f);
}
VTEST("/io/discard/unaligned", test_unaligned_rest_is_left_alone)

/* --- block status of a chain: a layer over a shorter one --- */

static int coroutine_fn
layer_status(BlockNode *node, bool want_zero, int64_t offset, int64_t bytes, BlockStatus *ret)
{
    bool own = offset < 4096; /* the first 4 KiB are this layer's */

    *ret = (BlockStatus){
        .flags = own ? STATUS_DATA : 0,
        .bytes = own ? MIN(bytes, 4096 - offset) : bytes,
    };
    return 0;
}

static const BlockDriver driver_layer = {
    .name = "test-layer",
    .is_format = true,
    .supports_backing = true,
    .co_block_status = layer_status,
};

static BlockNode *coroutine_fn layer_new(BlockNode *below, int64_t length)
{
    static const NodeFlags flags = {.read_only = true};
    g_autoptr(GError) err = NULL;
    BlockNode *node = node_new_internal(&driver_layer, NULL, &flags, &err);
    GraphTx *tx = graph_tx_new();

    g_assert_no_error(err);
    node->length = length;
    graph_tx_attach(tx, node, "backing", below, CHILD_COW);
    graph_tx_co_commit(tx, &err);
    g_assert_no_error(err);
    return node;
}

static void coroutine_fn test_status_of_a_chain(void)
{
    MemdiskOptions o = {.length = 16384};
    Fixture f;
    BlockNode *top;
    BlockStatus st;
    int64_t bytes;
    int depth;

    set_up(&f, &o);
    memset(memdisk_data(f.disk) + 8192, 1, 8192);
    top = layer_new(f.node, 65536);

    g_assert_cmpint(node_co_block_status_above(top, NULL, true, 0, 65536, &st, &depth), ==, 0);
    g_assert_cmphex(st.flags, ==, STATUS_DATA | STATUS_ALLOCATED);
    g_assert_cmpint(st.bytes, ==, 4096);
    g_assert_cmpint(depth, ==, 0);

    g_assert_cmpint(node_co_block_status_above(top, NULL, true, 4096, 61440, &st, &depth), ==, 0);
    g_assert_cmphex(st.flags, ==, STATUS_ZERO | STATUS_OFFSET_VALID | STATUS_ALLOCATED);
    g_assert_cmpint(st.bytes, ==, 4096);
    g_assert_cmpint(depth, ==, 1);

    g_assert_cmpint(node_co_block_status_above(top, NULL, true, 16384, 49152, &st, &depth), ==, 0);
    g_assert_cmphex(st.flags, ==, STATUS_ZERO | STATUS_ALLOCATED | STATUS_EOF);
    g_assert_cmpint(st.bytes, ==, 49152); /* the lower layer has ended */

    g_assert_cmpint(node_co_block_status_above(top, f.node, true, 4096, 61440, &st, &depth), ==, 0);
    g_assert_false(st.flags & STATUS_ALLOCATED);
    g_assert_cmpint(st.bytes, ==, 61440);
    g_assert_cmpint(node_co_is_allocated_above(top, f.node, false, 4096, 4096, &bytes), ==, 0);
    g_assert_cmpint(node_co_is_allocated_above(top, f.node, true, 8192, 4096, &bytes), ==, 1);
    g_assert_cmpint(bytes, ==, 4096);

    node_co_unref(top);
    tear_down(&f);
}
VTEST("/io/status/chain", test_status_of_a_chain)
