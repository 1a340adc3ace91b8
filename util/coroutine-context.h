/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CoContext: where a stack was left, and the jump to another one.
 *
 * Two implementations: coroutine-asm.S saves just the registers that the C
 * calling convention says a callee preserves; coroutine-ucontext.c is portable
 * and an order of magnitude slower, for it changes the signal mask too.
 */
#ifndef UTIL_COROUTINE_CONTEXT_H
#define UTIL_COROUTINE_CONTEXT_H

#include "config.h"
#include "util/compiler.h"

typedef void CoEntry(void *opaque); /* must not return */

#if CONFIG_COROUTINE_UCONTEXT

#include <ucontext.h>

typedef struct CoContext {
    ucontext_t uc;
} CoContext;

/** co_context_init() - @c will start @entry(@opaque) on the stack [@stack, @stack + @bytes) */
void co_context_init(CoContext *c, void *stack, size_t bytes, CoEntry *entry, void *opaque);
void co_context_switch(CoContext *from, CoContext *to);

/** co_context_hot() - the memory that a switch to @c reads first */
static inline const void *co_context_hot(const CoContext *c)
{
    return c;
}

#else

typedef struct CoContext {
    void *sp;
} CoContext;

/* In coroutine-asm.S. */
void co_asm_switch(void **save_sp, void *load_sp);
void *co_asm_init(void *stack_top, CoEntry *entry, void *opaque);

static inline void co_context_init(CoContext *c, void *stack, size_t bytes, CoEntry *entry,
                                   void *opaque)
{
    c->sp = co_asm_init((char *)stack + bytes, entry, opaque);
}

static inline __attribute__((always_inline)) void co_context_switch(CoContext *from, CoContext *to)
{
    co_asm_switch(&from->sp, to->sp);
}

static inline const void *co_context_hot(const CoContext *c)
{
    return c->sp;
}

#endif
#endif
