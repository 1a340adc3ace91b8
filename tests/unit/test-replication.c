/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scenarios that QEMU's users know from its own unit test of replication,
 * with strict comparisons: after a failover the half that only the primary
 * wrote reads as before the checkpoint.
 */
#include <errno.h>
#include <glib.h>

#include "block/backend.h"
#include "block/replication.h"
#include "replworld.h"
#include "user.h"
#include "vtest.h"

#define LENGTH (4 * MiB)
#define HALF   (LENGTH / 2)

/* --- a primary: the filter over a disk that plays the peer --- */

typedef struct Primary {
    Memdisk *disk;
    BlockNode *node;
    BlockBackend *user;
} Primary;

static Primary coroutine_fn
primary_co_new(void)
{
    Primary p = {.disk = memdisk_new(&(MemdiskOptions){.length = LENGTH})};
    GError *err = NULL;
    BlockNode *file = memdisk_open(p.disk, "far", NULL, &err);

    g_assert_no_error(err);
    p.node = world_co_open("{\"driver\":\"replication\",\"mode\":\"primary\","
                           "\"node-name\":\"prim\",\"file\":\"far\"}");
    p.user = user_co_new("primary-id", p.node, PERM_CONSISTENT_READ | PERM_WRITE);
    node_co_unref(file);
    return p;
}

static void coroutine_fn
primary_co_free(Primary *p)
{
    backend_co_free(p->user);
    node_co_unref(p->node);
    memdisk_free(p->disk);
}

static int coroutine_fn
co_write(BlockBackend *be, uint8_t byte)
{
    uint8_t *buf = g_malloc(LENGTH);
    int r;

    memset(buf, byte, LENGTH);
    r = backend_co_pwrite(be, 0, buf, LENGTH, 0);
    g_free(buf);
    return r;
}

static int coroutine_fn
co_read(BlockBackend *be)
{
    uint8_t *buf = g_malloc(LENGTH);
    int r = backend_co_pread(be, 0, buf, LENGTH);

    g_free(buf);
    return r;
}

static void coroutine_fn
co_start(ReplicationMode mode)
{
    GError *err = NULL;

    replication_co_start_all(NULL, mode, &err);
    g_assert_no_error(err);
}

static void coroutine_fn
co_stop(bool failover)
{
    GError *err = NULL;

    replication_co_stop_all(NULL, failover, &err);
    g_assert_no_error(err);
}

static void coroutine_fn
test_primary_read(void)
{
    Primary p = primary_co_new();

    g_assert_cmpint(co_read(p.user), ==, -EIO);
    primary_co_free(&p);
}

static void coroutine_fn
test_primary_write(void)
{
    Primary p = primary_co_new();

    g_assert_cmpint(co_write(p.user, 0x22), ==, -EIO);
    primary_co_free(&p);
}

static void coroutine_fn
test_primary_start(void)
{
    Primary p = primary_co_new();

    co_start(REPLICATION_MODE_PRIMARY);
    g_assert_cmpint(co_read(p.user), ==, -EIO);
    g_assert_cmpint(co_write(p.user, 0x22), ==, 0);
    g_assert_cmphex(memdisk_data(p.disk)[LENGTH - 1], ==, 0x22);
    co_stop(true);
    primary_co_free(&p);
}

static void coroutine_fn
test_primary_stop(void)
{
    Primary p = primary_co_new();

    co_start(REPLICATION_MODE_PRIMARY);
    co_stop(true);
    primary_co_free(&p);
}

static void coroutine_fn
test_primary_do_checkpoint(void)
{
    Primary p = primary_co_new();
    GError *err = NULL;

    co_start(REPLICATION_MODE_PRIMARY);
    replication_co_checkpoint_all(NULL, &err);
    g_assert_no_error(err);
    co_stop(true);
    primary_co_free(&p);
}

static void coroutine_fn
test_primary_get_error_all(void)
{
    Primary p = primary_co_new();
    GError *err = NULL;

    g_assert_false(replication_get_error_all(NULL, NULL));
    co_start(REPLICATION_MODE_PRIMARY);
    replication_get_error_all(NULL, &err);
    g_assert_no_error(err);
    co_stop(true);
    primary_co_free(&p);
}

