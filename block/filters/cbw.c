/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy-before-write: see block/cbw.h for the rules C1 to C4 cited below.
 *
 * `copied` holds a set bit for each range that the target has received in this
 * epoch. It is set only after the copy is stored, so a reader of the bitmap
 * that finds a bit set need not wait for anybody. Whoever copies holds the
 * range in `copying`, so that two writers to one range do not copy twice.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/backend.h"
#include "block/cbw.h"
#include "block/driver.h"
#include "block/graph.h"
#include "util/buf.h"
#include "util/hbitmap.h"
#include "util/sync.h"

/* Without a finer answer from the target: what QEMU's copies have always been. */
#define CBW_COARSE_GRANULARITY (64 * KiB)
/* One copy moves at most this much: larger writes copy piece after piece. */
#define CBW_MAX_COPY           (1 * MiB)
/*
 * What takes more than one copy asks first whether the source is zero. For less that costs more
 * than it saves: SEEK_HOLE walks all of a file that has no hole, 8 ms for 1 GiB on tmpfs.
 */
#define CBW_ASK_STATUS         (CBW_MAX_COPY + 1)

typedef struct CbwState {
    BlockChild *target;  /* NULL once it has been removed from the graph */
    BlockNode *tracked;  /* counted; the target, told to track its requests */
    HBitmap *copied;
    CoRangeLock copying;
    int64_t granularity;
    bool inserted;       /* by a job or by replication, which save all of the source */
    bool break_snapshot; /* on-cbw-error=break-snapshot */
    bool snapshot_broken;
    CbwErrorFn *on_error;
    void *on_error_opaque;
} CbwState;

static void
cbw_copy_failed(CbwState *s, int err, int64_t offset)
{
    if (s->on_error) {
        s->on_error(CBW_COPY, err, offset, s->on_error_opaque);
    }
}

/* Copy [@offset, @offset + @bytes), which is not copied yet and is held in `copying`. */
static int coroutine_fn
cbw_co_copy_piece(BlockNode *node, int64_t offset, int64_t bytes)
{
    CbwState *s = node->state;
    ReqFlags flags = REQ_SERIALISING | REQ_WRITE_UNCHANGED; /* C2 */
    struct iovec v;
    void *buf = buf_try_alloc(bytes);
    int r;

    if (!buf) {
        return -ENOMEM;
    }
    r = child_co_preadv(node->file, offset, iov_one(&v, buf, bytes), 0);
    if (r == 0) {
        r = buf_is_zero(buf, bytes)
                ? child_co_pwrite_zeroes(s->target, offset, bytes, flags)
                : child_co_pwritev(s->target, offset, iov_one(&v, buf, bytes), flags);
    }
    buf_free(buf, bytes);
    return r;
}

/* How much from @offset is known to read as zero without reading it. */
static int64_t coroutine_fn
cbw_co_zero_run(BlockNode *node, int64_t offset, int64_t bytes)
{
    BlockStatus st;

    if (bytes < CBW_ASK_STATUS ||
        node_co_block_status_above(node->file->node, NULL, true, offset, bytes, &st, NULL) < 0 ||
        !(st.flags & STATUS_ZERO)) {
        return 0;
    }
    return st.bytes < bytes ? st.bytes : bytes;
}

static int coroutine_fn
cbw_co_copy_run(BlockNode *node, int64_t offset, int64_t bytes)
{
    CbwState *s = node->state;

    while (bytes > 0) {
        int64_t zero = ALIGN_DOWN(cbw_co_zero_run(node, offset, bytes), s->granularity);
        int64_t n = zero ? zero : MIN(bytes, CBW_MAX_COPY);
        int r = zero ? child_co_pwrite_zeroes(s->target, offset, n,
                                              REQ_SERIALISING | REQ_WRITE_UNCHANGED)
                     : cbw_co_copy_piece(node, offset, n);

        if (r < 0) {
            cbw_copy_failed(s, -r, offset);
            return r; /* C4: these bits stay clear */
        }
        hbitmap_set(s->copied, offset, n);
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* Everything of the range that this epoch has not saved yet. */
static int coroutine_fn
cbw_co_copy_missing(BlockNode *node, int64_t start, int64_t end)
{
    CbwState *s = node->state;
    uint64_t at = start;

    while (at < (uint64_t)end) {
        uint64_t from = hbitmap_next_clear(s->copied, at);
        uint64_t to;
        int r;

        if (from >= (uint64_t)end) {
            return 0;
        }
        to = MIN(hbitmap_next_set(s->copied, from), (uint64_t)end);
        r = cbw_co_copy_run(node, from, to - from);
        if (r < 0) {
            return r;
        }
        at = to;
    }
    return 0;
}

/* C1: return 0 only when the old content of the range is in the target. */
static int coroutine_fn
cbw_co_before_write(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    CbwState *s = node->state;
    int64_t start = ALIGN_DOWN(offset, s->granularity);
    int64_t end = MIN(ALIGN_UP(offset + bytes, s->granularity), node_length(node));
    CoRange range;
    int r;

    if (flags & REQ_WRITE_UNCHANGED || s->snapshot_broken ||
        hbitmap_next_clear(s->copied, start) >= (uint64_t)end) {
        return 0;
    }

    co_range_lock(&s->copying, &range, start, end - start, CO_RANGE_EXCLUSIVE);
    r = cbw_co_copy_missing(node, start, end); /* C3: looks at the bits again */
    co_range_unlock(&s->copying, &range);

    if (r < 0 && s->break_snapshot) {
        s->snapshot_broken = true;
        return 0;
    }
    return r;
}

static int coroutine_fn
cbw_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return child_co_preadv(node->file, offset, iov, flags);
}

/* What the source answered. -ENOTSUP is no failure: whoever asked does it in another way. */
static int
cbw_changed(const BlockNode *node, int r, int64_t offset)
{
    const CbwState *s = node->state;

    if (r < 0 && r != -ENOTSUP && s->on_error) {
        s->on_error(CBW_CHANGE, -r, offset, s->on_error_opaque);
    }
    return r;
}

static int coroutine_fn
cbw_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int r = cbw_co_before_write(node, offset, iov.bytes, flags);

    if (r < 0) {
        return r;
    }
    return cbw_changed(node, child_co_pwritev(node->file, offset, iov, flags), offset);
}

