/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: nodes that clients outside the process may use, and the NBD server
 * that serves them.
 *
 * Loop: the main loop's, which is that of the graph. The functions emit the
 * events of the schema.
 */
#ifndef BLOCK_EXPORT_H
#define BLOCK_EXPORT_H

#include "block/node.h"
#include "qapi/types.h"
#include "util/error.h"

/* --- the NBD server of the process --- */

/**
 * export_nbd_co_start() - listen at o->addr; false and @errp if it runs already
 *
 * Names and refuses what is not there: TLS, authorisation.
 */
bool coroutine_fn export_nbd_co_start(const NbdServerOptions *o, GError **errp);

/** export_nbd_co_stop() - disconnect its clients, remove its exports; false if it does not run */
bool coroutine_fn export_nbd_co_stop(GError **errp);

bool export_nbd_is_running(void);
unsigned export_nbd_clients(void);
/** export_nbd_set_client_gone() - @fn, a plain function, is called whenever a client has left;
 * @served: it had got as far as an export. NULL: none. */
void export_nbd_set_client_gone(void (*fn)(bool served, void *opaque), void *opaque);

/* --- exports --- */

/**
 * export_co_add() - as block-export-add
 *
 * The export holds the node through a BlockBackend: it takes consistent-read
 * (and write), and shares all but resize. Where the node is replaced in the
 * graph the export follows.
 */
bool coroutine_fn export_co_add(const BlockExportOptions *o, GError **errp);

/**
 * export_co_del() - as block-export-del
 *
 * Safe fails if a client is connected. Returns when the removal has begun;
 * BLOCK_EXPORT_DELETED is emitted when the export is gone and its node free.
 */
bool coroutine_fn export_co_del(const char *id, BlockExportRemoveMode mode, GError **errp);

/** export_co_del_all() - hard, and wait until all are gone; stops the NBD server too */
void coroutine_fn export_co_del_all(void);

/** export_backend() - through which the clients of export @id make their requests, or NULL */
BlockBackend *export_backend(const char *id);

/** export_query() - the caller frees it */
BlockExportInfoArray *export_query(void);

/**
 * export_fence_node() - from now on clients cannot change what @node shows
 * @err: positive errno that they are told; 0 lifts the fence
 *
 * Every export whose root is @node, or a filter above it, refuses writes, zero
 * writes and discards at once: also those whose payload is being received and
 * those that wait at the gate. What a driver has already begun completes.
 */
void export_fence_node(BlockNode *node, int err);

#endif
