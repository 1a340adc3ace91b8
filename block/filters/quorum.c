/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quorum: one disk kept on several children.
 *
 * Writes go to every child at once and the core lets overlapping ones in only
 * one after the other (order_writes), so that all children end with the same
 * content. Reads come from the first child that answers (fifo) or from a vote
 * (quorum).
 *
 * With read-pattern=fifo the first child is the disk of this host, the others
 * are copies. Reads ask it first, status asks it alone, and its write errors
 * are the guest's: a copy that succeeds never hides that the disk itself has
 * failed, and learns that it differs now.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/filters/quorum-int.h"
#include "block/graph.h"
#include "util/buf.h"
#include "util/sync.h"

/* --- writing --- */

typedef enum QuorumWriteKind {
    QUORUM_DATA,
    QUORUM_ZEROES,
    QUORUM_DISCARD,
    QUORUM_FLUSH,
} QuorumWriteKind;

typedef struct QuorumWrite {
    QuorumWriteKind kind;
    int64_t offset, bytes;
    IoVec iov;
    ReqFlags flags;
    unsigned running;
    Coroutine *joiner;
} QuorumWrite;

typedef struct QuorumPart { /* one child's share */
    QuorumWrite *write;
    BlockChild *child;
    int ret;
} QuorumPart;

static int coroutine_fn
quorum_part_co_do(const QuorumWrite *w, BlockChild *child)
{
    switch (w->kind) {
    case QUORUM_DATA:
        return child_co_pwritev(child, w->offset, w->iov, w->flags);
    case QUORUM_ZEROES:
        return child_co_pwrite_zeroes(child, w->offset, w->bytes, w->flags);
    case QUORUM_DISCARD:
        return child_co_pdiscard(child, w->offset, w->bytes);
    case QUORUM_FLUSH:
        return child_co_flush(child);
    }
    g_assert_not_reached();
}

static void coroutine_fn
quorum_part_co_entry(void *opaque)
{
    QuorumPart *part = opaque;
    QuorumWrite *w = part->write;

    part->ret = quorum_part_co_do(w, part->child);
    if (--w->running == 0 && w->joiner) {
        co_wake(w->joiner);
    }
}

/* All children at once; the ones behind a wire get their request before we work on our own. */
static void coroutine_fn
quorum_co_run_parts(QuorumState *s, QuorumWrite *w, QuorumPart *parts)
{
    for (size_t i = 0; i < s->n; i++) {
        parts[i] = (QuorumPart){.write = w, .child = s->children[i]};
    }
    w->running = s->n - 1;
    for (size_t i = 1; i < s->n; i++) {
        co_spawn(quorum_part_co_entry, &parts[i]);
    }
    if (s->n > 1) {
        co_reschedule();
    }
    parts[0].ret = quorum_part_co_do(w, parts[0].child);
    if (w->running > 0) {
        w->joiner = co_self();
        co_yield();
    }
}

/* The errno that most failing children gave; the first of them where equal. */
static int
quorum_majority_error(const QuorumPart *parts, size_t n)
{
    int best = 0;
    size_t best_votes = 0;

    for (size_t i = 0; i < n; i++) {
        size_t votes = 0;

        if (parts[i].ret == 0) {
            continue;
        }
        for (size_t j = 0; j < n; j++) {
            votes += parts[j].ret == parts[i].ret;
        }
        if (votes > best_votes) {
            best_votes = votes;
            best = parts[i].ret;
        }
    }
    return best;
}

/* The disk of this host lacks what its copies have: whoever keeps one has to know. */
static void
quorum_tell_copies(const QuorumState *s, const QuorumPart *parts, int64_t offset)
{
    for (size_t i = 1; i < s->n; i++) {
        BlockNode *copy = s->children[i]->node;

        if (parts[i].ret == 0 && copy->drv->sibling_failed) {
            copy->drv->sibling_failed(copy, -parts[0].ret, offset);
        }
    }
}

static int
quorum_judge(BlockNode *node, const QuorumWrite *w, const QuorumPart *parts)
{
    QuorumState *s = node->state;
    QuorumOpType type = w->kind == QUORUM_FLUSH ? QUORUM_OP_TYPE_FLUSH : QUORUM_OP_TYPE_WRITE;
    size_t good = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (parts[i].ret == 0) {
            good++;
        } else {
            quorum_report_bad(type, parts[i].child->node, w->offset, w->bytes, parts[i].ret);
        }
    }
    if (s->fifo && parts[0].ret < 0) {
        quorum_tell_copies(s, parts, w->kind == QUORUM_FLUSH ? -1 : w->offset);
        return parts[0].ret;
    }
    if (good >= s->threshold) {
        return 0;
    }
    quorum_report_failure(node, w->offset, w->bytes);
    return quorum_majority_error(parts, s->n);
}

