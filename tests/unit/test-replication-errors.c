/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seven classes of failure of a replicated disk. For each: who is told (the
 * guest, the peer, the manager by event, query and status), that a checkpoint is
 * refused where the disks may differ, and what goes on.
 *
 *  1 the primary's own disk      own-disk-*
 *  2 forwarding                  forward-*
 *  3 saving old content          copy-*
 *  4 the secondary's disk        secondary-disk-*
 *  5 the active overlay          active-*
 *  6 emptying                    start-*, checkpoint-*
 *  7 failover                    merge-*
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/graph.h"
#include "block/job.h"
#include "block/replication.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (1 * MiB)

/* --- what the manager is told --- */

static GString *told;

static const char *
text_of(json_t *data, const char *key)
{
    return json_string_value(json_object_get(data, key));
}

static void
hear(const char *name, json_t *data, void *opaque)
{
    (void)opaque;
    if (strcmp(name, "REPLICATION_ERROR") == 0) {
        json_t *offset = json_object_get(data, "offset");

        g_string_append_printf(told, "%s %s %d at %d; ", text_of(data, "node-name"),
                               text_of(data, "operation"),
                               (int)json_integer_value(json_object_get(data, "errno")),
                               offset ? (int)json_integer_value(offset) : -1);
    } else if (strcmp(name, "REPLICATION_STAGE_CHANGE") == 0) {
        g_string_append_printf(told, "%s %s; ", text_of(data, "node-name"),
                               text_of(data, "stage"));
    }
}

static void
listen(void)
{
    told = g_string_new(NULL);
    event_sink_add(hear, NULL);
}

static void
stop_listening(void)
{
    event_sink_remove(hear, NULL);
    g_string_free(told, TRUE);
}

static void
expect_told(const char *want)
{
    g_assert_cmpstr(told->str, ==, want);
    g_string_truncate(told, 0);
}

/* Query and status agree: an error of @op, or none (op REPLICATION_OPERATION__MAX). */
static void
expect_latched(const char *node, ReplicationOperation op, int err)
{
    ReplicationInfoArray *a = replication_query();
    bool found = false;

    for (size_t i = 0; i < a->n; i++) {
        const ReplicationErrorInfo *e = a->items[i]->error;

        if (g_str_equal(a->items[i]->node_name, node)) {
            found = true;
            g_assert_true(!e == (op == REPLICATION_OPERATION__MAX));
            g_assert_true(!e || (e->operation == op && e->q_errno == err));
        }
    }
    g_assert_true(found);
    replication_info_array_free(a);
    g_assert_true(replication_get_error_all(NULL, NULL) == (op == REPLICATION_OPERATION__MAX));
}

static void coroutine_fn
expect_checkpoint(bool works)
{
    GError *err = NULL;

    g_assert_true(replication_co_checkpoint_all(NULL, &err) == works);
    g_assert_true(!err == works);
    g_clear_error(&err);
}

/* --- a primary with its own disk and a far one --- */

typedef struct Primary {
    Memdisk *near, *far;
    BlockNode *quorum;
    BlockBackend *guest;
} Primary;

static Primary coroutine_fn
primary_open(void)
{
    static const NodeFlags unmap = {.unmap = true};
    MemdiskOptions o = {.length = LENGTH};
    Primary p = {.near = memdisk_new(&o), .far = memdisk_new(&o)};
    BlockNode *near = memdisk_open(p.near, "near", &unmap, NULL);
    BlockNode *far = memdisk_open(p.far, "far", &unmap, NULL);

    p.quorum = world_co_open("{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":1,"
                             "\"read-pattern\":\"fifo\",\"discard\":\"unmap\","
                             "\"children\":[\"near\",{\"driver\":\"replication\",\"mode\":"
                             "\"primary\",\"node-name\":\"prim\",\"file\":\"far\"}]}");
    p.guest = user_co_new(NULL, p.quorum, PERM_CONSISTENT_READ | PERM_WRITE);
    node_co_unref(near);
    node_co_unref(far);
    g_assert_true(replication_co_start_all(NULL, REPLICATION_MODE_PRIMARY, NULL));
    listen();
    return p;
}

