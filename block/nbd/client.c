/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdClient: see client.h.
 *
 * One coroutine (reconnect_co) runs while there is no link. Nobody else opens
 * links after the first. All states change in plain code, and who waits is on
 * one queue.
 */
#include "client.h"

#include <errno.h>
#include <string.h>

#include "block/nbd-client.h"
#include "util/trace.h"

#define ATTEMPT_NS     (30 * NS_PER_S) /* one connection and its handshake */
#define BACKOFF_MIN_NS (1 * NS_PER_S)
#define BACKOFF_MAX_NS (16 * NS_PER_S)
#define LAST_FLUSH_NS  (5 * NS_PER_S) /* that closing waits for an answer */

struct NbdClient {
    StreamAddr addr; /* strings are ours */
    char *export, *context;
    int64_t reconnect_delay_ns;
    void (*link_changed)(bool up, int err, void *opaque);
    void (*writes_lost)(int err, void *opaque);
    void (*waiting)(void *opaque);
    void *opaque;

    NbdClientState state;
    NbdSession session;
    NbdLink *link; /* CONNECTED only */
    NbdLink *dead; /* failed, to be freed by reconnect_co or close */
    bool reconnecting;
    bool closing;
    bool give_up; /* the link that breaks next was shut on purpose */
    unsigned calls;
    unsigned stops; /* times that those who wait were told to stop */
    CoQueue changed;    /* state, closing, reconnecting */
    CoQueue kick;       /* ends a pause between attempts */
    LoopTimer delay;    /* WAIT only */
    int64_t give_up_ns; /* when WAIT ends */
    int break_err;      /* why the last link broke */
    int64_t pause_ns;   /* before the next attempt */
    bool proven;        /* the link has answered a request */
    uint64_t answers;   /* to requests, of all links */
    uint64_t heard;     /* of these, when nbd_client_is_silent() was asked last */
    bool waited;        /* there were calls then */

    /* An attempt under way. */
    StreamCancel cancel;
    Stream *trying;
    LoopTimer attempt_timer;
    bool timed_out;

    /* Acknowledged writes and how far they are known to be stable. */
    unsigned servers; /* that may have gone with what they had acknowledged */
    bool unsure;      /* whether ours has, until we know whom a new link leads to */
    uint64_t write_gen, flushed_gen;
    bool lost_writes;
};

static NbdDialFn *dial_fn;
static void *dial_opaque;

void nbd_client_set_dialer(NbdDialFn *fn, void *opaque)
{
    dial_fn = fn;
    dial_opaque = opaque;
}

/* --- one attempt --- */

static void attempt_timeout(void *opaque)
{
    NbdClient *c = opaque;

    c->timed_out = true;
    stream_shutdown(c->trying);
}

static Stream *coroutine_fn dial(NbdClient *c, int64_t deadline_ns, GError **errp)
{
    if (dial_fn) {
        return dial_fn(&c->addr, dial_opaque, errp);
    }
    return stream_co_connect_cancellable(&c->addr, deadline_ns, &c->cancel, errp);
}

static void link_down(NbdLink *link, int err, bool fatal, void *opaque);

/* A link and what was agreed on it; @errp if not. */
static NbdLink *coroutine_fn
attempt(NbdClient *c, int64_t deadline_ns, NbdSession *ret, GError **errp)
{
    Stream *s = dial(c, deadline_ns, errp);
    NbdLink *link = NULL;
    NbdReader reader;

    if (!s) {
        return NULL;
    }
    nbd_reader_init(&reader, s);
    c->trying = s;
    c->timed_out = false;
    timer_arm(&c->attempt_timer, deadline_ns);
    if (c->closing) {
        stream_shutdown(s);
    }
    if (nbd_handshake_co_client(&reader, c->export, c->context, c->reconnect_delay_ns > 0, ret,
                                errp)) {
        link = nbd_link_new(s, &reader, ret, link_down, c);
    }
    timer_cancel(&c->attempt_timer);
    c->trying = NULL;
    if (!link) {
        if (c->timed_out && errp) {
            g_clear_error(errp);
            fail(errp, "The NBD server did not answer in time");
        }
        nbd_reader_destroy(&reader);
        stream_close(s);
    }
    return link;
}

