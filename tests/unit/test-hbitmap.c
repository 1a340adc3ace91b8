/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hbitmap: against a plain array of bool; huge maps stay small. */
#include <glib.h>
#include <malloc.h>

#include "failure.h"
#include "test.h"
#include "util/hbitmap.h"

static void test_empty_map(void)
{
    HBitmap *hb = hbitmap_new(0, 65536);

    g_assert_cmpuint(hbitmap_next_set(hb, 0), ==, UINT64_MAX);
    g_assert_cmpuint(hbitmap_next_clear(hb, 0), ==, 0);
    g_assert_cmpuint(hbitmap_count(hb), ==, 0);
    hbitmap_set(hb, 0, 0);
    g_assert_true(hbitmap_truncate(hb, 100));
    g_assert_false(hbitmap_get(hb, 99));
    hbitmap_free(hb);
    hbitmap_free(NULL);
}

static void test_last_bit_counts_to_the_end_of_the_disk(void)
{
    HBitmap *hb = hbitmap_new(1000, 512);
    uint64_t offset = 0, bytes;

    hbitmap_set(hb, 999, 1);
    g_assert_cmpuint(hbitmap_count(hb), ==, 488);
    g_assert_true(hbitmap_next_run(hb, &offset, 1000, &bytes));
    g_assert_cmpuint(offset, ==, 512);
    g_assert_cmpuint(bytes, ==, 488);
    g_assert_cmpuint(hbitmap_next_clear(hb, 512), ==, 1000);
    hbitmap_free(hb);
}

/* Setting all of 8 EiB by bytes takes no memory to speak of and no time. */
static void test_largest_map(void)
{
    HBitmap *hb = hbitmap_new(INT64_MAX, 1);
    uint64_t far = INT64_MAX - 70;

    hbitmap_set(hb, 0, INT64_MAX);
    g_assert_cmpuint(hbitmap_count(hb), ==, INT64_MAX);
    g_assert_cmpuint(hbitmap_next_clear(hb, 0), ==, INT64_MAX);
    hbitmap_reset(hb, far, 1);
    g_assert_cmpuint(hbitmap_next_clear(hb, 0), ==, far);
    g_assert_cmpuint(hbitmap_next_set(hb, far), ==, far + 1);
    hbitmap_reset_all(hb);
    g_assert_cmpuint(hbitmap_next_set(hb, 0), ==, UINT64_MAX);
    hbitmap_free(hb);
}

static void test_run_stops_at_the_end_asked_for(void)
{
    HBitmap *hb = hbitmap_new(1 << 20, 1024);
    uint64_t offset = 5000, bytes;

    hbitmap_set(hb, 4096, 8192);
    g_assert_true(hbitmap_next_run(hb, &offset, 6000, &bytes));
    g_assert_cmpuint(offset, ==, 5000);
    g_assert_cmpuint(bytes, ==, 1000);
    offset = 1000;
    g_assert_false(hbitmap_next_run(hb, &offset, 4096, &bytes));
    g_assert_cmpuint(offset, ==, 1000);
    hbitmap_free(hb);
}

static void test_memory_runs_out(void)
{
    for_each_failure(i)
    {
        HBitmap *hb = hbitmap_new(100, 1);

        if (hb == NULL) {
            g_assert_true(fault_fired());
            continue;
        }
        hbitmap_set(hb, 10, 20);
        if (!hbitmap_truncate(hb, INT64_MAX)) {
            g_assert_true(fault_fired());
            g_assert_cmpuint(hbitmap_bytes(hb), ==, 100); /* as before */
        }
        g_assert_cmpuint(hbitmap_count(hb), ==, 20);
        g_assert_cmpuint(hbitmap_next_set(hb, 0), ==, 10);
        hbitmap_free(hb);
    }
}

/* Two maps with every other bit make a full one, which is as small as an empty one. */
static void test_full_after_merge_is_small(void)
{
    enum { BITS = 1 << 18 };
    HBitmap *even = hbitmap_new(BITS, 1), *odd = hbitmap_new(BITS, 1);
    size_t before = mallinfo2().uordblks, peak;

    for (uint64_t i = 0; i < BITS; i += 2) {
        hbitmap_set(even, i, 1);
        hbitmap_set(odd, i + 1, 1);
    }
    hbitmap_merge(even, odd);
    g_assert_cmpuint(hbitmap_count(even), ==, BITS);
    peak = mallinfo2().uordblks; /* 0 under a sanitizer */
    hbitmap_reset_all(odd);
    g_assert_cmpuint(mallinfo2().uordblks, <=, before + 4096);
    g_assert_cmpuint(peak, <=, before + BITS / 8 * 5 / 4); /* odd alone, 3 % above its bits */
    hbitmap_free(even);
    hbitmap_free(odd);
}

/* --- the model: one bool a bit --- */

#define MODEL_BITS 20000 /* three levels */

typedef struct Model {
    HBitmap *hb;
    uint64_t bytes;
    uint32_t granularity;
    bool bit[MODEL_BITS + 1];
} Model;

static uint64_t choose_bytes_length(Choices *c, uint32_t granularity)
{
    return choose_in(c, 0, (uint64_t)MODEL_BITS * granularity);
}

