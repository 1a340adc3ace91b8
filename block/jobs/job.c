/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of jobs: states and verbs as tables, the coroutine that runs a job
 * from created to null, and the waiting, pausing and cancelling that every
 * kind shares.
 *
 * A job ends in one place: job_co_entry(). Verbs only set flags and kick it.
 */
#include <errno.h>

#include "block/jobs/job-int.h"
#include "block/jobs/job-verb.h"
#include "qapi/events.h"
#include "util/loop.h"

#define TO(status) (1u << JOB_STATUS_##status)

/* Row: from; bit: allowed next (QMP, JobStatus). */
static const unsigned job_moves[JOB_STATUS__MAX] = {
    [JOB_STATUS_CREATED] = TO(RUNNING) | TO(ABORTING) | TO(NULL),
    [JOB_STATUS_RUNNING] = TO(PAUSED) | TO(READY) | TO(WAITING) | TO(ABORTING),
    [JOB_STATUS_PAUSED] = TO(RUNNING),
    [JOB_STATUS_READY] = TO(STANDBY) | TO(WAITING) | TO(ABORTING),
    [JOB_STATUS_STANDBY] = TO(READY),
    [JOB_STATUS_WAITING] = TO(PENDING) | TO(ABORTING),
    [JOB_STATUS_PENDING] = TO(ABORTING) | TO(CONCLUDED),
    [JOB_STATUS_ABORTING] = TO(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = TO(NULL),
};

#define IN(status) (1u << JOB_STATUS_##status)
#define ALIVE      (IN(CREATED) | IN(RUNNING) | IN(PAUSED) | IN(READY) | IN(STANDBY))

/* Row: verb; bit: state that permits it. */
static const unsigned verb_states[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL] = ALIVE | IN(WAITING) | IN(PENDING),
    [JOB_VERB_PAUSE] = ALIVE,
    [JOB_VERB_RESUME] = ALIVE,
    [JOB_VERB_SET_SPEED] = ALIVE,
    [JOB_VERB_CHANGE] = ALIVE,
    [JOB_VERB_COMPLETE] = IN(READY) | IN(STANDBY),
    [JOB_VERB_FINALIZE] = IN(PENDING),
    [JOB_VERB_DISMISS] = IN(CONCLUDED),
};

static Job *jobs_first, *jobs_last;

/* --- list and names --- */

Job *
job_find(const char *id)
{
    for (Job *j = jobs_first; j; j = j->next) {
        if (j->id && g_str_equal(j->id, id)) {
            return j;
        }
    }
    return NULL;
}

Job *
job_first(void)
{
    return jobs_first;
}

static void
job_link(Job *job)
{
    job->prev = jobs_last;
    *(jobs_last ? &jobs_last->next : &jobs_first) = job;
    jobs_last = job;
}

static void
job_unlink(Job *job)
{
    *(job->prev ? &job->prev->next : &jobs_first) = job->next;
    *(job->next ? &job->next->prev : &jobs_last) = job->prev;
}

static bool
job_id_is_good(const char *id)
{
    if (!g_ascii_isalpha(id[0])) {
        return false;
    }
    for (const char *p = id; *p; p++) {
        if (!g_ascii_isalnum(*p) && *p != '-' && *p != '.' && *p != '_') {
            return false;
        }
    }
    return true;
}

static void
job_timer_fired(void *opaque)
{
    job_kick(opaque);
}

Job *
job_new(const JobDriver *drv, const JobOptions *o, GError **errp)
{
    Job *job;

    if (o->id && !job_id_is_good(o->id)) {
        return fail(errp, "Invalid job ID '%s'", o->id), NULL;
    }
    if (o->id && job_find(o->id)) {
        return fail(errp, "Job ID '%s' already in use", o->id), NULL;
    }
    job = g_new0(Job, 1);
    job->drv = drv;
    job->state = g_malloc0(drv->state_size);
    job->id = g_strdup(o->id);
    job->options = *o;
    job->options.id = NULL;
    job->status = JOB_STATUS_CREATED;
    job->refs = 1;
    job->blockers = g_ptr_array_new();
    job->speed_bytes_per_s = o->speed;
    rate_limit_set(&job->speed, o->speed);
    timer_init(&job->timer, job_timer_fired, job);
    job_link(job);
    job_tell_status(job);
    return job;
}

