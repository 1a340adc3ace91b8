/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WorkerPool. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "worker.h"

#define MAX_THREADS 64
#define IDLE_S      2

typedef struct Work Work;
struct Work { /* on the stack of the coroutine that waits for it */
    PostNode done;
    Work *next;
    int (*fn)(void *opaque);
    void *opaque;
    int ret;
    Coroutine *co;
};

struct WorkerPool {
    Loop *loop;
    Work *gathered, **gathered_tail; /* the loop's: handed over once a turn */
    pthread_mutex_t lock;            /* of all below */
    pthread_cond_t wanted;           /* work has come, or stop */
    pthread_cond_t gone;             /* the last thread has ended */
    Work *head, **tail;
    unsigned threads;
    unsigned idle; /* wait on @wanted */
    bool stop;
};

static Work *take_work(WorkerPool *p)
{
    Work *w = p->head;

    p->head = w->next;
    if (!p->head) {
        p->tail = &p->head;
    }
    return w;
}

/* With the lock held. False: nothing to do for too long, or stop. */
static bool wait_for_work(WorkerPool *p)
{
    struct timespec end;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += IDLE_S;
    p->idle++;
    while (!p->head && !p->stop && r != ETIMEDOUT) {
        r = pthread_cond_timedwait(&p->wanted, &p->lock, &end);
    }
    p->idle--;
    return p->head != NULL;
}

static void *worker_thread(void *opaque);

/* Signals belong to the threads of the program, not to ours. Return: 0 or errno. */
static int start_thread(WorkerPool *p)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&thread, &attr, worker_thread, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return r;
}

/*
 * With the lock held. Each thread that finds more than its own work wakes one
 * more, so calls that end quickly are done by few threads, and for slow ones
 * their number doubles with each round.
 */
static void wake_one(WorkerPool *p)
{
    if (p->idle) {
        pthread_cond_signal(&p->wanted);
    } else if (p->threads < MAX_THREADS && start_thread(p) == 0) {
        p->threads++;
    }
}

static void *worker_thread(void *opaque)
{
    WorkerPool *p = opaque;

    pthread_mutex_lock(&p->lock);
    while (p->head || wait_for_work(p)) {
        Work *w = take_work(p);

        if (p->head) {
            wake_one(p);
        }
        pthread_mutex_unlock(&p->lock);
        w->ret = w->fn(w->opaque);
        loop_post_node(p->loop, &w->done);
        pthread_mutex_lock(&p->lock);
    }
    p->threads--;
    if (p->threads == 0) {
        pthread_cond_signal(&p->gone);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static WorkerPool *worker_pool_new(Loop *loop)
{
    WorkerPool *p = g_new0(WorkerPool, 1);
    pthread_condattr_t attr;

    p->loop = loop;
    p->gathered_tail = &p->gathered;
    p->tail = &p->head;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wanted, &attr);
    pthread_cond_init(&p->gone, &attr);
    pthread_condattr_destroy(&attr);
    return p;
}

void worker_pool_free(WorkerPool *p)
{
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    assert(!p->head && !p->gathered);
    p->stop = true;
    pthread_cond_broadcast(&p->wanted);
    while (p->threads) {
        pthread_cond_wait(&p->gone, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&p->gone);
    pthread_cond_destroy(&p->wanted);
    pthread_mutex_destroy(&p->lock);
    g_free(p);
}

static void work_arrive(Loop *loop, PostNode *node)
{
    co_wake(container_of(node, Work, done)->co);
}

/* No thread runs and none can be made: late is better than never. */
static void run_here(WorkerPool *p)
{
    while (p->head) {
        Work *w = take_work(p);

        w->ret = w->fn(w->opaque);
        loop_post_node(p->loop, &w->done);
    }
}

void worker_pool_flush(WorkerPool *p)
{
    if (!p->gathered) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    *p->tail = p->gathered;
    p->tail = p->gathered_tail;
    p->gathered = NULL;
    p->gathered_tail = &p->gathered;
    wake_one(p);
    if (!p->threads) {
        run_here(p);
    }
    pthread_mutex_unlock(&p->lock);
}

int coroutine_fn co_run_blocking(int (*fn)(void *opaque), void *opaque)
{
    Loop *loop = loop_current();
    Work w = {.done.arrive = work_arrive, .fn = fn, .opaque = opaque, .co = co_self()};
    WorkerPool *p;

    assert(w.co);
    if (loop->kind == LOOP_POLLER_VIRTUAL) {
        return fn(opaque);
    }
    if (!loop->workers) {
        loop->workers = worker_pool_new(loop);
    }
    p = loop->workers;
    *p->gathered_tail = &w;
    p->gathered_tail = &w.next;
    co_yield ();
    return w.ret;
}
