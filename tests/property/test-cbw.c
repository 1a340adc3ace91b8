/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy-before-write alone: writers that overlap, readers of the snapshot, errors
 * of both disks, and epochs.
 *
 * The snapshot (what the target shows over the source) is at every moment the
 * source as it was when the epoch began. What the target stores of it is stored
 * once (C3), before the source changes (C1). A write whose copy failed has not
 * happened (C4), or with break-snapshot has happened and the snapshot is given up.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/cbw.h"
#include "block/driver.h"
#include "memdisk.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (1 * MiB)

typedef struct World {
    Choices *c;
    bool overlay;           /* the target stands on the source; else it is a plain disk */
    bool break_snapshot;
    Memdisk *from, *to;
    BlockNode *source, *target, *cbw;
    BlockBackend *guest;    /* above the filter */
    BlockBackend *reader;   /* of an overlay: sees the snapshot */
    uint8_t snapshot[LENGTH];
    uint8_t model[LENGTH];  /* the source, where it is sure */
    bool unsure[LENGTH];
    uint8_t busy[LENGTH];   /* writers at work on it */
    int target_fault, source_fault;
    unsigned copy_errors, change_errors, failed_writes;
    bool broken;
} World;

static void
heard_error(CbwStep step, int err, int64_t offset, void *opaque)
{
    World *w = opaque;

    g_assert_cmpint(err, ==, step == CBW_COPY ? w->target_fault : w->source_fault);
    g_assert_cmpint(offset, <, LENGTH);
    if (offset >= 0) { /* several may wait for one flush */
        *(step == CBW_COPY ? &w->copy_errors : &w->change_errors) += 1;
    }
    w->broken |= w->break_snapshot && step == CBW_COPY;
}

static BlockNode *coroutine_fn
open_target(World *w)
{
    BlockNode *file, *target;

    if (!w->overlay) {
        w->to = memdisk_new(&(MemdiskOptions){.length = LENGTH, .jitter_ns = 2 * NS_PER_MS});
        return memdisk_open(w->to, "target", NULL, NULL);
    }
    w->to = world_co_make_overlay("target-file", LENGTH);
    memdisk_set_jitter(w->to, choose_in(w->c, 0, 3) * NS_PER_MS);
    file = memdisk_open(w->to, "target-file", NULL, NULL);
    target = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"target\","
                           "\"file\":\"target-file\",\"metadata-policy\":\"scratch\","
                           "\"backing\":\"source\"}");
    node_co_unref(file);
    return target;
}

/* As the jobs do it, or as a user with blockdev-add. */
static void coroutine_fn
open_filter(World *w)
{
    GError *err = NULL;

    w->break_snapshot = choose_in(w->c, 0, 3) == 3;
    if (w->break_snapshot || choose(w->c)) {
        w->cbw = world_co_open("{\"driver\":\"copy-before-write\",\"node-name\":\"cbw\","
                               "\"discard\":\"unmap\",\"on-cbw-error\":\"%s\","
                               "\"file\":\"source\",\"target\":\"target\"}",
                               w->break_snapshot ? "break-snapshot" : "break-guest-write");
        w->guest = user_co_new(NULL, w->cbw, PERM_CONSISTENT_READ | PERM_WRITE);
        return;
    }
    w->guest = user_co_new(NULL, w->source, PERM_CONSISTENT_READ | PERM_WRITE);
    w->cbw = cbw_co_insert(w->source, w->target, &(CbwOptions){0}, &err);
    g_assert_no_error(err);
    g_assert_true(backend_node(w->guest) == w->cbw);
}

static void coroutine_fn
world_open(World *w)
{
    w->from = memdisk_new(&(MemdiskOptions){.length = LENGTH, .jitter_ns = 2 * NS_PER_MS,
                                            .seed = 1});
    for (int64_t i = 0; i < LENGTH; i++) {
        w->model[i] = memdisk_data(w->from)[i] = i < LENGTH / 2 + 512 ? 0 : i / 512 + 1;
    }
    memcpy(w->snapshot, w->model, LENGTH);
    w->source = memdisk_open(w->from, "source", &(NodeFlags){.unmap = true}, NULL);
    w->overlay = choose(w->c);
    w->target = open_target(w);
    open_filter(w);
    w->reader = w->overlay ? user_co_new(NULL, w->target, PERM_CONSISTENT_READ) : NULL;
    cbw_set_error_callback(w->cbw, heard_error, w);
}

static void coroutine_fn
world_close(World *w)
{
    if (w->reader) {
        backend_co_free(w->reader);
    }
    backend_co_free(w->guest);
    node_co_unref(w->cbw);
    node_co_unref(w->target);
    node_co_unref(w->source);
    memdisk_free(w->from);
    memdisk_free(w->to);
}

/* --- everybody at once --- */

static void
begin_change(World *w, int64_t offset, int64_t bytes)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        w->unsure[i] |= w->busy[i] > 0;
        w->busy[i]++;
    }
}

static void
end_change(World *w, int64_t offset, int64_t bytes, uint8_t value, bool sure)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        w->unsure[i] |= !sure || w->busy[i] > 1;
        w->busy[i]--;
        w->model[i] = value;
    }
}

