/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handlers of qapi/block.json: nodes and drives. */
#include "block/blockdev.h"
#include "block/driver.h"
#include "block/export.h"
#include "block/info.h"
#include "qapi/commands.h"
#include "qapi/walk.h"
#include "util/error.h"

bool coroutine_fn
qmp_blockdev_add(const BlockdevOptions *args, GError **errp)
{
    return blockdev_co_add(args, errp);
}

bool coroutine_fn
qmp_blockdev_del(const QmpBlockdevDelArgs *args, GError **errp)
{
    return blockdev_co_del(args->node_name, errp);
}

bool coroutine_fn
qmp_blockdev_reopen(const QmpBlockdevReopenArgs *args, GError **errp)
{
    return blockdev_co_reopen(args->options, args->n_options, errp);
}

/*
 * Rows of a query. Making a row may yield, so what it is about is looked up
 * anew by name for each.
 */
static GPtrArray *
node_names(void)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (BlockNode *n = node_first(); n; n = node_next(n)) {
        g_ptr_array_add(names, g_strdup(n->node_name));
    }
    return names;
}

static GPtrArray *
drive_ids(void)
{
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);

    for (BlockBackend *be = backend_first(); be; be = backend_next(be)) {
        if (*backend_name(be)) {
            g_ptr_array_add(ids, g_strdup(backend_name(be)));
        }
    }
    return ids;
}

BlockInfoArray *coroutine_fn
qmp_query_block(GError **errp)
{
    g_autoptr(GPtrArray) ids = drive_ids();
    g_autoptr(BlockInfoArray) rows = g_new0(BlockInfoArray, 1);

    rows->items = g_new0(BlockInfo *, ids->len);
    for (guint i = 0; i < ids->len; i++) {
        BlockBackend *be = backend_find(ids->pdata[i]);
        BlockInfo *row = be ? info_co_drive(be, errp) : NULL;

        if (be && !row) {
            return NULL;
        }
        if (row) {
            rows->items[rows->n++] = row;
        }
    }
    return g_steal_pointer(&rows);
}

BlockDeviceInfoArray *coroutine_fn
qmp_query_named_block_nodes(const QmpQueryNamedBlockNodesArgs *args, GError **errp)
{
    g_autoptr(GPtrArray) names = node_names();
    g_autoptr(BlockDeviceInfoArray) rows = g_new0(BlockDeviceInfoArray, 1);

    rows->items = g_new0(BlockDeviceInfo *, names->len);
    for (guint i = 0; i < names->len; i++) {
        BlockNode *node = node_find(names->pdata[i]);
        BlockDeviceInfo *row = NULL;

        if (!node) {
            continue;
        }
        node_ref(node);
        row = info_co_node(node, NULL, args->flat, errp);
        node_co_unref(node);
        if (!row) {
            return NULL;
        }
        rows->items[rows->n++] = row;
    }
    return g_steal_pointer(&rows);
}

BlockStatsArray *coroutine_fn
qmp_query_blockstats(const QmpQueryBlockstatsArgs *args, GError **errp)
{
    GPtrArray *rows = g_ptr_array_new();
    BlockStatsArray *ret = g_new0(BlockStatsArray, 1);

    if (args->query_nodes) {
        for (BlockNode *n = node_first(); n; n = node_next(n)) {
            g_ptr_array_add(rows, info_node_stats(n));
        }
    } else {
        for (BlockBackend *be = backend_first(); be; be = backend_next(be)) {
            if (*backend_name(be)) {
                g_ptr_array_add(rows, info_drive_stats(be));
            }
        }
    }
    ret->n = rows->len;
    ret->items = (BlockStats **)g_ptr_array_free(rows, FALSE);
    return ret;
}

typedef struct Boundaries {
    const char *name;
    bool given;
    const uint64_t *list;
    size_t n;
} Boundaries;

