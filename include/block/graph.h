/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the graph: collect steps in a GraphTx, then commit all or none.
 *
 * A step changes nothing visible. Commit (1) drains what is touched, (2)
 * solves permissions over the whole graph that would result, (3) lets protocol
 * drivers take their locks, which may wait and fail, and (4) applies: plain
 * code that cannot wait or fail. After a failure the graph is as it was.
 * The steps of one transaction see each other's results.
 *
 * Reopening: co_reopen_prepare() of each node, parents first, then
 * co_check_perm(); then, after the edges have changed, reopen_commit() and
 * set_perm(). The nodes and edges that steps name must live until the commit.
 */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include "block/node.h"
#include "block/types.h"

GraphTx *graph_tx_new(void);

/** graph_tx_attach() - add an edge; loops are refused at commit */
void graph_tx_attach(GraphTx *tx, BlockNode *parent, const char *name, BlockNode *child,
                     ChildRole role);
/** graph_tx_detach() - remove an edge; its count of the child is dropped after commit */
void graph_tx_detach(GraphTx *tx, BlockChild *edge);
/** graph_tx_set_child() - let an edge point elsewhere */
void graph_tx_set_child(GraphTx *tx, BlockChild *edge, BlockNode *to);
/** graph_tx_replace_node() - every edge into @from points at @to, except edges that start in @to
 * or below it (so a filter can be put above @from), and those in @keep (NULL-terminated) */
void graph_tx_replace_node(GraphTx *tx, BlockNode *from, BlockNode *to, BlockChild *const *keep);
/** graph_tx_remove_filter() - what points at @filter points at what its "file" points at when the
 * transaction commits, and @filter has no "file" any more */
void graph_tx_remove_filter(GraphTx *tx, BlockNode *filter);
/** graph_tx_set_flags() - reopen a node with other flags (read-only ...) */
void graph_tx_set_flags(GraphTx *tx, BlockNode *node, const NodeFlags *flags);
/** graph_tx_reopen() - reopen with other options */
void graph_tx_reopen(GraphTx *tx, BlockNode *node, const BlockdevOptions *opts);
/** graph_tx_drain() - drain @node too, for what on_commit functions do to it */
void graph_tx_drain(GraphTx *tx, BlockNode *node);
/** graph_tx_on_commit() - run @fn(@opaque) with step (4), in order; plain, cannot fail */
void graph_tx_on_commit(GraphTx *tx, void (*fn)(void *opaque), void *opaque);

/** graph_tx_co_commit() - see above; frees @tx either way */
bool coroutine_fn graph_tx_co_commit(GraphTx *tx, GError **errp);
/** graph_tx_co_drop() - forget an uncommitted transaction */
void coroutine_fn graph_tx_co_drop(GraphTx *tx);

/** graph_co_insert_filter() - put @filter, whose "file" is @node already, above @node in all
 * its parents; graph_co_remove_filter() - the reverse: what pointed at @filter points at its file,
 * and @filter has no "file" any more, so that what it asked of it is over */
bool coroutine_fn graph_co_insert_filter(BlockNode *filter, BlockNode *node, GError **errp);
bool coroutine_fn graph_co_remove_filter(BlockNode *filter, GError **errp);

#endif
