/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Malformed qcow2 images: each is refused when it is opened, or the request
 * that meets the damage fails and nothing is written where it must not be.
 */
#include <endian.h>

#include "qapi/event-sink.h"
#include "qcow2-disk.h"
#include "user.h"
#include "util/buf.h"
#include "vtest.h"

#define CLUSTER 65536
#define DISK    (16 * MiB)
#define L1_AT   (3 * CLUSTER)
#define RT_AT   CLUSTER
#define RB_AT   (2 * CLUSTER)
#define L2_AT   (4 * CLUSTER) /* of an image to whose start one cluster was written */
#define DATA_AT (5 * CLUSTER)

/* --- changing bytes --- */

static void put(Memdisk *d, int64_t at, uint64_t value, unsigned bytes)
{
    uint64_t be = htobe64(value << (64 - 8 * bytes));

    memcpy(memdisk_data(d) + at, &be, bytes);
}

static uint64_t get64(Memdisk *d, int64_t at)
{
    uint64_t be;

    memcpy(&be, memdisk_data(d) + at, 8);
    return be64toh(be);
}

/* An image of version 3 with data in its first cluster. */
static Memdisk *coroutine_fn sample(bool v2)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){});
    uint8_t buf[512];
    Qcow2Disk d;

    qcow2_disk_create(disk,
                      (BlockdevCreateOptionsQcow2){.size = DISK,
                                                   .has_version = v2,
                                                   .version = BLOCKDEV_QCOW2_VERSION_V2});
    d = qcow2_disk_open(disk, "img", "");
    memset(buf, 0x3c, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(d.be, 0, buf, sizeof(buf), 0), ==, 0);
    qcow2_disk_close(&d);
    g_assert_cmphex(get64(disk, L1_AT), ==, UINT64_C(0x8000000000000000) | L2_AT);
    g_assert_cmphex(get64(disk, L2_AT), ==, UINT64_C(0x8000000000000000) | DATA_AT);
    return disk;
}

/* --- refused at open --- */

typedef struct Field {
    int64_t at;
    uint64_t value;
    unsigned bytes;
} Field;

typedef struct BadHeader {
    const char *what; /* part of the message */
    Field fields[6];
    bool v2;
} BadHeader;

#define EXT_AT 112 /* of a header as we write it: the feature names come first */

