/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes of the qcow2 format to values and back. */
#include "../../block/qcow2/format.h"
#include "../../block/qcow2/set.h"
#include "test.h"
#include "util/prng.h"

/* Nine clusters in use, as stock QEMU writes them. */
static void test_packing_of_small_refcounts(void)
{
    static const uint8_t one[] = {0xff, 0x01}, two[] = {0x55, 0x55, 0x01},
                         four[] = {0x11, 0x11, 0x11, 0x11, 0x01};
    static const struct {
        const uint8_t *bytes;
        size_t n;
    } want[] = {{one, sizeof(one)}, {two, sizeof(two)}, {four, sizeof(four)}};

    for (uint32_t order = 0; order < 3; order++) {
        uint8_t block[8] = {0};

        for (uint64_t i = 0; i < 9; i++) {
            qcow2_refcount_pack(block, order, i, 1);
        }
        g_assert_cmpmem(block, want[order].n, want[order].bytes, want[order].n);
    }
}
TEST("/qcow2/format/packing-of-small-refcounts", test_packing_of_small_refcounts)

static void test_refcounts_of_all_widths(void)
{
    for (uint32_t order = 0; order <= 6; order++) {
        uint64_t max = qcow2_refcount_max(order), n = 64 * 8 >> order;
        uint64_t want[512];
        uint8_t block[64] = {0};
        Prng p;

        prng_init(&p, order + 1);
        for (uint64_t i = 0; i < n; i++) {
            want[i] = prng_next(&p) & max;
            qcow2_refcount_pack(block, order, i, want[i]);
        }
        for (uint64_t i = 0; i < n; i++) {
            g_assert_cmphex(qcow2_refcount_unpack(block, order, i), ==, want[i]);
        }
    }
}
TEST("/qcow2/format/refcounts-of-all-widths", test_refcounts_of_all_widths)

static void test_types_of_entries(void)
{
    g_assert_cmpint(qcow2_entry_type(0), ==, QCOW2_UNALLOCATED);
    g_assert_cmpint(qcow2_entry_type(1), ==, QCOW2_ZERO_PLAIN);
    g_assert_cmpint(qcow2_entry_type(UINT64_C(0x8000000000060001)), ==, QCOW2_ZERO_ALLOC);
    g_assert_cmpint(qcow2_entry_type(UINT64_C(0x8000000000050000)), ==, QCOW2_DATA);
    g_assert_cmpint(qcow2_entry_type(UINT64_C(0x4000000000050123)), ==, QCOW2_COMPRESSED);
}
TEST("/qcow2/format/types-of-entries", test_types_of_entries)

/* x = 70 - cluster_bits bits of offset; then sectors after the first. */
static void test_compressed_extents(void)
{
    static const uint32_t bits[] = {9, 12, 16, 21};

    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        uint32_t x = 70 - bits[i];
        uint64_t sectors = bits[i] > 9 ? 3 : 1, offset, bytes;
        uint64_t entry = UINT64_C(1) << 62 | sectors << x | 0x50123;

        qcow2_compressed_extent(entry, bits[i], &offset, &bytes);
        g_assert_cmphex(offset, ==, 0x50123);
        g_assert_cmpuint(bytes, ==, (sectors + 1) * 512 - 0x123);
    }
}
TEST("/qcow2/format/compressed-extents", test_compressed_extents)

/* What we do not know comes out of a rewrite as it went in. */
static void test_header_keeps_what_it_does_not_know(void)
{
    uint8_t raw[4096] = {0}, again[4096];
    g_autoptr(GError) err = NULL;
    Qcow2Header h;

    qcow2_put32(raw, QCOW2_MAGIC);
    qcow2_put32(raw + 4, 3);
    qcow2_put32(raw + 20, 12);
    qcow2_put64(raw + 24, 1 << 20);
    qcow2_put32(raw + 36, 1);
    qcow2_put64(raw + 40, 3 * 4096);
    qcow2_put64(raw + 48, 4096);
    qcow2_put32(raw + 56, 1);
    qcow2_put64(raw + 80, 0xf1); /* unknown compatible bits */
    qcow2_put32(raw + 96, 4);
    qcow2_put32(raw + 100, 120);
    memcpy(raw + 112, "ABCDEFGH", 8);   /* unknown header bytes */
    qcow2_put32(raw + 120, 0x12345678); /* unknown extension */
    qcow2_put32(raw + 124, 5);
    memcpy(raw + 128, "hello", 5);
    qcow2_put32(raw + 136, QCOW2_EXT_BACKING_FORMAT);
    qcow2_put32(raw + 140, 3);
    memcpy(raw + 144, "raw", 3);
    qcow2_put64(raw + 8, 160); /* behind the end mark */
    qcow2_put32(raw + 16, 4);
    memcpy(raw + 160, "base", 4);

    g_assert_true(qcow2_header_parse(raw, sizeof(raw), 4 * 4096, &h, &err));
    g_assert_cmpstr(h.backing_file, ==, "base");
    g_assert_cmpstr(h.backing_format, ==, "raw");
    g_assert_true(qcow2_header_emit(&h, again, &err));
    qcow2_header_clear(&h);

    g_assert_true(qcow2_header_parse(again, sizeof(again), 4 * 4096, &h, &err));
    g_assert_cmphex(h.compatible, ==, 0xf1);
    g_assert_cmpmem(h.unknown, h.unknown_bytes, "ABCDEFGH", 8);
    g_assert_cmpuint(h.extensions->len, ==, 1);
    g_assert_cmphex(g_array_index(h.extensions, Qcow2Extension, 0).type, ==, 0x12345678);
    g_assert_cmpmem(g_array_index(h.extensions, Qcow2Extension, 0).data, 5, "hello", 5);
    g_assert_cmpstr(h.backing_file, ==, "base");
    qcow2_header_clear(&h);
}
TEST("/qcow2/format/header-keeps-what-it-does-not-know", test_header_keeps_what_it_does_not_know)

static void test_set_is_a_set(void)
{
    bool model[500] = {false};
    Qcow2Set s = {0};
    Prng p;

    prng_init(&p, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t k = prng_below(&p, 499) + 1;

        if (prng_below(&p, 2)) {
            qcow2_set_add(&s, k << 20, 3);
            model[k] = true;
        } else {
            qcow2_set_remove(&s, k << 20);
            model[k] = false;
        }
        k = prng_below(&p, 499) + 1;
        g_assert_cmpuint(qcow2_set_get(&s, k << 20), ==, model[k] ? 3 : 0);
    }
    qcow2_set_clear(&s);
}
TEST("/qcow2/format/set-is-a-set", test_set_is_a_set)
