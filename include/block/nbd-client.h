/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What other parts may ask of an `nbd` node: the state of its link.
 */
#ifndef BLOCK_NBD_CLIENT_H
#define BLOCK_NBD_CLIENT_H

#include "block/node.h"
#include "util/stream.h"

/** nbd_client_is() - is this a node of driver `nbd`? The others take such a node only. */
bool nbd_client_is(const BlockNode *node);

bool nbd_client_is_connected(const BlockNode *node);

/** nbd_client_fail_waiting() - requests that wait for a lost server fail now, and with them the
 * link; where there are none, the server has its reconnect-delay to come back. Plain. */
void nbd_client_fail_waiting(BlockNode *node);

typedef enum NbdLinkEvent {
    NBD_LINK_UP,          /* again */
    NBD_LINK_DOWN,        /* with a reconnect-delay: it has passed in vain */
    NBD_LINK_WRITES_LOST, /* perhaps: it broke with writes that nobody had flushed, and does not
                           * lead to the same export again */
} NbdLinkEvent;

/* @err: positive errno; 0 of "up". Plain function, called as soon as the receiving side notices,
 * request or not. */
typedef void NbdLinkFn(BlockNode *node, NbdLinkEvent event, int err, void *opaque);

/** nbd_client_set_link_callback() - one listener; NULL: none */
void nbd_client_set_link_callback(BlockNode *node, NbdLinkFn *fn, void *opaque);

/** A coroutine_fn: connect to @addr; NULL and @errp */
typedef Stream *NbdDialFn(const StreamAddr *addr, void *opaque, GError **errp);

/** nbd_client_set_dialer() - how all `nbd` nodes connect, in place of sockets; NULL: sockets.
 * For hosts that live in one process (simulation). */
void nbd_client_set_dialer(NbdDialFn *fn, void *opaque);

#endif
