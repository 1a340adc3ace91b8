/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The set of set.h: linear probing, at most half full, removal by shifting back. */
#include "set.h"

#include <glib.h>

static uint64_t home_of(const Qcow2Set *s, uint64_t cluster)
{
    return cluster * UINT64_C(0x9e3779b97f4a7c15) >> (64 - s->bits);
}

/* Where @cluster is, or the free place where it would go. */
static uint64_t place_of(const Qcow2Set *s, uint64_t cluster)
{
    uint64_t mask = (UINT64_C(1) << s->bits) - 1;
    uint64_t i = home_of(s, cluster);

    while (s->slots[i] && s->slots[i] >> 8 != cluster) {
        i = (i + 1) & mask;
    }
    return i;
}

unsigned qcow2_set_get(const Qcow2Set *s, uint64_t cluster)
{
    return s->bits ? s->slots[place_of(s, cluster)] & 0xff : 0;
}

static void grow(Qcow2Set *s)
{
    Qcow2Set big = {.bits = s->bits ? s->bits + 1 : 6, .used = s->used};

    big.slots = g_new0(uint64_t, UINT64_C(1) << big.bits);
    for (uint64_t i = 0; s->bits && i < UINT64_C(1) << s->bits; i++) {
        if (s->slots[i]) {
            big.slots[place_of(&big, s->slots[i] >> 8)] = s->slots[i];
        }
    }
    g_free(s->slots);
    *s = big;
}

void qcow2_set_add(Qcow2Set *s, uint64_t cluster, unsigned tag)
{
    uint64_t i;

    assert(cluster > 0 && cluster < UINT64_C(1) << 56 && tag > 0 && tag < 256);
    if (!s->bits || 2 * (s->used + 1) > UINT64_C(1) << s->bits) {
        grow(s);
    }
    i = place_of(s, cluster);
    s->used += s->slots[i] == 0;
    s->slots[i] = cluster << 8 | tag;
}

void qcow2_set_remove(Qcow2Set *s, uint64_t cluster)
{
    uint64_t mask, hole, i;

    if (!qcow2_set_get(s, cluster)) {
        return;
    }
    mask = (UINT64_C(1) << s->bits) - 1;
    hole = place_of(s, cluster);
    s->used--;
    /* Move back whoever a probe would no longer find behind the hole. */
    for (i = (hole + 1) & mask; s->slots[i]; i = (i + 1) & mask) {
        if (((i - home_of(s, s->slots[i] >> 8)) & mask) >= ((i - hole) & mask)) {
            s->slots[hole] = s->slots[i];
            hole = i;
        }
    }
    s->slots[hole] = 0;
}

void qcow2_set_clear(Qcow2Set *s)
{
    g_free(s->slots);
    *s = (Qcow2Set){0};
}
