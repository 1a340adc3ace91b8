/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replication: the filter node, and where its requests go.
 *
 * Primary: a write is forwarded to the peer and always succeeds; what goes
 * wrong is latched. It cannot be read. Secondary: everything goes to "file",
 * which is the active overlay until failover or stop puts the disk there.
 */
#include <errno.h>

#include "block/replication/replication-int.h"

typedef enum Route {
    ROUTE_REFUSE,
    ROUTE_FILE,
    ROUTE_FORWARD,
} Route;

static Route
write_route(const Replication *r)
{
    if (r->mode == REPLICATION_MODE_SECONDARY) {
        return r->stage == REPLICATION_STAGE_NONE ? ROUTE_REFUSE : ROUTE_FILE;
    }
    return r->stage == REPLICATION_STAGE_RUNNING ? ROUTE_FORWARD : ROUTE_REFUSE;
}

static Route
read_route(const Replication *r)
{
    return r->mode == REPLICATION_MODE_SECONDARY ? write_route(r) : ROUTE_REFUSE;
}

/* R4: a peer that fails never fails the guest's request, and is reported. */
static int
forwarded(Replication *r, int ret, ReplicationOperation op, int64_t offset, int64_t bytes)
{
    if (ret < 0 && r->stage == REPLICATION_STAGE_RUNNING) {
        latch_set(r, op, -ret, offset);
        r->latch.missed_bytes += bytes;
    }
    return 0;
}

/* Nothing is forwarded behind a hole. */
static bool
forward_is_broken(Replication *r, int64_t bytes)
{
    if (r->latch.err) {
        r->latch.missed_bytes += bytes;
        return true;
    }
    return false;
}

static int coroutine_fn
replication_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Replication *r = node->state;

    if (read_route(r) == ROUTE_REFUSE) {
        return -EIO;
    }
    return child_co_preadv(node->file, offset, iov, flags);
}

static int coroutine_fn
replication_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Replication *r = node->state;

    switch (write_route(r)) {
    case ROUTE_REFUSE:
        return -EIO;
    case ROUTE_FILE:
        return child_co_pwritev(node->file, offset, iov, flags);
    case ROUTE_FORWARD:
        break;
    }
    if (forward_is_broken(r, iov.bytes)) {
        return 0;
    }
    return forwarded(r, child_co_pwritev(node->file, offset, iov, flags),
                     REPLICATION_OPERATION_WRITE, offset, iov.bytes);
}

static int coroutine_fn
replication_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    Replication *r = node->state;

    switch (write_route(r)) {
    case ROUTE_REFUSE:
        return -EIO;
    case ROUTE_FILE:
        return child_co_pwrite_zeroes(node->file, offset, bytes, flags);
    case ROUTE_FORWARD:
        break;
    }
    if (forward_is_broken(r, bytes)) {
        return 0;
    }
    /* The guest may not fall back to writing on the peer's account: we do it for it. */
    return forwarded(r, child_co_pwrite_zeroes(node->file, offset, bytes, flags & ~REQ_NO_FALLBACK),
                     REPLICATION_OPERATION_WRITE, offset, bytes);
}

static int coroutine_fn
replication_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    Replication *r = node->state;

    switch (write_route(r)) {
    case ROUTE_REFUSE:
        return 0; /* advisory */
    case ROUTE_FILE:
        return child_co_pdiscard(node->file, offset, bytes);
    case ROUTE_FORWARD:
        break;
    }
    if (forward_is_broken(r, bytes)) {
        return 0;
    }
    return forwarded(r, child_co_pdiscard(node->file, offset, bytes),
                     REPLICATION_OPERATION_DISCARD, offset, bytes);
}

/* F4: what our guest sees is in overlays that no flush can save, and no merge is under way. */
static bool
cannot_be_durable(const Replication *r)
{
    return (r->stage == REPLICATION_STAGE_FAILOVER ||
            r->stage == REPLICATION_STAGE_FAILOVER_FAILED) &&
           r->node->file->node == r->active;
}

/*
 * A running secondary's overlays are worthless after a crash, so there is
 * nothing to make durable for its guest: the flush passes to the active
 * overlay, which knows that. From failover on the guest's data counts: the merge
 * has a filter above the overlay, which the flush meets.
 */
static int coroutine_fn
replication_co_flush(BlockNode *node)
{
    Replication *r = node->state;

    if (r->mode == REPLICATION_MODE_PRIMARY && write_route(r) == ROUTE_REFUSE) {
        return 0; /* nothing of the guest's is there; it must not wait for the peer */
    }
    if (write_route(r) != ROUTE_FORWARD) {
        return cannot_be_durable(r) ? -EIO : child_co_flush(node->file);
    }
    if (forward_is_broken(r, 0)) {
        return 0;
    }
    return forwarded(r, child_co_flush(node->file), REPLICATION_OPERATION_FLUSH, -1, 0);
}

/* The primary's own disk refused what the peer may have: the two differ until a resync. */
static void
replication_sibling_failed(BlockNode *node, int err, int64_t offset)
{
    Replication *r = node->state;

    if (r->mode == REPLICATION_MODE_PRIMARY && r->stage == REPLICATION_STAGE_RUNNING) {
        latch_set(r, REPLICATION_OPERATION_DISK, err, offset);
    }
}

