/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirror: copy a whole disk to another node while it is in use, go on copying
 * what changes, and end by a switch to the copy (complete) or with a copy of
 * one moment (soft cancel).
 */
#include <errno.h>
#include <inttypes.h>

#include "block/graph.h"
#include "block/jobs/mirror.h"

#define MIRROR_MIN_GRANULARITY     512
#define MIRROR_MAX_GRANULARITY     (64 * MiB)
#define MIRROR_DEFAULT_GRANULARITY (64 * KiB)
#define MIRROR_RETRY_NS            (100 * NS_PER_MS)

typedef struct MirrorJob {
    Mirror m;
    BlockNode *source, *target; /* counted */
    MirrorOptions o;
    bool completed, stop_without_pivot;
} MirrorJob;

static int64_t
default_granularity(BlockNode *target)
{
    BlockInfoData info;

    node_get_info(target, &info);
    return info.cluster_size ? CLAMP(info.cluster_size, 4 * KiB, 64 * KiB)
                             : MIRROR_DEFAULT_GRANULARITY;
}

/* What has to be copied at first. */
static int coroutine_fn
mirror_job_co_find_dirty(MirrorJob *s)
{
    int64_t length = node_length(s->source);
    int64_t offset = 0;

    if (s->o.sync == MIRROR_SYNC_MODE_NONE) {
        return 0;
    }
    if (s->o.sync == MIRROR_SYNC_MODE_FULL && !s->o.target_is_zero) {
        hbitmap_set(s->m.dirty, 0, length);
        return 0;
    }
    while (offset < length && !job_is_cancelled(s->m.job)) {
        BlockStatus st;
        bool top = s->o.sync == MIRROR_SYNC_MODE_TOP;
        int r = top ? node_co_block_status(node_skip_filters(s->source), true, offset,
                                           length - offset, &st)
                    : node_co_block_status_above(s->source, NULL, true, offset, length - offset,
                                                 &st, NULL);

        if (r < 0) {
            return r;
        }
        if (top ? st.flags & STATUS_ALLOCATED : !(st.flags & STATUS_ZERO)) {
            hbitmap_set(s->m.dirty, offset, st.bytes);
        }
        offset += st.bytes;
        co_reschedule();
    }
    return 0;
}

/* Apply the error policy: true if the job shall go on. */
static bool coroutine_fn
mirror_job_co_tolerate(MirrorJob *s)
{
    bool read = s->m.error_was_read;
    BlockdevOnError policy = read ? s->o.on_source_error : s->o.on_target_error;
    bool ignore = policy == BLOCKDEV_ON_ERROR_IGNORE;

    if (job_is_cancelled(s->m.job)) {
        return false;
    }
    job_event_error(s->m.job, read,
                    ignore ? BLOCK_ERROR_ACTION_IGNORE : BLOCK_ERROR_ACTION_REPORT);
    if (ignore) {
        job_co_sleep(s->m.job, MIRROR_RETRY_NS);
    }
    return ignore;
}

static int coroutine_fn
mirror_job_co_round(MirrorJob *s)
{
    int r;

    do {
        s->m.error_was_read = false;
        r = mirror_co_round(&s->m);
    } while (r < 0 && mirror_job_co_tolerate(s));
    return r;
}

static int coroutine_fn
mirror_job_co_run(Job *job)
{
    MirrorJob *s = job->state;
    int r = mirror_job_co_find_dirty(s);

    if (r == 0) {
        r = mirror_job_co_round(s);
    }
    if (r < 0) {
        return r;
    }
    job_ready(job);
    while (!s->completed && !s->stop_without_pivot && !job_is_cancelled(job)) {
        r = mirror_job_co_round(s);
        if (r < 0) {
            return r;
        }
        job_co_pause_point(job);
        if (!s->completed && !s->stop_without_pivot && hbitmap_count(s->m.dirty) == 0) {
            job_co_sleep(job, INT64_MAX);
        }
    }
    if (job_is_cancelled(job)) {
        return -ECANCELED;
    }
    r = mirror_co_converge(&s->m);
    if (r == 0) {
        /* The copy is only a copy when it would survive what the source survives. */
        r = child_co_flush(backend_root(s->m.target));
    }
    return r;
}

static int coroutine_fn
mirror_job_co_finish(Job *job, int ret)
{
    MirrorJob *s = job->state;

    mirror_co_close(&s->m, ret == 0 && s->completed ? s->target : NULL);
    node_co_unref(s->source);
    node_co_unref(s->target);
    return ret;
}

