/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debug events of qcow2: each comes right before the request that it
 * names, so that a rule of a blkdebug node below fails just that one; and an
 * error at any of these moments leaves a sound image.
 */
#include "../../block/qcow2/qcow2.h"
#include "block/blkdebug.h"
#include "block/drivers.h"
#include "qcow2-disk.h"
#include "user.h"
#include "vtest.h"

#define CLUSTER 512
#define DISK    (16 * MiB)

/* --- an image over a blkdebug node over a disk in memory --- */

static void coroutine_fn make_image(Memdisk *disk, uint64_t cluster_size)
{
    uint8_t buf[64 * CLUSTER];
    Qcow2Disk d;

    qcow2_disk_create(disk,
                      (BlockdevCreateOptionsQcow2){
                          .size = DISK, .has_cluster_size = true, .cluster_size = cluster_size});
    d = qcow2_disk_open(disk, "img", "");
    memset(buf, 0x11, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(d.be, 0, buf, sizeof(buf), 0), ==, 0);
    qcow2_disk_close(&d);
}

/* Where the header says the L1 table is. */
static uint64_t l1_at(Memdisk *disk)
{
    return qcow2_get64(memdisk_data(disk) + QCOW2_AT_L1_OFFSET);
}

/* As after a power cut: the flag is clear although the count is 1. So this must be copied. */
static void clear_copied(Memdisk *disk)
{
    uint8_t *l1 = memdisk_data(disk) + l1_at(disk);
    uint8_t *l2 = memdisk_data(disk) + (qcow2_get64(l1) & QCOW2_OFFSET_MASK);

    l1[0] &= 0x7f;
    l2[1 * 8] &= 0x7f;
}

/* @rules: members of the blkdebug node, each followed by a comma */
static BlockNode *coroutine_fn open_debug(Memdisk *disk, const char *rules, GError **errp)
{
    g_autofree char *text = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"node-name\":\"img\",\"discard\":\"unmap\",\"file\":"
        "{\"driver\":\"blkdebug\",\"node-name\":\"debug\",\"discard\":\"unmap\",%s"
        "\"image\":\"disk\"}}",
        rules);
    json_t *json = json_loads(text, 0, NULL);
    BlockNode *file = memdisk_open(disk, "disk", &(NodeFlags){.unmap = true}, NULL);
    BlockNode *node;

    g_assert_nonnull(json);
    drivers_register();
    node = node_co_open_json(json, NULL, errp);
    node_co_unref(file);
    json_decref(json);
    return node;
}

static Qcow2Disk coroutine_fn use(Memdisk *disk, BlockNode *node)
{
    Perm perm = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE;

    return (Qcow2Disk){.disk = disk, .node = node, .be = user_co_new(NULL, node, perm)};
}

static char *fail_once(const char *event, const char *more)
{
    return g_strdup_printf("\"inject-error\":[{\"event\":\"%s\",\"once\":true,\"errno\":5%s}],",
                           event, more);
}

/* --- one of everything --- */

typedef struct Run {
    Qcow2Disk d;
    unsigned steps;               /* requests of ours that have ended */
    unsigned failed, failed_step; /* how many of them, and the last one */
    bool done;
} Run;

static void step(Run *run, int r)
{
    if (r < 0) {
        run->failed++;
        run->failed_step = run->steps;
    }
    run->steps++;
}

static void coroutine_fn write_lots(Run *run, int64_t from, int64_t to)
{
    uint8_t *buf = g_malloc(MiB);

    memset(buf, 0x22, MiB);
    for (int64_t at = from; at < to; at += MiB) {
        step(run, backend_co_pwrite(run->d.be, at, buf, (size_t)MIN(MiB, to - at), 0));
    }
    g_free(buf);
}

static void coroutine_fn everything(void *opaque)
{
    Run *run = opaque;
    BlockBackend *be = run->d.be;
    uint8_t buf[CLUSTER];

    memset(buf, 0x33, sizeof(buf));
    step(run, backend_co_pread(be, 0, buf, CLUSTER));
    step(run, backend_co_pwrite(be, CLUSTER + 100, buf, 100, 0)); /* copied, and its table too */
    step(run, backend_co_flush(be));
    write_lots(run, MiB, 10 * MiB); /* enough for a larger refcount table */
    step(run, backend_co_flush(be));
    step(run, backend_co_pdiscard(be, 0, 32 * CLUSTER));
    for (int i = 0; i < 3; i++) {
        step(run, backend_co_flush(be));
    }
    step(run, backend_co_pwrite(be, 15 * MiB, buf, CLUSTER, 0)); /* a table where one was */
    step(run, backend_co_truncate(be, DISK + MiB, true, BLOCK_PREALLOC_METADATA, 0, NULL) ? 0
                                                                                         : -EIO);
    step(run, backend_co_make_empty(be));
    run->done = true;
}

