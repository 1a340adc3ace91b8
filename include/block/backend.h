/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockBackend: a user of the graph (export, job, drive id, program). The only
 * place where requests start, so the only place where they are held back.
 *
 * The gate: while a node below is being drained the gate is closed; a request
 * that arrives waits there, before it holds anything. What the gate admitted
 * is counted, and drain waits until that count is zero. Admitted requests wait
 * only for requests below them and for locks of admitted ones, so drain ends.
 */
#ifndef BLOCK_BACKEND_H
#define BLOCK_BACKEND_H

#include <glib.h>

#include "block/io.h"
#include "block/node.h"
#include "block/types.h"

/* What a user wants to hear. All plain functions, all optional. */
typedef struct BackendOps {
    char *(*describe)(void *opaque);      /* for messages: "block device 'x'", "export 'e0'" */
    const char *(*job_id)(void *opaque);  /* of a job, which may have several backends; or "" */
    void (*drained_begin)(void *opaque);  /* stop making requests (hint: the gate holds anyway) */
    void (*drained_end)(void *opaque);
    void (*resized)(void *opaque);        /* node_length() has changed */
    void (*root_changed)(void *opaque);   /* another node is the root now */
} BackendOps;

/**
 * backend_new() - without a node yet
 * @name: drive id (shares its name space with node names), or NULL for none
 *
 * Return: counted once; NULL and @errp if the name is taken or malformed.
 */
BlockBackend *backend_new(const char *name, PermPair perm, const BackendOps *ops, void *opaque,
                          GError **errp);
/** backend_co_insert() - make @node the root; permissions are solved, files locked */
bool coroutine_fn backend_co_insert(BlockBackend *be, BlockNode *node, GError **errp);
void coroutine_fn backend_co_remove(BlockBackend *be); /* waits for its requests */
bool coroutine_fn backend_co_set_perm(BlockBackend *be, PermPair perm, GError **errp);
/** backend_co_free() - removes the root too; the last reference to a node may go */
void coroutine_fn backend_co_free(BlockBackend *be);

BlockBackend *backend_find(const char *name);
BlockBackend *backend_first(void);
BlockBackend *backend_next(BlockBackend *be);
const char *backend_name(const BlockBackend *be); /* "" if none */
BlockNode *backend_node(const BlockBackend *be);  /* NULL if none */
BlockChild *backend_root(const BlockBackend *be);
int64_t backend_length(const BlockBackend *be);
/** backend_set_write_cache() - false: every write gets REQ_FUA */
void backend_set_write_cache(BlockBackend *be, bool writeback);

int coroutine_fn backend_co_preadv(BlockBackend *be, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn backend_co_pwritev(BlockBackend *be, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn backend_co_pread(BlockBackend *be, int64_t offset, void *buf, size_t bytes);
int coroutine_fn backend_co_pwrite(BlockBackend *be, int64_t offset, const void *buf,
                                   size_t bytes, ReqFlags flags);
int coroutine_fn backend_co_pwrite_zeroes(BlockBackend *be, int64_t offset, int64_t bytes,
                                          ReqFlags flags);
int coroutine_fn backend_co_pdiscard(BlockBackend *be, int64_t offset, int64_t bytes);
int coroutine_fn backend_co_flush(BlockBackend *be);
int coroutine_fn backend_co_block_status_above(BlockBackend *be, BlockNode *base, bool want_zero,
                                               int64_t offset, int64_t bytes, BlockStatus *ret,
                                               int *ret_depth);
bool coroutine_fn backend_co_truncate(BlockBackend *be, int64_t length, bool exact,
                                      BlockPreallocMode prealloc, ReqFlags flags, GError **errp);
int coroutine_fn backend_co_make_empty(BlockBackend *be);

/*
 * A whole that makes several requests (a job's copy: read here, write there)
 * passes the gate once and counts as one admitted request. Between enter and
 * leave the user makes requests on backend_root() with child_co_*, and takes
 * its locks only now: gate before lock.
 */
/* On the stack of the coroutine that entered; all fields private. */
typedef struct BackendReq {
    Coroutine *co;
    struct BackendReq *next, **pprev;
} BackendReq;

void coroutine_fn backend_co_enter(BlockBackend *be, BackendReq *req);
/** backend_try_enter() - false, and not entered, if the gate is closed */
bool MUST_USE backend_try_enter(BlockBackend *be, BackendReq *req);
void backend_exit(BlockBackend *be, BackendReq *req);

/**
 * backend_fence() - from now on refuse requests that change the disk with @err (positive errno)
 *
 * For failover: takes effect at once, for admitted requests that have not yet
 * reached the driver too where the request path can tell. 0 lifts it.
 */
void backend_fence(BlockBackend *be, int err);

/** backend_fence_err() - the errno of its fence; 0: it has none */
int backend_fence_err(const BlockBackend *be);

/**
 * node_fence() - fence every backend above @node, now and later
 * @err: positive errno that they get; 0: from now on no more are fenced; those that are stay so
 * @pass_a, @pass_b: what reaches @node through them only is left alone. May be NULL; compared only
 *
 * Whatever the way in which a backend comes above @node, by being made there or by a change of the
 * graph, it is fenced before its next request.
 */
void node_fence(BlockNode *node, int err, const BlockNode *pass_a, const BlockNode *pass_b);

/** backend_in_flight() - admitted and not done */
unsigned backend_in_flight(const BlockBackend *be);

/* --- statistics: query-blockstats shows them --- */

#define ACCT_BOUNDARIES_MAX 1024
#define ACCT_INTERVALS_MAX  16

typedef enum AcctType {
    ACCT_READ,
    ACCT_WRITE,
    ACCT_ZONE_APPEND, /* counted once there are zones; QEMU's clients may set its histogram */
    ACCT_FLUSH,
    ACCT_UNMAP,
    ACCT__MAX,
} AcctType;

/** acct_boundaries_are_valid() - ascending, none is 0, at most ACCT_BOUNDARIES_MAX */
bool acct_boundaries_are_valid(const uint64_t *boundaries, size_t n);
/** backend_set_histogram() - count latencies by valid @boundaries, in ns, anew. NULL: stop */
void backend_set_histogram(BlockBackend *be, AcctType type, const uint64_t *boundaries, size_t n);

/** backend_share_stats() - requests of @be count as those of @with, which may go before it */
void backend_share_stats(BlockBackend *be, BlockBackend *with);

/* --- drain --- */

/**
 * drain_co_begin() - no request is in flight on @node, and none will start
 *
 * Closes the gate of every backend above @node and waits for what they had
 * admitted. Nests. Not from inside a request (asserted where it can be told).
 */
void coroutine_fn drain_co_begin(BlockNode *node);
void drain_end(BlockNode *node);
/** drain_progress() - something that a drain may be waiting for has ended, or waits itself */
void drain_progress(void);
void coroutine_fn drain_co_all_begin(void);
void drain_all_end(void);

#endif
