/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The permission solver against a model that is too simple to be wrong.
 *
 * The model iterates every edge until nothing changes and then tries every
 * pair of edges; the solver goes through the graph once. They agree on all
 * graphs of three vertices and on random larger ones, cycles included.
 */
#include "../../block/core/perm.h"

#include "block/driver.h"
#include "test.h"

#define VERTICES_MAX 8
#define EDGES_MAX    20

/* What a vertex asks of its children. */
typedef enum RuleKind {
    RULE_FILTER,
    RULE_FORMAT,
    RULE_QUORUM,
    RULE__MAX,
} RuleKind;

typedef struct Case {
    PermGraph g;
    PermVertex vertices[VERTICES_MAX];
    PermEdge edges[EDGES_MAX];
    int order[VERTICES_MAX];
    RuleKind rules[VERTICES_MAX];
    ChildRole roles[EDGES_MAX];
} Case;

static PermPair rule(const PermVertex *from, const PermEdge *edge, PermPair parents)
{
    const RuleKind *kind = from->opaque;
    const ChildRole *role = edge->opaque;
    NodeFlags flags = {.read_only = from->read_only};

    switch (*kind) {
    case RULE_FILTER:
        return perm_default_filter(NULL, NULL, "file", *role, parents, &flags);
    case RULE_FORMAT:
        return perm_default_format(NULL, NULL, "file", *role, parents, &flags);
    default:
        return (PermPair){parents.taken, PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED};
    }
}

/* --- the model --- */

static PermPair model_sum(const Case *c, const PermPair *perm, int v)
{
    PermPair sum = {0, PERM_ALL};

    for (int i = 0; i < c->g.n_edges; i++) {
        if (c->edges[i].to == v) {
            sum.taken |= perm[i].taken;
            sum.shared &= perm[i].shared;
        }
    }
    return sum;
}

static bool model_has_cycle(const Case *c)
{
    bool reach[VERTICES_MAX][VERTICES_MAX] = {{false}};

    for (int i = 0; i < c->g.n_edges; i++) {
        if (c->edges[i].from >= 0) {
            reach[c->edges[i].from][c->edges[i].to] = true;
        }
    }
    for (int k = 0; k < c->g.n_vertices; k++) {
        for (int a = 0; a < c->g.n_vertices; a++) {
            for (int b = 0; b < c->g.n_vertices; b++) {
                reach[a][b] = reach[a][b] || (reach[a][k] && reach[k][b]);
            }
        }
    }
    for (int v = 0; v < c->g.n_vertices; v++) {
        if (reach[v][v]) {
            return true;
        }
    }
    return false;
}

/* Without cycles this ends after as many rounds as the longest path has edges. */
static void model_fixpoint(const Case *c, PermPair *perm)
{
    for (int round = 0; round <= c->g.n_vertices; round++) {
        for (int i = 0; i < c->g.n_edges; i++) {
            const PermEdge *e = &c->edges[i];

            if (e->from >= 0) {
                perm[i] = rule(&c->vertices[e->from], e, model_sum(c, perm, e->from));
                if (c->vertices[e->to].force_share) {
                    perm[i].shared = PERM_ALL;
                }
            }
        }
    }
}

static bool model_allows(const Case *c, const PermPair *perm)
{
    for (int i = 0; i < c->g.n_edges; i++) {
        for (int j = 0; j < c->g.n_edges; j++) {
            if (i != j && c->edges[i].to == c->edges[j].to && perm[i].taken & ~perm[j].shared) {
                return false;
            }
        }
        if (c->vertices[c->edges[i].to].read_only &&
            perm[i].taken & (PERM_WRITE | PERM_WRITE_UNCHANGED)) {
            return false;
        }
    }
    return true;
}

/* --- comparing --- */

