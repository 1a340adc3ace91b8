/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a copying job, commit or mirror: find what is dirty, copy it,
 * be ready, and end. Errors of copies go by the user's policy.
 */
#include <errno.h>
#include <string.h>

#include "block/jobs/mirror.h"

#define MIRROR_RETRY_NS (100 * NS_PER_MS)
/* The answer to a failover, and requests that were held for it, go before the first copies: those
 * keep the processor until the system takes it away. */
#define MIRROR_HEAD_START_NS (1 * NS_PER_MS)

static Mirror *
mirror_of(Job *job)
{
    return job->state;
}

/* --- error policies --- */

bool
mirror_job_check_policy(BlockdevOnError policy, GError **errp)
{
    if (policy == BLOCKDEV_ON_ERROR_AUTO) {
        return fail(errp, "Error policy 'auto' is not supported for jobs, use 'report', 'ignore',"
                          " 'stop' or 'enospc'");
    }
    return true;
}

static BlockErrorAction
action_for(BlockdevOnError policy, int err)
{
    switch (policy) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
        return err == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    default:
        return BLOCK_ERROR_ACTION_REPORT;
    }
}

/* True if the job shall go on after @r: ignored after a while, stopped when it is resumed. */
static bool coroutine_fn
mirror_job_co_tolerate(Mirror *m, int r)
{
    BlockErrorAction action;

    if (r >= 0 || job_is_cancelled(m->job)) {
        return false;
    }
    action = action_for(m->error_was_read ? m->on_source_error : m->on_target_error, -r);
    job_event_error(m->job, m->error_was_read, action);
    m->error_was_read = false;
    if (action == BLOCK_ERROR_ACTION_IGNORE) {
        job_co_sleep(m->job, MIRROR_RETRY_NS);
    } else if (action == BLOCK_ERROR_ACTION_STOP) {
        job_stop_for_error(m->job, -r);
        job_co_pause_point(m->job);
    }
    return action != BLOCK_ERROR_ACTION_REPORT && !job_is_cancelled(m->job);
}

/* --- from start to end --- */

static int coroutine_fn
mirror_job_co_find_dirty(Mirror *m)
{
    int r;

    do {
        r = mirror_co_find_dirty(m);
        m->error_was_read = r < 0;
    } while (mirror_job_co_tolerate(m, r));
    return r;
}

static int coroutine_fn
mirror_job_co_round(Mirror *m)
{
    int r;

    do {
        r = mirror_co_round(m);
    } while (mirror_job_co_tolerate(m, r));
    return r;
}

/* Until it is told how to end. */
static int coroutine_fn
mirror_job_co_stay_ready(Mirror *m)
{
    Job *job = m->job;
    int r = 0;

    job_ready(job);
    while (r == 0 && !m->completed && !m->stop_without_pivot) {
        r = mirror_job_co_round(m);
        job_co_pause_point(job);
        if (r == 0 && !m->completed && !m->stop_without_pivot && hbitmap_count(m->dirty) == 0) {
            job_co_sleep(job, INT64_MAX);
        }
    }
    return r;
}

static int coroutine_fn
mirror_job_co_converge(Mirror *m)
{
    int r;

    do {
        r = mirror_co_converge(m);
    } while (mirror_job_co_tolerate(m, r));
    return r;
}

int coroutine_fn
mirror_job_co_run(Job *job)
{
    Mirror *m = mirror_of(job);
    int r;

    if (m->flush_copies) {
        job_co_sleep(job, MIRROR_HEAD_START_NS);
    }
    r = mirror_job_co_find_dirty(m);
    if (r < 0) {
        job_set_error(job, g_strdup_printf("Cannot tell what has to be copied from node '%s': %s",
                                           m->from->node_name, g_strerror(-r)));
        return r;
    }
    r = mirror_job_co_round(m);
    if (r == 0 && !m->auto_complete) {
        r = mirror_job_co_stay_ready(m);
    }
    return r < 0 ? r : mirror_job_co_converge(m);
}

static void coroutine_fn
drop_ends(Mirror *m)
{
    BlockNode *from = m->from, *onto = m->onto;

    m->from = m->onto = NULL;
    node_co_unref(from);
    node_co_unref(onto);
}

int coroutine_fn
mirror_job_co_finish(Job *job, int ret)
{
    Mirror *m = mirror_of(job);
    bool pivot = ret == 0 && (m->completed || m->auto_complete);
    GError *err = NULL;

    /* A flush of the guest may be looking for what is dirty until the filter has gone. */
    if (!mirror_co_close(m, pivot ? m->onto : NULL, &err)) {
        job_set_error(job, g_strdup(err->message));
        g_error_free(err);
        ret = -EPERM;
    }
    drop_ends(m);
    return ret;
}

bool
mirror_job_complete(Job *job, GError **errp)
{
    (void)errp;
    mirror_of(job)->completed = true;
    return true;
}

bool
mirror_job_soft_cancel(Job *job)
{
    Mirror *m = mirror_of(job);

    m->stop_without_pivot = !m->completed;
    return true;
}

/* Copies that wait for a silent peer fail. A base is what the guest reads: it keeps its peer. */
void
mirror_job_cancelled(Job *job)
{
    Mirror *m = mirror_of(job);

    if (m->onto && !m->target_is_base) { /* it may be at its end already */
        node_cancel_in_flight(m->onto);
    }
}

Job *coroutine_fn
mirror_job_co_start(const JobDriver *drv, const JobOptions *o, const void *state,
                    BlockNode *source, BlockNode *target, int64_t granularity,
                    const char *filter_name, GError **errp)
{
    Job *job = job_new(drv, o, errp);
    Mirror *m;

    if (!job) {
        return NULL;
    }
    memcpy(job->state, state, drv->state_size);
    m = mirror_of(job);
    if (o->id) {
        job_block_ops(job, source, 0);
        job_block_ops(job, target, 0);
    }
    m->from = node_ref(source);
    m->onto = node_ref(target);
    if (!mirror_co_open(m, job, source, target, granularity, filter_name, errp)) {
        drop_ends(m);
        job_abandon(job);
        return NULL;
    }
    job_start(job);
    return job;
}
