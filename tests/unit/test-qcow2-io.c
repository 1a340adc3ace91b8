/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2 images through a backend: what is written is read, and the image stays sound. */
#include "qcow2-disk.h"
#include "user.h"
#include "util/buf.h"
#include "util/sync.h"
#include "vtest.h"

#include <glib/gstdio.h>

static Memdisk *new_disk(void)
{
    return memdisk_new(&(MemdiskOptions){.length = 0});
}

static void coroutine_fn create(Memdisk *disk, uint64_t size, unsigned cluster_bits, bool v2)
{
    qcow2_disk_create(disk,
                      (BlockdevCreateOptionsQcow2){
                          .size = size,
                          .has_cluster_size = true,
                          .cluster_size = UINT64_C(1) << cluster_bits,
                          .has_version = v2,
                          .version = BLOCKDEV_QCOW2_VERSION_V2,
                      });
}

static void coroutine_fn write_byte(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, byte, bytes);
    g_assert_cmpint(backend_co_pwrite(d->be, offset, buf, bytes, 0), ==, 0);
}

static void coroutine_fn assert_byte(Qcow2Disk *d, int64_t offset, size_t bytes, uint8_t byte)
{
    g_autofree uint8_t *buf = g_malloc(bytes);

    memset(buf, ~byte, bytes);
    g_assert_cmpint(backend_co_pread(d->be, offset, buf, bytes), ==, 0);
    for (size_t i = 0; i < bytes; i++) {
        g_assert_cmphex(buf[i], ==, byte);
    }
}

/* --- writing and reading back, all cluster sizes, both versions --- */

static void coroutine_fn round_trip(unsigned cluster_bits, bool v2)
{
    uint64_t cluster = UINT64_C(1) << cluster_bits, size = 40 * cluster + 512;
    Memdisk *disk = new_disk();
    Qcow2Disk d;

    create(disk, size, cluster_bits, v2);
    d = qcow2_disk_open(disk, "img", "");
    g_assert_cmpint(backend_length(d.be), ==, size);
    assert_byte(&d, 0, 4096, 0);
    write_byte(&d, 100, 1000, 0x11);
    write_byte(&d, 3 * cluster - 100, 2 * cluster + 300, 0x22);
    write_byte(&d, size - 512, 512, 0x33);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);

    d = qcow2_disk_open(disk, "img", "");
    assert_byte(&d, 0, 100, 0);
    assert_byte(&d, 100, 1000, 0x11);
    assert_byte(&d, 3 * cluster - 100, 2 * cluster + 300, 0x22);
    assert_byte(&d, 5 * cluster + 200, cluster, 0);
    assert_byte(&d, size - 512, 512, 0x33);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}

static void coroutine_fn test_round_trip(void)
{
    for (unsigned bits = 9; bits <= 21; bits++) {
        round_trip(bits, false);
        round_trip(bits, true);
    }
}
VTEST("/qcow2/io/round-trip", test_round_trip)

/* --- a table of refcount widths --- */

static void coroutine_fn test_refcount_widths(void)
{
    for (int64_t bits = 1; bits <= 64; bits *= 2) {
        Memdisk *disk = new_disk();
        Qcow2Disk d;

        qcow2_disk_create(disk,
                          (BlockdevCreateOptionsQcow2){.size = MiB,
                                                       .has_cluster_size = true,
                                                       .cluster_size = 512,
                                                       .has_refcount_bits = true,
                                                       .refcount_bits = bits});
        d = qcow2_disk_open(disk, "img", "");
        write_byte(&d, 0, MiB, 0x5a); /* needs several blocks, or a larger table */
        g_assert_cmpint(backend_co_flush(d.be), ==, 0);
        qcow2_disk_assert_clean(&d);
        assert_byte(&d, 0, MiB, 0x5a);
        qcow2_disk_close(&d);
        memdisk_free(disk);
    }
}
VTEST("/qcow2/io/refcount-widths", test_refcount_widths)

/* --- discarding --- */

static void coroutine_fn test_discard_frees_after_flush(void)
{
    Memdisk *disk = new_disk();
    int64_t length;
    Qcow2Disk d;

    create(disk, 16 * MiB, 16, false);
    d = qcow2_disk_open(disk, "img", "");
    write_byte(&d, 0, 4 * MiB, 0x77);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(d.be, 0, 4 * MiB), ==, 0);
    assert_byte(&d, 0, 4 * MiB, 0x77); /* discard=ignore */
    qcow2_disk_close(&d);

    d = qcow2_disk_open(disk, "img", ",\"discard\":\"unmap\"");
    g_assert_cmpint(backend_co_pdiscard(d.be, 0, 4 * MiB), ==, 0);
    assert_byte(&d, 0, 4 * MiB, 0);
    g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    length = memdisk_length(disk);
    write_byte(&d, 8 * MiB, 4 * MiB, 0x78); /* takes the same clusters */
    g_assert_cmpint(memdisk_length(disk), ==, length);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/io/discard", test_discard_frees_after_flush)