static void
job_unref(Job *job)
{
    if (--job->refs > 0) {
        return;
    }
    timer_cancel(&job->timer);
    g_ptr_array_free(job->blockers, TRUE);
    g_free(job->error);
    g_free(job->id);
    g_free(job->state);
    g_free(job);
}

/* --- states --- */

static void
job_move(Job *job, JobStatus to)
{
    assert(job_moves[job->status] & (1u << to));
    job->status = to;
    job_tell_status(job);
}

bool
job_verb_allowed(const Job *job, JobVerb verb, GError **errp)
{
    if (verb_states[verb] & (1u << job->status)) {
        return true;
    }
    return fail(errp, "Job '%s' in state '%s' cannot accept command verb '%s'", job->id,
                job_status_str(job->status), job_verb_str(verb));
}

void
job_ready(Job *job)
{
    job_move(job, JOB_STATUS_READY);
    job_tell_ready(job);
}

bool
job_is_ready(const Job *job)
{
    return job->status == JOB_STATUS_READY || job->status == JOB_STATUS_STANDBY;
}

/* --- waiting --- */

void
job_kick(Job *job)
{
    Coroutine *co = job->sleeper;

    if (co) {
        job->sleeper = NULL;
        timer_cancel(&job->timer);
        co_wake(co);
    }
}

void coroutine_fn
job_co_sleep(Job *job, int64_t ns)
{
    if (job->cancelled) {
        return;
    }
    if (ns != INT64_MAX) {
        timer_arm(&job->timer, loop_now_ns() + ns);
    }
    job->busy = false;
    job->sleeper = co_self();
    co_yield();
    job->busy = true;
}

