/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes that users make, reopen, resize and delete by name.
 */
#include "block/blockdev.h"

#include <string.h>

#include "core.h"
#include "qapi/walk.h"
#include "util/error.h"

/* --- add --- */

static bool give_to_monitor(BlockNode *node)
{
    if (node) {
        node->p->monitor_owned = true;
    }
    return node != NULL;
}

bool coroutine_fn blockdev_co_add(const BlockdevOptions *opts, GError **errp)
{
    if (!opts->node_name) {
        return fail(errp, "'node-name' must be specified for the root node");
    }
    return give_to_monitor(node_co_open(opts, NULL, errp));
}

bool coroutine_fn blockdev_co_add_json(const json_t *opts, GError **errp)
{
    if (!json_object_get(opts, "node-name")) {
        return fail(errp, "'node-name' needs to be specified");
    }
    return give_to_monitor(node_co_open_json(opts, NULL, errp));
}

/* --- delete --- */

static bool check_parents(const BlockNode *node, GError **errp)
{
    for (const BlockChild *c = node->first_parent; c; c = c->next_parent) {
        if (c->parent_backend) {
            return fail(errp, "Node %s is in use", node->node_name);
        }
        if (c->role & CHILD_COW) {
            return fail(errp, "Node '%s' is busy: node is used as backing hd of '%s'",
                        node->node_name, c->parent->node_name);
        }
        return fail(errp, "Block device %s is in use", node->node_name);
    }
    return true;
}

static bool check_deletable(BlockNode *node, GError **errp)
{
    if (op_blocked(node, BLOCK_OP_DRIVE_DEL, errp) || !check_parents(node, errp)) {
        return false;
    }
    if (!node->p->monitor_owned) {
        return fail(errp, "Node %s is not owned by the monitor", node->node_name);
    }
    if (node->p->blockers || node->p->refs > 1) {
        return fail(errp, "Block device %s is in use", node->node_name);
    }
    return true;
}

static BlockNode *find_named(const char *node_name, GError **errp)
{
    BlockNode *node = node_find(node_name);

    if (!node) {
        fail(errp, "Failed to find node with node-name='%s'", node_name);
    }
    return node;
}

static void coroutine_fn take_from_monitor(BlockNode *node)
{
    node->p->monitor_owned = false;
    node_co_unref(node);
}

bool coroutine_fn blockdev_co_del(const char *node_name, GError **errp)
{
    BlockNode *node = find_named(node_name, errp);

    if (!node || !check_deletable(node, errp)) {
        return false;
    }
    take_from_monitor(node);
    return true;
}

static BlockNode *newest_of_monitor(void)
{
    BlockNode *n = node_last_any();

    while (n && !(n->p->open && n->p->monitor_owned)) {
        n = n->p->prev;
    }
    return n;
}

void coroutine_fn blockdev_co_close_all(void)
{
    BlockNode *node;

    drive_co_del_all();
    while ((node = newest_of_monitor())) {
        take_from_monitor(node);
    }
}

/* --- reopen --- */

/* What a reopen says about one child. */
typedef enum Wish {
    WISH_SAME,
    WISH_OTHER, /* the node in *ret_to */
    WISH_NONE,
    WISH_WRONG, /* refused, errp is set */
} Wish;

static bool
same_definition(const BlockdevOptions *before, const BlockdevOptions *now, const char *key)
{
    json_t *a = blockdev_options_to_json(before), *b = blockdev_options_to_json(now);
    bool same = json_equal(json_object_get(a, key), json_object_get(b, key));

    json_decref(a);
    json_decref(b);
    return same;
}

static Wish
wish_of_reference(const BlockChild *edge, const char *name, BlockNode **ret_to, GError **errp)
{
    BlockNode *to = node_lookup(name, errp);

    if (!to) {
        return WISH_WRONG;
    }
    *ret_to = to;
    return edge && edge->node == to ? WISH_SAME : WISH_OTHER;
}

static Wish
wish_of_definition(BlockNode *node, const BlockdevOptions *opts, const char *key, GError **errp)
{
    if (node->p->opts && same_definition(node->p->opts, opts, key)) {
        return WISH_SAME;
    }
    fail(errp, "Cannot change the option '%s' of node '%s': name a node to replace it", key,
         node->node_name);
    return WISH_WRONG;
}

static Wish
wish_for_file(BlockNode *node, const BlockdevOptions *opts, BlockNode **ret_to, GError **errp)
{
    const BlockdevRef *ref = options_member(opts, "file");

    if (!ref || !node->file) {
        return WISH_SAME;
    }
    return ref->kind == BLOCKDEV_REF_REFERENCE
               ? wish_of_reference(node->file, ref->u.reference, ret_to, errp)
               : wish_of_definition(node, opts, "file", errp);
}

