/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copying engine of commit and mirror: make @target equal to what @source
 * shows while others go on writing to @source.
 *
 * A filter above the source sees every write. A bit of `dirty` stands for a
 * piece that has to be copied (again).
 *
 *  M1 a bit is cleared before its piece is read, and set again if the copy fails;
 *  M2 a write through the filter that may have changed the source sets the bits
 *     of its pieces before it completes, unless M3 applies;
 *  M3 in write-blocking mode the parts of a write that lie in clean pieces go to
 *     the target as well; copies and writes exclude each other by `ranges`, and
 *     writes each other where they overlap, so both ends keep one order;
 *  M4 so when the source is drained, no copy runs and no bit is set, both are
 *     equal.
 */
#ifndef BLOCK_JOBS_MIRROR_H
#define BLOCK_JOBS_MIRROR_H

#include "block/jobs/job-int.h"
#include "block/jobs/window.h"
#include "util/hbitmap.h"

typedef struct Mirror {
    Job *job;
    BlockNode *filter;      /* counted; above the source */
    BlockBackend *source;   /* below the filter */
    BlockBackend *target;
    HBitmap *dirty;
    CoRangeLock ranges;
    bool write_blocking;
    bool drained;           /* mirror_co_converge() has drained the filter */
    int running;            /* copies in flight */
    CopyWindow window;      /* how many there may be */
    int error;              /* first error of a copy, -errno */
    bool error_was_read;
    uint64_t cursor;        /* where the search for the next piece begins */
    CoQueue copy_done;
} Mirror;

/**
 * mirror_co_open() - insert the filter above @source and attach both ends
 * @granularity: bytes of a piece, power of two
 *
 * m->write_blocking has been set: the filter may see writes before this returns.
 * Nothing is dirty yet. False and @errp, with nothing changed, on failure.
 */
bool coroutine_fn mirror_co_open(Mirror *m, Job *job, BlockNode *source, BlockNode *target,
                                 int64_t granularity, const char *filter_name, GError **errp);

/** mirror_co_round() - copy until nothing is dirty or an error or cancel; then no copy runs */
int coroutine_fn mirror_co_round(Mirror *m);

/**
 * mirror_co_converge() - drain the source with nothing left to copy
 *
 * On 0 nobody writes to the source and it is equal to the target, until
 * mirror_co_close(). On error it is not drained.
 */
int coroutine_fn mirror_co_converge(Mirror *m);

/** mirror_co_close() - remove the filter and drop both ends; the filter's parents then point at
 * @successor, NULL: at the source. Ends the drained section of mirror_co_converge(). */
void coroutine_fn mirror_co_close(Mirror *m, BlockNode *successor);

/** mirror_cancel() - copies that wait for a silent peer fail. Plain. */
void mirror_cancel(Mirror *m);

/* For the filter: requests that go through it. @iov NULL: zeroes, or discard. */
int coroutine_fn mirror_co_write(Mirror *m, BlockChild *file, int64_t offset, int64_t bytes,
                                 const IoVec *iov, bool discard, ReqFlags flags);

extern const BlockDriver driver_mirror_top; /* mirror-filter.c; internal */
/** mirror_filter_attach() - @m NULL: requests just pass */
void mirror_filter_attach(BlockNode *filter, Mirror *m);

#endif
