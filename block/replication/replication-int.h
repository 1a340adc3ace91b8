/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of replication share: one instance is one `replication` node.
 */
#ifndef BLOCK_REPLICATION_INT_H
#define BLOCK_REPLICATION_INT_H

#include "block/driver.h"
#include "block/job.h"
#include "block/replication.h"
#include "util/sync.h"

#define REPLICATION_DEFAULT_GROUP ""

/* The first error since the last start. Nothing but a stop clears it: from then on the disks of
 * the two hosts may differ. */
typedef struct ReplicationLatch {
    int err;                        /* positive errno; 0: none */
    ReplicationOperation operation; /* what failed */
    int64_t offset;                 /* bytes; -1 where it has none */
    int64_t wall_ns;
    uint64_t missed_bytes;          /* guest writes since then that the peer did not get */
} ReplicationLatch;

typedef struct Replication Replication;
struct Replication {
    BlockNode *node;
    ReplicationMode mode;
    ReplicationStage stage;
    char *group;
    char *top_id;        /* secondary only */
    uint64_t epoch;      /* checkpoints since the start, counting the start */
    ReplicationLatch latch;
    Replication *next;   /* newest first */
    CoMutex operation;   /* held through an operation on our group: they must not interleave */
    BlockNode *link;     /* primary: the NBD client whose link we listen to; counted; or NULL */

    /* Secondary, from a successful start to the end of failover or stop. Counted references. */
    BlockNode *active, *hidden, *disk, *cbw;
    OpBlocker *view_blockers[2];  /* of what changes with a checkpoint: the top and we */
    OpBlocker *chain_blockers[4]; /* of what lies below us */
    bool hidden_was_ro, disk_was_ro;
    bool active_scratch, hidden_scratch;
    Job *commit;         /* the merge, in stage failover */
};

/* --- stage.c --- */

/** stage_move() - along an arrow of the table (asserted); tells the world why */
void stage_move(Replication *r, ReplicationStage to, const char *reason);
/** latch_set() - remember the first error and tell the world; later ones are counted only */
void latch_set(Replication *r, ReplicationOperation op, int err, int64_t offset);
void latch_clear(Replication *r);

/** instance_check_error() - false and @errp with the words of query-xen-replication-status */
bool instance_check_error(const Replication *r, GError **errp);

/* --- group.c: the list of instances --- */
void replication_register(Replication *r);
void replication_unregister(Replication *r);

/* --- primary.c --- */
void primary_open(Replication *r);
bool primary_check_start(Replication *r, GError **errp);
/** primary_check_checkpoint() - may an epoch end? Writes that wait for a lost peer are given up. */
bool primary_check_checkpoint(Replication *r, GError **errp);
void primary_start(Replication *r);
void primary_stop(Replication *r);
void coroutine_fn primary_co_close(Replication *r);

/* --- secondary.c: start, checkpoint, stop --- */

/* Start: prepare does all that may wait or fail and leaves nothing behind when it fails;
 * secondary_co_release() undoes a prepare that succeeded; commit is plain. */
bool coroutine_fn secondary_co_prepare_start(Replication *r, GError **errp);
void secondary_commit_start(Replication *r);

bool secondary_check_checkpoint(Replication *r, GError **errp);
void secondary_commit_checkpoint(Replication *r);

/** secondary_co_stop() - stop without failover: the disk as the primary wrote it, overlays gone */
bool coroutine_fn secondary_co_stop(Replication *r, GError **errp);
/** secondary_co_unprotect() - take the copy filter and the blockers of the view away */
void coroutine_fn secondary_co_unprotect(Replication *r);
/** secondary_co_forget_chain() - let go of disk and overlays; these are emptied, unless a merge has
 * failed: then they hold what it has not merged, as ordinary images */
void coroutine_fn secondary_co_forget_chain(Replication *r);
/** secondary_co_release() - both, where there is something; after a failed start and at close */
void coroutine_fn secondary_co_release(Replication *r);

/* --- failover.c --- */
bool coroutine_fn failover_co_begin(Replication *r, GError **errp);

#endif
