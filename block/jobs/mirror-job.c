/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirror: copy a whole disk to another node while it is in use, go on copying
 * what changes, and end by a switch to the copy (complete) or with a copy of
 * one moment (soft cancel).
 */
#include <inttypes.h>

#include "block/graph.h"
#include "block/jobs/mirror.h"

#define MIRROR_MIN_GRANULARITY     512
#define MIRROR_MAX_GRANULARITY     (64 * MiB)
#define MIRROR_DEFAULT_GRANULARITY (64 * KiB)

typedef struct MirrorJob {
    Mirror m; /* first: mirror-run.c looks for it there */
    MirrorSyncMode sync;
    bool target_is_zero;
} MirrorJob;

static int64_t
default_granularity(BlockNode *target)
{
    BlockInfoData info;

    node_get_info(target, &info);
    return info.cluster_size ? CLAMP(info.cluster_size, 4 * KiB, 64 * KiB)
                             : MIRROR_DEFAULT_GRANULARITY;
}

static int coroutine_fn
mirror_co_must_copy(Job *job, int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    const MirrorJob *s = job->state;
    bool top = s->sync == MIRROR_SYNC_MODE_TOP;
    BlockStatus st;
    int r;

    *ret_bytes = bytes;
    if (s->sync == MIRROR_SYNC_MODE_NONE) {
        return 0;
    }
    if (s->sync == MIRROR_SYNC_MODE_FULL && !s->target_is_zero) {
        return 1;
    }
    r = top ? node_co_block_status(node_skip_filters(s->m.from), true, offset, bytes, &st)
            : node_co_block_status_above(s->m.from, NULL, true, offset, bytes, &st, NULL);
    if (r < 0) {
        return r;
    }
    *ret_bytes = st.bytes;
    return top ? (st.flags & STATUS_ALLOCATED) != 0 : (st.flags & STATUS_ZERO) == 0;
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
    return mirror_job_check_policy(o->on_source_error, errp) &&
           mirror_job_check_policy(o->on_target_error, errp);
}

/* What reads through an overlay must not change below it. */
static bool
mirror_check_target(const BlockNode *target, GError **errp)
{
    for (const BlockChild *c = target->first_parent; c; c = c->next_parent) {
        if (c->role & CHILD_COW) {
            return fail(errp, "Node '%s' is busy: node is used as backing hd of '%s'",
                        target->node_name, c->parent->node_name);
        }
    }
    return true;
}

Job *coroutine_fn
mirror_co_start(const JobOptions *o, const MirrorOptions *mo, BlockNode *source,
                BlockNode *target, GError **errp)
{
    MirrorJob s = {
        .m = {
            .co_must_copy = mirror_co_must_copy,
            .write_blocking = mo->write_blocking,
            .on_source_error = mo->on_source_error,
            .on_target_error = mo->on_target_error,
        },
        .sync = mo->sync,
        .target_is_zero = mo->target_is_zero,
    };

    if (!mirror_check(mo, source, target, errp) ||
        !job_may_use(o, source, BLOCK_OP_MIRROR_SOURCE, errp) ||
        !job_may_use(o, target, BLOCK_OP_MIRROR_TARGET, errp) ||
        !mirror_check_target(target, errp)) {
        return NULL;
    }
    return mirror_job_co_start(&mirror_job_driver, o, &s, source, target,
                               mo->granularity ? mo->granularity : default_granularity(target),
                               mo->filter_name, errp);
}