static void check_problem(const Case *c, const PermProblem *p, const PermPair *perm)
{
    const PermEdge *e = &c->edges[p->edge];

    if (p->verdict == PERM_CONFLICT) {
        g_assert_cmpint(e->to, ==, c->edges[p->other].to);
        g_assert_cmpint(p->edge, !=, p->other);
        g_assert_cmpuint(p->perms, ==, perm[p->edge].taken & ~perm[p->other].shared);
        g_assert_cmpuint(p->perms, !=, 0);
    } else {
        g_assert_cmpint(p->verdict, ==, PERM_READ_ONLY);
        g_assert_true(c->vertices[e->to].read_only);
        g_assert_cmpuint(p->perms, ==, perm[p->edge].taken & (PERM_WRITE | PERM_WRITE_UNCHANGED));
        g_assert_cmpuint(p->perms, !=, 0);
    }
}

static void check_order(const Case *c)
{
    int place[VERTICES_MAX];

    for (int i = 0; i < c->g.n_vertices; i++) {
        place[c->order[i]] = i;
    }
    for (int i = 0; i < c->g.n_edges; i++) {
        if (c->edges[i].from >= 0) {
            g_assert_cmpint(place[c->edges[i].from], <, place[c->edges[i].to]);
        }
    }
}

static void check(Case *c)
{
    PermPair perm[EDGES_MAX];
    PermProblem p;

    for (int i = 0; i < c->g.n_edges; i++) {
        perm[i] = c->edges[i].from < 0 ? c->edges[i].perm : (PermPair){0, PERM_ALL};
    }
    p = perm_solve(&c->g);
    g_assert_cmpint(p.verdict == PERM_CYCLE, ==, model_has_cycle(c));
    if (p.verdict == PERM_CYCLE) {
        return;
    }
    model_fixpoint(c, perm);
    g_assert_cmpint(p.verdict == PERM_OK, ==, model_allows(c, perm));
    if (p.verdict != PERM_OK) {
        check_problem(c, &p, perm);
        return;
    }
    check_order(c);
    for (int i = 0; i < c->g.n_edges; i++) {
        g_assert_cmpuint(c->edges[i].perm.taken, ==, perm[i].taken);
        g_assert_cmpuint(c->edges[i].perm.shared, ==, perm[i].shared);
    }
    for (int v = 0; v < c->g.n_vertices; v++) {
        PermPair sum = model_sum(c, perm, v);

        g_assert_cmpuint(c->vertices[v].sum.taken, ==, sum.taken);
        g_assert_cmpuint(c->vertices[v].sum.shared, ==, sum.shared);
    }
}

static void add_edge(Case *c, int from, int to, ChildRole role, PermPair perm)
{
    int i = c->g.n_edges++;

    c->roles[i] = role;
    c->edges[i] = (PermEdge){.from = from, .to = to, .opaque = &c->roles[i], .perm = perm};
}

static void begin_case(Case *c, int n_vertices)
{
    *c = (Case){.g = {.rule = rule, .n_vertices = n_vertices}};
    c->g.vertices = c->vertices;
    c->g.edges = c->edges;
    c->g.order = c->order;
    for (int v = 0; v < n_vertices; v++) {
        c->vertices[v].opaque = &c->rules[v];
    }
}

/* --- every graph of three vertices, in six edges between them and two users --- */

static const PermPair users[] = {
    {0, PERM_ALL},
    {PERM_CONSISTENT_READ, PERM_ALL},
    {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL & ~PERM_RESIZE},
    {PERM_CONSISTENT_READ, PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED},
};

static void all_small(Choices *choices)
{
    Case c;

    begin_case(&c, 3);
    for (int v = 0; v < 3; v++) {
        c.rules[v] = choose_in(choices, 0, v < 2 ? RULE__MAX - 1 : 0);
    }
    c.vertices[2].read_only = choose(choices);
    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            if (from != to && choose(choices)) {
                add_edge(&c, from, to, to == 2 ? CHILD_IMAGE : CHILD_COW, users[0]);
            }
        }
    }
    add_edge(&c, -1, 0, CHILD_FILTERED, users[choose_in(choices, 0, 3)]);
    add_edge(&c, -1, 1, CHILD_FILTERED, users[choose_in(choices, 0, 3)]);
    check(&c);
}
ENUMERATE("/perm/all-small-graphs", all_small)