static int coroutine_fn
cbw_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    int r = cbw_co_before_write(node, offset, bytes, flags);

    if (r < 0) {
        return r;
    }
    return cbw_changed(node, child_co_pwrite_zeroes(node->file, offset, bytes, flags), offset);
}

static int coroutine_fn
cbw_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    int r = cbw_co_before_write(node, offset, bytes, 0);

    if (r < 0) {
        return r;
    }
    return cbw_changed(node, child_co_pdiscard(node->file, offset, bytes), offset);
}

/* The snapshot first: a source that survives a power cut shall not lack what was saved of it. */
static int coroutine_fn
cbw_co_flush(BlockNode *node)
{
    CbwState *s = node->state;
    int r = s->target && !s->snapshot_broken ? child_co_flush(s->target) : 0;

    if (r < 0) {
        cbw_copy_failed(s, -r, -1);
        if (!s->break_snapshot) {
            return r;
        }
        s->snapshot_broken = true;
    }
    return node->file ? cbw_changed(node, child_co_flush(node->file), -1) : 0;
}

/* What the target can store is its own edge's affair: our user's requests go to "file". */
static void
cbw_refresh_limits(BlockNode *node)
{
    if (node->file) {
        node->limits = node->file->node->limits;
    }
}

static PermPair
cbw_child_perm(BlockNode *node, const BlockChild *child, const char *name, ChildRole role,
               PermPair parents, const NodeFlags *flags)
{
    const CbwState *s = node->state;
    PermPair p;

    if (!(role & CHILD_FILTERED)) {
        /* The target: others may do anything but resize it under us. */
        return (PermPair){.taken = PERM_WRITE, .shared = PERM_ALL & ~PERM_RESIZE};
    }
    p = perm_default_filter(node, child, name, role, parents, flags);
    p.taken |= PERM_CONSISTENT_READ;
    if (s->inserted || p.taken & PERM_WRITE) {
        /* A writer beside us, such as our own target, would change what has not been saved. */
        p.shared &= ~(Perm)(PERM_WRITE | PERM_RESIZE);
    }
    return p;
}

static bool
cbw_init_bitmap(BlockNode *node, int64_t min_granularity, GError **errp)
{
    CbwState *s = node->state;
    BlockInfoData info = {0};
    int64_t g;

    node_get_info(s->target->node, &info);
    if (info.store_granularity > 0 && info.store_granularity < info.cluster_size) {
        g = info.store_granularity;
    } else {
        g = MAX(CBW_COARSE_GRANULARITY, info.cluster_size);
    }
    s->granularity = MAX(g, min_granularity);
    s->copied = hbitmap_new(node_length(node), s->granularity);
    if (!s->copied) {
        return fail(errp, "Not enough memory for the copy bitmap of node '%s'", node->node_name);
    }
    return true;
}

/* C2: from now on requests of the target can be waited for. */
static void
cbw_track(CbwState *s, BlockNode *target)
{
    s->tracked = node_ref(target);
    node_track_requests(target, true);
}

static bool
cbw_check_lengths(BlockNode *file, BlockNode *target, GError **errp)
{
    if (node_length(file) != node_length(target)) {
        return fail(errp,
                    "Source '%s' (%" PRId64 " bytes) and target '%s' (%" PRId64
                    " bytes) differ in length",
                    file->node_name, node_length(file), target->node_name, node_length(target));
    }
    return true;
}