/* C4: it has not happened. */
static void
undo_change(World *w, int64_t offset, int64_t bytes)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        w->busy[i]--;
    }
}

static void coroutine_fn
guest_flush(World *w)
{
    int r = backend_co_flush(w->guest);

    g_assert_true(r == 0 || r == -w->source_fault ||
                  (r == -w->target_fault && !w->break_snapshot));
}

static int coroutine_fn
writer_co_entry(void *opaque)
{
    World *w = opaque;

    for (unsigned n = choose_in(w->c, 1, 6); n > 0; n--) {
        g_autofree uint8_t *buf = g_malloc(LENGTH);
        int64_t most = choose_in(w->c, 0, 3) == 3 ? LENGTH : 40000;
        int64_t offset = choose_in(w->c, 0, LENGTH - 1);
        int64_t bytes = choose_in(w->c, 1, MIN(LENGTH - offset, most));
        unsigned kind = choose_in(w->c, 0, 3);
        uint8_t value = kind <= 1 ? choose_in(w->c, 1, 255) : 0;
        int r;

        if (choose_in(w->c, 0, 4) == 4) {
            guest_flush(w);
        }
        memset(buf, value, bytes);
        begin_change(w, offset, bytes);
        r = kind <= 1   ? backend_co_pwrite(w->guest, offset, buf, bytes, 0)
            : kind == 2 ? backend_co_pwrite_zeroes(w->guest, offset, bytes, 0)
                        : backend_co_pdiscard(w->guest, offset, bytes);
        if (r == 0) {
            end_change(w, offset, bytes, value, kind <= 2);
        } else if (w->source_fault || kind == 3) {
            end_change(w, offset, bytes, value, false);
        } else {
            undo_change(w, offset, bytes);
        }
        w->failed_writes += r < 0;
        g_assert_true(r == 0 || r == -w->source_fault ||
                      (r == -w->target_fault && !w->break_snapshot));
    }
    return 0;
}

static int coroutine_fn
reader_co_entry(void *opaque)
{
    World *w = opaque;

    for (unsigned n = choose_in(w->c, 1, 8); w->reader && n > 0; n--) {
        uint8_t buf[20000];
        int64_t offset = choose_in(w->c, 0, LENGTH - 1);
        int64_t bytes = choose_in(w->c, 1, MIN(LENGTH - offset, (int64_t)sizeof(buf)));

        g_assert_cmpint(backend_co_pread(w->reader, offset, buf, bytes), ==, 0);
        if (!w->broken) {
            g_assert_cmpmem(buf, bytes, w->snapshot + offset, bytes);
        }
    }
    return 0;
}

/* --- when nobody writes --- */

/* C3: what the target was asked to store, and that it was asked once. */
static void
check_copies(World *w)
{
    g_autofree bool *stored = g_new0(bool, LENGTH);
    uint64_t total = 0;
    size_t n;
    const MemdiskEntry *log = memdisk_log(w->to, &n);

    for (size_t i = 0; i < n; i++) {
        if (log[i].kind & (MEMDISK_WRITE | MEMDISK_ZERO)) {
            for (int64_t k = log[i].offset; k < log[i].offset + log[i].bytes; k++) {
                g_assert_false(stored[k]);
                stored[k] = true;
                total++;
            }
        }
    }
    g_assert_cmpuint(total, ==, cbw_copied_bytes(w->cbw));
}

static void coroutine_fn
check(World *w)
{
    const uint8_t *source = memdisk_data(w->from);

    for (int64_t i = 0; i < LENGTH; i++) {
        g_assert_cmpuint(w->busy[i], ==, 0);
        if (!w->unsure[i] && source[i] != w->model[i]) {
            g_error("byte %" G_GINT64_FORMAT " is 0x%02x, not 0x%02x", i, source[i], w->model[i]);
        }
        if (!w->overlay && !w->broken && source[i] != w->snapshot[i]) {
            g_assert_cmphex(memdisk_data(w->to)[i], ==, w->snapshot[i]);
        }
    }
    if (!w->target_fault && !w->source_fault) {
        g_assert_cmpuint(w->copy_errors + w->change_errors + w->failed_writes, ==, 0);
    }
    if (!w->overlay && !w->target_fault) {
        check_copies(w);
    }
    if (!w->break_snapshot) {
        g_assert_cmpuint(w->failed_writes, ==, w->copy_errors + w->change_errors);
    }
    if (w->reader && !w->broken) {
        uint8_t *all = g_malloc(LENGTH);

        g_assert_cmpint(backend_co_pread(w->reader, 0, all, LENGTH), ==, 0);
        g_assert_cmpmem(all, LENGTH, w->snapshot, LENGTH);
        g_free(all);
    }
}

