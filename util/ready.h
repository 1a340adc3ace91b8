/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ReadyQueue: what a loop will run next, each entry once, O(1) at any length.
 *
 * Plain: one FIFO. Seeded (virtual loops): entries that became ready during one
 * round are drawn in random order in the next; entries pushed as "late" keep
 * the promise "after what is ready now" by following the drawn ones in FIFO
 * order. Rounds keep a pair that wakes each other from starving the rest.
 */
#ifndef UTIL_READY_H
#define UTIL_READY_H

#include "util/compiler.h"
#include "util/prng.h"

typedef struct ReadyNode ReadyNode;
struct ReadyNode { /* embedded in what is to run */
    ReadyNode *next;
    void (*run)(ReadyNode *node); /* @node may be freed or pushed again by it */
};

typedef struct ReadyList {
    ReadyNode *head, *tail;
    size_t n;
} ReadyList;

typedef struct ReadyQueue {
    ReadyList now;         /* plain: everything */
    ReadyList drawn, late; /* seeded: the next round */
    bool seeded;
    Prng rng;
} ReadyQueue;

static inline void ready_list_push(ReadyList *l, ReadyNode *node)
{
    node->next = NULL;
    if (l->tail) {
        l->tail->next = node;
    } else {
        l->head = node;
    }
    l->tail = node;
    l->n++;
}

static inline ReadyNode *ready_list_pop(ReadyList *l)
{
    ReadyNode *node = l->head;

    l->head = node->next;
    if (!l->head) {
        l->tail = NULL;
    }
    l->n--;
    return node;
}

static inline size_t ready_len(const ReadyQueue *q)
{
    return q->now.n + q->drawn.n + q->late.n;
}

static inline void ready_push(ReadyQueue *q, ReadyNode *node)
{
    ready_list_push(unlikely(q->seeded) ? &q->drawn : &q->now, node);
}

/** ready_push_late() - to run after everything that is in the queue */
static inline void ready_push_late(ReadyQueue *q, ReadyNode *node)
{
    ready_list_push(unlikely(q->seeded) ? &q->late : &q->now, node);
}

void ready_next_round(ReadyQueue *q);

/** ready_pop() - the queue is not empty */
static inline ReadyNode *ready_pop(ReadyQueue *q)
{
    if (unlikely(q->seeded) && !q->now.n) {
        ready_next_round(q);
    }
    return ready_list_pop(&q->now);
}

/** ready_seed() - 0: plain. Entries keep their place. */
void ready_seed(ReadyQueue *q, uint64_t seed);

#endif
