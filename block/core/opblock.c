/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Op blockers: management operations that a user of a node refuses for it.
 *
 * Each is owned by its handle and holds a count of its node, so neither a lost
 * name nor a changed graph can leave one behind or free one twice.
 */
#include "block/core/core.h"

#include "util/error.h"

struct OpBlocker {
    BlockNode *node;
    uint32_t mask;
    char *reason;
    OpBlocker *next, **pprev;
};

OpBlocker *op_blocker_new(BlockNode *node, uint32_t mask, const char *reason)
{
    OpBlocker *b = g_new0(OpBlocker, 1);

    assert(mask < 1u << BLOCK_OP__MAX);
    b->node = node_ref(node);
    b->mask = mask;
    b->reason = g_strdup(reason);
    b->next = node->p->blockers;
    b->pprev = &node->p->blockers;
    if (b->next) {
        b->next->pprev = &b->next;
    }
    node->p->blockers = b;
    return b;
}

void coroutine_fn op_blocker_co_free(OpBlocker *b)
{
    BlockNode *node;

    if (!b) {
        return;
    }
    node = b->node;
    *b->pprev = b->next;
    if (b->next) {
        b->next->pprev = b->pprev;
    }
    g_free(b->reason);
    g_free(b);
    node_co_unref(node);
}

bool op_blocked(BlockNode *node, BlockOp op, GError **errp)
{
    for (const OpBlocker *b = node->p->blockers; b; b = b->next) {
        if (b->mask & (1u << op)) {
            fail(errp, "Node '%s' is busy: %s", node->node_name, b->reason);
            return true;
        }
    }
    return false;
}
