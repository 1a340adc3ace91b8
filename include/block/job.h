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

/* --- jobs by name; internal ones have none --- */

Job *job_find(const char *id);
/** job_is_block_job() - for the block-job-* commands and events: works on nodes of the graph */
bool job_is_block_job(const Job *job);
JobProgress job_progress(const Job *job);

/** job_co_cancel() - force the job to end and wait until it has: done() has returned */
void coroutine_fn job_co_cancel(Job *job);
/** job_co_cancel_all() - internal ones too; for the end of the program */
void coroutine_fn job_co_cancel_all(void);

/* --- verbs of users: ask job_verb_allowed() first --- */

bool job_verb_allowed(const Job *job, JobVerb verb, GError **errp);
/** job_cancel() - returns at once. Not forced and ready: end well without a graph change, where
 * the kind of job can */
void job_cancel(Job *job, bool force);
bool job_complete(Job *job, GError **errp);
void job_finalize(Job *job);
/** job_dismiss() - forget a concluded job; frees it */
void job_dismiss(Job *job);
bool job_user_pause(Job *job, GError **errp);
bool job_user_resume(Job *job, GError **errp);
bool job_is_user_paused(const Job *job);
void job_set_speed(Job *job, uint64_t bytes_per_s);
bool job_change(Job *job, const BlockJobChangeOptions *opts, GError **errp);

/** job_query(), job_query_block() - for query-jobs and query-block-jobs; caller frees */
JobInfoArray *job_query(void);
BlockJobInfoArray *job_query_block(void);

/* --- kinds of jobs --- */

typedef struct CommitOptions {
    bool auto_complete;       /* pivot by itself once converged, without waiting for complete */
    bool top_is_volatile;     /* what is not in the base does not survive a crash */
    const char *filter_name;  /* NULL: generated */
    BlockdevOnError on_error; /* auto is refused */
} CommitOptions;

/**
 * commit_co_start() - merge @top and what lies between it and @base down into @base
 * @top: an active layer; guest writes to it go on while the job runs
 *
 * On success every parent of @top points at @base. On failure the chain is as
 * before and the view of @top has not changed at any moment; the job may be
 * started again. A guest write meanwhile goes to @top, and to @base as well
 * where the range has been merged already, so the merge converges however fast
 * the guest writes and the pivot has nothing left to copy. A guest flush goes to
 * @top; where that is volatile it merges first what is not merged yet, and then
 * flushes @base, so what it acknowledges survives.
 */
Job *coroutine_fn commit_co_start(const JobOptions *o, const CommitOptions *co, BlockNode *top,
                                  BlockNode *base, GError **errp);

/** mirror_co_start() - make @target equal to @source, then keep it so until complete or cancel */
typedef struct MirrorOptions {
    MirrorSyncMode sync;      /* full, top, none */
    int64_t granularity;      /* 0: the default: 64 KiB or the target's cluster, 4 to 64 KiB */
    bool write_blocking;      /* a guest write completes when the target has it too */
    bool target_is_zero;      /* zeroes need not be written */
    const char *filter_name;  /* NULL: generated */
    BlockdevOnError on_source_error, on_target_error; /* auto is refused */
} MirrorOptions;

Job *coroutine_fn mirror_co_start(const JobOptions *o, const MirrorOptions *m, BlockNode *source,
                                  BlockNode *target, GError **errp);

/** backup_none_co_start() - blockdev-backup with sync=none: copy-before-write until cancelled */
Job *coroutine_fn backup_none_co_start(const JobOptions *o, BlockNode *source, BlockNode *target,
                                       const char *filter_name, GError **errp);

/**
 * create_job_start() - blockdev-create: make an image
 * @opts: stays the caller's
 *
 * No block job. It has to be dismissed, whatever @o says.
 */
Job *create_job_start(const JobOptions *o, const BlockdevCreateOptions *opts, GError **errp);

#endif