static bool coroutine_fn
cbw_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsCbw *o = &opts->u.copy_before_write;
    CbwState *s = node->state;

    if (o->bitmap) {
        return fail(errp, "Option 'bitmap' of copy-before-write is not supported");
    }
    if (o->has_cbw_timeout && o->cbw_timeout != 0) {
        return fail(errp, "Option 'cbw-timeout' of copy-before-write is not supported");
    }
    if (o->has_min_cluster_size &&
        (o->min_cluster_size > INT32_MAX || (o->min_cluster_size & (o->min_cluster_size - 1)))) {
        return fail(errp, "min-cluster-size needs to be a power of 2, at most 1 GiB");
    }
    if (!node_co_open_child(node, "file", o->file, CHILD_FILTERED, errp) ||
        !node_co_open_child(node, "target", o->target, CHILD_DATA, errp)) {
        return false;
    }
    s->target = node_child(node, "target");
    s->break_snapshot =
        o->has_on_cbw_error && o->on_cbw_error == ON_CBW_ERROR_BREAK_SNAPSHOT;
    if (!cbw_check_lengths(node->file->node, s->target->node, errp)) {
        return false;
    }
    cbw_track(s, s->target->node);
    return cbw_init_bitmap(node, o->has_min_cluster_size ? (int64_t)o->min_cluster_size : 0, errp);
}

static void coroutine_fn
cbw_co_close(BlockNode *node)
{
    CbwState *s = node->state;

    if (s->tracked) {
        node_track_requests(s->tracked, false);
        node_co_unref(s->tracked);
    }
    if (s->copied) {
        hbitmap_free(s->copied);
    }
}

const BlockDriver driver_copy_before_write = {
    .name = "copy-before-write",
    .state_size = sizeof(CbwState),
    .is_filter = true,
    .flush_does_children = true,
    .co_open = cbw_co_open,
    .co_close = cbw_co_close,
    .child_perm = cbw_child_perm,
    .refresh_limits = cbw_refresh_limits,
    .co_preadv = cbw_co_preadv,
    .co_pwritev = cbw_co_pwritev,
    .co_pwrite_zeroes = cbw_co_pwrite_zeroes,
    .co_pdiscard = cbw_co_pdiscard,
    .co_flush = cbw_co_flush,
};

/* --- inserted at run time --- */

static bool coroutine_fn
cbw_co_link(BlockNode *cbw, BlockNode *source, BlockNode *target, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    graph_tx_attach(tx, cbw, "file", source, CHILD_FILTERED);
    graph_tx_attach(tx, cbw, "target", target, CHILD_DATA);
    /* Edges below the target keep pointing at the source: that is what it copies for. */
    graph_tx_replace_node(tx, source, cbw, NULL);
    return graph_tx_co_commit(tx, errp);
}

BlockNode *coroutine_fn
cbw_co_insert(BlockNode *source, BlockNode *target, const CbwOptions *o, GError **errp)
{
    NodeFlags flags = source->flags;
    BlockNode *cbw;
    CbwState *s;

    if (!cbw_check_lengths(source, target, errp)) {
        return NULL;
    }
    flags.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    cbw = node_new_internal(&driver_copy_before_write, o->node_name, &flags, errp);
    if (!cbw) {
        return NULL;
    }
    s = cbw->state;
    s->inserted = true;
    /* In place and usable before a request can meet the filter. */
    drain_co_begin(source);
    drain_co_begin(target);
    cbw_track(s, target);
    drain_end(target);
    if (!cbw_co_link(cbw, source, target, errp)) {
        drain_end(source);
        node_co_unref(cbw);
        return NULL;
    }
    s->target = node_child(cbw, "target");
    if (!cbw_init_bitmap(cbw, o->min_granularity, errp)) {
        cbw_co_remove(cbw);
        cbw = NULL;
    }
    drain_end(source);
    return cbw;
}

void
cbw_tx_remove(GraphTx *tx, BlockNode *cbw)
{
    CbwState *s = cbw->state;

    graph_tx_remove_filter(tx, cbw);
    graph_tx_detach(tx, s->target);
}

void coroutine_fn
cbw_co_forget(BlockNode *cbw)
{
    CbwState *s = cbw->state;

    assert(!cbw->file);
    s->target = NULL;
    node_co_unref(cbw);
}

void coroutine_fn
cbw_co_remove(BlockNode *cbw)
{
    GraphTx *tx = graph_tx_new();
    GError *err = NULL;

    cbw_tx_remove(tx, cbw);
    if (!graph_tx_co_commit(tx, &err)) {
        /* Giving up permissions cannot conflict. */
        g_error("removing filter '%s': %s", cbw->node_name, err->message);
    }
    cbw_co_forget(cbw);
}

void
cbw_new_epoch(BlockNode *cbw)
{
    CbwState *s = cbw->state;

    assert(cbw->in_flight == 0);
    hbitmap_reset_all(s->copied);
    s->snapshot_broken = false;
}

uint64_t
cbw_copied_bytes(const BlockNode *cbw)
{
    const CbwState *s = cbw->state;

    return hbitmap_count(s->copied);
}

void
cbw_set_error_callback(BlockNode *cbw, CbwErrorFn *fn, void *opaque)
{
    CbwState *s = cbw->state;

    s->on_error = fn;
    s->on_error_opaque = opaque;
}