/* A peer that fails: the guest is not told, everybody else is. */
static void coroutine_fn
test_primary_latches(void)
{
    Primary p = primary_co_new();
    ReplicationInfoArray *a;
    GError *err = NULL;

    co_start(REPLICATION_MODE_PRIMARY);
    memdisk_fail_nth(p.disk, MEMDISK_WRITE, 1, ENOSPC);
    g_assert_cmpint(co_write(p.user, 0x22), ==, 0);
    memdisk_heal(p.disk);
    g_assert_cmpint(co_write(p.user, 0x33), ==, 0);

    g_assert_false(replication_get_error_all(NULL, NULL));
    g_assert_false(replication_co_checkpoint_all(NULL, &err));
    g_assert_nonnull(strstr(err->message, "prim"));
    g_clear_error(&err);
    a = replication_query();
    g_assert_cmpuint(a->n, ==, 1);
    g_assert_cmpint(a->items[0]->error->q_errno, ==, ENOSPC);
    g_assert_cmpint(a->items[0]->error->operation, ==, REPLICATION_OPERATION_WRITE);
    g_assert_cmpint(a->items[0]->error->offset, ==, 0);
    g_assert_cmpuint(a->items[0]->error->missed_bytes, ==, 2 * LENGTH);
    replication_info_array_free(a);
    /* Nothing goes to the peer behind a lost write. */
    g_assert_cmphex(memdisk_data(p.disk)[0], ==, 0);

    co_stop(false);
    primary_co_free(&p);
}

/* A write that the primary's own disk refuses: the guest is told, and that the disks differ. */
static void coroutine_fn
test_primary_own_disk_fails(void)
{
    Memdisk *near = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    Memdisk *far = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    GError *err = NULL;
    BlockNode *near_node = memdisk_open(near, "near", NULL, &err);
    BlockNode *far_node = memdisk_open(far, "far", NULL, &err);
    BlockNode *quorum =
        world_co_open("{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":1,"
                      "\"read-pattern\":\"fifo\",\"children\":[\"near\","
                      "{\"driver\":\"replication\",\"mode\":\"primary\",\"file\":\"far\"}]}");
    BlockBackend *user = user_co_new("u", quorum, PERM_CONSISTENT_READ | PERM_WRITE);

    g_assert_no_error(err);
    co_start(REPLICATION_MODE_PRIMARY);
    memdisk_fail_nth(near, MEMDISK_WRITE, 1, EIO);
    g_assert_cmpint(co_write(user, 0x22), ==, -EIO);
    g_assert_cmphex(memdisk_data(far)[0], ==, 0x22);
    g_assert_false(replication_get_error_all(NULL, NULL));
    g_assert_false(replication_co_checkpoint_all(NULL, NULL));
    co_stop(false);

    backend_co_free(user);
    node_co_unref(quorum);
    node_co_unref(near_node);
    node_co_unref(far_node);
    memdisk_free(near);
    memdisk_free(far);
}

/* --- a secondary --- */

static void coroutine_fn
test_secondary_not_started(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    g_assert_cmpint(co_read(w->top), ==, -EIO);
    g_assert_cmpint(co_write(w->top, 0x22), ==, -EIO);
    world_co_free(w);
}

/* Both halves written from both sides; the common beginning of three scenarios. */
static ReplWorld *coroutine_fn
secondary_co_half_and_half(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    world_co_start(w);
    world_co_check_range(w->top, 0, LENGTH, 0x11);
    world_co_peer_write(w, HALF, HALF, 0x22);
    world_co_check_range(w->top, HALF, HALF, 0x11);
    world_co_top_write(w, 0, HALF, 0x33);
    world_co_check_range(w->top, 0, HALF, 0x33);
    return w;
}

static void coroutine_fn
test_secondary_start(void)
{
    ReplWorld *w = secondary_co_half_and_half();

    co_stop(true);
    world_co_wait_merged(w);
    world_co_free(w);
}