/* Is it still the disk that was opened, with all that is relied on? */
static bool same_export(const NbdSession *was, const NbdSession *is)
{
    uint16_t relied_on = was->info.flags & (NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                                            NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                                            NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE);

    return is->info.size == was->info.size && !(relied_on & ~is->info.flags) &&
           !(is->info.flags & ~was->info.flags & NBD_FLAG_READ_ONLY) &&
           is->info.min_block <= was->info.min_block &&
           is->info.max_payload >= was->info.max_payload && (is->has_context || !was->has_context);
}

/* --- what a server takes with it --- */

/* Acknowledged, and perhaps lost. */
static void lose_writes(NbdClient *c)
{
    c->lost_writes = true;
    if (c->writes_lost && !c->closing) {
        c->writes_lost(c->break_err, c->opaque);
    }
}

static void server_gone(NbdClient *c)
{
    bool unflushed = c->write_gen > c->flushed_gen;

    c->unsure = false;
    c->servers++;
    c->flushed_gen = c->write_gen;
    if (unflushed) {
        lose_writes(c);
    }
}

/* A new link: does it lead to where the last one did? */
static void look_who_is_there(NbdClient *c, const NbdSession *session)
{
    if (c->unsure && !g_str_equal(session->instance, c->session.instance)) {
        server_gone(c);
    }
    c->unsure = false;
    memcpy(c->session.instance, session->instance, sizeof(session->instance));
}

/* --- states --- */

static void set_state(NbdClient *c, NbdClientState state, int err)
{
    bool was_down = c->state == NBD_CLIENT_NOWAIT || c->state == NBD_CLIENT_QUIT;
    bool is_down = state == NBD_CLIENT_NOWAIT || state == NBD_CLIENT_QUIT;

    trace("nbd-client-state", (uintptr_t)c, state);
    c->state = state;
    co_queue_wake_all(&c->changed);
    if (state != NBD_CLIENT_WAIT) {
        timer_cancel(&c->delay);
    }
    if (was_down != is_down && c->link_changed && !c->closing) {
        c->link_changed(!is_down, err, c->opaque);
    }
    if (is_down && c->unsure) {
        server_gone(c);
    }
}

static void delay_passed(void *opaque)
{
    set_state(opaque, NBD_CLIENT_NOWAIT, ETIMEDOUT);
}

static void coroutine_fn reconnect_co(void *opaque);

static int64_t longer_pause(int64_t pause_ns)
{
    return CLAMP(2 * pause_ns, BACKOFF_MIN_NS, BACKOFF_MAX_NS);
}

/*
 * A server that agrees to everything and dies of the first request is as good
 * as none: only an answer makes the delay and the pauses start anew.
 */
static void plan_reconnect(NbdClient *c)
{
    if (c->proven) {
        c->give_up_ns = loop_now_ns() + c->reconnect_delay_ns;
        c->pause_ns = 0;
    } else {
        c->pause_ns = longer_pause(c->pause_ns);
    }
}

/* A descriptor was closed with its link: its number may be anything by now. */
static bool can_dial_again(const NbdClient *c)
{
    return c->addr.kind != STREAM_ADDR_FD;
}

static void look_for_another(NbdClient *c)
{
    plan_reconnect(c);
    c->reconnecting = true;
    co_spawn(reconnect_co, c);
    if (c->reconnect_delay_ns == 0 || c->give_up) {
        set_state(c, NBD_CLIENT_NOWAIT, c->break_err);
    } else {
        set_state(c, NBD_CLIENT_WAIT, c->break_err);
        timer_arm(&c->delay, c->give_up_ns);
    }
    c->give_up = false;
}

static void link_down(NbdLink *link, int err, bool fatal, void *opaque)
{
    NbdClient *c = opaque;

    assert(!c->dead && !c->reconnecting);
    c->dead = link;
    c->link = NULL;
    c->break_err = err;
    if (fatal || !can_dial_again(c)) {
        set_state(c, NBD_CLIENT_QUIT, fatal ? EPROTO : err);
    } else {
        look_for_another(c);
    }
    c->unsure = c->state == NBD_CLIENT_WAIT && *c->session.instance;
    if (!c->unsure) {
        server_gone(c);
    }
}

/* --- reconnecting --- */

static void coroutine_fn free_dead(NbdClient *c)
{
    NbdLink *dead = c->dead;

    c->dead = NULL;
    if (dead) {
        nbd_link_co_free(dead);
    }
}