/* --- what comes after each event --- */

typedef enum Place {
    ANYWHERE,
    IN_HEADER,
    IN_L1,
    IN_REFTABLE,
    IN_REFBLOCK,
    IN_L2,
    IN_DATA, /* or in what is not in use yet */
} Place;

typedef struct Moment {
    const char *event;
    unsigned kinds; /* of the request that comes next; 0: the event names none */
    Place place;
} Moment;

static const Moment moments[] = {
    {"l2_load", MEMDISK_READ, IN_L2},
    {"read_aio", MEMDISK_READ, IN_DATA},
    {"cow_read", MEMDISK_READ, IN_DATA},
    {"refblock_load", MEMDISK_READ, IN_REFBLOCK},
    {"l2_alloc_cow_read", 0, ANYWHERE},
    {"l2_alloc_write", MEMDISK_WRITE | MEMDISK_ZERO, IN_DATA},
    {"l2_update", MEMDISK_WRITE, IN_L2},
    {"l1_update", MEMDISK_WRITE, IN_L1},
    {"l1_grow_alloc_table", 0, ANYWHERE},
    {"l1_grow_write_table", MEMDISK_WRITE, IN_DATA},
    {"l1_grow_activate_table", MEMDISK_WRITE, IN_HEADER},
    {"write_aio", MEMDISK_WRITE, IN_DATA},
    {"cow_write", MEMDISK_WRITE, IN_DATA},
    {"pwritev", MEMDISK_WRITE, ANYWHERE},
    {"pwritev_done", 0, ANYWHERE},
    {"pwritev_zero", MEMDISK_ZERO, ANYWHERE},
    {"refblock_update_part", MEMDISK_WRITE, IN_REFBLOCK},
    {"refblock_alloc", 0, ANYWHERE},
    {"refblock_alloc_write", MEMDISK_ZERO, IN_DATA},
    {"refblock_alloc_hookup", MEMDISK_WRITE, IN_REFTABLE},
    {"refblock_alloc_write_blocks", MEMDISK_WRITE, IN_REFBLOCK},
    {"refblock_alloc_write_table", MEMDISK_WRITE, IN_DATA},
    {"refblock_alloc_switch_table", MEMDISK_WRITE, IN_HEADER},
    {"reftable_grow", 0, ANYWHERE},
    {"cluster_alloc", 0, ANYWHERE},
    {"cluster_alloc_space", MEMDISK_ZERO | MEMDISK_TRUNCATE, ANYWHERE},
    {"cluster_free", MEMDISK_DISCARD, IN_DATA},
    {"flush_to_os", 0, ANYWHERE},
    {"flush_to_disk", MEMDISK_FLUSH, ANYWHERE},
    {"empty_image_prepare", MEMDISK_ZERO, IN_L1},
};

static bool is_in(const uint64_t *table, uint64_t entries, uint64_t cluster)
{
    for (uint64_t i = 0; i < entries; i++) {
        if (table[i] && (table[i] & QCOW2_OFFSET_MASK) / CLUSTER == cluster) {
            return true;
        }
    }
    return false;
}

static Place place_of(const Qcow2 *q, uint64_t offset)
{
    uint64_t c = offset / CLUSTER;

    if (c == 0) {
        return IN_HEADER;
    }
    if (offset >= q->h.l1_offset && offset < q->h.l1_offset + (uint64_t)q->h.l1_size * 8) {
        return IN_L1;
    }
    if (offset >= q->h.reftable_offset &&
        offset < q->h.reftable_offset + (uint64_t)q->h.reftable_clusters * CLUSTER) {
        return IN_REFTABLE;
    }
    if (is_in(q->rt, q->rt_entries, c)) {
        return IN_REFBLOCK;
    }
    return is_in(q->l1, q->h.l1_size, c) ? IN_L2 : IN_DATA;
}

static void coroutine_fn finish(Run *run)
{
    while (!run->done) {
        co_sleep_ns(NS_PER_MS);
    }
}

