/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server: names, clients and their number.
 */
#include "nbd-server.h"

#include "util/trace.h"

#define BACKLOG 128

/* --- exports --- */

NbdExport *nbd_server_find(NbdServer *s, NbdText name)
{
    for (guint i = 0; i < s->exports->len; i++) {
        NbdExport *e = s->exports->pdata[i];

        if (nbd_text_equals(name, e->name)) {
            return e;
        }
    }
    return NULL;
}

static char *instance_name(void)
{
    g_autofree char *uuid = g_uuid_string_random();

    return g_strconcat(NBD_CONTEXT_INSTANCE, uuid, NULL);
}

NbdExport *nbd_export_new(NbdServer *s, const NbdExport *init)
{
    NbdExport *e = g_new0(NbdExport, 1);

    assert(!nbd_server_find(s, (NbdText){init->name, strlen(init->name)}));
    e->name = g_strdup(init->name);
    e->description = g_strdup(init->description);
    e->writable = init->writable;
    e->depth_context = init->depth_context;
    e->preferred_block = init->preferred_block;
    e->instance = instance_name();
    e->ops = init->ops;
    e->disk = init->disk;
    e->server = s;
    g_ptr_array_add(s->exports, e);
    return e;
}

void nbd_export_withdraw(NbdExport *e)
{
    if (e->server) {
        g_ptr_array_remove(e->server->exports, e);
        e->server = NULL;
    }
}

void coroutine_fn nbd_export_co_free(NbdExport *e)
{
    nbd_export_withdraw(e);
    for (GList *l = e->conns.head; l; l = l->next) {
        nbd_conn_cut(l->data);
    }
    while (e->conns.length > 0) {
        co_queue_wait(&e->conn_gone);
    }
    g_free(e->instance);
    g_free(e->name);
    g_free(e->description);
    g_free(e);
}

/* --- clients --- */

static void handshake_timeout(void *opaque)
{
    nbd_conn_cut(opaque);
}

static NbdConn *conn_new(NbdServer *s, Stream *stream)
{
    NbdConn *c = g_new0(NbdConn, 1);

    c->server = s;
    c->stream = stream;
    nbd_reader_init(&c->reader, stream);
    nbd_sender_init(&c->sender, stream, nbd_conn_sent, c);
    c->in_server.data = c;
    g_queue_push_tail_link(&s->conns, &c->in_server);
    timer_init(&c->deadline, handshake_timeout, c);
    if (s->o.handshake_ns) {
        timer_arm(&c->deadline, loop_now_ns() + s->o.handshake_ns);
    }
    return c;
}

static void conn_free(NbdConn *c)
{
    NbdServer *s = c->server;

    timer_cancel(&c->deadline);
    if (c->export) {
        g_queue_unlink(&c->export->conns, &c->in_export);
        co_queue_wake_all(&c->export->conn_gone);
    }
    g_queue_unlink(&s->conns, &c->in_server);
    co_queue_wake_all(&s->conn_gone);
    nbd_reader_destroy(&c->reader);
    stream_close(c->stream);
    g_free(c->context_export);
    g_free(c);
}

static void update_accepting(NbdServer *s)
{
    if (s->listener && s->o.max_connections) {
        listener_pause(s->listener, s->conns.length >= s->o.max_connections);
    }
}

void coroutine_fn nbd_server_co_serve(NbdServer *s, Stream *stream)
{
    bool served;
    NbdConn *c;

    if (s->o.max_connections && s->conns.length >= s->o.max_connections) {
        stream_close(stream); /* accepted in the same turn as the last that fits */
        return;
    }
    c = conn_new(s, stream);
    update_accepting(s);
    served = nbd_conn_co_negotiate(c);
    if (served) {
        timer_cancel(&c->deadline);
        nbd_conn_co_run(c);
    }
    conn_free(c);
    update_accepting(s);
    if (s->conn_ended) {
        s->conn_ended(s, served, s->opaque);
    }
}

static void coroutine_fn accepted(Stream *stream, void *opaque)
{
    nbd_server_co_serve(opaque, stream);
}

/* --- the server --- */

NbdServer *nbd_server_new(const NbdServerBounds *o)
{
    NbdServer *s = g_new0(NbdServer, 1);

    s->o = *o;
    s->o.max_requests = o->max_requests ? o->max_requests : 64;
    s->o.max_bytes = o->max_bytes ? o->max_bytes : 2 * NBD_MAX_PAYLOAD;
    s->o.total_bytes = o->total_bytes ? o->total_bytes : 1 * GiB;
    s->o.stuck_ns = o->stuck_ns ? o->stuck_ns : 30 * NS_PER_S;
    s->exports = g_ptr_array_new();
    return s;
}

bool coroutine_fn nbd_server_co_listen(NbdServer *s, const StreamAddr *addr, GError **errp)
{
    assert(!s->listener);
    s->listener = listener_co_new(addr, BACKLOG, accepted, s, errp);
    return s->listener != NULL;
}

void coroutine_fn nbd_server_co_stop(NbdServer *s)
{
    if (s->listener) {
        listener_free(s->listener);
        s->listener = NULL;
        co_reschedule(); /* those accepted before this enter nbd_server_co_serve() */
    }
    for (GList *l = s->conns.head; l; l = l->next) {
        nbd_conn_cut(l->data);
    }
    while (s->conns.length > 0) {
        co_queue_wait(&s->conn_gone);
    }
}

void nbd_server_free(NbdServer *s)
{
    assert(!s->listener && s->conns.length == 0 && s->exports->len == 0 && s->bytes == 0);
    g_ptr_array_unref(s->exports);
    g_free(s);
}
