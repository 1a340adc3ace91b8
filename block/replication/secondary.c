/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A secondary disk from start to stop.
 *
 *   replication --file--> active --backing--> hidden --backing--> disk
 *        |                                      ^                  ^
 *        +---"hidden disk"----------------------+--target-- cbw --file
 *        +---"secondary disk"--------------------------------^
 *
 * What the primary writes passes the copy-before-write filter, which keeps the
 * old content in hidden; what our guest writes stays in active. So active over
 * hidden over disk reads as the last checkpoint plus our guest's writes.
 *
 *  S1 hidden and active are empty and the filter has copied nothing exactly at
 *     the beginning of an epoch, while both sides are drained;
 *  S2 a write reaches the disk only through the filter, from the successful
 *     prepare of a start until stop or failover has drained the writers;
 *  S3 emptying and the new epoch are one plain sequence: no request, error or
 *     crash of a peer can come between them.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/cbw.h"
#include "block/graph.h"
#include "block/replication/replication-int.h"

#define EDGE_HIDDEN "hidden disk"
#define EDGE_DISK   "secondary disk"

/* --- what a start relies on --- */

static bool
has_backend(const BlockNode *node)
{
    for (const BlockChild *e = node->first_parent; e; e = e->next_parent) {
        if (e->parent_backend) {
            return true;
        }
    }
    return false;
}

static bool
has_node_parent(const BlockNode *node)
{
    for (const BlockChild *e = node->first_parent; e; e = e->next_parent) {
        if (e->parent) {
            return true;
        }
    }
    return false;
}

static bool
check_chain(BlockNode *active, GError **errp)
{
    BlockNode *hidden, *disk;

    if (!active->backing) {
        return fail(errp, "Active disk '%s' doesn't have a backing file", active->node_name);
    }
    hidden = active->backing->node;
    if (!hidden->backing) {
        return fail(errp, "Hidden disk '%s' doesn't have a backing file", hidden->node_name);
    }
    disk = hidden->backing->node;
    if (!has_backend(disk)) {
        return fail(errp,
                    "Secondary disk '%s' doesn't have a block backend: export it, or give it a"
                    " drive id, first",
                    disk->node_name);
    }
    if (node_length(active) != node_length(hidden) || node_length(hidden) != node_length(disk)) {
        return fail(errp,
                    "Active disk, hidden disk and secondary disk differ in length: %" PRId64
                    ", %" PRId64 " and %" PRId64 " bytes",
                    node_length(active), node_length(hidden), node_length(disk));
    }
    return true;
}

/*
 * A job at one of our nodes would be misled by a checkpoint, which changes what
 * they show without a write, or be in the way of a failover.
 */
static bool
check_no_job(BlockNode *node, GError **errp)
{
    return !op_blocked(node, BLOCK_OP_COMMIT_TARGET, errp);
}

static bool
check_no_jobs(Replication *r, GError **errp)
{
    return check_no_job(r->node, errp) && check_no_job(r->active, errp) &&
           check_no_job(r->hidden, errp) && check_no_job(node_skip_filters(r->disk), errp);
}

static bool
check_can_be_emptied(BlockNode *overlay, const char *what, GError **errp)
{
    if (!overlay->drv->co_scratch_begin) {
        return fail(errp, "%s disk '%s' (driver '%s') cannot be emptied", what,
                    overlay->node_name, overlay->drv->name);
    }
    return true;
}

static BlockNode *
find_top(Replication *r, GError **errp)
{
    BlockNode *top = node_lookup(r->top_id, NULL);

    if (!top || !node_is_ancestor(top, r->node)) {
        return fail(errp, "Top node '%s' of replication node '%s' %s", r->top_id,
                    r->node->node_name, top ? "is not above it" : "not found"), NULL;
    }
    if (has_node_parent(top)) {
        return fail(errp, "Top node '%s' of replication node '%s' is not the root of its graph",
                    r->top_id, r->node->node_name), NULL;
    }
    return top;
}

/* --- start --- */

static void
graph_tx_make_writable(GraphTx *tx, BlockNode *node)
{
    NodeFlags flags = node->flags;

    if (node_is_read_only(node)) {
        flags.read_only = false;
        flags.auto_read_only = false;
        graph_tx_set_flags(tx, node, &flags);
    }
}

