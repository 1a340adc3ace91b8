/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GraphTx: change the graph, all or nothing (block/graph.h).
 *
 * Rules:
 *  T1 one commit at a time: graph_lock is held from the plan to its end, so
 *     the plan stays true over every wait in between. Requests never take it
 *     and nothing that a commit waits for does;
 *  T2 up to apply() nothing that anybody else can see has changed, except
 *     closed gates and locks on files, which the way back undoes;
 *  T3 apply() and what it calls are plain functions that cannot fail;
 *  T4 counts that the change gives up are dropped when all of it is over and
 *     the lock is free, because a node that ends takes the lock.
 */
#include "tx.h"

#include "util/error.h"
#include "util/fault.h"
#include "util/trace.h"

static CoMutex graph_lock;

/* --- collecting --- */

static void clear_step(void *opaque)
{
    Step *s = opaque;

    g_free(s->name);
    g_free(s->keep);
    blockdev_options_free(s->opts);
}

GraphTx *graph_tx_new(void)
{
    GraphTx *tx = g_new0(GraphTx, 1);

    tx->steps = g_array_new(FALSE, TRUE, sizeof(Step));
    g_array_set_clear_func(tx->steps, clear_step);
    tx->on_commit = g_array_new(FALSE, TRUE, sizeof(OnCommit));
    tx->reopens = g_array_new(FALSE, TRUE, sizeof(Reopen));
    tx->drained = g_ptr_array_new();
    tx->checked = g_ptr_array_new();
    tx->changed = g_ptr_array_new();
    tx->drop = g_ptr_array_new();
    return tx;
}

void coroutine_fn graph_tx_co_drop(GraphTx *tx)
{
    for (size_t i = 0; i < tx->drop->len; i++) {
        node_co_unref(tx->drop->pdata[i]);
    }
    if (tx->plan) {
        plan_free(tx->plan);
    }
    g_array_free(tx->steps, TRUE);
    g_array_free(tx->on_commit, TRUE);
    g_array_free(tx->reopens, TRUE);
    g_ptr_array_free(tx->drained, TRUE);
    g_ptr_array_free(tx->checked, TRUE);
    g_ptr_array_free(tx->changed, TRUE);
    g_ptr_array_free(tx->drop, TRUE);
    g_free(tx);
}

/* A node that is closing has no count left, and stays until it has closed. */
static void hold_node(GraphTx *tx, BlockNode *node)
{
    if (node && node->p->refs > 0) {
        g_ptr_array_add(tx->drop, node_ref(node));
    }
}

/* The nodes of a step must outlive the wait for the graph lock. */
static void add_step(GraphTx *tx, const Step *s)
{
    hold_node(tx, s->node);
    hold_node(tx, s->to);
    g_array_append_vals(tx->steps, s, 1);
}

void graph_tx_attach(GraphTx *tx, BlockNode *parent, const char *name, BlockNode *child,
                     ChildRole role)
{
    Step s = {STEP_ATTACH, .node = parent, .to = child, .name = g_strdup(name), .role = role};

    add_step(tx, &s);
}

void graph_tx_attach_root(GraphTx *tx, BlockBackend *be, BlockNode *node)
{
    Step s = {STEP_ATTACH_ROOT, .to = node, .backend = be};

    add_step(tx, &s);
}

void graph_tx_set_backend_perm(GraphTx *tx, BlockBackend *be, PermPair perm)
{
    Step s = {STEP_BACKEND_PERM, .backend = be, .perm = perm};

    add_step(tx, &s);
}

void graph_tx_detach(GraphTx *tx, BlockChild *edge)
{
    Step s = {STEP_DETACH, .edge = edge, .edge_serial = edge->serial};

    add_step(tx, &s);
}

void graph_tx_set_child(GraphTx *tx, BlockChild *edge, BlockNode *to)
{
    Step s = {STEP_SET_CHILD, .edge = edge, .edge_serial = edge->serial, .to = to};

    add_step(tx, &s);
}

