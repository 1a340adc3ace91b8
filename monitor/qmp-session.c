/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session of QMP: see qmp-session.h.
 *
 * A session is counted by its coroutines and listed while it lives. When
 * writing fails the session is dead: what would be written is dropped, and the
 * stream is shut down so that the reader ends too.
 */
#include "qmp-session.h"

#include <string.h>

#include "event-route.h"
#include "monitor/machine.h"
#include "qapi/events.h"
#include "qapi/json.h"
#include "util/error.h"
#include "util/loop.h"
#include "util/sync.h"

#define REQUESTS_MAX      8            /* queued; beyond that we stop reading */
#define REQUEST_BYTES_MAX (1 * MiB)    /* of them, as text */
#define REPLY_BYTES_MAX   (256 * KiB)  /* unread replies beyond which nothing is executed */
#define EVENT_BYTES_MAX   (1 * MiB)    /* unread output beyond which events are dropped */
#define LINGER_NS         (10 * NS_PER_S) /* to take replies after the last request */

typedef struct Request {
    json_t *json; /* or NULL: */
    GError *err;  /* why it is no request */
    size_t bytes; /* of its text */
} Request;

struct QmpSession {
    Stream *stream;
    JsonFramer *framer;
    bool pretty;
    QmpAgreed agreed;
    bool ended; /* the client sends no more; it gets no events either */
    bool dead; /* writing has failed */
    bool executing, writing;
    unsigned refs; /* coroutines */

    GQueue requests; /* of Request */
    size_t request_bytes;
    size_t frame_bytes; /* of the request being read */
    CoQueue room;       /* the reader waits for some in @requests */

    GString *out;  /* to be written next */
    size_t in_write; /* bytes that the writer has in hand */
    CoQueue taken; /* who waits for the client to read */
    unsigned dropped_events;
    LoopTimer linger;
};

static GQueue sessions; /* of QmpSession */
static unsigned running;
static bool stopped;
static bool open_for_commands; /* the program has started */
static CoQueue opening;        /* sessions with a command that wait for that */
static CoQueue one_gone; /* who waits for sessions to end, or to drain */

static void
request_free(Request *r)
{
    json_decref(r->json);
    g_clear_error(&r->err);
    g_free(r);
}

static void
session_unref(QmpSession *s)
{
    if (--s->refs) {
        return;
    }
    assert(g_queue_is_empty(&s->requests));
    timer_cancel(&s->linger);
    stream_close(s->stream);
    json_framer_free(s->framer);
    g_string_free(s->out, TRUE);
    g_queue_remove(&sessions, s);
    g_free(s);
    co_queue_wake_all(&one_gone);
}

/* --- output --- */

static size_t
unread_bytes(const QmpSession *s)
{
    return s->out->len + s->in_write;
}

static void coroutine_fn
write_output(void *opaque)
{
    QmpSession *s = opaque;

    while (s->out->len) {
        GString *chunk = s->out;
        int r;

        s->out = g_string_new(NULL);
        s->in_write = chunk->len;
        r = s->dead ? -EPIPE : stream_co_write_all(s->stream, chunk->str, chunk->len);
        s->in_write = 0;
        g_string_free(chunk, TRUE);
        if (r < 0 && !s->dead) {
            s->dead = true;
            stream_shutdown(s->stream);
        }
        co_queue_wake_all(&s->taken);
        co_queue_wake_all(&one_gone);
    }
    s->writing = false;
    session_unref(s);
}

static void
append(QmpSession *s, const json_t *json)
{
    char *text = json_print(json, s->pretty);

    for (const char *line = text; line; ) {
        const char *end = strchr(line, '\n');

        g_string_append_len(s->out, line, end ? end - line : (gssize)strlen(line));
        g_string_append(s->out, "\r\n");
        line = end ? end + 1 : NULL;
    }
    g_free(text);
}

static void
send_json(QmpSession *s, const json_t *json)
{
    if (s->dead) {
        return;
    }
    append(s, json);
    if (!s->writing) {
        s->writing = true;
        s->refs++;
        co_spawn(write_output, s);
    }
}

/* Tell the client of the events that it has missed. */
static void
send_dropped_mark(QmpSession *s)
{
    json_t *data = json_object();
    json_t *event;

    json_object_set_new(data, "count", json_integer(s->dropped_events));
    event = event_stamped("MONITOR_EVENTS_DROPPED", data);
    s->dropped_events = 0;
    send_json(s, event);
    json_decref(event);
    json_decref(data);
}

void
qmp_sessions_event(const json_t *event)
{
    for (GList *l = sessions.head; l; l = l->next) {
        QmpSession *s = l->data;

        if (!s->agreed.done || s->ended) {
            continue;
        }
        if (unread_bytes(s) > EVENT_BYTES_MAX) {
            s->dropped_events++;
            continue;
        }
        if (s->dropped_events) {
            send_dropped_mark(s);
        }
        send_json(s, event);
    }
}

/* --- requests --- */

/* The client has to read before more is executed for it. */
static void coroutine_fn
wait_until_taken(QmpSession *s)
{
    while (!s->dead && unread_bytes(s) > REPLY_BYTES_MAX) {
        co_queue_wait(&s->taken);
    }
    if (s->dropped_events) {
        send_dropped_mark(s);
    }
}

