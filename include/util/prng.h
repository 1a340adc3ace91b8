/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one pseudo-random generator: small, seeded, the same on every machine. Not for secrets. */
#ifndef UTIL_PRNG_H
#define UTIL_PRNG_H

#include "util/compiler.h"

typedef struct Prng {
    uint64_t s[4];
} Prng;

void prng_init(Prng *p, uint64_t seed);
uint64_t prng_next(Prng *p);
/** prng_below() - uniform in [0, @n), @n > 0 */
uint64_t prng_below(Prng *p, uint64_t n);
void prng_fill(Prng *p, void *buf, size_t bytes);

#endif
