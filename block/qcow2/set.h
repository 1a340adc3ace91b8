/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A set of cluster numbers with a small tag each: open addressing, no holes.
 * Cluster 0 is the header and never a member, so 0 marks a free place.
 */
#ifndef BLOCK_QCOW2_SET_H
#define BLOCK_QCOW2_SET_H

#include "util/compiler.h"

typedef struct Qcow2Set {
    uint64_t *slots; /* cluster << 8 | tag; 0: free */
    uint32_t bits;   /* log2 of the number of slots; 0: none yet */
    uint64_t used;
} Qcow2Set;

/** qcow2_set_get() - tag of @cluster, 0 if it is no member */
unsigned qcow2_set_get(const Qcow2Set *s, uint64_t cluster);
/** qcow2_set_add() - @tag is 1..255; replaces an older tag */
void qcow2_set_add(Qcow2Set *s, uint64_t cluster, unsigned tag);
void qcow2_set_remove(Qcow2Set *s, uint64_t cluster);
void qcow2_set_clear(Qcow2Set *s);

#endif
