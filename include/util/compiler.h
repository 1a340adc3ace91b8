/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words that every file uses: function attributes, byte units, small macros.
 */
#ifndef UTIL_COMPILER_H
#define UTIL_COMPILER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * coroutine_fn marks a function that may yield, so only a coroutine may call
 * it. clang's thread-safety analysis proves it: the mark is a capability that
 * only other coroutine_fn hold. A function that is the first of a coroutine is
 * itself coroutine_fn; co_spawn() takes its address, which needs nothing held.
 *
 * The analysis does not look through function pointers: a field that points to
 * a coroutine_fn says so with coroutine_ptr, and is called only from a
 * coroutine_fn wrapper.
 */
#if defined(__clang__)
struct __attribute__((capability("coroutine"))) CoroutineCapability {
    int unused;
};
extern struct CoroutineCapability coroutine_capability;
#define coroutine_fn __attribute__((requires_capability(coroutine_capability)))
/* Body runs in a coroutine only if the caller has checked in_coroutine(). */
#define coroutine_unchecked __attribute__((no_thread_safety_analysis))
#else
#define coroutine_fn
#define coroutine_unchecked
#endif
#define coroutine_ptr

#define MUST_USE     __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NORETURN     __attribute__((noreturn))
#define likely(x)    __builtin_expect(!!(x), 1)
#define unlikely(x)  __builtin_expect(!!(x), 0)

#define container_of(ptr, type, member)                                                            \
    ((type *)((char *)(1 ? (ptr) : (__typeof__(&((type *)0)->member))0) - offsetof(type, member)))

#define KiB          ((int64_t)1 << 10)
#define MiB          ((int64_t)1 << 20)
#define GiB          ((int64_t)1 << 30)
#define TiB          ((int64_t)1 << 40)

#define NS_PER_US    INT64_C(1000)
#define NS_PER_MS    INT64_C(1000000)
#define NS_PER_S     INT64_C(1000000000)

/* @align is a power of two. */
#define ALIGN_DOWN(n, align)  ((n) & ~((__typeof__(n))(align)-1))
#define ALIGN_UP(n, align)    ALIGN_DOWN((n) + ((__typeof__(n))(align)-1), align)
#define IS_ALIGNED(n, align)  (((n) & ((__typeof__(n))(align)-1)) == 0)
#define DIV_ROUND_UP(n, d)    (((n) + (d)-1) / (d))

#endif