static void coroutine_fn
primary_close(Primary *p)
{
    stop_listening();
    backend_co_free(p->guest);
    node_co_unref(p->quorum);
    memdisk_free(p->near);
    memdisk_free(p->far);
}

typedef enum Kind { KIND_WRITE, KIND_ZEROES, KIND_DISCARD, KIND_FLUSH, KIND_READ } Kind;

static int coroutine_fn
request(BlockBackend *be, Kind kind, int64_t offset)
{
    uint8_t buf[4096] = {0x22};

    switch (kind) {
    case KIND_WRITE:
        return backend_co_pwrite(be, offset, buf, sizeof(buf), 0);
    case KIND_ZEROES:
        return backend_co_pwrite_zeroes(be, offset, sizeof(buf), 0);
    case KIND_DISCARD:
        return backend_co_pdiscard(be, offset, sizeof(buf));
    case KIND_FLUSH:
        return backend_co_flush(be);
    case KIND_READ:
        return backend_co_pread(be, offset, buf, sizeof(buf));
    }
    g_assert_not_reached();
}

/* 1: the guest has the error; the peer may have the write, so the disks differ. */
static void coroutine_fn
own_disk_refuses(Kind kind, unsigned kinds)
{
    Primary p = primary_open();

    memdisk_fail_nth(p.near, kinds, 1, ENOSPC);
    g_assert_cmpint(request(p.guest, kind, 8192), ==, -ENOSPC);
    expect_told("prim disk 28 at 8192; ");
    expect_latched("prim", REPLICATION_OPERATION_DISK, ENOSPC);
    expect_checkpoint(false);
    g_assert_cmpint(request(p.guest, KIND_WRITE, 0), ==, 0);
    primary_close(&p);
}

static void coroutine_fn
test_own_disk_write(void)
{
    own_disk_refuses(KIND_WRITE, MEMDISK_WRITE);
}

static void coroutine_fn
test_own_disk_zeroes(void)
{
    own_disk_refuses(KIND_ZEROES, MEMDISK_ZERO);
}

/* What cannot be read here is not asked of the peer; both disks are as they were. */
static void coroutine_fn
test_own_disk_read(void)
{
    Primary p = primary_open();

    memdisk_fail_nth(p.near, MEMDISK_READ, 1, EIO);
    g_assert_cmpint(request(p.guest, KIND_READ, 0), ==, -EIO);
    g_assert_cmpuint(memdisk_log_count(p.far, MEMDISK_READ), ==, 0);
    expect_told("");
    expect_latched("prim", REPLICATION_OPERATION__MAX, 0);
    expect_checkpoint(true);
    primary_close(&p);
}

/* A flush that fails may have lost what was written before: the peer has that. */
static void coroutine_fn
test_own_disk_flush(void)
{
    Primary p = primary_open();

    g_assert_cmpint(request(p.guest, KIND_WRITE, 0), ==, 0);
    memdisk_fail_nth(p.near, MEMDISK_FLUSH, 1, EIO);
    g_assert_cmpint(request(p.guest, KIND_FLUSH, 0), ==, -EIO);
    expect_told("prim disk 5 at -1; ");
    expect_latched("prim", REPLICATION_OPERATION_DISK, EIO);
    expect_checkpoint(false);
    primary_close(&p);
}

