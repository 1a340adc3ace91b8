/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Isolation on a secondary: one write of the primary, one read of the guest and
 * one checkpoint, in every order that the speeds of the disks can make.
 *
 * A read sees one epoch: the old one, or what the checkpoint made of it, and
 * never a mixture; and a write is in the new epoch as a whole or not at all.
 */
#include <string.h>

#include "block/backend.h"
#include "block/replication.h"
#include "replworld.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (64 * KiB)
#define OLD    0x11
#define NEW    0x22

typedef struct Range {
    int64_t offset, bytes;
} Range;

/* Sub-blocks of 4 KiB: the same, crossing, beside each other, inside. */
static const struct {
    Range write, read;
} places[] = {
    {{0, 4096}, {0, 4096}},
    {{2048, 4096}, {0, 8192}},
    {{4096, 4096}, {0, 16384}},
    {{4608, 512}, {4096, 1024}},
};

typedef enum Kind { KIND_WRITE, KIND_ZEROES, KIND_DISCARD } Kind;

typedef struct Trial {
    Choices *c;
    ReplWorld *w;
    Range write, read;
    Kind kind;
    bool with_checkpoint;
    unsigned write_ms, read_ms, checkpoint_ms; /* when each begins */
    uint64_t tick;
    uint64_t w0, w1, r0, r1, c0, c1;
    uint8_t seen[LENGTH];
} Trial;

static int coroutine_fn
write_co_entry(void *opaque)
{
    Trial *t = opaque;
    uint8_t buf[8192];
    int r = 0;

    co_sleep_ns(t->write_ms * NS_PER_MS);
    memset(buf, NEW, sizeof(buf));
    t->w0 = ++t->tick;
    switch (t->kind) {
    case KIND_WRITE:
        r = backend_co_pwrite(t->w->peer, t->write.offset, buf, t->write.bytes, 0);
        break;
    case KIND_ZEROES:
        r = backend_co_pwrite_zeroes(t->w->peer, t->write.offset, t->write.bytes, 0);
        break;
    case KIND_DISCARD:
        r = backend_co_pdiscard(t->w->peer, t->write.offset, t->write.bytes);
        break;
    }
    t->w1 = ++t->tick;
    g_assert_cmpint(r, ==, 0);
    return 0;
}

static int coroutine_fn
read_co_entry(void *opaque)
{
    Trial *t = opaque;

    co_sleep_ns(t->read_ms * NS_PER_MS);
    t->r0 = ++t->tick;
    g_assert_cmpint(backend_co_pread(t->w->top, t->read.offset, t->seen, t->read.bytes), ==, 0);
    t->r1 = ++t->tick;
    return 0;
}

static int coroutine_fn
checkpoint_co_entry(void *opaque)
{
    Trial *t = opaque;

    if (t->with_checkpoint) {
        co_sleep_ns(t->checkpoint_ms * NS_PER_MS);
        t->c0 = ++t->tick;
        g_assert_true(replication_co_checkpoint_all(NULL, NULL));
        t->c1 = ++t->tick;
    }
    return 0;
}

/* What the whole disk looks like with and without the write. */
static void
image_of(const Trial *t, bool written, uint8_t *disk)
{
    memset(disk, OLD, LENGTH);
    if (written) {
        memset(disk + t->write.offset, t->kind == KIND_WRITE ? NEW : 0, t->write.bytes);
    }
}

static void coroutine_fn
check(Trial *t)
{
    uint8_t before[LENGTH], after[LENGTH], view[LENGTH];
    bool moved, saw_old, saw_view;

    image_of(t, false, before);
    image_of(t, true, after);
    g_assert_cmpmem(memdisk_data(t->w->disk), LENGTH, after, LENGTH);
    g_assert_cmpint(backend_co_pread(t->w->top, 0, view, LENGTH), ==, 0);

    moved = memcmp(view, after, LENGTH) == 0;
    g_assert_true(moved || memcmp(view, before, LENGTH) == 0); /* all of the write or nothing */
    if (!t->with_checkpoint || t->c1 < t->w0) {
        g_assert_false(moved);
    } else if (t->w1 < t->c0) {
        g_assert_true(moved);
    }

    saw_old = memcmp(t->seen, before + t->read.offset, t->read.bytes) == 0;
    saw_view = memcmp(t->seen, view + t->read.offset, t->read.bytes) == 0;
    g_assert_true(saw_old || saw_view); /* one epoch */
    if (!t->with_checkpoint || t->r1 < t->c0) {
        g_assert_true(saw_old);
    } else if (t->c1 < t->r0) {
        g_assert_true(saw_view);
    }
}

/* Each disk is slow in reading, slow in writing, both or neither. */
static void
choose_speeds(Trial *t, Memdisk *d)
{
    memdisk_set_latency(d, MEMDISK_READ, choose(t->c) ? 3 * NS_PER_MS : 0);
    memdisk_set_latency(d, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_DISCARD,
                        choose(t->c) ? 3 * NS_PER_MS : 0);
}

static void coroutine_fn
trial_co_entry(void *opaque)
{
    Trial *t = opaque;
    CoGroup g = {0};

    t->w = world_co_new("s", LENGTH, OLD);
    world_co_start(t->w);
    choose_speeds(t, t->w->disk);
    choose_speeds(t, t->w->hidden);
    co_group_spawn(&g, write_co_entry, t);
    co_group_spawn(&g, read_co_entry, t);
    co_group_spawn(&g, checkpoint_co_entry, t);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    check(t);
    world_co_free(t->w);
}

static void
prop_reads_see_one_epoch(Choices *c)
{
    g_autofree Trial *t = g_new0(Trial, 1);
    size_t place = choose_in(c, 0, G_N_ELEMENTS(places) - 1);

    t->c = c;
    t->write = places[place].write;
    t->read = places[place].read;
    t->kind = choose_in(c, 0, 2);
    if (t->kind == KIND_DISCARD) {
        t->write = (Range){0, LENGTH}; /* smaller ones may be left out */
    }
    t->with_checkpoint = choose(c);
    t->write_ms = choose_in(c, 0, 1) * 2;
    t->read_ms = choose_in(c, 0, 2) * 2;
    t->checkpoint_ms = t->with_checkpoint ? choose_in(c, 0, 2) * 4 : 0;
    vtest_run(trial_co_entry, t, 0);
}

ENUMERATE("/isolation/reads-see-one-epoch", prop_reads_see_one_epoch)