/* Stop at the event: the request that comes then is the one it names. The step it is part of. */
static unsigned coroutine_fn stop_and_look(const Moment *m)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.latency_ns = 100});
    g_autoptr(GError) err = NULL;
    size_t before, n;
    MemdiskEntry e;
    unsigned nth_step;
    Run run = {0};

    make_image(disk, CLUSTER);
    clear_copied(disk);
    run.d = use(disk, open_debug(disk, "", &err));
    g_assert_no_error(err);
    memdisk_log_clear(disk);
    g_assert_true(blkdebug_break(run.d.node, m->event, "A", NULL));
    co_spawn(everything, &run);
    while (!run.done && !blkdebug_is_stopped(run.d.node, "A")) {
        co_sleep_ns(10);
    }
    if (run.done) {
        g_error("event %s never came", m->event);
    }
    nth_step = run.steps;
    (void)memdisk_log(disk, &before);
    g_assert_true(blkdebug_resume(run.d.node, "A", NULL));
    for (n = before; n == before && !run.done; (void)memdisk_log(disk, &n)) {
        co_sleep_ns(10);
    }
    e = memdisk_log(disk, &n)[before];
    if (m->kinds && !(m->kinds & e.kind)) {
        g_error("event %s: a request of kind %u comes next", m->event, e.kind);
    }
    if (m->place != ANYWHERE) {
        Place place = place_of(qcow2_of(run.d.node), (uint64_t)e.offset);

        if (place != m->place) {
            g_error("event %s: place %u comes next", m->event, place);
        }
    }
    finish(&run);
    g_assert_cmpuint(run.failed, ==, 0);
    qcow2_disk_close(&run.d);
    memdisk_free(disk);
    return nth_step;
}

/* What is on the disk is sound, at worst dirty; and it can be opened for writing. */
static void coroutine_fn check_sound(Memdisk *disk)
{
    Qcow2Disk d = qcow2_disk_open(disk, "closed", ",\"read-only\":true");
    BlockInfoData info = {0};

    node_get_info(d.node, &info);
    if (!info.is_dirty) {
        ImageCheck check = qcow2_disk_check(&d);

        g_assert_cmpint(check.check_errors, ==, 0);
        g_assert_cmpint(check.corruptions, ==, 0);
    }
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "closed", "");
    qcow2_disk_close(&d);
}

/* The rule fails that request, so that step, and no other. */
static void coroutine_fn fail_and_look(const Moment *m, unsigned nth_step)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.latency_ns = 100});
    g_autofree char *rules = fail_once(m->event, "");
    g_autoptr(GError) err = NULL;
    Run run = {0};

    make_image(disk, CLUSTER);
    clear_copied(disk);
    run.d = use(disk, open_debug(disk, rules, &err));
    g_assert_no_error(err);
    co_spawn(everything, &run);
    finish(&run);
    if (run.failed > 1) {
        g_error("event %s: %u requests failed", m->event, run.failed);
    }
    if (m->kinds && m->kinds != MEMDISK_DISCARD) { /* that is only advice */
        g_assert_cmpuint(run.failed, ==, 1);
        g_assert_cmpuint(run.failed_step, ==, nth_step);
    }
    qcow2_disk_close(&run.d);
    check_sound(disk);
    memdisk_free(disk);
}

static void coroutine_fn test_moments(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(moments); i++) {
        fail_and_look(&moments[i], stop_and_look(&moments[i]));
    }
}
VTEST("/qcow2-events/name-the-next-request", test_moments)

/* reftable_load comes while the image is opened. */
static void coroutine_fn test_reftable_load(void)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){});
    g_autofree char *rules = fail_once("reftable_load", "");
    g_autoptr(GError) err = NULL;

    make_image(disk, CLUSTER);
    g_assert_null(open_debug(disk, rules, &err));
    g_assert_nonnull(strstr(err->message, "Could not read the refcount table"));
    memdisk_free(disk);
}
VTEST("/qcow2-events/reftable-load-fails-the-opening", test_reftable_load)

/* The second flush's L2 write, and no other, by a state machine. */
static void coroutine_fn test_states(void)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){});
    static const char rules[] =
        "\"set-state\":[{\"event\":\"flush_to_disk\",\"state\":1,\"new_state\":2},"
        "{\"event\":\"flush_to_disk\",\"state\":2,\"new_state\":3}],"
        "\"inject-error\":[{\"event\":\"l2_update\",\"state\":2,\"errno\":28,"
        "\"immediately\":true,\"once\":true}],";
    g_autoptr(GError) err = NULL;
    uint8_t buf[CLUSTER] = {1};
    Qcow2Disk d;

    make_image(disk, CLUSTER);
    d = use(disk, open_debug(disk, rules, &err));
    g_assert_no_error(err);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(backend_co_pwrite(d.be, (i + 1) * MiB, buf, CLUSTER, 0), ==, 0);
        g_assert_cmpint(backend_co_flush(d.be), ==, i == 1 ? -ENOSPC : 0);
    }
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", ",\"read-only\":true");
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-events/state-machine", test_states)

