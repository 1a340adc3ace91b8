/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replication at its edges: starts that must fail and leave nothing behind,
 * and operations that meet each other or a silent peer.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/job.h"
#include "block/replication.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (1 * MiB)

/* --- starts that fail --- */

/* Nodes, what they stand on, and their flags. */
static char *
dump_graph(void)
{
    GString *s = g_string_new(NULL);

    for (BlockNode *n = node_first(); n; n = node_next(n)) {
        g_string_append_printf(s, "%s ro=%d auto=%d:", n->node_name, n->flags.read_only,
                               n->flags.auto_read_only);
        for (BlockChild *c = n->first_child; c; c = c->next_sibling) {
            g_string_append_printf(s, " %s=%s/%x/%x", c->name, c->node->node_name, c->perm.taken,
                                   c->perm.shared);
        }
        g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}

/* Twice, for one that leaves something behind fails otherwise, or worse, the second time. */
static void coroutine_fn
start_fails(const char *word, const char *node)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *before = dump_graph(), *after = NULL;
        GError *err = NULL;

        g_assert_false(replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, &err));
        g_assert_nonnull(strstr(err->message, word));
        g_assert_nonnull(strstr(err->message, node));
        g_clear_error(&err);
        after = dump_graph();
        g_assert_cmpstr(before, ==, after);
        g_assert_false(replication_get_error_all(NULL, NULL)); /* not running */
    }
}

static void coroutine_fn
start_works(ReplWorld *w)
{
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_NONE);
    world_co_start(w);
    world_co_peer_write(w, 4096, 8192, 0x22);
    world_co_top_write(w, 0, 512, 0x33);
    world_co_check(w);
    g_assert_true(replication_co_stop_all(NULL, false, NULL));
    world_co_free(w);
}

static void coroutine_fn
test_no_top(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    backend_co_free(w->top);
    start_fails("not found", "s-top");
    w->top = user_co_new("s-top", w->repl, PERM_CONSISTENT_READ | PERM_WRITE);
    start_works(w);
}

static void coroutine_fn
test_top_elsewhere(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    backend_co_free(w->top);
    w->top = user_co_new("s-top", node_find("s-disk"), PERM_CONSISTENT_READ);
    start_fails("not above", "s-top");
    backend_co_free(w->top);
    w->top = user_co_new("s-top", w->repl, PERM_CONSISTENT_READ | PERM_WRITE);
    start_works(w);
}

static void coroutine_fn
test_top_is_not_root(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    BlockNode *above;

    backend_co_free(w->top);
    w->top = user_co_new("s-top", w->repl, PERM_CONSISTENT_READ);
    above = world_co_open("{\"driver\":\"quorum\",\"node-name\":\"q\","
                          "\"vote-threshold\":1,\"children\":[\"s-repl\"]}");
    start_fails("not the root", "s-top");
    node_co_unref(above);
    backend_co_free(w->top);
    w->top = user_co_new("s-top", w->repl, PERM_CONSISTENT_READ | PERM_WRITE);
    start_works(w);
}

static void coroutine_fn
test_nobody_on_the_disk(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    backend_co_free(w->peer);
    start_fails("block backend", "s-disk");
    w->peer = user_co_new(NULL, node_find("s-disk"), PERM_CONSISTENT_READ | PERM_WRITE);
    start_works(w);
}

static void coroutine_fn
resize(BlockBackend *be, int64_t length)
{
    GError *err = NULL;

    backend_co_truncate(be, length, true, BLOCK_PREALLOC_OFF, 0, &err);
    g_assert_no_error(err);
}

static void coroutine_fn
test_lengths_differ(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    backend_co_free(w->peer);
    w->peer = user_co_new(NULL, node_find("s-disk"),
                          PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);
    resize(w->peer, LENGTH + 512);
    start_fails("length", "bytes");
    resize(w->peer, LENGTH);
    backend_co_free(w->peer);
    w->peer = user_co_new(NULL, node_find("s-disk"), PERM_CONSISTENT_READ | PERM_WRITE);
    start_works(w);
}

