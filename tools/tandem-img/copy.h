/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying from one disk to another with several workers: ranges are read side
 * by side and, unless told otherwise, written in order, so that a format's
 * clusters end in the order of the disk. Where there are no clusters to give
 * out, writes only begin in order. Zeroes stay holes.
 */
#ifndef TOOLS_COPY_H
#define TOOLS_COPY_H

#include "block/backend.h"
#include "util/sync.h"

#define COPY_WORKERS_MAX 16
#define COPY_AIO         "threads" /* large requests: reads and writes go on side by side */

typedef struct Copy {
    BlockBackend *src, *dst;
    int64_t src_offset, dst_offset, bytes;
    int64_t sparse;        /* zeroes of so many bytes stay holes; 0: all is written */
    bool dst_is_zero;      /* what is not written reads as zeroes */
    bool dst_has_backing;  /* what the top source image leaves to its backing file stays so */
    bool any_order, offload, salvage, quiet;
    int workers;
    RateLimit *rate;       /* may be NULL */
    /* Private. */
    int64_t next, turn_at; /* offsets from the start: taken, may be written */
    bool dst_allocates;    /* a write gives out clusters */
    CoMutex taking;
    CoQueue turn;
    uint32_t kind;
    int64_t kind_end;
    int result;
} Copy;

/** copy_co_run() - 0 or -errno, told already */
int coroutine_fn copy_co_run(Copy *c);

#endif