/* --- growing over a longer backing file --- */

/* Whoever is told of the new length may use it at once. */
typedef struct Grown {
    BlockBackend *be;
    CoGroup writes;
    int64_t at;
} Grown;

static int coroutine_fn write_new_part(void *opaque)
{
    const Grown *g = opaque;
    uint8_t buf[4096], now[4096];

    g_assert_cmpint(backend_co_pread(g->be, g->at, now, sizeof(now)), ==, 0);
    g_assert_true(buf_is_zero(now, sizeof(now)));
    memset(buf, 0x99, sizeof(buf));
    return backend_co_pwrite(g->be, g->at, buf, sizeof(buf), 0);
}

static void grown(void *opaque)
{
    Grown *g = opaque;

    co_group_spawn(&g->writes, write_new_part, g);
}

static void coroutine_fn grow_in_use(bool v2, BlockPreallocMode mode, int64_t from, int64_t to,
                                     int64_t base_length)
{
    static const BackendOps ops = {.resized = grown};
    static const PermPair perm = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};
    Memdisk *below = memdisk_new(&(MemdiskOptions){.latency_ns = 1000}), *above = new_disk();
    Grown g = {.at = from};
    GError *err = NULL;
    Qcow2Disk b, a;

    create(below, base_length, 16, false);
    create(above, from, 16, v2);
    b = qcow2_disk_open(below, "base", "");
    write_byte(&b, 0, base_length, 0x66);
    a = qcow2_disk_open(above, "top", ",\"backing\":\"base\"");
    g.be = backend_new(NULL, perm, &ops, &g, &err);
    g_assert_no_error(err);
    g_assert_true(backend_co_insert(g.be, a.node, &err));

    backend_co_truncate(a.be, to, true, mode, 0, &err);
    g_assert_no_error(err);
    g_assert_cmpint(co_group_wait(&g.writes), ==, 0);
    assert_byte(&a, 0, from, 0x66);
    assert_byte(&a, from, 4096, 0x99);
    assert_byte(&a, from + 4096, to - from - 4096, 0);
    if (mode != BLOCK_PREALLOC_OFF) {
        BlockStatus st;

        g_assert_cmpint(node_co_block_status(a.node, false, from, to - from, &st), ==, 0);
        g_assert_cmpint(st.bytes, ==, to - from);
        g_assert_true(st.flags & STATUS_OFFSET_VALID);
    }
    backend_co_free(g.be);
    qcow2_disk_assert_clean(&a);
    qcow2_disk_close(&a);
    qcow2_disk_close(&b);
    memdisk_free(above);
    memdisk_free(below);
}

static void coroutine_fn test_grow_in_use(void)
{
    static const BlockPreallocMode modes[] = {BLOCK_PREALLOC_OFF, BLOCK_PREALLOC_METADATA,
                                              BLOCK_PREALLOC_FULL};

    for (int v2 = 0; v2 < 2; v2++) {
        for (size_t m = 0; m < G_N_ELEMENTS(modes); m++) {
            grow_in_use(v2, modes[m], 64 * KiB, 2 * MiB, MiB);
            grow_in_use(v2, modes[m], 64 * KiB + 1536, MiB, 2 * MiB);
            grow_in_use(v2, modes[m], 64 * KiB + 1536, 64 * KiB + 8192, MiB);
            grow_in_use(v2, modes[m], 64 * KiB, MiB, 64 * KiB + 512);
        }
    }
}
VTEST("/qcow2/io/grow-in-use", test_grow_in_use)

/* --- an image in an image --- */

static BlockNode *coroutine_fn open_upper(void)
{
    json_t *json = json_pack("{s:s, s:s, s:s}", "driver", "qcow2", "node-name", "upper", "file",
                             "img");
    GError *err = NULL;
    BlockNode *node = node_co_open_json(json, NULL, &err);

    g_assert_no_error(err);
    json_decref(json);
    return node;
}

