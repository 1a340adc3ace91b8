/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server: exports by name, and connections that serve one each.
 *
 *   NbdServer      the names, the bounds, the listener
 *   NbdExport      a name, and the disk behind it as a table of functions
 *   NbdConn        a client: handshake (nbd-negotiate.c), then requests
 *   NbdServeReq    a request being served (nbd-request.c)
 *
 * Everything lives on one loop. A connection holds its export from the GO (or
 * EXPORT_NAME) to its end; an export goes only when no connection holds it.
 *
 * What one client can hold is bounded: max_requests requests and max_bytes of
 * payload a connection, total_bytes over all. At a bound the socket is not read
 * further. When the total is used up, connections that make no progress are cut.
 */
#ifndef BLOCK_EXPORT_NBD_SERVER_H
#define BLOCK_EXPORT_NBD_SERVER_H

#include "block/types.h"
#include "util/error.h"
#include "util/stream.h"
#include "util/sync.h"

#include "block/nbd/proto.h"
#include "block/nbd/reader.h"
#include "block/nbd/sender.h"

typedef struct NbdServer NbdServer;
typedef struct NbdExport NbdExport;
typedef struct NbdConn NbdConn;
typedef struct NbdServeReq NbdServeReq;

/* The disk behind an export. 0 or -errno; ranges are checked against length() before. */
typedef struct NbdDiskOps {
    int64_t (*length)(void *disk);
    int (*coroutine_ptr co_preadv)(void *disk, int64_t offset, IoVec iov);
    int (*coroutine_ptr co_pwritev)(void *disk, int64_t offset, IoVec iov, ReqFlags flags);
    int (*coroutine_ptr co_pwrite_zeroes)(void *disk, int64_t offset, int64_t bytes,
                                          ReqFlags flags);
    int (*coroutine_ptr co_pdiscard)(void *disk, int64_t offset, int64_t bytes);
    int (*coroutine_ptr co_flush)(void *disk);
    int (*coroutine_ptr co_block_status)(void *disk, int64_t offset, int64_t bytes,
                                         BlockStatus *ret, int *ret_depth);
} NbdDiskOps;

/* Of a disk that is a BlockBackend. */
extern const NbdDiskOps nbd_backend_ops;

/* Context ids on the wire are the bit numbers. */
#define NBD_CTX_BASE  0x1u
#define NBD_CTX_DEPTH 0x2u

struct NbdExport {
    char *name;        /* <= NBD_MAX_STRING */
    char *description; /* NULL: none */
    bool writable;
    bool depth_context; /* offers qemu:allocation-depth */
    uint32_t preferred_block;
    char *instance;     /* NBD_CONTEXT_INSTANCE and what is this export's own */
    const NbdDiskOps *ops;
    void *disk;

    int fence_err; /* positive errno: refuse what changes the disk */
    NbdServer *server;
    GQueue conns;
    CoQueue conn_gone;
};

typedef struct NbdServerBounds {
    unsigned max_connections; /* 0: no limit; 1: multi-conn is not offered */
    int64_t handshake_ns;     /* 0: no limit */
    unsigned max_requests;    /* per connection; 0: 64 */
    uint64_t max_bytes;       /* per connection; 0: 64 MiB, at least NBD_MAX_PAYLOAD */
    uint64_t total_bytes;     /* 0: 1 GiB */
    int64_t stuck_ns;         /* 0: 30 s; no progress for that long counts as stuck */
} NbdServerBounds;

struct NbdServer {
    NbdServerBounds o;
    Listener *listener; /* NULL: connections come from nbd_server_co_serve() only */
    GPtrArray *exports;
    GQueue conns;
    uint64_t bytes; /* payload held over all connections */
    CoQueue room;   /* wait for bytes to be given back */
    CoQueue conn_gone;
    /* A client has left; @served: it had an export. May be NULL. */
    void (*conn_ended)(NbdServer *s, bool served, void *opaque);
    void *opaque;
};

struct NbdConn {
    NbdServer *server;
    NbdExport *export; /* NULL during the handshake */
    Stream *stream;
    NbdReader reader;
    NbdSender sender;
    GList in_server, in_export;
    LoopTimer deadline; /* of the handshake */