static bool
mirror_job_complete(Job *job, GError **errp)
{
    MirrorJob *s = job->state;

    (void)errp;
    s->completed = true;
    return true;
}

static bool
mirror_job_soft_cancel(Job *job)
{
    MirrorJob *s = job->state;

    if (!s->completed) {
        s->stop_without_pivot = true;
    }
    return true;
}

static void
mirror_job_cancelled(Job *job)
{
    MirrorJob *s = job->state;

    mirror_cancel(&s->m);
}

static void
mirror_job_describe(Job *job, BlockJobInfo *info)
{
    MirrorJob *s = job->state;

    info->u.mirror.actively_synced = s->m.write_blocking && job->status == JOB_STATUS_READY;
}

static bool
mirror_job_change(Job *job, const BlockJobChangeOptions *opts, GError **errp)
{
    MirrorJob *s = job->state;
    MirrorCopyMode mode = opts->u.mirror.copy_mode;
    bool blocking = mode == MIRROR_COPY_MODE_WRITE_BLOCKING;

    if (s->m.write_blocking && !blocking) {
        return fail(errp, "Can't switch copy mode to '%s'", mirror_copy_mode_str(mode));
    }
    /* Writes that began before this are not in `ranges`; the bits they set still count. */
    s->m.write_blocking = blocking;
    return true;
}

static const JobDriver mirror_job_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(MirrorJob),
    .co_run = mirror_job_co_run,
    .co_finish = mirror_job_co_finish,
    .complete = mirror_job_complete,
    .soft_cancel = mirror_job_soft_cancel,
    .cancelled = mirror_job_cancelled,
    .describe = mirror_job_describe,
    .change = mirror_job_change,
};

static bool
mirror_policy_is_known(BlockdevOnError policy, GError **errp)
{
    if (policy != BLOCKDEV_ON_ERROR_REPORT && policy != BLOCKDEV_ON_ERROR_IGNORE) {
        return fail(errp, "Error policy '%s' is not supported for mirror, use 'report' or 'ignore'",
                    blockdev_on_error_str(policy));
    }
    return true;
}

static bool
mirror_check(const MirrorOptions *o, BlockNode *source, BlockNode *target, GError **errp)
{
    int64_t g = o->granularity;

    if (source == target) {
        return fail(errp, "Can't mirror node into itself");
    }
    if (g && (g < MIRROR_MIN_GRANULARITY || g > MIRROR_MAX_GRANULARITY)) {
        return fail(errp, "Parameter 'granularity' expects a value in range [512B, 64MB]");
    }
    if (g & (g - 1)) {
        return fail(errp, "Parameter 'granularity' expects a power of 2");
    }
    if (o->sync != MIRROR_SYNC_MODE_FULL && o->sync != MIRROR_SYNC_MODE_TOP &&
        o->sync != MIRROR_SYNC_MODE_NONE) {
        return fail(errp, "Sync mode '%s' not supported", mirror_sync_mode_str(o->sync));
    }
    if (node_length(source) != node_length(target)) {
        return fail(errp,
                    "Source (%" PRId64 " bytes) and target (%" PRId64
                    " bytes) differ in length",
                    node_length(source), node_length(target));
    }
    return mirror_policy_is_known(o->on_source_error, errp) &&
           mirror_policy_is_known(o->on_target_error, errp);
}

Job *coroutine_fn
mirror_co_start(const JobOptions *o, const MirrorOptions *mo, BlockNode *source,
                BlockNode *target, GError **errp)
{
    MirrorJob *s;
    Job *job;

    if (!mirror_check(mo, source, target, errp)) {
        return NULL;
    }
    job = job_new(&mirror_job_driver, o, errp);
    if (!job) {
        return NULL;
    }
    s = job->state;
    s->o = *mo;
    s->o.filter_name = NULL;
    s->m.write_blocking = mo->write_blocking;
    if (!mirror_co_open(&s->m, job, source, target,
                        mo->granularity ? mo->granularity : default_granularity(target),
                        mo->filter_name, errp)) {
        job_abandon(job);
        return NULL;
    }
    s->source = node_ref(source);
    s->target = node_ref(target);
    job_block_ops(job, source, 0);
    job_block_ops(job, target, 0);
    job_start(job);
    return job;
}