static const BadHeader bad_headers[] = {
    {"not in qcow2 format", {{0, 0x514649fa, 4}}},
    {"Unsupported qcow2 version 1", {{4, 1, 4}}},
    {"Unsupported qcow2 version 4", {{4, 4, 4}}},
    {"Unsupported cluster size", {{20, 8, 4}}},
    {"Unsupported cluster size", {{20, 22, 4}}},
    {"header too short", {{100, 103, 4}}},
    {"header too short", {{100, 0, 4}}},
    {"exceeds cluster size", {{100, 65544, 4}}},
    {"not a multiple of 8", {{100, 108, 4}}},
    {"Unsupported qcow2 feature(s)", {{72, 32, 8}}},
    {"Unsupported qcow2 feature(s)", {{72, UINT64_C(1) << 63, 8}}},
    {"Compression type incompatible feature bit must not be set", {{72, 8, 8}}},
    {"Compression type incompatible feature bit must be set", {{104, 1, 1}}},
    {"unknown compression type", {{72, 8, 8}, {104, 2, 1}}},
    {"width too large", {{96, 7, 4}}},
    {"xtended L2", {{72, 16, 8}}},
    {"external data file", {{72, 4, 8}}},
    {"without an external data file", {{88, 2, 8}}},
    {"Unsupported encryption method", {{32, 3, 4}}},
    {"AES", {{32, 1, 4}}},
    {"LUKS header extension does not match", {{32, 2, 4}}},
    {"LUKS header extension does not match", {{EXT_AT, 0x0537be77, 4}, {EXT_AT + 4, 16, 4}}},
    {"LUKS extension: Invalid length", {{EXT_AT, 0x0537be77, 4}, {EXT_AT + 4, 24, 4}}},
    {"Header extension too large", {{EXT_AT, 0x12345678, 4}, {EXT_AT + 4, 65536, 4}}},
    {"Header extension too large", {{EXT_AT, 0x12345678, 4}, {EXT_AT + 4, 0xfffffff8, 4}}},
    {"Header extension too large", {{EXT_AT, 0x12345678, 4}, {EXT_AT + 4, 0xffffffff, 4}}},
    {"Backing format name too long", {{EXT_AT, 0xe2792aca, 4}, {EXT_AT + 4, 16, 4}}},
    {"Invalid backing file offset", {{8, 65537, 8}}},
    {"Invalid backing file offset", {{8, 8, 8}, {16, 5, 4}}},
    {"Backing file name too long", {{8, 1024, 8}, {16, 1024, 4}}},
    {"Backing file name too long", {{8, 65530, 8}, {16, 10, 4}}},
    {"L1 table is too small", {{36, 0, 4}}},
    {"L1 table is too small", {{24, UINT64_C(1) << 40, 8}}},
    {"L1 table too large", {{36, 0x400001, 4}}},
    {"L1 table offset invalid", {{40, L1_AT + 512, 8}}},
    {"L1 table offset invalid", {{40, UINT64_C(0xffffffffffff0000), 8}}},
    {"L1 table lies outside of the file", {{40, 64 * CLUSTER, 8}}},
    {"L1 table lies outside of the file", {{40, 0, 8}}},
    {"too big for its cluster size", {{24, UINT64_C(0x7ffffffffffffe00), 8}}},
    {"too big for its cluster size", {{24, UINT64_C(0xfffffffffffffe00), 8}}},
    {"does not contain a reference count table", {{56, 0, 4}}},
    {"Reference count table too large", {{56, 129, 4}}},
    {"Reference count table offset invalid", {{48, RT_AT + 8, 8}}},
    {"Reference count table lies outside", {{48, 64 * CLUSTER, 8}}},
    {"Snapshot table too large", {{60, 65537, 4}}},
    {"Snapshot table offset invalid", {{64, 100, 8}}},
    {"Snapshot table lies outside", {{60, 1, 4}, {64, 64 * CLUSTER, 8}}},
    {"internal snapshots", {{60, 1, 4}, {64, DATA_AT, 8}}},
    {"without a bitmaps extension", {{88, 1, 8}}},
    {"bitmaps extension: Invalid length",
     {{88, 1, 8}, {EXT_AT, 0x23852875, 4}, {EXT_AT + 4, 16, 4}}},
    {"want 1 to 65535",
     {{88, 1, 8}, {EXT_AT, 0x23852875, 4}, {EXT_AT + 4, 24, 4}, {EXT_AT + 8, 0, 8}}},
    {"Reserved field is not zero",
     {{88, 1, 8},
      {EXT_AT, 0x23852875, 4},
      {EXT_AT + 4, 24, 4},
      {EXT_AT + 8, UINT64_C(0x100000001), 8}}},
    {"bitmap directory offset",
     {{88, 1, 8},
      {EXT_AT, 0x23852875, 4},
      {EXT_AT + 4, 24, 4},
      {EXT_AT + 8, UINT64_C(0x100000000), 8},
      {EXT_AT + 16, 24, 8},
      {EXT_AT + 24, 100, 8}}},
    {"bitmap directory size",
     {{88, 1, 8},
      {EXT_AT, 0x23852875, 4},
      {EXT_AT + 4, 24, 4},
      {EXT_AT + 8, UINT64_C(0x200000000), 8},
      {EXT_AT + 16, 24, 8},
      {EXT_AT + 24, DATA_AT, 8}}},
    {"Image is corrupt", {{72, 2, 8}}},
    {"L1 table is too small", {{36, 0, 4}}, true},
};

static void coroutine_fn test_bad_headers(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad_headers); i++) {
        const BadHeader *b = &bad_headers[i];
        Memdisk *disk = sample(b->v2);
        GError *err = NULL;

        for (size_t k = 0; k < G_N_ELEMENTS(b->fields) && b->fields[k].bytes; k++) {
            put(disk, b->fields[k].at, b->fields[k].value, b->fields[k].bytes);
        }
        g_assert_null(qcow2_disk_try_open(disk, "img", "", &err));
        g_assert_nonnull(err);
        if (!strstr(err->message, b->what)) {
            g_error("case %zu: want '%s', have '%s'", i, b->what, err->message);
        }
        g_clear_error(&err);
        memdisk_free(disk);
    }
}
VTEST("/qcow2/malformed/headers", test_bad_headers)