static void coroutine_fn
new_epoch(World *w)
{
    drain_co_begin(w->cbw);
    drain_co_begin(w->target);
    if (w->overlay) {
        w->target->drv->scratch_empty(w->target);
    }
    cbw_new_epoch(w->cbw);
    g_assert_cmpuint(cbw_copied_bytes(w->cbw), ==, 0);
    memcpy(w->snapshot, memdisk_data(w->from), LENGTH);
    memcpy(w->model, w->snapshot, LENGTH);
    memset(w->unsure, 0, sizeof(w->unsure));
    memdisk_log_clear(w->to);
    w->broken = false;
    drain_end(w->target);
    drain_end(w->cbw);
}

static int coroutine_fn
epoch_co_entry(void *opaque)
{
    World *w = opaque;

    co_sleep_ns(choose_in(w->c, 0, 10) * NS_PER_MS);
    new_epoch(w);
    return 0;
}

static void
arm_faults(World *w)
{
    static const unsigned changes = MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_FLUSH;
    static const int errors[] = {EIO, ENOSPC};

    memdisk_heal(w->from);
    memdisk_heal(w->to);
    w->copy_errors = w->change_errors = w->failed_writes = 0;
    w->target_fault = choose_in(w->c, 0, 2) == 2 ? errors[choose_in(w->c, 0, 1)] : 0;
    w->source_fault = choose_in(w->c, 0, 2) == 2 ? ENXIO : 0;
    if (w->target_fault) {
        memdisk_fail_nth(w->to, changes, choose_in(w->c, 1, 8), w->target_fault);
    }
    if (w->source_fault) {
        memdisk_fail_nth(w->from, changes, choose_in(w->c, 1, 8), w->source_fault);
    }
}

static void coroutine_fn
cbw_co_entry(void *opaque)
{
    World *w = opaque;

    world_open(w);
    memdisk_log_clear(w->to);
    while (choose_more(w->c, 3)) {
        CoGroup g = {0};

        for (unsigned n = choose_in(w->c, 1, 4); n > 0; n--) {
            co_group_spawn(&g, writer_co_entry, w);
        }
        for (unsigned n = choose_in(w->c, 0, 3); n > 0; n--) {
            co_group_spawn(&g, reader_co_entry, w);
        }
        if (choose(w->c)) {
            co_group_spawn(&g, epoch_co_entry, w);
        }
        g_assert_cmpint(co_group_wait(&g), ==, 0);
        check(w);
        new_epoch(w);
        arm_faults(w);
    }
    world_close(w);
}

static void
prop_cbw(Choices *c)
{
    g_autofree World *w = g_new0(World, 1);

    w->c = c;
    vtest_run(cbw_co_entry, w, choose_in(c, 0, 100));
}

PROPERTY("/cbw/the-snapshot-stands", prop_cbw)

/*
 * A copy by the system from the snapshot to above the filter: what the filter does before the
 * write would wait for readers of the snapshot, and so for the copy itself. Nor may the snapshot
 * be copied from without its knowledge.
 */
static void coroutine_fn
test_offload_leaves_the_filter_alone(void)
{
    Memdisk *from = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    Memdisk *to = world_co_make_overlay("target-file", LENGTH);
    Memdisk *other = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    BlockNode *nodes[] = {
        memdisk_open(from, "source", NULL, NULL),
        memdisk_open(to, "target-file", NULL, NULL),
        memdisk_open(other, "other", NULL, NULL),
        world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"target\",\"file\":\"target-file\","
                      "\"backing\":\"source\"}"),
        world_co_open("{\"driver\":\"raw\",\"node-name\":\"above-filter\",\"file\":{"
                      "\"driver\":\"copy-before-write\",\"file\":\"source\","
                      "\"target\":\"target\"}}"),
        world_co_open("{\"driver\":\"raw\",\"node-name\":\"above-target\",\"file\":\"target\"}"),
    };
    const Perm perm = PERM_CONSISTENT_READ | PERM_WRITE;
    BlockBackend *plain = user_co_new(NULL, nodes[2], perm);
    BlockBackend *snapshot = user_co_new(NULL, nodes[3], perm);
    BlockBackend *guest = user_co_new(NULL, nodes[4], perm);
    BlockBackend *reader = user_co_new(NULL, nodes[5], perm);

    g_assert_cmpint(backend_co_pwrite_zeroes(snapshot, 0, LENGTH, 0), ==, 0);
    g_assert_cmpint(child_co_copy_range(backend_root(snapshot), 0, backend_root(plain), 0, LENGTH,
                                        0), ==, 0);
    g_assert_cmpint(child_co_copy_range(backend_root(snapshot), 0, backend_root(guest), 0, LENGTH,
                                        0), ==, -ENOTSUP);
    g_assert_cmpint(child_co_copy_range(backend_root(reader), 0, backend_root(plain), 0, LENGTH,
                                        0), ==, -ENOTSUP);
    backend_co_free(plain);
    backend_co_free(snapshot);
    backend_co_free(guest);
    backend_co_free(reader);
    for (size_t i = G_N_ELEMENTS(nodes); i > 0; i--) {
        node_co_unref(nodes[i - 1]);
    }
    memdisk_free(from);
    memdisk_free(to);
    memdisk_free(other);
}

VTEST("/cbw/offload", test_offload_leaves_the_filter_alone)
