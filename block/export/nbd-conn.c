/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase of one NBD connection: receive, admit, start.
 *
 * One coroutine receives. Each request runs in a coroutine of its own, and
 * NbdSender gathers the answers. A request counts against the bounds from its
 * admission until its answer has left, so a client that does not read its
 * answers stops being read.
 *
 * A WRITE is started only when its whole payload is here: one that was cut in
 * the middle never reaches the disk.
 */
#include "nbd-server.h"

#include <errno.h>

#include "util/buf.h"
#include "util/trace.h"

#define HOT_BYTES   (64 * KiB)
#define SMALL_BYTES (64 * KiB)

void nbd_conn_attach(NbdConn *c, NbdExport *e)
{
    assert(!c->export);
    c->export = e;
    c->in_export.data = c;
    g_queue_push_tail_link(&e->conns, &c->in_export);
}

void nbd_conn_cut(NbdConn *c)
{
    if (!c->cut) {
        c->cut = true;
        stream_shutdown(c->stream);
        co_queue_wake_all(&c->room);
        co_queue_wake_all(&c->server->room);
        if (c->export) {
            co_queue_wake_all(&c->export->conn_gone);
        }
    }
}

/* --- bounds --- */

static bool total_has_room(const NbdConn *c, uint64_t bytes)
{
    const NbdServer *s = c->server;

    /* A connection that holds nothing may always have a little, so small requests never wait for
     * large ones. A request above the total is served alone. */
    return s->bytes + bytes <= s->o.total_bytes || s->bytes == 0 ||
           (c->bytes == 0 && bytes <= (uint64_t)SMALL_BYTES);
}

static bool sender_is_stuck(const NbdConn *c, int64_t before_ns)
{
    return c->sender.stuck_since_ns && c->sender.stuck_since_ns <= before_ns;
}

static bool is_stuck(const NbdConn *c, int64_t before_ns)
{
    return c->bytes > 0 && (sender_is_stuck(c, before_ns) ||
                            (c->payload_since_ns && c->payload_since_ns <= before_ns));
}

/* Memory is short: those who have made no progress for long lose theirs. */
static void cut_stuck(NbdServer *s)
{
    int64_t before_ns = loop_now_ns() - s->o.stuck_ns;
    GList *next;

    for (GList *l = s->conns.head; l; l = next) {
        NbdConn *c = l->data;

        next = l->next;
        if (is_stuck(c, before_ns)) {
            trace("nbd-cut-stuck", (uintptr_t)c, c->bytes);
            nbd_conn_cut(c);
        }
    }
}

static bool coroutine_fn wait_for_slot(NbdConn *c)
{
    while (!c->cut && c->in_flight >= c->server->o.max_requests) {
        co_queue_wait(&c->room);
    }
    return !c->cut;
}

/* Wait until @bytes of payload may be held, and take them. */
static bool coroutine_fn take_bytes(NbdConn *c, uint64_t bytes)
{
    NbdServer *s = c->server;

    if (bytes == 0) {
        return !c->cut;
    }
    while (!c->cut && c->bytes > 0 && c->bytes + bytes > s->o.max_bytes) {
        co_queue_wait(&c->room);
    }
    while (!c->cut && !total_has_room(c, bytes)) {
        cut_stuck(s);
        if (!co_queue_wait_deadline(&s->room, loop_now_ns() + s->o.stuck_ns)) {
            continue; /* look again for somebody who is stuck */
        }
    }
    if (c->cut) {
        return false;
    }
    c->bytes += bytes;
    s->bytes += bytes;
    return true;
}

void nbd_conn_put(NbdConn *c, uint64_t bytes)
{
    assert(c->in_flight > 0 && c->bytes >= bytes && c->server->bytes >= bytes);
    c->in_flight--;
    c->bytes -= bytes;
    c->server->bytes -= bytes;
    co_queue_wake_all(&c->room);
    if (bytes > 0) {
        co_queue_wake_all(&c->server->room);
    }
}

void nbd_conn_served(NbdConn *c)
{
    assert(c->serving > 0);
    if (--c->serving == 0 && c->ending) {
        co_queue_wake_all(&c->export->conn_gone);
    }
}

/* --- requests --- */

