/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sync: queues, mutexes, read-write locks, groups and rate limits.
 *
 * A waiter lives on the stack of the coroutine that waits and is linked into
 * exactly one list. Whoever takes it off the list wakes the coroutine, and
 * only he does: a wake and a deadline in the same instant cannot both happen,
 * because the first to come unlinks the waiter and disarms the other.
 *
 * Locks are handed over: the one who unlocks makes the next one the holder
 * before that one runs, so nobody can slip in between.
 */
#include "util/sync.h"

#include "util/loop.h"

struct CoWaiter {
    CoWaiter *prev, *next;
    Coroutine *co;
    bool wants_write; /* CoRwLock */
    bool timed_out;
    LoopTimer *timer; /* NULL: no deadline */
    CoQueue *queue;   /* for the timer */
};

static void waiter_append(CoWaiter **head, CoWaiter **tail, CoWaiter *w)
{
    w->prev = *tail;
    w->next = NULL;
    if (*tail != NULL) {
        (*tail)->next = w;
    } else {
        *head = w;
    }
    *tail = w;
}

static void waiter_unlink(CoWaiter **head, CoWaiter **tail, CoWaiter *w)
{
    *(w->prev != NULL ? &w->prev->next : head) = w->next;
    *(w->next != NULL ? &w->next->prev : tail) = w->prev;
}

/* --- CoQueue --- */

void coroutine_fn co_queue_wait(CoQueue *q)
{
    CoWaiter w = {.co = co_self()};

    assert(w.co != NULL);
    waiter_append(&q->head, &q->tail, &w);
    co_yield ();
}

static void waiter_timeout(void *opaque)
{
    CoWaiter *w = opaque;

    w->timed_out = true;
    waiter_unlink(&w->queue->head, &w->queue->tail, w);
    co_wake(w->co);
}

bool coroutine_fn co_queue_wait_deadline(CoQueue *q, int64_t deadline_ns)
{
    LoopTimer timer;
    CoWaiter w = {.co = co_self(), .timer = &timer, .queue = q};

    assert(w.co != NULL);
    if (loop_now_ns() >= deadline_ns) {
        return false;
    }
    timer_init(&timer, waiter_timeout, &w);
    timer_arm(&timer, deadline_ns);
    waiter_append(&q->head, &q->tail, &w);
    co_yield ();
    assert(!timer_is_armed(&timer));
    return !w.timed_out;
}

/* Take the first waiter off and wake it; NULL if there is none. */
static Coroutine *queue_wake_head(CoQueue *q)
{
    CoWaiter *w = q->head;

    if (w == NULL) {
        return NULL;
    }
    waiter_unlink(&q->head, &q->tail, w);
    if (w->timer != NULL) {
        timer_cancel(w->timer);
    }
    co_wake(w->co);
    return w->co;
}

bool co_queue_wake_one(CoQueue *q)
{
    return queue_wake_head(q) != NULL;
}

void co_queue_wake_all(CoQueue *q)
{
    while (queue_wake_head(q) != NULL) {
        /* nobody runs meanwhile, so nobody can queue again */
    }
}

/* --- CoMutex --- */

bool co_mutex_trylock(CoMutex *m)
{
    assert(in_coroutine());
    if (m->holder != NULL) {
        return false;
    }
    m->holder = co_self();
    return true;
}

void coroutine_fn co_mutex_lock(CoMutex *m)
{
    if (co_mutex_trylock(m)) {
        return;
    }
    assert(m->holder != co_self());
    co_queue_wait(&m->waiters);
    assert(m->holder == co_self());
}

void co_mutex_unlock(CoMutex *m)
{
    assert(m->holder != NULL && m->holder == co_self());
    m->holder = queue_wake_head(&m->waiters);
}

/* --- CoRwLock --- */

static bool rwlock_admit(CoRwLock *l, bool write)
{
    if (write ? l->readers != 0 : l->readers < 0) {
        return false;
    }
    l->readers = write ? -1 : l->readers + 1;
    return true;
}

