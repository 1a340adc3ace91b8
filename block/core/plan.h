/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plan: the graph as it will be.
 *
 * A copy of the edges and flags of what a change is connected with, taken when
 * a transaction begins to commit.
 * Steps change the copy, so they see each other's results and nothing else
 * sees any; then permissions are solved on it. Who commits makes the graph
 * equal to the plan.
 */
#ifndef BLOCK_CORE_PLAN_H
#define BLOCK_CORE_PLAN_H

#include "core.h"
#include "perm.h"

typedef struct PlanEdge {
    BlockChild *child;     /* the edge this is, NULL: to be made */
    BlockNode *parent;     /* or */
    BlockBackend *backend; /* the one above */
    BlockNode *to;
    const char *name; /* borrowed from the edge or the step */
    ChildRole role;
    bool gone;
    PermPair perm; /* of a backend: given; else solved */
} PlanEdge;

typedef struct PlanNode {
    BlockNode *node;
    NodeFlags flags;
    PermPair sum; /* solved */
} PlanNode;

typedef struct Plan {
    GArray *nodes;      /* of PlanNode */
    GArray *edges;      /* of PlanEdge */
    GHashTable *number; /* BlockNode -> index in nodes */
    int *order;         /* indexes in nodes, parents first; after plan_solve() */
} Plan;

/**
 * plan_new() - the graph as it is: what is connected with @seeds (BlockNode)
 *
 * Permissions, drains and limits follow edges, so a change matters to nobody
 * else. What the change will connect has to be among the seeds.
 */
Plan *plan_new(const GPtrArray *seeds);
void plan_free(Plan *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

PlanNode *plan_node(Plan *p, const BlockNode *node);
/** plan_edge() - NULL if there is no such edge (any more) */
PlanEdge *plan_edge(Plan *p, const BlockChild *child);
PlanEdge *plan_edge_at(Plan *p, size_t i);
PlanNode *plan_node_at(Plan *p, size_t i);

/* --- steps --- */
void plan_attach(Plan *p, BlockNode *parent, BlockBackend *backend, const char *name, BlockNode *to,
                 ChildRole role, PermPair perm);
void plan_replace(Plan *p, BlockNode *from, BlockNode *to, BlockChild *const *keep);

/** plan_solve() - permissions of every edge and the order of nodes */
bool plan_solve(Plan *p, GError **errp);

#endif