static void coroutine_fn test_short_files(void)
{
    static const int64_t lengths[] = {0, 1, 71, 72, 103, 104, 111, 300, CLUSTER};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        Memdisk *whole = sample(false);
        Memdisk *disk = memdisk_new(&(MemdiskOptions){.length = lengths[i]});
        GError *err = NULL;

        memcpy(memdisk_data(disk), memdisk_data(whole), lengths[i]);
        g_assert_null(qcow2_disk_try_open(disk, "img", "", &err));
        g_assert_nonnull(err);
        g_clear_error(&err);
        memdisk_free(disk);
        memdisk_free(whole);
    }
}
VTEST("/qcow2/malformed/short-files", test_short_files)

/* --- found by a request --- */

typedef struct Told { /* by BLOCK_IMAGE_CORRUPTED */
    unsigned n;
    bool fatal;
    int64_t offset, size;
    char device[16], node[16];
} Told;

static void hear(const char *name, json_t *data, void *opaque)
{
    Told *told = opaque;

    g_assert_cmpstr(name, ==, "BLOCK_IMAGE_CORRUPTED");
    g_assert_cmpuint(strlen(json_string_value(json_object_get(data, "msg"))), >, 10);
    g_strlcpy(told->device, json_string_value(json_object_get(data, "device")),
              sizeof(told->device));
    told->n++;
    told->fatal = json_is_true(json_object_get(data, "fatal"));
    told->offset = json_integer_value(json_object_get(data, "offset"));
    told->size = json_integer_value(json_object_get(data, "size"));
    g_strlcpy(told->node, json_string_value(json_object_get(data, "node-name")),
              sizeof(told->node));
}

typedef struct BadTable {
    const char *what;
    Field fields[3];
    bool read_is_fine; /* only writing meets it */
    bool v2;
    int64_t at; /* where to read and write */
} BadTable;

#define COPIED UINT64_C(0x8000000000000000)

static const BadTable bad_tables[] = {
    {"L1 unaligned", {{L1_AT, COPIED | (L2_AT + 512), 8}}},
    {"L1 reserved", {{L1_AT, COPIED | L2_AT | 1, 8}}},
    {"L1 reserved", {{L1_AT, COPIED | L2_AT | UINT64_C(1) << 60, 8}}},
    {"L1 cluster 0", {{L1_AT, COPIED, 8}}},
    {"L2 table past the end", {{L1_AT, COPIED | 1000 * CLUSTER, 8}}},
    {"L2 table far past the end", {{L1_AT, COPIED | UINT64_C(0x00ffffffffff0000), 8}}},
    {"L2 unaligned", {{L2_AT, COPIED | (DATA_AT + 512), 8}}},
    {"L2 reserved", {{L2_AT, COPIED | DATA_AT | 2, 8}}},
    {"L2 reserved", {{L2_AT, COPIED | DATA_AT | UINT64_C(1) << 57, 8}}},
    {"data past the end", {{L2_AT, COPIED | 1000 * CLUSTER, 8}}},
    {"zero flag in version 2", {{L2_AT, 1, 8}}, .v2 = true},
    {"compressed and COPIED", {{L2_AT, COPIED | UINT64_C(1) << 62 | DATA_AT, 8}}},
    {"compressed past the end", {{L2_AT, UINT64_C(1) << 62 | 1000 * CLUSTER, 8}}},
    {"compressed garbage", {{L2_AT, UINT64_C(1) << 62 | DATA_AT, 8}}},
    {"data in the refcount table", {{L2_AT, COPIED | RT_AT, 8}}, .read_is_fine = true},
    {"data in a refcount block", {{L2_AT, COPIED | RB_AT, 8}}, .read_is_fine = true},
    {"data in the L1 table", {{L2_AT, COPIED | L1_AT, 8}}, .read_is_fine = true},
    {"data in the L2 table", {{L2_AT, COPIED | L2_AT, 8}}, .read_is_fine = true},
    /* These are met when a cluster is allocated. */
    {"refcount table unaligned", {{RT_AT, RB_AT + 512, 8}}, true, false, CLUSTER},
    {"refcount table reserved", {{RT_AT, RB_AT + 1, 8}}, true, false, CLUSTER},
    {"refcount block past the end", {{RT_AT, 1000 * CLUSTER, 8}}, true, false, CLUSTER},
    {"refcount table is its own block", {{RT_AT, RT_AT, 8}}, true, false, CLUSTER},
    {"counts of metadata are 0", {{RB_AT, 0, 8}, {RB_AT + 8, 0, 8}}, true, false, CLUSTER},
};

