/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The permission solver, and the rules that most drivers use.
 *
 * Walk the graph from the top: a vertex is looked at when all its parents have
 * been, so the sum over its in-edges is final and decides its out-edges. One
 * pass is enough because there are no cycles, which the same walk proves.
 */
#include "perm.h"

#include "block/driver.h"

/* --- rules --- */

PermPair perm_default_filter(BlockNode *node, const BlockChild *child, const char *name,
                             ChildRole role, PermPair parents, const NodeFlags *flags)
{
    return parents;
}

static PermPair perm_backing(PermPair parents)
{
    PermPair r = {
        .taken = parents.taken & PERM_CONSISTENT_READ,
        .shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED | PERM_GRAPH_MOD,
    };

    /* Whoever lives with a changing image lives with a changing backing image. */
    if (parents.shared & PERM_WRITE) {
        r.shared |= PERM_WRITE | PERM_RESIZE;
    }
    return r;
}

static PermPair perm_metadata(PermPair p, const NodeFlags *flags)
{
    p.taken |= PERM_CONSISTENT_READ;
    if (!flags->read_only) {
        p.taken |= PERM_WRITE | PERM_RESIZE;
    }
    p.shared &= ~(PERM_WRITE | PERM_RESIZE);
    return p;
}

static PermPair perm_data(PermPair p)
{
    if (p.taken & PERM_WRITE_UNCHANGED) {
        p.taken |= PERM_WRITE;
    }
    if (p.taken & PERM_WRITE) {
        p.taken |= PERM_RESIZE;
    }
    p.shared &= ~PERM_RESIZE;
    return p;
}

PermPair perm_default_format(BlockNode *node, const BlockChild *child, const char *name,
                             ChildRole role, PermPair parents, const NodeFlags *flags)
{
    PermPair p = parents;

    if (role & CHILD_COW) {
        return perm_backing(parents);
    }
    if (role & CHILD_METADATA) {
        p = perm_metadata(p, flags);
    }
    if (role & CHILD_DATA) {
        p = perm_data(p);
    }
    return p;
}

/* --- names --- */

char *perm_names(Perm perms)
{
    static const struct {
        Perm bit;
        const char *name;
    } names[] = {
        {PERM_CONSISTENT_READ, "consistent read"}, {PERM_WRITE, "write"},
        {PERM_WRITE_UNCHANGED, "write unchanged"}, {PERM_RESIZE, "resize"},
        {PERM_GRAPH_MOD, "change children"},
    };
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (perms & names[i].bit) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", names[i].name);
        }
    }
    return g_string_free(s, FALSE);
}

/* --- the solver --- */

/* Edges of each vertex, by counting sort: those of v are index[start[v] .. start[v + 1]). */
typedef struct Adjacency {
    int *start;
    int *index;
} Adjacency;

static int edge_end(const PermEdge *e, bool incoming)
{
    return incoming ? e->to : e->from;
}

static Adjacency adjacency_new(const PermGraph *g, bool incoming)
{
    Adjacency a = {g_new0(int, g->n_vertices + 1), g_new(int, g->n_edges)};
    g_autofree int *next = g_new(int, g->n_vertices + 1);

    for (int i = 0; i < g->n_edges; i++) {
        int v = edge_end(&g->edges[i], incoming);

        if (v >= 0) {
            a.start[v + 1]++;
        }
    }
    for (int v = 0; v < g->n_vertices; v++) {
        a.start[v + 1] += a.start[v];
    }
    memcpy(next, a.start, sizeof(int) * (size_t)(g->n_vertices + 1));
    for (int i = 0; i < g->n_edges; i++) {
        int v = edge_end(&g->edges[i], incoming);

        if (v >= 0) {
            a.index[next[v]++] = i;
        }
    }
    return a;
}

static void adjacency_free(Adjacency *a)
{
    g_free(a->start);
    g_free(a->index);
}

static PermPair perm_sum(const PermGraph *g, const Adjacency *in, int v)
{
    PermPair sum = {.taken = 0, .shared = PERM_ALL};

    for (int i = in->start[v]; i < in->start[v + 1]; i++) {
        const PermPair *p = &g->edges[in->index[i]].perm;

        sum.taken |= p->taken;
        sum.shared &= p->shared;
    }
    return sum;
}