static void coroutine_fn
test_secondary_stop(void)
{
    ReplWorld *w = secondary_co_half_and_half();

    co_stop(true);
    world_co_check_range(w->top, 0, HALF, 0x33);
    world_co_check_range(w->top, HALF, HALF, 0x11);
    world_co_wait_merged(w);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_DONE);
    world_co_check_range(w->top, 0, HALF, 0x33);
    world_co_check_range(w->top, HALF, HALF, 0x11);
    g_assert_cmpmem(memdisk_data(w->disk), LENGTH, w->view, LENGTH);
    world_co_free(w);
}

static void coroutine_fn
test_secondary_continuous(void)
{
    ReplWorld *w = secondary_co_half_and_half();
    GError *err = NULL;

    co_stop(true);
    co_start(REPLICATION_MODE_PRIMARY);
    replication_co_checkpoint_all(NULL, &err);
    g_assert_no_error(err);
    co_stop(true);
    world_co_check(w);
    world_co_wait_merged(w);
    co_start(REPLICATION_MODE_PRIMARY);
    co_stop(true);
    world_co_check(w);
    world_co_free(w);
}

static void coroutine_fn
test_secondary_do_checkpoint(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    world_co_start(w);
    world_co_peer_write(w, HALF, HALF, 0x22);
    world_co_check_range(w->top, HALF, HALF, 0x11);
    world_co_checkpoint(w);
    world_co_check_range(w->top, HALF, HALF, 0x22);
    world_co_check(w);
    co_stop(true);
    world_co_wait_merged(w);
    world_co_free(w);
}

static void coroutine_fn
test_secondary_get_error_all(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    GError *err = NULL;

    g_assert_false(replication_get_error_all(NULL, NULL));
    world_co_start(w);
    replication_get_error_all(NULL, &err);
    g_assert_no_error(err);
    co_stop(true);
    /* A merge that goes well is no error at any moment. */
    replication_get_error_all(NULL, &err);
    g_assert_no_error(err);
    world_co_wait_merged(w);
    world_co_free(w);
}

/* Stop without failover: the disk as the primary left it, and the top writes to it. */
static void coroutine_fn
test_secondary_stop_without_failover(void)
{
    ReplWorld *w = secondary_co_half_and_half();

    co_stop(false);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_DONE);
    world_co_check_range(w->top, 0, HALF, 0x11);
    world_co_check_range(w->top, HALF, HALF, 0x22);
    world_co_top_write(w, 0, 4096, 0x44);
    g_assert_cmphex(memdisk_data(w->disk)[0], ==, 0x44);
    world_co_free(w);
}

/* Every disk of a group moves, or none: the second one cannot start. */
static void coroutine_fn
test_group_start_all_or_none(void)
{
    ReplWorld *a = world_co_new("s", LENGTH, 0x11);
    ReplWorld *b = world_co_new("t", LENGTH, 0x11);
    GError *err = NULL;

    memdisk_fail_range(a->hidden, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_FLUSH, 0, LENGTH, EIO);
    g_assert_false(replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, &err));
    g_assert_nonnull(strstr(err->message, "s-hidden"));
    g_clear_error(&err);
    g_assert_cmpint(world_stage(a), ==, REPLICATION_STAGE_NONE);
    g_assert_cmpint(world_stage(b), ==, REPLICATION_STAGE_NONE);

    memdisk_heal(a->hidden);
    co_start(REPLICATION_MODE_SECONDARY);
    world_co_check(a);
    world_co_check(b);
    co_stop(false);
    world_co_free(a);
    world_co_free(b);
}

/* A copy that fails refuses the primary's write, latches, and refuses the checkpoint; the view
 * stays that of the old epoch. */
static void coroutine_fn
test_copy_error(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    uint8_t buf[4096] = {0x22};
    GError *err = NULL;

    world_co_start(w);
    memdisk_fail_range(w->hidden, MEMDISK_WRITE, 0, INT32_MAX, ENOSPC);
    g_assert_cmpint(backend_co_pwrite(w->peer, 8192, buf, sizeof(buf), 0), ==, -ENOSPC);
    g_assert_cmphex(memdisk_data(w->disk)[8192], ==, 0x11);
    world_co_check(w);
    g_assert_false(replication_get_error_all(NULL, NULL));
    g_assert_false(replication_co_checkpoint_all(NULL, &err));
    g_clear_error(&err);
    memdisk_heal(w->hidden);
    world_co_check(w);
    co_stop(true);
    world_co_wait_merged(w);
    world_co_check(w);
    world_co_free(w);
}