/* The chain is too short, by one and by two. */
static void coroutine_fn
test_no_backing(void)
{
    Memdisk *d = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *file = memdisk_open(d, "alone", NULL, NULL);
    BlockNode *repl = world_co_open("{\"driver\":\"replication\",\"mode\":\"secondary\","
                                    "\"node-name\":\"r\",\"top-id\":\"r\",\"file\":\"alone\"}");

    start_fails("backing", "alone");
    node_co_unref(repl);
    node_co_unref(file);
    memdisk_free(d);
}

static void coroutine_fn
test_wrong_mode(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    GError *err = NULL;

    g_assert_false(replication_co_start_all(NULL, REPLICATION_MODE_PRIMARY, &err));
    g_assert_nonnull(strstr(err->message, "s-repl"));
    g_clear_error(&err);
    start_works(w);
}

/* Each request of each file fails in turn while the secondary starts. */
static void coroutine_fn
test_disk_errors(void)
{
    for (int which = 0; which < 3; which++) {
        bool failed = true;

        for (uint64_t n = 1; failed; n++) {
            ReplWorld *w = world_co_new("s", LENGTH, 0x11);
            Memdisk *disks[] = {w->active, w->hidden, w->disk};
            g_autofree char *before = dump_graph(), *after = NULL;

            memdisk_fail_nth(disks[which], MEMDISK_ALL, n, EIO);
            failed = !replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, NULL);
            memdisk_heal(disks[which]);
            if (failed) {
                after = dump_graph();
                g_assert_cmpstr(before, ==, after);
                start_works(w);
            } else {
                world_co_free(w);
            }
            g_assert_cmpuint(n, <, 100);
        }
    }
}

/* While a secondary runs, no job of the user may touch what its guest sees. */
static void coroutine_fn
test_no_job_on_top(void)
{
    JobOptions o = {.id = "j"};
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_FULL};
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    Memdisk *other = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *target = memdisk_open(other, "other", NULL, NULL);
    GError *err = NULL;

    world_co_start(w);
    g_assert_null(mirror_co_start(&o, &m, w->repl, target, &err));
    g_assert_nonnull(strstr(err->message, "in use by internal backup job"));
    g_clear_error(&err);
    world_co_top_write(w, 0, 512, 0x33);
    world_co_check(w);
    g_assert_true(replication_co_stop_all(NULL, false, NULL));
    g_assert_nonnull(mirror_co_start(&o, &m, w->repl, target, &err));
    job_co_cancel_all();
    node_co_unref(target);
    memdisk_free(other);
    world_co_free(w);
}

/* Nor what a failover needs, until it is over. */
static void coroutine_fn
test_no_job_in_the_chain(void)
{
    JobOptions o = {.id = "j"};
    ReplWorld *w = world_co_new_in("s", "s", LENGTH, 0x11);
    BlockNode *active = w->repl->file->node, *hidden = active->backing->node;
    BlockNode *nodes[] = {w->quorum, w->repl, active, hidden, hidden->backing->node};
    Memdisk *other = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *target = memdisk_open(other, "other", NULL, NULL);
    GError *err = NULL;

    g_assert_nonnull(backup_none_co_start(&o, nodes[4], target, NULL, NULL));
    g_assert_false(replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, &err));
    g_assert_nonnull(strstr(err->message, "in use by block job: backup"));
    g_clear_error(&err);
    job_co_cancel_all();
    world_co_start(w);
    for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++) {
        g_assert_null(backup_none_co_start(&o, nodes[i], target, NULL, &err));
        g_assert_nonnull(strstr(err->message, "in use by internal backup job"));
        g_clear_error(&err);
    }
    world_co_peer_write(w, 0, 4096, 0x22);
    world_co_top_write(w, 2048, 4096, 0x33);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    world_co_wait_merged(w);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_DONE);
    world_co_check(w);
    g_assert_nonnull(backup_none_co_start(&o, w->quorum, target, NULL, NULL));
    job_co_cancel_all();
    node_co_unref(target);
    memdisk_free(other);
    world_co_free(w);
}

