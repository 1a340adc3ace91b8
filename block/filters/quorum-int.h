/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of quorum share. */
#ifndef BLOCK_FILTERS_QUORUM_INT_H
#define BLOCK_FILTERS_QUORUM_INT_H

#include "block/node.h"
#include "util/iov.h"
#include "util/sync.h"

#define QUORUM_MAX_CHILDREN 32u

typedef struct QuorumState {
    BlockChild *children[QUORUM_MAX_CHILDREN]; /* in order: the first is asked first */
    size_t n;
    size_t threshold;
    unsigned next_index; /* of the next child's name */
    CoRangeLock writing; /* reads by vote: shared by writes, a vote not unanimous waits for them */
    CoMutex changing;    /* held while a child comes or goes: both wait in between */
    bool fifo;
    bool rewrite_corrupted;
} QuorumState;

/* quorum-vote.c: read all children, compare, answer with the winner */
int coroutine_fn quorum_co_vote(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);

/* quorum-event.c */
/** quorum_report_bad() - @ret is 0 where the content, not the request, was bad */
void quorum_report_bad(QuorumOpType type, BlockNode *child, int64_t offset, int64_t bytes, int ret);
void quorum_report_failure(BlockNode *node, int64_t offset, int64_t bytes);

#endif
