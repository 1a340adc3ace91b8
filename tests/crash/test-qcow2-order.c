/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flushes that no history of one image's requests shows to be missing: those of
 * another file, of opening, of repairing, and of what a request has promised.
 */
#include "../../block/qcow2/format.h"
#include "qcow2-disk.h"
#include "util/sync.h"
#include "vtest.h"

#define CLUSTER 65536
#define DISK    (16 * MiB)
#define RB_AT   (2 * CLUSTER)
#define BITS_AT 88 /* autoclear feature bits */

static Memdisk *coroutine_fn new_image(void)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.latency_ns = 100});

    qcow2_disk_create(disk, (BlockdevCreateOptionsQcow2){.size = DISK});
    return disk;
}

static void coroutine_fn put(Qcow2Disk *d, int64_t offset)
{
    uint8_t buf[512] = {1};

    g_assert_cmpint(backend_co_pwrite(d->be, offset, buf, sizeof(buf), 0), ==, 0);
}

/* Index of the first request of @kinds that touches byte @at; -1: there is none. */
static int64_t find(Memdisk *disk, unsigned kinds, int64_t at)
{
    size_t n;
    const MemdiskEntry *log = memdisk_log(disk, &n);

    for (size_t i = 0; i < n; i++) {
        if ((log[i].kind & kinds) && log[i].offset <= at && log[i].offset + log[i].bytes > at) {
            return (int64_t)i;
        }
    }
    return -1;
}

static MemdiskEntry entry(Memdisk *disk, int64_t i)
{
    size_t n;
    const MemdiskEntry *log = memdisk_log(disk, &n);

    g_assert_cmpint(i, >=, 0);
    g_assert_cmpint(i, <, n);
    return log[i];
}

/* R10 */
static void coroutine_fn test_backing_before_emptying(void)
{
    Memdisk *below = new_image(), *disk = new_image();
    Qcow2Disk base = qcow2_disk_open(below, "base", "");
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"backing\":\"base\"");
    size_t n;

    put(&base, 0);
    put(&d, 0);
    memdisk_log_clear(below);
    memdisk_log_clear(disk);
    g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
    (void)memdisk_log(below, &n);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpint(entry(below, (int64_t)n - 1).kind, ==, MEMDISK_FLUSH);
    g_assert_cmpint(entry(below, (int64_t)n - 1).start_ns, <, entry(disk, 0).start_ns);
    qcow2_disk_close(&d);
    qcow2_disk_close(&base);
    memdisk_free(below);
    memdisk_free(disk);
}
VTEST("/qcow2-order/backing-file-before-emptying", test_backing_before_emptying)

