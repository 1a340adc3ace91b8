/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Aio: reads and writes of O_DIRECT files through libaio ("aio=native").
 *
 * Operations gather and go to the kernel in one call a turn. Completions signal
 * an eventfd that sits in the loop's epoll set.
 */
#ifndef UTIL_AIO_H
#define UTIL_AIO_H

#include "io-op.h"
#include "loop-internal.h"

/** aio_new() - NULL and @errp when the kernel refuses or the build has no libaio */
Aio *aio_new(Loop *loop, GError **errp);
/** aio_free() - nothing in flight (asserted); NULL is fine */
void aio_free(Aio *aio);

/** aio_co_do() - carry a read or write out; its result */
ssize_t coroutine_fn aio_co_do(Aio *aio, IoOp *op);

/** aio_flush() - submit what has gathered, as far as there is room */
void aio_flush(Aio *aio);

#endif
