/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pair: two hosts that replicate one to three disks, in one process and in
 * virtual time.
 *
 *   guest -> quorum -> local disk                     (group "p")
 *                   -> replication -> nbd ~~stream pair~~ server -> peer
 *   guest -> quorum -> replication -> active, hidden, disk <- peer (group "s")
 *
 * Each side of each disk has a history that says what its guest may read.
 */
#ifndef TESTS_SIMULATION_PAIR_H
#define TESTS_SIMULATION_PAIR_H

#include "../../block/export/nbd-server.h"

#include "block/backend.h"
#include "block/replication.h"
#include "choices.h"
#include "history.h"
#include "memdisk.h"
#include "replworld.h"
#include "util/loop.h"
#include "util/sync.h"

#define PAIR_DISKS_MAX 3

typedef struct Pair Pair;

/* What a guest works on. */
typedef struct Side {
    BlockNode *quorum;   /* borrowed from @world, or counted */
    BlockBackend *guest; /* borrowed from @world, or ours */
    Memdisk *local;      /* borrowed from @world, or ours */
    ReplWorld *world;    /* of a secondary; NULL: a host that never was one */
    History *history;
} Side;

typedef struct PairDisk {
    Pair *pair;
    unsigned index;
    Side a;              /* the primary */
    Side b;              /* the secondary; b.world NULL: there is none */
    NbdExport *export;   /* of b */
    Stream *link;        /* the server's end of the last connection; NULL: gone */
    bool tainted;        /* a guest write failed or a discard: both ends may differ there */
} PairDisk;

struct Pair {
    Choices *c;
    unsigned n;
    int64_t length;
    PairDisk d[PAIR_DISKS_MAX];
    NbdServer *server;
    unsigned serving;
    CoQueue idle;
    unsigned generation; /* makes names of nodes unique */
    bool failed_over;
};

/** pair_co_new() - both sides with equal disks, connected, not started */
Pair *coroutine_fn pair_co_new(Choices *c);
void coroutine_fn pair_co_free(Pair *p);

/** pair_co_make_secondary() - new disks of other content, exported */
void coroutine_fn pair_co_make_secondary(Pair *p);
void coroutine_fn pair_co_drop_secondary(Pair *p);
/** pair_co_connect() - put a replication child over a new link under each primary's quorum;
 * false: the link could not be made */
bool coroutine_fn pair_co_connect(Pair *p);
void coroutine_fn pair_co_disconnect(Pair *p);
/** pair_co_promote() - the secondary takes the place of the primary, which goes */
void coroutine_fn pair_co_promote(Pair *p);
/** pair_co_open_link() - a node on the secondary's export; NULL and @errp */
BlockNode *coroutine_fn pair_co_open_link(PairDisk *d, GError **errp);

/** pair_heal() - all disks answer again */
void pair_heal(Pair *p);
Memdisk *pair_any_disk(Pair *p);

/** pair_info() - stage and error of the replication node at the edge of a side; caller frees */
ReplicationInfo *pair_info(const Side *s, ReplicationMode mode);

/** pair_co_read() - all of the disk; the test fails if it cannot be read. Caller frees. */
uint8_t *coroutine_fn pair_co_read(const Pair *p, const Side *s);

#endif