static void coroutine_fn meet(const BadTable *b)
{
    Memdisk *disk = sample(b->v2);
    g_autofree uint8_t *before = NULL;
    uint8_t buf[512] = {1};
    bool garbage = strstr(b->what, "garbage") != NULL; /* of one cluster's data only */
    Told told = {0};
    Qcow2Disk d;
    int r;

    event_sink_add(hear, &told);
    for (size_t k = 0; k < G_N_ELEMENTS(b->fields) && b->fields[k].bytes; k++) {
        put(disk, b->fields[k].at, b->fields[k].value, b->fields[k].bytes);
    }
    before = g_memdup2(memdisk_data(disk), 4 * CLUSTER);

    d = qcow2_disk_open(disk, "ro", ",\"read-only\":true");
    for (int i = 0; i < 2; i++) {
        r = backend_co_pread(d.be, b->at, buf, sizeof(buf));
        g_assert_cmpint(r, ==, b->read_is_fine ? 0 : -EIO);
    }
    qcow2_disk_close(&d);
    g_assert_cmpuint(told.n, ==, b->read_is_fine || garbage ? 0 : 1);
    g_assert_false(told.fatal);

    told.n = 0;
    d = qcow2_disk_open(disk, "rw", "");
    r = backend_co_pwrite(d.be, b->at, buf, sizeof(buf), 0);
    g_assert_cmpint(r, ==, -EIO);
    if (!garbage) {
        /* Marked, and nobody gets through any more. */
        g_assert_cmpint(backend_co_pwrite(d.be, 8 * MiB, buf, sizeof(buf), 0), ==, -EIO);
        g_assert_cmpint(backend_co_pread(d.be, b->at, buf, sizeof(buf)), ==, -EIO);
        g_assert_cmpint(backend_co_flush(d.be), ==, -EIO);
        g_assert_cmpuint(told.n, ==, 1);
        g_assert_true(told.fatal);
        g_assert_cmpstr(told.device, ==, "");
        g_assert_cmpstr(told.node, ==, "rw");
        g_assert_cmpint(told.offset, >=, 0);
        g_assert_cmpint(told.offset, <, memdisk_length(disk));
        g_assert_cmpint(told.size, >, 0);
        if (!b->v2) {
            g_assert_cmphex(get64(disk, 72), ==, 2);
        }
    }
    qcow2_disk_close(&d);
    event_sink_remove(hear, &told);
    /* Nothing of the first four clusters has changed but that bit. */
    g_assert_cmpmem(memdisk_data(disk) + 80, 4 * CLUSTER - 80, before + 80, 4 * CLUSTER - 80);
    memdisk_free(disk);
}

static void coroutine_fn test_bad_tables(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad_tables); i++) {
        g_test_message("%s", bad_tables[i].what);
        meet(&bad_tables[i]);
    }
}
VTEST("/qcow2/malformed/tables", test_bad_tables)

