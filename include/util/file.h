/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IoFile: asynchronous operations on one open file.
 *
 * What is in the page cache is done inline, because a system call that does
 * not wait costs less than any hand-over: reads by RWF_NOWAIT, or plainly on a
 * file system that never waits (tmpfs). The rest goes to the ring, to libaio or
 * to the worker pool.
 */
#ifndef UTIL_FILE_H
#define UTIL_FILE_H

#include "util/iov.h"
#include "util/loop.h"

typedef enum IoEngine {
    IO_ENGINE_AUTO, /* the poller's own: the ring or the worker pool, with the inline path */
    IO_ENGINE_THREADS,
    IO_ENGINE_IO_URING,
    IO_ENGINE_NATIVE, /* libaio; the file must be O_DIRECT */
} IoEngine;

typedef struct IoFile IoFile;

/**
 * io_file_new() - take an open descriptor for use on this thread's loop
 *
 * Owns @fd from here on, also on failure. Fails when the engine is not there.
 */
IoFile *io_file_new(int fd, IoEngine engine, GError **errp);
/** io_file_allow_inline() - make calls that will not wait at once, whatever the engine */
void io_file_allow_inline(IoFile *f);
/** io_file_free() - no operation in flight (asserted); closes the descriptor */
void io_file_free(IoFile *f);
int io_file_fd(const IoFile *f);

/*
 * All return 0 or -errno. Short transfers are continued; a read past the end
 * of the file reads zeros there. @flags of pwritev: 0 or IO_FILE_FUA (RWF_DSYNC).
 */
#define IO_FILE_FUA 1
int coroutine_fn io_file_co_preadv(IoFile *f, int64_t offset, IoVec iov);
int coroutine_fn io_file_co_pwritev(IoFile *f, int64_t offset, IoVec iov, int flags);
int coroutine_fn io_file_co_fdatasync(IoFile *f);
/** mode as fallocate(2) */
int coroutine_fn io_file_co_fallocate(IoFile *f, int mode, int64_t offset, int64_t bytes);
int coroutine_fn io_file_co_truncate(IoFile *f, int64_t length);
/** copy_file_range(2), in the worker pool where it may wait; all of @bytes or an error. -ENOTSUP:
 * copy by reading and writing (no support, other file system, or the source ends inside the range)
 */
int coroutine_fn io_file_co_copy_range(IoFile *src, int64_t src_offset, IoFile *dst,
                                       int64_t dst_offset, int64_t bytes);

#endif