static int coroutine_fn
quorum_co_write(BlockNode *node, QuorumWrite w)
{
    QuorumState *s = node->state;
    QuorumPart parts[QUORUM_MAX_CHILDREN];
    CoRange range;

    /* The core keeps overlapping writes apart already; nobody compares children with fifo. */
    co_range_lock(&s->writing, &range, w.offset, s->fifo ? 0 : w.bytes, CO_RANGE_SHARED);
    quorum_co_run_parts(s, &w, parts);
    co_range_unlock(&s->writing, &range);
    return quorum_judge(node, &w, parts);
}

static int coroutine_fn
quorum_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return quorum_co_write(node, (QuorumWrite){.kind = QUORUM_DATA, .offset = offset,
                                               .bytes = iov.bytes, .iov = iov, .flags = flags});
}

static int coroutine_fn
quorum_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    return quorum_co_write(node, (QuorumWrite){.kind = QUORUM_ZEROES, .offset = offset,
                                               .bytes = bytes, .flags = flags});
}

static int coroutine_fn
quorum_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    return quorum_co_write(node, (QuorumWrite){.kind = QUORUM_DISCARD, .offset = offset,
                                               .bytes = bytes});
}

static int coroutine_fn
quorum_co_flush(BlockNode *node)
{
    return quorum_co_write(node, (QuorumWrite){.kind = QUORUM_FLUSH});
}

/* --- reading --- */

static int coroutine_fn
quorum_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    QuorumState *s = node->state;
    int r = -EIO;

    if (!s->fifo) {
        return quorum_co_vote(node, offset, iov, flags);
    }
    for (size_t i = 0; i < s->n; i++) {
        BlockChild *c = s->children[i];

        r = child_co_preadv(c, offset, iov, flags);
        if (r == 0) {
            return 0;
        }
        quorum_report_bad(QUORUM_OP_TYPE_READ, c->node, offset, iov.bytes, r);
    }
    return r;
}

static int coroutine_fn
quorum_co_block_status(BlockNode *node, bool want_zero, int64_t offset, int64_t bytes,
                       BlockStatus *ret)
{
    QuorumState *s = node->state;
    size_t voters = s->fifo ? 1 : s->n;
    int64_t zero = bytes, data = 0;

    for (size_t i = 0; i < voters; i++) {
        BlockStatus st;
        int r = node_co_block_status_above(s->children[i]->node, NULL, want_zero, offset, bytes,
                                           &st, NULL);

        if (r < 0 && s->fifo) {
            return r;
        }
        if (r < 0) {
            data = bytes;
        } else if (st.flags & STATUS_ZERO) {
            zero = MIN(zero, st.bytes);
        } else {
            data = MAX(data, st.bytes);
        }
    }
    *ret = (BlockStatus){
        .flags = STATUS_ALLOCATED | (data ? STATUS_DATA : STATUS_ZERO),
        .bytes = data ? data : zero,
    };
    return 0;
}

/* --- children --- */

/* What every child can do natively the quorum can too. */
static void
quorum_refresh_flags(BlockNode *node)
{
    QuorumState *s = node->state;
    ReqFlags zero = REQ_FUA | REQ_MAY_UNMAP | REQ_NO_FALLBACK;

    for (size_t i = 0; i < s->n; i++) {
        zero &= s->children[i]->node->supported_zero_flags;
    }
    node->supported_write_flags = REQ_FUA | REQ_WRITE_UNCHANGED;
    node->supported_zero_flags = zero | REQ_WRITE_UNCHANGED;
}

static bool
quorum_check_length(BlockNode *node, BlockNode *child, GError **errp)
{
    if (node_length(child) != node->length) {
        return fail(errp,
                    "Node '%s' is %" PRId64 " bytes long, the children of quorum '%s' are %" PRId64,
                    child->node_name, node_length(child), node->node_name, node->length);
    }
    return true;
}

static bool coroutine_fn
quorum_co_add_child(BlockNode *node, BlockNode *child, GError **errp)
{
    QuorumState *s = node->state;
    CO_LOCK_GUARD(&s->changing);
    g_autofree char *name = g_strdup_printf("children.%u", s->next_index);
    GraphTx *tx;

    if (s->n == QUORUM_MAX_CHILDREN) {
        return fail(errp, "Quorum '%s' has %u children already, the most there can be",
                    node->node_name, QUORUM_MAX_CHILDREN);
    }
    if (!quorum_check_length(node, child, errp)) {
        return false;
    }
    drain_co_begin(node);
    tx = graph_tx_new();
    graph_tx_attach(tx, node, name, child, CHILD_DATA);
    if (!graph_tx_co_commit(tx, errp)) {
        drain_end(node);
        return false;
    }
    s->children[s->n++] = node_child(node, name);
    s->next_index++;
    quorum_refresh_flags(node);
    drain_end(node);
    return true;
}