static void coroutine_fn test_tells_the_drive(void)
{
    Memdisk *disk = sample(false);
    g_autoptr(GError) err = NULL;
    BlockNode *node;
    BlockBackend *be;
    Told told = {0};
    uint8_t buf[512];

    put(disk, L2_AT, COPIED | (DATA_AT + 512), 8);
    node = qcow2_disk_try_open(disk, "img", "", &err);
    g_assert_no_error(err);
    be = user_co_new("drive0", node, PERM_CONSISTENT_READ | PERM_WRITE);
    event_sink_add(hear, &told);
    g_assert_cmpint(backend_co_pread(be, 0, buf, sizeof(buf)), ==, -EIO);
    event_sink_remove(hear, &told);
    g_assert_cmpstr(told.device, ==, "drive0");
    g_assert_cmpint(told.offset, ==, L2_AT);
    g_assert_cmpint(told.size, ==, 8);
    backend_co_free(be);
    node_co_unref(node);
    memdisk_free(disk);
}
VTEST("/qcow2/malformed/tells-the-drive", test_tells_the_drive)

/* --- which structures are guarded --- */

/* Does the guest's write go through? */
static bool coroutine_fn is_written(uint64_t host, const char *options)
{
    Memdisk *disk = sample(false);
    uint8_t buf[512] = {1}, now[512];
    Qcow2Disk d;
    int r;

    put(disk, L2_AT, COPIED | host, 8);
    d = qcow2_disk_open(disk, "img", options);
    r = backend_co_pwrite(d.be, 4096, buf, sizeof(buf), 0);
    memcpy(now, memdisk_data(disk) + host + 4096, sizeof(now));
    g_assert_cmpint(r, ==, memcmp(buf, now, sizeof(now)) == 0 ? 0 : -EIO);
    qcow2_disk_close(&d);
    memdisk_free(disk);
    return r == 0;
}

static void coroutine_fn test_guards(void)
{
    static const uint64_t hosts[] = {L1_AT, L2_AT, RT_AT, RB_AT};
    static const struct {
        const char *options;
        const char *guarded; /* a digit for each of @hosts */
    } modes[] = {
        {"", "1111"},
        {",\"overlap-check\":\"none\"", "0000"},
        {",\"overlap-check\":\"constant\"", "1010"},
        {",\"overlap-check\":\"cached\"", "1111"},
        {",\"overlap-check\":\"all\"", "1111"},
        {",\"overlap-check\":{\"template\":\"none\"}", "0000"},
        {",\"overlap-check\":{\"template\":\"none\",\"active-l1\":true}", "1000"},
        {",\"overlap-check\":{\"template\":\"none\",\"active-l2\":true}", "0100"},
        {",\"overlap-check\":{\"template\":\"none\",\"refcount-table\":true}", "0010"},
        {",\"overlap-check\":{\"template\":\"none\",\"refcount-block\":true}", "0001"},
        {",\"overlap-check\":{\"active-l1\":false}", "0111"},
        {",\"overlap-check\":{\"active-l2\":false}", "1011"},
        {",\"overlap-check\":{\"template\":\"all\",\"refcount-table\":false}", "1101"},
        {",\"overlap-check\":{\"refcount-block\":false}", "1110"},
    };

    for (size_t m = 0; m < G_N_ELEMENTS(modes); m++) {
        for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
            bool guarded = !is_written(hosts[i], modes[m].options);

            if (guarded != (modes[m].guarded[i] == '1')) {
                g_error("%s: structure %zu", modes[m].options, i);
            }
        }
    }
}
VTEST("/qcow2/overlap-check", test_guards)

/* No count, not even the header's: whatever is checked, cluster 0 is not handed out. */
static void coroutine_fn test_header_is_never_allocated(void)
{
    static const char *const all[] = {"", ",\"overlap-check\":\"none\""};
    static const Field lost[] = {{RB_AT, 0, 2}, {RT_AT, 0, 8}};

    for (int i = 0; i < 4; i++) {
        Memdisk *disk = sample(false);
        uint8_t buf[512] = {1};
        Told told = {0};
        Qcow2Disk d;

        put(disk, lost[i / 2].at, lost[i / 2].value, lost[i / 2].bytes);
        event_sink_add(hear, &told);
        d = qcow2_disk_open(disk, "img", all[i % 2]);
        g_assert_cmpint(backend_co_pwrite(d.be, CLUSTER, buf, sizeof(buf), 0), ==, -EIO);
        g_assert_cmpuint(told.n, ==, 1);
        g_assert_cmpint(told.offset, ==, 0);
        g_assert_cmphex(get64(disk, 0), ==, UINT64_C(0x514649fb00000003));
        g_assert_cmphex(get64(disk, 72), ==, 2);
        qcow2_disk_close(&d);
        event_sink_remove(hear, &told);
        memdisk_free(disk);
    }
}
VTEST("/qcow2/header-is-never-allocated", test_header_is_never_allocated)

