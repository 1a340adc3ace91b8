/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Padding, splitting and ordering: whatever the limits of the disk and however
 * requests overlap in time, a disk stays a disk.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "memdisk.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH_MAX (64 * 1024)
#define PART_MIN   1024 /* limits below that would make thousands of requests of one */

/* --- a disk with limits from the choices --- */

typedef struct World {
    Choices *c;
    Memdisk *disk;
    BlockNode *node;
    BlockBackend *be;
    int64_t length;
} World;

static void coroutine_fn world_open(World *w, bool order_writes)
{
    NodeFlags flags = {.unmap = true};
    g_autoptr(GError) err = NULL;

    w->node = memdisk_open(w->disk, NULL, &flags, &err);
    g_assert_no_error(err);
    w->node->order_writes = order_writes;
    w->be = user_co_new(NULL, w->node, PERM_CONSISTENT_READ | PERM_WRITE);
}

static void coroutine_fn world_close(World *w)
{
    backend_co_free(w->be);
    node_co_unref(w->node);
}

static void world_new(World *w, Choices *c)
{
    uint32_t align = 1u << choose_in(c, 0, 12);
    uint32_t unit = MAX(align, PART_MIN);
    MemdiskOptions o = {
        .length = (int64_t)choose_in(c, 1, LENGTH_MAX),
        .alignment = align,
        .jitter_ns = choose(c) ? 1000 : 0,
        .seed = choose_in(c, 1, 1000),
        .no_zeroes = choose(c),
        .no_discard = choose(c),
        .write_flags = choose(c) ? REQ_FUA : 0,
    };

    if (choose(c)) {
        o.limits.max_transfer = (int64_t)unit * (int64_t)choose_in(c, 1, 8);
    }
    if (choose(c)) {
        o.limits.pwrite_zeroes_alignment = unit * (uint32_t)choose_in(c, 1, 5);
        o.limits.max_pwrite_zeroes =
            (int64_t)o.limits.pwrite_zeroes_alignment * (int64_t)choose_in(c, 1, 3);
    }
    if (choose(c)) {
        o.limits.pdiscard_alignment = unit * (uint32_t)choose_in(c, 1, 5);
    }
    *w = (World){.c = c, .disk = memdisk_new(&o), .length = o.length};
}

/* @fn, with the ready queue in one of so many random orders; 0: FIFO */
static void run_in_world(Choices *c, CoroutineFn *fn, uint64_t orders)
{
    World w;

    world_new(&w, c);
    vtest_run(fn, &w, orders ? choose_in(c, 0, orders) : 0);
    memdisk_free(w.disk);
}

/* Nothing that breaks the promises to drivers (block/driver.h) has reached the disk. */
static void check_log(const World *w)
{
    size_t n;
    const MemdiskEntry *log = memdisk_log(w->disk, &n);
    const BlockLimits *l = &w->node->limits;
    int64_t unit = l->request_alignment;

    for (size_t i = 0; i < n; i++) {
        const MemdiskEntry *e = &log[i];

        if (e->kind == MEMDISK_FLUSH) {
            continue;
        }
        g_assert_cmpint(e->offset, >=, 0);
        g_assert_cmpint(e->bytes, >, 0);
        g_assert_cmpint(e->offset % unit, ==, 0);
        g_assert_cmpint(e->bytes % unit, ==, 0);
        g_assert_cmpint(e->offset + e->bytes, <=, ALIGN_UP(w->length, unit));
        if (e->kind & (MEMDISK_READ | MEMDISK_WRITE)) {
            g_assert_true(l->max_transfer == 0 || e->bytes <= l->max_transfer);
        }
        if (e->kind == MEMDISK_ZERO) {
            g_assert_true(l->max_pwrite_zeroes == 0 || e->bytes <= l->max_pwrite_zeroes);
        }
        if (e->kind == MEMDISK_DISCARD && l->pdiscard_alignment > 0) {
            g_assert_cmpint(e->offset % l->pdiscard_alignment, ==, 0);
        }
    }
}

static void choose_range(World *w, int64_t *offset, int64_t *bytes)
{
    *offset = (int64_t)choose_in(w->c, 0, w->length);
    *bytes = (int64_t)choose_in(w->c, 0, w->length - *offset);
}

/* --- one after the other: equal to an array --- */

