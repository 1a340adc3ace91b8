/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Buffers for data: page aligned, pooled per thread.
 *
 * The first touch of a fresh page costs 10 to 40 times its reuse, so a freed
 * buffer is kept (up to a bound per size class) and handed out again. Contents
 * of a new buffer are undefined.
 */
#ifndef UTIL_BUF_H
#define UTIL_BUF_H

#include "util/compiler.h"

#define BUF_ALIGN 4096

/** buf_alloc() - @bytes > 0 of our own choosing; aborts when memory is out */
void *buf_alloc(size_t bytes);

/** buf_try_alloc() - for sizes that a disk, peer or user chose; NULL when memory is out */
void *buf_try_alloc(size_t bytes) MUST_USE;

/** buf_free() - NULL is fine. @bytes is the size it was allocated with. */
void buf_free(void *buf, size_t bytes);

/** buf_pool_trim() - give all kept buffers of this thread back to the system */
void buf_pool_trim(void);

/** buf_is_zero() - fast test; @bytes may be 0 (true) */
bool buf_is_zero(const void *buf, size_t bytes);

#endif