static void coroutine_fn rwlock_co_lock(CoRwLock *l, bool write)
{
    CoWaiter w = {.co = co_self(), .wants_write = write};

    assert(w.co != NULL);
    if (l->head == NULL && rwlock_admit(l, write)) {
        return;
    }
    waiter_append(&l->head, &l->tail, &w);
    co_yield ();
    assert(write ? l->readers == -1 : l->readers > 0);
}

void coroutine_fn co_rwlock_rdlock(CoRwLock *l)
{
    rwlock_co_lock(l, false);
}

void coroutine_fn co_rwlock_wrlock(CoRwLock *l)
{
    rwlock_co_lock(l, true);
}

void co_rwlock_unlock(CoRwLock *l)
{
    assert(l->readers != 0);
    l->readers = l->readers < 0 ? 0 : l->readers - 1;
    while (l->head != NULL && rwlock_admit(l, l->head->wants_write)) {
        CoWaiter *w = l->head;

        waiter_unlink(&l->head, &l->tail, w);
        co_wake(w->co);
    }
}

/* --- CoGroup --- */

typedef struct GroupJob {
    CoGroup *group;
    CoGroupFn *fn;
    void *opaque;
} GroupJob;

/*
 * Whoever is woken must find the group as it was left, so the joiner is told
 * last; it may free the group.
 */
static void group_job_done(CoGroup *g, int result)
{
    assert(g->running > 0 && result <= 0);
    if (g->first_error == 0) {
        g->first_error = result;
    }
    g->running--;
    co_queue_wake_all(&g->slots); /* each checks its own limit again */
    if (g->running == 0 && g->joiner != NULL) {
        Coroutine *joiner = g->joiner;

        g->joiner = NULL;
        co_wake(joiner);
    }
}

static void coroutine_fn group_job_entry(void *opaque)
{
    GroupJob job = *(GroupJob *)opaque;

    g_free(opaque);
    group_job_done(job.group, job.fn(job.opaque));
}

void co_group_spawn(CoGroup *g, CoGroupFn *fn, void *opaque)
{
    GroupJob *job = g_new(GroupJob, 1);

    *job = (GroupJob){.group = g, .fn = fn, .opaque = opaque};
    g->running++;
    co_spawn(group_job_entry, job);
}

void coroutine_fn co_group_throttle(CoGroup *g, int max)
{
    assert(max > 0);
    while (g->running >= max) {
        co_queue_wait(&g->slots);
    }
}

int coroutine_fn co_group_wait(CoGroup *g)
{
    int ret;

    while (g->running > 0) {
        assert(g->joiner == NULL);
        g->joiner = co_self();
        co_yield ();
    }
    ret = g->first_error;
    g->first_error = 0;
    return ret;
}

/* --- RateLimit --- */

/* @units at @units_per_s, rounded up and saturated. */
static int64_t rate_cost_ns(uint64_t units, uint64_t units_per_s)
{
    unsigned __int128 ns = (unsigned __int128)units * NS_PER_S;

    ns = (ns + units_per_s - 1) / units_per_s;
    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

/* What was spent ahead of time stays spent, at the price of the new rate. */
void rate_limit_set(RateLimit *r, uint64_t units_per_s)
{
    int64_t now_ns = loop_now_ns();
    int64_t debt_ns = r->next_ns > now_ns ? r->next_ns - now_ns : 0;

    if (units_per_s == 0 || r->units_per_s == 0) {
        debt_ns = 0;
    } else {
        long double scaled = (long double)debt_ns * r->units_per_s / units_per_s;

        debt_ns = scaled < (long double)(INT64_MAX - now_ns) ? (int64_t)scaled : INT64_MAX - now_ns;
    }
    r->units_per_s = units_per_s;
    r->next_ns = now_ns + debt_ns;
}

int64_t rate_limit_delay_ns(RateLimit *r, uint64_t units)
{
    int64_t now_ns = loop_now_ns();
    int64_t start_ns;

    if (r->units_per_s == 0) {
        return 0;
    }
    start_ns = MAX(r->next_ns, now_ns);
    if (__builtin_add_overflow(start_ns, rate_cost_ns(units, r->units_per_s), &r->next_ns)) {
        r->next_ns = INT64_MAX;
    }
    return start_ns - now_ns;
}