void graph_tx_replace_node(GraphTx *tx, BlockNode *from, BlockNode *to, BlockChild *const *keep)
{
    Step s = {STEP_REPLACE, .node = from, .to = to};
    size_t n = 0;

    while (keep && keep[n]) {
        n++;
    }
    s.keep = g_new0(BlockChild *, n + 1);
    for (size_t i = 0; i < n; i++) {
        s.keep[i] = keep[i];
    }
    add_step(tx, &s);
}

void graph_tx_remove_filter(GraphTx *tx, BlockNode *filter)
{
    Step s = {STEP_REMOVE_FILTER, .node = filter};

    add_step(tx, &s);
}

void graph_tx_set_flags(GraphTx *tx, BlockNode *node, const NodeFlags *flags)
{
    Step s = {STEP_FLAGS, .node = node, .flags = *flags};

    add_step(tx, &s);
}

void graph_tx_reopen(GraphTx *tx, BlockNode *node, const BlockdevOptions *opts)
{
    Step s = {STEP_REOPEN, .node = node, .opts = blockdev_options_copy(opts)};

    add_step(tx, &s);
}

void graph_tx_drain(GraphTx *tx, BlockNode *node)
{
    Step s = {STEP_DRAIN, .node = node};

    add_step(tx, &s);
}

void graph_tx_force(GraphTx *tx)
{
    tx->force = true;
}

void graph_tx_on_commit(GraphTx *tx, void (*fn)(void *opaque), void *opaque)
{
    OnCommit c = {fn, opaque};

    g_array_append_val(tx->on_commit, c);
}

/* --- preparing --- */

static bool driver_takes_flags(const Reopen *r, GError **errp)
{
    if (r->node->drv->is_filter) {
        return !r->rs.opts || reopen_only_changes(r->node, r->rs.opts, NULL, errp);
    }
    return fail(errp, "Block format '%s' used by node '%s' does not support reopening files",
                r->node->drv->name, r->node->node_name);
}

static bool coroutine_fn prepare_reopens(GraphTx *tx, GError **errp)
{
    for (size_t i = 0; i < tx->reopens->len; i++) {
        Reopen *r = &g_array_index(tx->reopens, Reopen, i);
        const BlockDriver *drv = r->node->drv;

        if (fault_hit("graph-reopen-prepare")) {
            return fail_errno(errp, EIO, "Could not reopen node '%s'", r->node->node_name);
        }
        if (!drv->co_reopen_prepare) {
            if (!driver_takes_flags(r, errp)) {
                return false;
            }
            continue;
        }
        if (!drv->co_reopen_prepare(r->node, &r->rs, errp)) {
            return false;
        }
        r->prepared = true;
    }
    return true;
}

static bool is_tighter(PermPair before, PermPair now)
{
    return (now.taken & ~before.taken) || (before.shared & ~now.shared);
}

/*
 * Fewer edges take less and share more. A driver whose wishes depend on its
 * state may have come to want more since the last commit, though: then what
 * holds now is kept, and the next commit that may fail sorts it out.
 */
