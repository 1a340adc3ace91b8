/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: long work on nodes that QMP can watch, pause and cancel.
 *
 * The states and verbs are tables (QMP, "job-*"): a verb outside them is a
 * GenericError. A job without an id is internal: no queries list it, it makes
 * no events, no user verb reaches it; its owner hears of the end by a callback.
 *
 * A job runs in a coroutine of the loop that owns its nodes. Its end and the
 * graph change that belongs to it are one transaction inside one drained
 * section, so a request never meets a half-changed graph.
 */
#ifndef BLOCK_JOB_H
#define BLOCK_JOB_H

#include "block/backend.h"
#include "block/node.h"
#include "util/error.h"

typedef struct Job Job;

/* Called once when the job has ended, after all of its graph changes; @ret is 0 or -errno
 * (-ECANCELED). A coroutine_fn, in a coroutine of its own. */
typedef void JobDoneFn(int ret, void *opaque);

/* What every block job is started with. */
typedef struct JobOptions {
    const char *id; /* NULL: internal */
    uint64_t speed; /* bytes/s; 0: unlimited */
    bool manual_finalize;
    bool manual_dismiss;
    JobDoneFn *done; /* may be NULL */
    void *opaque;
} JobOptions;

typedef struct JobProgress {
    uint64_t current, total; /* bytes */
} JobProgress;

Job *job_find(const char *id);
JobProgress job_progress(const Job *job);
/** job_co_cancel() - force the job to end and wait until it has. For owners of internal jobs. */
void coroutine_fn job_co_cancel(Job *job);

/**
 * commit_co_start() - merge @top and what lies between it and @base down into @base
 * @top: an active layer; guest writes to it go on while the job runs
 * @auto_complete: pivot by itself once converged, instead of waiting for job-complete
 *
 * On success every parent of @top points at @base. On failure the chain is as
 * before and the view of @top has not changed at any moment; the job may be
 * started again. A guest write meanwhile goes to @top, and to @base as well
 * where the range has been merged already, so the merge converges however fast
 * the guest writes and the pivot has nothing left to copy.
 */
Job *coroutine_fn commit_co_start(const JobOptions *o, BlockNode *top, BlockNode *base,
                                  bool auto_complete, GError **errp);

#endif
