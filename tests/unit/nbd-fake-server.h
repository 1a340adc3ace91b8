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
#include "util/sync.h"
#include "vtest.h"

#define MAGIC  "4e42444d41474943 49484156454f5054 0003"
#define OPT    "49484156454f5054"
#define REP    "0003e889045565a9"
#define SIZE   "0000000000100000"
#define ACK    "00000001 00000000"
#define UNSUP  "80000001 00000000"
#define REQ    "25609513"
#define SIMPLE "67446698"
#define CHUNK  "668e33ef"

static Stream *srv; /* the server's end of the newest connection */
static unsigned dials;
static CoQueue dialled;

static inline Stream *coroutine_fn dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    StreamPairOptions o = {.capacity = 64 * MiB};
    Stream *ours;

    dials++;
    stream_pair(&o, &ours, &srv);
    co_queue_wake_all(&dialled);
    return ours;
}

static inline size_t unhex(const char *text, uint8_t *out)
{
    size_t n = 0;

    for (const char *p = text; *p;) {
        if (*p == ' ') {
            p++;
        } else if (*p == '\'') {
            for (p++; *p != '\''; p++) {
                out[n++] = *p;
            }
            p++;
        } else {
            out[n++] = g_ascii_xdigit_value(p[0]) << 4 | g_ascii_xdigit_value(p[1]);
            p += 2;
        }
    }
    return n;
}

static inline void coroutine_fn say(const char *hex)
{
    uint8_t bytes[2048];

    g_assert_cmpint(stream_co_write_all(srv, bytes, unhex(hex, bytes)), ==, 0);
}

static inline void coroutine_fn hear(const char *hex)
{
    uint8_t want[2048], got[2048];
    size_t n = unhex(hex, want);

    g_assert_cmpint(stream_co_read_all(srv, got, n), ==, 0);
    for (size_t i = 0; i < n; i++) {
        if (got[i] != want[i]) {
            g_error("byte %zu of '%s' is %02x", i, hex, got[i]);
        }
    }
}

/* Hear a request; its cookie is returned. */
static inline uint64_t coroutine_fn
hear_request(uint16_t flags, uint16_t type, uint64_t offset, uint32_t length)
{
    uint8_t raw[NBD_REQUEST_BYTES];
    NbdRequest r;

    g_assert_cmpint(stream_co_read_all(srv, raw, sizeof(raw)), ==, 0);
    g_assert_true(nbd_request_parse(raw, &r));
    g_assert_cmpint(r.flags, ==, flags);
    g_assert_cmpint(r.type, ==, type);
    g_assert_cmpuint(r.offset, ==, offset);
    g_assert_cmpuint(r.length, ==, length);
    return r.cookie;
}

/* @format has one %s for the cookie. */
static inline void coroutine_fn answer(const char *before, uint64_t cookie, const char *after)
{
    g_autofree char *hex = g_strdup_printf("%s%016" PRIx64 "%s", before, cookie, after);

    say(hex);
}

/* --- opening --- */

typedef struct Opening {
    NbdClient *client;
    GError *err;
    int64_t delay_ns, timeout_ns;
    bool is_fd;
    bool done;
    int ups, downs, losses;
    CoQueue over;
} Opening;

static inline void count_links(bool up, int err, void *opaque)
{
    Opening *o = opaque;

    o->ups += up;
    o->downs += !up;
}

static inline void count_losses(int err, void *opaque)
{
    Opening *o = opaque;

    o->losses++;
}

static inline void coroutine_fn open_entry(void *opaque)
{
    Opening *o = opaque;
    StreamAddr addr = {.kind = o->is_fd ? STREAM_ADDR_FD : STREAM_ADDR_UNIX, .path = "x"};
    NbdClientOptions co = {
        .addr = &addr,
        .export = "exp",
        .context = NBD_CONTEXT_BASE_ALLOCATION,
        .reconnect_delay_ns = o->delay_ns,
        .open_timeout_ns = o->timeout_ns,
        .link_changed = count_links,
        .writes_lost = count_losses,
        .opaque = o,
    };

    o->client = nbd_client_co_open(&co, &o->err);
    o->done = true;
    co_queue_wake_all(&o->over);
}

static inline void coroutine_fn open_start(Opening *o)
{
    unsigned before = dials;

    nbd_client_set_dialer(dial, NULL);
    co_spawn(open_entry, o);
    while (dials == before) {
        co_queue_wait(&dialled);
    }
}

static inline void coroutine_fn open_end(Opening *o)
{
    while (!o->done) {
        co_queue_wait(&o->over);
    }
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

static inline void coroutine_fn agree_context(void)
{
    hear(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    say(REP "0000000a 00000004 00000013 00000007 'base:allocation'");
    say(REP "0000000a" ACK);
}

static inline void coroutine_fn agree_go(void)
{
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(REP "00000007 00000003 0000000e 0003 00000200 00001000 00010000");
    say(REP "00000007 00000003 0000000c 0000" SIZE "0ded");
    say(REP "00000007" ACK);
}

static inline void coroutine_fn serve_handshake(void)
{
    greet();
    agree_structured();
    agree_context();
    agree_go();
}

static inline NbdClient *coroutine_fn open_structured(Opening *o)
{
    open_start(o);
    serve_handshake();
    open_end(o);
    g_assert_no_error(o->err);
    return o->client;
}

static inline NbdClient *coroutine_fn open_plain(Opening *o)
{
    open_start(o);
    greet();
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
    agree_go();
    open_end(o);
    g_assert_no_error(o->err);
    return o->client;
}

static inline void coroutine_fn close_client(NbdClient *c)
{
    nbd_client_co_close(c);
    stream_close(srv);
    nbd_client_set_dialer(NULL, NULL);
}

/* --- requests --- */

typedef struct Running {
    NbdClient *client;
    NbdCall call;
    uint8_t buf[4096];
    struct iovec v;
    bool done;
    int ret;
    bool flush;
    CoQueue over;
} Running;

static inline void coroutine_fn call_entry(void *opaque)
{
    Running *r = opaque;

    r->ret = r->flush ? nbd_client_co_flush(r->client) : nbd_client_co_call(r->client, &r->call);
    r->done = true;
    co_queue_wake_all(&r->over);
}

static inline void
call_start(Running *r, NbdClient *c, uint16_t type, uint64_t offset, uint32_t length)
{
    memset(r->buf, 0xee, sizeof(r->buf));
    r->client = c;
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

/* The call has failed, and so does every other, for ever. */
static inline void coroutine_fn expect_quit(NbdClient *c, Running *r)
{
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_QUIT);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    g_assert_cmpint(call_end(r), ==, -EIO);
    close_client(c);
}

#endif
