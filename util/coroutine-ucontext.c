/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoContext on swapcontext(3): for processors without an own switch.
 */
#include "coroutine-context.h"

/* makecontext() passes ints only: a pointer travels as two halves. */
typedef union PointerHalves {
    struct {
        CoEntry *entry;
        void *opaque;
    } p;
    unsigned half[4];
} PointerHalves;

_Static_assert(sizeof(void *) <= 2 * sizeof(unsigned), "a pointer fits in two ints");

static void context_entry(unsigned a, unsigned b, unsigned c, unsigned d)
{
    PointerHalves h = {.half = {a, b, c, d}};

    h.p.entry(h.p.opaque);
}

void co_context_init(CoContext *c, void *stack, size_t bytes, CoEntry *entry, void *opaque)
{
    PointerHalves h = {.p = {entry, opaque}};

    int r = getcontext(&c->uc);

    assert(r == 0);
    c->uc.uc_stack.ss_sp = stack;
    c->uc.uc_stack.ss_size = bytes;
    c->uc.uc_link = NULL;
    makecontext(&c->uc, (void (*)(void))context_entry, 4, h.half[0], h.half[1], h.half[2],
                h.half[3]);
}

void co_context_switch(CoContext *from, CoContext *to)
{
    int r = swapcontext(&from->uc, &to->uc);

    assert(r == 0);
}