static void coroutine_fn do_one(World *w, uint8_t *model)
{
    g_autofree uint8_t *buf = NULL;
    int64_t offset, bytes;
    uint8_t byte = (uint8_t)choose_in(w->c, 0, 255);
    ReqFlags fua = choose(w->c) ? REQ_FUA : 0;

    choose_range(w, &offset, &bytes);
    buf = g_malloc(bytes + 1);
    switch (choose_in(w->c, 0, 3)) {
    case 0:
        memset(buf, byte, bytes);
        g_assert_cmpint(backend_co_pwrite(w->be, offset, buf, bytes, fua), ==, 0);
        memset(model + offset, byte, bytes);
        break;
    case 1:
        g_assert_cmpint(backend_co_pwrite_zeroes(w->be, offset, bytes, fua), ==, 0);
        memset(model + offset, 0, bytes);
        break;
    case 2:
        g_assert_cmpint(backend_co_pdiscard(w->be, offset, bytes), ==, 0);
        g_assert_cmpint(backend_co_pread(w->be, offset, buf, bytes), ==, 0);
        for (int64_t i = 0; i < bytes; i++) {
            g_assert_true(buf[i] == 0 || buf[i] == model[offset + i]);
        }
        memcpy(model + offset, buf, bytes);
        break;
    default:
        g_assert_cmpint(backend_co_pread(w->be, offset, buf, bytes), ==, 0);
        g_assert_cmpmem(buf, bytes, model + offset, bytes);
    }
}

static void coroutine_fn like_an_array(void *opaque)
{
    World *w = opaque;
    g_autofree uint8_t *model = g_malloc0(w->length);

    world_open(w, false);
    while (choose_more(w->c, 15)) {
        do_one(w, model);
    }
    g_assert_cmpmem(memdisk_data(w->disk), w->length, model, w->length);
    check_log(w);
    world_close(w);
}

static void prop_like_an_array(Choices *c)
{
    run_in_world(c, like_an_array, 0);
}
PROPERTY("/io/like-an-array", prop_like_an_array)

/* --- at once, on ranges that do not overlap: no write is lost --- */

typedef struct Op {
    World *w;
    int64_t offset, bytes;
    uint8_t byte; /* 0: a zero write */
} Op;

static int coroutine_fn op_run(void *opaque)
{
    Op *op = opaque;
    g_autofree uint8_t *buf = g_malloc(op->bytes + 1);

    memset(buf, op->byte, op->bytes);
    return op->byte == 0 ? backend_co_pwrite_zeroes(op->w->be, op->offset, op->bytes, 0)
                         : backend_co_pwrite(op->w->be, op->offset, buf, op->bytes, 0);
}

static void coroutine_fn neighbours_keep_their_bytes(void *opaque)
{
    World *w = opaque;
    g_autofree uint8_t *model = g_malloc0(w->length);
    g_autoptr(GArray) ops = g_array_new(false, false, sizeof(Op));
    CoGroup g = {0};

    world_open(w, false);
    memset(model, 0xee, w->length);
    memset(memdisk_data(w->disk), 0xee, w->length);
    for (int64_t at = 0; at < w->length && choose_more(w->c, 30);) {
        Op op = {.w = w, .offset = at + (int64_t)choose_in(w->c, 0, 20)};

        op.bytes = (int64_t)choose_in(w->c, 1, 3000);
        op.bytes = MIN(op.bytes, w->length - op.offset);
        op.byte = choose(w->c) ? (uint8_t)choose_in(w->c, 1, 255) : 0;
        if (op.bytes > 0) {
            memset(model + op.offset, op.byte, op.bytes);
            g_array_append_val(ops, op);
        }
        at = op.offset + op.bytes;
    }
    for (size_t i = 0; i < ops->len; i++) {
        co_group_spawn(&g, op_run, &g_array_index(ops, Op, i));
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpmem(memdisk_data(w->disk), w->length, model, w->length);
    check_log(w);
    world_close(w);
}

static void prop_neighbours_keep_their_bytes(Choices *c)
{
    run_in_world(c, neighbours_keep_their_bytes, 100);
}
PROPERTY("/io/neighbours-keep-their-bytes", prop_neighbours_keep_their_bytes)

/* --- overlapping, on a node that orders writes: the last to arrive wins --- */

static void coroutine_fn ordered_writes(void *opaque)
{
    World *w = opaque;
    g_autofree uint8_t *model = g_malloc0(w->length);
    Op ops[24];
    CoGroup g = {0};
    size_t n = 0;

    world_open(w, true);
    while (n < G_N_ELEMENTS(ops) && choose_more(w->c, 10)) {
        ops[n] = (Op){.w = w, .byte = (uint8_t)choose_in(w->c, 0, 255)};
        choose_range(w, &ops[n].offset, &ops[n].bytes);
        memset(model + ops[n].offset, ops[n].byte, ops[n].bytes);
        co_group_spawn(&g, op_run, &ops[n]);
        n++;
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpmem(memdisk_data(w->disk), w->length, model, w->length);
    world_close(w);
}

static void prop_ordered_writes(Choices *c)
{
    run_in_world(c, ordered_writes, 0); /* FIFO: what was spawned first arrives first */
}
PROPERTY("/io/order-of-arrival", prop_ordered_writes)

/* --- power cuts: what a flush or FUA has covered is there --- */

/* What each byte may be after a crash: a bit per value of the small alphabet. */
static void may_become(uint16_t *may, int64_t offset, int64_t bytes, uint8_t byte, bool durable)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        may[i] = durable ? (uint16_t)(1u << byte) : (uint16_t)(may[i] | 1u << byte);
    }
}

