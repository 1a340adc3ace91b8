/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backends: who they are, what they stand on, what they may do. Their requests
 * are in backend-io.c.
 */
#include "acct.h"

#include "util/error.h"
#include "util/fault.h"

static BlockBackend *backends_first, *backends_last;
static GHashTable *backends_by_name; /* those with a name; made with the first */
static uint64_t order_counter;

/* --- names --- */

static bool check_name(const char *name, GError **errp)
{
    if (!name_is_well_formed(name)) {
        return fail(errp, "Invalid device id: '%s'", name);
    }
    if (backend_find(name)) {
        return fail(errp, "Device with id '%s' already exists", name);
    }
    if (node_find_any(name)) {
        return fail(errp, "Device name '%s' conflicts with an existing node name", name);
    }
    return true;
}

BlockBackend *backend_find(const char *name)
{
    return backends_by_name ? g_hash_table_lookup(backends_by_name, name) : NULL;
}

BlockBackend *backend_first(void)
{
    return backends_first;
}

BlockBackend *backend_last(void)
{
    return backends_last;
}

BlockBackend *backend_next(BlockBackend *be)
{
    return be->next;
}

char *backend_describe(const BlockBackend *be)
{
    if (be->ops && be->ops->describe) {
        return be->ops->describe(be->opaque);
    }
    return be->name ? g_strdup_printf("block device '%s'", be->name)
                    : g_strdup("an unnamed block device");
}

/* --- life --- */

static void add_name(BlockBackend *be)
{
    if (be->name) {
        if (!backends_by_name) {
            backends_by_name = g_hash_table_new(g_str_hash, g_str_equal);
        }
        g_hash_table_insert(backends_by_name, be->name, be);
    }
}

static void remove_name(BlockBackend *be)
{
    if (be->name) {
        g_hash_table_remove(backends_by_name, be->name);
        if (g_hash_table_size(backends_by_name) == 0) {
            g_clear_pointer(&backends_by_name, g_hash_table_destroy);
        }
    }
}

BlockBackend *
backend_new(const char *name, PermPair perm, const BackendOps *ops, void *opaque, GError **errp)
{
    BlockBackend *be;

    if (name && !check_name(name, errp)) {
        return NULL;
    }
    if (fault_hit("backend-new")) {
        fail_errno(errp, ENOMEM, "Could not make a block backend");
        return NULL;
    }
    be = g_new0(BlockBackend, 1);
    be->name = g_strdup(name);
    be->perm = perm;
    be->ops = ops;
    be->opaque = opaque;
    be->write_cache = true;
    be->stats = acct_new();
    be->order = order_counter++;
    add_name(be);
    be->prev = backends_last;
    *(backends_last ? &backends_last->next : &backends_first) = be;
    backends_last = be;
    drain_recompute_gate(be);
    return be;
}

void coroutine_fn backend_co_free(BlockBackend *be)
{
    if (!be) {
        return;
    }
    backend_co_remove(be);
    assert(be->in_flight == 0 && co_queue_is_empty(&be->gate));
    *(be->prev ? &be->prev->next : &backends_first) = be->next;
    *(be->next ? &be->next->prev : &backends_last) = be->prev;
    acct_unref(be->stats);
    remove_name(be);
    g_free(be->name);
    g_free(be);
    drain_progress();
}

bool coroutine_fn backend_co_insert(BlockBackend *be, BlockNode *node, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    assert(!be->root);
    graph_tx_attach_root(tx, be, node);
    return graph_tx_co_commit(tx, errp);
}

void coroutine_fn backend_co_remove(BlockBackend *be)
{
    GraphTx *tx;

    if (!be->root) {
        return;
    }
    tx = graph_tx_new();
    graph_tx_detach(tx, be->root);
    graph_tx_force(tx);
    graph_tx_co_commit(tx, NULL);
    assert(!be->root);
}

bool coroutine_fn backend_co_set_perm(BlockBackend *be, PermPair perm, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    graph_tx_set_backend_perm(tx, be, perm);
    return graph_tx_co_commit(tx, errp);
}

/* --- properties --- */

const char *backend_name(const BlockBackend *be)
{
    return be->name ? be->name : "";
}

BlockNode *backend_node(const BlockBackend *be)
{
    return be->root ? be->root->node : NULL;
}

BlockChild *backend_root(const BlockBackend *be)
{
    return be->root;
}

int64_t backend_length(const BlockBackend *be)
{
    return be->root ? node_length(be->root->node) : 0;
}

void backend_set_write_cache(BlockBackend *be, bool writeback)
{
    be->write_cache = writeback;
}

void backend_fence(BlockBackend *be, int err)
{
    assert(err >= 0);
    be->fence = err;
}

int backend_fence_err(const BlockBackend *be)
{
    return be->fence;
}

void backend_set_histogram(BlockBackend *be, AcctType type, const uint64_t *boundaries, size_t n)
{
    acct_set_histogram(be->stats, type, boundaries, n);
}

void backend_share_stats(BlockBackend *be, BlockBackend *with)
{
    AcctStats *old = be->stats;

    be->stats = acct_ref(with->stats);
    acct_unref(old);
}

unsigned backend_in_flight(const BlockBackend *be)
{
    return be->in_flight;
}