/* 2: the guest notices nothing, the manager at once; nothing is sent behind the hole. */
static void coroutine_fn
forward_fails(Kind kind, unsigned kinds, const char *words, ReplicationOperation op)
{
    Primary p = primary_open();

    g_assert_cmpint(request(p.guest, KIND_WRITE, 0), ==, 0);
    memdisk_fail_nth(p.far, kinds, 1, EIO);
    g_assert_cmpint(request(p.guest, kind, 8192), ==, 0);
    expect_told(words);
    expect_latched("prim", op, EIO);
    expect_checkpoint(false);
    memdisk_log_clear(p.far);
    g_assert_cmpint(request(p.guest, KIND_WRITE, 0), ==, 0);
    g_assert_cmpint(request(p.guest, KIND_FLUSH, 0), ==, 0);
    g_assert_cmpuint(memdisk_log_count(p.far, MEMDISK_ALL), ==, 0);
    expect_told("");
    primary_close(&p);
}

static void coroutine_fn
test_forward_write(void)
{
    forward_fails(KIND_WRITE, MEMDISK_WRITE, "prim write 5 at 8192; ",
                  REPLICATION_OPERATION_WRITE);
}

static void coroutine_fn
test_forward_zeroes(void)
{
    forward_fails(KIND_ZEROES, MEMDISK_ZERO, "prim write 5 at 8192; ",
                  REPLICATION_OPERATION_WRITE);
}

static void coroutine_fn
test_forward_discard(void)
{
    forward_fails(KIND_DISCARD, MEMDISK_DISCARD, "prim discard 5 at 8192; ",
                  REPLICATION_OPERATION_DISCARD);
}

static void coroutine_fn
test_forward_flush(void)
{
    forward_fails(KIND_FLUSH, MEMDISK_FLUSH, "prim flush 5 at -1; ", REPLICATION_OPERATION_FLUSH);
}

/* --- a secondary --- */

static ReplWorld *coroutine_fn
secondary_open(void)
{
    ReplWorld *w = world_co_new("s", LENGTH, 0x11);

    world_co_start(w);
    listen();
    return w;
}

static void coroutine_fn
take_over(ReplWorld *w)
{
    memdisk_heal(w->disk);
    memdisk_heal(w->hidden);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    world_co_wait_merged(w);
    expect_told("s-repl failover; s-repl done; ");
    expect_latched("s-repl", REPLICATION_OPERATION__MAX, 0);
    world_co_check(w);
    g_assert_cmpmem(memdisk_data(w->disk), LENGTH, w->view, LENGTH);
}

static void coroutine_fn
secondary_close(ReplWorld *w)
{
    stop_listening();
    world_co_free(w);
}

/* 3, 4: the primary is refused, both managers hear of it, the view stands and can take over. */
static void coroutine_fn
peer_is_refused(ReplWorld *w, Kind kind, const char *words, ReplicationOperation op)
{
    g_assert_cmpint(request(w->peer, kind, 8192), ==, -EIO);
    expect_told(words);
    expect_latched("s-repl", op, EIO);
    world_co_check(w);
    expect_checkpoint(false);
    world_co_top_write(w, 0, 100, 0x33);
    world_co_check(w);
    take_over(w);
    secondary_close(w);
}

static void coroutine_fn
test_copy_write(void)
{
    ReplWorld *w = secondary_open();

    memdisk_fail_nth(w->hidden, MEMDISK_WRITE, 1, EIO);
    peer_is_refused(w, KIND_WRITE, "s-repl copy 5 at 8192; ", REPLICATION_OPERATION_COPY);
}

/* The old content cannot be read: it cannot be saved. */
static void coroutine_fn
test_copy_read(void)
{
    ReplWorld *w = secondary_open();

    memdisk_fail_nth(w->disk, MEMDISK_READ, 1, EIO);
    peer_is_refused(w, KIND_ZEROES, "s-repl copy 5 at 8192; ", REPLICATION_OPERATION_COPY);
}

static void coroutine_fn
test_secondary_disk_write(void)
{
    ReplWorld *w = secondary_open();

    memdisk_fail_nth(w->disk, MEMDISK_WRITE, 1, EIO);
    peer_is_refused(w, KIND_WRITE, "s-repl disk 5 at 8192; ", REPLICATION_OPERATION_DISK);
}

