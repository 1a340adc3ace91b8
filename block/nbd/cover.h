/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdCover: which bytes of a read the server has sent. It may send them in any
 * order, but each exactly once.
 */
#ifndef BLOCK_NBD_COVER_H
#define BLOCK_NBD_COVER_H

#include "util/compiler.h"

#define NBD_COVER_MAX_RUNS 8192 /* more separate runs than that are refused */

typedef struct NbdCoverRun {
    uint64_t start, end;
} NbdCoverRun;

typedef struct NbdCover {
    uint64_t bytes;    /* covered so far */
    NbdCoverRun only;  /* the one run there is in nearly every case */
    NbdCoverRun *runs; /* several: sorted, disjoint, not touching; else NULL */
    size_t n, room;
} NbdCover;

static inline void nbd_cover_init(NbdCover *c)
{
    *c = (NbdCover){0};
}

/** nbd_cover_add() - false if a byte was covered already or there are too many runs.
 * @bytes > 0; the sum fits 64 bits. */
bool nbd_cover_add(NbdCover *c, uint64_t start, uint64_t bytes) MUST_USE;
void nbd_cover_destroy(NbdCover *c);

#endif
