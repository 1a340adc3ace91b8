/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The permission solver: a pure function over the description of a graph.
 *
 * It knows no BlockNode: what a vertex asks of its children is the caller's
 * rule. So it runs on graphs that do not exist (yet), and on all the small
 * ones in the property test.
 */
#ifndef BLOCK_CORE_PERM_H
#define BLOCK_CORE_PERM_H

#include <glib.h>

#include "block/types.h"

typedef struct PermVertex {
    bool read_only;
    bool force_share; /* edges into it share everything */
    void *opaque;     /* the caller's */
    PermPair sum;     /* out: what its parents take and share together */
    int depth;        /* 0 on input; out: the greatest sum of weights on a way down to it */
} PermVertex;

typedef struct PermEdge {
    int from; /* index of a vertex; -1: a user from outside, whose perm is given */
    int to;
    void *opaque;  /* the caller's */
    PermPair perm; /* in if from is -1, else out */
    int weight;    /* what it adds to the depth of @to */
} PermEdge;

typedef struct PermGraph {
    PermVertex *vertices;
    int n_vertices;
    PermEdge *edges;
    int n_edges;
    /* What @edge takes and shares when the parents of @from have @parents. No side effects. */
    PermPair (*rule)(const PermVertex *from, const PermEdge *edge, PermPair parents);
    int max_depth; /* 0: none */
    int *order; /* out: n_vertices indexes, parents before children */
} PermGraph;

typedef enum PermVerdict {
    PERM_OK,
    PERM_CYCLE,     /* edge: one of those that close it */
    PERM_READ_ONLY, /* edge: takes write on the read-only vertex */
    PERM_CONFLICT,  /* edge takes what other does not share */
    PERM_TOO_DEEP,  /* edge: the first that leads deeper than max_depth */
} PermVerdict;

typedef struct PermProblem {
    PermVerdict verdict;
    int edge, other; /* indexes */
    Perm perms;      /* what they disagree on */
} PermProblem;

/**
 * perm_solve() - fill in every sum and every perm that is an output, and the order
 *
 * Linear in vertices and edges, except that on a vertex with a conflict the
 * two edges are found by trying pairs. On a problem the outputs are undefined.
 */
PermProblem perm_solve(PermGraph *g);

/** perm_names() - "consistent read, write"; caller frees */
char *perm_names(Perm perms);

#endif
