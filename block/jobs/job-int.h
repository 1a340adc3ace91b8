/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kind of job fills in, and what it may call while it runs.
 */
#ifndef BLOCK_JOBS_JOB_INT_H
#define BLOCK_JOBS_JOB_INT_H

#include "block/job.h"
#include "qapi/types.h"
#include "util/loop.h"
#include "util/sync.h"

typedef struct JobDriver {
    JobType type;
    size_t state_size;

    /* The work: 0 or -errno; -ECANCELED when it found job_is_cancelled(). May set an error text
     * with job_set_error(). */
    int (*coroutine_ptr co_run)(Job *job);
    /*
     * The end: undo or complete the graph change. @ret is what co_run returned; the answer is
     * the job's result. Called exactly once, also for a job that never ran.
     */
    int (*coroutine_ptr co_finish)(Job *job, int ret);

    /* Verb complete, in ready: false and @errp if it cannot be. NULL: the kind has no such end. */
    bool (*complete)(Job *job, GError **errp);
    /* Verb cancel, not forced, in ready: true if the job will end by itself, well. */
    bool (*soft_cancel)(Job *job);
    /* The job has just been cancelled: let what it waits for fail. */
    void (*cancelled)(Job *job);
    /* Adds what only this kind tells in query-block-jobs. */
    void (*describe)(Job *job, BlockJobInfo *info);
    bool (*change)(Job *job, const BlockJobChangeOptions *opts, GError **errp);
} JobDriver;

struct Job {
    const JobDriver *drv;
    void *state;
    char *id; /* NULL: internal */
    JobStatus status;
    JobOptions options;

    Coroutine *sleeper;   /* the job's coroutine while it may be kicked */
    LoopTimer timer;
    bool cancelled;
    bool was_soft_cancelled;
    bool busy;
    bool user_paused;
    BlockDeviceIoStatus io_status; /* why it has paused by itself; until it is resumed */
    unsigned pauses;      /* user's and drains' */
    bool finalize_told;   /* job-finalize has been given */
    int ret;
    char *error;          /* text of @ret; NULL: strerror */

    JobProgress progress;
    RateLimit speed;
    uint64_t speed_bytes_per_s;
    GPtrArray *blockers;  /* of OpBlocker */
    CoQueue ended;        /* those who wait for the end */
    bool over;            /* its coroutine has nothing left to do */
    unsigned refs;
    Job *next, *prev;
};

/**
 * job_new() - in state created
 *
 * Return: NULL and @errp when the id is malformed or taken. Options are copied.
 */
Job *job_new(const JobDriver *drv, const JobOptions *o, GError **errp);
/** job_start() - spawn the coroutine that runs it to its end */
void job_start(Job *job);
/** job_abandon() - a job that was made but cannot be started; no events */
void job_abandon(Job *job);
/** job_may_use() - false and @errp if somebody has blocked @op on @node; owners of internal jobs
 * know what they do */
bool job_may_use(const JobOptions *o, BlockNode *node, BlockOp op, GError **errp);
/** job_block_ops() - refuse all management operations on @node while the job lives, except those
 * in @allowed (bit per BlockOp) */
void job_block_ops(Job *job, BlockNode *node, uint32_t allowed);

/* --- from co_run --- */

/** job_co_pause_point() - wait while paused; then job_is_cancelled() may have changed */
void coroutine_fn job_co_pause_point(Job *job);
/** job_co_sleep() - until kicked, or @ns have passed (INT64_MAX: only until kicked) */
void coroutine_fn job_co_sleep(Job *job, int64_t ns);
/** job_kick() - end its sleep. Plain. */
void job_kick(Job *job);
bool job_is_cancelled(const Job *job);
void job_ready(Job *job);
/** job_stop_for_error() - as if the user had paused it; queries say why. Plain. */
void job_stop_for_error(Job *job, int err);
/** job_set_error() - text for the result; the first one stays. Takes @text. */
void job_set_error(Job *job, char *text);
/** job_pause_for_drain(), job_resume_after_drain() - for BackendOps */
void job_pause_for_drain(Job *job);
void job_resume_after_drain(Job *job);

/** job_event_error() - BLOCK_JOB_ERROR */
void job_event_error(Job *job, bool read, BlockErrorAction action);

#endif
