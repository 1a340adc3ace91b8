/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ASan, TSan and valgrind must be told about stacks that we switch and
 * memory that the kernel fills. Each call compiles to nothing without its tool.
 */
#ifndef UTIL_SANITIZER_H
#define UTIL_SANITIZER_H

#include "config.h"
#include "util/compiler.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SAN_ADDRESS 1
#endif
#if __has_feature(thread_sanitizer)
#define SAN_THREAD 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(SAN_ADDRESS)
#define SAN_ADDRESS 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(SAN_THREAD)
#define SAN_THREAD 1
#endif

#ifdef SAN_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define NO_ASAN __attribute__((no_sanitize_address))
#else
#define NO_ASAN
#endif

#ifdef SAN_THREAD
#include <sanitizer/tsan_interface.h>
#endif

#if CONFIG_VALGRIND
#include <valgrind/memcheck.h>
#include <valgrind/valgrind.h>
#endif

/* Before a jump to the stack at @bottom. @save: where the fake stack of the one that leaves is
 * kept; NULL: it never comes back to these frames. */
static inline void san_start_switch(void **save, const void *bottom, size_t bytes)
{
#ifdef SAN_ADDRESS
    __sanitizer_start_switch_fiber(save, bottom, bytes);
#else
    (void)save;
    (void)bottom;
    (void)bytes;
#endif
}

/* After a jump, on the new stack. @ret_bottom, @ret_bytes: the stack that was left, may be NULL. */
static inline void san_finish_switch(void *saved, const void **ret_bottom, size_t *ret_bytes)
{
#ifdef SAN_ADDRESS
    __sanitizer_finish_switch_fiber(saved, ret_bottom, ret_bytes);
#else
    (void)saved;
    (void)ret_bottom;
    (void)ret_bytes;
#endif
}

/* Poison of dead frames must not outlive the mapping: the address may be mapped again. */
static inline void san_unpoison(const void *mem, size_t bytes)
{
#ifdef SAN_ADDRESS
    __asan_unpoison_memory_region(mem, bytes);
#else
    (void)mem;
    (void)bytes;
#endif
}

static inline void *san_fiber_new(void)
{
#ifdef SAN_THREAD
    return __tsan_create_fiber(0);
#else
    return NULL;
#endif
}

static inline void san_fiber_free(void *fiber)
{
#ifdef SAN_THREAD
    __tsan_destroy_fiber(fiber);
#else
    (void)fiber;
#endif
}

static inline void *san_fiber_current(void)
{
#ifdef SAN_THREAD
    return __tsan_get_current_fiber();
#else
    return NULL;
#endif
}

/* Immediately before the jump, in the same function. */
static inline __attribute__((always_inline)) void san_fiber_switch(void *fiber)
{
#ifdef SAN_THREAD
    __tsan_switch_to_fiber(fiber, 0);
#else
    (void)fiber;
#endif
}

static inline unsigned san_stack_register(void *bottom, size_t bytes)
{
#if CONFIG_VALGRIND
    return VALGRIND_STACK_REGISTER(bottom, (char *)bottom + bytes);
#else
    (void)bottom;
    (void)bytes;
    return 0;
#endif
}

static inline void san_stack_deregister(unsigned id)
{
#if CONFIG_VALGRIND
    VALGRIND_STACK_DEREGISTER(id);
#else
    (void)id;
#endif
}

/* The kernel has filled @mem behind valgrind's back. */
static inline void san_mem_defined(const void *mem, size_t bytes)
{
#if CONFIG_VALGRIND
    (void)VALGRIND_MAKE_MEM_DEFINED(mem, bytes);
#else
    (void)mem;
    (void)bytes;
#endif
}

#endif
