/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Active commit: merge an overlay and what lies below it, down to a base, into
 * that base while the overlay is in use. See commit_co_start().
 *
 * Pieces are as small as the overlays store (4 KiB in a scratch image), so a
 * few scattered sectors are merged as such and not as clusters.
 */
#include <errno.h>

#include "block/graph.h"
#include "block/jobs/mirror.h"

#define COMMIT_MAX_PIECE (64 * KiB)
#define COMMIT_MIN_PIECE 512

typedef struct CommitState {
    Mirror m;
    BlockNode *top, *base; /* counted */
    bool auto_complete;
    bool completed;        /* told to pivot */
    bool stop_without_pivot;
} CommitState;

/* The finest unit that any layer from top to above base stores. */
static int64_t
commit_granularity(BlockNode *top, BlockNode *base)
{
    int64_t piece = COMMIT_MAX_PIECE;

    for (BlockNode *n = top; n && n != base; n = node_backing(n)) {
        BlockInfoData info;

        node_get_info(n, &info);
        if (info.store_granularity > 0) {
            piece = MIN(piece, info.store_granularity);
        } else if (info.cluster_size > 0) {
            piece = MIN(piece, info.cluster_size);
        }
    }
    return MAX(piece, COMMIT_MIN_PIECE);
}

/* Everything that a layer above base decides has to be copied. */
static int coroutine_fn
commit_co_find_dirty(CommitState *s)
{
    int64_t length = node_length(s->top);
    int64_t offset = 0;

    while (offset < length && !job_is_cancelled(s->m.job)) {
        int64_t bytes;
        int r = node_co_is_allocated_above(s->top, s->base, false, offset, length - offset, &bytes);

        if (r < 0) {
            return r;
        }
        if (r > 0) {
            hbitmap_set(s->m.dirty, offset, bytes);
        }
        offset += bytes;
        co_reschedule();
    }
    return 0;
}

static int coroutine_fn
commit_co_run(Job *job)
{
    CommitState *s = job->state;
    int r = commit_co_find_dirty(s);

    if (r < 0) {
        job_set_error(job, g_strdup_printf("Cannot tell what node '%s' has allocated: %s",
                                           s->top->node_name, g_strerror(-r)));
        return r;
    }
    r = mirror_co_round(&s->m);
    if (r < 0) {
        return r;
    }
    if (!s->auto_complete) {
        job_ready(job);
        while (!s->completed && !s->stop_without_pivot && !job_is_cancelled(job)) {
            r = mirror_co_round(&s->m);
            if (r < 0) {
                return r;
            }
            job_co_pause_point(job);
            if (!s->completed && !s->stop_without_pivot) {
                job_co_sleep(job, INT64_MAX);
            }
        }
        if (job_is_cancelled(job)) {
            return -ECANCELED;
        }
    }
    r = mirror_co_converge(&s->m);
    if (r == 0) {
        /* What the guest has flushed in the overlay shall not depend on a later flush of base. */
        r = child_co_flush(backend_root(s->m.target));
    }
    return r;
}

static int coroutine_fn
commit_co_finish(Job *job, int ret)
{
    CommitState *s = job->state;

    mirror_co_close(&s->m, ret == 0 && !s->stop_without_pivot ? s->base : NULL);
    node_co_unref(s->top);
    node_co_unref(s->base);
    return ret;
}

static bool
commit_complete(Job *job, GError **errp)
{
    CommitState *s = job->state;

    (void)errp;
    s->completed = true;
    return true;
}

static bool
commit_soft_cancel(Job *job)
{
    CommitState *s = job->state;

    s->stop_without_pivot = true;
    return true;
}

static void
commit_cancelled(Job *job)
{
    CommitState *s = job->state;

    mirror_cancel(&s->m);
}

static const JobDriver commit_driver = {
    .type = JOB_TYPE_COMMIT,
    .state_size = sizeof(CommitState),
    .co_run = commit_co_run,
    .co_finish = commit_co_finish,
    .complete = commit_complete,
    .soft_cancel = commit_soft_cancel,
    .cancelled = commit_cancelled,
};

static bool coroutine_fn
commit_co_make_writable(BlockNode *base, GError **errp)
{
    NodeFlags flags = base->flags;
    GraphTx *tx;

    if (!node_is_read_only(base)) {
        return true;
    }
    flags.read_only = false;
    flags.auto_read_only = false;
    tx = graph_tx_new();
    graph_tx_set_flags(tx, base, &flags);
    return graph_tx_co_commit(tx, errp);
}

static bool
commit_check(BlockNode *top, BlockNode *base, GError **errp)
{
    if (top == base || !node_is_ancestor(top, base)) {
        return fail(errp, "'%s' is not in this backing file chain", base->node_name);
    }
    if (node_length(top) > node_length(base)) {
        return fail(errp, "'%s' (%" G_GINT64_FORMAT " bytes) is shorter than '%s' (%"
                    G_GINT64_FORMAT "): resize it first", base->node_name, node_length(base),
                    top->node_name, node_length(top));
    }
    return true;
}

Job *coroutine_fn
commit_co_start(const JobOptions *o, BlockNode *top, BlockNode *base, bool auto_complete,
                const char *filter_name, GError **errp)
{
    CommitState *s;
    Job *job;

    if (!commit_check(top, base, errp) || !commit_co_make_writable(base, errp)) {
        return NULL;
    }
    job = job_new(&commit_driver, o, errp);
    if (!job) {
        return NULL;
    }
    s = job->state;
    s->auto_complete = auto_complete;
    s->m.write_blocking = true;
    if (!mirror_co_open(&s->m, job, top, base, commit_granularity(top, base), filter_name, errp)) {
        job_abandon(job);
        return NULL;
    }
    s->top = node_ref(top);
    s->base = node_ref(base);
    if (o->id) {
        job_block_ops(job, top, 0);
        job_block_ops(job, base, 0);
    }
    job_start(job);
    return job;
}
