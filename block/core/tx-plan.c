/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Steps of a transaction, applied to the plan. Pure: what the steps will touch
 * is only noted, for the commit to drain.
 */
#include <string.h>

#include "tx.h"
#include "util/error.h"

static void add_once(GPtrArray *set, void *item)
{
    if (!g_ptr_array_find(set, item, NULL)) {
        g_ptr_array_add(set, item);
    }
}

/* The parent of an edge must be quiet, and so what else it does must be. */
static void touch_edge(GraphTx *tx, const PlanEdge *e)
{
    if (e->child) {
        add_once(tx->drained, e->child->node);
    }
    if (e->parent) {
        add_once(tx->drained, e->parent);
        add_once(tx->changed, e->parent);
    }
}

static Reopen *find_reopen(GraphTx *tx, const BlockNode *node)
{
    for (size_t i = 0; i < tx->reopens->len; i++) {
        Reopen *r = &g_array_index(tx->reopens, Reopen, i);

        if (r->node == node) {
            return r;
        }
    }
    return NULL;
}

static bool flags_equal(const NodeFlags *a, const NodeFlags *b)
{
    return a->read_only == b->read_only && a->auto_read_only == b->auto_read_only &&
           a->cache_direct == b->cache_direct && a->cache_no_flush == b->cache_no_flush &&
           a->force_share == b->force_share && a->unmap == b->unmap &&
           a->detect_zeroes == b->detect_zeroes;
}

/* New flags for @node, and through inheritance for what was opened inline below it. */
static bool plan_reopen(GraphTx *tx, BlockNode *node, const NodeFlags *flags,
                        const BlockdevOptions *opts, GError **errp)
{
    PlanNode *pn = plan_node(tx->plan, node);
    Reopen *r = find_reopen(tx, node);

    if (!r) {
        Reopen fresh = {.node = node};

        g_array_append_val(tx->reopens, fresh);
        r = find_reopen(tx, node);
    }
    pn->flags = r->rs.flags = *flags;
    r->rs.opts = opts ? opts : r->rs.opts;
    add_once(tx->drained, node);
    add_once(tx->changed, node);
    for (size_t i = 0; i < tx->plan->edges->len; i++) {
        const PlanEdge *e = plan_edge_at(tx->plan, i);
        NodeFlags inherit, child;

        if (e->gone || e->parent != node || e->to->p->inherits != node) {
            continue;
        }
        inherit = flags_for_child(flags, e->role);
        if (!flags_resolve(e->to->p->opts, &inherit, &child, errp)) {
            return false;
        }
        if (!flags_equal(&child, &plan_node(tx->plan, e->to)->flags) &&
            !plan_reopen(tx, e->to, &child, NULL, errp)) {
            return false;
        }
    }
    return true;
}

static bool plan_reopen_options(GraphTx *tx, const Step *s, GError **errp)
{
    NodeFlags inherit = flags_default(), flags;
    BlockNode *above = s->node->p->inherits;

    for (size_t i = 0; above && i < tx->plan->edges->len; i++) {
        const PlanEdge *e = plan_edge_at(tx->plan, i);

        if (!e->gone && e->parent == above && e->to == s->node) {
            inherit = flags_for_child(&plan_node(tx->plan, above)->flags, e->role);
        }
    }
    return flags_resolve(s->opts, &inherit, &flags, errp) &&
           plan_reopen(tx, s->node, &flags, s->opts, errp);
}

static PlanEdge *find_edge(GraphTx *tx, const Step *s, GError **errp)
{
    PlanEdge *e = edge_is_live(s->edge, s->edge_serial) ? plan_edge(tx->plan, s->edge) : NULL;

    if (!e) {
        fail(errp, "The graph has changed meanwhile: the edge is gone");
        return NULL;
    }
    touch_edge(tx, e);
    return e;
}

static bool plan_detach(GraphTx *tx, const Step *s, GError **errp)
{
    PlanEdge *e = find_edge(tx, s, errp);

    if (e) {
        e->gone = true;
    }
    return e != NULL;
}

static bool plan_set_child(GraphTx *tx, const Step *s, GError **errp)
{
    PlanEdge *e = find_edge(tx, s, errp);

    if (e) {
        e->to = s->to;
    }
    return e != NULL;
}

static void plan_replace_step(GraphTx *tx, BlockNode *from, BlockNode *to, BlockChild *const *keep)
{
    add_once(tx->drained, from);
    plan_replace(tx->plan, from, to, keep);
    for (size_t i = 0; i < tx->plan->edges->len; i++) {
        const PlanEdge *e = plan_edge_at(tx->plan, i);

        if (e->child && e->to != e->child->node && !e->gone) {
            touch_edge(tx, e);
        }
    }
}

