/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockNode: a vertex of the graph; BlockChild: an edge from a parent (a node
 * or a backend) down to a node.
 *
 * A node and everything below and above it lives on one loop, so nothing here
 * is locked. Nodes are counted: named top-level nodes hold one count for the
 * monitor, each edge holds one. When the last goes, the node is closed.
 */
#ifndef BLOCK_NODE_H
#define BLOCK_NODE_H

#include <glib.h>
#include <jansson.h>

#include "block/types.h"
#include "qapi/types.h"
#include "util/sync.h"

/* Options that every driver has and inline children inherit. */
typedef struct NodeFlags {
    bool read_only;
    bool auto_read_only; /* may fall back to read-only */
    bool cache_direct;
    bool cache_no_flush;
    bool force_share;
    bool repair;         /* opened only to be checked and mended, in whatever state it is */
    bool unmap;          /* discard=unmap: pass discards down */
    BlockdevDetectZeroesOptions detect_zeroes;
} NodeFlags;

struct BlockChild {
    BlockNode *node; /* what the edge points at */
    char *name;      /* "file", "backing", "children.0", "root" ... */
    ChildRole role;
    BlockNode *parent;             /* the node above, or NULL */
    BlockBackend *parent_backend;  /* the backend above, or NULL */
    PermPair perm;                 /* as last solved */
    uint64_t serial;               /* number of this edge among all that ever were */
    BlockChild *next_sibling, *prev_sibling; /* edges of one parent node, in order of attaching */
    BlockChild *next_parent, *prev_parent;   /* edges into one node */
};

/* Flushes of one node: at most one runs, those who wait share the next. block/core only. */
typedef struct NodeFlush {
    uint64_t started, done; /* counts; done: the number of the last that ended */
    int result;             /* of that one */
    bool running;
    CoQueue waiters;
} NodeFlush;

struct BlockNode {
    /* For drivers, read-only unless said otherwise. */
    const BlockDriver *drv;
    void *state;         /* drv->state_size bytes, zeroed */
    BlockChild *file;    /* the CHILD_PRIMARY or CHILD_FILTERED child, NULL if none */
    BlockChild *backing; /* the CHILD_COW child, NULL if none */
    NodeFlags flags;
    BlockLimits limits;  /* drv->refresh_limits() writes it */
    int64_t length;      /* bytes; a driver that is no filter keeps it true */
    ReqFlags supported_write_flags; /* driver sets in co_open: of FUA, WRITE_UNCHANGED, ... */
    ReqFlags supported_zero_flags;  /* of FUA, MAY_UNMAP, NO_FALLBACK */
    char *node_name;
    char *filename;      /* printable; "json:{...}" where there is no plain one */

    /* Backing image that the format's header names; driver sets in co_open. */
    char *header_backing_file;   /* NULL: none */
    char *header_backing_format; /* NULL: probe */

    struct BlockNodePriv *p; /* block/core only */
    /* The next are private to block/core too, but inline for the request path. */
    unsigned in_flight;
    bool track_requests;
    bool order_writes;
    CoRangeLock requests;
    CoRangeLock write_order;
    uint64_t write_gen, flushed_gen;
    NodeFlush flush;
    BlockChild *first_child, *last_child;
    BlockChild *first_parent;
};

/* --- finding --- */

/** node_find() - by node name; borrowed; NULL if none */
BlockNode *node_find(const char *node_name);
/** node_lookup() - by drive id, then by node name; with QEMU's words when there is none */
BlockNode *node_lookup(const char *device_or_node, GError **errp);
BlockNode *node_first(void);
BlockNode *node_next(BlockNode *node); /* all nodes, in order of creation */
bool node_is_ancestor(BlockNode *above, BlockNode *below); /* true if equal */

/* --- opening and closing --- */

/**
 * node_co_open() - open a node and its inline children
 * @opts: stays the caller's
 * @inherit: flags where @opts says nothing; NULL: the defaults of blockdev-add
 *
 * Return: a counted reference; NULL and @errp on failure, with nothing left open.
 */
BlockNode *coroutine_fn node_co_open(const BlockdevOptions *opts, const NodeFlags *inherit,
                                     GError **errp);

/**
 * node_co_open_json() - the same from options that may be dotted, untyped text
 * (-drive, json: names, --image-opts); an absent "driver" is probed
 */
BlockNode *coroutine_fn node_co_open_json(const json_t *opts, const NodeFlags *inherit,
                                          GError **errp);

/** node_co_open_json_top() - the same without the backing file that only the header names */
BlockNode *coroutine_fn node_co_open_json_top(const json_t *opts, const NodeFlags *inherit,
                                              GError **errp);

/** node_co_open_filename() - "path", "json:{...}", "nbd://..."; @format NULL: probe (raw with a
 * warning when nothing matches and writes could fool the next probe) */