/* Failover whose merge fails from each write on: the view holds, and a retry works. */
static void coroutine_fn
test_failover_retry(void)
{
    for (uint64_t n = 1; n < 100; n++) {
        ReplWorld *w = secondary_co_half_and_half();
        bool failed;

        memdisk_fail_from(w->disk, MEMDISK_WRITE | MEMDISK_ZERO, n, EIO);
        co_stop(true);
        world_co_wait_merged(w);
        failed = world_stage(w) == REPLICATION_STAGE_FAILOVER_FAILED;
        world_co_check(w);
        if (failed) {
            g_assert_false(replication_get_error_all(NULL, NULL));
            memdisk_heal(w->disk);
            world_co_top_write(w, HALF - 4096, 8192, 0x55);
            co_stop(true);
            world_co_wait_merged(w);
        }
        g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_DONE);
        world_co_check(w);
        g_assert_cmpmem(memdisk_data(w->disk), LENGTH, w->view, LENGTH);
        world_co_free(w);
        if (!failed) {
            g_assert_cmpuint(n, >, 1);
            return;
        }
    }
    g_assert_not_reached();
}

/* The old primary may not write any more from the moment failover begins. */
static void coroutine_fn
test_failover_fences(void)
{
    ReplWorld *w = secondary_co_half_and_half();
    uint8_t byte = 0x66;

    co_stop(true);
    g_assert_cmpint(backend_co_pwrite(w->peer, 0, &byte, 1, 0), ==, -EPERM);
    world_co_wait_merged(w);
    g_assert_cmpint(backend_co_pwrite(w->peer, 0, &byte, 1, 0), ==, -EPERM);
    world_co_check(w);
    world_co_free(w);
}

static int coroutine_fn
write_one(BlockBackend *be)
{
    uint8_t byte = 0x66;

    return backend_co_pwrite(be, 0, &byte, 1, 0);
}

/* Nor may who comes while the overlays are merged, nor over an edge that is made then. */
static void coroutine_fn
test_failover_fences_newcomers(void)
{
    ReplWorld *w = secondary_co_half_and_half();
    BlockNode *disk = node_skip_filters(backend_node(w->peer));
    BlockBackend *nobody, *drive, *late;

    co_stop(true);
    nobody = user_co_new(NULL, disk, PERM_WRITE);
    drive = user_co_new("late", disk, PERM_WRITE);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_FAILOVER);
    g_assert_cmpint(write_one(nobody), ==, -EPERM);
    g_assert_cmpint(write_one(drive), ==, -EPERM);
    world_co_wait_merged(w);
    world_co_check(w);
    g_assert_cmpint(write_one(nobody), ==, -EPERM);
    g_assert_cmpint(write_one(drive), ==, 0);
    late = user_co_new(NULL, disk, PERM_WRITE);
    g_assert_cmpint(write_one(late), ==, 0);
    backend_co_free(late);
    backend_co_free(drive);
    backend_co_free(nobody);
    world_co_free(w);
}

/* A failover that failed and is given up leaves no fence to those who come then. */
static void coroutine_fn
test_failed_failover_keeps_the_fence(void)
{
    ReplWorld *w = secondary_co_half_and_half();
    BlockNode *disk = node_skip_filters(backend_node(w->peer));
    BlockBackend *be;

    memdisk_fail_from(w->disk, MEMDISK_WRITE | MEMDISK_ZERO, 1, EIO);
    co_stop(true);
    world_co_wait_merged(w);
    memdisk_heal(w->disk);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_FAILOVER_FAILED);
    be = user_co_new(NULL, disk, PERM_WRITE);
    g_assert_cmpint(write_one(be), ==, -EPERM);
    backend_co_free(be);
    co_stop(true);
    world_co_wait_merged(w);
    world_co_check(w);
    be = user_co_new(NULL, disk, PERM_WRITE);
    g_assert_cmpint(write_one(be), ==, 0);
    backend_co_free(be);
    world_co_free(w);
}

