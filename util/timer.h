/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TimerHeap: the armed timers of a loop.
 *
 * A heap with four children a node: half the depth of a binary one, and the
 * children of a node are neighbours in memory. Keys lie in the array, so sifting
 * does not touch the timers except to note their place. Equal deadlines expire
 * in the order of arming.
 */
#ifndef UTIL_TIMER_H
#define UTIL_TIMER_H

#include "util/loop.h"

typedef struct TimerSlot {
    int64_t deadline_ns;
    uint64_t seq; /* order of arming */
    LoopTimer *timer;
} TimerSlot;

typedef struct TimerHeap {
    TimerSlot *slots; /* slots[0] is the earliest; LoopTimer.heap_index is the index plus one */
    size_t n, capacity;
    uint64_t next_seq;
} TimerHeap;

void timer_heap_add(TimerHeap *h, LoopTimer *t);
void timer_heap_remove(TimerHeap *h, LoopTimer *t);
void timer_heap_free(TimerHeap *h);

/** timer_heap_next_ns() - the earliest deadline; INT64_MAX if none is armed */
static inline int64_t timer_heap_next_ns(const TimerHeap *h)
{
    return h->n ? h->slots[0].deadline_ns : INT64_MAX;
}

/**
 * timer_heap_expire() - run what is due at @now_ns and was armed before the call
 *
 * So a timer that arms itself again with a deadline in the past runs once a
 * turn and keeps nobody out.
 * Return: timers run.
 */
size_t timer_heap_expire(TimerHeap *h, int64_t now_ns);

#endif
