/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stream: a connection that carries bytes both ways in order.
 *
 * Kinds: a socket (unix, TCP with TCP_NODELAY), an in-process pair for tests
 * (latency, rate, short reads, a cut at any byte), later TLS over another
 * stream. One coroutine may read and one may write at a time (asserted).
 */
#ifndef UTIL_STREAM_H
#define UTIL_STREAM_H

#include "util/iov.h"
#include "util/loop.h"

typedef struct Stream Stream;

/** stream_co_read() - at least one byte, at most @bytes; 0 at end of stream; -errno */
ssize_t coroutine_fn stream_co_read(Stream *s, void *buf, size_t bytes);
/** stream_co_readv() - the same into a slice */
ssize_t coroutine_fn stream_co_readv(Stream *s, IoVec iov);
/** stream_co_read_all() - exactly @bytes: 0; -EPIPE at end of stream; -errno */
int coroutine_fn MUST_USE stream_co_read_all(Stream *s, void *buf, size_t bytes);
int coroutine_fn MUST_USE stream_co_readv_all(Stream *s, IoVec iov);
/** stream_co_write_all() - all of it: 0 or -errno (never SIGPIPE) */
int coroutine_fn MUST_USE stream_co_write_all(Stream *s, const void *buf, size_t bytes);
int coroutine_fn MUST_USE stream_co_writev_all(Stream *s, IoVec iov);

/** stream_try_read() - as stream_co_read() where bytes are there already; never yields.
 * Return: as stream_co_read(), or -EAGAIN when it would wait. */
ssize_t stream_try_read(Stream *s, void *buf, size_t bytes);

/** stream_shutdown() - both directions now; pending and later operations fail. Any time.
 *
 * Here they fail with -ESHUTDOWN; the peer reads what was sent, then the end, and its writes
 * fail with -EPIPE or -ECONNRESET. */
void stream_shutdown(Stream *s);
/** stream_close() - shuts down and frees; nobody may be inside an operation (asserted) */
void stream_close(Stream *s);

/** stream_peer_name() - for messages: "unix:/path", "127.0.0.1:40000" */
const char *stream_peer_name(const Stream *s);

/* --- sockets --- */

/* A checked address; either unix or inet. Made from the schema's SocketAddress above us. */
typedef struct StreamAddr {
    enum { STREAM_ADDR_UNIX, STREAM_ADDR_INET, STREAM_ADDR_FD } kind;
    const char *path; /* unix; bounded by sun_path (the error names the limit) */
    bool abstract;
    const char *host, *port; /* inet; port may be a service name; "" or NULL host: any */
    bool ipv4, ipv6;         /* both false: either */
    int fd;
} StreamAddr;

/** stream_co_connect() - @deadline_ns on loop_now_ns() or 0; looking up a host name is not cut
 * short by it */
Stream *coroutine_fn stream_co_connect(const StreamAddr *addr, int64_t deadline_ns, GError **errp);
/* Lets a connection in progress be called off. Zero-initialised; one use. */
typedef struct StreamCancel {
    bool cancelled;
    void *wait; /* private to stream-connect.c */
} StreamCancel;

/** stream_co_connect_cancellable() - as above; fails soon after stream_cancel(@cancel), except
 * that looking up a name cannot be called off */
Stream *coroutine_fn stream_co_connect_cancellable(const StreamAddr *addr, int64_t deadline_ns,
                                                   StreamCancel *cancel, GError **errp);
/** stream_cancel() - plain, any time */
void stream_cancel(StreamCancel *cancel);

/** stream_from_fd() - a connected socket, owned from here on, also on failure */
Stream *stream_from_fd(int fd, GError **errp);

/**
 * stream_from_fds() - descriptors that are no sockets: pipes, terminals, files
 * @in: read from here; -1: nothing ever comes, not even an end
 * @out: write to here; -1: what is written is lost
 *
 * Owns both. They differ, also where they are one pipe or terminal.
 */
Stream *stream_from_fds(int in, int out);

typedef struct Listener Listener;
/** Called in a coroutine of its own per connection; owns @s. */
typedef void ListenerFn(Stream *s, void *opaque);

/** listener_co_new() - bind and listen; a stale unix socket that nobody serves is replaced */
Listener *coroutine_fn listener_co_new(const StreamAddr *addr, int backlog, ListenerFn *fn,
                                       void *opaque, GError **errp);
/** listener_free() - stop accepting; unlinks the unix path it made. Connections live on.
 * Its coroutine ends when the loop runs next. */
void listener_free(Listener *l);
/** listener_pause() - stop accepting for a while (connection limits); the backlog waits */
void listener_pause(Listener *l, bool paused);
/** listener_port() - the TCP port that was bound, for port "0"; -1 for unix */
int listener_port(const Listener *l);

/* --- in-process pair, on any loop --- */

typedef struct StreamPairOptions {
    int64_t latency_ns;   /* one way */
    uint64_t bytes_per_s; /* 0: unlimited */
    size_t capacity;      /* bytes in flight before a writer waits; 0: 256 KiB */
    uint64_t seed;        /* not 0: reads are cut short at random */
} StreamPairOptions;

void stream_pair(const StreamPairOptions *o, Stream **ret_a, Stream **ret_b);
/** stream_pair_cut_after() - the connection breaks after @bytes more from @s have arrived */
void stream_pair_cut_after(Stream *s, uint64_t bytes);
/** stream_pair_stall() - bytes written to either side stop arriving, until stalled is false */
void stream_pair_stall(Stream *s, bool stalled);

#endif