/* --- any event, any history --- */

#define SECTOR 512
#define NEAR   2048 /* sectors that requests go to */

typedef struct World {
    Choices *c;
    Qcow2Disk d;
    uint8_t tag;
    uint8_t now[NEAR], before[NEAR]; /* either may be there; equal where no request failed */
} World;

static void change(World *w, uint64_t s, uint64_t n, uint8_t tag, int r)
{
    for (uint64_t i = s; i < s + n; i++) {
        if (r == 0) {
            w->before[i] = tag;
        }
        w->now[i] = tag;
    }
}

static bool agrees(World *w, uint64_t s, const uint8_t *sector)
{
    if (sector[0] != w->now[s] && sector[0] != w->before[s]) {
        return false;
    }
    w->now[s] = w->before[s] = sector[0];
    return memcmp(sector, sector + 1, SECTOR - 1) == 0;
}

/* What failed may have happened in part: settle on what is there. */
static void coroutine_fn read_back(World *w)
{
    uint8_t *buf = g_malloc(NEAR * SECTOR);
    int r = backend_co_pread(w->d.be, 0, buf, NEAR * SECTOR);

    if (r < 0) {
        r = backend_co_pread(w->d.be, 0, buf, NEAR * SECTOR); /* that was the one error */
    }
    g_assert_cmpint(r, ==, 0);
    for (uint64_t s = 0; s < NEAR; s++) {
        g_assert_true(agrees(w, s, buf + s * SECTOR));
    }
    g_free(buf);
}

static void coroutine_fn act(World *w)
{
    static const unsigned weights[] = {10, 3, 2, 4, 1};
    uint64_t s = choose_in(w->c, 0, NEAR - 1);
    uint64_t n = choose_in(w->c, 1, MIN(NEAR - s, UINT64_C(600)));
    BlockBackend *be = w->d.be;
    uint8_t *buf;

    switch (choose_weighted(w->c, weights, G_N_ELEMENTS(weights))) {
    case 0:
        w->tag = w->tag % 200 + 1;
        buf = g_malloc(n * SECTOR);
        memset(buf, w->tag, n * SECTOR);
        change(w, s, n, w->tag, backend_co_pwrite(be, s * SECTOR, buf, n * SECTOR, 0));
        g_free(buf);
        break;
    case 1:
        change(w, s, n, 0, backend_co_pwrite_zeroes(be, s * SECTOR, n * SECTOR,
                                                    choose(w->c) ? REQ_MAY_UNMAP : 0));
        break;
    case 2:
        (void)!backend_co_pdiscard(be, s * SECTOR, n * SECTOR);
        change(w, s, n, 0, -EIO); /* advisory: as before, or zero */
        break;
    case 3:
        (void)!backend_co_flush(be);
        break;
    case 4: /* fails half-way: only emptying it again helps */
        if (backend_co_make_empty(be) < 0) {
            g_assert_cmpint(backend_co_make_empty(be), ==, 0);
        }
        change(w, 0, NEAR, 0, 0);
        break;
    }
    read_back(w);
}

static void coroutine_fn run_world(void *opaque)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){});
    World *w = g_new0(World, 1);
    BlkdebugEvent event = (BlkdebugEvent)choose_in(opaque, 0, BLKDEBUG_EVENT__MAX - 1);
    g_autofree char *rules = NULL;
    g_autoptr(GError) err = NULL;
    BlockNode *node;

    w->c = opaque;
    memset(w->now, 0x11, 64);
    memset(w->before, 0x11, 64);
    make_image(disk, UINT64_C(1) << choose_in(w->c, 9, 13));
    rules = fail_once(blkdebug_event_str(event), choose(w->c) ? ",\"immediately\":true" : "");
    node = open_debug(disk, rules, &err);
    if (!node) { /* the one error */
        g_clear_error(&err);
        node = open_debug(disk, "", &err);
    }
    w->d = use(disk, node);
    while (choose_more(w->c, 10)) {
        act(w);
    }
    qcow2_disk_close(&w->d);
    check_sound(disk);
    w->d = qcow2_disk_open(disk, "img", "");
    read_back(w);
    qcow2_disk_close(&w->d);
    memdisk_free(disk);
    g_free(w);
}

static void prop_any_event(Choices *c)
{
    vtest_run(run_world, c, 0);
}
PROPERTY("/qcow2-events/an-error-at-any-leaves-a-sound-image", prop_any_event)
