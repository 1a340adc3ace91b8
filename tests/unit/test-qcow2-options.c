/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of qcow2: what each changes in what the disk is asked, and values refused. */
#include "../../block/qcow2/format.h"
#include "block/blockdev.h"
#include "qapi/walk.h"
#include "qcow2-disk.h"
#include "vtest.h"

#define CLUSTER 65536
#define DISK    (16 * MiB)
#define L1_AT   (3 * CLUSTER)
#define RT_AT   CLUSTER
#define RB_AT   (2 * CLUSTER)
#define L2_AT   (4 * CLUSTER) /* of an image to whose start something was written first */
#define DATA_AT (5 * CLUSTER)
#define DIRTY   1

static Memdisk *coroutine_fn new_image(BlockdevCreateOptionsQcow2 o)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.latency_ns = 100});

    o.size = o.size ? o.size : DISK;
    qcow2_disk_create(disk, o);
    return disk;
}

static uint64_t get64(Memdisk *disk, uint64_t at)
{
    return qcow2_get64(memdisk_data(disk) + at);
}

static void coroutine_fn put(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    uint8_t *buf = g_malloc(bytes);

    memset(buf, byte, bytes);
    g_assert_cmpint(backend_co_pwrite(d->be, offset, buf, bytes, 0), ==, 0);
    g_free(buf);
}

static void coroutine_fn flush(Qcow2Disk *d)
{
    g_assert_cmpint(backend_co_flush(d->be), ==, 0);
}

/* Requests of @kinds that touch [@from, @to), since the log was cleared. */
static unsigned count(Memdisk *disk, unsigned kinds, int64_t from, int64_t to)
{
    unsigned hits = 0;
    size_t n;
    const MemdiskEntry *log = memdisk_log(disk, &n);

    for (size_t i = 0; i < n; i++) {
        hits += (log[i].kind & kinds) && log[i].offset < to && log[i].offset + log[i].bytes > from;
    }
    return hits;
}

static void coroutine_fn refused(Memdisk *disk, const char *options, const char *want)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(qcow2_disk_try_open(disk, "img", options, &err));
    if (!strstr(err->message, want)) {
        g_error("%s: '%s' does not say '%s'", options, err->message, want);
    }
}

static void coroutine_fn reopen(const char *options, const char *want_error)
{
    g_autofree char *text = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"node-name\":\"img\",\"file\":\"img-file\"%s}", options);
    json_t *json = json_loads(text, 0, NULL);
    g_autoptr(GError) err = NULL;
    BlockdevOptions *o = blockdev_options_from_json(json, &err);

    g_assert_no_error(err);
    g_assert_cmpint(blockdev_co_reopen(&o, 1, &err), ==, want_error == NULL);
    if (want_error) {
        g_assert_nonnull(strstr(err->message, want_error));
    }
    blockdev_options_free(o);
    json_decref(json);
}

/* --- lazy refcounts --- */

static void coroutine_fn close_and_check(Memdisk *disk, Qcow2Disk *d)
{
    qcow2_disk_close(d);
    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, 0);
    *d = qcow2_disk_open(disk, "img", ",\"read-only\":true");
    qcow2_disk_assert_clean(d);
    qcow2_disk_close(d);
}

/* Are counts late with these options? */
static bool coroutine_fn is_lazy(bool header, const char *options)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){.has_lazy_refcounts = true,
                                                           .lazy_refcounts = header});
    Qcow2Disk d = qcow2_disk_open(disk, "img", options);
    bool late;

    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, 0);
    put(&d, 5 * CLUSTER, CLUSTER, 1); /* the count of a table is never late */
    flush(&d);
    memdisk_log_clear(disk);
    put(&d, 0, 3 * CLUSTER, 1);
    flush(&d);
    late = count(disk, MEMDISK_WRITE, RB_AT, RB_AT + CLUSTER) == 0;
    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, late ? DIRTY : 0);
    close_and_check(disk, &d);
    memdisk_free(disk);
    return late;
}

static void coroutine_fn test_lazy(void)
{
    Memdisk *v2 = new_image(
        (BlockdevCreateOptionsQcow2){.has_version = true, .version = BLOCKDEV_QCOW2_VERSION_V2});

    g_assert_false(is_lazy(false, ""));
    g_assert_true(is_lazy(true, ""));
    g_assert_true(is_lazy(false, ",\"lazy-refcounts\":true"));
    g_assert_false(is_lazy(true, ",\"lazy-refcounts\":false"));
    refused(v2, ",\"lazy-refcounts\":true", "Lazy refcounts require");
    memdisk_free(v2);
}
VTEST("/qcow2/options/lazy-refcounts", test_lazy)

