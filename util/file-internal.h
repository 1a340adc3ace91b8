/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IoFile: its fields, and the inline path. */
#ifndef UTIL_FILE_INTERNAL_H
#define UTIL_FILE_INTERNAL_H

#include "io-op.h"
#include "loop-internal.h"
#include "util/file.h"

typedef enum FileEngine {
    FILE_ENGINE_INLINE, /* on a virtual loop */
    FILE_ENGINE_RING,
    FILE_ENGINE_AIO,
    FILE_ENGINE_THREADS,
} FileEngine;

/* How a call can be made here and now. */
typedef enum InlineWay {
    INLINE_NEVER,
    INLINE_ALWAYS,  /* the file system does not wait: tmpfs */
    INLINE_NOWAIT,  /* RWF_NOWAIT: the kernel says EAGAIN where it would wait */
    INLINE_GUARDED, /* plainly, and not for a while after one that took long */
} InlineWay;

struct IoFile {
    int fd;
    Loop *loop;
    FileEngine engine;
    bool direct;
    bool no_copy; /* copy_file_range() to here has been refused */

    InlineWay reads, writes;
    unsigned misses;        /* reads in a row that would have waited */
    int64_t suspect_until_ns;
    int64_t guarded_until_ns;
    int64_t guard_ns; /* how long the next guard lasts */

    unsigned in_flight; /* with the engine */
    unsigned heavy;     /* of these: fdatasync, fallocate, truncate, copy */
};

void file_inline_init(IoFile *f);

/** file_inline_try() - true: done, @op->result says how. @bytes: of a read or write */
bool file_inline_try(IoFile *f, IoOp *op, size_t bytes);

/** file_inline_may_copy() - true: copy_file_range() between these will not wait */
bool file_inline_may_copy(const IoFile *src, const IoFile *dst, size_t bytes);

/** file_inline_used_up() - account for an inline call; true: let others run now */
bool file_inline_used_up(IoFile *f, size_t bytes);

#endif
