/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup with sync=none: no copying of its own, only a copy-before-write
 * filter above the source for as long as the job lives.
 */
#include <errno.h>

#include "block/cbw.h"
#include "block/jobs/job-int.h"

typedef struct BackupState {
    BlockNode *cbw;
} BackupState;

static int coroutine_fn
backup_co_run(Job *job)
{
    while (!job_is_cancelled(job)) {
        job_co_pause_point(job);
        job_co_sleep(job, INT64_MAX);
    }
    return -ECANCELED;
}

static int coroutine_fn
backup_co_finish(Job *job, int ret)
{
    BackupState *s = job->state;

    cbw_co_remove(s->cbw);
    return ret;
}

static const JobDriver backup_driver = {
    .type = JOB_TYPE_BACKUP,
    .state_size = sizeof(BackupState),
    .co_run = backup_co_run,
    .co_finish = backup_co_finish,
};

Job *coroutine_fn
backup_none_co_start(const JobOptions *o, BlockNode *source, BlockNode *target,
                     const char *filter_name, GError **errp)
{
    CbwOptions cbw = {.node_name = filter_name};
    BackupState *s;
    Job *job;

    if (!job_may_use(o, source, BLOCK_OP_BACKUP_SOURCE, errp) ||
        !job_may_use(o, target, BLOCK_OP_BACKUP_TARGET, errp)) {
        return NULL;
    }
    job = job_new(&backup_driver, o, errp);
    if (!job) {
        return NULL;
    }
    s = job->state;
    s->cbw = cbw_co_insert(source, target, &cbw, errp);
    if (!s->cbw) {
        job_abandon(job);
        return NULL;
    }
    job->progress.total = node_length(source); /* what could have to be copied */
    job_block_ops(job, source, 1u << BLOCK_OP_BACKUP_SOURCE);
    job_block_ops(job, target, 0);
    job_start(job);
    return job;
}