static void coroutine_fn test_lazy_crash(void)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"lazy-refcounts\":true");
    Choices *c = choices_of_seed(1);
    uint8_t byte;

    put(&d, 0, 3 * CLUSTER, 7);
    flush(&d);
    memdisk_crash(disk, c);
    qcow2_disk_close(&d);
    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, DIRTY);
    /* The counts of clusters 4 to 7: only the table's is there. */
    g_assert_cmphex(get64(disk, RB_AT + 8), ==, UINT64_C(0x0001000000000000));

    d = qcow2_disk_open(disk, "img", "");
    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, 0);
    g_assert_cmpint(backend_co_pread(d.be, 3 * CLUSTER - 1, &byte, 1), ==, 0);
    g_assert_cmpuint(byte, ==, 7);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
    choices_free(c);
}
VTEST("/qcow2/options/lazy-refcounts-are-repaired", test_lazy_crash)

static void coroutine_fn test_lazy_off_again(void)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"lazy-refcounts\":true");

    put(&d, 0, CLUSTER, 7);
    flush(&d);
    g_assert_cmphex(get64(disk, QCOW2_AT_INCOMPATIBLE), ==, DIRTY);
    reopen(",\"lazy-refcounts\":false", NULL);
    put(&d, CLUSTER, CLUSTER, 7);
    flush(&d);
    g_assert_cmphex(get64(disk, RB_AT + 8), ==, UINT64_C(0x0001000100010000));
    close_and_check(disk, &d);
    memdisk_free(disk);
}
VTEST("/qcow2/options/lazy-refcounts-turned-off", test_lazy_off_again)

/* --- caches --- */

#define TABLES     64 /* of 512 bytes, each for 32 KiB */
#define TABLE_SPAN (64 * 512)

static Memdisk *coroutine_fn many_tables(void)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){
        .size = TABLES * TABLE_SPAN, .has_cluster_size = true, .cluster_size = 512});
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");

    for (int i = 0; i < TABLES; i++) {
        put(&d, i * TABLE_SPAN, 512, 1);
    }
    qcow2_disk_close(&d);
    return disk;
}

/* Reads of the second round over all tables: of the tables that did not stay in memory, and data */
static unsigned coroutine_fn second_round(Qcow2Disk *d)
{
    uint8_t buf[512];

    for (int round = 0; round < 2; round++) {
        memdisk_log_clear(d->disk);
        for (int i = 0; i < TABLES; i++) {
            g_assert_cmpint(backend_co_pread(d->be, i * TABLE_SPAN, buf, 512), ==, 0);
        }
    }
    return (unsigned)memdisk_log_count(d->disk, MEMDISK_READ) - TABLES;
}

static void coroutine_fn test_l2_cache_size(void)
{
    static const struct {
        const char *options;
        bool all_stay;
    } cases[] = {
        {"", true},
        {",\"l2-cache-size\":32768", true},
        {",\"l2-cache-size\":16384", false},
        {",\"l2-cache-size\":0", false},
        {",\"cache-size\":65536", true},
        {",\"cache-size\":16384", false},
        {",\"cache-size\":65536,\"refcount-cache-size\":49152", false},
        {",\"cache-size\":65536,\"l2-cache-size\":16384", false},
    };
    Memdisk *disk = many_tables();

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Qcow2Disk d = qcow2_disk_open(disk, "img", cases[i].options);
        unsigned again = second_round(&d);

        if ((again == 0) != cases[i].all_stay) {
            g_error("%s: %u tables were read again", cases[i].options, again);
        }
        reopen(",\"l2-cache-size\":8192", NULL);
        g_assert_cmpuint(second_round(&d), >, 0);
        reopen(",\"l2-cache-size\":65536", NULL);
        g_assert_cmpuint(second_round(&d), ==, 0);
        qcow2_disk_close(&d);
    }
    refused(disk, ",\"cache-size\":1,\"l2-cache-size\":1,\"refcount-cache-size\":1",
            "may not be set at the same time");
    refused(disk, ",\"cache-size\":1,\"l2-cache-size\":2", "l2-cache-size may not exceed");
    refused(disk, ",\"cache-size\":1,\"refcount-cache-size\":2",
            "refcount-cache-size may not exceed");
    memdisk_free(disk);
}
VTEST("/qcow2/options/cache-sizes", test_l2_cache_size)

