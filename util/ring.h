/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ring: file operations of a loop through io_uring.
 *
 * Operations gather in the submission queue and go to the kernel in one call a
 * turn. Completions signal an eventfd that sits in the loop's epoll set.
 */
#ifndef UTIL_RING_H
#define UTIL_RING_H

#include "io-op.h"
#include "loop-internal.h"

/** ring_new() - NULL and @errp when the kernel refuses or the build has no liburing */
Ring *ring_new(Loop *loop, GError **errp);
/** ring_free() - nothing in flight (asserted); NULL is fine */
void ring_free(Ring *ring);

/** ring_co_do() - carry @op out; its result */
ssize_t coroutine_fn ring_co_do(Ring *ring, IoOp *op);

/** ring_flush() - submit what has gathered and take what has completed */
void ring_flush(Ring *ring);

/** ring_must_retry() - the kernel was short of memory: flush again soon */
bool ring_must_retry(const Ring *ring);

#endif
