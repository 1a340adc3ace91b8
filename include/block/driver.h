/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BlockDriver: the table a driver fills in. The core has checked range,
 * alignment, flags and permission before a driver is called, and asserts the
 * answer; drivers do not repeat that.
 *
 * Data path: 0 or -errno. Requests: 0 <= offset, bytes > 0, offset + bytes <=
 * node_length() (rounded up to the alignment), both multiples of
 * limits.request_alignment, bytes <= limits.max_transfer.
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include "block/io.h"
#include "block/node.h"
#include "util/error.h"
#include "util/iov.h"

typedef struct ImageInfoSpecific ImageInfoSpecific; /* of the schema */
typedef struct ImageCheck ImageCheck;

typedef struct ReopenState {
    NodeFlags flags;             /* new flags */
    const BlockdevOptions *opts; /* new options; NULL: only flags change */
    void *driver_private;        /* prepare leaves it for commit or abort */
} ReopenState;

struct BlockDriver {
    const char *name;  /* as in the schema's BlockdevDriver */
    size_t state_size;
    bool is_filter;    /* callbacks left out are passed on to node->file */
    bool is_format;    /* stores an image in "file"; may have "backing" if supports_backing */
    bool supports_backing;
    bool is_protocol;  /* no children below: talks to a file, a socket, nothing */
    bool own_length;   /* a filter whose node->length is its own, not file's */
    bool stores_length; /* co_truncate comes before a write past the end */
    bool order_writes; /* overlapping writes reach the driver one after the other */

    /* --- life --- */
    bool (*coroutine_ptr co_open)(BlockNode *node, const BlockdevOptions *opts, GError **errp);
    /* Write back what must be; children are still there. Also called after a failed co_open. */
    void (*coroutine_ptr co_close)(BlockNode *node);

    /* Reopen: prepare may wait and fail; commit and abort are plain. */
    bool (*coroutine_ptr co_reopen_prepare)(BlockNode *node, ReopenState *rs, GError **errp);
    void (*reopen_commit)(BlockNode *node, ReopenState *rs);
    void (*reopen_abort)(BlockNode *node, ReopenState *rs);

    /* --- permissions --- */
    /* What the edge @child (to be created: NULL) of @role takes and shares, given what the
     * parents of the node take and share. NULL: perm_default_filter() or _format(). */
    PermPair (*child_perm)(BlockNode *node, const BlockChild *child, const char *name,
                           ChildRole role, PermPair parents, const NodeFlags *flags);
    /* A protocol driver locks its file here: check may fail; after success set_perm or abort_perm
     * follows. A change that only takes less and shares more comes as set_perm alone. */
    bool (*coroutine_ptr co_check_perm)(BlockNode *node, PermPair perm, GError **errp);
    void (*set_perm)(BlockNode *node, PermPair perm);
    void (*abort_perm)(BlockNode *node);

