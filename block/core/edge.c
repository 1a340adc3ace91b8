/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Edges: the links between nodes, and what follows from them at once: the
 * short cuts node->file and node->backing, limits, request tracking.
 *
 * Plain functions for the commit of a transaction (tx.c); nobody else changes
 * an edge. Each edge holds one count of the node it points at; who unlinks it
 * takes the count over and drops it where it may wait.
 */
#include "core.h"

static GHashTable *live; /* all edges; made with the first, freed with the last */
static uint64_t serial_counter;

bool edge_is_live(const BlockChild *c, uint64_t serial)
{
    return live && g_hash_table_contains(live, c) && c->serial == serial;
}

static void add_to_live(BlockChild *c)
{
    if (!live) {
        live = g_hash_table_new(NULL, NULL);
    }
    c->serial = ++serial_counter;
    g_hash_table_add(live, c);
}

static void remove_from_live(BlockChild *c)
{
    g_hash_table_remove(live, c);
    if (g_hash_table_size(live) == 0) {
        g_clear_pointer(&live, g_hash_table_destroy);
    }
}

static void link_parent(BlockChild *c)
{
    c->prev_parent = NULL;
    c->next_parent = c->node->first_parent;
    if (c->next_parent) {
        c->next_parent->prev_parent = c;
    }
    c->node->first_parent = c;
}

static void unlink_parent(BlockChild *c)
{
    if (c->prev_parent) {
        c->prev_parent->next_parent = c->next_parent;
    } else {
        c->node->first_parent = c->next_parent;
    }
    if (c->next_parent) {
        c->next_parent->prev_parent = c->prev_parent;
    }
    c->prev_parent = c->next_parent = NULL;
}

static void link_sibling(BlockChild *c, BlockNode *parent)
{
    c->prev_sibling = parent->last_child;
    if (parent->last_child) {
        parent->last_child->next_sibling = c;
    } else {
        parent->first_child = c;
    }
    parent->last_child = c;
}

static void unlink_sibling(BlockChild *c, BlockNode *parent)
{
    if (c->prev_sibling) {
        c->prev_sibling->next_sibling = c->next_sibling;
    } else {
        parent->first_child = c->next_sibling;
    }
    if (c->next_sibling) {
        c->next_sibling->prev_sibling = c->prev_sibling;
    } else {
        parent->last_child = c->prev_sibling;
    }
}

BlockChild *
edge_new(BlockNode *parent, BlockBackend *backend, const char *name, BlockNode *to, ChildRole role)
{
    BlockChild *c = g_new0(BlockChild, 1);

    assert(!parent != !backend);
    c->node = node_ref(to);
    c->name = g_strdup(name);
    c->role = role;
    c->parent = parent;
    c->parent_backend = backend;
    add_to_live(c);
    link_parent(c);
    if (backend) {
        assert(!backend->root);
        backend->root = c;
        return c;
    }
    link_sibling(c, parent);
    if (role & (CHILD_PRIMARY | CHILD_FILTERED)) {
        assert(!parent->file);
        parent->file = c;
    } else if (role & CHILD_COW) {
        assert(!parent->backing);
        parent->backing = c;
    }
    return c;
}

BlockNode *edge_move(BlockChild *c, BlockNode *to)
{
    BlockNode *old = c->node;

    unlink_parent(c);
    c->node = node_ref(to);
    link_parent(c);
    return old;
}

BlockNode *edge_free(BlockChild *c)
{
    BlockNode *old = c->node;

    remove_from_live(c);
    unlink_parent(c);
    if (c->parent_backend) {
        c->parent_backend->root = NULL;
    } else {
        unlink_sibling(c, c->parent);
        if (c->parent->file == c) {
            c->parent->file = NULL;
        }
        if (c->parent->backing == c) {
            c->parent->backing = NULL;
        }
    }
    g_free(c->name);
    g_free(c);
    return old;
}

/* --- limits --- */

static uint32_t stricter_alignment(uint32_t a, uint32_t b)
{
    return MAX(a, b);
}

/* 0 means no limit. */
static int64_t stricter_maximum(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 ? a : MIN(a, b);
}

/* The backing image is read in its own requests, so it does not limit ours. */
static bool child_limits_parent(const BlockChild *c)
{
    return !(c->role & CHILD_COW);
}

static void limits_add(BlockLimits *l, const BlockLimits *child)
{
    l->request_alignment = stricter_alignment(l->request_alignment, child->request_alignment);
    l->min_mem_alignment = stricter_alignment(l->min_mem_alignment, child->min_mem_alignment);
    l->opt_mem_alignment = stricter_alignment(l->opt_mem_alignment, child->opt_mem_alignment);
    l->max_transfer = stricter_maximum(l->max_transfer, child->max_transfer);
    l->opt_transfer = MAX(l->opt_transfer, child->opt_transfer);
    l->max_pdiscard = stricter_maximum(l->max_pdiscard, child->max_pdiscard);
    l->pdiscard_alignment = stricter_alignment(l->pdiscard_alignment, child->pdiscard_alignment);
    l->max_pwrite_zeroes = stricter_maximum(l->max_pwrite_zeroes, child->max_pwrite_zeroes);
    l->pwrite_zeroes_alignment =
        stricter_alignment(l->pwrite_zeroes_alignment, child->pwrite_zeroes_alignment);
}

static void update_tracking(BlockNode *node)
{
    bool track = node->p->track_users > 0;

    /* A request that entered untracked would not be seen by those that follow. */
    assert(!track || node->track_requests || node->in_flight == 0);
    node->track_requests = track;
}

void limits_refresh(BlockNode *node)
{
    BlockLimits l = {
        .request_alignment = 1,
        .min_mem_alignment = 1,
        .opt_mem_alignment = 1,
    };

    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        if (child_limits_parent(c)) {
            limits_add(&l, &c->node->limits);
        }
    }
    node->limits = l;
    if (node->drv->refresh_limits) {
        node->drv->refresh_limits(node);
    }
    l = node->limits;
    assert(l.request_alignment > 0 && (l.request_alignment & (l.request_alignment - 1)) == 0);
    assert(l.request_alignment <= NODE_ALIGN_MAX);
}

/* Post-order over the parents: a node comes after everything above it. */
static void collect_upwards(BlockNode *node, unsigned mark, GPtrArray *ret)
{
    if (node->p->mark == mark) {
        return;
    }
    node->p->mark = mark;
    for (BlockChild *c = node->first_parent; c; c = c->next_parent) {
        if (c->parent) {
            collect_upwards(c->parent, mark, ret);
        }
    }
    g_ptr_array_add(ret, node);
}

void limits_refresh_upwards(BlockNode *const *changed, size_t n)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    unsigned mark = graph_walk_begin();

    for (size_t i = 0; i < n; i++) {
        collect_upwards(changed[i], mark, order);
    }
    for (size_t i = order->len; i-- > 0;) {
        limits_refresh(order->pdata[i]);
    }
}

void node_track_requests(BlockNode *node, bool on)
{
    assert(on || node->p->track_users > 0);
    node->p->track_users += on ? 1 : -1;
    update_tracking(node);
}

bool coroutine_fn node_co_refresh_limits(BlockNode *node, GError **errp)
{
    limits_refresh_upwards(&node, 1);
    return true;
}
