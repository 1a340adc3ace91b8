/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WorkerPool: the threads of a loop for calls that block.
 *
 * Threads are made when work finds none idle, up to a bound, and end after some
 * seconds without work, so an idle program has none.
 */
#ifndef UTIL_WORKER_H
#define UTIL_WORKER_H

#include "loop-internal.h"

/** worker_pool_free() - wait for the threads to end; no work is left. NULL is fine. */
void worker_pool_free(WorkerPool *pool);

/** worker_pool_flush() - hand what this turn has gathered to the threads */
void worker_pool_flush(WorkerPool *pool);

#endif