/* Give @req the memory it needs; false: the connection is cut, or memory is out. */
static int coroutine_fn get_memory(NbdServeReq *req)
{
    NbdConn *c = req->conn;
    uint64_t bytes = nbd_req_payload(c, &req->r);

    if (!take_bytes(c, bytes)) {
        return -ESHUTDOWN;
    }
    req->charged = bytes;
    if (bytes > 0) {
        req->buf = buf_try_alloc(bytes);
        req->buf_bytes = req->buf ? bytes : 0;
    }
    return bytes > 0 && !req->buf ? -ENOMEM : 0;
}

static int coroutine_fn receive_payload(NbdServeReq *req)
{
    NbdConn *c = req->conn;
    int ret;

    if (nbd_reader_buffered(&c->reader) < req->buf_bytes) {
        c->payload_since_ns = loop_now_ns();
    }
    ret = nbd_reader_co_read(&c->reader, req->buf, req->buf_bytes);
    c->payload_since_ns = 0;
    return ret;
}

/* Answer with @err. False: the connection cannot go on, its payload is too long to drop. */
static bool coroutine_fn refuse(NbdServeReq *req, int err)
{
    NbdConn *c = req->conn;
    uint64_t payload = req->r.type == NBD_CMD_WRITE ? req->r.length : 0;

    nbd_req_fail(req, err);
    if (payload > NBD_MAX_PAYLOAD) {
        return false;
    }
    return nbd_reader_co_skip(&c->reader, payload) == 0;
}

/* Drop a request that nobody waits for any more. */
static void drop(NbdServeReq *req)
{
    NbdConn *c = req->conn;
    uint64_t charged = req->charged;

    nbd_req_free(req);
    nbd_conn_put(c, charged);
}

/* Start one request; false when the connection is at its end. */
static bool coroutine_fn admit(NbdConn *c, const NbdRequest *r)
{
    NbdServeReq *req = nbd_req_new(c, r);
    int err = nbd_req_check(c, r), ret;

    c->in_flight++;
    if (err) {
        return refuse(req, err);
    }
    ret = get_memory(req);
    if (ret == -ENOMEM) {
        return refuse(req, ENOMEM);
    }
    if (ret == 0 && r->type == NBD_CMD_WRITE && r->length > 0) {
        ret = receive_payload(req);
    }
    if (ret < 0) {
        drop(req);
        return false;
    }
    c->serving++;
    co_spawn(nbd_req_co_serve, req);
    if (req->buf_bytes >= HOT_BYTES && r->type == NBD_CMD_WRITE) {
        co_reschedule(); /* while the payload is in the processor's cache */
    }
    return true;
}

static bool coroutine_fn next_request(NbdConn *c, NbdRequest *ret)
{
    const uint8_t *p;

    /* Nobody is there any more to be answered, whatever he has asked for before he went. */
    if (!wait_for_slot(c) || c->sender.error ||
        nbd_reader_co_need(&c->reader, NBD_REQUEST_BYTES, &p) < 0) {
        return false;
    }
    if (!nbd_request_parse(p, ret)) {
        trace("nbd-bad-request-magic", (uintptr_t)c, be32_get(p));
        return false;
    }
    nbd_reader_consume(&c->reader, NBD_REQUEST_BYTES);
    return true;
}

static bool old_requests_run(const NbdExport *e)
{
    for (const GList *l = e->conns.head; l; l = l->next) {
        const NbdConn *c = l->data;

        if (c->ending && c->serving > 0) {
            return true;
        }
    }
    return false;
}

/*
 * A client whose connection broke comes back and sends again what was not
 * answered. Its old requests must not land on top of what it does next. Answers
 * that nobody takes do not matter: else one client could lock out the others.
 */
static void coroutine_fn let_old_requests_finish(NbdConn *c)
{
    while (!c->cut && old_requests_run(c->export)) {
        co_queue_wait(&c->export->conn_gone);
    }
}

void coroutine_fn nbd_conn_co_run(NbdConn *c)
{
    const NbdServer *s = c->server;
    NbdRequest r;

    let_old_requests_finish(c);
    while (next_request(c, &r) && r.type != NBD_CMD_DISC) {
        if (!admit(c, &r)) {
            break;
        }
    }
    c->ending = true;
    /* What was accepted is completed and answered, if the client still listens. */
    while (c->in_flight > 0) {
        if (!co_queue_wait_deadline(&c->room, loop_now_ns() + s->o.stuck_ns) &&
            sender_is_stuck(c, loop_now_ns() - s->o.stuck_ns)) {
            nbd_conn_cut(c);
        }
    }
    nbd_sender_co_join(&c->sender);
}
