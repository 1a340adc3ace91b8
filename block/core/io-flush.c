/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flush: what was completed on a node before is durable when it returns.
 *
 * The driver's own caches go down first, then each child held with write
 * permission is flushed. A protocol is skipped where nothing was written since
 * its last successful flush (write_gen: writes completed; flushed_gen: its value
 * when that flush began) and where cache.no-flush says so.
 *
 * One flush of a node runs at a time. Who arrives meanwhile waits for one that
 * starts after its arrival, and all who wait share that one.
 */
#include "io-internal.h"

static int coroutine_fn flush_driver(BlockNode *node)
{
    uint64_t gen = node->write_gen;
    int r;

    if (!node->drv->co_flush) {
        return 0;
    }
    if (node->drv->is_protocol && (node->flags.cache_no_flush || node->flushed_gen == gen)) {
        return 0;
    }
    node_request_begin(node);
    r = io_answer(node->drv->co_flush(node));
    node_request_end(node);
    if (r == 0) {
        node->flushed_gen = gen;
    }
    return r;
}

static int coroutine_fn flush_children(BlockNode *node)
{
    int first = 0;

    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        if (c->perm.taken & (PERM_WRITE | PERM_WRITE_UNCHANGED)) {
            int r = node_co_flush(c->node);

            first = first < 0 ? first : r;
        }
    }
    return first;
}

static int coroutine_fn flush_now(BlockNode *node)
{
    int r;

    node_debug_event(node, "flush_to_os");
    r = flush_driver(node);
    if (r < 0 || node->drv->flush_does_children) {
        return r;
    }
    node_debug_event(node, "flush_to_disk");
    return flush_children(node);
}

int coroutine_fn node_co_flush(BlockNode *node)
{
    NodeFlush *f = &node->flush;
    uint64_t before = f->started;

    if (node->flags.read_only) {
        return 0;
    }
    while (f->running) {
        co_queue_wait(&f->waiters);
        if (f->done > before) {
            return f->result;
        }
    }
    f->running = true;
    f->started++;
    f->result = flush_now(node);
    f->done = f->started;
    f->running = false;
    co_queue_wake_all(&f->waiters);
    return f->result;
}
