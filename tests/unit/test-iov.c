/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iov: slices against flat arrays, and the zero test at every offset and length. */
#include <glib.h>
#include <stdlib.h>

#include "test.h"
#include "util/buf.h"
#include "util/iov.h"

static void test_slice_crosses_iovecs(void)
{
    char abc[] = "abc", defg[] = "defg";
    struct iovec v[] = {{abc, 3}, {defg, 4}};
    char out[4];

    size_t n = iov_copy_out(iov_slice(iov_of(v, 2), 2, 4), out, sizeof(out));

    g_assert_cmpuint(n, ==, 4);
    g_assert_cmpmem(out, 4, "cdef", 4);
}

static void test_slice_at_the_end_is_empty(void)
{
    char abc[] = "abc";
    struct iovec v[] = {{abc, 3}, {NULL, 0}};

    IoVec end = iov_slice(iov_of(v, 2), 3, 0);

    g_assert_cmpuint(end.bytes, ==, 0);
    g_assert_cmpuint(iov_slice(end, 0, 0).bytes, ==, 0);
    g_assert_true(iov_is_zero(end));
    g_assert_cmpuint(iov_of(NULL, 0).bytes, ==, 0);
}

static void test_sys_stops_at_max(void)
{
    char abc[] = "abc", defg[] = "defg";
    struct iovec v[] = {{abc, 3}, {NULL, 0}, {defg, 4}}, out[2];
    IoVec iov = iov_slice(iov_of(v, 3), 1, 5);

    g_assert_cmpint(iov_to_sys(iov, out, 1), ==, 1);
    g_assert_cmpmem(out[0].iov_base, out[0].iov_len, "bc", 2);
    g_assert_cmpint(iov_to_sys(iov, out, 2), ==, 2);
    g_assert_cmpmem(out[1].iov_base, out[1].iov_len, "def", 3);
}

static void test_alignment_looks_at_each_part(void)
{
    char *buf = buf_alloc(4096);
    struct iovec v[] = {{buf, 512}, {buf + 1024, 512}, {buf + 2048, 256}};
    IoVec iov = iov_of(v, 3);

    g_assert_true(iov_is_aligned(iov_slice(iov, 0, 1024), 512));
    g_assert_false(iov_is_aligned(iov, 512));
    g_assert_true(iov_is_aligned(iov, 256));
    g_assert_false(iov_is_aligned(iov_slice(iov, 1, 511), 512));
    g_assert_true(iov_is_aligned(iov_slice(iov, 0, 0), 512));
    buf_free(buf, 4096);
}

/* The zero test reads neither too little nor too much: a byte that is not zero
 * moves over, inside and just outside of every small range. */
static void test_zero_at_every_offset_and_length(void)
{
    enum { MAX_OFFSET = 40, MAX_BYTES = 600, ROOM = MAX_OFFSET + MAX_BYTES + 2 };
    uint8_t *buf = g_malloc0(ROOM);

    for (size_t offset = 1; offset < MAX_OFFSET; offset++) {
        for (size_t bytes = 0; bytes < MAX_BYTES; bytes += 1 + bytes / 64) {
            buf[offset - 1] = buf[offset + bytes] = 1;
            g_assert_true(buf_is_zero(buf + offset, bytes));
            for (size_t i = offset; i < offset + bytes; i++) {
                buf[i] = 0x80;
                g_assert_false(buf_is_zero(buf + offset, bytes));
                buf[i] = 0;
            }
            buf[offset - 1] = buf[offset + bytes] = 0;
        }
    }
    g_free(buf);
}

/* --- the model: flat arrays --- */

#define MODEL_BYTES 2000

/* Vectors of any length, empty ones among them, over @memory without overlap. */
static IoVec choose_iov(Choices *c, uint8_t *memory, struct iovec *v, int max_n)
{
    int n = choose_in(c, 0, max_n);
    size_t used = 0;

    for (int i = 0; i < n; i++) {
        v[i].iov_len = choose_in(c, 0, MODEL_BYTES / max_n);
        v[i].iov_base = memory + used;
        used += v[i].iov_len;
    }
    return iov_of(v, n);
}

static IoVec choose_slice(Choices *c, IoVec iov, size_t *ret_offset)
{
    size_t offset = choose_in(c, 0, iov.bytes);

    *ret_offset = offset;
    return iov_slice(iov, offset, choose_in(c, 0, iov.bytes - offset));
}

static void check_sys(IoVec iov, const uint8_t *flat)
{
    struct iovec sys[8];
    size_t done = 0;

    while (done < iov.bytes) {
        IoVec rest = iov_slice(iov, done, iov.bytes - done);
        int n = iov_to_sys(rest, sys, G_N_ELEMENTS(sys));

        g_assert_cmpint(n, >, 0);
        for (int i = 0; i < n; i++) {
            g_assert_cmpuint(sys[i].iov_len, >, 0);
            g_assert_cmpmem(sys[i].iov_base, sys[i].iov_len, flat + done, sys[i].iov_len);
            done += sys[i].iov_len;
        }
    }
    g_assert_cmpuint(done, ==, iov.bytes);
}

/* A slice of a slice of vectors is the same range of one flat array. */
static void prop_iov_is_flat(Choices *c)
{
    g_autofree uint8_t *memory = g_malloc(MODEL_BYTES), *model = g_malloc(MODEL_BYTES);
    g_autofree uint8_t *other = g_malloc(MODEL_BYTES), *out = g_malloc(MODEL_BYTES);
    struct iovec v[12], w[12];
    size_t at, outer, inner, unused;
    IoVec iov, from;

    choose_bytes(c, memory, MODEL_BYTES);
    choose_bytes(c, other, MODEL_BYTES);
    memcpy(model, memory, MODEL_BYTES);

    iov = choose_slice(c, choose_iov(c, memory, v, 12), &outer);
    iov = choose_slice(c, iov, &inner);
    from = choose_slice(c, choose_iov(c, other, w, 12), &unused);
    at = outer + inner; /* the vectors lie end to end */

    check_sys(iov, model + at);
    g_assert_cmpuint(iov_copy_out(iov, out, MODEL_BYTES), ==, iov.bytes);
    g_assert_cmpmem(out, iov.bytes, model + at, iov.bytes);

    switch (choose_in(c, 0, 2)) {
    case 0:
        memset(model + at, 0, iov.bytes);
        iov_fill(iov, 0);
        g_assert_true(iov_is_zero(iov));
        break;
    case 1: {
        size_t n = iov_copy_in(iov, other, choose_in(c, 0, MODEL_BYTES));

        g_assert_cmpuint(n, <=, iov.bytes);
        memcpy(model + at, other, n);
        break;
    }
    case 2: {
        size_t n = MIN(iov.bytes, from.bytes);

        iov_copy_out(from, model + at, n);
        iov_copy(iov_slice(iov, 0, n), iov_slice(from, 0, n));
        break;
    }
    }
    g_assert_cmpmem(memory, MODEL_BYTES, model, MODEL_BYTES);
}

TEST("/iov/slice-crosses-iovecs", test_slice_crosses_iovecs)
TEST("/iov/slice-at-the-end-is-empty", test_slice_at_the_end_is_empty)
TEST("/iov/sys-stops-at-max", test_sys_stops_at_max)
TEST("/iov/alignment-looks-at-each-part", test_alignment_looks_at_each_part)
TEST("/zero/every-offset-and-length", test_zero_at_every_offset_and_length)
PROPERTY("/iov/is-flat", prop_iov_is_flat)
