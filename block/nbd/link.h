/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdLink: the transmission phase of one connection, client side.
 *
 * Requests are pipelined: each takes a slot, its cookie names the slot and the
 * slot's use, and one coroutine that always runs receives the replies, straight
 * into the memory of the caller. So a broken connection is noticed whether or
 * not anybody waits.
 *
 * When the link breaks or the server breaks the protocol every call fails at
 * once, and the link is of no further use.
 */
#ifndef BLOCK_NBD_LINK_H
#define BLOCK_NBD_LINK_H

#include "cover.h"
#include "block/nbd/handshake.h"
#include "block/nbd/sender.h"

#define NBD_LINK_SLOTS 64 /* in flight; further calls wait */

typedef struct NbdLink NbdLink;

/* One request; on the stack of the caller. */
typedef struct NbdCall {
    /* From the caller. */
    uint16_t type; /* NbdCmd, not DISC */
    uint16_t flags;
    uint64_t offset;
    uint32_t length; /* > 0 but for FLUSH */
    IoVec iov;       /* READ: destination; WRITE: source; of @length bytes */

    /* Result. */
    int ret;          /* 0 or -errno */
    bool link_failed; /* @ret comes from the link, not from the server */
    NbdExtent extent; /* BLOCK_STATUS: the first, not longer than @length */

    /* Private to link.c. */
    NbdOut out;
    uint8_t head[NBD_REQUEST_BYTES];
    uint64_t cookie;
    Coroutine *co;
    bool on_wire, replied, has_extent;
    NbdCover cover;
} NbdCall;

/** Plain function, called once when the link has failed, after all calls were failed.
 * @err: positive errno. @fatal: the server broke the protocol; do not try again. */
typedef void NbdLinkDownFn(NbdLink *link, int err, bool fatal, void *opaque);

/** nbd_link_new() - owns @stream; takes over what @r has buffered (and destroys @r) */
NbdLink *nbd_link_new(Stream *stream, NbdReader *r, const NbdSession *session, NbdLinkDownFn *down,
                      void *opaque);

/** nbd_link_co_call() - returns call->ret. The memory of the call and its slice is free then. */
int coroutine_fn nbd_link_co_call(NbdLink *link, NbdCall *call);

/** nbd_link_shutdown() - let everything fail now; @down is told. Plain, any time. */
void nbd_link_shutdown(NbdLink *link);

/** nbd_link_co_free() - say goodbye if that does not wait, shut down, wait for the calls to
 * return (they do at once) and free. @down is not called any more. */
void coroutine_fn nbd_link_co_free(NbdLink *link);

#endif
