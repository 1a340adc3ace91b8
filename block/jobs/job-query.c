/* SPDX-License-Identifier: GPL-2.0-or-later */
/* query-jobs and query-block-jobs. */
#include "block/jobs/job-verb.h"

static JobInfo *
job_info(Job *job)
{
    JobInfo *info = g_new0(JobInfo, 1);

    info->id = g_strdup(job->id);
    info->type = job->drv->type;
    info->status = job->status;
    info->current_progress = job->progress.current;
    info->total_progress = job->progress.total;
    info->error = g_strdup(job_error_text(job));
    return info;
}

JobInfoArray *
job_query(void)
{
    JobInfoArray *a = g_new0(JobInfoArray, 1);
    GPtrArray *items = g_ptr_array_new();

    for (Job *j = job_first(); j; j = j->next) {
        if (j->id) {
            g_ptr_array_add(items, job_info(j));
        }
    }
    a->n = items->len;
    a->items = (JobInfo **)g_ptr_array_free(items, FALSE);
    return a;
}

static BlockJobInfo *
block_job_info(Job *job)
{
    BlockJobInfo *info = g_new0(BlockJobInfo, 1);

    info->type = job->drv->type;
    info->device = g_strdup(job->id);
    info->len = job->progress.total;
    info->offset = job->progress.current;
    info->busy = job->busy;
    info->paused = job->pauses > 0;
    info->speed = job->speed_bytes_per_s;
    info->io_status = job->io_status;
    info->ready = job_is_ready(job);
    info->status = job->status;
    info->auto_finalize = !job->options.manual_finalize;
    info->auto_dismiss = !job->options.manual_dismiss;
    info->error = g_strdup(job_error_text(job));
    if (job->drv->describe) {
        job->drv->describe(job, info);
    }
    return info;
}

BlockJobInfoArray *
job_query_block(void)
{
    BlockJobInfoArray *a = g_new0(BlockJobInfoArray, 1);
    GPtrArray *items = g_ptr_array_new();

    for (Job *j = job_first(); j; j = j->next) {
        if (j->id && job_is_block_job(j)) {
            g_ptr_array_add(items, block_job_info(j));
        }
    }
    a->n = items->len;
    a->items = (BlockJobInfo **)g_ptr_array_free(items, FALSE);
    return a;
}

bool
job_is_user_paused(const Job *job)
{
    return job->user_paused;
}

bool
job_change(Job *job, const BlockJobChangeOptions *opts, GError **errp)
{
    if (!job->drv->change) {
        return fail(errp, "Job '%s' (type %s) does not support change", job->id,
                    job_type_str(job->drv->type));
    }
    return job->drv->change(job, opts, errp);
}