void coroutine_fn
job_co_pause_point(Job *job)
{
    JobStatus before = job->status;
    bool ready = before == JOB_STATUS_READY;

    if (job->pauses == 0 || job->cancelled) {
        return;
    }
    job_move(job, ready ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    while (job->pauses > 0 && !job->cancelled) {
        job_co_sleep(job, INT64_MAX);
    }
    job_move(job, before);
}

bool
job_is_cancelled(const Job *job)
{
    return job->cancelled;
}

void
job_set_error(Job *job, char *text)
{
    if (job->error) {
        g_free(text);
    } else {
        job->error = text;
    }
}

void
job_pause_for_drain(Job *job)
{
    job->pauses++;
}

void
job_resume_after_drain(Job *job)
{
    assert(job->pauses > 0);
    if (--job->pauses == 0) {
        job_kick(job);
    }
}

bool
job_may_use(const JobOptions *o, BlockNode *node, BlockOp op, GError **errp)
{
    return !o->id || !op_blocked(node, op, errp);
}

void
job_block_ops(Job *job, BlockNode *node, uint32_t allowed)
{
    g_autofree char *reason =
        g_strdup_printf("block device is in use by block job: %s", job_type_str(job->drv->type));

    g_ptr_array_add(job->blockers,
                    op_blocker_new(node, ((1u << BLOCK_OP__MAX) - 1) & ~allowed, reason));
}

static void
job_unblock_ops(Job *job)
{
    for (guint i = 0; i < job->blockers->len; i++) {
        op_blocker_free(g_ptr_array_index(job->blockers, i));
    }
    g_ptr_array_set_size(job->blockers, 0);
}

/* --- the one way through a life --- */

/* Work is done: wait for job-finalize where the user asked for it. */
static int coroutine_fn
job_co_settle(Job *job, int ret)
{
    if (ret < 0) {
        return ret;
    }
    job_move(job, JOB_STATUS_WAITING);
    job_move(job, JOB_STATUS_PENDING);
    if (job->options.manual_finalize && job->id) {
        job_tell_pending(job);
        while (!job->finalize_told && !job->cancelled) {
            job_co_sleep(job, INT64_MAX);
        }
        if (job->cancelled && !job->finalize_told) {
            return -ECANCELED;
        }
    }
    return 0;
}

static void coroutine_fn
job_co_conclude(Job *job)
{
    job_unblock_ops(job);
    job_tell_end(job);
    job_move(job, JOB_STATUS_CONCLUDED);
    if (job->options.done) {
        job->options.done(job->ret, job->options.opaque);
    }
}

static void coroutine_fn
job_co_entry(void *opaque)
{
    Job *job = opaque;
    int ret;

    job->busy = true;
    ret = job->cancelled ? -ECANCELED : job->drv->co_run(job);
    if (job->cancelled) {
        ret = -ECANCELED;
    }
    ret = job_co_settle(job, ret);
    if (ret < 0) {
        job_move(job, JOB_STATUS_ABORTING);
    }
    job->ret = job->drv->co_finish(job, ret);
    if (job->ret < 0 && job->status == JOB_STATUS_PENDING) {
        job_move(job, JOB_STATUS_ABORTING);
    }
    job->busy = false;
    job_co_conclude(job);
    job->over = true;
    co_queue_wake_all(&job->ended);
    if ((!job->options.manual_dismiss || !job->id) && job->status == JOB_STATUS_CONCLUDED) {
        job_dismiss(job); /* unless the user has, while done() waited */
    }
    job_unref(job);
}

void
job_dismiss(Job *job)
{
    job_move(job, JOB_STATUS_NULL);
    job_unlink(job);
    job_unref(job);
}

void
job_start(Job *job)
{
    assert(job->status == JOB_STATUS_CREATED);
    job_move(job, JOB_STATUS_RUNNING);
    job->refs++; /* the coroutine's; the list has the other */
    co_spawn(job_co_entry, job);
}

void
job_abandon(Job *job)
{
    job_unblock_ops(job);
    job_dismiss(job);
}

/* --- verbs --- */

void
job_cancel(Job *job, bool force)
{
    if (!force && job_is_ready(job) && job->drv->soft_cancel && job->drv->soft_cancel(job)) {
        job->was_soft_cancelled = true;
    } else {
        job->cancelled = true;
        if (job->drv->cancelled) {
            job->drv->cancelled(job);
        }
    }
    job_kick(job);
}

void
job_finalize(Job *job)
{
    job->finalize_told = true;
    job_kick(job);
}

bool
job_complete(Job *job, GError **errp)
{
    if (!job->drv->complete) {
        return fail(errp, "Job '%s' cannot be completed", job->id);
    }
    if (!job->drv->complete(job, errp)) {
        return false;
    }
    job_kick(job);
    return true;
}

bool
job_user_pause(Job *job, GError **errp)
{
    if (job->user_paused) {
        return fail(errp, "Job is already paused");
    }
    job->user_paused = true;
    job->pauses++;
    job_kick(job);
    return true;
}

void
job_stop_for_error(Job *job, int err)
{
    job->io_status = err == ENOSPC ? BLOCK_DEVICE_IO_STATUS_NOSPACE : BLOCK_DEVICE_IO_STATUS_FAILED;
    if (!job->user_paused) {
        job->user_paused = true;
        job->pauses++;
    }
}

bool
job_user_resume(Job *job, GError **errp)
{
    if (!job->user_paused) {
        return fail(errp, "Can't resume a job that was not paused");
    }
    job->user_paused = false;
    job->io_status = BLOCK_DEVICE_IO_STATUS_OK;
    job_resume_after_drain(job);
    return true;
}

void
job_set_speed(Job *job, uint64_t bytes_per_s)
{
    job->speed_bytes_per_s = bytes_per_s;
    rate_limit_set(&job->speed, bytes_per_s);
    job_kick(job);
}

void coroutine_fn
job_co_cancel(Job *job)
{
    if (job->over) {
        return;
    }
    job->refs++;
    job_cancel(job, true); /* one that has just concluded may still be in its done() */
    co_queue_wait(&job->ended);
    job_unref(job);
}

void coroutine_fn
job_co_cancel_all(void)
{
    for (;;) {
        Job *job = jobs_first;

        while (job && job->over) {
            job = job->next;
        }
        if (!job) {
            return;
        }
        job_co_cancel(job);
    }
}

JobProgress
job_progress(const Job *job)
{
    return job->progress;
}