/* Who does not know the bits must not find them set beside data that they say nothing of. */
static void coroutine_fn test_autoclear_before_opening_ends(void)
{
    Memdisk *disk = new_image();
    Qcow2Disk d;

    memdisk_data(disk)[BITS_AT] = 0x80;
    memdisk_log_clear(disk);
    d = qcow2_disk_open(disk, "img", "");
    g_assert_cmpint(entry(disk, find(disk, MEMDISK_WRITE, BITS_AT) + 1).kind, ==, MEMDISK_FLUSH);
    g_assert_cmphex(memdisk_data(disk)[BITS_AT], ==, 0);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-order/autoclear-bits-before-anything", test_autoclear_before_opening_ends)

/* R5 */
static void coroutine_fn test_rebuilt_table_before_header(void)
{
    Memdisk *disk = new_image();
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");
    ImageCheck check = {0};
    GError *err = NULL;
    int64_t header;

    put(&d, 0);
    qcow2_disk_close(&d);
    memset(memdisk_data(disk) + RB_AT, 0, CLUSTER);
    d = qcow2_disk_open(disk, "img", "");
    memdisk_log_clear(disk);
    g_assert_true(d.node->drv->co_check(d.node, &check, true, true, &err));
    g_assert_cmpint(check.corruptions_fixed, >, 0);
    header = find(disk, MEMDISK_WRITE, QCOW2_AT_REFTABLE);
    g_assert_cmpint(entry(disk, header - 1).kind, ==, MEMDISK_FLUSH);
    g_assert_cmpint(entry(disk, header + 1).kind, ==, MEMDISK_FLUSH);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-order/rebuilt-refcounts-before-header", test_rebuilt_table_before_header)

/* R7: where refcounts have moved, guest data lie in the clusters that emptying puts tables in. */
static void coroutine_fn test_old_map_before_fresh_tables(void)
{
    const unsigned changes = MEMDISK_WRITE | MEMDISK_ZERO;
    Memdisk *disk = new_image();
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");
    ImageCheck check = {0};
    GError *err = NULL;
    int64_t map, tables;

    qcow2_disk_close(&d);
    memset(memdisk_data(disk) + RB_AT, 0, CLUSTER);
    d = qcow2_disk_open(disk, "img", "");
    g_assert_true(d.node->drv->co_check(d.node, &check, true, true, &err));
    g_assert_cmpint(check.corruptions_fixed, >, 0);
    put(&d, 0);
    put(&d, CLUSTER);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    memdisk_log_clear(disk);
    g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
    map = find(disk, changes, 3 * CLUSTER);
    tables = find(disk, changes, CLUSTER);
    g_assert_cmpint(map, <, tables);
    g_assert_cmpint(entry(disk, tables - 1).kind, ==, MEMDISK_FLUSH);
    g_assert_cmpint(tables - 1, >, map);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-order/old-map-before-fresh-tables", test_old_map_before_fresh_tables)

/* Everything that no flush covers is lost. */
static void lose_all(Memdisk *disk)
{
    Choices *c = choices_of_recording(NULL, 0);

    memdisk_crash(disk, c);
    choices_free(c);
}

static void coroutine_fn test_length_is_durable(void)
{
    static const int64_t lengths[] = {DISK + MiB, 2 * GiB, 4 * MiB};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        Memdisk *disk = new_image();
        Qcow2Disk d = qcow2_disk_open(disk, "img", "");
        GError *err = NULL;

        put(&d, 0);
        g_assert_true(
            backend_co_truncate(d.be, lengths[i], true, BLOCK_PREALLOC_OFF, 0, &err));
        lose_all(disk);
        qcow2_disk_close(&d);
        d = qcow2_disk_open(disk, "img", "");
        g_assert_cmpint(node_length(d.node), ==, lengths[i]);
        qcow2_disk_close(&d);
        memdisk_free(disk);
    }
}
VTEST("/qcow2-order/length-is-durable", test_length_is_durable)

/* R8: who still reads a cluster that was discarded sees what it was, not what is put there next. */
typedef struct SlowRead {
    Qcow2Disk *d;
    uint8_t buf[512];
    int r;
} SlowRead;

static int coroutine_fn read_start(void *opaque)
{
    SlowRead *read = opaque;

    read->r = backend_co_pread(read->d->be, 0, read->buf, sizeof(read->buf));
    return 0;
}

static void coroutine_fn test_reader_before_reuse(void)
{
    Memdisk *disk = new_image();
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"discard\":\"unmap\"");
    SlowRead read = {.d = &d};
    CoGroup group = {0};

    put(&d, 0);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    memdisk_set_latency(disk, MEMDISK_READ, NS_PER_S);
    co_group_spawn(&group, read_start, &read);
    co_sleep_ns(NS_PER_MS);
    g_assert_cmpint(backend_co_pdiscard(d.be, 0, CLUSTER), ==, 0);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    }
    for (int i = 1; i < 4; i++) {
        uint8_t buf[512] = {2};

        g_assert_cmpint(backend_co_pwrite(d.be, i * CLUSTER, buf, sizeof(buf), 0), ==, 0);
    }
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    g_assert_cmpint(read.r, ==, 0);
    g_assert_cmpuint(read.buf[0], ==, 1);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-order/readers-before-reuse", test_reader_before_reuse)

static void coroutine_fn test_shrunk_part_is_gone(void)
{
    Memdisk *disk = new_image();
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");
    uint8_t byte = 9;

    put(&d, 8 * MiB);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    g_assert_true(backend_co_truncate(d.be, 4 * MiB, true, BLOCK_PREALLOC_OFF, 0, NULL));
    lose_all(disk);
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", "");
    g_assert_true(backend_co_truncate(d.be, DISK, true, BLOCK_PREALLOC_OFF, 0, NULL));
    g_assert_cmpint(backend_co_pread(d.be, 8 * MiB, &byte, 1), ==, 0);
    g_assert_cmpuint(byte, ==, 0);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2-order/shrunk-part-is-gone", test_shrunk_part_is_gone)

/* R9, while a scratch image is closed: it is dirty, or all of it is there. */
typedef struct Closing {
    Qcow2Disk d;
    bool done;
} Closing;

static void coroutine_fn close_it(void *opaque)
{
    Closing *c = opaque;

    qcow2_disk_close(&c->d);
    c->done = true;
}

static void coroutine_fn look_after_cut(Memdisk *disk)
{
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"read-only\":true");
    BlockInfoData info = {0};
    uint8_t byte = 0;

    node_get_info(d.node, &info);
    if (!info.is_dirty) {
        g_assert_cmpint(qcow2_disk_check(&d).corruptions, ==, 0);
        g_assert_cmpint(backend_co_pread(d.be, 8 * MiB, &byte, 1), ==, 0);
        g_assert_cmpuint(byte, ==, 1);
    }
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", "");
    qcow2_disk_close(&d);
}

static void coroutine_fn test_scratch_is_closed(void)
{
    bool whole = false; /* a run that was not cut */

    for (size_t cut = 0; !whole; cut++) {
        Memdisk *disk = new_image();
        Closing c = {.d = qcow2_disk_open(disk, "img", ",\"metadata-policy\":\"scratch\"")};

        put(&c.d, 0);
        put(&c.d, 8 * MiB);
        memdisk_log_clear(disk);
        co_spawn(close_it, &c);
        for (size_t n = 0; n <= cut && !c.done; (void)memdisk_log(disk, &n)) {
            co_sleep_ns(10);
        }
        whole = c.done;
        memdisk_crash_newest(disk);
        while (!c.done) {
            co_sleep_ns(10);
        }
        look_after_cut(disk);
        memdisk_free(disk);
    }
}
VTEST("/qcow2-order/scratch-image-is-closed", test_scratch_is_closed)