/* The sum tells that there may be a conflict; an edge does not conflict with itself. */
static PermProblem find_conflict(const PermGraph *g, const Adjacency *in, int v)
{
    for (int i = in->start[v]; i < in->start[v + 1]; i++) {
        for (int j = in->start[v]; j < in->start[v + 1]; j++) {
            int taker = in->index[i], denier = in->index[j];
            Perm perms = g->edges[taker].perm.taken & ~g->edges[denier].perm.shared;

            if (i != j && perms) {
                return (PermProblem){PERM_CONFLICT, taker, denier, perms};
            }
        }
    }
    return (PermProblem){.verdict = PERM_OK};
}

static PermProblem find_writer(const PermGraph *g, const Adjacency *in, int v)
{
    for (int i = in->start[v]; i < in->start[v + 1]; i++) {
        Perm perms = g->edges[in->index[i]].perm.taken & (PERM_WRITE | PERM_WRITE_UNCHANGED);

        if (perms) {
            return (PermProblem){PERM_READ_ONLY, in->index[i], -1, perms};
        }
    }
    return (PermProblem){.verdict = PERM_OK};
}

/* All in-edges of @v are known: its sum, its verdict, its out-edges. */
static PermProblem solve_vertex(PermGraph *g, const Adjacency *in, const Adjacency *out, int v)
{
    PermVertex *vertex = &g->vertices[v];
    PermProblem problem = {.verdict = PERM_OK};

    vertex->sum = perm_sum(g, in, v);
    if (vertex->sum.taken & ~vertex->sum.shared) {
        problem = find_conflict(g, in, v);
    }
    if (problem.verdict == PERM_OK && vertex->read_only) {
        problem = find_writer(g, in, v);
    }
    for (int i = out->start[v]; i < out->start[v + 1]; i++) {
        PermEdge *e = &g->edges[out->index[i]];

        e->perm = g->rule(vertex, e, vertex->sum);
        if (g->vertices[e->to].force_share) {
            e->perm.shared = PERM_ALL;
        }
    }
    return problem;
}

static PermProblem find_cycle_edge(const PermGraph *g, const int *missing)
{
    for (int i = 0; i < g->n_edges; i++) {
        const PermEdge *e = &g->edges[i];

        if (e->from >= 0 && missing[e->from] > 0 && missing[e->to] > 0) {
            return (PermProblem){PERM_CYCLE, i, -1, 0};
        }
    }
    assert(!"an unordered vertex without an edge from another one");
    return (PermProblem){.verdict = PERM_OK};
}

PermProblem perm_solve(PermGraph *g)
{
    Adjacency in = adjacency_new(g, true), out = adjacency_new(g, false);
    g_autofree int *missing = g_new0(int, g->n_vertices + 1); /* in-edges not yet known */
    PermProblem problem = {.verdict = PERM_OK};
    int done = 0, ready = 0;

    for (int i = 0; i < g->n_edges; i++) {
        if (g->edges[i].from >= 0) {
            missing[g->edges[i].to]++;
        }
    }
    for (int v = 0; v < g->n_vertices; v++) {
        if (missing[v] == 0) {
            g->order[ready++] = v;
        }
    }
    /* The order is its own work list: what is ready but not done stands at its end. */
    while (done < ready) {
        int v = g->order[done++];
        PermProblem p = solve_vertex(g, &in, &out, v);

        if (problem.verdict == PERM_OK) {
            problem = p;
        }
        for (int i = out.start[v]; i < out.start[v + 1]; i++) {
            int to = g->edges[out.index[i]].to;
            int depth = g->vertices[v].depth + g->edges[out.index[i]].weight;

            g->vertices[to].depth = MAX(g->vertices[to].depth, depth);
            if (problem.verdict == PERM_OK && g->max_depth > 0 && depth > g->max_depth) {
                problem = (PermProblem){PERM_TOO_DEEP, out.index[i], -1, 0};
            }
            if (--missing[to] == 0) {
                g->order[ready++] = to;
            }
        }
    }
    if (done < g->n_vertices) {
        problem = find_cycle_edge(g, missing);
    }
    adjacency_free(&in);
    adjacency_free(&out);
    return problem;
}
