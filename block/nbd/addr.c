/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SocketAddress -> StreamAddr.
 */
#include "block/sockaddr.h"

#include "qapi/walk.h"

static bool inet_to_stream(const InetSocketAddress *a, StreamAddr *ret, GError **errp)
{
    if (a->has_to) {
        return fail(errp, "Parameter 'to' is not supported");
    }
    if (a->has_mptcp && a->mptcp) {
        return fail(errp, "Parameter 'mptcp' is not supported");
    }
    *ret = (StreamAddr){
        .kind = STREAM_ADDR_INET,
        .host = a->host,
        .port = a->port,
        /* "not this one" means the other */
        .ipv4 = (a->has_ipv4 && a->ipv4) || (a->has_ipv6 && !a->ipv6),
        .ipv6 = (a->has_ipv6 && a->ipv6) || (a->has_ipv4 && !a->ipv4),
    };
    if (a->has_ipv4 && !a->ipv4 && a->has_ipv6 && !a->ipv6) {
        return fail(errp, "Cannot disable IPv4 and IPv6 at same time");
    }
    if (ret->ipv4 && ret->ipv6) {
        ret->ipv4 = ret->ipv6 = false; /* either */
    }
    return true;
}

static bool unix_to_stream(const UnixSocketAddress *a, StreamAddr *ret, GError **errp)
{
    if (a->has_abstract && a->abstract && a->has_tight && !a->tight) {
        return fail(errp, "Parameter 'tight' cannot be off");
    }
    *ret = (StreamAddr){
        .kind = STREAM_ADDR_UNIX,
        .path = a->path,
        .abstract = a->has_abstract && a->abstract,
    };
    return true;
}

static bool fd_to_stream(const FdSocketAddress *a, StreamAddr *ret, GError **errp)
{
    guint64 fd;

    if (!g_ascii_string_to_unsigned(a->str, 10, 0, INT_MAX, &fd, NULL)) {
        return fail(errp, "File descriptor '%s' is not a number", a->str);
    }
    *ret = (StreamAddr){.kind = STREAM_ADDR_FD, .fd = fd};
    return true;
}

bool sockaddr_to_stream(const SocketAddress *addr, StreamAddr *ret, GError **errp)
{
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return inet_to_stream(&addr->u.inet, ret, errp);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return unix_to_stream(&addr->u.q_unix, ret, errp);
    case SOCKET_ADDRESS_TYPE_FD:
        return fd_to_stream(&addr->u.fd, ret, errp);
    default:
        return fail(errp, "Socket address type '%s' is not supported",
                    socket_address_type_str(addr->type));
    }
}

SocketAddress *sockaddr_from_legacy(const SocketAddressLegacy *addr)
{
    SocketAddress flat = {.type = addr->type};

    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        flat.u.inet = *addr->u.inet.data;
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        flat.u.q_unix = *addr->u.q_unix.data;
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        flat.u.vsock = *addr->u.vsock.data;
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        flat.u.fd = *addr->u.fd.data;
        break;
    default:
        g_assert_not_reached();
    }
    return socket_address_copy(&flat);
}
