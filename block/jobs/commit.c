/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Active commit: merge an overlay and what lies below it, down to a base, into
 * that base while the overlay is in use. See commit_co_start().
 *
 * Pieces are as small as the overlays store (4 KiB in a scratch image), so a
 * few scattered sectors are merged as such and not as clusters.
 */
#include "block/graph.h"
#include "block/jobs/mirror.h"

#define COMMIT_MAX_PIECE (64 * KiB)
#define COMMIT_MIN_PIECE 512

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

/* Everything that a layer above base decides. */
static int coroutine_fn
commit_co_must_copy(Job *job, int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    const Mirror *m = job->state;

    return node_co_is_allocated_above(m->from, m->onto, false, offset, bytes, ret_bytes);
}

static const JobDriver commit_driver = {
    .type = JOB_TYPE_COMMIT,
    .state_size = sizeof(Mirror),
    .co_run = mirror_job_co_run,
    .co_finish = mirror_job_co_finish,
    .complete = mirror_job_complete,
    .soft_cancel = mirror_job_soft_cancel,
    .cancelled = mirror_job_cancelled,
};

static bool coroutine_fn
commit_co_set_read_only(BlockNode *base, bool read_only, GError **errp)
{
    NodeFlags flags = base->flags;
    GraphTx *tx = graph_tx_new();

    flags.read_only = read_only;
    flags.auto_read_only = false;
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
commit_co_start(const JobOptions *o, const CommitOptions *co, BlockNode *top, BlockNode *base,
                GError **errp)
{
    /* Write-blocking, so that it converges however fast the guest writes. */
    Mirror m = {
        .co_must_copy = commit_co_must_copy,
        .write_blocking = true,
        .target_is_base = true,
        .auto_complete = co->auto_complete,
        .flush_copies = co->top_is_volatile,
        .on_source_error = co->on_error,
        .on_target_error = co->on_error,
    };

    bool was_read_only = node_is_read_only(base);
    Job *job;

    if (!commit_check(top, base, errp) || !mirror_job_check_policy(co->on_error, errp) ||
        !job_may_use(o, top, BLOCK_OP_COMMIT_SOURCE, errp) ||
        !job_may_use(o, base, BLOCK_OP_COMMIT_TARGET, errp) ||
        (was_read_only && !commit_co_set_read_only(base, false, errp))) {
        return NULL;
    }
    job = mirror_job_co_start(&commit_driver, o, &m, top, base, commit_granularity(top, base),
                              co->filter_name, errp);
    if (!job && was_read_only) {
        (void)commit_co_set_read_only(base, true, NULL); /* somebody may write there by now */
    }
    return job;
}