static void coroutine_fn
test_secondary_disk_discard(void)
{
    ReplWorld *w = secondary_open();

    memdisk_fail_nth(w->disk, MEMDISK_DISCARD, 1, EIO);
    peer_is_refused(w, KIND_DISCARD, "s-repl disk 5 at 8192; ", REPLICATION_OPERATION_DISK);
}

/* A disk whose flush failed may have lost what the primary wrote before. */
static void coroutine_fn
test_secondary_disk_flush(void)
{
    ReplWorld *w = secondary_open();

    world_co_peer_write(w, 0, 4096, 0x22);
    memdisk_fail_nth(w->disk, MEMDISK_FLUSH, 1, EIO);
    peer_is_refused(w, KIND_FLUSH, "s-repl disk 5 at -1; ", REPLICATION_OPERATION_DISK);
}

/* 5: it is the guest's error and nobody else's. */
static void coroutine_fn
active_fails(Kind kind, unsigned kinds)
{
    ReplWorld *w = secondary_open();

    world_co_top_write(w, 8192, 4096, 0x33);
    memdisk_fail_nth(w->active, kinds, 1, EIO);
    g_assert_cmpint(request(w->top, kind, 8192), ==, -EIO);
    memdisk_heal(w->active);
    expect_told("");
    expect_latched("s-repl", REPLICATION_OPERATION__MAX, 0);
    world_co_peer_write(w, 0, 4096, 0x22);
    world_co_checkpoint(w);
    world_co_check(w);
    take_over(w);
    secondary_close(w);
}

static void coroutine_fn
test_active_read(void)
{
    active_fails(KIND_READ, MEMDISK_READ);
}

static void coroutine_fn
test_active_write(void)
{
    active_fails(KIND_WRITE, MEMDISK_WRITE);
}

/* --- 6: an epoch that does not begin --- */

/* A format with a backing image that cannot be emptied. */
static const BlockDriver driver_stubborn = {
    .name = "stubborn",
    .is_format = true,
    .supports_backing = true,
};

static void coroutine_fn
link_backing(BlockNode *node, BlockNode *below)
{
    GraphTx *tx = graph_tx_new();
    GError *err = NULL;

    graph_tx_attach(tx, node, "backing", below, CHILD_COW);
    graph_tx_co_commit(tx, &err);
    g_assert_no_error(err);
}

static void coroutine_fn
test_start_cannot_be_emptied(void)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    Memdisk *active = world_co_make_overlay("a-file", LENGTH);
    BlockNode *bottom = memdisk_open(disk, "bottom", NULL, NULL);
    BlockNode *file = memdisk_open(active, "a-file", NULL, NULL);
    BlockNode *hidden = node_new_internal(&driver_stubborn, "hidden", &bottom->flags, NULL);
    BlockBackend *peer = user_co_new(NULL, bottom, PERM_CONSISTENT_READ | PERM_WRITE), *top;
    BlockNode *repl;

    hidden->length = LENGTH;
    link_backing(hidden, bottom);
    repl = world_co_open("{\"driver\":\"replication\",\"mode\":\"secondary\",\"node-name\":\"r\","
                         "\"top-id\":\"r\",\"file\":{\"driver\":\"qcow2\",\"node-name\":\"active\","
                         "\"file\":\"a-file\",\"backing\":\"hidden\"}}");
    top = user_co_new(NULL, repl, PERM_CONSISTENT_READ | PERM_WRITE);
    for (int i = 0; i < 2; i++) {
        g_autoptr(GError) err = NULL;

        g_assert_false(replication_co_start_all(NULL, REPLICATION_MODE_SECONDARY, &err));
        g_assert_cmpstr(err->message, ==,
                        "Hidden disk 'hidden' (driver 'stubborn') cannot be emptied");
        g_assert_cmpint(request(top, KIND_READ, 0), ==, -EIO);
    }
    backend_co_free(top);
    node_co_unref(repl);
    node_co_unref(hidden);
    backend_co_free(peer);
    node_co_unref(bottom);
    node_co_unref(file);
    memdisk_free(active);
    memdisk_free(disk);
}

