/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Failover: the secondary's view becomes its disk.
 *
 *  F1 the old primary is fenced before anything else: no write of its changes
 *     the disk under the merge, whether it was admitted or is still coming, and
 *     by whatever export or drive; a new export of the disk is refused until
 *     the merge is done;
 *  F2 the stage is `failover` before the filter goes, so nothing that happens
 *     on the way is mistaken for an error of replication;
 *  F3 the merge never changes what the top shows; when it fails, the chain is
 *     kept as it is and failover may be tried again;
 *  F4 from failover on a flush of our guest is acknowledged only when the disk
 *     has what was acknowledged before, all of it: the overlays do not survive a
 *     crash and the disk alone is no epoch until the merge is done. So a flush
 *     finishes the merge (mirror.h, M5), and fails after a merge that failed.
 */
#include <errno.h>

#include "block/backend.h"
#include "block/replication/replication-int.h"

/* Everybody who wrote to @node from outside of our own chain and has a drive id. */
static void
unfence_drives(Replication *r, BlockNode *node)
{
    for (BlockChild *e = node->first_parent; e; e = e->next_parent) {
        if (e->parent_backend) {
            if (*backend_name(e->parent_backend)) {
                backend_fence(e->parent_backend, 0);
            }
        } else if (e->parent != r->node && e->parent != r->hidden) {
            unfence_drives(r, e->parent);
        }
    }
}

static void coroutine_fn
failover_co_done(int ret, void *opaque)
{
    Replication *r = opaque;

    r->commit = NULL;
    if (ret < 0) {
        latch_set(r, REPLICATION_OPERATION_FAILOVER, -ret, -1);
        stage_move(r, REPLICATION_STAGE_FAILOVER_FAILED, g_strerror(-ret));
    } else {
        /* Exports stay fenced: their clients belong to the old primary. A drive id is ours. */
        node_fence(r->disk, 0, NULL, NULL);
        unfence_drives(r, r->disk);
        stage_move(r, REPLICATION_STAGE_DONE, "failover completed");
        latch_clear(r);
        secondary_co_forget_chain(r);
    }
    node_co_unref(r->node); /* taken by failover_co_begin() */
}

static bool coroutine_fn
failover_co_start_merge(Replication *r, GError **errp)
{
    JobOptions o = {.done = failover_co_done, .opaque = r};
    CommitOptions c = {.auto_complete = true, .top_is_volatile = true,
                       .on_error = BLOCKDEV_ON_ERROR_REPORT};
    GError *err = NULL;

    node_ref(r->node); /* lives until the merge has ended */
    r->commit = commit_co_start(&o, &c, r->active, r->disk, &err);
    if (!r->commit) {
        latch_set(r, REPLICATION_OPERATION_FAILOVER, EIO, -1);
        stage_move(r, REPLICATION_STAGE_FAILOVER_FAILED, err->message);
        g_propagate_prefixed_error(errp, err, "Cannot merge node '%s' into '%s': ",
                                   r->active->node_name, r->disk->node_name);
        node_co_unref(r->node);
        return false;
    }
    return true;
}

bool coroutine_fn
failover_co_begin(Replication *r, GError **errp)
{
    BlockNode *disk = node_ref(r->disk);
    bool ok;

    node_fence(r->disk, EPERM, r->node, r->hidden); /* F1 */
    drain_co_begin(r->node); /* F4: no flush between the stage and the merge's filter */
    stage_move(r, REPLICATION_STAGE_FAILOVER, "failover");   /* F2 */
    latch_clear(r);
    drain_co_begin(disk); /* here and not with the graph locked: a write may hang on the disk */
    secondary_co_unprotect(r);
    ok = failover_co_start_merge(r, errp);
    drain_end(disk);
    drain_end(r->node);
    node_co_unref(disk);
    return ok;
}
