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
#define NODE_NEST_MAX   32  /* inline definitions inside one another; likewise */
#define PROBE_BYTES     512

/* However the graph came about, a request goes down in calls, and a coroutine's stack is short. A
 * level of the costliest driver takes 1.6 KiB of it, one of a backing chain 0.6 KiB. */
#define NODE_DEPTH_MAX   500
#define NODE_DEPTH_COW   2
#define NODE_DEPTH_OTHER 5

/* --- drain.c --- */

extern unsigned drain_all_count; /* drain_co_all_begin() without their end */

/** drain_recompute_gate() - of one backend, after a change of edges below it */
void drain_recompute_gate(BlockBackend *be);

/* --- fence.c --- */

/** fence_recompute() - after any change of edges above @node */
void fence_recompute(BlockNode *node);

/* --- nodes --- */

struct BlockNodePriv {
    unsigned refs;
    unsigned drain;        /* drain_co_begin() without their drain_end() */
    unsigned track_users;  /* node_track_requests(node, true) without their false */
    PermPair perm;         /* the sum over the parents, as last committed */
    bool open;             /* can be found: false while it is made and while it is closed */
    bool drv_open;         /* the driver has been asked to open, so it is asked to close */
    bool drv_ready;        /* and has: requests may reach it */
    bool probed;           /* the format was guessed, not told */
    bool driver_named;     /* the driver has set node->filename itself */
    uint8_t nest;          /* inline definitions around this one */
    BlockNode *preopened;  /* while it opens: its "file", opened already to probe it; one count */
    bool monitor_owned;    /* one of the counts belongs to the monitor */
    BlockdevOptions *opts; /* as opened or last reopened; NULL for internal nodes */
    BlockNode *inherits;   /* flags come from this parent as long as it has an edge to us */
    BlockNode *heirs;      /* nodes that inherit from this one */
    BlockNode *next_heir, **pprev_heir;
    uint64_t wr_highest_offset;
    CoMutex growing;       /* held while a write past the end makes an image longer */
    OpBlocker *blockers;
    BlockNode *next, *prev; /* all nodes, in order of creation */
    uint64_t order;         /* of creation */
    int fence_err;          /* node_fence(); 0: none */
    const BlockNode *fence_pass[2];
    BlockNode *next_dead;   /* work list of node_co_unref() */
    unsigned mark;          /* of a walk: see graph_walk_begin() */
};

/* --- node.c --- */

/** name_is_well_formed() - a letter, then letters, digits, '-', '.', '_' */
bool name_is_well_formed(const char *name);
/** node_new() - in the list, not to be found; one count for the caller.
 * @name: NULL: generate one */
BlockNode *node_new(const BlockDriver *drv, const char *name, const NodeFlags *flags,
                    GError **errp);
/** node_find_any(), node_first_any(), node_last_any() - also nodes that are being made or closed */
BlockNode *node_find_any(const char *name);
BlockNode *node_first_any(void);
BlockNode *node_last_any(void);
/** node_set_inherits() - flags of @node come from its parent @from; NULL: from nowhere */
void node_set_inherits(BlockNode *node, BlockNode *from);
/** graph_walk_begin() - a new value for BlockNodePriv.mark, which no node has */
unsigned graph_walk_begin(void);

/* --- edge.c: only for commits; the graph lock is held --- */

/** edge_is_live() - @c, which may be gone, is still the edge that was made as number @serial */
bool edge_is_live(const BlockChild *c, uint64_t serial);

/** edge_new() - link; takes a count of @to */
BlockChild *edge_new(BlockNode *parent, BlockBackend *backend, const char *name, BlockNode *to,
                     ChildRole role);
/** edge_move() - returns the node it pointed at, whose count is now the caller's */
BlockNode *edge_move(BlockChild *c, BlockNode *to);
/** edge_free() - unlink; returns the node it pointed at, whose count is now the caller's */
BlockNode *edge_free(BlockChild *c);
/** limits_refresh() - this node's, from its children's */
void limits_refresh(BlockNode *node);
/** limits_refresh_upwards() - of these nodes and all above them, each once, from below */
void limits_refresh_upwards(BlockNode *const *changed, size_t n);

/* --- tx.c --- */

/** graph_tx_attach_root(), graph_tx_set_backend_perm() - the steps that backends need */
void graph_tx_attach_root(GraphTx *tx, BlockBackend *be, BlockNode *node);
void graph_tx_set_backend_perm(GraphTx *tx, BlockBackend *be, PermPair perm);
/** graph_tx_force() - the steps only remove edges; commit always succeeds */
void graph_tx_force(GraphTx *tx);
/** graph_co_detach_all() - remove the edges of a node that has no parents. Cannot fail.
 * The counts of the children are dropped; the caller holds others. */
void coroutine_fn graph_co_detach_all(BlockNode *node);

/* --- options.c --- */