/* --- operations that meet --- */

static int coroutine_fn
write_co_entry(void *opaque)
{
    uint8_t byte = 0x44;

    return backend_co_pwrite(opaque, 0, &byte, 1, 0);
}

/* A promoted secondary with a new peer that is silent: group operations do not wait for it. */
static void coroutine_fn
test_promoted_with_silent_peer(void)
{
    ReplWorld *w = world_co_new_in("s", "s", LENGTH, 0x11);
    Memdisk *far_disk = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *far, *prim;
    CoGroup g = {0};
    int64_t began;
    GError *err = NULL;

    world_co_start(w);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    world_co_wait_merged(w);
    far = memdisk_open(far_disk, "far", NULL, NULL);
    prim = world_co_open("{\"driver\":\"replication\",\"mode\":\"primary\","
                         "\"node-name\":\"prim\",\"file\":\"far\"}");
    w->quorum->drv->co_add_child(w->quorum, prim, &err);
    g_assert_no_error(err);
    g_assert_true(replication_co_start_all(NULL, REPLICATION_MODE_PRIMARY, NULL));
    memdisk_stall(far_disk, true);
    co_group_spawn(&g, write_co_entry, w->top);
    while (memdisk_stalled(far_disk) == 0) {
        co_reschedule();
    }

    began = loop_now_ns();
    g_assert_true(replication_co_checkpoint_all(NULL, NULL));
    g_assert_cmpint(loop_now_ns(), ==, began);

    memdisk_stall(far_disk, false);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    node_co_unref(prim);
    node_co_unref(far);
    world_co_free(w);
    memdisk_free(far_disk);
}

static int coroutine_fn
close_co_entry(void *opaque)
{
    node_co_unref(opaque);
    return 0;
}

/* A primary's filter closes without its peer, and is not there any more for group operations. */
static void coroutine_fn
test_close_meets_operation(void)
{
    Memdisk *far_disk = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *far = memdisk_open(far_disk, "far", NULL, NULL);
    BlockNode *prim = world_co_open("{\"driver\":\"replication\",\"mode\":\"primary\","
                                    "\"node-name\":\"prim\",\"file\":\"far\"}");
    BlockBackend *user = user_co_new(NULL, prim, PERM_WRITE);
    CoGroup g = {0};

    g_assert_true(replication_co_start_all(NULL, REPLICATION_MODE_PRIMARY, NULL));
    g_assert_cmpint(write_co_entry(user), ==, 0); /* so that there is something to flush */
    backend_co_free(user);
    memdisk_stall(far_disk, true);
    co_group_spawn(&g, close_co_entry, prim);
    co_sleep_ns(NS_PER_MS);
    g_assert_cmpuint(memdisk_stalled(far_disk), ==, 0);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_true(replication_co_checkpoint_all(NULL, NULL));
    memdisk_stall(far_disk, false);
    node_co_unref(far);
    memdisk_free(far_disk);
}

static int coroutine_fn
peer_co_entry(void *opaque)
{
    uint8_t byte = 0x44;

    g_assert_cmpint(backend_co_pwrite(opaque, 0, &byte, 1, 0), <, 0);
    return 0;
}

/* A copy that fails while failover begins concerns the old primary only: it is no error. */
static void coroutine_fn
test_copy_fails_in_failover(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);
    CoGroup g = {0};

    world_co_start(w);
    memdisk_set_latency(w->hidden, MEMDISK_WRITE, 5 * NS_PER_MS);
    memdisk_fail_nth(w->hidden, MEMDISK_WRITE, 1, EIO);
    co_group_spawn(&g, peer_co_entry, w->peer);
    co_sleep_ns(NS_PER_MS);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_true(replication_get_error_all(NULL, NULL));
    world_co_wait_merged(w);
    world_co_check(w);
    world_co_free(w);
}

