/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kind of stream provides. A kind embeds Stream as its first member.
 *
 * stream.c has checked that one coroutine reads and one writes, that there is
 * something to transfer, and turns nothing into errors of its own: what an
 * operation returns is what the caller sees.
 */
#ifndef UTIL_STREAM_INTERNAL_H
#define UTIL_STREAM_INTERNAL_H

#include "util/stream.h"

typedef struct StreamOps {
    /* At least one byte, 0 at the end, -errno; wait if there is none. */
    ssize_t coroutine_ptr (*co_readv)(Stream *s, IoVec iov);
    /* The same without waiting: -EAGAIN. */
    ssize_t (*try_readv)(Stream *s, IoVec iov);
    /* All of @iov: 0 or -errno. */
    int coroutine_ptr (*co_writev)(Stream *s, IoVec iov);
    /* Called once; wakes who waits. Operations fail from now on. */
    void (*shutdown)(Stream *s);
    /* After shutdown; nobody is inside an operation. */
    void (*free)(Stream *s);
} StreamOps;

struct Stream {
    const StreamOps *ops;
    char *peer_name;
    bool reading, writing; /* somebody is inside */
    bool down;             /* stream_shutdown() was called */
};

/** stream_init() - @peer_name is owned by the stream from here on */
void stream_init(Stream *s, const StreamOps *ops, char *peer_name);

#endif