/* Blocks that a second round of the same discards and writes reads again. */
static unsigned coroutine_fn blocks_read_again(const char *options)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){
        .size = 8 * MiB, .has_cluster_size = true, .cluster_size = 512});
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");
    ImageCheck check;

    put(&d, 0, 6 * MiB, 1); /* 48 blocks and more */
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", options);
    check = qcow2_disk_check(&d);
    g_assert_cmpint(check.corruptions, ==, 0);
    memdisk_log_clear(disk);
    check = qcow2_disk_check(&d);
    g_assert_cmpint(check.corruptions, ==, 0);
    qcow2_disk_close(&d);
    {
        unsigned reads = (unsigned)memdisk_log_count(disk, MEMDISK_READ);

        memdisk_free(disk);
        return reads;
    }
}

static void coroutine_fn test_refcount_cache_size(void)
{
    unsigned large = blocks_read_again(",\"refcount-cache-size\":1048576");
    unsigned small = blocks_read_again(",\"refcount-cache-size\":8192");

    g_assert_cmpuint(small, >=, large + 40);
    g_assert_cmpuint(blocks_read_again(""), ==, large);
}
VTEST("/qcow2/options/refcount-cache-size", test_refcount_cache_size)

static void coroutine_fn test_entry_size(void)
{
    static const int64_t sizes[] = {512, 4096, 16384, CLUSTER};
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", "");
    const MemdiskEntry *log;
    uint8_t buf[512];
    size_t n;

    put(&d, 0, CLUSTER, 1);
    qcow2_disk_close(&d);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *options =
            g_strdup_printf(",\"l2-cache-entry-size\":%lld", (long long)sizes[i]);

        d = qcow2_disk_open(disk, "img", options);
        memdisk_log_clear(disk);
        g_assert_cmpint(backend_co_pread(d.be, 0, buf, 512), ==, 0);
        log = memdisk_log(disk, &n);
        g_assert_cmpint(log[0].offset, ==, L2_AT);
        g_assert_cmpint(log[0].bytes, ==, sizes[i]);
        put(&d, 200 * CLUSTER, CLUSTER, 2);
        g_assert_cmpint(backend_co_pread(d.be, 200 * CLUSTER, buf, 512), ==, 0);
        g_assert_cmpuint(buf[0], ==, 2);
        qcow2_disk_assert_clean(&d);
        reopen(",\"l2-cache-entry-size\":2048", "Cannot change the option 'l2-cache-entry-size'");
        qcow2_disk_close(&d);
    }
    refused(disk, ",\"l2-cache-entry-size\":131072", "L2 cache entry size must be a power of two");
    refused(disk, ",\"l2-cache-entry-size\":4097", "L2 cache entry size must be a power of two");
    memdisk_free(disk);
}
VTEST("/qcow2/options/l2-cache-entry-size", test_entry_size)

/* Is the table read again after @seconds without use? */
static bool coroutine_fn is_dropped(Qcow2Disk *d, int seconds)
{
    uint8_t buf[512];

    g_assert_cmpint(backend_co_pread(d->be, 0, buf, 512), ==, 0);
    co_sleep_ns(seconds * (int64_t)NS_PER_S);
    memdisk_log_clear(d->disk);
    g_assert_cmpint(backend_co_pread(d->be, 0, buf, 512), ==, 0);
    return count(d->disk, MEMDISK_READ, L2_AT, L2_AT + CLUSTER) > 0;
}

static void coroutine_fn test_clean_interval(void)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
    Qcow2Disk d = qcow2_disk_open(disk, "img", ",\"cache-clean-interval\":10");

    put(&d, 0, CLUSTER, 1);
    g_assert_false(is_dropped(&d, 40)); /* dirty */
    flush(&d);
    g_assert_true(is_dropped(&d, 40));
    g_assert_false(is_dropped(&d, 9));
    g_assert_false(is_dropped(&d, 9));
    reopen(",\"cache-clean-interval\":0", NULL);
    g_assert_false(is_dropped(&d, 10000));
    reopen("", NULL);
    g_assert_false(is_dropped(&d, 590));
    g_assert_true(is_dropped(&d, 1300));
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/options/cache-clean-interval", test_clean_interval)