static bool coroutine_fn
secondary_co_attach(Replication *r, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    r->hidden_was_ro = node_is_read_only(r->hidden);
    r->disk_was_ro = node_is_read_only(r->disk);
    graph_tx_make_writable(tx, r->disk);
    graph_tx_make_writable(tx, r->hidden);
    graph_tx_attach(tx, r->node, EDGE_HIDDEN, r->hidden, CHILD_DATA);
    graph_tx_attach(tx, r->node, EDGE_DISK, r->disk, CHILD_DATA);
    return graph_tx_co_commit(tx, errp);
}

/* Plain if-s instead of labels: abort takes away whatever there is. */
static bool coroutine_fn
secondary_co_build(Replication *r, GError **errp)
{
    CbwOptions cbw = {0};

    if (!secondary_co_attach(r, errp)) {
        return false;
    }
    /* From below: what an error has left half empty cannot be flushed from above. */
    r->hidden_scratch = r->hidden->drv->co_scratch_begin(r->hidden, errp);
    if (!r->hidden_scratch) {
        g_prefix_error(errp, "Cannot empty hidden disk '%s': ", r->hidden->node_name);
        return false;
    }
    r->active_scratch = r->active->drv->co_scratch_begin(r->active, errp);
    if (!r->active_scratch) {
        g_prefix_error(errp, "Cannot empty active disk '%s': ", r->active->node_name);
        return false;
    }
    r->cbw = cbw_co_insert(r->disk, r->hidden, &cbw, errp);
    return r->cbw != NULL;
}

static void
peer_write_failed(CbwStep step, int err, int64_t offset, void *opaque)
{
    Replication *r = opaque;

    if (r->stage != REPLICATION_STAGE_RUNNING) {
        return; /* of an old primary that is fenced */
    }
    /* The primary's write is refused, so from here on the disks differ. */
    latch_set(r, step == CBW_COPY ? REPLICATION_OPERATION_COPY : REPLICATION_OPERATION_DISK, err,
              offset);
}

/* Also check_no_jobs(), from the start on. The drives of the chain may go in any order. */
static void
secondary_block_ops(Replication *r, BlockNode *top)
{
    static const char reason[] = "block device is in use by internal backup job";
    const uint32_t all = (1u << BLOCK_OP__MAX) - 1;
    const uint32_t jobs = all & ~(1u << BLOCK_OP_DRIVE_DEL);
    BlockNode *const chain[] = {r->active, r->hidden, r->disk, r->cbw};

    r->view_blockers[0] = op_blocker_new(top, all, reason);
    r->view_blockers[1] = op_blocker_new(r->node, jobs, reason);
    for (size_t i = 0; i < G_N_ELEMENTS(chain); i++) {
        r->chain_blockers[i] = op_blocker_new(chain[i], jobs, reason);
    }
}

static void
free_blockers(OpBlocker **blockers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        op_blocker_free(blockers[i]);
        blockers[i] = NULL;
    }
}

bool coroutine_fn
secondary_co_prepare_start(Replication *r, GError **errp)
{
    BlockNode *active = r->node->file->node;
    BlockNode *top;

    if (!check_chain(active, errp) || !check_can_be_emptied(active, "Active", errp) ||
        !check_can_be_emptied(active->backing->node, "Hidden", errp)) {
        return false;
    }
    top = find_top(r, errp);
    if (!top) {
        return false;
    }
    r->active = node_ref(active);
    r->hidden = node_ref(active->backing->node);
    r->disk = node_ref(r->hidden->backing->node);
    if (!check_no_jobs(r, errp) || !secondary_co_build(r, errp)) {
        secondary_co_release(r);
        return false;
    }
    cbw_set_error_callback(r->cbw, peer_write_failed, r);
    secondary_block_ops(r, top);
    return true;
}

static void
graph_tx_make_read_only(GraphTx *tx, BlockNode *node)
{
    NodeFlags flags = node->flags;

    flags.read_only = true;
    graph_tx_set_flags(tx, node, &flags);
}

