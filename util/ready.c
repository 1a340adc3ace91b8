/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ReadyQueue, the seeded half. */
#include <glib.h>

#include "ready.h"

static void list_append(ReadyList *dst, ReadyList *src)
{
    if (!src->n) {
        return;
    }
    if (dst->tail) {
        dst->tail->next = src->head;
    } else {
        dst->head = src->head;
    }
    dst->tail = src->tail;
    dst->n += src->n;
    *src = (ReadyList){0};
}

/* Fisher-Yates on an array of the entries, then linked again. */
static void list_shuffle(ReadyList *l, Prng *rng)
{
    size_t n = l->n;
    g_autofree ReadyNode **nodes = g_new(ReadyNode *, n);

    for (size_t i = 0; i < n; i++) {
        nodes[i] = ready_list_pop(l);
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = prng_below(rng, i);
        ReadyNode *tmp = nodes[i - 1];

        nodes[i - 1] = nodes[j];
        nodes[j] = tmp;
    }
    for (size_t i = 0; i < n; i++) {
        ready_list_push(l, nodes[i]);
    }
}

void ready_next_round(ReadyQueue *q)
{
    if (q->drawn.n > 1) {
        list_shuffle(&q->drawn, &q->rng);
    }
    list_append(&q->now, &q->drawn);
    list_append(&q->now, &q->late);
}

void ready_seed(ReadyQueue *q, uint64_t seed)
{
    list_append(&q->now, &q->drawn);
    list_append(&q->now, &q->late);
    q->seeded = seed != 0;
    prng_init(&q->rng, seed);
}