/* --- discards --- */

static unsigned coroutine_fn holes(Qcow2Disk *d)
{
    for (int i = 0; i < 3; i++) {
        flush(d);
    }
    return (unsigned)memdisk_log_count(d->disk, MEMDISK_DISCARD);
}

static void coroutine_fn test_pass_discard(void)
{
    static const struct {
        const char *options;
        unsigned request, other; /* holes that each makes */
    } cases[] = {
        {",\"discard\":\"unmap\"", 1, 0},
        {"", 0, 0}, /* the guest's discards end here already */
        {",\"discard\":\"unmap\",\"pass-discard-request\":false", 0, 0},
        {",\"discard\":\"unmap\",\"pass-discard-other\":true", 1, 1},
        {",\"pass-discard-other\":true", 0, 1},
        {",\"discard\":\"unmap\",\"pass-discard-request\":false,\"pass-discard-other\":true", 0,
         1},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
        Qcow2Disk d = qcow2_disk_open(disk, "img", "");

        put(&d, 0, 4 * CLUSTER, 1);
        qcow2_disk_close(&d);
        memdisk_data(disk)[L2_AT] = 0; /* not COPIED: to be written elsewhere */

        d = qcow2_disk_open(disk, "img", cases[i].options);
        memdisk_log_clear(disk);
        g_assert_cmpint(backend_co_pdiscard(d.be, 2 * CLUSTER, CLUSTER), ==, 0);
        g_assert_cmpuint(holes(&d), ==, cases[i].request);
        memdisk_log_clear(disk);
        put(&d, 0, CLUSTER, 2);
        g_assert_cmpuint(holes(&d), ==, cases[i].other);
        qcow2_disk_close(&d);
        memdisk_free(disk);
    }
}
VTEST("/qcow2/options/pass-discard", test_pass_discard)

static void coroutine_fn test_no_unref(void)
{
    Memdisk *disk = new_image((BlockdevCreateOptionsQcow2){});
    const char *options = ",\"discard\":\"unmap\",\"discard-no-unref\":true";
    Qcow2Disk d = qcow2_disk_open(disk, "img", options);
    int64_t length;
    uint8_t byte;

    put(&d, 0, 4 * CLUSTER, 1);
    flush(&d);
    length = memdisk_length(disk);
    memdisk_log_clear(disk);
    g_assert_cmpint(backend_co_pdiscard(d.be, CLUSTER, 2 * CLUSTER), ==, 0);
    g_assert_cmpuint(holes(&d), ==, 1); /* one for both */
    g_assert_cmpuint(
        count(disk, MEMDISK_DISCARD, DATA_AT + CLUSTER, DATA_AT + 3 * CLUSTER), ==, 1);
    g_assert_cmphex(get64(disk, L2_AT + 8), ==,
                    QCOW2_COPIED | (DATA_AT + CLUSTER) | QCOW2_L2_ZERO);
    g_assert_cmpint(backend_co_pread(d.be, CLUSTER, &byte, 1), ==, 0);
    g_assert_cmpuint(byte, ==, 0);
    put(&d, CLUSTER + 100, 100, 2);
    flush(&d);
    g_assert_cmphex(get64(disk, L2_AT + 8), ==, QCOW2_COPIED | (DATA_AT + CLUSTER));
    g_assert_cmpint(backend_co_pread(d.be, CLUSTER + 99, &byte, 1), ==, 0);
    g_assert_cmpuint(byte, ==, 0);
    g_assert_cmpint(memdisk_length(disk), ==, length);
    qcow2_disk_assert_clean(&d);

    reopen(",\"discard\":\"unmap\"", NULL);
    g_assert_cmpint(backend_co_pdiscard(d.be, CLUSTER, 2 * CLUSTER), ==, 0);
    flush(&d);
    g_assert_cmphex(get64(disk, L2_AT + 8), ==, QCOW2_L2_ZERO);
    qcow2_disk_close(&d);
    memdisk_free(disk);

    disk = new_image(
        (BlockdevCreateOptionsQcow2){.has_version = true, .version = BLOCKDEV_QCOW2_VERSION_V2});
    refused(disk, ",\"discard-no-unref\":true", "only supported since qcow2 version 3");
    memdisk_free(disk);
}
VTEST("/qcow2/options/discard-no-unref", test_no_unref)