/* COPIED says nothing where there is no cluster. */
static void coroutine_fn test_copied_nothing(void)
{
    for (unsigned zero = 0; zero < 2; zero++) {
        Memdisk *disk = sample(false);
        uint8_t buf[512] = {1}, now[512];
        Qcow2Disk d;

        put(disk, L2_AT, COPIED | zero, 8);
        d = qcow2_disk_open(disk, "img", "");
        g_assert_cmpint(backend_co_pread(d.be, 0, now, 512), ==, 0);
        g_assert_true(buf_is_zero(now, 512));
        g_assert_cmpint(backend_co_pwrite(d.be, 0, buf, 512, 0), ==, 0);
        g_assert_cmpint(backend_co_pread(d.be, 0, now, 512), ==, 0);
        g_assert_cmpmem(now, 512, buf, 512);
        qcow2_disk_close(&d);
        g_assert_cmphex(get64(disk, L2_AT) & ~COPIED, >=, DATA_AT);
        g_assert_cmphex(get64(disk, 0), ==, UINT64_C(0x514649fb00000003));
        memdisk_free(disk);
    }
}
VTEST("/qcow2/copied-nothing", test_copied_nothing)

/* --- what check says of them, and what it mends --- */

static ImageCheck coroutine_fn check(Qcow2Disk *d, bool fix)
{
    ImageCheck c = {0};
    GError *err = NULL;

    d->node->drv->co_check(d->node, &c, fix, fix, &err);
    g_assert_no_error(err);
    return c;
}

static void coroutine_fn mended(int64_t at, uint64_t value, unsigned bytes, bool corrupt)
{
    Memdisk *disk = sample(false);
    uint8_t buf[512];
    ImageCheck c;
    Qcow2Disk d;

    put(disk, at, value, bytes);
    d = qcow2_disk_open(disk, "img", "");
    c = check(&d, false);
    g_assert_cmpint(c.corruptions > 0, ==, corrupt);
    g_assert_cmpint(c.leaks > 0 || corrupt, ==, true);
    c = check(&d, true);
    g_assert_cmpint(c.corruptions, ==, 0);
    c = check(&d, false);
    g_assert_cmpint(c.corruptions + c.leaks + c.check_errors, ==, 0);
    g_assert_cmpint(backend_co_pread(d.be, 0, buf, 512), ==, 0);
    g_assert_cmphex(buf[511], ==, 0x3c);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}

static void coroutine_fn test_mended(void)
{
    mended(RB_AT + 2 * 5, 2, 2, true);   /* too high: a leak, and not what COPIED says */
    mended(RB_AT + 2 * 5, 0, 2, true);   /* too low: rebuilt */
    mended(RB_AT + 2 * 9, 1, 2, false);  /* a leak */
    mended(L2_AT, DATA_AT, 8, true);     /* COPIED missing */
    mended(L1_AT, L2_AT, 8, true);       /* the same one level up */
    mended(RT_AT, 0, 8, true);           /* no counts at all */
    mended(RT_AT, RB_AT + 512, 8, true); /* no block there */
    mended(RT_AT + 8, 77 * CLUSTER, 8, true);
}

static void coroutine_fn test_count_too_high(void)
{
    Memdisk *disk = sample(false);
    ImageCheck c;
    Qcow2Disk d;

    put(disk, RB_AT + 2 * 5, 2, 2);
    d = qcow2_disk_open(disk, "img", "");
    c = check(&d, false);
    g_assert_cmpint(c.leaks, ==, 1);
    g_assert_cmpint(c.corruptions, ==, 1); /* the entry is marked COPIED, and the count says no */
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/check/count-too-high-is-a-leak", test_count_too_high)
VTEST("/qcow2/check/mends", test_mended)
