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
 *     equal;
 *  M5 where only the target is durable (flush_copies) a flush through the filter
 *     first copies what was dirty when it came: what it acknowledges is on the
 *     target, and so is all that the flushed data relies on.
 *
 * Two kinds of jobs use it, with one life (mirror-run.c): find what is dirty at
 * first, copy, ready, then end by a switch to the target, by a soft cancel or by
 * an error.
 */
#ifndef BLOCK_JOBS_MIRROR_H
#define BLOCK_JOBS_MIRROR_H

#include "block/jobs/job-int.h"
#include "block/jobs/window.h"
#include "util/hbitmap.h"

/*
 * Does the range have to be copied, whoever writes meanwhile? 1, 0 or -errno; *@ret_bytes: for how
 * much from @offset on that answer holds.
 */
typedef int MirrorMustCopyFn(Job *job, int64_t offset, int64_t bytes, int64_t *ret_bytes);

typedef struct Mirror {
    /* Set before mirror_co_open(): the filter may see requests before that returns. */
    MirrorMustCopyFn *coroutine_ptr co_must_copy;
    BlockdevOnError on_source_error, on_target_error;
    bool write_blocking;
    bool target_is_base;    /* it lies below the source: others may read it meanwhile */
    bool flush_copies;      /* M5 */
    bool auto_complete;     /* switch to the target once converged, without being told */
    BlockNode *from, *onto; /* counted: the ends as the user named them; as long as the filter */

    Job *job;
    BlockNode *filter;      /* counted; above the source */
    BlockChild *to;         /* the filter's edge to the target */
    BlockBackend *source;   /* below the filter: the gate of copies at that end */
    BlockBackend *target;   /* and at the other */
    HBitmap *dirty;
    int64_t granularity;    /* of `dirty` */
    int64_t found;          /* what must be copied at first is known up to here */
    CoMutex finding;        /* held while looking further */
    CoRangeLock ranges;
    bool drained;           /* mirror_co_converge() has drained the filter */
    int running;            /* copies of the job in flight */
    CopyWindow window;      /* how many there may be */
    bool offloading;        /* the system has done the one that ended last */
    uint64_t unflushed;     /* bytes copied since the last flush began */
    bool flushing;
    int error;              /* first error of a copy, -errno */
    bool error_was_read;
    uint64_t cursor;        /* where the search for the next piece begins */
    CoQueue copy_done;
    bool completed;         /* told to switch to the target */
    bool stop_without_pivot;
} Mirror;

/**
 * mirror_co_open() - insert the filter above @source and attach both ends
 * @granularity: bytes of a piece, power of two
 *
 * False and @errp, with nothing changed, on failure.
 */
bool coroutine_fn mirror_co_open(Mirror *m, Job *job, BlockNode *source, BlockNode *target,
                                 int64_t granularity, const char *filter_name, GError **errp);

/** mirror_co_find_dirty() - ask co_must_copy about the whole disk, until cancelled */
int coroutine_fn mirror_co_find_dirty(Mirror *m);

/** mirror_co_round() - copy until nothing is dirty or an error or cancel; then no copy runs */
int coroutine_fn mirror_co_round(Mirror *m);

/**
 * mirror_co_converge() - drain the source with nothing left to copy and the target flushed
 *
 * On 0 nobody writes to the source and it is equal to the target, until
 * mirror_co_close(). On error it is not drained.
 */
int coroutine_fn mirror_co_converge(Mirror *m);

/**
 * mirror_co_close() - remove the filter and drop both ends
 * @successor: what the filter's parents point at then; NULL: the source
 *
 * Ends the drained section of mirror_co_converge(). False and @errp: they could not be switched
 * and point at the source.
 */
bool coroutine_fn mirror_co_close(Mirror *m, BlockNode *successor, GError **errp);

/* For the filter: requests that go through it. @iov NULL: zeroes, or discard. */
int coroutine_fn mirror_co_write(Mirror *m, int64_t offset, int64_t bytes, const IoVec *iov,
                                 bool discard, ReqFlags flags);
int coroutine_fn mirror_co_flush(Mirror *m);

extern const BlockDriver driver_mirror_top; /* mirror-filter.c; internal */
/** mirror_filter_attach() - @m NULL: requests just pass */
void mirror_filter_attach(BlockNode *filter, Mirror *m);

/* --- mirror-run.c: for the tables of the two kinds, whose state begins with a Mirror --- */

/** mirror_job_co_start() - make and start a job of @drv
 * @state: its state as it shall begin; copied. NULL and @errp, with nothing changed. */
Job *coroutine_fn mirror_job_co_start(const JobDriver *drv, const JobOptions *o, const void *state,
                                      BlockNode *source, BlockNode *target, int64_t granularity,
                                      const char *filter_name, GError **errp);
int coroutine_fn mirror_job_co_run(Job *job);
int coroutine_fn mirror_job_co_finish(Job *job, int ret);
bool mirror_job_complete(Job *job, GError **errp);
bool mirror_job_soft_cancel(Job *job);
void mirror_job_cancelled(Job *job);
/** mirror_job_check_policy() - false and @errp for an error policy that these jobs do not know */
bool mirror_job_check_policy(BlockdevOnError policy, GError **errp);

#endif