/* Away with our own edges to hidden and disk, and back to the flags they had. */
static void coroutine_fn
secondary_co_detach(Replication *r, bool restore_flags)
{
    BlockChild *hidden = node_child(r->node, EDGE_HIDDEN);
    BlockChild *disk = node_child(r->node, EDGE_DISK);
    GraphTx *tx = graph_tx_new();

    if (hidden) {
        graph_tx_detach(tx, hidden);
        if (restore_flags && r->hidden_was_ro) {
            graph_tx_make_read_only(tx, r->hidden);
        }
    }
    if (disk) {
        graph_tx_detach(tx, disk);
        if (restore_flags && r->disk_was_ro) {
            graph_tx_make_read_only(tx, r->disk);
        }
    }
    if (!graph_tx_co_commit(tx, NULL) && restore_flags) {
        /* Somebody else has begun to write meanwhile: the nodes stay writable for them. */
        secondary_co_detach(r, false);
    }
}

void coroutine_fn
secondary_co_unprotect(Replication *r)
{
    if (r->cbw) {
        cbw_co_remove(r->cbw);
        r->cbw = NULL;
    }
    free_blockers(r->view_blockers, G_N_ELEMENTS(r->view_blockers));
}

/* What fails here leaves the image dirty: whoever opens it next finds it empty. */
static void coroutine_fn
end_scratch(BlockNode *overlay, bool *scratch, bool worthless)
{
    int r;

    if (!*scratch) {
        return;
    }
    if (worthless) {
        overlay->drv->scratch_empty(overlay);
    }
    r = overlay->drv->co_scratch_end(overlay);
    if (r < 0 && !worthless) {
        block_warn("node '%s' cannot be stored (%s): what failover has not merged of it may be"
                   " lost", overlay->node_name, g_strerror(-r));
    }
    *scratch = false;
}

void coroutine_fn
secondary_co_forget_chain(Replication *r)
{
    /* Closed before a merge has got through: the overlays have what the disk lacks. */
    bool worthless = r->stage != REPLICATION_STAGE_FAILOVER_FAILED;

    if (!r->active) {
        return;
    }
    node_fence(r->disk, 0, NULL, NULL); /* if a failover that failed has left it */
    free_blockers(r->chain_blockers, G_N_ELEMENTS(r->chain_blockers));
    end_scratch(r->active, &r->active_scratch, worthless);
    end_scratch(r->hidden, &r->hidden_scratch, worthless);
    secondary_co_detach(r, r->stage == REPLICATION_STAGE_NONE);
    node_co_unref(r->active);
    node_co_unref(r->hidden);
    node_co_unref(r->disk);
    r->active = r->hidden = r->disk = NULL;
}

void coroutine_fn
secondary_co_release(Replication *r)
{
    secondary_co_unprotect(r);
    secondary_co_forget_chain(r);
}

void
secondary_commit_start(Replication *r)
{
    latch_clear(r);
    r->epoch = 1;
    stage_move(r, REPLICATION_STAGE_RUNNING, "start");
}

/* --- checkpoint --- */

bool
secondary_check_checkpoint(Replication *r, GError **errp)
{
    if (r->stage != REPLICATION_STAGE_RUNNING) {
        return fail(errp, "Block replication of node '%s' is not running", r->node->node_name);
    }
    if (r->latch.err) {
        return fail(errp,
                    "The disk of node '%s' has missed writes of the primary since epoch %" PRIu64
                    " began (%s): a resync is needed",
                    r->node->node_name, r->epoch, g_strerror(r->latch.err));
    }
    return true;
}

void
secondary_commit_checkpoint(Replication *r)
{
    r->active->drv->scratch_empty(r->active); /* S1, S3 */
    r->hidden->drv->scratch_empty(r->hidden);
    cbw_new_epoch(r->cbw);
}

/* --- stop --- */

/* Our edge to the disk and the filter away, in one step. */
static bool coroutine_fn
secondary_co_uncover_disk(Replication *r, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    graph_tx_set_child(tx, r->node->file, r->disk);
    cbw_tx_remove(tx, r->cbw);
    return graph_tx_co_commit(tx, errp);
}

bool coroutine_fn
secondary_co_stop(Replication *r, GError **errp)
{
    BlockNode *disk = node_ref(r->disk);
    BlockNode *node = r->node;
    bool ok;

    drain_co_begin(node);
    drain_co_begin(disk);
    ok = secondary_co_uncover_disk(r, errp);
    if (ok) {
        cbw_co_forget(r->cbw);
        r->cbw = NULL;
        secondary_co_unprotect(r);
        stage_move(r, REPLICATION_STAGE_DONE, "stop");
        latch_clear(r);
    }
    drain_end(disk);
    drain_end(node);
    node_co_unref(disk);
    if (ok) {
        secondary_co_forget_chain(r);
    }
    return ok;
}
