/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map of the scratch policy: see scratch.h. */
#include "scratch.h"

#define FIRST_BITS 8

static ScratchEntry *slot(const ScratchMap *m, uint64_t i)
{
    return (ScratchEntry *)(m->slots + i * m->entry_bytes);
}

/* Neighbouring clusters share a cache line or two: the low bits stay. */
static uint64_t home_of(const ScratchMap *m, uint64_t guest)
{
    uint64_t mixed = (guest >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - m->bits);

    return (mixed ^ (guest & 7)) & ((UINT64_C(1) << m->bits) - 1);
}

bool scratch_map_init(ScratchMap *m, uint32_t sub_blocks)
{
    *m = (ScratchMap){.bits = FIRST_BITS, .epoch = 1, .words = DIV_ROUND_UP(sub_blocks, 64)};
    m->entry_bytes = sizeof(ScratchEntry) + 2 * m->words * sizeof(uint64_t);
    m->slots = g_try_malloc0_n((gsize)1 << m->bits, m->entry_bytes);
    return m->slots != NULL;
}

void scratch_map_destroy(ScratchMap *m)
{
    g_free(m->slots);
    *m = (ScratchMap){0};
}

void scratch_map_empty(ScratchMap *m)
{
    m->used = 0;
    m->epoch++;
    m->stored = 0;
    if (m->epoch == 0) { /* once in 2^32 emptyings */
        memset(m->slots, 0, m->entry_bytes << m->bits);
        m->epoch = 1;
    }
}

/* The entry of @guest, or the free slot where it would go. */
static ScratchEntry *place_of(const ScratchMap *m, uint64_t guest)
{
    uint64_t mask = (UINT64_C(1) << m->bits) - 1;

    for (uint64_t i = home_of(m, guest);; i = (i + 1) & mask) {
        ScratchEntry *e = slot(m, i);

        if (e->epoch != m->epoch || e->guest == guest) {
            return e;
        }
    }
}

ScratchEntry *scratch_map_find(const ScratchMap *m, uint64_t guest)
{
    ScratchEntry *e = place_of(m, guest);

    return e->epoch == m->epoch ? e : NULL;
}

static bool grow(ScratchMap *m)
{
    ScratchMap big = *m;
    ScratchEntry *e;
    uint64_t at = 0;

    big.bits++;
    big.slots = g_try_malloc0_n((gsize)1 << big.bits, big.entry_bytes);
    if (!big.slots) {
        return false;
    }
    while ((e = scratch_map_next(m, &at))) {
        memcpy(place_of(&big, e->guest), e, m->entry_bytes);
    }
    g_free(m->slots);
    *m = big;
    return true;
}

ScratchEntry *scratch_map_get(ScratchMap *m, uint64_t guest)
{
    ScratchEntry *e = place_of(m, guest);

    if (e->epoch == m->epoch) {
        return e;
    }
    if (2 * (m->used + 1) > UINT64_C(1) << m->bits) {
        if (!grow(m)) {
            return NULL;
        }
        e = place_of(m, guest);
    }
    memset(e, 0, m->entry_bytes);
    e->guest = guest;
    e->epoch = m->epoch;
    m->used++;
    return e;
}

ScratchEntry *scratch_map_next(const ScratchMap *m, uint64_t *at)
{
    while (*at < UINT64_C(1) << m->bits) {
        ScratchEntry *e = slot(m, (*at)++);

        if (e->epoch == m->epoch) {
            return e;
        }
    }
    return NULL;
}

/* --- sub-blocks --- */

static uint64_t data_word(const ScratchEntry *e, uint32_t w)
{
    return e->bits[w];
}

static uint64_t zero_word(const ScratchMap *m, const ScratchEntry *e, uint32_t w)
{
    return e->bits[m->words + w];
}

ScratchState scratch_entry_state(const ScratchMap *m, const ScratchEntry *e, uint32_t sub)
{
    uint64_t bit = UINT64_C(1) << (sub % 64);

    if (data_word(e, sub / 64) & bit) {
        return SCRATCH_DATA;
    }
    return zero_word(m, e, sub / 64) & bit ? SCRATCH_ZERO : SCRATCH_ABSENT;
}

uint32_t scratch_entry_run(const ScratchMap *m, const ScratchEntry *e, uint32_t sub, uint32_t end)
{
    ScratchState state = scratch_entry_state(m, e, sub);
    uint32_t at = sub;

    while (at < end) {
        uint64_t data = data_word(e, at / 64), zero = zero_word(m, e, at / 64);
        uint64_t same = state == SCRATCH_DATA   ? data
                        : state == SCRATCH_ZERO ? zero & ~data
                                                : ~(data | zero);
        uint64_t other = ~same >> (at % 64);

        if (other) {
            at += (uint32_t)__builtin_ctzll(other);
            break;
        }
        at += 64 - at % 64;
    }
    return MIN(at, end) - sub;
}

void scratch_entry_set(ScratchMap *m, ScratchEntry *e, uint32_t sub, uint32_t n,
                       ScratchState state)
{
    while (n > 0) {
        uint32_t shift = sub % 64, part = MIN(n, 64 - shift);
        uint64_t mask = (part == 64 ? ~UINT64_C(0) : (UINT64_C(1) << part) - 1) << shift;
        uint64_t *data = &e->bits[sub / 64], *zero = &e->bits[m->words + sub / 64];

        m->stored -= (uint64_t)__builtin_popcountll(*data & mask);
        m->stored += state == SCRATCH_DATA ? part : 0;
        *data = state == SCRATCH_DATA ? *data | mask : *data & ~mask;
        *zero = state == SCRATCH_ZERO ? *zero | mask : *zero & ~mask;
        sub += part;
        n -= part;
    }
}