/** flags_resolve() - flags of a node with @opts (may be NULL) that gets @inherit where they say
 * nothing. False if they contradict each other. */
bool flags_resolve(const BlockdevOptions *opts, const NodeFlags *inherit, NodeFlags *ret,
                   GError **errp);
/** flags_default() - where blockdev-add says nothing */
NodeFlags flags_default(void);
/** flags_for_child() - what an inline child of @role gets from a parent with @parent */
NodeFlags flags_for_child(const NodeFlags *parent, ChildRole role);

/** options_member() - the member called @name of the driver's own options; NULL if it has no such
 * member or it is absent. Only for members that are held by pointer. */
const void *options_member(const BlockdevOptions *opts, const char *name);

/* --- filename.c --- */

/** filename_co_parse() - a file name as options (a new reference): of the protocol driver, or
 * what "json:{...}" says. @ret_json: which; NULL: json: is refused. */
json_t *coroutine_fn filename_co_parse(const char *filename, bool *ret_json, GError **errp);
/** filename_has_protocol() - "PROTO:rest" */
bool filename_has_protocol(const char *filename);
/** filename_combine() - @name as seen from the directory of the file @base; caller frees */
char *filename_combine(const char *base, const char *name);
/** filename_refresh() - set node->filename unless the driver has */
void filename_refresh(BlockNode *node);
/** filename_refresh_tree() - that of @node and of all below it */
void filename_refresh_tree(BlockNode *node);

/* --- untyped.c --- */

/** untyped_co_normalise() - options as users may write them to the schema's form (a new
 * reference): dotted keys nested, file names and old nbd keys taken apart, drivers of "file"
 * children filled in. The top level's "driver" may still be missing. */
json_t *coroutine_fn untyped_co_normalise(const json_t *opts, GError **errp);
/** untyped_reword() - an error of the schema about such options, in the words of command lines */
void untyped_reword(const json_t *o, GError *err);

/* --- probe.c --- */

/** probe_format() - the driver that recognises @head best; driver raw if none does */
const BlockDriver *probe_format(const uint8_t *head, size_t bytes, const char *filename);

/* --- driver.c --- */

/** driver_at() - the @i-th of the table, NULL behind the last; holes are skipped */
const BlockDriver *driver_at(size_t i);

/* --- drive.c --- */

/** drive_co_del_all() - at exit: every drive goes, whatever blocks its deletion by hand */
void coroutine_fn drive_co_del_all(void);

/* --- backend.c --- */

BlockBackend *backend_last(void);

/** backend_describe() - who that is, for messages; caller frees */
char *backend_describe(const BlockBackend *be);

/** node_request_begin() - a request enters the driver of @node; io.c only */
static inline void node_request_begin(BlockNode *node)
{
    node->in_flight++;
}

/** node_request_end() - it has left */
static inline void node_request_end(BlockNode *node)
{
    assert(node->in_flight > 0);
    if (--node->in_flight == 0 && unlikely(node->p->drain > 0 || drain_all_count > 0)) {
        drain_progress();
    }
}

/** op_blockers_drop() - @node goes away: its blockers block nothing any more */
void op_blockers_drop(BlockNode *node);

/* --- backends --- */

#define ACCT_SLOTS 8 /* pieces that an interval is cut into */

typedef struct AcctHistogram {
    size_t n;
    uint64_t *boundaries; /* @n of them, ascending, in ns */
    uint64_t *bins;       /* @n + 1 */
} AcctHistogram;

typedef struct AcctSum {
    uint64_t count;
    int64_t min_ns, max_ns, total_ns; /* of latencies; 0 while @count is */
} AcctSum;

typedef struct AcctSlot {
    int64_t number; /* of the piece of time it holds, counted from the clock's zero */
    AcctSum sum[ACCT__MAX];
} AcctSlot;

typedef struct AcctInterval {
    uint32_t length_s;
    int64_t start_ns; /* nothing is known of the time before */
    AcctSlot slots[ACCT_SLOTS];
} AcctInterval;

typedef struct AcctStats {
    unsigned refs;
    uint64_t bytes[ACCT__MAX];
    uint64_t ops[ACCT__MAX];
    uint64_t failed[ACCT__MAX];
    uint64_t invalid[ACCT__MAX]; /* refused before they started */
    int64_t time_ns[ACCT__MAX];
    int64_t last_access_ns; /* loop_now_ns() of the last one's end; 0: never */
    bool account_failed;    /* failed ones count in times too */
    bool account_invalid;   /* refused ones end idleness too */
    bool detailed;          /* any of what follows is there */
    AcctHistogram *histogram[ACCT__MAX]; /* NULL: none */
    size_t n_intervals;
    AcctInterval *intervals;
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
    AcctStats *stats; /* counted: backend_share_stats() */

    BlockBackend *next, *prev; /* all backends, in order of creation */
    uint64_t order;            /* of creation */
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
