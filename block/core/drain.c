/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drain: no request is in flight on a node, and none will start.
 *
 * A backend's gate is closed while any node at or below its root has a drain
 * count. Counts sit on nodes, gates follow from the edges: every commit of a
 * graph change recomputes those that it can matter to, so a backend that
 * arrives above a drained node finds its gate closed, and one that leaves opens.
 *
 * Why a drain ends:
 *  D1 a closed gate admits nothing, and a request enters the graph through a
 *     gate only (DESIGN: only a backend starts I/O), so the set of requests
 *     that a drain waits for only shrinks;
 *  D2 an admitted request waits for requests below it, which D1 covers, and
 *     for locks held by admitted requests; it takes none before the gate;
 *  D3 nobody drains from inside a request, which would wait for itself. That
 *     is asserted for the coroutine a request was started in;
 *  D4 a graph change drains before it holds anything but the graph lock, and
 *     requests never take that one.
 */
#include "core.h"

#include "util/trace.h"

static CoQueue waiters;
unsigned drain_all_count;

void drain_progress(void)
{
    co_queue_wake_all(&waiters);
}

/* --- gates --- */

/* Is @node, or a node below it, drained? */
static bool drained_below(BlockNode *node, unsigned mark)
{
    if (node->p->mark == mark) {
        return false; /* seen: whoever saw it first would have stopped there */
    }
    node->p->mark = mark;
    if (node->p->drain > 0) {
        return true;
    }
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        if (drained_below(c->node, mark)) {
            return true;
        }
    }
    return false;
}

static bool must_close(const BlockBackend *be)
{
    if (drain_all_count > 0) {
        return true;
    }
    return be->root && drained_below(be->root->node, graph_walk_begin());
}

static void set_gate(BlockBackend *be, bool closed)
{
    if (be->gate_closed == closed) {
        return;
    }
    be->gate_closed = closed;
    if (closed) {
        if (be->ops && be->ops->drained_begin) {
            be->ops->drained_begin(be->opaque);
        }
        return;
    }
    co_queue_wake_all(&be->gate);
    if (be->ops && be->ops->drained_end) {
        be->ops->drained_end(be->opaque);
    }
}

void drain_recompute_gate(BlockBackend *be)
{
    set_gate(be, must_close(be));
}

static void collect_above(BlockNode *node, unsigned mark, GPtrArray *ret)
{
    if (node->p->mark == mark) {
        return;
    }
    node->p->mark = mark;
    for (BlockChild *c = node->first_parent; c; c = c->next_parent) {
        if (c->parent) {
            collect_above(c->parent, mark, ret);
        } else {
            g_ptr_array_add(ret, c->parent_backend);
        }
    }
}

/* The backends whose requests can reach @node; of all, if it is NULL. */
static GPtrArray *backends_above(BlockNode *node)
{
    GPtrArray *ret = g_ptr_array_new();

    if (node) {
        collect_above(node, graph_walk_begin(), ret);
        return ret;
    }
    for (BlockBackend *be = backend_first(); be; be = backend_next(be)) {
        g_ptr_array_add(ret, be);
    }
    return ret;
}

static void recompute_above(BlockNode *node)
{
    g_autoptr(GPtrArray) above = backends_above(node);

    for (guint i = 0; i < above->len; i++) {
        drain_recompute_gate(above->pdata[i]);
    }
}

/* --- waiting --- */

static void assert_not_in_request(const BlockBackend *be)
{
    Coroutine *self = co_self();

    for (const BackendReq *r = be->requests; r; r = r->next) {
        assert(r->co != self); /* D3 */
    }
}

/* Something that a drain of @node (NULL: of everything) has to wait for. */
static bool is_busy(BlockNode *node)
{
    g_autoptr(GPtrArray) above = backends_above(node);

    for (guint i = 0; i < above->len; i++) {
        const BlockBackend *be = above->pdata[i];

        if (be->in_flight > 0) {
            assert(be->gate_closed); /* D1 */
            assert_not_in_request(be);
            return true;
        }
    }
    if (node) {
        return node->in_flight > 0;
    }
    for (BlockNode *n = node_first_any(); n; n = n->p->next) {
        if (n->in_flight > 0) {
            return true;
        }
    }
    return false;
}

static void cancel_lost_below(BlockNode *node, unsigned mark)
{
    if (node->p->mark == mark) {
        return;
    }
    node->p->mark = mark;
    if (node->drv->cancel_lost) {
        node->drv->cancel_lost(node);
    }
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        cancel_lost_below(c->node, mark);
    }
}

/* What a drain waits for may itself wait for a peer that is gone, on any branch below. */
static void cancel_lost_above(BlockNode *node)
{
    g_autoptr(GPtrArray) above = backends_above(node);
    unsigned mark = graph_walk_begin();

    for (guint i = 0; i < above->len; i++) {
        const BlockBackend *be = above->pdata[i];

        if (be->root && be->in_flight > 0) {
            cancel_lost_below(be->root->node, mark);
        }
    }
}

void coroutine_fn drain_co_begin(BlockNode *node)
{
    trace("drain-begin", (uintptr_t)node, node->p->drain);
    node->p->drain++;
    recompute_above(node);
    while (is_busy(node)) {
        cancel_lost_above(node);
        co_queue_wait(&waiters);
    }
}

void drain_end(BlockNode *node)
{
    trace("drain-end", (uintptr_t)node, node->p->drain);
    assert(node->p->drain > 0);
    if (--node->p->drain == 0) {
        recompute_above(node);
    }
}

void coroutine_fn drain_co_all_begin(void)
{
    trace("drain-all-begin", drain_all_count, 0);
    drain_all_count++;
    recompute_above(NULL);
    while (is_busy(NULL)) {
        cancel_lost_above(NULL);
        co_queue_wait(&waiters);
    }
}

void drain_all_end(void)
{
    trace("drain-all-end", drain_all_count, 0);
    assert(drain_all_count > 0);
    if (--drain_all_count == 0) {
        recompute_above(NULL);
    }
}

/* --- hurrying --- */

static void cancel_below(BlockNode *node, unsigned mark)
{
    if (node->p->mark == mark) {
        return;
    }
    node->p->mark = mark;
    if (node->drv->cancel_in_flight) {
        node->drv->cancel_in_flight(node);
    }
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        cancel_below(c->node, mark);
    }
}

void node_cancel_in_flight(BlockNode *node)
{
    cancel_below(node, graph_walk_begin());
}

void node_cancel_silent(void)
{
    for (BlockNode *n = node_next_with_peer(NULL); n; n = node_next_with_peer(n)) {
        if (n->drv->peer_is_silent(n)) {
            n->drv->cancel_in_flight(n);
        }
    }
}

BlockNode *node_next_with_peer(BlockNode *node)
{
    node = node ? node->p->next : node_first_any();
    while (node && !node->drv->cancel_in_flight) {
        node = node->p->next;
    }
    return node;
}
