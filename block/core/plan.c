/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plan: copying the graph, changing the copy, solving permissions on it.
 */
#include "plan.h"

#include "util/error.h"

/* --- the copy --- */

static void add_edge(Plan *p, BlockChild *c)
{
    PlanEdge e = {
        .child = c,
        .parent = c->parent,
        .backend = c->parent_backend,
        .to = c->node,
        .name = c->name,
        .role = c->role,
        .perm = c->perm,
    };

    g_array_append_val(p->edges, e);
}

static void visit(BlockNode *node, unsigned mark, GPtrArray *found)
{
    if (node->p->mark != mark) {
        node->p->mark = mark;
        g_ptr_array_add(found, node);
    }
}

/* What is found is the work list too: visited nodes add their neighbours at its end. */
static GPtrArray *connected_with(const GPtrArray *seeds)
{
    GPtrArray *found = g_ptr_array_new();
    unsigned mark = graph_walk_begin();

    for (guint i = 0; i < seeds->len; i++) {
        visit(seeds->pdata[i], mark, found);
    }
    for (guint i = 0; i < found->len; i++) {
        BlockNode *node = found->pdata[i];

        for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
            visit(c->node, mark, found);
        }
        for (BlockChild *c = node->first_parent; c; c = c->next_parent) {
            if (c->parent) {
                visit(c->parent, mark, found);
            }
        }
    }
    return found;
}

static int by_order(const void *a, const void *b)
{
    uint64_t x = (*(BlockNode *const *)a)->p->order, y = (*(BlockNode *const *)b)->p->order;

    return (x > y) - (x < y);
}

static int by_order_of_backend(const void *a, const void *b)
{
    uint64_t x = (*(BlockBackend *const *)a)->order, y = (*(BlockBackend *const *)b)->order;

    return (x > y) - (x < y);
}

/* In order of creation, so that of several conflicts always the same one is told. */
Plan *plan_new(const GPtrArray *seeds)
{
    Plan *p = g_new0(Plan, 1);
    g_autoptr(GPtrArray) nodes = connected_with(seeds);
    g_autoptr(GPtrArray) backends = g_ptr_array_new();

    g_ptr_array_sort(nodes, by_order);
    p->nodes = g_array_new(FALSE, FALSE, sizeof(PlanNode));
    p->edges = g_array_new(FALSE, FALSE, sizeof(PlanEdge));
    p->number = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < nodes->len; i++) {
        BlockNode *n = nodes->pdata[i];
        PlanNode pn = {.node = n, .flags = n->flags};

        g_hash_table_insert(p->number, n, GUINT_TO_POINTER(p->nodes->len));
        g_array_append_val(p->nodes, pn);
        for (BlockChild *c = n->first_child; c; c = c->next_sibling) {
            add_edge(p, c);
        }
        for (BlockChild *c = n->first_parent; c; c = c->next_parent) {
            if (c->parent_backend) {
                g_ptr_array_add(backends, c->parent_backend);
            }
        }
    }
    g_ptr_array_sort(backends, by_order_of_backend);
    for (guint i = 0; i < backends->len; i++) {
        add_edge(p, ((BlockBackend *)backends->pdata[i])->root);
    }
    return p;
}

void plan_free(Plan *p)
{
    g_array_free(p->nodes, TRUE);
    g_array_free(p->edges, TRUE);
    g_hash_table_destroy(p->number);
    g_free(p->order);
    g_free(p);
}

PlanNode *plan_node_at(Plan *p, size_t i)
{
    return &g_array_index(p->nodes, PlanNode, i);
}

PlanEdge *plan_edge_at(Plan *p, size_t i)
{
    return &g_array_index(p->edges, PlanEdge, i);
}

static size_t number_of(Plan *p, const BlockNode *node)
{
    void *value;
    bool found = g_hash_table_lookup_extended(p->number, node, NULL, &value);

    assert(found);
    return GPOINTER_TO_UINT(value);
}

PlanNode *plan_node(Plan *p, const BlockNode *node)
{
    return plan_node_at(p, number_of(p, node));
}

PlanEdge *plan_edge(Plan *p, const BlockChild *child)
{
    for (size_t i = 0; i < p->edges->len; i++) {
        PlanEdge *e = plan_edge_at(p, i);

        if (e->child == child && !e->gone) {
            return e;
        }
    }
    return NULL;
}

/* --- steps --- */

void plan_attach(Plan *p, BlockNode *parent, BlockBackend *backend, const char *name, BlockNode *to,
                 ChildRole role, PermPair perm)
{
    PlanEdge e = {
        .parent = parent,
        .backend = backend,
        .to = to,
        .name = name,
        .role = role,
        .perm = perm,
    };

    g_array_append_val(p->edges, e);
}

/* Mark @from and everything below it, in the plan, in @below. */
static void mark_below(Plan *p, const BlockNode *from, bool *below)
{
    bool grew = true;

    below[number_of(p, from)] = true;
    while (grew) {
        grew = false;
        for (size_t i = 0; i < p->edges->len; i++) {
            const PlanEdge *e = plan_edge_at(p, i);
            bool *to = &below[number_of(p, e->to)];

            if (!e->gone && e->parent && below[number_of(p, e->parent)] && !*to) {
                *to = grew = true;
            }
        }
    }
}

static bool is_kept(const PlanEdge *e, BlockChild *const *keep)
{
    for (; keep && *keep; keep++) {
        if (e->child == *keep) {
            return true;
        }
    }
    return false;
}

void plan_replace(Plan *p, BlockNode *from, BlockNode *to, BlockChild *const *keep)
{
    g_autofree bool *below = g_new0(bool, p->nodes->len);

    mark_below(p, to, below);
    for (size_t i = 0; i < p->edges->len; i++) {
        PlanEdge *e = plan_edge_at(p, i);
        bool under_to = e->parent && below[number_of(p, e->parent)];

        if (!e->gone && e->to == from && !under_to && !is_kept(e, keep)) {
            e->to = to;
        }
    }
}

