/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting for each other, among coroutines of one loop.
 *
 * Nothing here is for threads: there are no atomics, and a function that is
 * not coroutine_fn neither yields nor runs anybody. All queues are FIFO. All
 * objects may be zero-initialised and hold no memory when idle.
 */
#ifndef UTIL_SYNC_H
#define UTIL_SYNC_H

#include <glib.h>

#include "util/coroutine.h"

typedef struct CoWaiter CoWaiter; /* on the stack of the one who waits */

/* --- CoQueue: wait until told --- */
typedef struct CoQueue {
    CoWaiter *head, *tail;
} CoQueue;

void coroutine_fn co_queue_wait(CoQueue *q);

/** co_queue_wait_deadline() - as wait; false if loop_now_ns() reached @deadline_ns first */
bool coroutine_fn MUST_USE co_queue_wait_deadline(CoQueue *q, int64_t deadline_ns);

/** co_queue_wake_one() - false if nobody waits */
bool co_queue_wake_one(CoQueue *q);
void co_queue_wake_all(CoQueue *q);
static inline bool co_queue_is_empty(const CoQueue *q)
{
    return q->head == NULL;
}

/* --- CoMutex: fair, handed over in FIFO order, not recursive (asserted) --- */
typedef struct CoMutex {
    Coroutine *holder;
    CoQueue waiters;
} CoMutex;

void coroutine_fn co_mutex_lock(CoMutex *m);
bool MUST_USE co_mutex_trylock(CoMutex *m);
void co_mutex_unlock(CoMutex *m);

static inline void co_mutex_guard_end(CoMutex **m)
{
    co_mutex_unlock(*m);
}
/* Hold @m from here to the end of the block. */
#define CO_LOCK_GUARD(m)                                                                           \
    __attribute__((cleanup(co_mutex_guard_end), unused)) CoMutex *G_PASTE(guard_, __LINE__) =      \
        (co_mutex_lock(m), (m))

/* --- CoRwLock: many readers or one writer; FIFO, so writers do not starve --- */
typedef struct CoRwLock {
    int readers; /* -1: a writer holds it */
    CoWaiter *head, *tail;
} CoRwLock;

void coroutine_fn co_rwlock_rdlock(CoRwLock *l);
void coroutine_fn co_rwlock_wrlock(CoRwLock *l);
void co_rwlock_unlock(CoRwLock *l);

/* --- Byte ranges: an interval tree of held and wanted ranges --- */
typedef enum CoRangeMode {
    CO_RANGE_SHARED,    /* overlaps other shared ones */
    CO_RANGE_EXCLUSIVE, /* overlaps nothing */
} CoRangeMode;

typedef struct CoRange CoRange;
struct CoRange { /* caller's memory; all fields private */
    uint64_t start, end;
    uint64_t max_end; /* of the subtree */
    CoRangeMode mode;
    uint64_t ticket;  /* order of arrival */
    CoRange *left, *right, *parent;
    uint32_t priority;
    int blockers;     /* earlier conflicting ranges not yet released */
    Coroutine *co;
};

typedef struct CoRangeLock {
    CoRange *root;
    uint64_t next_ticket;
    uint32_t seed;
} CoRangeLock;

/**
 * co_range_lock() - hold [@offset, @offset + @bytes) until co_range_unlock()
 *
 * Waits for every conflicting range that was asked for earlier, held or still
 * waiting, so ranges are granted in order of arrival where they overlap.
 * O(log n) plus the number of overlapping ranges. @bytes may be 0: conflicts
 * with nothing.
 */
void coroutine_fn co_range_lock(CoRangeLock *l, CoRange *r, uint64_t offset, uint64_t bytes,
                                CoRangeMode mode);
/** co_range_trylock() - take it if that needs no wait; never yields */
bool MUST_USE co_range_trylock(CoRangeLock *l, CoRange *r, uint64_t offset, uint64_t bytes,
                               CoRangeMode mode);
void co_range_unlock(CoRangeLock *l, CoRange *r);

/** co_range_conflicts() - would a range asked for now have to wait? */
bool co_range_conflicts(const CoRangeLock *l, uint64_t offset, uint64_t bytes, CoRangeMode mode);

/* --- CoGroup: start several, wait for all, keep the first error --- */
typedef int CoGroupFn(void *opaque); /* a coroutine_fn; returns 0 or -errno */

typedef struct CoGroup {
    int running;
    int first_error;
    Coroutine *joiner;
    CoQueue slots; /* those who wait for room under a limit */
} CoGroup;

/** co_group_spawn() - run @fn(@opaque) in a coroutine of its own */
void co_group_spawn(CoGroup *g, CoGroupFn *fn, void *opaque);
/** co_group_throttle() - wait until fewer than @max run */
void coroutine_fn co_group_throttle(CoGroup *g, int max);
/** co_group_wait() - wait until none runs; returns the first error and clears it */
int coroutine_fn co_group_wait(CoGroup *g);

/* --- RateLimit: a token bucket in virtual or real time --- */
typedef struct RateLimit {
    uint64_t units_per_s; /* 0: unlimited */
    int64_t next_ns;      /* when the next unit may be spent */
} RateLimit;

void rate_limit_set(RateLimit *r, uint64_t units_per_s);
/** rate_limit_delay_ns() - spend @units; how long the spender has to wait for it, 0 if not */
int64_t rate_limit_delay_ns(RateLimit *r, uint64_t units);

#endif