typedef struct Group {
    ReplWorld *a, *b;
} Group;

static Group coroutine_fn
group_open(void)
{
    Group g = {world_co_new_in("g", "s", LENGTH, 0x11), world_co_new_in("g", "t", LENGTH, 0x11)};

    g_assert_true(replication_co_start_all("g", REPLICATION_MODE_SECONDARY, NULL));
    world_co_peer_write(g.a, 4096, 8192, 0x22);
    world_co_peer_write(g.b, 0, 8192, 0x33);
    world_co_top_write(g.a, 0, 4096, 0x44);
    listen();
    return g;
}

/* All of the group are in the epoch they were in, and say so. */
static void coroutine_fn
expect_old_epoch(const Group *g)
{
    ReplicationInfoArray *a = replication_query();

    for (size_t i = 0; i < a->n; i++) {
        g_assert_cmpint(a->items[i]->epoch, ==, 1);
        g_assert_cmpint(a->items[i]->stage, ==, REPLICATION_STAGE_RUNNING);
    }
    replication_info_array_free(a);
    world_co_check(g->a);
    world_co_check(g->b);
}

static void coroutine_fn
group_close(Group *g)
{
    stop_listening();
    memdisk_heal(g->a->hidden);
    memdisk_heal(g->b->hidden);
    g_assert_true(replication_co_stop_all("g", true, NULL));
    world_co_wait_merged(g->a);
    world_co_wait_merged(g->b);
    world_co_check(g->a);
    world_co_check(g->b);
    world_co_free(g->a);
    world_co_free(g->b);
}

/* One has missed a write before. */
static void coroutine_fn
test_checkpoint_after_error(void)
{
    Group g = group_open();
    GError *err = NULL;

    memdisk_fail_nth(g.b->hidden, MEMDISK_WRITE, 1, EIO);
    g_assert_cmpint(request(g.b->peer, KIND_WRITE, 65536), ==, -EIO);
    expect_told("t-repl copy 5 at 65536; ");
    g_assert_false(replication_co_checkpoint_all("g", &err));
    g_assert_nonnull(strstr(err->message, "t-repl"));
    g_clear_error(&err);
    expect_told("");
    expect_old_epoch(&g);
    group_close(&g);
}

static int coroutine_fn
late_write_co_entry(void *opaque)
{
    ReplWorld *w = opaque;

    g_assert_cmpint(request(w->peer, KIND_WRITE, 65536), ==, -EIO);
    return 0;
}

/* One misses a write that was admitted before the gates closed, while the rest is ready. */
static void coroutine_fn
test_checkpoint_meets_error(void)
{
    Group g = group_open();
    CoGroup group = {0};

    memdisk_set_latency(g.b->hidden, MEMDISK_WRITE, 5 * NS_PER_MS);
    memdisk_fail_nth(g.b->hidden, MEMDISK_WRITE, 1, EIO);
    co_group_spawn(&group, late_write_co_entry, g.b);
    co_sleep_ns(NS_PER_MS);
    expect_told("");
    expect_checkpoint(false); /* returns after the write's end */
    expect_told("t-repl copy 5 at 65536; ");
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    expect_old_epoch(&g);
    group_close(&g);
}

/* One has been stopped alone. */
static void coroutine_fn
test_checkpoint_not_started(void)
{
    Group g = group_open();
    ReplWorld *late = world_co_new_in("g", "u", LENGTH, 0x11);
    g_autofree uint8_t *view = g_memdup2(g.a->view, LENGTH);

    expect_checkpoint(false);
    world_co_check(g.a);
    world_co_check(g.b);
    world_co_free(late);
    expect_checkpoint(true);
    memcpy(g.a->view, g.a->disk_model, LENGTH);
    memcpy(g.b->view, g.b->disk_model, LENGTH);
    g_assert_cmpint(memcmp(view, g.a->view, LENGTH), !=, 0);
    group_close(&g);
}