static int coroutine_fn
failover_co_entry(void *opaque)
{
    return replication_co_stop_all(opaque, true, NULL) ? 0 : -EIO;
}

/* A disk that hangs with a write of the old primary: the others of its group are taken over, and
 * other groups do not notice. */
static void coroutine_fn
test_one_disk_hangs(void)
{
    ReplWorld *a = world_co_new_in("g", "a", LENGTH, 0x11);
    ReplWorld *b = world_co_new_in("g", "b", LENGTH, 0x11);
    ReplWorld *other = world_co_new("o", LENGTH, 0x11);
    ReplWorld *all[] = {a, b, other};
    CoGroup g = {0};

    g_assert_true(replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        world_co_top_write(all[i], 4096, 4096, 0x22);
    }
    memdisk_stall(b->disk, true);
    co_group_spawn(&g, write_co_entry, b->peer);
    while (memdisk_stalled(b->disk) == 0) {
        co_reschedule();
    }
    co_group_spawn(&g, failover_co_entry, (void *)"g");
    for (int i = 0; i < 1000 && world_stage(a) != REPLICATION_STAGE_DONE; i++) {
        co_sleep_ns(NS_PER_MS);
    }
    g_assert_cmpint(world_stage(a), ==, REPLICATION_STAGE_DONE);
    g_assert_cmpint(world_stage(b), ==, REPLICATION_STAGE_FAILOVER);
    world_co_checkpoint(other);
    world_co_top_write(other, 0, 4096, 0x33);
    g_assert_true(replication_co_stop_all("o", true, NULL));
    world_co_wait_merged(other);

    memdisk_stall(b->disk, false);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    world_co_wait_merged(b);
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        g_assert_cmpint(world_stage(all[i]), ==, REPLICATION_STAGE_DONE);
        world_co_check(all[i]);
        world_co_free(all[i]);
    }
}

/* What failover has merged survives a power cut right behind it. */
static void coroutine_fn
durable_co_entry(void *opaque)
{
    Choices *c = opaque;
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    world_co_peer_write(w, 0, LENGTH, 0x11);
    g_assert_cmpint(backend_co_flush(w->peer), ==, 0);
    world_co_start(w);
    while (choose_more(c, 4)) {
        int64_t offset = choose_in(c, 0, LENGTH - 1);

        world_co_top_write(w, offset, choose_in(c, 1, LENGTH - offset), choose_in(c, 1, 255));
    }
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    world_co_wait_merged(w);
    memdisk_crash(w->disk, c);
    g_assert_cmpmem(memdisk_data(w->disk), LENGTH, w->view, LENGTH);
    world_co_free(w);
}

static void
prop_failover_is_durable(Choices *c)
{
    vtest_run(durable_co_entry, c, choose_in(c, 0, 100));
}

VTEST("/replication/start/no-top", test_no_top)
VTEST("/replication/start/top-elsewhere", test_top_elsewhere)
VTEST("/replication/start/top-is-not-root", test_top_is_not_root)
VTEST("/replication/start/nobody-on-the-disk", test_nobody_on_the_disk)
VTEST("/replication/start/lengths-differ", test_lengths_differ)
VTEST("/replication/start/no-backing", test_no_backing)
VTEST("/replication/start/wrong-mode", test_wrong_mode)
VTEST("/replication/start/disk-errors", test_disk_errors)
VTEST("/replication/start/no-job-on-top", test_no_job_on_top)
VTEST("/replication/start/no-job-in-the-chain", test_no_job_in_the_chain)
VTEST("/replication/meet/one-disk-hangs", test_one_disk_hangs)
VTEST("/replication/meet/promoted-with-silent-peer", test_promoted_with_silent_peer)
VTEST("/replication/meet/close-meets-operation", test_close_meets_operation)
VTEST("/replication/meet/copy-fails-in-failover", test_copy_fails_in_failover)
PROPERTY("/replication/failover-is-durable", prop_failover_is_durable)
