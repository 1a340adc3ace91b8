/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the world hears of a job (QMP, JOB_STATUS_CHANGE and BLOCK_JOB_*). */
#include <errno.h>
#include <string.h>

#include "block/jobs/job-verb.h"
#include "qapi/events.h"

/* Members that several events begin with. */
#define WHO_AND_HOW_FAR(job)                                                                       \
    .type = (job)->drv->type, .device = (job)->id, .len = (job)->progress.total,                   \
    .offset = (job)->progress.current, .speed = (job)->speed_bytes_per_s

void
job_tell_status(Job *job)
{
    JobStatusChangeEvent ev = {.id = job->id, .status = job->status};

    if (job->id) {
        event_emit_job_status_change(&ev);
    }
}

void
job_tell_ready(Job *job)
{
    BlockJobReadyEvent ev = {WHO_AND_HOW_FAR(job)};

    if (job->id) {
        event_emit_block_job_ready(&ev);
    }
}

void
job_tell_pending(Job *job)
{
    BlockJobPendingEvent ev = {.type = job->drv->type, .id = job->id};

    if (!job_is_block_job(job)) {
        return;
    }
    event_emit_block_job_pending(&ev);
}

const char *
job_error_text(const Job *job)
{
    if (job->ret == 0) {
        return NULL;
    }
    if (job->ret == -ECANCELED) {
        return "Operation canceled";
    }
    return job->error ? job->error : strerror(-job->ret);
}

static void
job_tell_cancelled(Job *job)
{
    BlockJobCancelledEvent ev = {WHO_AND_HOW_FAR(job)};

    event_emit_block_job_cancelled(&ev);
}

void
job_tell_end(Job *job)
{
    BlockJobCompletedEvent ev = {
        WHO_AND_HOW_FAR(job),
        .error = (char *)job_error_text(job),
    };

    if (!job->id || !job_is_block_job(job)) {
        return;
    }
    if (job->ret == -ECANCELED) {
        job_tell_cancelled(job);
    } else {
        event_emit_block_job_completed(&ev);
    }
}

void
job_event_error(Job *job, bool read, BlockErrorAction action)
{
    BlockJobErrorEvent ev = {
        .device = job->id,
        .operation = read ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE,
        .action = action,
    };

    if (job->id) {
        event_emit_block_job_error(&ev);
    }
}
