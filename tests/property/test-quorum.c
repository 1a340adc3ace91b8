/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quorum with fifo reads: a local disk and copies that fail, come and go while
 * the guest writes.
 *
 * What the guest was told is what its own disk holds; overlapping writes end
 * equal on every child that has seen all of them; an error of a copy is told
 * by an event and never to the guest.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (64 * KiB)

typedef struct World {
    Choices *c;
    Memdisk *local, *copy;
    BlockNode *quorum;
    BlockBackend *guest;
    bool local_fails, copy_fails;
    unsigned local_errors, reports;
} World;

static void
hear(const char *name, json_t *data, void *opaque)
{
    World *w = opaque;

    (void)data;
    w->reports += strcmp(name, "QUORUM_REPORT_BAD") == 0;
    g_assert_cmpstr(name, !=, "QUORUM_FAILURE"); /* the threshold is 1 and one child is good */
}

static void coroutine_fn
world_open(World *w)
{
    MemdiskOptions o = {.length = LENGTH, .jitter_ns = 3 * NS_PER_MS, .seed = 7};
    BlockNode *a, *b;

    w->local = memdisk_new(&o);
    w->copy = memdisk_new(&o);
    a = memdisk_open(w->local, "local", NULL, NULL);
    b = memdisk_open(w->copy, "copy", NULL, NULL);
    w->quorum = world_co_open("{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":1,"
                              "\"read-pattern\":\"fifo\",\"children\":[\"local\",\"copy\"]}");
    node_co_unref(a);
    node_co_unref(b);
    w->guest = user_co_new(NULL, w->quorum, PERM_CONSISTENT_READ | PERM_WRITE);
    event_sink_add(hear, w);
}

static void coroutine_fn
world_close(World *w)
{
    event_sink_remove(hear, w);
    backend_co_free(w->guest);
    node_co_unref(w->quorum);
    memdisk_free(w->local);
    memdisk_free(w->copy);
}

static int coroutine_fn
guest_co_entry(void *opaque)
{
    World *w = opaque;

    for (unsigned n = choose_in(w->c, 1, 6); n > 0; n--) {
        uint8_t buf[8192];
        int64_t offset = choose_in(w->c, 0, LENGTH - 1);
        int64_t bytes = choose_in(w->c, 1, MIN(LENGTH - offset, (int64_t)sizeof(buf)));
        int r;

        memset(buf, choose_in(w->c, 1, 255), bytes);
        r = choose(w->c) ? backend_co_pwrite(w->guest, offset, buf, bytes, 0)
                         : backend_co_pwrite_zeroes(w->guest, offset, bytes, 0);
        if (r < 0) {
            g_assert_true(w->local_fails); /* an error of a copy never reaches the guest */
            g_assert_cmpint(r, ==, -EIO);
            w->local_errors++;
        }
    }
    return 0;
}

static void coroutine_fn
work_co_entry(void *opaque)
{
    World *w = opaque;
    CoGroup g = {0};

    world_open(w);
    w->local_fails = choose(w->c);
    w->copy_fails = choose(w->c);
    if (w->local_fails) {
        memdisk_fail_nth(w->local, MEMDISK_WRITE | MEMDISK_ZERO, choose_in(w->c, 1, 10), EIO);
    }
    if (w->copy_fails) {
        memdisk_fail_nth(w->copy, MEMDISK_WRITE | MEMDISK_ZERO, choose_in(w->c, 1, 10), ENOSPC);
    }
    for (unsigned n = choose_in(w->c, 1, 4); n > 0; n--) {
        co_group_spawn(&g, guest_co_entry, w);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpuint(w->reports, >=, w->local_errors);
    if (w->reports == 0) {
        g_assert_cmpmem(memdisk_data(w->local), LENGTH, memdisk_data(w->copy), LENGTH);
    } else {
        g_assert_true(w->local_fails || w->copy_fails);
    }
    world_close(w);
}

static void
prop_fifo(Choices *c)
{
    World w = {.c = c};

    vtest_run(work_co_entry, &w, choose_in(c, 0, 100));
}

/* --- children that come and go, told by several at once --- */

static int coroutine_fn
del_co_entry(void *opaque)
{
    World *w = opaque;
    BlockChild *child;

    co_sleep_ns(choose_in(w->c, 0, 3) * NS_PER_MS);
    child = node_child(w->quorum, "children.1");
    if (child) {
        (void)w->quorum->drv->co_del_child(w->quorum, child, NULL); /* another may be faster */
    }
    return 0;
}

static int coroutine_fn
add_co_entry(void *opaque)
{
    World *w = opaque;
    BlockNode *node = memdisk_open(w->copy, NULL, NULL, NULL);

    co_sleep_ns(choose_in(w->c, 0, 3) * NS_PER_MS);
    (void)w->quorum->drv->co_add_child(w->quorum, node, NULL);
    node_co_unref(node);
    return 0;
}

static void coroutine_fn
change_co_entry(void *opaque)
{
    World *w = opaque;
    CoGroup g = {0};
    unsigned children = 0;

    world_open(w);
    for (unsigned n = choose_in(w->c, 1, 5); n > 0; n--) {
        CoGroupFn *const who[] = {guest_co_entry, del_co_entry, add_co_entry};

        co_group_spawn(&g, who[choose_in(w->c, 0, 2)], w);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    for (BlockChild *a = w->quorum->first_child; a; a = a->next_sibling) {
        children++;
        for (BlockChild *b = a->next_sibling; b; b = b->next_sibling) {
            g_assert_cmpstr(a->name, !=, b->name);
        }
    }
    g_assert_cmpuint(children, >=, 1);
    g_assert_cmpuint(w->reports, ==, 0);
    world_close(w);
}

static void
prop_children_come_and_go(Choices *c)
{
    World w = {.c = c};

    vtest_run(change_co_entry, &w, choose_in(c, 0, 100));
}

PROPERTY("/quorum/fifo-is-the-local-disk", prop_fifo)
PROPERTY("/quorum/children-come-and-go", prop_children_come_and_go)
