/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zero: is a buffer all zeros?
 *
 * Data that is not zero mostly shows it in its first, middle or last word, so
 * those are looked at first. The rest is or-ed in blocks with the widest
 * vectors of this processor, leaving at the first block that is not zero. The
 * last block overlaps the one before it, so there is no tail loop.
 *
 * The choice is a plain function pointer: an ifunc resolver would run before
 * the sanitizers are ready.
 */
#include "util/buf.h"

#include <string.h>

#define BLOCK_BYTES 128 /* of the widest loop */

static uint64_t load64(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

/* Less than a block. */
static bool is_zero_short(const uint8_t *p, size_t bytes)
{
    uint64_t acc = 0;
    size_t i = 0;

    if (bytes >= 8) {
        for (; i + 8 <= bytes; i += 8) {
            acc |= load64(p + i);
        }
        return (acc | load64(p + bytes - 8)) == 0;
    }
    for (; i < bytes; i++) {
        acc |= p[i];
    }
    return acc == 0;
}

/* The loops: at least a block. */
typedef bool ZeroFn(const uint8_t *p, size_t bytes);

static bool block_is_zero(const uint8_t *p)
{
    uint64_t acc = 0;

    for (int i = 0; i < BLOCK_BYTES; i += 8) {
        acc |= load64(p + i);
    }
    return acc == 0;
}

static bool is_zero_plain(const uint8_t *p, size_t bytes)
{
    const uint8_t *last = p + bytes - BLOCK_BYTES;

    for (; p < last; p += BLOCK_BYTES) {
        if (!block_is_zero(p)) {
            return false;
        }
    }
    return block_is_zero(last);
}

#ifdef __x86_64__
#include <immintrin.h>

__attribute__((target("avx2"))) static inline bool block_is_zero_avx2(const uint8_t *p)
{
    const __m256i_u *v = (const __m256i_u *)p;
    __m256i a = _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
    __m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));

    a = _mm256_or_si256(a, b);
    return _mm256_testz_si256(a, a);
}

__attribute__((target("avx2"))) static bool is_zero_avx2(const uint8_t *p, size_t bytes)
{
    const uint8_t *last = p + bytes - BLOCK_BYTES;

    for (; p < last; p += BLOCK_BYTES) {
        if (!block_is_zero_avx2(p)) {
            return false;
        }
    }
    return block_is_zero_avx2(last);
}
#endif

static ZeroFn *is_zero_long = is_zero_plain;

__attribute__((constructor)) static void zero_pick(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        is_zero_long = is_zero_avx2;
    }
#endif
}

bool buf_is_zero(const void *buf, size_t bytes)
{
    const uint8_t *p = buf;

    if (bytes < BLOCK_BYTES) {
        return is_zero_short(p, bytes);
    }
    if ((load64(p) | load64(p + bytes / 2) | load64(p + bytes - 8)) != 0) {
        return false;
    }
    return is_zero_long(p, bytes);
}