static void coroutine_fn crash_keeps_what_was_flushed(void *opaque)
{
    World *w = opaque;
    g_autofree uint16_t *may = g_new(uint16_t, w->length);
    g_autofree uint8_t *now = g_malloc0(w->length);

    for (int64_t i = 0; i < w->length; i++) {
        may[i] = 1;
    }
    world_open(w, false);
    while (choose_more(w->c, 12)) {
        Op op = {.w = w, .byte = (uint8_t)choose_in(w->c, 0, 15)};
        bool fua = choose(w->c);

        choose_range(w, &op.offset, &op.bytes);
        backend_set_write_cache(w->be, !fua);
        g_assert_cmpint(op_run(&op), ==, 0);
        memset(now + op.offset, op.byte, op.bytes);
        may_become(may, op.offset, op.bytes, op.byte, fua);
        if (choose(w->c)) {
            g_assert_cmpint(backend_co_flush(w->be), ==, 0);
            for (int64_t i = 0; i < w->length; i++) {
                may[i] = (uint16_t)(1u << now[i]);
            }
        }
    }
    memdisk_crash(w->disk, w->c);
    for (int64_t i = 0; i < w->length; i++) {
        g_assert_true(may[i] & (1u << memdisk_data(w->disk)[i]));
    }
    g_assert_cmpint(backend_co_pread(w->be, 0, now, w->length), ==, -EIO);
    world_close(w);
}

static void prop_crash(Choices *c)
{
    run_in_world(c, crash_keeps_what_was_flushed, 0);
}
PROPERTY("/io/crash-keeps-what-was-flushed", prop_crash)

/* --- failures: an error is told, and bytes outside the request are untouched --- */

static void coroutine_fn errors_stay_inside(void *opaque)
{
    World *w = opaque;
    Op op = {.w = w, .byte = 0x55};
    unsigned kinds = choose(w->c) ? MEMDISK_READ : MEMDISK_WRITE;
    uint64_t nth = choose_in(w->c, 1, 3);
    bool fired;
    int r;

    world_open(w, false);
    memset(memdisk_data(w->disk), 0xaa, w->length);
    choose_range(w, &op.offset, &op.bytes);
    memdisk_fail_nth(w->disk, kinds, nth, ENOSPC);
    r = op_run(&op);
    fired = memdisk_log_count(w->disk, kinds) >= nth;
    g_assert_cmpint(r, ==, fired ? -ENOSPC : 0);
    for (int64_t i = 0; i < w->length; i++) {
        bool inside = i >= op.offset && i < op.offset + op.bytes;
        uint8_t byte = memdisk_data(w->disk)[i];

        g_assert_true(inside ? byte == 0x55 || (r < 0 && byte == 0xaa) : byte == 0xaa);
    }
    world_close(w);
}

static void prop_errors_stay_inside(Choices *c)
{
    run_in_world(c, errors_stay_inside, 0);
}
PROPERTY("/io/errors-stay-inside", prop_errors_stay_inside)