    /* --- requests --- */
    int (*coroutine_ptr co_preadv)(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
    int (*coroutine_ptr co_pwritev)(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
    int (*coroutine_ptr co_pwrite_zeroes)(BlockNode *node, int64_t offset, int64_t bytes,
                                          ReqFlags flags); /* -ENOTSUP: core writes zeroes */
    int (*coroutine_ptr co_pdiscard)(BlockNode *node, int64_t offset, int64_t bytes);
    /* Own caches to the children, or to the disk for a protocol; the core then flushes every
     * child held with write permission unless the driver says it has done so itself. */
    int (*coroutine_ptr co_flush)(BlockNode *node);
    bool flush_does_children;
    /* the core does not flush it when it closes: that could wait for a silent peer */
    bool closes_unflushed;
    int (*coroutine_ptr co_block_status)(BlockNode *node, bool want_zero, int64_t offset,
                                         int64_t bytes, BlockStatus *ret);
    int (*coroutine_ptr co_copy_range)(BlockNode *node, BlockNode *src, int64_t src_offset,
                                       int64_t dst_offset, int64_t bytes, ReqFlags flags);
    /* For drivers with a map: node_co_copy_range() for each run, whose place the driver keeps from
     * being used for anything else meanwhile. -ENOTSUP, also after a part: copy all by hand. */
    int (*coroutine_ptr co_copy_range_from)(BlockNode *node, int64_t offset, BlockChild *dst,
                                            int64_t dst_offset, int64_t bytes, ReqFlags flags);

    /* --- size and content --- */
    /* Sets node->length, once what is new reads as zeroes, whatever a backing file has there. */
    bool (*coroutine_ptr co_truncate)(BlockNode *node, int64_t length, bool exact,
                                      BlockPreallocMode prealloc, ReqFlags flags, GError **errp);
    bool (*coroutine_ptr co_refresh_length)(BlockNode *node, GError **errp); /* writes length */
    int64_t (*coroutine_ptr co_allocated_size)(BlockNode *node); /* bytes on disk or -errno */
    /* Every cluster unallocated again, durable when the image is. */
    int (*coroutine_ptr co_make_empty)(BlockNode *node);

    /*
     * Scratch: content that is worthless after a crash (block/node.h of active and hidden).
     * begin empties the image and turns the policy on; it does what can fail. empty is plain,
     * cannot fail, costs O(tables touched) and starts no I/O: space is given back later.
     * end makes the image a clean file with its present content and turns the policy off.
     */
    bool (*coroutine_ptr co_scratch_begin)(BlockNode *node, GError **errp);
    void (*scratch_empty)(BlockNode *node);
    int (*coroutine_ptr co_scratch_end)(BlockNode *node);

    /* Something named @event is about to happen, or has (blkdebug). May wait, cannot fail. */
    void (*coroutine_ptr co_debug_event)(BlockNode *node, const char *event);

    /* Let requests that wait for a peer fail now. Plain; also while requests are in flight. */
    void (*cancel_in_flight)(BlockNode *node);
    /* Who has this one has that one: has something waited, and the peer answered nothing, since
     * this was asked last? Plain. */
    bool (*peer_is_silent)(BlockNode *node);
    /* The same for those that wait until a lost peer comes back: a drain waits for them. Who has
     * such requests calls drain_progress() when they begin to wait. */
    void (*cancel_lost)(BlockNode *node);

    /* A node that keeps one disk on several children tells the others when a request that changes
     * the disk failed on one of them: from now on they differ. @err: errno > 0. Plain. */
    void (*sibling_failed)(BlockNode *node, int err, int64_t offset);

    /* --- children at run time (quorum) --- */
    bool (*coroutine_ptr co_add_child)(BlockNode *node, BlockNode *child, GError **errp);
    bool (*coroutine_ptr co_del_child)(BlockNode *node, BlockChild *child, GError **errp);

    /* --- information --- */
    void (*refresh_limits)(BlockNode *node); /* limits start as the strictest of the children's */
    void (*get_info)(BlockNode *node, BlockInfoData *ret);
    ImageInfoSpecific *(*coroutine_ptr co_specific_info)(BlockNode *node, GError **errp);
    bool (*coroutine_ptr co_check)(BlockNode *node, ImageCheck *ret, bool fix_leaks, bool fix_all,
                                   GError **errp);
    bool (*coroutine_ptr co_change_backing)(BlockNode *node, const char *file, const char *format,
                                            GError **errp); /* header only */
    int (*probe)(const uint8_t *head, size_t bytes, const char *filename); /* score 0..100 */

    /* --- creating images --- */
    bool (*coroutine_ptr co_create)(const BlockdevCreateOptions *opts, GError **errp);
};

/* Defaults of child_perm. */
PermPair perm_default_filter(BlockNode *node, const BlockChild *child, const char *name,
                             ChildRole role, PermPair parents, const NodeFlags *flags);
PermPair perm_default_format(BlockNode *node, const BlockChild *child, const char *name,
                             ChildRole role, PermPair parents, const NodeFlags *flags);

/**
 * reopen_only_changes() - for co_reopen_prepare: do the new @opts differ from those of the node in
 * nothing but the common options, file, backing and the keys in @may_change (ends with NULL)?
 *
 * Otherwise false and @errp names the option. Options left out count as set to their default.
 */
bool reopen_only_changes(const BlockNode *node, const BlockdevOptions *opts,
                         const char *const *may_change, GError **errp);

/*
 * Guessed formats. A node whose format was probed and found to be raw must not
 * let its user write a header that the next probe would believe, so driver raw
 * asks probe_refuses_write() for writes that touch the first 512 bytes.
 */
/** node_is_probed() - nobody named the format of @node */
bool node_is_probed(const BlockNode *node);
/** probe_refuses_write() - would @head, the new first @bytes (at most 512) of the image, be taken
 * for another format than raw? */
bool probe_refuses_write(const uint8_t *head, size_t bytes);

/*
 * Debug events: named moments that a driver passes ("l2_update"), at which a
 * blkdebug node below it can change its rules or stop the request.
 */
extern unsigned debug_listeners; /* nodes of this process that listen; 0: events cost a load */

/** debug_event_deliver() - to @node if it listens, else through filters to the node below */
void coroutine_fn debug_event_deliver(BlockNode *node, const char *event);

/** node_debug_event() - for a driver: tell the file of @node that @event comes now. May yield. */
static inline void coroutine_fn node_debug_event(BlockNode *node, const char *event)
{
    if (unlikely(__atomic_load_n(&debug_listeners, __ATOMIC_RELAXED)) && node->file) {
        debug_event_deliver(node->file->node, event);
    }
}

/** driver_find() - by name; also internal drivers that were registered */
const BlockDriver *driver_find(const char *name);
/** driver_table_set() - main() hands in the table generated from the schema's driver enum */
void driver_table_set(const BlockDriver *const *table, size_t n);

#endif
