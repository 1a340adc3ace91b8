/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading by vote: ask every child, let equal answers form a group, and give
 * the guest the largest group if it reaches the threshold.
 *
 * A write that is under way on some children makes healthy ones differ. So a vote
 * that is not unanimous is repeated while no write to the range runs; only that
 * one finds anybody guilty, and its correction cannot undo what the guest writes.
 */
#include <errno.h>
#include <glib.h>

#include "block/filters/quorum-int.h"
#include "block/io.h"
#include "util/buf.h"
#include "util/sync.h"

typedef struct Ballot {
    BlockChild *child;
    int64_t offset;
    size_t bytes;
    uint8_t *buf;
    ReqFlags flags;
    int ret;
    size_t group; /* index of the first ballot with the same content */
    size_t votes; /* of the group, in its first ballot */
} Ballot;

static int coroutine_fn
ballot_co_read(void *opaque)
{
    Ballot *b = opaque;
    struct iovec v;

    b->ret = child_co_preadv(b->child, b->offset, iov_one(&v, b->buf, b->bytes), b->flags);
    return 0;
}

static bool
ballots_alloc(const QuorumState *s, Ballot *ballots, int64_t offset, size_t bytes, ReqFlags flags)
{
    for (size_t i = 0; i < s->n; i++) {
        ballots[i] = (Ballot){.child = s->children[i], .offset = offset, .bytes = bytes,
                              .flags = flags, .buf = buf_try_alloc(bytes)};
        if (!ballots[i].buf) {
            return false;
        }
    }
    return true;
}

/* Sort the answers into groups; returns the first ballot of the largest, or NULL. */
static Ballot *
ballots_count(Ballot *ballots, size_t n)
{
    Ballot *winner = NULL;

    for (size_t i = 0; i < n; i++) {
        Ballot *b = &ballots[i];

        if (b->ret < 0) {
            continue;
        }
        b->group = i;
        for (size_t j = 0; j < i; j++) {
            if (ballots[j].ret == 0 && ballots[j].group == j &&
                memcmp(ballots[j].buf, b->buf, b->bytes) == 0) {
                b->group = j;
                break;
            }
        }
        ballots[b->group].votes++;
        if (!winner || ballots[b->group].votes > winner->votes) {
            winner = &ballots[b->group];
        }
    }
    return winner;
}

static int
ballots_majority_error(const Ballot *ballots, size_t n)
{
    int best = -EIO;
    size_t best_votes = 0;

    for (size_t i = 0; i < n; i++) {
        size_t votes = 0;

        for (size_t j = 0; j < n && ballots[i].ret < 0; j++) {
            votes += ballots[j].ret == ballots[i].ret;
        }
        if (votes > best_votes) {
            best_votes = votes;
            best = ballots[i].ret;
        }
    }
    return best;
}

/* Report the losers; with rewrite-corrupted also give them the winner's content. */
static void coroutine_fn
ballots_co_correct(const QuorumState *s, const Ballot *ballots, const Ballot *winner)
{
    for (size_t i = 0; i < s->n; i++) {
        const Ballot *b = &ballots[i];
        struct iovec v;

        if (b->ret < 0 || &ballots[b->group] == winner) {
            continue;
        }
        quorum_report_bad(QUORUM_OP_TYPE_READ, b->child->node, b->offset, b->bytes, 0);
        if (s->rewrite_corrupted) {
            /* The guest has its data; a child that cannot be mended is reported again. */
            (void)child_co_pwritev(b->child, b->offset, iov_one(&v, winner->buf, b->bytes), 0);
        }
    }
}

static int coroutine_fn
ballots_co_judge(BlockNode *node, Ballot *ballots, IoVec iov)
{
    const QuorumState *s = node->state;
    Ballot *winner = ballots_count(ballots, s->n);
    size_t good = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (ballots[i].ret < 0) {
            quorum_report_bad(QUORUM_OP_TYPE_READ, ballots[i].child->node, ballots[i].offset,
                              ballots[i].bytes, ballots[i].ret);
        } else {
            good++;
        }
    }
    if (good < s->threshold) {
        quorum_report_failure(node, ballots[0].offset, ballots[0].bytes);
        return ballots_majority_error(ballots, s->n);
    }
    if (winner->votes < s->threshold) {
        quorum_report_failure(node, ballots[0].offset, ballots[0].bytes);
        return -EIO;
    }
    ballots_co_correct(s, ballots, winner);
    iov_copy_in(iov, winner->buf, winner->bytes);
    return 0;
}

static void coroutine_fn
ballots_co_read(Ballot *ballots, size_t n)
{
    CoGroup group = {0};

    for (size_t i = 0; i < n; i++) {
        co_group_spawn(&group, ballot_co_read, &ballots[i]);
    }
    (void)co_group_wait(&group); /* each ballot keeps its own result */
}

/* All children that have answered say the same. */
static bool
ballots_are_unanimous(const Ballot *ballots, size_t n)
{
    const Ballot *first = NULL;

    for (size_t i = 0; i < n; i++) {
        if (ballots[i].ret < 0) {
            continue;
        }
        first = first ? first : &ballots[i];
        if (memcmp(first->buf, ballots[i].buf, first->bytes) != 0) {
            return false;
        }
    }
    return true;
}

int coroutine_fn
quorum_co_vote(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    QuorumState *s = node->state;
    Ballot ballots[QUORUM_MAX_CHILDREN] = {0};
    int r = -ENOMEM;

    if (ballots_alloc(s, ballots, offset, iov.bytes, flags)) {
        ballots_co_read(ballots, s->n);
        if (ballots_are_unanimous(ballots, s->n)) {
            r = ballots_co_judge(node, ballots, iov);
        } else {
            CoRange range;

            co_range_lock(&s->writing, &range, offset, iov.bytes, CO_RANGE_EXCLUSIVE);
            ballots_co_read(ballots, s->n);
            r = ballots_co_judge(node, ballots, iov);
            co_range_unlock(&s->writing, &range);
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        if (ballots[i].buf) {
            buf_free(ballots[i].buf, iov.bytes);
        }
    }
    return r;
}