static bool only_loosens(Plan *plan)
{
    for (size_t i = 0; i < plan->nodes->len; i++) {
        const PlanNode *pn = plan_node_at(plan, i);

        if (is_tighter(pn->node->p->perm, pn->sum)) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn check_perms(GraphTx *tx, GError **errp)
{
    for (size_t i = 0; i < tx->plan->nodes->len; i++) {
        const PlanNode *pn = plan_node_at(tx->plan, i);
        const BlockDriver *drv = pn->node->drv;

        if (!is_tighter(pn->node->p->perm, pn->sum)) {
            continue;
        }
        if (fault_hit("graph-check-perm")) {
            return fail_errno(errp, EIO, "Could not lock node '%s'", pn->node->node_name);
        }
        if (drv->co_check_perm) {
            if (!drv->co_check_perm(pn->node, pn->sum, errp)) {
                return false;
            }
            g_ptr_array_add(tx->checked, pn->node);
        }
    }
    return true;
}

/* The way back: T2. */
static void undo(GraphTx *tx)
{
    for (size_t i = tx->checked->len; i-- > 0;) {
        BlockNode *node = tx->checked->pdata[i];

        if (node->drv->abort_perm) {
            node->drv->abort_perm(node);
        }
    }
    for (size_t i = tx->reopens->len; i-- > 0;) {
        Reopen *r = &g_array_index(tx->reopens, Reopen, i);

        if (r->prepared && r->node->drv->reopen_abort) {
            r->node->drv->reopen_abort(r->node, &r->rs);
        }
    }
}

/* --- applying: plain, cannot fail --- */

/* Removals first, so that a short cut is free for the edge that takes it over. */
static void apply_edges(GraphTx *tx)
{
    GArray *edges = tx->plan->edges;

    for (size_t i = 0; i < edges->len; i++) {
        PlanEdge *e = plan_edge_at(tx->plan, i);

        if (e->gone && e->child) {
            g_ptr_array_add(tx->drop, edge_free(e->child));
            e->child = NULL;
        }
    }
    for (size_t i = 0; i < edges->len; i++) {
        PlanEdge *e = plan_edge_at(tx->plan, i);

        if (e->gone) {
            continue;
        }
        if (!e->child) {
            e->child = edge_new(e->parent, e->backend, e->name, e->to, e->role);
        } else if (e->child->node != e->to) {
            g_ptr_array_add(tx->drop, edge_move(e->child, e->to));
        }
    }
}

static void apply_reopens(GraphTx *tx)
{
    for (size_t i = 0; i < tx->reopens->len; i++) {
        Reopen *r = &g_array_index(tx->reopens, Reopen, i);

        r->node->flags = r->rs.flags;
        if (r->rs.opts) {
            blockdev_options_free(r->node->p->opts);
            r->node->p->opts = blockdev_options_copy(r->rs.opts);
        }
        if (r->prepared && r->node->drv->reopen_commit) {
            r->node->drv->reopen_commit(r->node, &r->rs);
        }
    }
}

static void apply_perms(Plan *plan)
{
    for (size_t i = 0; i < plan->edges->len; i++) {
        PlanEdge *e = plan_edge_at(plan, i);

        if (!e->gone && e->child) {
            e->child->perm = e->perm;
        }
    }
    for (size_t i = 0; i < plan->nodes->len; i++) {
        const PlanNode *pn = plan_node_at(plan, i);
        PermPair *old = &pn->node->p->perm;

        if (old->taken != pn->sum.taken || old->shared != pn->sum.shared) {
            *old = pn->sum;
            if (pn->node->drv->set_perm) {
                pn->node->drv->set_perm(pn->node, pn->sum);
            }
        }
    }
}

static void apply_backend_perms(GraphTx *tx)
{
    for (size_t i = 0; i < tx->steps->len; i++) {
        const Step *s = &g_array_index(tx->steps, Step, i);

        if (s->kind == STEP_BACKEND_PERM) {
            s->backend->perm = s->perm;
        }
    }
}

/* A backend of the plan, and what it showed before, to tell it what is new. */
typedef struct Seen {
    BlockBackend *be;
    BlockNode *root;
    int64_t length;
} Seen;

static GArray *remember_backends(Plan *plan)
{
    GArray *seen = g_array_new(FALSE, FALSE, sizeof(Seen));

    for (size_t i = 0; i < plan->edges->len; i++) {
        const PlanEdge *e = plan_edge_at(plan, i);
        BlockNode *root = e->backend && e->child ? e->child->node : NULL;

        if (e->backend) {
            Seen s = {e->backend, root, root ? node_length(root) : 0};

            g_array_append_val(seen, s);
        }
    }
    return seen;
}

static void open_gates(GArray *seen)
{
    for (size_t i = 0; i < seen->len; i++) {
        drain_recompute_gate(g_array_index(seen, Seen, i).be);
    }
    /* A drain that waited for a backend which is no longer above it goes on. */
    drain_progress();
}

static void tell_backends(GArray *seen)
{
    for (size_t i = 0; i < seen->len; i++) {
        const Seen *s = &g_array_index(seen, Seen, i);
        const BackendOps *ops = s->be->ops;

        if (!ops || !s->root || !s->be->root) {
            continue;
        }
        if (s->be->root->node != s->root && ops->root_changed) {
            ops->root_changed(s->be->opaque);
        }
        if (node_length(s->be->root->node) != s->length && ops->resized) {
            ops->resized(s->be->opaque);
        }
    }
    g_array_free(seen, TRUE);
}

static void raise_fences(Plan *plan)
{
    for (size_t i = 0; i < plan->nodes->len; i++) {
        fence_recompute(plan_node_at(plan, i)->node);
    }
}

static void apply(GraphTx *tx)
{
    GArray *seen = remember_backends(tx->plan);

    trace("graph-commit", tx->steps->len, 0);
    apply_backend_perms(tx);
    apply_edges(tx);
    apply_reopens(tx);
    if (tx->solved) {
        apply_perms(tx->plan);
    }
    limits_refresh_upwards((BlockNode *const *)tx->changed->pdata, tx->changed->len);
    for (size_t i = 0; i < tx->on_commit->len; i++) {
        const OnCommit *c = &g_array_index(tx->on_commit, OnCommit, i);

        c->fn(c->opaque);
    }
    raise_fences(tx->plan);
    open_gates(seen);
    tell_backends(seen);
}

/* --- committing --- */

/* The nodes of the plan must outlive every wait. */
static void hold_nodes(GraphTx *tx)
{
    for (size_t i = 0; i < tx->plan->nodes->len; i++) {
        hold_node(tx, plan_node_at(tx->plan, i)->node);
    }
}

static bool coroutine_fn prepare(GraphTx *tx, GError **errp)
{
    for (size_t i = 0; i < tx->drained->len; i++) {
        drain_co_begin(tx->drained->pdata[i]);
    }
    if (tx->force) {
        tx->solved = plan_solve(tx->plan, NULL) && only_loosens(tx->plan);
        return true;
    }
    if (fault_hit("graph-drained")) {
        return fail_errno(errp, ENOMEM, "Could not change the graph");
    }
    tx->solved = plan_solve(tx->plan, errp);
    return tx->solved && prepare_reopens(tx, errp) && check_perms(tx, errp);
}

static bool coroutine_fn commit_locked(GraphTx *tx, GError **errp)
{
    bool ok;

    CO_LOCK_GUARD(&graph_lock);
    ok = tx_plan(tx, errp);
    hold_nodes(tx);
    if (!ok) {
        return false;
    }
    ok = prepare(tx, errp);
    if (ok) {
        apply(tx);
    } else {
        undo(tx);
    }
    for (size_t i = tx->drained->len; i-- > 0;) {
        drain_end(tx->drained->pdata[i]);
    }
    return ok;
}

bool coroutine_fn graph_tx_co_commit(GraphTx *tx, GError **errp)
{
    bool ok = commit_locked(tx, errp);

    graph_tx_co_drop(tx);
    return ok;
}

/*
 * A drained node below may have other parents with requests in flight; they
 * have nothing to do with the edges of a node without parents, so there is
 * nothing to wait for.
 */
void coroutine_fn graph_co_detach_all(BlockNode *node)
{
    g_autoptr(GPtrArray) seeds = g_ptr_array_new();
    g_autoptr(Plan) plan = NULL;

    CO_LOCK_GUARD(&graph_lock);
    assert(!node->first_parent);
    g_ptr_array_add(seeds, node);
    plan = plan_new(seeds);
    for (size_t i = 0; i < plan->edges->len; i++) {
        PlanEdge *e = plan_edge_at(plan, i);

        if (e->parent == node) {
            BlockNode *child = edge_free(e->child);

            assert(child->p->refs > 1);
            child->p->refs--;
            e->gone = true;
            e->child = NULL;
        }
    }
    if (plan_solve(plan, NULL) && only_loosens(plan)) {
        apply_perms(plan);
    }
}

/* --- filters --- */

bool coroutine_fn graph_co_insert_filter(BlockNode *filter, BlockNode *node, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    assert(filter->file && filter->file->node == node);
    graph_tx_replace_node(tx, node, filter, NULL);
    return graph_tx_co_commit(tx, errp);
}

bool coroutine_fn graph_co_remove_filter(BlockNode *filter, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    graph_tx_remove_filter(tx, filter);
    return graph_tx_co_commit(tx, errp);
}
