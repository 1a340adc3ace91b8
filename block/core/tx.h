/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a transaction, for the files that collect its steps and commit
 * them (tx.c) and that apply the steps to the plan (tx-plan.c).
 */
#ifndef BLOCK_CORE_TX_H
#define BLOCK_CORE_TX_H

#include "plan.h"

typedef enum StepKind {
    STEP_ATTACH,
    STEP_ATTACH_ROOT,
    STEP_BACKEND_PERM,
    STEP_DETACH,
    STEP_SET_CHILD,
    STEP_REPLACE,
    STEP_REMOVE_FILTER,
    STEP_FLAGS,
    STEP_REOPEN,
    STEP_DRAIN,
} StepKind;

typedef struct Step {
    StepKind kind;
    BlockNode *node;       /* parent, from, or the node itself; counted: GraphTx.drop */
    BlockNode *to;         /* child, to; likewise */
    BlockBackend *backend; /* of roots */
    BlockChild *edge; /* may be gone by the time of the commit */
    uint64_t edge_serial;
    char *name;
    ChildRole role;
    PermPair perm;
    NodeFlags flags;
    BlockdevOptions *opts;
    BlockChild **keep;
} Step;

/* A node that is reopened by this transaction. */
typedef struct Reopen {
    BlockNode *node;
    ReopenState rs;
    bool prepared;
} Reopen;

typedef struct OnCommit {
    void (*fn)(void *opaque);
    void *opaque;
} OnCommit;

struct GraphTx {
    GArray *steps;     /* of Step */
    GArray *on_commit; /* of OnCommit */
    bool force;        /* only removes edges, and must not fail */
    /* While it commits: */
    Plan *plan;
    bool solved;
    GArray *reopens;    /* of Reopen, parents first */
    GPtrArray *drained; /* nodes */
    GPtrArray *checked; /* nodes whose driver holds new locks */
    GPtrArray *changed; /* nodes whose children or flags change */
    GPtrArray *drop;    /* nodes: counts to drop at the end */
};

/** tx_plan() - make tx->plan, with all steps, and the lists of what they touch */
bool tx_plan(GraphTx *tx, GError **errp);

#endif
