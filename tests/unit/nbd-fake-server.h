/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-fake-server: an NBD client whose server is the test, byte for byte in
 * hexadecimal.
 */
#ifndef TESTS_NBD_FAKE_SERVER_H
#define TESTS_NBD_FAKE_SERVER_H

#include "../../block/nbd/client.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/nbd-client.h"
#include "nbd-transcript.h"
#include "util/sync.h"

static unsigned dials;
static CoQueue dialled;

static inline Stream *coroutine_fn dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    StreamPairOptions o = {.capacity = 64 * MiB};
    Stream *ours;

    dials++;
    stream_pair(&o, &ours, &wire);
    co_queue_wake_all(&dialled);
    return ours;
}

/* Wait until the client has given @old up and dialled again. */
static inline void coroutine_fn await_redial(Stream *old)
{
    while (wire == old) {
        co_queue_wait(&dialled);
    }
    stream_close(old);
}

/* --- opening --- */

typedef struct Opening {
    int64_t delay_ns, timeout_ns;
    bool is_fd;
    const char *instance; /* that the server tells of the export; NULL: it has none */
    /* What comes of it. */
    GError *err;
    bool done;
    int ups, downs, losses;
    CoQueue over;
} Opening;

static Opening opening;
static NbdClient *client;

static inline void count_links(bool up, int err, void *opaque)
{
    opening.ups += up;
    opening.downs += !up;
}

static inline void count_losses(int err, void *opaque)
{
    opening.losses++;
}

static inline void coroutine_fn open_entry(void *opaque)
{
    StreamAddr addr = {.kind = opening.is_fd ? STREAM_ADDR_FD : STREAM_ADDR_UNIX, .path = "x"};
    NbdClientOptions co = {
        .addr = &addr,
        .export = "exp",
        .context = NBD_CONTEXT_BASE_ALLOCATION,
        .reconnect_delay_ns = opening.delay_ns,
        .open_timeout_ns = opening.timeout_ns,
        .link_changed = count_links,
        .writes_lost = count_losses,
    };

    client = nbd_client_co_open(&co, &opening.err);
    opening.done = true;
    co_queue_wake_all(&opening.over);
}

static inline void coroutine_fn open_start(Opening how)
{
    unsigned before = dials;

    opening = how;
    nbd_client_set_dialer(dial, NULL);
    co_spawn(open_entry, NULL);
    while (dials == before) {
        co_queue_wait(&dialled);
    }
}

static inline void coroutine_fn open_wait(void)
{
    while (!opening.done) {
        co_queue_wait(&opening.over);
    }
}

static inline void coroutine_fn open_end(void)
{
    open_wait();
    g_assert_no_error(opening.err);
}

static inline void coroutine_fn greet(void)
{
    say(MAGIC);
    hear("00000003");
}

static inline void coroutine_fn agree_structured(void)
{
    hear(OPT "00000008 00000000");
    say(REP "00000008" ACK);
}

static inline void coroutine_fn decline_structured(void)
{
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
}

static inline void coroutine_fn hear_context(void)
{
    hear(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
}

static inline void coroutine_fn agree_context(void)
{
    hear_context();
    say(REP "0000000a 00000004 00000013 00000007 'base:allocation'");
    say(REP "0000000a" ACK);
}

/* Only who reconnects asks. */
static inline void coroutine_fn tell_instance(void)
{
    g_autofree char *reply = opening.instance
        ? g_strdup_printf(REP "00000009 00000004 0000003a 00000000 'x-tandem:instance:%s'",
                          opening.instance)
        : g_strdup("");

    if (opening.delay_ns > 0) {
        hear(OPT "00000009 00000021 00000003 'exp' 00000001 00000012 'x-tandem:instance:'");
        say(reply);
        say(REP "00000009" ACK);
    }
}

static inline void coroutine_fn hear_go(void)
{
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
}

static inline void coroutine_fn agree_go(void)
{
    hear_go();
    say(REP "00000007 00000003 0000000e 0003 00000200 00001000 00010000");
    say(REP "00000007 00000003 0000000c 0000" SIZE "0ded");
    say(REP "00000007" ACK);
}

static inline void coroutine_fn serve_handshake(void)
{
    greet();
    agree_structured();
    agree_context();
    tell_instance();
    agree_go();
}

static inline void coroutine_fn open_structured(Opening how)
{
    open_start(how);
    serve_handshake();
    open_end();
}

static inline void coroutine_fn open_plain(Opening how)
{
    open_start(how);
    greet();
    decline_structured();
    tell_instance();
    agree_go();
    open_end();
}

static inline void coroutine_fn close_client(void)
{
    nbd_client_co_close(client);
    stream_close(wire);
    nbd_client_set_dialer(NULL, NULL);
}

/* --- requests --- */

typedef struct Running {
    NbdCall call;
    uint64_t cookie;
    uint8_t buf[4096];
    struct iovec v;
    bool done;
    int ret;
    bool flush;
    CoQueue over;
} Running;

static Running one; /* of tests that have one request at a time */

static inline void coroutine_fn call_entry(void *opaque)
{
    Running *r = opaque;

    r->ret = r->flush ? nbd_client_co_flush(client) : nbd_client_co_call(client, &r->call);
    r->done = true;
    co_queue_wake_all(&r->over);
}

static inline void call_start(Running *r, uint16_t type, uint64_t offset, uint32_t length)
{
    memset(r->buf, 0xee, sizeof(r->buf));
    r->done = false;
    r->flush = type == NBD_CMD_FLUSH;
    r->over = (CoQueue){0};
    r->call = (NbdCall){.type = type, .offset = offset, .length = length};
    r->call.iov = iov_one(&r->v, r->buf, MIN(length, sizeof(r->buf)));
    co_spawn(call_entry, r);
}

static inline int coroutine_fn call_end(Running *r)
{
    while (!r->done) {
        co_queue_wait(&r->over);
    }
    return r->ret;
}

static inline void coroutine_fn hear_request(Running *r)
{
    uint8_t raw[NBD_REQUEST_BYTES];
    NbdRequest q;

    g_assert_cmpint(stream_co_read_all(wire, raw, sizeof(raw)), ==, 0);
    g_assert_true(nbd_request_parse(raw, &q));
    g_assert_cmpint(q.flags, ==, 0);
    g_assert_cmpint(q.type, ==, r->call.type);
    g_assert_cmpuint(q.offset, ==, r->call.offset);
    g_assert_cmpuint(q.length, ==, r->call.length);
    r->cookie = q.cookie;
}

static inline void coroutine_fn ask(uint16_t type, uint64_t offset, uint32_t length)
{
    call_start(&one, type, offset, length);
    hear_request(&one);
}

static inline void coroutine_fn answer(const Running *r, const char *before, const char *after)
{
    g_autofree char *hex = g_strdup_printf("%s%016" PRIx64 "%s", before, r->cookie, after);

    say(hex);
}

/* The request has failed, and so does every other, for ever. */
static inline void coroutine_fn expect_quit(void)
{
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_QUIT);
    call_start(&one, NBD_CMD_READ, 0, 8);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    close_client();
}

#endif
