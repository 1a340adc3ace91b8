/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fences: a node that nobody outside of a chain may change any more.
 *
 * While a node is fenced every backend above it is, but for those whose only
 * way down leads through the chain: now, and after each graph change, before a
 * request of a new user or over a new edge can start.
 */
#include "core.h"

static bool is_pass(const BlockNode *node, const BlockNode *const pass[2])
{
    return node == pass[0] || node == pass[1];
}

static void fence_above(BlockNode *node, unsigned mark, const BlockNode *fenced)
{
    if (node->p->mark == mark) {
        return;
    }
    node->p->mark = mark;
    for (BlockChild *c = node->first_parent; c; c = c->next_parent) {
        if (c->parent_backend) {
            backend_fence(c->parent_backend, fenced->p->fence_err);
        } else if (!is_pass(c->parent, fenced->p->fence_pass)) {
            fence_above(c->parent, mark, fenced);
        }
    }
}

void fence_recompute(BlockNode *node)
{
    if (node->p->fence_err) {
        fence_above(node, graph_walk_begin(), node);
    }
}

void node_fence(BlockNode *node, int err, const BlockNode *pass_a, const BlockNode *pass_b)
{
    assert(err >= 0);
    node->p->fence_err = err;
    node->p->fence_pass[0] = pass_a;
    node->p->fence_pass[1] = pass_b;
    fence_recompute(node);
}