BlockNode *coroutine_fn node_co_open_filename(const char *filename, const char *format,
                                              const NodeFlags *flags, GError **errp);

/** node_co_open_top() - the same without the backing file that the image's header names */
BlockNode *coroutine_fn node_co_open_top(const char *filename, const char *format,
                                         const NodeFlags *flags, GError **errp);

/** block_set_warning() - who shows what the user shall know and no error carries; NULL: nobody */
void block_set_warning(void (*fn)(const char *text));
/** block_set_findings() - who shows what a check finds, a line each; NULL: nobody */
void block_set_findings(void (*fn)(const char *line));
/** block_finding() - for drivers that check an image */
void block_finding(const char *fmt, ...) PRINTF(1, 2);
void block_warn(const char *format, ...) G_GNUC_PRINTF(1, 2);

/**
 * node_new_internal() - a node of a driver that no option string names (filters that jobs insert,
 * drivers of the test library). @setup fills node->state, length, and so on; no child yet.
 */
BlockNode *node_new_internal(const BlockDriver *drv, const char *node_name, const NodeFlags *flags,
                             GError **errp);

BlockNode *node_ref(BlockNode *node);
/** node_co_unref() - may close the node: flushes, waits, frees. NULL is fine. */
void coroutine_fn node_co_unref(BlockNode *node);

/**
 * node_co_open_child() - for drivers in co_open: open or look up @ref and attach it
 *
 * Sets node->file for CHILD_PRIMARY and CHILD_FILTERED. Inline children
 * inherit flags. False and @errp on failure.
 */
bool coroutine_fn node_co_open_child(BlockNode *node, const char *name, const BlockdevRef *ref,
                                     ChildRole role, GError **errp);
BlockChild *node_child(BlockNode *node, const char *name);

/* --- properties --- */

int64_t node_length(const BlockNode *node); /* filters without an own length: of "file" */
bool node_is_read_only(const BlockNode *node);
/** node_skip_filters() - first node at or below @node that is no filter */
BlockNode *node_skip_filters(BlockNode *node);
/** node_cow_below() - backing node as reads see it, filters skipped; NULL if none */
BlockNode *node_backing(const BlockNode *node);
void node_get_info(BlockNode *node, BlockInfoData *ret);
bool coroutine_fn node_co_refresh_limits(BlockNode *node, GError **errp);
/** node_get_flags_options() - what a reopen without options would keep */
const BlockdevOptions *node_options(const BlockNode *node);

/** node_track_requests() - @on counts: while it is not 0 the node tracks its requests, so that
 * REQ_SERIALISING works on it. Only while the node is drained or not yet in use. */
void node_track_requests(BlockNode *node, bool on);

/** node_cancel_in_flight() - requests that wait for a peer at or below @node fail now, so that a
 * drain need not wait for a silent one */
void node_cancel_in_flight(BlockNode *node);
/** node_cancel_silent() - the same on every node whose peer has answered nothing since the last
 * call although something waited for it; the first call only begins the wait */
void node_cancel_silent(void);
/** node_next_with_peer() - the one after @node (NULL: the first) that may wait for a peer, in order
 * of creation; those that are being opened too, on which node_cancel_in_flight() works as well */
BlockNode *node_next_with_peer(BlockNode *node);

/* --- op blockers: management operations refused with a reason, owned by handle --- */
typedef enum BlockOp {
    BLOCK_OP_BACKUP_SOURCE, BLOCK_OP_BACKUP_TARGET, BLOCK_OP_CHANGE, BLOCK_OP_COMMIT_SOURCE,
    BLOCK_OP_COMMIT_TARGET, BLOCK_OP_DRIVE_DEL, BLOCK_OP_EJECT, BLOCK_OP_EXTERNAL_SNAPSHOT,
    BLOCK_OP_INTERNAL_SNAPSHOT, BLOCK_OP_INTERNAL_SNAPSHOT_DELETE, BLOCK_OP_MIRROR_SOURCE,
    BLOCK_OP_MIRROR_TARGET, BLOCK_OP_RESIZE, BLOCK_OP_STREAM, BLOCK_OP_REPLACE,
    BLOCK_OP__MAX,
} BlockOp;

typedef struct OpBlocker OpBlocker;
/** op_blocker_new() - refuse the operations in @mask (bit per BlockOp) on @node with @reason.
 * Owned by the handle, whatever happens to names and edges; it does not keep the node: a blocker
 * whose node has gone blocks nothing. */
OpBlocker *op_blocker_new(BlockNode *node, uint32_t mask, const char *reason);
void op_blocker_free(OpBlocker *b); /* NULL is fine */
/** op_blocked() - true and @errp if @op is refused on @node */
bool op_blocked(BlockNode *node, BlockOp op, GError **errp);

#endif