/* --- permissions --- */

/* Nobody uses this permission any more, so nobody may seem to deny it: its lock byte would keep
 * old programs from files that new ones share. */
static PermPair share_graph_mod(PermPair p)
{
    p.shared |= PERM_GRAPH_MOD;
    return p;
}

static PermPair rule_of_driver(const PermVertex *from, const PermEdge *edge, PermPair parents)
{
    const PlanNode *pn = from->opaque;
    const PlanEdge *e = edge->opaque;
    const BlockDriver *drv = pn->node->drv;
    PermPair p;

    if (drv->child_perm) {
        p = drv->child_perm(pn->node, e->child, e->name, e->role, parents, &pn->flags);
    } else if (drv->is_filter) {
        p = perm_default_filter(pn->node, e->child, e->name, e->role, parents, &pn->flags);
    } else {
        p = perm_default_format(pn->node, e->child, e->name, e->role, parents, &pn->flags);
    }
    return share_graph_mod(p);
}

static char *describe_user(const PlanEdge *e)
{
    return e->parent ? g_strdup_printf("node '%s'", e->parent->node_name)
                     : backend_describe(e->backend);
}

static bool fail_conflict(const PlanEdge *taker, const PlanEdge *denier, Perm perms, GError **errp)
{
    g_autofree char *names = perm_names(perms);
    g_autofree char *a = describe_user(taker);
    g_autofree char *b = describe_user(denier);
    const char *node = taker->to->node_name;

    return fail(errp,
                "Permission conflict on node '%s': permissions '%s' are both required by %s "
                "(uses node '%s' as '%s' child) and unshared by %s (uses node '%s' as '%s' "
                "child).",
                node, names, a, node, taker->name, b, node, denier->name);
}

static bool fail_read_only(const PlanEdge *writer, GError **errp)
{
    g_autofree char *user = describe_user(writer);

    return fail(errp, "Block node is read-only: '%s', which %s wants to write to",
                writer->to->node_name, user);
}

static bool fail_cycle(const PlanEdge *e, GError **errp)
{
    return fail(errp, "Making '%s' a %s child of '%s' would create a cycle", e->to->node_name,
                e->name, e->parent->node_name);
}

static bool fail_too_deep(const PlanEdge *e, GError **errp)
{
    return fail(errp,
                "Making '%s' a %s child of '%s' would stack more nodes than the %d filters or %d "
                "backing images that are allowed",
                e->to->node_name, e->name, e->parent->node_name, NODE_DEPTH_MAX / NODE_DEPTH_OTHER,
                NODE_DEPTH_MAX / NODE_DEPTH_COW);
}

/* Fill @g with the edges that will be; @index maps them back. */
static void describe_edges(Plan *p, PermGraph *g, int *index)
{
    for (size_t i = 0; i < p->edges->len; i++) {
        PlanEdge *e = plan_edge_at(p, i);

        if (e->gone) {
            continue;
        }
        index[g->n_edges] = (int)i;
        g->edges[g->n_edges++] = (PermEdge){
            .from = e->parent ? (int)number_of(p, e->parent) : -1,
            .to = (int)number_of(p, e->to),
            .opaque = e,
            .perm = share_graph_mod(e->perm),
            .weight = e->role & CHILD_COW ? NODE_DEPTH_COW : NODE_DEPTH_OTHER,
        };
    }
}

static void describe_nodes(Plan *p, PermGraph *g)
{
    for (size_t i = 0; i < p->nodes->len; i++) {
        PlanNode *pn = plan_node_at(p, i);

        g->vertices[g->n_vertices++] = (PermVertex){
            .read_only = pn->flags.read_only,
            .force_share = pn->flags.force_share,
            .opaque = pn,
        };
    }
}

static bool fail_problem(Plan *p, const PermProblem *problem, const int *index, GError **errp)
{
    PlanEdge *e = plan_edge_at(p, (size_t)index[problem->edge]);

    switch (problem->verdict) {
    case PERM_CYCLE:
        return fail_cycle(e, errp);
    case PERM_READ_ONLY:
        return fail_read_only(e, errp);
    case PERM_CONFLICT:
        return fail_conflict(e, plan_edge_at(p, (size_t)index[problem->other]), problem->perms,
                             errp);
    case PERM_TOO_DEEP:
        return fail_too_deep(e, errp);
    case PERM_OK:
        break;
    }
    g_assert_not_reached();
}

bool plan_solve(Plan *p, GError **errp)
{
    g_autofree int *index = g_new(int, p->edges->len + 1);
    g_autofree PermVertex *vertices = g_new(PermVertex, p->nodes->len + 1);
    g_autofree PermEdge *edges = g_new(PermEdge, p->edges->len + 1);
    PermGraph g = {.vertices = vertices, .edges = edges, .rule = rule_of_driver,
                   .max_depth = NODE_DEPTH_MAX};
    PermProblem problem;

    g_free(p->order);
    p->order = g.order = g_new(int, p->nodes->len + 1);
    describe_nodes(p, &g);
    describe_edges(p, &g, index);
    problem = perm_solve(&g);
    if (problem.verdict != PERM_OK) {
        return fail_problem(p, &problem, index, errp);
    }
    for (int i = 0; i < g.n_edges; i++) {
        plan_edge_at(p, (size_t)index[i])->perm = g.edges[i].perm;
    }
    for (int i = 0; i < g.n_vertices; i++) {
        plan_node_at(p, (size_t)i)->sum = g.vertices[i].sum;
    }
    return true;
}
