/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scratch policy: what it stores and where, emptying beside requests in
 * flight, its end, and failures at each request of the disk.
 */
#include "qcow2-disk.h"
#include "util/sync.h"
#include "vtest.h"

#define DISK    (16 * MiB)
#define SCRATCH ",\"discard\":\"unmap\",\"metadata-policy\":\"scratch\""

static Memdisk *coroutine_fn new_image(bool v2, const MemdiskOptions *o)
{
    Memdisk *disk = memdisk_new(o);

    qcow2_disk_create(disk,
                      (BlockdevCreateOptionsQcow2){.size = DISK,
                                                   .has_version = v2,
                                                   .version = BLOCKDEV_QCOW2_VERSION_V2});
    return disk;
}

static int coroutine_fn put(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    uint8_t *buf = g_malloc(bytes);
    int r;

    memset(buf, byte, bytes);
    r = backend_co_pwrite(d->be, offset, buf, bytes, 0);
    g_free(buf);
    return r;
}

static void coroutine_fn must_put(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    g_assert_cmpint(put(d, offset, bytes, byte), ==, 0);
}

static void coroutine_fn expect(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(backend_co_pread(d->be, offset, buf, bytes), ==, 0);
    for (size_t i = 0; i < bytes; i++) {
        g_assert_cmphex(buf[i], ==, byte);
    }
    g_free(buf);
}

/* --- what is stored --- */

static void coroutine_fn test_stores_only_what_is_written(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){});
    const MemdiskEntry *log;
    BlockInfoData info = {0};
    Qcow2Disk d;
    size_t n;

    d = qcow2_disk_open(disk, "img", SCRATCH);
    node_get_info(d.node, &info);
    g_assert_cmpint(info.store_granularity, ==, 4096);
    g_assert_cmpint(info.cluster_size, ==, 65536);
    g_assert_true(info.is_dirty);
    memdisk_log_clear(disk);
    must_put(&d, 20 * 4096, 4096, 7);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    log = memdisk_log(disk, &n);
    g_assert_cmpuint(n, ==, 1); /* no table, no count, no flush */
    g_assert_cmpint(log[0].bytes, ==, 4096);
    g_assert_cmpint(log[0].kind, ==, MEMDISK_WRITE);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/scratch/stores-only-what-is-written", test_stores_only_what_is_written)

static void coroutine_fn test_status_has_sub_blocks(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    BlockStatus st;

    must_put(&d, 8192, 4096, 7);
    g_assert_cmpint(node_co_block_status(d.node, true, 0, DISK, &st), ==, 0);
    g_assert_cmpint(st.bytes, ==, 8192);
    g_assert_false(st.flags & STATUS_ALLOCATED);
    g_assert_cmpint(node_co_block_status(d.node, true, 8192, DISK - 8192, &st), ==, 0);
    g_assert_cmpint(st.bytes, ==, 4096);
    g_assert_true(st.flags & STATUS_ALLOCATED);
    g_assert_true(st.flags & STATUS_DATA);
    g_assert_cmpint(node_co_block_status(d.node, true, 12288, DISK - 12288, &st), ==, 0);
    g_assert_cmpint(st.bytes, ==, DISK - 12288); /* one run through all clusters */
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/scratch/status-has-sub-blocks", test_status_has_sub_blocks)

static void coroutine_fn test_emptying_reuses_in_place(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    int64_t length;

    must_put(&d, 0, 4 * MiB, 1);
    length = memdisk_length(disk);
    memdisk_log_clear(disk);
    for (uint8_t i = 2; i < 10; i++) {
        size_t n;

        d.node->drv->scratch_empty(d.node);
        (void)memdisk_log(disk, &n);
        g_assert_cmpuint(n, ==, 0);
        expect(&d, 0, 4 * MiB, 0);
        must_put(&d, 8 * MiB, 4 * MiB, i);
        expect(&d, 8 * MiB, 4 * MiB, i);
        g_assert_cmpint(memdisk_length(disk), ==, length);
        memdisk_log_clear(disk);
    }
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/scratch/emptying-reuses-in-place", test_emptying_reuses_in_place)

/* More than 1 GiB of host space: what the next epoch does not use goes back in small steps. */
static void coroutine_fn test_space_goes_back(void)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){});
    int64_t length, after_one;
    Qcow2Disk d;

    qcow2_disk_create(disk,
                      (BlockdevCreateOptionsQcow2){
                          .size = 2 * GiB, .has_cluster_size = true, .cluster_size = 2 * MiB});
    d = qcow2_disk_open(disk, "img", SCRATCH);
    for (int64_t at = 0; at < 600 * 2 * MiB; at += 2 * MiB) {
        must_put(&d, at, 4096, 1);
    }
    length = memdisk_length(disk);
    g_assert_cmpint(length, >, 1100 * MiB);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    g_assert_cmpint(memdisk_length(disk), ==, length); /* all in use */
    d.node->drv->scratch_empty(d.node);
    g_assert_cmpint(memdisk_length(disk), ==, length);
    must_put(&d, 0, 4096, 2);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    after_one = memdisk_length(disk);
    g_assert_cmpint(after_one, <, length);
    g_assert_cmpint(after_one, >=, length - 10 * MiB);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    }
    g_assert_cmpint(memdisk_length(disk), <, after_one);
    expect(&d, 0, 4096, 2);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/scratch/space-goes-back", test_space_goes_back)

