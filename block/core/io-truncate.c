/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing what a node is as a whole: its length, or to have no content.
 *
 * The driver keeps node->length true. Growing an overlay under which a longer
 * backing file lies must not uncover that file's data: what is new reads zero.
 */
#include "io-internal.h"

static bool coroutine_fn resize(BlockNode *node, int64_t length, bool exact,
                                BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    bool ok;

    if (!node->drv->co_truncate) {
        return fail(errp, "Image format driver does not support resize");
    }
    node_request_begin(node);
    ok = node->drv->co_truncate(node, length, exact, prealloc, flags, errp);
    node_request_end(node);
    return ok;
}

/* Backing data that a longer node would show at [@old, @length). */
static int64_t uncovered_bytes(BlockNode *node, int64_t old, int64_t length)
{
    BlockNode *below = node->backing ? node->backing->node : NULL;
    int64_t end = below ? MIN(node_length(below), length) : 0;

    return MAX(end - old, 0);
}

/* Tell the users of @node, and of the filters above that have no length of their own. */
static void notify_resized(BlockNode *node)
{
    for (BlockChild *c = node->first_parent; c; c = c->next_parent) {
        BlockBackend *be = c->parent_backend;

        if (be && be->ops && be->ops->resized) {
            be->ops->resized(be->opaque);
        }
        if (c->parent && c->parent->file == c && c->parent->drv->is_filter &&
            !c->parent->drv->own_length) {
            notify_resized(c->parent);
        }
    }
}

bool coroutine_fn io_co_truncate(BlockNode *node, int64_t length, bool exact,
                                 BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    int64_t old, uncovered;
    bool ok;

    while (!node->drv->co_truncate && node->drv->is_filter && node->file) {
        if (node->flags.read_only) {
            break;
        }
        node = node->file->node;
    }
    if (node->flags.read_only) {
        return fail(errp, "Image is read-only");
    }
    if (length < 0 || length > BLOCK_MAX_LENGTH) {
        return fail(errp, "Required too big image size, it must be not greater than %lld",
                    (long long)BLOCK_MAX_LENGTH);
    }
    old = node_length(node);
    ok = resize(node, length, exact, prealloc, flags, errp);
    node->write_gen++;
    if (!ok) {
        return false;
    }
    notify_resized(node);
    uncovered = uncovered_bytes(node, old, length);
    if (uncovered > 0) {
        int r = io_co_pwrite_zeroes(node, (IoRights){0}, old, uncovered, 0);

        if (r < 0) {
            return fail_errno(errp, -r, "Could not clear the new part of '%s'", node->node_name);
        }
    }
    return true;
}

int coroutine_fn node_co_make_empty(BlockNode *node)
{
    int r;

    while (!node->drv->co_make_empty && node->drv->is_filter && node->file) {
        node = node->file->node;
    }
    if (node->flags.read_only) {
        return -EPERM;
    }
    if (!node->drv->co_make_empty) {
        return -ENOTSUP;
    }
    node_request_begin(node);
    r = io_answer(node->drv->co_make_empty(node));
    node_request_end(node);
    node->write_gen++;
    return r;
}