/* The guest writes while its overlays are merged: the view is its own all the time. */
static void coroutine_fn
test_failover_under_writes(void)
{
    ReplWorld *w = secondary_co_half_and_half();
    int merging = 0;

    memdisk_set_latency(w->disk, MEMDISK_WRITE | MEMDISK_FLUSH, NS_PER_MS);
    co_stop(true);
    for (int i = 0; world_stage(w) == REPLICATION_STAGE_FAILOVER; i++) {
        world_co_top_write(w, (i * 77777) % (LENGTH - 10000), 10000 - i % 5000, 0x80 + i % 64);
        world_co_check(w);
        co_sleep_ns(50 * NS_PER_US);
        merging += memdisk_log_count(w->disk, MEMDISK_WRITE) > 0;
    }
    g_assert_cmpint(merging, >, 2);
    world_co_check(w);
    g_assert_cmpmem(memdisk_data(w->disk), LENGTH, w->view, LENGTH);
    world_co_free(w);
}

/* A running secondary that is simply closed. */
static void coroutine_fn
test_close_running(void)
{
    ReplWorld *w = secondary_co_half_and_half();

    world_co_free(w);
}

/* What the overlays hold since the last checkpoint is counted in what they store. */
static void coroutine_fn
test_secondary_query_bytes(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    ReplicationInfoArray *a;

    world_co_start(w);
    world_co_peer_write(w, 100, 1, 0x22);
    world_co_peer_write(w, HALF, 8192, 0x22);
    world_co_top_write(w, 4096, 4096, 0x33);
    a = replication_query();
    g_assert_cmpuint(a->items[0]->hidden_bytes, ==, 3 * 4096);
    g_assert_cmpuint(a->items[0]->active_bytes, ==, 4096);
    replication_info_array_free(a);
    world_co_checkpoint(w);
    a = replication_query();
    g_assert_cmpuint(a->items[0]->hidden_bytes, ==, 0);
    g_assert_cmpuint(a->items[0]->active_bytes, ==, 0);
    g_assert_cmpuint(a->items[0]->epoch, ==, 2);
    replication_info_array_free(a);
    co_stop(false);
    world_co_free(w);
}

VTEST("/replication/secondary/query_bytes", test_secondary_query_bytes)
VTEST("/replication/primary/read", test_primary_read)
VTEST("/replication/primary/write", test_primary_write)
VTEST("/replication/primary/start", test_primary_start)
VTEST("/replication/primary/stop", test_primary_stop)
VTEST("/replication/primary/do_checkpoint", test_primary_do_checkpoint)
VTEST("/replication/primary/get_error_all", test_primary_get_error_all)
VTEST("/replication/primary/latches", test_primary_latches)
VTEST("/replication/primary/own_disk_fails", test_primary_own_disk_fails)
VTEST("/replication/secondary/not_started", test_secondary_not_started)
VTEST("/replication/secondary/start", test_secondary_start)
VTEST("/replication/secondary/stop", test_secondary_stop)
VTEST("/replication/secondary/continuous_replication", test_secondary_continuous)
VTEST("/replication/secondary/do_checkpoint", test_secondary_do_checkpoint)
VTEST("/replication/secondary/get_error_all", test_secondary_get_error_all)
VTEST("/replication/secondary/stop_without_failover", test_secondary_stop_without_failover)
VTEST("/replication/secondary/copy_error", test_copy_error)
VTEST("/replication/secondary/close_running", test_close_running)
VTEST("/replication/group/start_all_or_none", test_group_start_all_or_none)
VTEST("/replication/failover/retry", test_failover_retry)
VTEST("/replication/failover/fences", test_failover_fences)
VTEST("/replication/failover/fences_newcomers", test_failover_fences_newcomers)
VTEST("/replication/failover/failed_one_keeps_the_fence", test_failed_failover_keeps_the_fence)
VTEST_ANY_ORDER("/replication/failover/under_writes", test_failover_under_writes)
