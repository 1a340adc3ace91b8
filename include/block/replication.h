/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replication: the framework that acts on groups of disks, and what is told
 * about them.
 *
 * An instance is one `replication` node. A group is a named set of instances;
 * a NULL group means every instance of the process. Start and checkpoint are
 * two-phase over the group: everything that can fail on any disk is prepared
 * on all of them inside one drained section, then functions that cannot fail
 * commit. So all disks of a group move to the new epoch or none does.
 */
#ifndef BLOCK_REPLICATION_H
#define BLOCK_REPLICATION_H

#include "block/node.h"
#include "util/error.h"


/**
 * replication_co_start_all() - start every stopped instance of the group in @mode
 *
 * Instances that are done (promoted) or in failover ignore it. An instance
 * that is stopped in the other mode, or already running, fails it. On failure no instance has
 * been started.
 */
bool coroutine_fn replication_co_start_all(const char *group, ReplicationMode mode, GError **errp);

/**
 * replication_co_checkpoint_all() - begin a new epoch
 *
 * An atomic point between requests: what was admitted before is in the old
 * epoch, what waits at the gate is in the new one. Refused while an instance
 * has a latched error, since its disks differ already.
 */
bool coroutine_fn replication_co_checkpoint_all(const char *group, GError **errp);

/** replication_get_error_all() - false and the first error if any instance has one */
bool replication_get_error_all(const char *group, GError **errp);

/**
 * replication_co_stop_all() - end replication
 * @failover: on a secondary keep its view and merge it into the disk; returns
 * when the merge has begun. Otherwise the disk is left as the primary wrote it.
 *
 * Visits all instances and reports the first error. Those stopped, done or in failover already
 * ignore it, except that a stop of an instance never started is an error; a failover that failed
 * is tried again.
 */
bool coroutine_fn replication_co_stop_all(const char *group, bool failover, GError **errp);

/** replication_query() - for query-replication; caller frees */
ReplicationInfoArray *replication_query(void);

#endif
