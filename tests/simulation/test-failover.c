/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The survivor loses power while its failover merges.
 *
 * Its guest writes, discards and flushes meanwhile, and somebody drains the
 * chain now and then. What a flush or a FUA write has acknowledged is on the
 * disk after the power cut, and so is all that the guest could see before: the
 * disk alone reads as the view of that moment, or newer. A flush ends, whoever
 * drains; and it is never acknowledged when the merge has failed.
 */
#include <errno.h>
#include <string.h>

#include "block/replication.h"
#include "history.h"
#include "memdisk.h"
#include "replworld.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (512 * KiB)

typedef struct Run {
    Choices *c;
    ReplWorld *w;
    History *history;
    uint64_t durable;   /* tick when the last flush began that was acknowledged; 0: none */
    bool has_power;
    bool may_fail;
    unsigned flushes;
} Run;

static void
acknowledged(Run *run, uint64_t began)
{
    run->durable = MAX(run->durable, began);
    run->flushes++;
}

static void coroutine_fn
guest_flush(Run *run)
{
    uint64_t began = history_now(run->history);
    int r = backend_co_flush(run->w->top);

    if (r == 0 && run->has_power) {
        acknowledged(run, began);
    } else if (r < 0) {
        g_assert_true(!run->has_power || run->may_fail);
    }
}

static void coroutine_fn
guest_change(Run *run)
{
    uint8_t buf[20000];
    int64_t offset = choose_in(run->c, 0, LENGTH - 1);
    int64_t bytes = choose_in(run->c, 1, MIN(LENGTH - offset, (int64_t)sizeof(buf)));
    unsigned kind = choose_in(run->c, 0, 3);
    uint8_t value = kind <= 1 ? choose_in(run->c, 1, 255) : 0;
    uint64_t before = history_now(run->history);
    HistoryOp *op = history_begin(run->history, offset, bytes, value);
    int r;

    memset(buf, value, bytes);
    switch (kind) {
    case 0:
        r = backend_co_pwrite(run->w->top, offset, buf, bytes, 0);
        break;
    case 1:
        r = backend_co_pwrite(run->w->top, offset, buf, bytes, REQ_FUA);
        break;
    case 2:
        r = backend_co_pwrite_zeroes(run->w->top, offset, bytes, choose(run->c) ? REQ_FUA : 0);
        break;
    default:
        r = backend_co_pdiscard(run->w->top, offset, bytes);
    }
    history_end(run->history, op, r == 0 && kind != 3);
    if (r == 0 && kind == 1 && run->has_power) {
        acknowledged(run, before);
    }
    g_assert_true(r == 0 || !run->has_power || run->may_fail);
}

static int coroutine_fn
guest_co_entry(void *opaque)
{
    Run *run = opaque;

    for (unsigned n = choose_in(run->c, 1, 6); n > 0 && run->has_power; n--) {
        if (choose_in(run->c, 0, 2) == 0) {
            guest_flush(run);
        } else {
            guest_change(run);
        }
        co_sleep_ns(choose_in(run->c, 0, 3) * NS_PER_MS);
    }
    return 0;
}

static int coroutine_fn
drain_co_entry(void *opaque)
{
    Run *run = opaque;

    while (choose_more(run->c, 2)) {
        BlockNode *node = choose(run->c) ? run->w->repl : backend_node(run->w->peer);

        co_sleep_ns(choose_in(run->c, 0, 8) * NS_PER_MS);
        node_ref(node);
        drain_co_begin(node);
        co_sleep_ns(choose_in(run->c, 0, 3) * NS_PER_MS);
        drain_end(node);
        node_co_unref(node);
    }
    return 0;
}

static int coroutine_fn
power_co_entry(void *opaque)
{
    Run *run = opaque;

    co_sleep_ns(choose_in(run->c, 0, 60) * NS_PER_MS);
    run->has_power = false;
    memdisk_crash(run->w->active, run->c);
    memdisk_crash(run->w->hidden, run->c);
    memdisk_crash(run->w->disk, run->c);
    if (run->durable) {
        history_check(run->history, run->durable, 0, memdisk_data(run->w->disk), LENGTH);
    }
    return 0;
}

/* An epoch with something in active and in hidden. */
static void coroutine_fn
fill(Run *run)
{
    ReplWorld *w = run->w;

    world_co_peer_write(w, 0, LENGTH, 0x11);
    g_assert_cmpint(backend_co_flush(w->peer), ==, 0);
    world_co_start(w);
    while (choose_more(run->c, 4)) {
        int64_t offset = choose_in(run->c, 0, LENGTH - 1);
        int64_t bytes = choose_in(run->c, 1, LENGTH - offset);

        if (choose(run->c)) {
            world_co_top_write(w, offset, bytes, choose_in(run->c, 1, 255));
        } else {
            world_co_peer_write(w, offset, bytes, choose_in(run->c, 1, 255));
        }
    }
}

static void coroutine_fn
survivor_co_entry(void *opaque)
{
    Run *run = opaque;
    CoGroup g = {0};

    run->has_power = true;
    run->w = world_co_new_in("s", "s", LENGTH, 0x11);
    fill(run);
    run->history = history_new("the survivor's disk", run->w->view, LENGTH);
    memdisk_set_jitter(run->w->disk, choose_in(run->c, 0, 4) * NS_PER_MS);
    memdisk_set_jitter(run->w->hidden, choose_in(run->c, 0, 4) * NS_PER_MS);
    memdisk_set_jitter(run->w->active, choose_in(run->c, 0, 2) * NS_PER_MS);
    run->may_fail = choose(run->c);
    if (run->may_fail) {
        memdisk_fail_nth(choose(run->c) ? run->w->disk : run->w->hidden, MEMDISK_ALL,
                         choose_in(run->c, 1, 20), EIO);
    }
    co_group_spawn(&g, guest_co_entry, run);
    g_assert_true(replication_co_stop_all(NULL, true, NULL) || run->may_fail);
    run->durable = 0; /* a flush of before claims nothing */
    co_group_spawn(&g, guest_co_entry, run);
    co_group_spawn(&g, guest_co_entry, run);
    co_group_spawn(&g, drain_co_entry, run);
    co_group_spawn(&g, power_co_entry, run);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    world_co_wait_merged(run->w);
    history_free(run->history);
    world_co_free(run->w);
}

static void
prop_flush_is_durable(Choices *c)
{
    Run run = {.c = c};

    vtest_run(survivor_co_entry, &run, choose_in(c, 0, 100));
}

PROPERTY("/failover/a-flush-is-durable", prop_flush_is_durable)