bool coroutine_fn
qmp_block_latency_histogram_set(const QmpBlockLatencyHistogramSetArgs *a, GError **errp)
{
    const Boundaries all = { "all", a->has_boundaries, a->boundaries, a->n_boundaries };
    Boundaries of[ACCT__MAX] = {
        [ACCT_READ] = { "read", a->has_boundaries_read, a->boundaries_read,
                        a->n_boundaries_read },
        [ACCT_WRITE] = { "write", a->has_boundaries_write, a->boundaries_write,
                         a->n_boundaries_write },
        [ACCT_ZONE_APPEND] = { "zone append", a->has_boundaries_zap, a->boundaries_zap,
                               a->n_boundaries_zap },
        [ACCT_FLUSH] = { "flush", a->has_boundaries_flush, a->boundaries_flush,
                         a->n_boundaries_flush },
    };
    BlockBackend *be = backend_find(a->id);
    bool any = false;

    be = be ? be : export_backend(a->id);
    if (!be) {
        return fail_class(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", a->id);
    }
    for (AcctType t = 0; t < ACCT__MAX; t++) {
        if (!of[t].name) {
            continue;
        }
        if (!of[t].given) {
            of[t].given = all.given;
            of[t].list = all.list;
            of[t].n = all.n;
        }
        if (!acct_boundaries_are_valid(of[t].list, of[t].n)) {
            return fail(errp,
                        "Device '%s' set %s boundaries fail: want at most %u, ascending, above 0",
                        a->id, of[t].name, ACCT_BOUNDARIES_MAX);
        }
        any |= of[t].given;
    }
    for (AcctType t = 0; t < ACCT__MAX; t++) {
        if (of[t].given || !any) {
            backend_set_histogram(be, t, of[t].given ? of[t].list : NULL, of[t].n);
        }
    }
    return true;
}

bool coroutine_fn
qmp_block_resize(const QmpBlockResizeArgs *args, GError **errp)
{
    BlockNode *node;
    bool ok;

    if (!args->device == !args->node_name) {
        return fail(errp, "Need exactly one of 'device' and 'node-name'");
    }
    node = node_lookup(args->device ? args->device : args->node_name, NULL);
    if (!node) {
        return fail(errp, "Cannot find device='%s' nor node-name='%s'",
                    args->device ? args->device : "", args->node_name ? args->node_name : "");
    }
    if (args->size < 0) {
        return fail(errp, "Parameter 'size' expects a >0 size");
    }
    node_ref(node);
    ok = block_co_resize(node, args->size, errp);
    node_co_unref(node);
    return ok;
}

XDbgBlockGraph *coroutine_fn
qmp_x_debug_query_block_graph(GError **errp)
{
    json_t *graph = info_graph_edges();
    XDbgBlockGraph *ret = x_dbg_block_graph_from_json(graph, errp);

    json_decref(graph);
    return ret;
}

/* --- quorum --- */

static bool coroutine_fn
add_child(BlockNode *parent, const char *name, GError **errp)
{
    BlockNode *node = node_find(name);
    bool ok;

    if (!node) {
        return fail(errp, "Node '%s' not found", name);
    }
    if (!parent->drv->co_add_child) {
        return fail(errp, "The node %s does not support adding a child", parent->node_name);
    }
    if (node->first_parent) {
        return fail(errp, "The node %s already has a parent", node->node_name);
    }
    node_ref(node); /* the parent is drained first: another client may delete it meanwhile */
    ok = parent->drv->co_add_child(parent, node, errp);
    node_co_unref(node);
    return ok;
}

static bool coroutine_fn
del_child(BlockNode *parent, const char *name, GError **errp)
{
    BlockChild *child = node_child(parent, name);

    if (!child) {
        return fail(errp, "Node '%s' does not have child '%s'", parent->node_name, name);
    }
    if (!parent->drv->co_del_child) {
        return fail(errp, "The node %s does not support removing a child", parent->node_name);
    }
    return parent->drv->co_del_child(parent, child, errp);
}

bool coroutine_fn
qmp_x_blockdev_change(const QmpXBlockdevChangeArgs *args, GError **errp)
{
    BlockNode *parent = node_lookup(args->parent, errp);
    bool ok;

    if (!parent) {
        return false;
    }
    if (args->child && args->node) {
        return fail(errp, "The parameters child and node are in conflict");
    }
    if (!args->child && !args->node) {
        return fail(errp, "Either child or node must be specified");
    }
    node_ref(parent);
    ok = args->node ? add_child(parent, args->node, errp) : del_child(parent, args->child, errp);
    node_co_unref(parent);
    return ok;
}