/* The upper one grows the lower one by writing, as it would a file. */
static void coroutine_fn test_nested_image_grows(void)
{
    BlockdevRef ref = {.kind = BLOCKDEV_REF_REFERENCE, .u.reference = (char *)"img"};
    BlockdevCreateOptions opts = {.driver = BLOCKDEV_DRIVER_QCOW2,
                                  .u.qcow2 = {.size = 64 * MiB, .file = &ref}};
    Memdisk *disk = new_disk();
    GError *err = NULL;
    Qcow2Disk lower, upper = {0};

    create(disk, MiB, 9, false);
    lower = qcow2_disk_open(disk, "img", "");
    backend_co_free(lower.be);
    (void)driver_qcow2.co_create(&opts, &err);
    g_assert_no_error(err);
    upper.node = open_upper();
    upper.be = user_co_new(NULL, upper.node, PERM_CONSISTENT_READ | PERM_WRITE);
    for (int i = 0; i < 4; i++) {
        write_byte(&upper, i * 10 * MiB, MiB, (uint8_t)(0x31 + i));
    }
    g_assert_cmpint(node_length(lower.node), >, 4 * MiB);
    qcow2_disk_close(&upper);
    node_co_unref(lower.node);

    lower = qcow2_disk_open(disk, "img", "");
    qcow2_disk_assert_clean(&lower);
    backend_co_free(lower.be);
    upper.node = open_upper();
    upper.be = user_co_new(NULL, upper.node, PERM_CONSISTENT_READ | PERM_WRITE);
    qcow2_disk_assert_clean(&upper);
    for (int i = 0; i < 4; i++) {
        assert_byte(&upper, i * 10 * MiB, MiB, (uint8_t)(0x31 + i));
    }
    qcow2_disk_close(&upper);
    node_co_unref(lower.node);
    memdisk_free(disk);
}
VTEST("/qcow2/io/nested-image-grows", test_nested_image_grows)

/* --- emptying --- */

static void coroutine_fn empty(unsigned cluster_bits, bool v2)
{
    Memdisk *disk = new_disk();
    Qcow2Disk d;

    create(disk, 8 * MiB, cluster_bits, v2);
    d = qcow2_disk_open(disk, "img", "");
    for (int round = 0; round < 3; round++) {
        write_byte(&d, MiB, MiB, 0x42);
        write_byte(&d, 5 * MiB + 7, 100000, 0x43);
        g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
        assert_byte(&d, 0, 8 * MiB, 0);
        qcow2_disk_assert_clean(&d);
    }
    write_byte(&d, MiB, MiB, 0x44);
    qcow2_disk_close(&d);
    d = qcow2_disk_open(disk, "img", "");
    assert_byte(&d, MiB, MiB, 0x44);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}

static void coroutine_fn test_empty(void)
{
    empty(16, false);
    empty(16, true);
    empty(9, false);
    empty(9, true);
    empty(21, false);
}
VTEST("/qcow2/io/make-empty", test_empty)

/* --- resizing --- */

static void coroutine_fn test_resize(void)
{
    Memdisk *disk = new_disk();
    GError *err = NULL;
    Qcow2Disk d;

    create(disk, 64 * KiB, 9, false);
    d = qcow2_disk_open(disk, "img", "");
    write_byte(&d, 0, 64 * KiB, 0x10);
    backend_co_truncate(d.be, 4 * MiB, true, BLOCK_PREALLOC_OFF, 0, &err);
    g_assert_no_error(err);
    assert_byte(&d, 0, 64 * KiB, 0x10);
    assert_byte(&d, 64 * KiB, MiB, 0);
    write_byte(&d, 3 * MiB, MiB, 0x20);
    qcow2_disk_assert_clean(&d);
    backend_co_truncate(d.be, 1536, true, BLOCK_PREALLOC_OFF, 0, &err);
    g_assert_no_error(err);
    backend_co_truncate(d.be, 8 * MiB, true, BLOCK_PREALLOC_METADATA, 0, &err);
    g_assert_no_error(err);
    assert_byte(&d, 0, 1536, 0x10);
    assert_byte(&d, 1536, 8 * MiB - 1536, 0);
    qcow2_disk_assert_clean(&d);
    qcow2_disk_close(&d);
    memdisk_free(disk);
}
VTEST("/qcow2/io/resize", test_resize)

/* --- backing files --- */

