/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Op blockers: management operations that a user of a node refuses for it.
 *
 * Each is owned by its handle, so neither a lost name nor a changed graph can
 * leave one behind or free one twice. It does not keep its node: who blocks may
 * himself live below it, and both would live for ever.
 */
#include "core.h"

#include "util/error.h"

struct OpBlocker {
    BlockNode *node; /* NULL once it has gone */
    uint32_t mask;
    char *reason;
    OpBlocker *next, **pprev;
};

OpBlocker *op_blocker_new(BlockNode *node, uint32_t mask, const char *reason)
{
    OpBlocker *b = g_new0(OpBlocker, 1);

    assert(mask < 1u << BLOCK_OP__MAX);
    b->node = node;
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

static void op_blocker_unlink(OpBlocker *b)
{
    if (b->node) {
        *b->pprev = b->next;
        if (b->next) {
            b->next->pprev = b->pprev;
        }
        b->node = NULL;
    }
}

void op_blocker_free(OpBlocker *b)
{
    if (b) {
        op_blocker_unlink(b);
        g_free(b->reason);
        g_free(b);
    }
}

void op_blockers_drop(BlockNode *node)
{
    while (node->p->blockers) {
        op_blocker_unlink(node->p->blockers);
    }
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