/* The core asks a filter's file; a primary's is behind the wire and must not be asked. */
static int coroutine_fn
replication_co_block_status(BlockNode *node, bool want_zero, int64_t offset, int64_t bytes,
                            BlockStatus *ret)
{
    const Replication *r = node->state;

    (void)want_zero;
    if (r->mode == REPLICATION_MODE_PRIMARY) {
        *ret = (BlockStatus){.flags = STATUS_DATA | STATUS_ALLOCATED, .bytes = bytes};
        return 0;
    }
    *ret = (BlockStatus){.flags = STATUS_RAW | STATUS_OFFSET_VALID, .bytes = bytes, .map = offset,
                         .file = node->file->node};
    return 0;
}

/* Both sides write to the same nodes, each through its own edge; the rules of the chain, not the
 * permissions, keep them apart. Nobody may resize. */
static PermPair
replication_child_perm(BlockNode *node, const BlockChild *child, const char *name, ChildRole role,
                       PermPair parents, const NodeFlags *flags)
{
    PermPair p = {.shared = PERM_CONSISTENT_READ | PERM_WRITE | PERM_WRITE_UNCHANGED};

    (void)node, (void)child, (void)name, (void)parents;
    if (role & CHILD_FILTERED) {
        p.taken = PERM_CONSISTENT_READ;
    }
    if (!flags->read_only) {
        p.taken |= PERM_WRITE;
    }
    return p;
}

static bool coroutine_fn
replication_co_truncate(BlockNode *node, int64_t length, bool exact, BlockPreallocMode prealloc,
                        ReqFlags flags, GError **errp)
{
    (void)length, (void)exact, (void)prealloc, (void)flags;
    return fail(errp, "Cannot resize: node '%s' replicates the disk", node->node_name);
}

static bool
replication_check_options(const BlockdevOptionsReplication *o, GError **errp)
{
    if (o->mode == REPLICATION_MODE_PRIMARY && o->top_id) {
        return fail(errp, "The option 'top-id' cannot be used with mode 'primary'");
    }
    if (o->mode == REPLICATION_MODE_SECONDARY && !o->top_id) {
        return fail(errp, "Missing the option 'top-id' for mode 'secondary'");
    }
    return true;
}

static bool coroutine_fn
replication_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsReplication *o = &opts->u.replication;
    Replication *r = node->state;

    r->node = node;
    if (!replication_check_options(o, errp) ||
        !node_co_open_child(node, "file", o->file, CHILD_FILTERED, errp)) {
        return false;
    }
    r->mode = o->mode;
    r->top_id = g_strdup(o->top_id);
    r->group = g_strdup(o->group ? o->group : REPLICATION_DEFAULT_GROUP);
    if (!opts->has_discard) {
        /* Whether to discard is the choice of the node above us, which does it on its other
         * children too: dropping it here would let the two hosts differ. */
        node->flags.unmap = true;
    }
    node->supported_write_flags = REQ_WRITE_UNCHANGED;
    node->supported_zero_flags = REQ_MAY_UNMAP | REQ_NO_FALLBACK | REQ_WRITE_UNCHANGED;
    replication_register(r);
    if (r->mode == REPLICATION_MODE_PRIMARY) {
        /* On a secondary FUA is a write and our flush, which knows what that takes. */
        node->supported_write_flags |= REQ_FUA;
        node->supported_zero_flags |= REQ_FUA;
        primary_open(r);
    }
    return true;
}

/* What "file" is, is our own affair: the active overlay, the disk after a failover, or the peer. */
static bool
keeps_file(const BlockNode *node, const BlockdevRef *file)
{
    return file->kind == BLOCKDEV_REF_DEFINITION ||
           node_lookup(file->u.reference, NULL) == node->file->node;
}

static bool coroutine_fn
replication_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    if (rs->opts && !keeps_file(node, rs->opts->u.replication.file)) {
        return fail(errp, "Cannot change the option 'file' of node '%s'", node->node_name);
    }
    return !rs->opts || reopen_only_changes(node, rs->opts, NULL, errp);
}

static void coroutine_fn
replication_co_close(BlockNode *node)
{
    Replication *r = node->state;

    replication_unregister(r);
    if (r->mode == REPLICATION_MODE_PRIMARY) {
        primary_co_close(r);
    } else {
        secondary_co_release(r);
    }
    g_free(r->group);
    g_free(r->top_id);
}

const BlockDriver driver_replication = {
    .name = "replication",
    .state_size = sizeof(Replication),
    .is_filter = true,
    .flush_does_children = true,
    .closes_unflushed = true,
    .co_open = replication_co_open,
    .co_close = replication_co_close,
    .co_reopen_prepare = replication_co_reopen_prepare,
    .child_perm = replication_child_perm,
    .co_preadv = replication_co_preadv,
    .co_pwritev = replication_co_pwritev,
    .co_pwrite_zeroes = replication_co_pwrite_zeroes,
    .co_pdiscard = replication_co_pdiscard,
    .co_flush = replication_co_flush,
    .co_block_status = replication_co_block_status,
    .sibling_failed = replication_sibling_failed,
    .co_truncate = replication_co_truncate,
};