/* The link of a new attempt: true if it is in use from now on. */
static bool coroutine_fn adopt(NbdClient *c, NbdLink *link, const NbdSession *session)
{
    if (!c->closing && same_export(&c->session, session)) {
        c->link = link;
        c->proven = false;
        c->reconnecting = false; /* link_down() may start the next one */
        look_who_is_there(c, session);
        set_state(c, NBD_CLIENT_CONNECTED, 0);
        return true;
    }
    if (!c->closing) {
        set_state(c, NBD_CLIENT_QUIT, EPROTO);
    }
    nbd_link_co_free(link);
    return false;
}

/* False: the client is being closed. */
static bool coroutine_fn pause_between(NbdClient *c)
{
    if (!c->closing && c->pause_ns > 0) {
        if (co_queue_wait_deadline(&c->kick, loop_now_ns() + c->pause_ns)) {
            return false;
        }
    }
    return !c->closing;
}

static void coroutine_fn reconnect_co(void *opaque)
{
    NbdClient *c = opaque;

    free_dead(c);
    while (c->state != NBD_CLIENT_QUIT && pause_between(c)) {
        NbdSession session;
        NbdLink *link = attempt(c, loop_now_ns() + ATTEMPT_NS, &session, NULL);

        if (link && adopt(c, link, &session)) {
            return;
        }
        c->pause_ns = longer_pause(c->pause_ns);
    }
    c->reconnecting = false;
    co_queue_wake_all(&c->changed);
}

/* --- opening --- */

static void copy_addr(StreamAddr *dst, const StreamAddr *src)
{
    *dst = *src;
    dst->path = g_strdup(src->path);
    dst->host = g_strdup(src->host);
    dst->port = g_strdup(src->port);
}

static NbdClient *client_new(const NbdClientOptions *o)
{
    NbdClient *c = g_new0(NbdClient, 1);

    copy_addr(&c->addr, o->addr);
    c->export = g_strdup(o->export);
    c->context = g_strdup(o->context);
    c->reconnect_delay_ns = o->reconnect_delay_ns;
    c->proven = true; /* so that the first break begins a delay */
    c->link_changed = o->link_changed;
    c->writes_lost = o->writes_lost;
    c->waiting = o->waiting;
    c->opaque = o->opaque;
    timer_init(&c->delay, delay_passed, c);
    timer_init(&c->attempt_timer, attempt_timeout, c);
    return c;
}

static void client_free(NbdClient *c)
{
    g_free((char *)c->addr.path);
    g_free((char *)c->addr.host);
    g_free((char *)c->addr.port);
    g_free(c->export);
    g_free(c->context);
    g_free(c);
}

static GQueue opening; /* of NbdClient, while nbd_client_co_open() waits */

static void stop_trying(NbdClient *c)
{
    c->closing = true;
    co_queue_wake_all(&c->kick);
    stream_cancel(&c->cancel);
    if (c->trying) {
        stream_shutdown(c->trying);
    }
}

void nbd_client_cancel_open(const void *opaque)
{
    for (GList *l = opening.head; l; l = l->next) {
        NbdClient *c = l->data;

        if (c->opaque == opaque) {
            stop_trying(c);
        }
    }
}

NbdClient *coroutine_fn nbd_client_co_open(const NbdClientOptions *o, GError **errp)
{
    NbdClient *c = client_new(o);
    int64_t until_ns = loop_now_ns() + o->open_timeout_ns;

    g_queue_push_tail(&opening, c);
    for (;;) {
        g_autoptr(GError) err = NULL;
        int64_t deadline_ns = loop_now_ns() + ATTEMPT_NS;

        if (o->open_timeout_ns) {
            deadline_ns = MIN(deadline_ns, until_ns);
        }
        c->link = attempt(c, deadline_ns, &c->session, &err);
        if (c->link) {
            g_queue_remove(&opening, c);
            c->closing = false; /* told too late: it is open */
            c->cancel = (StreamCancel){0};
            return c;
        }
        c->pause_ns = BACKOFF_MIN_NS;
        if (!can_dial_again(c) || loop_now_ns() + BACKOFF_MIN_NS > until_ns || !pause_between(c)) {
            g_queue_remove(&opening, c);
            g_propagate_error(errp, g_steal_pointer(&err));
            client_free(c);
            return NULL;
        }
    }
}

void nbd_client_give_up(NbdClient *c)
{
    if (c->link) {
        c->give_up = true;
        nbd_link_shutdown(c->link);
    } else if (c->state == NBD_CLIENT_WAIT) {
        set_state(c, NBD_CLIENT_NOWAIT, c->break_err);
    }
}

