/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of nodes, drives and the graph, in the types of the schema:
 * for QMP's queries and for programs that print them. Results are the caller's.
 */
#ifndef BLOCK_INFO_H
#define BLOCK_INFO_H

#include <glib.h>
#include <jansson.h>

#include "block/backend.h"
#include "block/node.h"

/** info_co_image() - @node (filters skipped) and, unless @flat, its backing chain */
ImageInfo *coroutine_fn info_co_image(BlockNode *node, bool flat, bool limits, GError **errp);

/** info_co_graph() - @node with everything below it */
BlockGraphInfo *coroutine_fn info_co_graph(BlockNode *node, bool limits, GError **errp);

/** info_co_node() - a row of query-named-block-nodes. @be: the drive it is seen through, or NULL */
BlockDeviceInfo *coroutine_fn info_co_node(BlockNode *node, const BlockBackend *be, bool flat,
                                           GError **errp);

/** info_co_drive() - a row of query-block; @be has a name */
BlockInfo *coroutine_fn info_co_drive(BlockBackend *be, GError **errp);

/** info_drive_stats(), info_node_stats() - rows of query-blockstats */
BlockStats *info_drive_stats(const BlockBackend *be);
BlockStats *info_node_stats(const BlockNode *node);

/** info_backend_counters() - of one backend, whatever it is */
BlockDeviceStats *info_backend_counters(const BlockBackend *be);

/** info_graph_edges() - the value of x-debug-query-block-graph; a new reference */
json_t *info_graph_edges(void);

#endif
