/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing what a node is as a whole: its length, or to have no content.
 *
 * The driver keeps node->length true, and what is new reads as zeroes from the
 * moment at which it is part of that.
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
    ok = resize(node, length, exact, prealloc, flags, errp);
    node->write_gen++;
    if (ok) {
        notify_resized(node);
    }
    return ok;
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
