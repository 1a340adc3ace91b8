/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prng: xoshiro256** seeded by splitmix64 (Blackman and Vigna, public domain).
 *
 * The byte order of prng_fill() is little-endian everywhere, so a seed means
 * the same bytes on every machine.
 */
#include "util/prng.h"

#include <string.h>

static uint64_t splitmix_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void prng_init(Prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        p->s[i] = splitmix_next(&seed);
    }
}

static inline uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t prng_next(Prng *p)
{
    uint64_t *s = p->s;
    uint64_t ret = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return ret;
}

/* Lemire's multiplication; the rejected low part is what would make it uneven. */
uint64_t prng_below(Prng *p, uint64_t n)
{
    assert(n > 0);

    unsigned __int128 m = (unsigned __int128)prng_next(p) * n;

    if ((uint64_t)m < n) {
        uint64_t threshold = -n % n;

        while ((uint64_t)m < threshold) {
            m = (unsigned __int128)prng_next(p) * n;
        }
    }
    return (uint64_t)(m >> 64);
}

void prng_fill(Prng *p, void *buf, size_t bytes)
{
    uint8_t *out = buf;

    while (bytes > 0) {
        uint64_t word = __builtin_bswap64(prng_next(p));
        size_t n = bytes < sizeof(word) ? bytes : sizeof(word);

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        memcpy(out, &word, n);
        out += n;
        bytes -= n;
    }
}
