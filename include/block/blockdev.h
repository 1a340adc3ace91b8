/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users do to the graph by hand: QMP's blockdev-* commands, -drive and
 * HMP's drive_add and drive_del. Errors have QEMU's words.
 *
 * A node that blockdev_co_add() makes has one count that belongs to the
 * monitor; blockdev_co_del() gives it up. A drive (id plus BlockBackend) holds
 * its node alone.
 */
#ifndef BLOCK_BLOCKDEV_H
#define BLOCK_BLOCKDEV_H

#include <glib.h>
#include <jansson.h>

#include "block/backend.h"
#include "block/node.h"

/** blockdev_co_add() - "node-name" is required */
bool coroutine_fn blockdev_co_add(const BlockdevOptions *opts, GError **errp);

/** blockdev_co_add_json() - the same from untyped options (drive_add -n) */
bool coroutine_fn blockdev_co_add_json(const json_t *opts, GError **errp);

/** blockdev_co_del() - refused while anybody uses the node, or if it is not the monitor's */
bool coroutine_fn blockdev_co_del(const char *node_name, GError **errp);

/**
 * blockdev_co_reopen() - QMP's blockdev-reopen: all of them or none
 *
 * Options left out return to their defaults; a driver that cannot change an
 * option refuses. "file" and "backing" may name another node; a null "backing"
 * detaches; "backing" must be given where the node has one.
 */
bool coroutine_fn blockdev_co_reopen(BlockdevOptions *const *opts, size_t n, GError **errp);

/** blockdev_co_close_all() - at exit: drives and the monitor's counts, newest first */
void coroutine_fn blockdev_co_close_all(void);

/** block_co_resize() - QMP's block_resize; tells every user above */
bool coroutine_fn block_co_resize(BlockNode *node, int64_t size, GError **errp);

/**
 * drive_co_add() - QEMU's -drive: a node, and a backend with the drive's id above it
 * @opts: object of text, keys as given ("file.filename": "x"); stays the caller's
 *
 * Return: the backend, owned by the drive: drive_co_del() frees it. NULL and @errp on failure,
 * with nothing left. Without "file", "driver" and the like the drive is empty. The backend has
 * no permission: who wants to read or write makes one of his own on its node.
 */
BlockBackend *coroutine_fn drive_co_add(const json_t *opts, GError **errp);

/** drive_co_del() - HMP's drive_del: a drive id, or the name of a node of the monitor */
bool coroutine_fn drive_co_del(const char *id, GError **errp);

#endif
