/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdSender: the sending side of a connection. What is ready goes out together.
 *
 * Messages queue up; a coroutine that exists only while there is something to
 * send gathers them into one write. It goes to the end of the ready queue, so
 * whatever becomes ready in the same turn is in the same system call. Whole
 * messages only, in the order pushed.
 *
 * After the first error everything queued or pushed later is dropped, and the
 * stream is shut down so that the receiving side learns of it.
 */
#ifndef BLOCK_NBD_SENDER_H
#define BLOCK_NBD_SENDER_H

#include "util/stream.h"
#include "util/sync.h"

typedef struct NbdOut NbdOut;
struct NbdOut { /* a message; memory and what it points at are the pusher's until it is told */
    NbdOut *next;
    struct iovec head;
    IoVec body; /* may be empty */
};

/** Plain function: @out is on its way or dropped, the sender does not look at it any more. */
typedef void NbdSentFn(NbdOut *out, void *opaque);

typedef struct NbdSender {
    Stream *stream;
    NbdSentFn *sent;
    void *opaque;
    NbdOut *first, **tail;
    bool running;
    int error; /* -errno of the first failure */
    CoQueue idle;
    int64_t stuck_since_ns; /* a write is under way since then; 0: none */
} NbdSender;

void nbd_sender_init(NbdSender *s, Stream *stream, NbdSentFn *sent, void *opaque);

/** nbd_sender_push() - never yields and never calls sent() itself */
void nbd_sender_push(NbdSender *s, NbdOut *out);

/** nbd_sender_co_join() - until nothing is queued or being written */
void coroutine_fn nbd_sender_co_join(NbdSender *s);

#endif