/* --- random larger ones, parallel edges and loops included --- */

static void prop_random(Choices *choices)
{
    static const ChildRole roles[] = {CHILD_FILTERED, CHILD_IMAGE,    CHILD_COW,
                                      CHILD_DATA,     CHILD_METADATA, CHILD_PRIMARY};
    Case c;
    int n = (int)choose_in(choices, 1, VERTICES_MAX);
    bool cyclic = choose_in(choices, 0, 4) == 4;

    begin_case(&c, n);
    for (int v = 0; v < n; v++) {
        c.rules[v] = choose_in(choices, 0, RULE__MAX - 1);
        c.vertices[v].read_only = choose_in(choices, 0, 3) == 3;
        c.vertices[v].force_share = choose_in(choices, 0, 7) == 7;
    }
    while (c.g.n_edges < EDGES_MAX && choose_more(choices, 8)) {
        int from = (int)choose_in(choices, 0, (uint64_t)n) - 1;
        int to = (int)choose_in(choices, 0, (uint64_t)n - 1);
        PermPair perm = {0, PERM_ALL};

        if (from < 0) {
            perm.taken = (Perm)choose_in(choices, 0, PERM_ALL);
            perm.shared = PERM_ALL & ~(Perm)choose_in(choices, 0, PERM_ALL);
        } else if (!cyclic && from >= to) {
            continue;
        }
        add_edge(&c, from, to, roles[choose_in(choices, 0, G_N_ELEMENTS(roles) - 1)], perm);
    }
    check(&c);
}
PROPERTY("/perm/random-graphs", prop_random)

/* --- the table of the permissions' rules, line by line --- */

static void assert_rule(PermPair got, Perm taken, Perm shared)
{
    g_assert_cmpuint(got.taken, ==, taken);
    g_assert_cmpuint(got.shared, ==, shared);
}

static void test_default_format(void)
{
    const NodeFlags rw = {0}, ro = {.read_only = true};
    const PermPair idle = {0, PERM_ALL};
    const PermPair write = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};
    const PermPair own = {PERM_CONSISTENT_READ, PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED};
    const PermPair unchanged = {PERM_WRITE_UNCHANGED, PERM_ALL};

    assert_rule(perm_default_format(NULL, NULL, "", CHILD_IMAGE, idle, &rw),
                PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
                PERM_ALL & ~(PERM_WRITE | PERM_RESIZE));
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_IMAGE, idle, &ro), PERM_CONSISTENT_READ,
                PERM_ALL & ~(PERM_WRITE | PERM_RESIZE));
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_COW, idle, &rw), 0, PERM_ALL);
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_COW, write, &rw), PERM_CONSISTENT_READ,
                PERM_ALL);
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_COW, own, &rw), PERM_CONSISTENT_READ,
                PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED | PERM_GRAPH_MOD);
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_DATA, unchanged, &rw),
                PERM_WRITE_UNCHANGED | PERM_WRITE | PERM_RESIZE, PERM_ALL & ~PERM_RESIZE);
    assert_rule(perm_default_format(NULL, NULL, "", CHILD_DATA, idle, &rw), 0,
                PERM_ALL & ~PERM_RESIZE);
    assert_rule(perm_default_filter(NULL, NULL, "", CHILD_FILTERED, own, &rw), own.taken,
                own.shared);
}
TEST("/perm/rules", test_default_format)

static void test_names(void)
{
    g_autofree char *one = perm_names(PERM_WRITE);
    g_autofree char *two = perm_names(PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED);

    g_assert_cmpstr(one, ==, "write");
    g_assert_cmpstr(two, ==, "consistent read, write unchanged");
}
TEST("/perm/names", test_names)