static Wish
wish_for_backing(BlockNode *node, const BlockdevOptions *opts, BlockNode **ret_to, GError **errp)
{
    const BlockdevRefOrNull *ref = options_member(opts, "backing");

    if (!ref && node->backing) {
        fail(errp, "backing is missing for '%s'", node->node_name);
        return WISH_WRONG;
    }
    if (!ref) {
        return WISH_SAME;
    }
    switch (ref->kind) {
    case BLOCKDEV_REF_OR_NULL_NULL:
        return node->backing ? WISH_NONE : WISH_SAME;
    case BLOCKDEV_REF_OR_NULL_REFERENCE:
        return wish_of_reference(node->backing, ref->u.reference, ret_to, errp);
    case BLOCKDEV_REF_OR_NULL_DEFINITION:
        return wish_of_definition(node, opts, "backing", errp);
    }
    g_assert_not_reached();
}

static bool
add_wish(GraphTx *tx, BlockNode *node, BlockChild *edge, Wish wish, BlockNode *to, GError **errp)
{
    if (wish != WISH_SAME && wish != WISH_WRONG && op_blocked(node, BLOCK_OP_CHANGE, errp)) {
        return false; /* who works with @node relies on what is below it */
    }
    switch (wish) {
    case WISH_SAME:
        return true;
    case WISH_OTHER:
        if (edge) {
            graph_tx_set_child(tx, edge, to);
        } else {
            graph_tx_attach(tx, node, "backing", to, CHILD_COW);
        }
        return true;
    case WISH_NONE:
        graph_tx_detach(tx, edge);
        return true;
    case WISH_WRONG:
        return false;
    }
    g_assert_not_reached();
}

static bool add_reopen(GraphTx *tx, const BlockdevOptions *opts, GError **errp)
{
    BlockNode *node, *file = NULL, *backing = NULL;
    Wish wish;

    if (!opts->node_name) {
        return fail(errp, "node-name not specified");
    }
    node = find_named(opts->node_name, errp);
    if (!node) {
        return false;
    }
    if (!node->p->opts || node->p->opts->driver != opts->driver) {
        return fail(errp, "Cannot change the option 'driver' of node '%s'", node->node_name);
    }
    wish = wish_for_file(node, opts, &file, errp);
    if (!add_wish(tx, node, node->file, wish, file, errp)) {
        return false;
    }
    if ((node->backing || node->header_backing_file) && !options_member(opts, "backing")) {
        return fail(errp, "backing is missing for '%s'", node->node_name);
    }
    wish = wish_for_backing(node, opts, &backing, errp);
    if (!add_wish(tx, node, node->backing, wish, backing, errp)) {
        return false;
    }
    graph_tx_reopen(tx, node, opts);
    return true;
}

/* A format's file may be another one, of another length; names may have changed. */
static void coroutine_fn refresh_reopened(BlockdevOptions *const *opts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        BlockNode *node = node_find(opts[i]->node_name);

        if (!node) {
            continue;
        }
        node_ref(node);
        if (node->drv->co_refresh_length) {
            /* What the new options allow was checked; requests fail where the file does. */
            (void)node->drv->co_refresh_length(node, NULL);
        }
        filename_refresh(node);
        node_co_unref(node);
    }
}

bool coroutine_fn blockdev_co_reopen(BlockdevOptions *const *opts, size_t n, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    for (size_t i = 0; i < n; i++) {
        if (!add_reopen(tx, opts[i], errp)) {
            graph_tx_co_drop(tx);
            return false;
        }
    }
    if (!graph_tx_co_commit(tx, errp)) {
        return false;
    }
    refresh_reopened(opts, n);
    return true;
}

/* --- resize --- */

bool coroutine_fn block_co_resize(BlockNode *node, int64_t size, GError **errp)
{
    PermPair perm = {.taken = PERM_RESIZE, .shared = PERM_ALL};
    BlockBackend *be;
    bool ok;

    if (size < 0) {
        return fail(errp, "Parameter 'size' expects a >0 size");
    }
    if (op_blocked(node, BLOCK_OP_RESIZE, errp)) {
        return false;
    }
    be = backend_new(NULL, perm, NULL, NULL, errp);
    if (!be) {
        return false;
    }
    ok = backend_co_insert(be, node, errp) &&
         backend_co_truncate(be, size, false, BLOCK_PREALLOC_OFF, 0, errp);
    backend_co_free(be);
    return ok;
}