static Model *model_new(uint64_t bytes, uint32_t granularity)
{
    Model *m = g_new0(Model, 1);

    m->bytes = bytes;
    m->granularity = granularity;
    m->hb = hbitmap_new(bytes, granularity);
    g_assert_nonnull(m->hb);
    return m;
}

static void model_free(Model *m)
{
    hbitmap_free(m->hb);
    g_free(m);
}

static void model_put(Model *m, uint64_t offset, uint64_t bytes, bool set)
{
    for (uint64_t i = offset / m->granularity; bytes > 0 && i * m->granularity < offset + bytes;
         i++) {
        m->bit[i] = set;
    }
}

static void apply_range(Choices *c, Model *m)
{
    uint64_t offset = choose_in(c, 0, m->bytes);
    uint64_t bytes = choose_in(c, 0, m->bytes - offset);
    bool set = !choose(c);

    (set ? hbitmap_set : hbitmap_reset)(m->hb, offset, bytes);
    model_put(m, offset, bytes, set);
}

static void apply_truncate(Choices *c, Model *m)
{
    uint64_t bytes = choose_bytes_length(c, m->granularity);

    g_assert_true(hbitmap_truncate(m->hb, bytes));
    m->bytes = bytes;
    for (uint64_t i = DIV_ROUND_UP(bytes, m->granularity); i <= MODEL_BITS; i++) {
        m->bit[i] = false;
    }
}

/* Merge a second map, whose granularity may be another. */
static void apply_merge(Choices *c, Model *m)
{
    Model *src = model_new(m->bytes, m->granularity << choose_in(c, 0, 2));

    while (choose_more(c, 4)) {
        apply_range(c, src);
    }
    hbitmap_merge(m->hb, src->hb);
    for (uint64_t i = 0; i * src->granularity < src->bytes; i++) {
        uint64_t start = i * src->granularity;

        if (src->bit[i]) {
            model_put(m, start, MIN(src->granularity, m->bytes - start), true);
        }
    }
    model_free(src);
}

static void check_runs(const Model *m)
{
    uint64_t at = 0, bytes, count = 0, bits = DIV_ROUND_UP(m->bytes, m->granularity);

    for (uint64_t i = 0; i < bits;) {
        uint64_t end = i;

        if (!m->bit[i]) {
            i++;
            continue;
        }
        while (end < bits && m->bit[end]) {
            end++;
        }
        g_assert_true(hbitmap_next_run(m->hb, &at, m->bytes, &bytes));
        g_assert_cmpuint(at, ==, i * m->granularity);
        g_assert_cmpuint(at + bytes, ==, MIN(end * m->granularity, m->bytes));
        at += bytes;
        count += bytes;
        i = end;
    }
    g_assert_false(hbitmap_next_run(m->hb, &at, m->bytes, &bytes));
    g_assert_cmpuint(hbitmap_count(m->hb), ==, count);
}

static uint64_t model_next(const Model *m, uint64_t offset, bool set)
{
    for (uint64_t i = offset / m->granularity; i * m->granularity < m->bytes; i++) {
        if (m->bit[i] == set) {
            return MAX(offset, i * m->granularity);
        }
    }
    return set ? UINT64_MAX : m->bytes;
}

static void check_points(Choices *c, const Model *m)
{
    for (int i = 0; i < 4; i++) {
        uint64_t offset = choose_in(c, 0, m->bytes);

        g_assert_cmpuint(hbitmap_next_set(m->hb, offset), ==,
                         offset < m->bytes ? model_next(m, offset, true) : UINT64_MAX);
        g_assert_cmpuint(hbitmap_next_clear(m->hb, offset), ==, model_next(m, offset, false));
        if (offset < m->bytes) {
            g_assert_cmpint(hbitmap_get(m->hb, offset), ==, m->bit[offset / m->granularity]);
        }
    }
}

/* Whatever is set, reset, merged and cut off, the map is an array of bits. */
static void prop_hbitmap_is_an_array(Choices *c)
{
    uint32_t granularity = UINT32_C(1) << choose_in(c, 0, 16);
    Model *m = model_new(choose_bytes_length(c, granularity), granularity);
    static const unsigned weights[] = {12, 2, 2, 1};

    while (choose_more(c, 15)) {
        switch (choose_weighted(c, weights, G_N_ELEMENTS(weights))) {
        case 0:
            apply_range(c, m);
            break;
        case 1:
            apply_merge(c, m);
            break;
        case 2:
            apply_truncate(c, m);
            break;
        case 3:
            hbitmap_reset_all(m->hb);
            model_put(m, 0, m->bytes, false);
            break;
        }
        check_runs(m);
        check_points(c, m);
    }
    model_free(m);
}

TEST("/hbitmap/empty-map", test_empty_map)
TEST("/hbitmap/last-bit", test_last_bit_counts_to_the_end_of_the_disk)
TEST("/hbitmap/largest-map", test_largest_map)
TEST("/hbitmap/run-stops-at-the-end", test_run_stops_at_the_end_asked_for)
TEST("/hbitmap/full-after-merge-is-small", test_full_after_merge_is_small)
TEST("/hbitmap/memory-runs-out", test_memory_runs_out)
PROPERTY("/hbitmap/is-an-array", prop_hbitmap_is_an_array)