/* --- beside requests in flight --- */

typedef struct Late {
    Qcow2Disk *d;
    int64_t offset;
    uint8_t byte;
    int r;
} Late;

static int coroutine_fn write_late(void *opaque)
{
    Late *l = opaque;

    l->r = put(l->d, l->offset, 4096, l->byte);
    return 0;
}

static void coroutine_fn test_empty_beside_a_write(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    Late l = {.d = &d, .offset = 0, .byte = 5};
    CoGroup group = {0};

    must_put(&d, MiB, 4096, 4);
    memdisk_stall(disk, true);
    co_group_spawn(&group, write_late, &l);
    while (memdisk_stalled(disk) == 0) {
        co_reschedule();
    }
    d.node->drv->scratch_empty(d.node);
    memdisk_stall(disk, false);
    must_put(&d, 2 * MiB, 4096, 6); /* must not be given the cluster of the late write */
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    g_assert_cmpint(l.r, ==, 0);
    expect(&d, 0, 2 * MiB, 0);
    expect(&d, 2 * MiB, 4096, 6);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST_ANY_ORDER("/qcow2/scratch/empty-beside-a-write", test_empty_beside_a_write)

static int coroutine_fn end_scratch(void *opaque)
{
    Qcow2Disk *d = opaque;

    return d->node->drv->co_scratch_end(d->node);
}

static void coroutine_fn test_requests_wait_for_the_end(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){.latency_ns = NS_PER_MS});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    CoGroup group = {0};
    Late l[4];

    must_put(&d, 0, 10000, 3);
    for (int i = 0; i < 4; i++) {
        l[i] = (Late){.d = &d, .offset = i * MiB + 65536, .byte = (uint8_t)(20 + i)};
        if (i == 2) {
            co_group_spawn(&group, end_scratch, &d);
            co_sleep_ns(NS_PER_MS / 2);
        }
        co_group_spawn(&group, write_late, &l[i]);
    }
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(l[i].r, ==, 0);
        expect(&d, l[i].offset, 4096, l[i].byte);
    }
    expect(&d, 0, 10000, 3);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST_ANY_ORDER("/qcow2/scratch/requests-wait-for-the-end", test_requests_wait_for_the_end)