/* --- 7: a failover that fails --- */

static void coroutine_fn
test_merge_fails(void)
{
    ReplWorld *w = secondary_open();

    world_co_peer_write(w, 4096, 8192, 0x22);
    world_co_top_write(w, 65536, 4096, 0x33);
    memdisk_fail_nth(w->disk, MEMDISK_WRITE | MEMDISK_ZERO, 1, EIO);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    expect_latched("s-repl", REPLICATION_OPERATION__MAX, 0); /* under way is no error */
    world_co_wait_merged(w);
    expect_told("s-repl failover; s-repl failover 5 at -1; s-repl failover-failed; ");
    expect_latched("s-repl", REPLICATION_OPERATION_FAILOVER, EIO);
    world_co_check(w);
    world_co_top_write(w, 0, 4096, 0x55);
    world_co_check(w);
    g_assert_cmpint(request(w->top, KIND_FLUSH, 0), ==, -EIO);
    take_over(w);
    g_assert_cmpint(request(w->top, KIND_FLUSH, 0), ==, 0);
    secondary_close(w);
}

static int coroutine_fn
flush_co_entry(void *opaque)
{
    g_assert_cmpint(request(((ReplWorld *)opaque)->top, KIND_FLUSH, 0), ==, -EIO);
    return 0;
}

/* The program ends while a flush of the guest finishes a long merge: it does not wait for that. */
static void coroutine_fn
test_merge_is_cancelled(void)
{
    ReplWorld *w = secondary_open();
    CoGroup group = {0};
    int64_t began;

    for (int64_t at = 0; at < LENGTH; at += 8192) {
        world_co_top_write(w, at, 4096, 0x33);
    }
    memdisk_set_latency(w->disk, MEMDISK_WRITE, 10 * NS_PER_MS);
    g_assert_true(replication_co_stop_all(NULL, true, NULL));
    co_group_spawn(&group, flush_co_entry, w);
    co_sleep_ns(5 * NS_PER_MS);
    began = loop_now_ns();
    job_co_cancel_all();
    g_assert_cmpint(loop_now_ns() - began, <, 50 * NS_PER_MS);
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    g_assert_cmpint(world_stage(w), ==, REPLICATION_STAGE_FAILOVER_FAILED);
    world_co_check(w);
    secondary_close(w);
}

VTEST("/replication/errors/own-disk-write", test_own_disk_write)
VTEST("/replication/errors/own-disk-zeroes", test_own_disk_zeroes)
VTEST("/replication/errors/own-disk-read", test_own_disk_read)
VTEST("/replication/errors/own-disk-flush", test_own_disk_flush)
VTEST("/replication/errors/forward-write", test_forward_write)
VTEST("/replication/errors/forward-zeroes", test_forward_zeroes)
VTEST("/replication/errors/forward-discard", test_forward_discard)
VTEST("/replication/errors/forward-flush", test_forward_flush)
VTEST("/replication/errors/copy-write", test_copy_write)
VTEST("/replication/errors/copy-read", test_copy_read)
VTEST("/replication/errors/secondary-disk-write", test_secondary_disk_write)
VTEST("/replication/errors/secondary-disk-discard", test_secondary_disk_discard)
VTEST("/replication/errors/secondary-disk-flush", test_secondary_disk_flush)
VTEST("/replication/errors/active-read", test_active_read)
VTEST("/replication/errors/active-write", test_active_write)
VTEST("/replication/errors/start-cannot-be-emptied", test_start_cannot_be_emptied)
VTEST("/replication/errors/checkpoint-after-error", test_checkpoint_after_error)
VTEST("/replication/errors/checkpoint-meets-error", test_checkpoint_meets_error)
VTEST("/replication/errors/checkpoint-not-started", test_checkpoint_not_started)
VTEST("/replication/errors/merge-fails", test_merge_fails)
VTEST("/replication/errors/merge-is-cancelled", test_merge_is_cancelled)