bool nbd_client_is_silent(NbdClient *c)
{
    bool waits = c->calls > 0;
    bool silent = waits && c->waited && c->heard == c->answers;

    c->waited = waits;
    c->heard = c->answers;
    return silent;
}

void nbd_client_stop_waiting(NbdClient *c)
{
    if (c->state == NBD_CLIENT_WAIT && c->calls > 0) {
        c->stops++; /* also for him who runs only when the link is back */
        set_state(c, NBD_CLIENT_NOWAIT, c->break_err);
    }
}

NbdClientState nbd_client_state(const NbdClient *c)
{
    return c->state;
}

const NbdSession *nbd_client_session(const NbdClient *c)
{
    return &c->session;
}

/* --- requests --- */

/* @ret_servers: of the one that has answered */
static int coroutine_fn call_until_answered(NbdClient *c, NbdCall *call, unsigned *ret_servers)
{
    unsigned stops = c->stops;

    for (;;) {
        while (c->state == NBD_CLIENT_WAIT) {
            if (c->waiting) {
                c->waiting(c->opaque);
            }
            co_queue_wait(&c->changed);
        }
        if (c->state != NBD_CLIENT_CONNECTED || c->stops != stops) {
            return -EIO;
        }
        *ret_servers = c->servers;
        (void)nbd_link_co_call(c->link, call);
        if (!call->link_failed) {
            c->proven = true;
            c->answers++;
            return call->ret;
        }
    }
}

static bool leaves_unflushed(const NbdCall *call)
{
    return !(call->flags & NBD_CMD_FLAG_FUA) &&
           (call->type == NBD_CMD_WRITE || call->type == NBD_CMD_WRITE_ZEROES ||
            call->type == NBD_CMD_TRIM);
}

int coroutine_fn nbd_client_co_call(NbdClient *c, NbdCall *call)
{
    unsigned servers;
    int ret;

    c->calls++;
    ret = call_until_answered(c, call, &servers);
    c->calls--;
    if (ret == 0 && leaves_unflushed(call)) {
        if (servers == c->servers) {
            c->write_gen++;
        } else {
            lose_writes(c); /* it went right behind the answer, before we came to run */
        }
    }
    return ret;
}

/* Has something acknowledged perhaps been lost? Told once. */
static bool take_loss(NbdClient *c)
{
    bool lost = c->lost_writes;

    c->lost_writes = false;
    return lost;
}

int coroutine_fn nbd_client_co_flush(NbdClient *c)
{
    NbdCall call = {.type = NBD_CMD_FLUSH};
    uint64_t gen = c->write_gen;
    int ret;

    if (take_loss(c)) {
        return -EIO;
    }
    ret = nbd_client_co_call(c, &call);
    if (ret == 0 && take_loss(c)) {
        return -EIO; /* it broke and came back while the flush waited */
    }
    if (ret == 0) {
        c->flushed_gen = MAX(c->flushed_gen, gen);
    }
    return ret;
}

/* --- closing --- */

static void last_flush_too_long(void *opaque)
{
    nbd_client_give_up(opaque);
}

/*
 * What a server has acknowledged and not been told to flush. Nothing of that is
 * left to save once the link has ended, and a request that was sent is done by a
 * server that lives, whether or not we wait to hear of it.
 */
static void coroutine_fn flush_last(NbdClient *c)
{
    LoopTimer limit;

    if (c->state != NBD_CLIENT_CONNECTED || c->write_gen == c->flushed_gen ||
        !(c->session.info.flags & NBD_FLAG_SEND_FLUSH)) {
        return;
    }
    c->reconnect_delay_ns = 0;
    c->lost_writes = false; /* of an earlier link */
    timer_init(&limit, last_flush_too_long, c);
    timer_arm(&limit, loop_now_ns() + LAST_FLUSH_NS);
    (void)nbd_client_co_flush(c); /* whom an error concerns has flushed before */
    timer_cancel(&limit);
}

void coroutine_fn nbd_client_co_close(NbdClient *c)
{
    NbdLink *link;

    assert(c->calls == 0 && !c->closing);
    flush_last(c);
    timer_cancel(&c->delay);
    stop_trying(c);
    while (c->reconnecting) {
        co_queue_wait(&c->changed);
    }
    link = c->link;
    c->link = NULL; /* who cancels meanwhile finds nothing to do */
    if (link) {
        nbd_link_co_free(link);
    }
    free_dead(c);
    client_free(c);
}
