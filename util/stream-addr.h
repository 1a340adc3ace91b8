/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream-addr: from StreamAddr to what the socket calls want, and names for messages. */
#ifndef UTIL_STREAM_ADDR_H
#define UTIL_STREAM_ADDR_H

#include <netdb.h>
#include <sys/un.h>

#include "util/stream.h"

/** addr_str() - the path, or host:port */
char *addr_str(const StreamAddr *addr);

/** addr_unix() - fill @ret; fails when the path is empty or does not fit */
bool addr_unix(const StreamAddr *addr, struct sockaddr_un *ret, socklen_t *ret_len, GError **errp);

/**
 * addr_co_resolve() - the addresses of an inet @addr, to be tried in turn
 * @passive: to bind; an absent host then stands for any address
 *
 * A name (not a literal address) is looked up on a worker thread.
 * Return: freeaddrinfo() it; NULL on failure.
 */
struct addrinfo *coroutine_fn addr_co_resolve(const StreamAddr *addr, bool passive, GError **errp);

/** sockaddr_str() - "unix:/path", "127.0.0.1:40000", "[::1]:40000" */
char *sockaddr_str(const struct sockaddr *sa, socklen_t len);

#endif
