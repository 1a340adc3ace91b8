/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2: images in the qcow2 format, versions 2 and 3.
 *
 * This file opens, closes and reopens them; the table at its end names the
 * rest. Refused by name: encryption, external data files, extended L2 entries,
 * and for writing: internal snapshots, persistent bitmaps.
 */
#include "qapi/drivers.h"

#include "qcow2.h"
#include "scratch.h"

/* --- what keeps an image from being written --- */

static bool check_writable(const Qcow2 *q, GError **errp)
{
    if (q->h.incompatible & QCOW2_INCOMPAT_CORRUPT && !q->node->flags.repair) {
        return fail(errp, "qcow2: Image is corrupt; cannot be opened read/write");
    }
    if (q->h.nb_snapshots > 0) {
        return fail(errp, "Images with internal snapshots can only be opened read-only");
    }
    if (q->h.has_bitmaps) {
        return fail(errp, "Images with persistent bitmaps can only be opened read-only");
    }
    return true;
}

bool coroutine_fn qcow2_co_become_writable(Qcow2 *q, GError **errp)
{
    int r;

    CO_LOCK_GUARD(&q->writable_lock);

    if (q->writable) {
        return true;
    }
    if (!check_writable(q, errp)) {
        return false;
    }
    if (q->h.incompatible & QCOW2_INCOMPAT_DIRTY && !q->node->flags.repair &&
        !qcow2_co_repair(q, errp)) {
        return false;
    }
    r = qcow2_co_clear_autoclear(q);
    if (r < 0) {
        return fail_errno(errp, -r, "Could not update the qcow2 header");
    }
    q->writable = true;
    return true;
}

/* --- life --- */

static void describe_backing(BlockNode *node, const Qcow2Header *h)
{
    node->header_backing_file = g_strdup(h->backing_file);
    node->header_backing_format = g_strdup(h->backing_format);
}

/* The policy starts by itself only where it destroys nothing. */
static bool coroutine_fn start_scratch(Qcow2 *q, GError **errp)
{
    int r;

    if (!q->want_scratch || q->node->flags.read_only || !qcow2_is_empty(q)) {
        return true;
    }
    r = scratch_co_begin(q);
    return r == 0 || fail_errno(errp, -r, "Could not start the scratch policy");
}

static bool coroutine_fn qcow2_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsQcow2 *o = &opts->u.qcow2;
    Qcow2 *q = qcow2_of(node);

    if (!node_co_open_child(node, "file", o->file, CHILD_IMAGE, errp)) {
        return false;
    }
    q->node = node;
    if (!qcow2_co_load(q, o, errp)) {
        return false;
    }
    qcow2_take_options(q, o, &node->flags);
    node->length = (int64_t)q->h.size;
    node->supported_zero_flags = REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    if (!node->flags.read_only && !qcow2_co_become_writable(q, errp)) {
        return false;
    }
    describe_backing(node, &q->h);
    return start_scratch(q, errp);
}

static void coroutine_fn qcow2_co_close(BlockNode *node)
{
    Qcow2 *q = qcow2_of(node);

    if (q->node && q->writable && !q->corrupt && !q->half_empty) {
        /* What fails here leaves the image dirty, or with leaks. */
        if (q->scratch) {
            (void)!scratch_co_end(q);
        } else {
            (void)!qcow2_co_settle(q);
        }
    }
    scratch_free(q);
    qcow2_unload(q);
}

/* --- reopening --- */

/* Slices have one length for as long as the image is open. */
static bool check_reopen(const Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp)
{
    return qcow2_check_options(q, o, errp) &&
           (qcow2_l2_slice_bits(q, o) == q->l2_slice_bits ||
            fail(errp, "Cannot change the option 'l2-cache-entry-size' of node '%s'",
                 q->node->node_name));
}

