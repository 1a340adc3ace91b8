/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schema's SocketAddress as a StreamAddr.
 */
#ifndef BLOCK_SOCKADDR_H
#define BLOCK_SOCKADDR_H

#include "qapi/types.h"
#include "util/error.h"
#include "util/stream.h"

/**
 * sockaddr_to_stream() - @ret borrows the strings of @addr
 *
 * Refuses by name what streams cannot do: vsock, multipath TCP, a range of
 * ports, padded abstract names, descriptors that are no number.
 */
bool sockaddr_to_stream(const SocketAddress *addr, StreamAddr *ret, GError **errp);

/** sockaddr_from_legacy() - the caller frees the result with socket_address_free() */
SocketAddress *sockaddr_from_legacy(const SocketAddressLegacy *addr);

#endif