/* What an earlier epoch has left in the file is cut off, not written out by the first flush. */
static void coroutine_fn test_end_cuts_before_it_flushes(void)
{
    Memdisk *disk = new_image(false, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    const MemdiskEntry *log;
    size_t n, i = 0;

    must_put(&d, 0, 4 * MiB, 3);
    d.node->drv->scratch_empty(d.node);
    must_put(&d, 2 * MiB, 8192, 4);
    memdisk_log_clear(disk);
    g_assert_cmpint(d.node->drv->co_scratch_end(d.node), ==, 0);
    log = memdisk_log(disk, &n);
    while (i < n && log[i].kind != MEMDISK_FLUSH && log[i].kind != MEMDISK_TRUNCATE) {
        i++;
    }
    g_assert_cmpuint(i, <, n);
    g_assert_cmpint(log[i].kind, ==, MEMDISK_TRUNCATE);
    g_assert_cmpint(memdisk_length(disk), <, MiB);
    expect(&d, 2 * MiB, 8192, 4);
    expect(&d, 0, MiB, 0);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/scratch/end-cuts-before-it-flushes", test_end_cuts_before_it_flushes)

/* --- failures --- */

/* Whatever fails while it begins, the old content is there or the error is plain; a retry works. */
static void coroutine_fn test_begin_fails_cleanly(void)
{
    bool done = false;

    for (uint64_t nth = 1; !done; nth++) {
        Memdisk *disk = new_image(false, &(MemdiskOptions){});
        Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"discard\":\"unmap\"");
        GError *err = NULL;

        must_put(&d, 0, MiB, 9);
        memdisk_fail_nth(disk, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_FLUSH | MEMDISK_TRUNCATE, nth,
                         EIO);
        done = d.node->drv->co_scratch_begin(d.node, &err);
        g_assert_true(done == (err == NULL));
        g_clear_error(&err);
        memdisk_heal(disk);
        g_assert_true(done || d.node->drv->co_scratch_begin(d.node, &err));
        expect(&d, 0, DISK, 0);
        must_put(&d, MiB, 4096, 8);
        qcow2_disk_close(&d);
        d = qcow2_disk_open(disk, "img", "");
        expect(&d, MiB, 4096, 8);
        qcow2_disk_assert_clean(&d);
        qcow2_disk_close(&d);
        memdisk_free(disk);
        g_assert_cmpuint(nth, <, 100);
    }
}
VTEST("/qcow2/scratch/begin-fails-cleanly", test_begin_fails_cleanly)

/* A failed end keeps what is stored readable; the file is then dirty or sound. */
static void coroutine_fn end_fails(bool v2, uint64_t nth, bool *ret_done)
{
    Memdisk *disk = new_image(v2, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", SCRATCH);
    ImageCheck c;

    must_put(&d, 12345, 100000, 9);
    memdisk_fail_nth(disk, MEMDISK_ALL & ~MEMDISK_STATUS, nth, EIO);
    *ret_done = d.node->drv->co_scratch_end(d.node) == 0;
    memdisk_heal(disk);
    expect(&d, 12345, 100000, 9);
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", ""); /* repairs if it is dirty */
    c = qcow2_disk_check(&d);
    g_assert_cmpint(c.corruptions, ==, 0);
    if (*ret_done) {
        expect(&d, 12345, 100000, 9);
        g_assert_cmpint(c.leaks, ==, 0);
    }
    qcow2_disk_close(&d);
    memdisk_free(disk);
}

static void coroutine_fn test_end_fails_cleanly(void)
{
    for (int v2 = 0; v2 < 2; v2++) {
        bool done = false;

        for (uint64_t nth = 1; !done; nth++) {
            end_fails(v2, nth, &done);
            g_assert_cmpuint(nth, <, 100);
        }
    }
}
VTEST("/qcow2/scratch/end-fails-cleanly", test_end_fails_cleanly)

/* The ordered policy: after any one failure the image is sound and takes requests again. */
static void coroutine_fn one_failure(bool v2, uint64_t nth, uint64_t *ret_requests)
{
    Memdisk *disk = new_image(v2, &(MemdiskOptions){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"discard\":\"unmap\"");
    ImageCheck c;
    size_t n;

    must_put(&d, 0, MiB, 1);
    memdisk_log_clear(disk);
    memdisk_fail_nth(disk, MEMDISK_ALL & ~MEMDISK_STATUS, nth, EIO);
    (void)put(&d, 2 * MiB + 100, 300000, 2);
    (void)backend_co_pdiscard(d.be, 0, 512 * KiB);
    (void)backend_co_flush(d.be);
    (void)put(&d, 8 * MiB, 65536, 3);
    (void)backend_co_pwrite_zeroes(d.be, 2 * MiB, 65536, 0);
    (void)backend_co_flush(d.be);
    (void)backend_co_make_empty(d.be);
    (void)memdisk_log(disk, &n);
    *ret_requests = n;
    memdisk_heal(disk);
    g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
    must_put(&d, 100, 200000, 4);
    expect(&d, 100, 200000, 4);
    expect(&d, MiB, 15 * MiB, 0);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    c = qcow2_disk_check(&d);
    g_assert_cmpint(c.corruptions, ==, 0);
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", "");
    expect(&d, 100, 200000, 4);
    c = qcow2_disk_check(&d);
    g_assert_cmpint(c.corruptions, ==, 0);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}

static void coroutine_fn test_any_one_failure(void)
{
    for (int v2 = 0; v2 < 2; v2++) {
        uint64_t requests = 1;

        for (uint64_t nth = 1; nth <= requests; nth++) {
            one_failure(v2, nth, &requests);
        }
        g_assert_cmpuint(requests, >, 10);
    }
}
VTEST("/qcow2/failures/any-one-request-of-the-disk", test_any_one_failure)
