/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream-addr: checks and translates addresses; the only user of getaddrinfo(). */
#include "stream-addr.h"

#include <errno.h>
#include <string.h>

#include "util/error.h"

char *addr_str(const StreamAddr *addr)
{
    switch (addr->kind) {
    case STREAM_ADDR_UNIX:
        return g_strdup(addr->path);
    case STREAM_ADDR_INET:
        return g_strdup_printf("%s:%s", addr->host != NULL ? addr->host : "", addr->port);
    case STREAM_ADDR_FD:
        return g_strdup_printf("fd:%d", addr->fd);
    }
    g_assert_not_reached();
}

bool addr_unix(const StreamAddr *addr, struct sockaddr_un *ret, socklen_t *ret_len, GError **errp)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(addr->path);

    if (len == 0) {
        return fail(errp, "UNIX socket path is empty");
    }
    /* The byte that ends a path, or starts an abstract name, has to fit too. */
    if (len >= sizeof(un.sun_path)) {
        return fail(errp, "UNIX socket path '%s' is too long: it must be less than %zu bytes",
                    addr->path, sizeof(un.sun_path));
    }
    memcpy(un.sun_path + addr->abstract, addr->path, len);
    *ret = un;
    *ret_len = offsetof(struct sockaddr_un, sun_path) + len + 1;
    return true;
}

typedef struct Lookup {
    const char *host, *port;
    struct addrinfo hints;
    struct addrinfo *result;
} Lookup;

static int lookup_blocking(void *opaque)
{
    Lookup *l = opaque;

    return getaddrinfo(l->host, l->port, &l->hints, &l->result);
}

/* A literal address needs no thread. */
static int coroutine_fn lookup_co_run(Lookup *l)
{
    int flags = l->hints.ai_flags;
    int r;

    l->hints.ai_flags = flags | AI_NUMERICHOST | AI_NUMERICSERV;
    r = lookup_blocking(l);
    if (r != EAI_NONAME) {
        return r;
    }
    l->hints.ai_flags = flags;
    return co_run_blocking(lookup_blocking, l);
}

/* A socket on :: serves both families, so it goes before 0.0.0.0. */
static struct addrinfo *inet6_first(struct addrinfo *list)
{
    for (struct addrinfo **slot = &list; *slot != NULL; slot = &(*slot)->ai_next) {
        struct addrinfo *ai = *slot;

        if (ai->ai_family == AF_INET6) {
            *slot = ai->ai_next;
            ai->ai_next = list;
            return ai;
        }
    }
    return list;
}

struct addrinfo *coroutine_fn addr_co_resolve(const StreamAddr *addr, bool passive, GError **errp)
{
    bool any = addr->host == NULL || addr->host[0] == '\0';
    Lookup l = {
        .host = any ? NULL : addr->host,
        .port = addr->port,
        .hints.ai_socktype = SOCK_STREAM,
        .hints.ai_flags = passive ? AI_PASSIVE : 0,
        .hints.ai_family = addr->ipv4 == addr->ipv6 ? AF_UNSPEC
                           : addr->ipv4             ? AF_INET
                                                    : AF_INET6,
    };
    int r;

    if (addr->port == NULL || addr->port[0] == '\0') {
        fail(errp, "port not specified");
        return NULL;
    }
    r = lookup_co_run(&l);
    if (r != 0) {
        fail(errp, "address resolution failed for %s:%s: %s", any ? "" : addr->host, addr->port,
             r == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(r));
        return NULL;
    }
    return passive && any ? inet6_first(l.result) : l.result;
}

static char *unix_str(const struct sockaddr_un *un, socklen_t len)
{
    size_t bytes = len > offsetof(struct sockaddr_un, sun_path)
                       ? len - offsetof(struct sockaddr_un, sun_path)
                       : 0;

    if (bytes > 1 && un->sun_path[0] == '\0') {
        return g_strdup_printf("unix:@%.*s", (int)bytes - 1, un->sun_path + 1);
    }
    return g_strdup_printf("unix:%.*s", (int)strnlen(un->sun_path, bytes), un->sun_path);
}

char *sockaddr_str(const struct sockaddr *sa, socklen_t len)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (sa->sa_family == AF_UNIX) {
        return unix_str((const struct sockaddr_un *)sa, len);
    }
    if (getnameinfo(sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return g_strdup("unknown");
    }
    return g_strdup_printf(sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}
