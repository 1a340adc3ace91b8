/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TimerHeap. */
#include "timer.h"

#define ARITY 4

static inline bool slot_before(const TimerSlot *a, const TimerSlot *b)
{
    return a->deadline_ns < b->deadline_ns ||
           (a->deadline_ns == b->deadline_ns && a->seq < b->seq);
}

static inline void slot_put(TimerHeap *h, size_t i, TimerSlot s)
{
    h->slots[i] = s;
    s.timer->heap_index = i + 1;
}

static void sift_up(TimerHeap *h, size_t i, TimerSlot s)
{
    while (i > 0) {
        size_t parent = (i - 1) / ARITY;

        if (!slot_before(&s, &h->slots[parent])) {
            break;
        }
        slot_put(h, i, h->slots[parent]);
        i = parent;
    }
    slot_put(h, i, s);
}

static void sift_down(TimerHeap *h, size_t i, TimerSlot s)
{
    for (;;) {
        size_t first = i * ARITY + 1;
        size_t end = MIN(first + ARITY, h->n);
        size_t best = first;

        if (first >= h->n) {
            break;
        }
        for (size_t c = first + 1; c < end; c++) {
            if (slot_before(&h->slots[c], &h->slots[best])) {
                best = c;
            }
        }
        if (!slot_before(&h->slots[best], &s)) {
            break;
        }
        slot_put(h, i, h->slots[best]);
        i = best;
    }
    slot_put(h, i, s);
}

void timer_heap_add(TimerHeap *h, LoopTimer *t)
{
    assert(!timer_is_armed(t));
    if (h->n == h->capacity) {
        h->capacity = MAX(64, h->capacity * 2);
        h->slots = g_renew(TimerSlot, h->slots, h->capacity);
    }
    h->n++;
    sift_up(h, h->n - 1, (TimerSlot){t->deadline_ns, h->next_seq++, t});
}

void timer_heap_remove(TimerHeap *h, LoopTimer *t)
{
    size_t i = t->heap_index - 1;
    TimerSlot last;

    assert(i < h->n && h->slots[i].timer == t);
    t->heap_index = 0;
    last = h->slots[--h->n];
    if (i == h->n) {
        return;
    }
    if (i > 0 && slot_before(&last, &h->slots[(i - 1) / ARITY])) {
        sift_up(h, i, last);
    } else {
        sift_down(h, i, last);
    }
}

void timer_heap_free(TimerHeap *h)
{
    assert(h->n == 0);
    g_free(h->slots);
    *h = (TimerHeap){0};
}

size_t timer_heap_expire(TimerHeap *h, int64_t now_ns)
{
    uint64_t end_seq = h->next_seq;
    size_t ran = 0;

    while (h->n && h->slots[0].deadline_ns <= now_ns && h->slots[0].seq < end_seq) {
        LoopTimer *t = h->slots[0].timer;

        timer_heap_remove(h, t);
        t->fn(t->opaque);
        ran++;
    }
    return ran;
}