static bool coroutine_fn qcow2_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    const BlockdevOptionsQcow2 *o = rs->opts ? &rs->opts->u.qcow2 : NULL;
    int r = 0;

    if (o && !check_reopen(q, o, errp)) {
        return false;
    }
    if (!rs->flags.read_only && node->flags.read_only) {
        return check_writable(q, errp);
    }
    if (rs->flags.read_only && !node->flags.read_only && q->writable) {
        r = q->scratch ? scratch_co_end(q) : qcow2_co_settle(q);
    }
    return r == 0 || fail_errno(errp, -r, "Could not write back the image");
}

static void qcow2_reopen_commit(BlockNode *node, ReopenState *rs)
{
    Qcow2 *q = qcow2_of(node);

    if (rs->opts) {
        qcow2_take_options(q, &rs->opts->u.qcow2, &rs->flags);
    }
}

/* --- the rest --- */

static void qcow2_refresh_limits(BlockNode *node)
{
    const Qcow2 *q = qcow2_of(node);

    node->limits.pwrite_zeroes_alignment = (uint32_t)q->cluster_size;
    node->limits.pdiscard_alignment = (uint32_t)q->cluster_size;
}

static void qcow2_get_info(BlockNode *node, BlockInfoData *ret)
{
    const Qcow2 *q = qcow2_of(node);

    ret->cluster_size = (int64_t)q->cluster_size;
    ret->store_granularity =
        (int64_t)(q->scratch ? scratch_sub_bytes(q->scratch) : q->cluster_size);
    if (q->scratch) {
        ret->scratch_bytes = (int64_t)(q->scratch->map.stored << q->scratch->sub_bits);
    }
    ret->is_dirty = (q->h.incompatible & QCOW2_INCOMPAT_DIRTY) != 0;
}

static bool coroutine_fn qcow2_co_scratch_begin(BlockNode *node, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    int r;

    if (node->flags.read_only) {
        return fail(errp, "'%s' is read-only", node->node_name);
    }
    if (!qcow2_co_become_writable(q, errp)) {
        return false;
    }
    r = scratch_co_begin(q);
    return r == 0 || fail_errno(errp, -r, "Could not empty '%s'", node->node_name);
}

static void qcow2_scratch_empty(BlockNode *node)
{
    scratch_empty(qcow2_of(node));
}

static int coroutine_fn qcow2_co_scratch_end(BlockNode *node)
{
    return scratch_co_end(qcow2_of(node));
}

static int qcow2_probe(const uint8_t *head, size_t bytes, const char *filename)
{
    if (bytes < 8 || qcow2_get32(head) != QCOW2_MAGIC) {
        return 0;
    }
    return qcow2_get32(head + 4) >= 2 ? 100 : 0;
}

const BlockDriver driver_qcow2 = {
    .name = "qcow2",
    .state_size = sizeof(Qcow2),
    .is_format = true,
    .supports_backing = true,
    .stores_length = true,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .reopen_commit = qcow2_reopen_commit,
    .co_preadv = qcow2_co_preadv,
    .co_pwritev = qcow2_co_pwritev,
    .co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .co_pdiscard = qcow2_co_pdiscard,
    .co_flush = qcow2_co_flush,
    .flush_does_children = true,
    .co_block_status = qcow2_co_block_status,
    .co_copy_range_from = qcow2_co_copy_range_from,
    .co_truncate = qcow2_co_truncate,
    .co_allocated_size = qcow2_co_allocated_size,
    .co_make_empty = qcow2_co_make_empty,
    .co_scratch_begin = qcow2_co_scratch_begin,
    .scratch_empty = qcow2_scratch_empty,
    .co_scratch_end = qcow2_co_scratch_end,
    .refresh_limits = qcow2_refresh_limits,
    .get_info = qcow2_get_info,
    .co_specific_info = qcow2_co_specific_info,
    .co_check = qcow2_co_check,
    .co_change_backing = qcow2_co_change_backing,
    .probe = qcow2_probe,
    .co_create = qcow2_co_create,
};
