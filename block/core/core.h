/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of block/core share and nobody else sees: the insides of a
 * node and of a backend, the gate, and the calls between the graph's parts.
 */
#ifndef BLOCK_CORE_CORE_H
#define BLOCK_CORE_CORE_H

#include <glib.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/graph.h"
#include "block/node.h"
#include "util/sync.h"

#define NODE_NAME_MAX   31
#define NODE_CHAIN_MAX  200 /* backing images under one another; each level costs stack */
#define PROBE_BYTES     512

/* --- drain.c --- */

/** drain_progress() - something that a drain may be waiting for has ended */
void drain_progress(void);
/** drain_recompute_gates() - after any change of edges or drain counts */
void drain_recompute_gates(void);

/* --- nodes --- */

struct BlockNodePriv {
    unsigned refs;
    unsigned drain;        /* drain_co_begin() without their drain_end() */
    unsigned track_users;  /* node_track_requests(node, true) without their false */
    PermPair perm;         /* the sum over the parents, as last committed */
    bool open;             /* can be found: false while it is made and while it is closed */
    bool drv_open;         /* the driver has been asked to open, so it is asked to close */
    bool probed;           /* the format was guessed, not told */
    bool monitor_owned;    /* one of the counts belongs to the monitor */
    BlockdevOptions *opts; /* as opened or last reopened; NULL for internal nodes */
    BlockNode *inherits;   /* flags come from this parent as long as it has an edge to us */
    uint64_t wr_highest_offset;
    OpBlocker *blockers;
    BlockNode *next, *prev; /* all nodes, in order of creation */
    BlockNode *next_dead;   /* work list of node_co_unref() */
    unsigned mark;          /* of a walk: see graph_walk_begin() */
};

/** node_request_begin() - a request enters the driver of @node; io.c only */
static inline void node_request_begin(BlockNode *node)
{
    node->in_flight++;
}

/** node_request_end() - it has left */
static inline void node_request_end(BlockNode *node)
{
    assert(node->in_flight > 0);
    if (--node->in_flight == 0 && unlikely(node->p->drain > 0)) {
        drain_progress();
    }
}

/* --- backends --- */

typedef enum AcctType {
    ACCT_READ,
    ACCT_WRITE,
    ACCT_FLUSH,
    ACCT_UNMAP,
    ACCT__MAX,
} AcctType;

#define ACCT_BUCKETS 40 /* the last one: 550 s and more */

typedef struct AcctStats {
    uint64_t bytes[ACCT__MAX];
    uint64_t ops[ACCT__MAX];
    uint64_t failed[ACCT__MAX];
    uint64_t invalid[ACCT__MAX]; /* refused before they started */
    int64_t time_ns[ACCT__MAX];
    uint64_t latency[ACCT__MAX][ACCT_BUCKETS]; /* see acct.h */
    int64_t last_access_ns;      /* loop_now_ns() of the last one's end; 0: never */
} AcctStats;

struct BlockBackend {
    char *name;       /* drive id; NULL: none */
    BlockChild *root; /* NULL: no node */
    PermPair perm;    /* of the root edge, also while there is none */
    const BackendOps *ops;
    void *opaque;

    bool gate_closed; /* a node at or below the root is drained */
    CoQueue gate;     /* requests that wait for it to open */
    unsigned in_flight;
    BackendReq *requests; /* the admitted ones */

    int fence;        /* positive errno for requests that change the disk; 0: none */
    bool write_cache; /* false: writes get REQ_FUA */
    AcctStats stats;

    BlockBackend *next, *prev; /* all backends, in order of creation */
};

/** backend_admit() - count a request; the gate is open */
static inline void backend_admit(BlockBackend *be, BackendReq *req)
{
    be->in_flight++;
    req->co = co_self();
    req->next = be->requests;
    req->pprev = &be->requests;
    if (req->next) {
        req->next->pprev = &req->next;
    }
    be->requests = req;
}

/**
 * backend_enter() - pass the gate, waiting while it is closed
 *
 * Hold nothing that a drain could wait for. be->root may have changed, or be
 * gone, when this returns, and stays as it is until backend_leave().
 */
static inline void coroutine_fn backend_enter(BlockBackend *be, BackendReq *req)
{
    while (unlikely(be->gate_closed)) {
        co_queue_wait(&be->gate);
    }
    backend_admit(be, req);
}

static inline void backend_leave(BlockBackend *be, BackendReq *req)
{
    assert(be->in_flight > 0);
    *req->pprev = req->next;
    if (req->next) {
        req->next->pprev = req->pprev;
    }
    if (--be->in_flight == 0 && unlikely(be->gate_closed)) {
        drain_progress();
    }
}

#endif