/* What the filter is above is looked up here: it may have changed since the step was made. */
static bool plan_remove_filter(GraphTx *tx, BlockNode *filter, GError **errp)
{
    for (size_t i = 0; i < tx->plan->edges->len; i++) {
        PlanEdge *e = plan_edge_at(tx->plan, i);

        if (e->parent == filter && !e->gone && e->role & (CHILD_FILTERED | CHILD_PRIMARY)) {
            touch_edge(tx, e);
            e->gone = true;
            plan_replace_step(tx, filter, e->to, NULL);
            return true;
        }
    }
    return fail(errp, "Node '%s' filters nothing", filter->node_name);
}

static void plan_backend_perm(GraphTx *tx, const Step *s)
{
    for (size_t i = 0; i < tx->plan->edges->len; i++) {
        PlanEdge *e = plan_edge_at(tx->plan, i);

        if (e->backend == s->backend && !e->gone) {
            e->perm = s->perm;
        }
    }
}

static bool plan_step(GraphTx *tx, const Step *s, GError **errp)
{
    static const PermPair solved;

    switch (s->kind) {
    case STEP_ATTACH:
        add_once(tx->drained, s->node);
        add_once(tx->changed, s->node);
        plan_attach(tx->plan, s->node, NULL, s->name, s->to, s->role, solved);
        return true;
    case STEP_ATTACH_ROOT:
        plan_attach(tx->plan, NULL, s->backend, "root", s->to, CHILD_FILTERED | CHILD_PRIMARY,
                    s->backend->perm);
        return true;
    case STEP_BACKEND_PERM:
        plan_backend_perm(tx, s);
        return true;
    case STEP_DETACH:
        return plan_detach(tx, s, errp);
    case STEP_SET_CHILD:
        return plan_set_child(tx, s, errp);
    case STEP_REPLACE:
        plan_replace_step(tx, s->node, s->to, s->keep);
        return true;
    case STEP_REMOVE_FILTER:
        return plan_remove_filter(tx, s->node, errp);
    case STEP_FLAGS:
        return plan_reopen(tx, s->node, &s->flags, NULL, errp);
    case STEP_REOPEN:
        return plan_reopen_options(tx, s, errp);
    case STEP_DRAIN:
        add_once(tx->drained, s->node);
        return true;
    }
    g_assert_not_reached();
}

static bool same_short_cut(ChildRole a, ChildRole b)
{
    const ChildRole file = CHILD_PRIMARY | CHILD_FILTERED;

    return (a & file && b & file) || (a & b & CHILD_COW);
}

/* Names, and roles that have a short cut in the node, are filled once at most. */
static bool check_single_roles(GraphTx *tx, GError **errp)
{
    for (size_t i = 0; i < tx->plan->edges->len; i++) {
        const PlanEdge *a = plan_edge_at(tx->plan, i);

        for (size_t j = 0; !a->child && !a->gone && j < tx->plan->edges->len; j++) {
            const PlanEdge *b = plan_edge_at(tx->plan, j);

            if (i != j && !b->gone && a->parent && b->parent == a->parent &&
                (strcmp(a->name, b->name) == 0 || same_short_cut(a->role, b->role))) {
                return fail(errp, "Node '%s' has a child '%s' already", a->parent->node_name,
                            b->name);
            }
        }
    }
    return true;
}

static void add_seed(GPtrArray *seeds, BlockNode *node)
{
    if (node) {
        g_ptr_array_add(seeds, node);
    }
}

static Plan *plan_around(const GraphTx *tx)
{
    g_autoptr(GPtrArray) seeds = g_ptr_array_new();

    for (size_t i = 0; i < tx->steps->len; i++) {
        const Step *s = &g_array_index(tx->steps, Step, i);

        add_seed(seeds, s->node);
        add_seed(seeds, s->to);
        if (s->backend) {
            add_seed(seeds, backend_node(s->backend));
        }
        if (s->edge && edge_is_live(s->edge, s->edge_serial)) {
            add_seed(seeds, s->edge->node);
        }
    }
    return plan_new(seeds);
}

bool tx_plan(GraphTx *tx, GError **errp)
{
    tx->plan = plan_around(tx);
    for (size_t i = 0; i < tx->steps->len; i++) {
        if (!plan_step(tx, &g_array_index(tx->steps, Step, i), errp)) {
            return false;
        }
    }
    return check_single_roles(tx, errp);
}