static void
quorum_forget(QuorumState *s, BlockChild *child)
{
    unsigned index = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (s->children[i] == child) {
            memmove(&s->children[i], &s->children[i + 1], (s->n - i - 1) * sizeof(BlockChild *));
            s->n--;
            break;
        }
    }
    /* The counter steps back only over the highest name. */
    if (sscanf(child->name, "children.%u", &index) == 1 && index + 1 == s->next_index) {
        s->next_index--;
    }
}

static bool
quorum_has(const QuorumState *s, const BlockChild *child)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->children[i] == child) {
            return true;
        }
    }
    return false;
}

static bool coroutine_fn
quorum_co_del_child(BlockNode *node, BlockChild *child, GError **errp)
{
    QuorumState *s = node->state;
    CO_LOCK_GUARD(&s->changing);
    GraphTx *tx;

    if (!quorum_has(s, child)) { /* while we waited */
        return fail(errp, "The child of quorum '%s' has been removed already", node->node_name);
    }
    if (s->n <= s->threshold) {
        return fail(errp,
                    "The number of children cannot be lower than the vote threshold %" PRIu64,
                    (uint64_t)s->threshold);
    }
    /* A child that waits for a silent peer must not hold up its own removal. */
    node_cancel_in_flight(child->node);
    drain_co_begin(node);
    quorum_forget(s, child);
    tx = graph_tx_new();
    graph_tx_detach(tx, child);
    if (!graph_tx_co_commit(tx, errp)) {
        g_assert_not_reached(); /* giving up permissions cannot conflict */
    }
    quorum_refresh_flags(node);
    drain_end(node);
    return true;
}

static PermPair
quorum_child_perm(BlockNode *node, const BlockChild *child, const char *name, ChildRole role,
                  PermPair parents, const NodeFlags *flags)
{
    const QuorumState *s = node->state;
    PermPair p = {.taken = parents.taken, .shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED};

    (void)child, (void)name, (void)role, (void)flags;
    if (s->rewrite_corrupted) {
        p.taken |= PERM_WRITE;
    }
    return p;
}

/* --- opening --- */

static bool
quorum_check_options(const BlockdevOptionsQuorum *o, GError **errp)
{
    if (o->n_children < 1 || o->n_children > QUORUM_MAX_CHILDREN) {
        return fail(errp, "Number of provided children must be 1 to %u", QUORUM_MAX_CHILDREN);
    }
    if (o->vote_threshold < 1) {
        return fail(errp, "Parameter 'vote-threshold' expects a value >= 1");
    }
    if (o->vote_threshold > (int64_t)o->n_children) {
        return fail(errp, "threshold may not exceed children count");
    }
    if (o->has_blkverify && o->blkverify) {
        return fail(errp, "Option 'blkverify' of quorum is not supported: with two children and a"
                          " threshold of 2 a mismatch is an error and QUORUM_FAILURE anyway");
    }
    return true;
}

static bool coroutine_fn
quorum_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsQuorum *o = &opts->u.quorum;
    QuorumState *s = node->state;

    if (!quorum_check_options(o, errp)) {
        return false;
    }
    s->threshold = o->vote_threshold;
    s->fifo = o->has_read_pattern && o->read_pattern == QUORUM_READ_PATTERN_FIFO;
    s->rewrite_corrupted = o->has_rewrite_corrupted && o->rewrite_corrupted;
    for (size_t i = 0; i < o->n_children; i++) {
        g_autofree char *name = g_strdup_printf("children.%zu", i);

        if (!node_co_open_child(node, name, o->children[i], CHILD_DATA, errp)) {
            return false;
        }
        s->children[s->n++] = node_child(node, name);
        if (i == 0) {
            node->length = node_length(s->children[0]->node);
        }
        if (!quorum_check_length(node, s->children[i]->node, errp)) {
            return false;
        }
    }
    s->next_index = s->n;
    quorum_refresh_flags(node);
    return true;
}

const BlockDriver driver_quorum = {
    .name = "quorum",
    .state_size = sizeof(QuorumState),
    .order_writes = true,
    .flush_does_children = true,
    .co_open = quorum_co_open,
    .child_perm = quorum_child_perm,
    .co_preadv = quorum_co_preadv,
    .co_pwritev = quorum_co_pwritev,
    .co_pwrite_zeroes = quorum_co_pwrite_zeroes,
    .co_pdiscard = quorum_co_pdiscard,
    .co_flush = quorum_co_flush,
    .co_block_status = quorum_co_block_status,
    .co_add_child = quorum_co_add_child,
    .co_del_child = quorum_co_del_child,
};