static void coroutine_fn test_backing(void)
{
    Memdisk *below = new_disk(), *above = new_disk();
    Qcow2Disk b, a;

    create(below, MiB, 16, false);
    create(above, 2 * MiB, 12, false);
    b = qcow2_disk_open(below, "base", "");
    write_byte(&b, 0, MiB, 0x66);
    a = qcow2_disk_open(above, "top", ",\"discard\":\"unmap\",\"backing\":\"base\"");
    assert_byte(&a, 0, MiB, 0x66);
    assert_byte(&a, MiB, MiB, 0);
    write_byte(&a, 5000, 10, 0x77); /* the rest of the cluster is copied */
    assert_byte(&a, 4096, 904, 0x66);
    assert_byte(&a, 5000, 10, 0x77);
    assert_byte(&a, 5010, 4096, 0x66);
    g_assert_cmpint(backend_co_pwrite_zeroes(a.be, 8192, 65536, REQ_MAY_UNMAP), ==, 0);
    assert_byte(&a, 8192, 65536, 0);
    g_assert_cmpint(backend_co_pdiscard(a.be, 131072, 4096), ==, 0);
    assert_byte(&a, 131072, 4096, 0);
    g_assert_cmpint(backend_co_make_empty(a.be), ==, 0);
    assert_byte(&a, 0, MiB, 0x66);
    qcow2_disk_assert_clean(&a);
    qcow2_disk_close(&a);
    qcow2_disk_close(&b);
    memdisk_free(above);
    memdisk_free(below);
}
VTEST("/qcow2/io/backing", test_backing)

/* --- emptying --- */

static size_t truncates(Memdisk *disk)
{
    return memdisk_log_count(disk, MEMDISK_TRUNCATE);
}

static uint64_t written(Memdisk *disk)
{
    uint64_t bytes = 0;
    size_t n;
    const MemdiskEntry *log = memdisk_log(disk, &n);

    for (size_t i = 0; i < n; i++) {
        bytes += log[i].kind == MEMDISK_WRITE ? (uint64_t)log[i].bytes : 0;
    }
    return bytes;
}

/* Emptying itself cuts nothing off; flushes and the close do, never what is in use. Till then the
 * old part is as good as new: it is made zeroes by the piece where that can be done, and else what
 * a write leaves of its cluster. */
static void coroutine_fn is_cut_later(ReqFlags zero_flags)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.zero_flags = zero_flags});
    uint8_t *buf = g_malloc(64 * MiB);
    Qcow2Disk d;
    int64_t full;

    qcow2_disk_create(disk, (BlockdevCreateOptionsQcow2){.size = 128 * MiB});
    d = qcow2_disk_open(disk, "img", "");
    memset(buf, 1, 64 * MiB);
    g_assert_cmpint(backend_co_pwrite(d.be, 0, buf, 64 * MiB, 0), ==, 0);
    full = memdisk_length(disk);
    memdisk_log_clear(disk);

    g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
    g_assert_cmpuint(truncates(disk), ==, 0);
    g_assert_cmpint(memdisk_length(disk), ==, full);
    memdisk_log_clear(disk);
    for (int k = 0; k < 64; k++) {
        g_assert_cmpint(backend_co_pwrite(d.be, k * 65536 + 100, buf, 100, 0), ==, 0);
    }
    g_assert_cmpuint(memdisk_log_count(disk, MEMDISK_ZERO), ==, 1); /* or that of the L2 table */
    if (zero_flags) {
        g_assert_cmpuint(written(disk), <=, 64 * 4096);
    } else {
        g_assert_cmpuint(written(disk), ==, 64 * 65536);
    }
    g_assert_cmpint(memdisk_length(disk), ==, full);
    g_assert_cmpint(backend_co_pread(d.be, 0, buf, 64 * 65536), ==, 0);
    for (int i = 0; i < 64 * 65536; i++) { /* the clusters had ones in them */
        g_assert_cmpuint(buf[i], ==, i % 65536 >= 100 && i % 65536 < 200);
    }
    for (int i = 0; i < 12; i++) {
        g_assert_cmpint(backend_co_flush(d.be), ==, 0);
    }
    g_assert_cmpint(memdisk_length(disk), <=, 69 * 65536);
    qcow2_disk_assert_clean(&d);

    memset(buf, 2, 64 * MiB);
    g_assert_cmpint(backend_co_pwrite(d.be, 0, buf, 64 * MiB, 0), ==, 0);
    g_assert_cmpint(backend_co_make_empty(d.be), ==, 0);
    g_assert_cmpint(memdisk_length(disk), ==, full);
    qcow2_disk_close(&d);
    g_assert_cmpint(memdisk_length(disk), ==, 4 * 65536);
    memdisk_free(disk);
    g_free(buf);
}

static void coroutine_fn test_emptied_file_is_cut_later(void)
{
    is_cut_later(0);
    is_cut_later(REQ_MAY_UNMAP | REQ_NO_FALLBACK);
}
VTEST("/qcow2/io/emptied-file-is-cut-later", test_emptied_file_is_cut_later)
