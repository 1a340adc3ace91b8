/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdClient: an export of a server, through as many connections, one after the
 * other, as it takes.
 *
 *   CONNECTED --link breaks, delay > 0--> WAIT --delay passes, yank, drain--> NOWAIT
 *   CONNECTED --link breaks, delay = 0, or yank----------------------> NOWAIT
 *   WAIT, NOWAIT --reconnected, same export--> CONNECTED
 *   any --server breaks the protocol, or is another after reconnect--> QUIT
 *
 * In WAIT requests queue, and those that were in flight are sent again. In
 * NOWAIT and QUIT they fail with -EIO at once. While not CONNECTED attempts
 * go on in the background, 1, 2, 4, 8, 16, 16... seconds apart.
 *
 * Writes that were acknowledged and not flushed when a link broke may be lost
 * if the server died: it is told, and the next flush fails once. That it has
 * not died shows when a new link leads to the same instance of the export, which
 * is waited for if the server tells its instance and may come back.
 */
#ifndef BLOCK_NBD_CLIENT_PRIVATE_H
#define BLOCK_NBD_CLIENT_PRIVATE_H

#include "link.h"

typedef struct NbdClient NbdClient;

typedef enum NbdClientState {
    NBD_CLIENT_CONNECTED,
    NBD_CLIENT_WAIT,
    NBD_CLIENT_NOWAIT,
    NBD_CLIENT_QUIT,
} NbdClientState;

typedef struct NbdClientOptions {
    const StreamAddr *addr;
    const char *export;
    const char *context; /* metadata context; NULL: none */
    int64_t reconnect_delay_ns;
    int64_t open_timeout_ns; /* 0: one attempt */
    /* The link went down for requests (@err: positive errno) or came back. May be NULL. */
    void (*link_changed)(bool up, int err, void *opaque);
    /* A link broke, for @err, with writes that were acknowledged and not flushed. May be NULL. */
    void (*writes_lost)(int err, void *opaque);
    /* A request begins to wait for the link to come back. May be NULL. */
    void (*waiting)(void *opaque);
    void *opaque;
} NbdClientOptions;

/** nbd_client_co_open() - connected, or NULL and @errp. Copies what @o points at. */
NbdClient *coroutine_fn nbd_client_co_open(const NbdClientOptions *o, GError **errp);

/** nbd_client_cancel_open() - a nbd_client_co_open() with this @opaque in its options that is under
 * way fails now. Plain. */
void nbd_client_cancel_open(const void *opaque);

/** nbd_client_co_close() - nobody is inside a call (asserted). Sends a flush if there is something
 * to flush, and waits for the answer five seconds, or until the link ends or is given up. */
void coroutine_fn nbd_client_co_close(NbdClient *c);

/** nbd_client_co_call() - any command but FLUSH; returns call->ret */
int coroutine_fn nbd_client_co_call(NbdClient *c, NbdCall *call);
int coroutine_fn nbd_client_co_flush(NbdClient *c);

/** nbd_client_is_silent() - has a request waited, and none been answered, since this was asked
 * last? Plain. */
bool nbd_client_is_silent(NbdClient *c);
/** nbd_client_give_up() - requests in flight and in WAIT fail now. Plain. */
void nbd_client_give_up(NbdClient *c);

/** nbd_client_stop_waiting() - requests in WAIT fail now; where there are none, WAIT goes on.
 * Plain. */
void nbd_client_stop_waiting(NbdClient *c);

NbdClientState nbd_client_state(const NbdClient *c);
/** nbd_client_session() - as agreed at the first connection; holds for all */
const NbdSession *nbd_client_session(const NbdClient *c);

#endif