    bool no_zeroes;
    bool structured;
    uint32_t contexts; /* NBD_CTX_*, selected by SET_META_CONTEXT */
    char *context_export;

    bool ending; /* nothing more is received; what is in flight completes */
    bool cut;    /* shut down; what is in flight may stop early */
    unsigned in_flight;
    unsigned serving; /* of these, not answered yet: they may change the disk */
    uint64_t bytes;
    CoQueue room;             /* wait for in_flight or bytes to go down */
    int64_t payload_since_ns; /* a payload is being received since then; 0: none */
};

/* --- nbd-server.c --- */

NbdServer *nbd_server_new(const NbdServerBounds *o);
/** nbd_server_co_listen() - accept clients at @addr */
bool coroutine_fn nbd_server_co_listen(NbdServer *s, const StreamAddr *addr, GError **errp);
/** nbd_server_co_serve() - talk to one client to its end; owns @stream */
void coroutine_fn nbd_server_co_serve(NbdServer *s, Stream *stream);
/** nbd_server_co_stop() - no new client; cut all and wait until they are gone */
void coroutine_fn nbd_server_co_stop(NbdServer *s);
/** nbd_server_free() - stopped and without exports (asserted) */
void nbd_server_free(NbdServer *s);

NbdExport *nbd_server_find(NbdServer *s, NbdText name);

/** nbd_export_new() - offer it; the name is free (asserted). Fields are as in @init, which
 * names name, description, writable, depth_context, preferred_block, ops and disk. */
NbdExport *nbd_export_new(NbdServer *s, const NbdExport *init);
/** nbd_export_withdraw() - nobody finds it by name any more. Plain. */
void nbd_export_withdraw(NbdExport *e);
/** nbd_export_co_free() - withdraw, cut its clients, wait for their requests, free */
void coroutine_fn nbd_export_co_free(NbdExport *e);

/* --- nbd-negotiate.c --- */

/** nbd_conn_co_negotiate() - the handshake; true: conn->export is set, requests follow */
bool coroutine_fn nbd_conn_co_negotiate(NbdConn *c);

/* --- nbd-conn.c --- */

/** nbd_conn_attach() - hold @e from now on */
void nbd_conn_attach(NbdConn *c, NbdExport *e);
/** nbd_conn_cut() - end the connection now; its coroutine cleans up */
void nbd_conn_cut(NbdConn *c);
/** nbd_conn_co_run() - requests until the client leaves; all are done at return */
void coroutine_fn nbd_conn_co_run(NbdConn *c);
/** nbd_conn_served() - a request will not touch the disk any more */
void nbd_conn_served(NbdConn *c);
/** nbd_conn_put() - a request is answered: give back what it held */
void nbd_conn_put(NbdConn *c, uint64_t bytes);
/** nbd_conn_sent() - callback of the sender */
void nbd_conn_sent(NbdOut *out, void *opaque);

/* --- nbd-request.c --- */

#define NBD_REQ_HEAD 40 /* bytes; the longest head of a message: ERROR_OFFSET is 34 */

typedef struct NbdReqOut {
    NbdOut out;
    NbdServeReq *req;
    uint8_t head[NBD_REQ_HEAD];
    struct iovec vec;
} NbdReqOut;

struct NbdServeReq {
    NbdConn *conn;
    NbdRequest r;
    uint8_t *buf; /* pooled payload, @buf_bytes; NULL: none */
    size_t buf_bytes;
    uint64_t charged; /* bytes that count against the bounds */
    NbdReqOut first;
    GPtrArray *more; /* NbdReqOut of further chunks; NULL: none */
    unsigned unsent;
};

NbdServeReq *nbd_req_new(NbdConn *c, const NbdRequest *r);
void nbd_req_free(NbdServeReq *req);
/** nbd_req_check() - may it be served? 0 or a positive errno */
int nbd_req_check(const NbdConn *c, const NbdRequest *r);
/** nbd_req_payload() - bytes of memory that serving it takes */
uint64_t nbd_req_payload(const NbdConn *c, const NbdRequest *r);
/** nbd_req_fail() - answer with @err (positive errno) */
void nbd_req_fail(NbdServeReq *req, int err);
/** nbd_req_co_serve() - first function of the coroutine of a request */
void coroutine_fn nbd_req_co_serve(void *opaque);

#endif
