/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the image says of itself: block status, specific information, backing file. */
#include "qcow2.h"
#include "scratch.h"

static void status_of_extent(const Qcow2 *q, const Qcow2Extent *e, BlockStatus *ret)
{
    *ret = (BlockStatus){.bytes = (int64_t)e->bytes};
    switch (e->type) {
    case QCOW2_UNALLOCATED:
        break;
    case QCOW2_ZERO_PLAIN:
        ret->flags = STATUS_ZERO | STATUS_ALLOCATED;
        break;
    case QCOW2_COMPRESSED:
        ret->flags = STATUS_DATA | STATUS_COMPRESSED | STATUS_ALLOCATED;
        break;
    case QCOW2_ZERO_ALLOC:
        ret->flags = STATUS_ZERO | STATUS_OFFSET_VALID | STATUS_ALLOCATED;
        break;
    case QCOW2_DATA:
        ret->flags = STATUS_DATA | STATUS_OFFSET_VALID | STATUS_ALLOCATED |
                     (q->given_ahead ? STATUS_RECURSE : 0);
        break;
    }
    if (ret->flags & STATUS_OFFSET_VALID) {
        ret->map = (int64_t)e->host;
        ret->file = qcow2_file(q)->node;
    }
}

static void status_of_run(const Qcow2 *q, const ScratchRun *run, BlockStatus *ret)
{
    *ret = (BlockStatus){.bytes = (int64_t)run->bytes};
    if (run->state == SCRATCH_DATA) {
        ret->flags = STATUS_DATA | STATUS_OFFSET_VALID | STATUS_ALLOCATED;
        ret->map = (int64_t)run->host;
        ret->file = qcow2_file(q)->node;
    } else if (run->state == SCRATCH_ZERO) {
        ret->flags = STATUS_ZERO | STATUS_ALLOCATED;
    }
}

static int coroutine_fn count_used(Qcow2 *q, uint64_t clusters, uint64_t most, uint64_t *ret)
{
    *ret = 0;
    CO_LOCK_GUARD(&q->meta_lock);
    for (uint64_t i = 0; i < clusters && *ret < most; i++) {
        uint64_t count;
        int r = qcow2_co_refcount_get(q, i, &count);

        if (r < 0) {
            return r;
        }
        *ret += count != 0;
    }
    return 0;
}

/*
 * Do many clusters in use have no place on the disk? Then they were given out ahead, as by
 * preallocation=metadata, and it is worth to ask the file for holes in them. In other images the
 * tail of a cluster that was written in part counts as data. Where the line is drawn is QEMU's:
 * a ninth of the clusters on the disk, and two.
 */
static bool coroutine_fn is_given_ahead(Qcow2 *q)
{
    int64_t length = node_length(qcow2_file(q)->node);
    int64_t stored = qcow2_co_allocated_size(q->node);
    uint64_t on_disk, most, used;

    if (stored < 0) {
        return false;
    }
    on_disk = (uint64_t)stored / q->cluster_size;
    most = MAX(on_disk * 10 / 9, on_disk + 2);
    return count_used(q, (uint64_t)length / q->cluster_size, most, &used) == 0 && used >= most;
}

int coroutine_fn qcow2_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                       int64_t bytes, BlockStatus *ret)
{
    Qcow2 *q = qcow2_of(node);
    Qcow2Extent e;
    int r;

    if (!qcow2_is_usable(q)) {
        return -EIO;
    }
    if (q->scratch) {
        ScratchRun run;

        scratch_run(q, (uint64_t)offset, (uint64_t)bytes, &run);
        status_of_run(q, &run, ret);
        return 0;
    }
    if (want_zero && !q->given_ahead_known) {
        q->given_ahead = is_given_ahead(q);
        q->given_ahead_known = true;
    }
    r = qcow2_co_map(q, (uint64_t)offset, (uint64_t)bytes, &e);
    if (r == 0) {
        status_of_extent(q, &e, ret);
    }
    return r;
}

int64_t coroutine_fn qcow2_co_allocated_size(BlockNode *node)
{
    BlockNode *file = node_skip_filters(node->file->node);

    return file->drv->co_allocated_size ? file->drv->co_allocated_size(file) : -ENOTSUP;
}

ImageInfoSpecific *coroutine_fn qcow2_co_specific_info(BlockNode *node, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificQcow2 *data = g_new0(ImageInfoSpecificQcow2, 1);

    info->u.qcow2.data = data;
    info->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    data->compat = g_strdup(q->h.version < 3 ? "0.10" : "1.1");
    data->refcount_bits = 1 << q->h.refcount_order;
    data->compression_type = (Qcow2CompressionType)q->h.compression_type;
    if (q->h.version >= 3) {
        data->has_lazy_refcounts = true;
        data->lazy_refcounts = (q->h.compatible & QCOW2_COMPAT_LAZY) != 0;
        data->has_corrupt = true;
        data->corrupt = (q->h.incompatible & QCOW2_INCOMPAT_CORRUPT) != 0;
        data->has_extended_l2 = true;
    }
    return info;
}

static void set_backing(Qcow2 *q, char *file, char *format)
{
    q->h.backing_file = file;
    q->h.backing_format = format;
}

bool coroutine_fn
qcow2_co_change_backing(BlockNode *node, const char *file, const char *format, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    char *old_file = q->h.backing_file, *old_format = q->h.backing_format;
    int r;

    if (file && strlen(file) > QCOW2_BACKING_NAME_MAX) {
        return fail(errp, "Backing file name too long");
    }
    if (format && strlen(format) > QCOW2_BACKING_FORMAT_MAX) {
        return fail(errp, "Backing format name too long");
    }
    set_backing(q, file && *file ? g_strdup(file) : NULL,
                file && *file && format && *format ? g_strdup(format) : NULL);
    r = qcow2_co_write_header(q);
    if (r == 0) {
        r = child_co_flush(qcow2_file(q));
    }
    if (r < 0) {
        g_free(q->h.backing_file);
        g_free(q->h.backing_format);
        set_backing(q, old_file, old_format);
        return fail_errno(errp, -r, "Could not update the backing file of the image");
    }
    g_free(old_file);
    g_free(old_format);
    g_free(node->header_backing_file);
    g_free(node->header_backing_format);
    node->header_backing_file = g_strdup(q->h.backing_file);
    node->header_backing_format = g_strdup(q->h.backing_format);
    return true;
}