/* @json is what the client sent; NULL: nothing that can be a request, because of @err. */
static void coroutine_fn
execute_one(QmpSession *s, const json_t *json, const GError *err)
{
    json_t *reply;

    wait_until_taken(s);
    if (stopped) {
        return;
    }
    if (json) {
        running++;
        reply = qmp_dispatch_co(json, &s->agreed);
        running--;
        co_queue_wake_all(&one_gone);
    } else {
        reply = qmp_error_reply(err);
    }
    send_json(s, reply);
    json_decref(reply);
}

static void coroutine_fn
execute_requests(void *opaque)
{
    QmpSession *s = opaque;
    Request *r;

    while (!open_for_commands && !stopped) {
        co_queue_wait(&opening);
    }
    while ((r = g_queue_peek_head(&s->requests))) {
        execute_one(s, r->json, r->err);
        g_queue_pop_head(&s->requests);
        s->request_bytes -= r->bytes;
        request_free(r);
        co_queue_wake_all(&s->room);
    }
    s->executing = false;
    session_unref(s);
}

/* Takes both references. */
static void
queue_request(QmpSession *s, json_t *json, GError *err)
{
    Request *r = g_new(Request, 1);

    *r = (Request){ json, err, s->frame_bytes };
    s->frame_bytes = 0;
    s->request_bytes += r->bytes;
    g_queue_push_tail(&s->requests, r);
    if (!s->executing) {
        s->executing = true;
        s->refs++;
        co_spawn(execute_requests, s);
    }
}

static bool
has_room(const QmpSession *s)
{
    return g_queue_get_length((GQueue *)&s->requests) < REQUESTS_MAX &&
           s->request_bytes < REQUEST_BYTES_MAX;
}

static void coroutine_fn
take_input(QmpSession *s, const char *buf, size_t n)
{
    for (;;) {
        const char *start = buf;
        GError *err = NULL;
        json_t *json = NULL;
        JsonFrame frame = json_framer_next(s->framer, &buf, &n, &json, &err);

        s->frame_bytes += buf - start;
        if (frame == JSON_FRAME_MORE) {
            return;
        }
        if (qmp_is_oob(json, &s->agreed)) {
            s->frame_bytes = 0;
            execute_one(s, json, NULL);
            json_decref(json);
            continue;
        }
        queue_request(s, json, err);
        while (!has_room(s)) {
            co_queue_wait(&s->room);
        }
    }
}

static void coroutine_fn
read_requests(QmpSession *s)
{
    char buf[4 * KiB];
    GError *err = NULL;
    json_t *json = NULL;
    ssize_t n;

    while ((n = stream_co_read(s->stream, buf, sizeof(buf))) > 0) {
        take_input(s, buf, n);
    }
    if (json_framer_end(s->framer, &json, &err) != JSON_FRAME_MORE) {
        queue_request(s, json, err);
    }
}

/* --- life --- */

/* A client that sends no more need not read either; do not wait for it for ever. */
static void
linger_over(void *opaque)
{
    QmpSession *s = opaque;

    if (g_queue_is_empty(&s->requests) || unread_bytes(s) > REPLY_BYTES_MAX) {
        stream_shutdown(s->stream);
    } else {
        timer_arm(&s->linger, loop_now_ns() + LINGER_NS);
    }
}

static QmpSession *
session_new(Stream *stream, bool pretty)
{
    QmpSession *s = g_new0(QmpSession, 1);

    s->stream = stream;
    s->framer = json_framer_new();
    s->pretty = pretty;
    s->out = g_string_new(NULL);
    s->refs = 1;
    timer_init(&s->linger, linger_over, s);
    g_queue_push_tail(&sessions, s);
    return s;
}

void coroutine_fn
qmp_session_co_serve(Stream *stream, bool pretty)
{
    QmpSession *s = session_new(stream, pretty);
    json_t *greeting = qmp_greeting();

    send_json(s, greeting);
    json_decref(greeting);
    read_requests(s);
    s->ended = true;
    timer_arm(&s->linger, loop_now_ns() + LINGER_NS);
    session_unref(s);
}

/* --- the end --- */

void
qmp_sessions_open(void)
{
    open_for_commands = true;
    co_queue_wake_all(&opening);
}

void
qmp_sessions_stop(void)
{
    stopped = true;
    co_queue_wake_all(&opening);
}

bool coroutine_fn
qmp_sessions_co_wait_commands(int64_t deadline_ns)
{
    while (running > machine_quitting()) { /* those wait for what comes after this */
        if (!co_queue_wait_deadline(&one_gone, deadline_ns)) {
            return running <= machine_quitting();
        }
    }
    return true;
}

static bool
have_unread(void)
{
    for (GList *l = sessions.head; l; l = l->next) {
        if (unread_bytes(l->data)) {
            return true;
        }
    }
    return false;
}

void coroutine_fn
qmp_sessions_co_close(int64_t deadline_ns)
{
    assert(stopped && running == 0);
    while (have_unread() && co_queue_wait_deadline(&one_gone, deadline_ns)) {
    }
    for (GList *l = sessions.head; l; l = l->next) {
        QmpSession *s = l->data;

        stream_shutdown(s->stream);
    }
    while (!g_queue_is_empty(&sessions)) {
        co_queue_wait(&one_gone);
    }
}
