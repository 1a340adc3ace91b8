/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of qapi/job.json: jobs that exist.
 *
 * The block-job-* commands are those of old: they know block jobs only, and an
 * unknown one has an error class of its own.
 */
#include "block/job.h"
#include "qapi/commands.h"
#include "util/error.h"

JobInfoArray *coroutine_fn
qmp_query_jobs(GError **errp)
{
    return job_query();
}

BlockJobInfoArray *coroutine_fn
qmp_query_block_jobs(GError **errp)
{
    return job_query_block();
}

static Job *
find_for(const char *id, JobVerb verb, GError **errp)
{
    Job *job = job_find(id);

    if (!job) {
        return fail(errp, "Job not found"), NULL;
    }
    return job_verb_allowed(job, verb, errp) ? job : NULL;
}

static Job *
find_block_job_for(const char *id, JobVerb verb, GError **errp)
{
    Job *job = job_find(id);

    if (!job || !job_is_block_job(job)) {
        return fail_class(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id),
               NULL;
    }
    return job_verb_allowed(job, verb, errp) ? job : NULL;
}

/* What most verbs come to, once the job allows them. */
static bool
perform(Job *job, JobVerb verb, GError **errp)
{
    switch (verb) {
    case JOB_VERB_PAUSE:
        return job_user_pause(job, errp);
    case JOB_VERB_RESUME:
        return job_user_resume(job, errp);
    case JOB_VERB_COMPLETE:
        return job_complete(job, errp);
    case JOB_VERB_CANCEL:
        job_cancel(job, true);
        return true;
    case JOB_VERB_FINALIZE:
        job_finalize(job);
        return true;
    case JOB_VERB_DISMISS:
        job_dismiss(job);
        return true;
    default:
        g_assert_not_reached();
    }
}

static bool
on_job(const char *id, JobVerb verb, GError **errp)
{
    Job *job = find_for(id, verb, errp);

    return job && perform(job, verb, errp);
}

static bool
on_block_job(const char *id, JobVerb verb, GError **errp)
{
    Job *job = find_block_job_for(id, verb, errp);

    return job && perform(job, verb, errp);
}

bool coroutine_fn
qmp_job_pause(const QmpJobPauseArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_PAUSE, errp);
}

bool coroutine_fn
qmp_job_resume(const QmpJobResumeArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_RESUME, errp);
}

bool coroutine_fn
qmp_job_cancel(const QmpJobCancelArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_CANCEL, errp);
}

bool coroutine_fn
qmp_job_complete(const QmpJobCompleteArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_COMPLETE, errp);
}

bool coroutine_fn
qmp_job_finalize(const QmpJobFinalizeArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_FINALIZE, errp);
}

bool coroutine_fn
qmp_job_dismiss(const QmpJobDismissArgs *args, GError **errp)
{
    return on_job(args->id, JOB_VERB_DISMISS, errp);
}

/* --- block-job-* --- */

bool coroutine_fn
qmp_block_job_pause(const QmpBlockJobPauseArgs *args, GError **errp)
{
    return on_block_job(args->device, JOB_VERB_PAUSE, errp);
}

bool coroutine_fn
qmp_block_job_resume(const QmpBlockJobResumeArgs *args, GError **errp)
{
    return on_block_job(args->device, JOB_VERB_RESUME, errp);
}

bool coroutine_fn
qmp_block_job_complete(const QmpBlockJobCompleteArgs *args, GError **errp)
{
    return on_block_job(args->device, JOB_VERB_COMPLETE, errp);
}

bool coroutine_fn
qmp_block_job_finalize(const QmpBlockJobFinalizeArgs *args, GError **errp)
{
    return on_block_job(args->id, JOB_VERB_FINALIZE, errp);
}

bool coroutine_fn
qmp_block_job_dismiss(const QmpBlockJobDismissArgs *args, GError **errp)
{
    return on_block_job(args->id, JOB_VERB_DISMISS, errp);
}

bool coroutine_fn
qmp_block_job_cancel(const QmpBlockJobCancelArgs *args, GError **errp)
{
    Job *job = find_block_job_for(args->device, JOB_VERB_CANCEL, errp);

    if (!job) {
        return false;
    }
    if (job_is_user_paused(job) && !args->force) {
        return fail(errp, "The block job for device '%s' is currently paused", args->device);
    }
    job_cancel(job, args->force);
    return true;
}

bool coroutine_fn
qmp_block_job_set_speed(const QmpBlockJobSetSpeedArgs *args, GError **errp)
{
    Job *job = find_block_job_for(args->device, JOB_VERB_SET_SPEED, errp);

    if (!job) {
        return false;
    }
    if (args->speed < 0) {
        return fail(errp, "Parameter 'speed' expects a non-negative value");
    }
    job_set_speed(job, args->speed);
    return true;
}

bool coroutine_fn
qmp_block_job_change(const BlockJobChangeOptions *args, GError **errp)
{
    Job *job = find_block_job_for(args->id, JOB_VERB_CHANGE, errp);

    return job && job_change(job, args, errp);
}
