/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD client against a server that the test speaks for, byte for byte:
 * each way to negotiate, each answer, and each lie.
 */
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

static Stream *coroutine_fn dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    StreamPairOptions o = {.capacity = 64 * MiB};
    Stream *ours;

    dials++;
    stream_pair(&o, &ours, &srv);
    co_queue_wake_all(&dialled);
    return ours;
}

static size_t unhex(const char *text, uint8_t *out)
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

static void coroutine_fn say(const char *hex)
{
    uint8_t bytes[2048];

    g_assert_cmpint(stream_co_write_all(srv, bytes, unhex(hex, bytes)), ==, 0);
}

static void coroutine_fn hear(const char *hex)
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
static uint64_t coroutine_fn
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
static void coroutine_fn answer(const char *before, uint64_t cookie, const char *after)
{
    g_autofree char *hex = g_strdup_printf("%s%016" PRIx64 "%s", before, cookie, after);

    say(hex);
}

/* --- opening --- */

typedef struct Opening {
    NbdClient *client;
    GError *err;
    int64_t delay_ns, timeout_ns;
    bool done;
    int ups, downs;
    CoQueue over;
} Opening;

static void count_links(bool up, int err, void *opaque)
{
    Opening *o = opaque;

    o->ups += up;
    o->downs += !up;
}

static void coroutine_fn open_entry(void *opaque)
{
    Opening *o = opaque;
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = "x"};
    NbdClientOptions co = {
        .addr = &addr,
        .export = "exp",
        .context = NBD_CONTEXT_BASE_ALLOCATION,
        .reconnect_delay_ns = o->delay_ns,
        .open_timeout_ns = o->timeout_ns,
        .link_changed = count_links,
        .opaque = o,
    };

    o->client = nbd_client_co_open(&co, &o->err);
    o->done = true;
    co_queue_wake_all(&o->over);
}

static void coroutine_fn open_start(Opening *o)
{
    unsigned before = dials;

    nbd_client_set_dialer(dial, NULL);
    co_spawn(open_entry, o);
    while (dials == before) {
        co_queue_wait(&dialled);
    }
}

static void coroutine_fn open_end(Opening *o)
{
    while (!o->done) {
        co_queue_wait(&o->over);
    }
}

static void coroutine_fn greet(void)
{
    say(MAGIC);
    hear("00000003");
}

static void coroutine_fn agree_structured(void)
{
    hear(OPT "00000008 00000000");
    say(REP "00000008" ACK);
}

static void coroutine_fn agree_context(void)
{
    hear(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    say(REP "0000000a 00000004 00000013 00000007 'base:allocation'");
    say(REP "0000000a" ACK);
}

static void coroutine_fn agree_go(void)
{
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(REP "00000007 00000003 0000000e 0003 00000200 00001000 00010000");
    say(REP "00000007 00000003 0000000c 0000" SIZE "0ded");
    say(REP "00000007" ACK);
}

static void coroutine_fn serve_handshake(void)
{
    greet();
    agree_structured();
    agree_context();
    agree_go();
}

static NbdClient *coroutine_fn open_structured(Opening *o)
{
    open_start(o);
    serve_handshake();
    open_end(o);
    g_assert_no_error(o->err);
    return o->client;
}

static NbdClient *coroutine_fn open_plain(Opening *o)
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

static void coroutine_fn close_client(NbdClient *c)
{
    nbd_client_co_close(c);
    stream_close(srv);
    nbd_client_set_dialer(NULL, NULL);
}

/* The handshake has failed, and with these words in the message. */
static void coroutine_fn expect_refusal(Opening *o, const char *words)
{
    open_end(o);
    g_assert_null(o->client);
    g_assert_nonnull(o->err);
    if (!strstr(o->err->message, words)) {
        g_error("'%s' does not say '%s'", o->err->message, words);
    }
    g_clear_error(&o->err);
    stream_close(srv);
    nbd_client_set_dialer(NULL, NULL);
}

static void coroutine_fn test_all_that_is_new(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    const NbdSession *s = nbd_client_session(c);

    g_assert_true(s->structured);
    g_assert_true(s->has_context);
    g_assert_cmpuint(s->context_id, ==, 7);
    g_assert_cmpuint(s->info.size, ==, 1 * MiB);
    g_assert_cmpuint(s->info.min_block, ==, 512);
    g_assert_cmpuint(s->info.max_payload, ==, 65536);
    nbd_client_co_close(c);
    hear(REQ "0000 0002 0000000000000000 0000000000000000 00000000"); /* it says goodbye */
    stream_close(srv);
}

static void coroutine_fn test_falls_back_to_plain(void)
{
    Opening o = {0};
    NbdClient *c = open_plain(&o);

    g_assert_false(nbd_client_session(c)->structured);
    g_assert_false(nbd_client_session(c)->has_context);
    close_client(c);
}

static void coroutine_fn test_falls_back_to_export_name(void)
{
    Opening o = {0};

    open_start(&o);
    greet();
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(REP "00000007" UNSUP);
    hear(OPT "00000003 00000000");
    say(REP "00000003 00000002 00000007 00000003 'exp'");
    say(REP "00000003" ACK);
    hear(OPT "00000001 00000003 'exp'");
    say(SIZE "0001");
    open_end(&o);
    g_assert_no_error(o.err);
    g_assert_cmpuint(nbd_client_session(o.client)->info.min_block, ==, 1);
    close_client(o.client);
}

static void coroutine_fn test_export_name_of_a_wrong_name_is_not_tried(void)
{
    Opening o = {0};

    open_start(&o);
    greet();
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(REP "00000007" UNSUP);
    hear(OPT "00000003 00000000");
    say(REP "00000003 00000002 00000007 00000003 'abc'");
    say(REP "00000003" ACK);
    expect_refusal(&o, "Requested export not available");
}

static void coroutine_fn test_server_without_fixed_newstyle(void)
{
    Opening o = {0};
    uint8_t zeros[124] = {0};

    open_start(&o);
    say("4e42444d41474943 49484156454f5054 0000");
    hear("00000000");
    hear(OPT "00000001 00000003 'exp'");
    say(SIZE "0001");
    g_assert_cmpint(stream_co_write_all(srv, zeros, sizeof(zeros)), ==, 0);
    open_end(&o);
    g_assert_no_error(o.err);
    close_client(o.client);
}

static void coroutine_fn test_no_such_context_is_no_problem(void)
{
    Opening o = {0};

    open_start(&o);
    greet();
    agree_structured();
    hear(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    say(REP "0000000a" ACK);
    agree_go();
    open_end(&o);
    g_assert_no_error(o.err);
    g_assert_false(nbd_client_session(o.client)->has_context);
    close_client(o.client);
}

static void coroutine_fn test_refusal_has_the_servers_words(void)
{
    Opening o = {0};

    open_start(&o);
    greet();
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(REP "00000007 80000006 00000007 'go' 1b 'away'");
    expect_refusal(&o, "(server reported: go away)"); /* no escape sequences */
}

/* --- lies in the handshake; each is said instead of the answer to STRUCTURED_REPLY or GO --- */

static void coroutine_fn refuse_greeting(const char *greeting, const char *words)
{
    Opening o = {0};

    open_start(&o);
    say(greeting);
    stream_shutdown(srv);
    expect_refusal(&o, words);
}

static void coroutine_fn test_not_nbd(void)
{
    refuse_greeting("4854545020322e30 0000000000000000 0000", "Not an NBD server");
    refuse_greeting("4e42444d41474943 0000420281861253 0000", "old style");
    refuse_greeting("4e42444d41474943 1111111111111111 0000", "unknown protocol");
    refuse_greeting("4e42", "closed the connection");
}

static void coroutine_fn refuse_structured(const char *reply, const char *words)
{
    Opening o = {0};

    open_start(&o);
    greet();
    hear(OPT "00000008 00000000");
    say(reply);
    expect_refusal(&o, words);
}

static void coroutine_fn test_bad_option_replies(void)
{
    refuse_structured("0003e889045565aa 00000008" ACK, "malformed");
    refuse_structured(REP "00000007" ACK, "answered GO when asked STRUCTURED_REPLY");
    refuse_structured(REP "00000008 00000001 00000001 00", "malformed");
    refuse_structured(REP "00000008 00000002 00000000", "unexpected");
    refuse_structured(REP "00000008 00000001 ffffffff", "malformed");
    refuse_structured(REP "00000008 00000003 00010000", "too long");
}

static void coroutine_fn refuse_go(const char *reply, const char *words)
{
    Opening o = {0};

    open_start(&o);
    greet();
    hear(OPT "00000008 00000000");
    say(REP "00000008" UNSUP);
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(reply);
    expect_refusal(&o, words);
}

#define INFO REP "00000007 00000003"
static void coroutine_fn test_bad_infos(void)
{
    refuse_go(REP "00000007" ACK, "did not describe");
    refuse_go(INFO "0000000b 0000" SIZE "0d", "malformed");                  /* short */
    refuse_go(INFO "0000000c 0000 8000000000000000 0001", "malformed");      /* size */
    refuse_go(INFO "0000000c 0000" SIZE "0000", "malformed");                /* flags */
    refuse_go(INFO "0000000e 0003 00000003 00001000 02000000", "malformed"); /* min */
    refuse_go(INFO "0000000e 0003 00000000 00001000 02000000", "malformed"); /* min 0 */
    refuse_go(INFO "0000000e 0003 00020000 00020000 02000000", "malformed"); /* > 64 KiB */
    refuse_go(INFO "0000000e 0003 00001000 00000200 02000000", "malformed"); /* preferred */
    refuse_go(INFO "0000000e 0003 00001000 00001000 00000100", "malformed"); /* max */
    refuse_go(INFO "0000000c 0000 0000000000000001 0001" /* size no multiple of min */
              INFO "0000000e 0003 00000200 00001000 02000000" REP "00000007" ACK,
              "not consistently");
    refuse_go(INFO "00000001 00", "malformed");
    refuse_go(REP "00000007 00000002 00000000", "unexpected");
}

static void coroutine_fn refuse_context(const char *reply)
{
    Opening o = {0};

    open_start(&o);
    greet();
    agree_structured();
    hear(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    say(reply);
    expect_refusal(&o, "another metadata context");
}

static void coroutine_fn test_bad_contexts(void)
{
    refuse_context(REP "0000000a 00000004 00000013 00000007 'base:allocatioX'");
    refuse_context(REP "0000000a 00000004 00000003 000000");
    refuse_context(REP "0000000a 00000004 00000013 00000007 'base:allocation'" REP
                       "0000000a 00000004 00000013 00000008 'base:allocation'");
}

static void coroutine_fn test_silent_server_is_given_up(void)
{
    Opening o = {0};
    int64_t start_ns = loop_now_ns();

    open_start(&o);
    greet();
    expect_refusal(&o, "did not answer in time");
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 30 * NS_PER_S);
}

static void coroutine_fn test_open_timeout_tries_again(void)
{
    Opening o = {.timeout_ns = 10 * NS_PER_S};
    Stream *first;

    open_start(&o);
    first = srv;
    stream_shutdown(first);
    while (srv == first) {
        co_queue_wait(&dialled);
    }
    stream_close(first);
    serve_handshake();
    open_end(&o);
    g_assert_no_error(o.err);
    close_client(o.client);
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

static void coroutine_fn call_entry(void *opaque)
{
    Running *r = opaque;

    r->ret = r->flush ? nbd_client_co_flush(r->client) : nbd_client_co_call(r->client, &r->call);
    r->done = true;
    co_queue_wake_all(&r->over);
}

static void call_start(Running *r, NbdClient *c, uint16_t type, uint64_t offset, uint32_t length)
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

static int coroutine_fn call_end(Running *r)
{
    while (!r->done) {
        co_queue_wait(&r->over);
    }
    return r->ret;
}

static void coroutine_fn test_plain_read(void)
{
    Opening o = {0};
    NbdClient *c = open_plain(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_READ, 512, 4);
    cookie = hear_request(0, NBD_CMD_READ, 512, 4);
    answer(SIMPLE "00000000", cookie, "'abcd'");
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpmem(r->buf, 4, "abcd", 4);

    call_start(r, c, NBD_CMD_READ, 0, 4);
    cookie = hear_request(0, NBD_CMD_READ, 0, 4);
    answer(SIMPLE "00000005", cookie, "");
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_CONNECTED);
    close_client(c);
}

static void coroutine_fn test_chunks_in_any_order(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_READ, 0x1000, 8);
    cookie = hear_request(0, NBD_CMD_READ, 0x1000, 8);
    answer(CHUNK "0000 0001", cookie, "0000000a 0000000000001006 'gh'");
    answer(CHUNK "0000 0002", cookie, "0000000c 0000000000001002 00000004");
    answer(CHUNK "0000 0001", cookie, "0000000a 0000000000001000 'ab'");
    answer(CHUNK "0001 0000", cookie, "00000000");
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpmem(r->buf, 8, "ab\0\0\0\0gh", 8);
    close_client(c);
}

static void coroutine_fn test_error_chunk_after_data(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_READ, 0, 8);
    cookie = hear_request(0, NBD_CMD_READ, 0, 8);
    answer(CHUNK "0000 0001", cookie, "0000000a 0000000000000000 'ab'");
    answer(CHUNK "0000 8002", cookie, "00000011 0000001c 0003 'bad' 0000000000000002");
    answer(CHUNK "0000 8fff", cookie, "00000003 'abc'"); /* an error of a later time */
    answer(CHUNK "0001 0000", cookie, "00000000");
    g_assert_cmpint(call_end(r), ==, -ENOSPC);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_CONNECTED);
    close_client(c);
}

static void coroutine_fn test_block_status(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    /* Equal neighbours are one; what runs past the request is cut. */
    call_start(r, c, NBD_CMD_BLOCK_STATUS, 0, 0x800);
    cookie = hear_request(0, NBD_CMD_BLOCK_STATUS, 0, 0x800);
    answer(CHUNK "0001 0005", cookie,
           "0000001c 00000007 00000400 00000003 00001000 00000003 00001000 00000000");
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpuint(r->call.extent.length, ==, 0x800);
    g_assert_cmpuint(r->call.extent.flags, ==, 3);

    /* A length that is no multiple of the block size is rounded, and never to nothing. */
    call_start(r, c, NBD_CMD_BLOCK_STATUS, 0, 0x800);
    cookie = hear_request(0, NBD_CMD_BLOCK_STATUS, 0, 0x800);
    answer(CHUNK "0001 0005", cookie, "0000000c 00000007 00000001 00000003");
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpuint(r->call.extent.length, ==, 0x200);
    g_assert_cmpuint(r->call.extent.flags, ==, 0);
    close_client(c);
}

static void coroutine_fn test_requests_leave_together(void)
{
    Opening o = {0};
    NbdClient *c = open_plain(&o);
    g_autofree Running *r = g_new0(Running, 3);
    uint64_t cookies[3];

    for (int i = 0; i < 3; i++) {
        call_start(&r[i], c, NBD_CMD_READ, i * 512, 1);
    }
    for (int i = 0; i < 3; i++) {
        cookies[i] = hear_request(0, NBD_CMD_READ, i * 512, 1);
    }
    answer(SIMPLE "00000000", cookies[2], "'c'");
    answer(SIMPLE "00000000", cookies[0], "'a'");
    answer(SIMPLE "00000000", cookies[1], "'b'");
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(call_end(&r[i]), ==, 0);
        g_assert_cmpint(r[i].buf[0], ==, "abc"[i]);
    }
    close_client(c);
}

/* --- lies in transmission: each ends the link for ever --- */

static void coroutine_fn expect_quit(NbdClient *c, Running *r)
{
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_QUIT);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    g_assert_cmpint(call_end(r), ==, -EIO);
    close_client(c);
}

static void coroutine_fn lie(uint16_t type, bool structured, const char *before, const char *after)
{
    Opening o = {.delay_ns = 10 * NS_PER_S};
    NbdClient *c = structured ? open_structured(&o) : open_plain(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, type, 0, 8);
    cookie = hear_request(0, type, 0, 8);
    answer(before, cookie, after);
    expect_quit(c, r);
    g_assert_cmpint(o.downs, ==, 1);
}

static void coroutine_fn test_lies_about_reads(void)
{
    const uint16_t t = NBD_CMD_READ;

    lie(t, true, SIMPLE "00000000", "'abcdefgh'"); /* simple for a read */
    lie(t, true, SIMPLE "00000005", "");
    lie(t, false, CHUNK "0001 0000", "00000000");                        /* not negotiated */
    lie(t, true, CHUNK "0001 0001", "0000000c 0000000000000000 'abcd'"); /* too little */
    lie(t, true, CHUNK "0001 0000", "00000000");                         /* nothing */
    lie(t, true, CHUNK "0000 0000", "00000000");                         /* NONE without DONE */
    lie(t, true, CHUNK "0001 0000", "00000001 00");                      /* NONE with payload */
    lie(t, true, CHUNK "0001 0001", "00000011 0000000000000000 'abcdefghi'"); /* too much */
    lie(t, true, CHUNK "0001 0001", "00000010 0000000000000001 'abcdefgh'");  /* past the end */
    lie(t, true, CHUNK "0001 0001", "00000010 ffffffffffffffff 'abcdefgh'");
    lie(t, true, CHUNK "0001 0001", "00000008 0000000000000000");          /* no data */
    lie(t, true, CHUNK "0000 0001", "ffffffff 0000000000000000");          /* gigabytes */
    lie(t, true, CHUNK "0000 0002", "0000000c 0000000000000000 00000000"); /* empty hole */
    lie(t, true, CHUNK "0000 0002", "0000000c 0000000000000001 00000008");
    lie(t, true, CHUNK "0000 0002", "0000000d 0000000000000000 00000008 00");
    lie(t, true, CHUNK "0000 0005", "0000000c 00000007 00000008 00000000"); /* status */
    lie(t, true, CHUNK "0000 0003", "00000000");                            /* unknown type */
    lie(t, true, "12345678 00000000", "");                                  /* no magic */
}

static void coroutine_fn test_overlapping_chunks(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_READ, 0, 8);
    cookie = hear_request(0, NBD_CMD_READ, 0, 8);
    answer(CHUNK "0000 0001", cookie, "0000000c 0000000000000000 'abcd'");
    answer(CHUNK "0001 0001", cookie, "0000000c 0000000000000003 'abcd'");
    expect_quit(c, r);
}

static void coroutine_fn test_lies_about_errors(void)
{
    lie(NBD_CMD_READ, true, CHUNK "0001 8001", "00000006 00000000 0000"); /* no error */
    lie(NBD_CMD_READ, true, CHUNK "0001 8001", "00000006 00000005 0001"); /* text too long */
    lie(NBD_CMD_READ, true, CHUNK "0001 8001", "00000005 00000005 00");   /* short */
    lie(NBD_CMD_READ, true, CHUNK "0001 8002", "0000000d 00000005 0000 00000000000000");
    lie(NBD_CMD_READ, true, CHUNK "0001 8001", "02000001 00000005 0000"); /* huge */
}

static void coroutine_fn test_lies_about_status(void)
{
    const uint16_t t = NBD_CMD_BLOCK_STATUS;

    lie(t, true, CHUNK "0001 0005", "0000000c 00000008 00000008 00000000"); /* context */
    lie(t, true, CHUNK "0001 0005", "0000000c 00000007 00000000 00000000"); /* length 0 */
    lie(t, true, CHUNK "0001 0005", "0000000b 00000007 00000008 000000");   /* half */
    lie(t, true, CHUNK "0001 0005", "00000004 00000007");                   /* none */
    lie(t, true, CHUNK "0001 0000", "00000000");                            /* no status */
    lie(t, true, SIMPLE "00000000", "");
    lie(t, true, CHUNK "0001 0001", "00000010 0000000000000000 'abcdefgh'"); /* data */
}

static void coroutine_fn test_reply_that_nobody_asked_for(void)
{
    static const char *const cookies[] = {
        "0000000000000000", "ffffffffffffffff", "0000000000000101",
        "00000000000000ff", "0000000000000200",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cookies); i++) {
        Opening o = {0};
        NbdClient *c = open_plain(&o);
        g_autofree Running *r = g_new0(Running, 1);
        g_autofree char *hex = g_strdup_printf(SIMPLE "00000000 %s", cookies[i]);

        call_start(r, c, NBD_CMD_READ, 0, 8);
        hear_request(0, NBD_CMD_READ, 0, 8);
        say(hex);
        expect_quit(c, r);
    }
}

static void coroutine_fn test_two_replies_to_one_request(void)
{
    Opening o = {0};
    NbdClient *c = open_plain(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    cookie = hear_request(0, NBD_CMD_TRIM, 0, 8);
    answer(SIMPLE "00000000", cookie, "");
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    expect_quit(c, r);
}

/* --- links that break --- */

static void coroutine_fn test_break_fails_at_once(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    int64_t now_ns = loop_now_ns();
    Stream *old = srv;

    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8);
    stream_shutdown(srv);
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_NOWAIT);
    g_assert_cmpint(o.downs, ==, 1);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(loop_now_ns(), ==, now_ns);
    while (srv == old) {
        co_queue_wait(&dialled); /* the first new attempt */
    }
    stream_close(old);
    close_client(c);
}

static void coroutine_fn test_idle_link_reports_its_end(void)
{
    Opening o = {0};
    NbdClient *c = open_structured(&o);
    Stream *old = srv;

    stream_shutdown(srv);
    while (o.downs == 0) {
        co_sleep_ns(NS_PER_US); /* nobody asks anything */
    }
    while (srv == old) {
        co_queue_wait(&dialled);
    }
    stream_close(old);
    serve_handshake();
    while (o.ups == 0) {
        co_sleep_ns(NS_PER_US);
    }
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_CONNECTED);
    close_client(c);
}

static void coroutine_fn reconnect(Stream *old)
{
    while (srv == old) {
        co_queue_wait(&dialled);
    }
    stream_close(old);
    serve_handshake();
}

static void coroutine_fn test_requests_wait_and_are_sent_again(void)
{
    Opening o = {.delay_ns = 5 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    hear_request(0, NBD_CMD_TRIM, 0, 8);
    stream_shutdown(srv);
    reconnect(srv);
    cookie = hear_request(0, NBD_CMD_TRIM, 0, 8);
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpint(o.downs, ==, 0); /* nobody above has noticed */
    close_client(c);
}

static Stream *coroutine_fn dial_nobody(const StreamAddr *addr, void *opaque, GError **errp)
{
    dials++;
    g_set_error(errp, TANDEM_ERROR, 0, "nobody there");
    return NULL;
}

static void coroutine_fn test_delay_passes(void)
{
    Opening o = {.delay_ns = 5 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    int64_t start_ns = loop_now_ns();
    unsigned before = dials;

    nbd_client_set_dialer(dial_nobody, NULL);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8);
    stream_shutdown(srv);
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 5 * NS_PER_S);
    g_assert_cmpint(o.downs, ==, 1);
    g_assert_cmpint(dials - before, ==, 3); /* at 0, 1 and 3 s */
    co_sleep_ns(100 * NS_PER_S);
    g_assert_cmpint(dials - before, ==, 10); /* 7, 15, 31, 47, 63, 79, 95 */
    close_client(c);
}

/* A server that agrees to everything and dies of each request. */
static void coroutine_fn mayfly_entry(void *opaque)
{
    Stream *s = opaque, *keep = srv;
    uint8_t raw[NBD_REQUEST_BYTES];

    srv = s;
    serve_handshake();
    srv = keep;
    (void)!stream_co_read_all(s, raw, sizeof(raw));
    stream_close(s);
}

static Stream *coroutine_fn dial_mayfly(const StreamAddr *addr, void *opaque, GError **errp)
{
    StreamPairOptions o = {0};
    Stream *ours, *theirs;

    dials++;
    stream_pair(&o, &ours, &theirs);
    co_spawn(mayfly_entry, theirs);
    return ours;
}

static void coroutine_fn test_server_that_dies_of_a_request_is_given_up(void)
{
    Opening o = {.delay_ns = 10 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    int64_t start_ns = loop_now_ns();
    unsigned before = dials;

    nbd_client_set_dialer(dial_mayfly, NULL);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8);
    stream_shutdown(srv);
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 10 * NS_PER_S);
    g_assert_cmpint(dials - before, ==, 4); /* at 0, 1, 3 and 7 s */
    close_client(c);
}

static void coroutine_fn test_yank_fails_those_that_wait(void)
{
    Opening o = {.delay_ns = 1000 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    int64_t start_ns = loop_now_ns();

    nbd_client_set_dialer(dial_nobody, NULL);
    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8); /* and silence */
    nbd_client_give_up(c);
    g_assert_cmpint(call_end(r), ==, -EIO);
    g_assert_cmpint(loop_now_ns(), ==, start_ns);
    close_client(c);
}

static void coroutine_fn test_close_does_not_wait_for_a_silent_server(void)
{
    Opening o = {.delay_ns = 1000 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    Stream *old = srv;
    int64_t start_ns;

    stream_shutdown(srv);
    while (srv == old) {
        co_queue_wait(&dialled); /* the new server says nothing at all */
    }
    stream_close(old);
    start_ns = loop_now_ns();
    close_client(c);
    g_assert_cmpint(loop_now_ns(), ==, start_ns);
}

static void coroutine_fn test_unflushed_writes_fail_the_next_flush(void)
{
    Opening o = {.delay_ns = 5 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;
    Stream *old;

    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    cookie = hear_request(0, NBD_CMD_TRIM, 0, 8);
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    old = srv;
    stream_shutdown(srv);
    reconnect(old);
    call_start(r, c, NBD_CMD_FLUSH, 0, 0);
    g_assert_cmpint(call_end(r), ==, -EIO); /* once */
    call_start(r, c, NBD_CMD_FLUSH, 0, 0);
    cookie = hear_request(0, NBD_CMD_FLUSH, 0, 0);
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    close_client(c);
}

static void coroutine_fn come_back_as(const char *size_and_flags)
{
    Opening o = {.delay_ns = 5 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    g_autofree char *info =
        g_strdup_printf(REP "00000007 00000003 0000000c 0000 %s", size_and_flags);
    Stream *old = srv;

    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8);
    stream_shutdown(srv);
    while (srv == old) {
        co_queue_wait(&dialled);
    }
    stream_close(old);
    greet();
    agree_structured();
    agree_context();
    hear(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    say(info);
    say(REP "00000007" ACK);
    expect_quit(c, r);
}

static void coroutine_fn test_another_disk_after_reconnect_is_refused(void)
{
    come_back_as("0000000000200000 0ded"); /* another size */
    come_back_as(SIZE "0def");             /* read-only now */
    come_back_as(SIZE "0de9");             /* no flush any more */
}

VTEST_ANY_ORDER("/nbd-client/handshake/new", test_all_that_is_new)
VTEST("/nbd-client/handshake/plain", test_falls_back_to_plain)
VTEST("/nbd-client/handshake/export-name", test_falls_back_to_export_name)
VTEST("/nbd-client/handshake/not-listed", test_export_name_of_a_wrong_name_is_not_tried)
VTEST("/nbd-client/handshake/not-fixed", test_server_without_fixed_newstyle)
VTEST("/nbd-client/handshake/no-context", test_no_such_context_is_no_problem)
VTEST("/nbd-client/handshake/refusal", test_refusal_has_the_servers_words)
VTEST("/nbd-client/handshake/not-nbd", test_not_nbd)
VTEST("/nbd-client/handshake/bad-replies", test_bad_option_replies)
VTEST("/nbd-client/handshake/bad-infos", test_bad_infos)
VTEST("/nbd-client/handshake/bad-contexts", test_bad_contexts)
VTEST("/nbd-client/handshake/silent", test_silent_server_is_given_up)
VTEST("/nbd-client/handshake/open-timeout", test_open_timeout_tries_again)
VTEST_ANY_ORDER("/nbd-client/read", test_plain_read)
VTEST_ANY_ORDER("/nbd-client/chunks", test_chunks_in_any_order)
VTEST("/nbd-client/error-chunk", test_error_chunk_after_data)
VTEST("/nbd-client/block-status", test_block_status)
VTEST("/nbd-client/together", test_requests_leave_together)
VTEST("/nbd-client/lies/reads", test_lies_about_reads)
VTEST("/nbd-client/lies/overlap", test_overlapping_chunks)
VTEST("/nbd-client/lies/errors", test_lies_about_errors)
VTEST("/nbd-client/lies/status", test_lies_about_status)
VTEST("/nbd-client/lies/cookies", test_reply_that_nobody_asked_for)
VTEST("/nbd-client/lies/twice", test_two_replies_to_one_request)
VTEST("/nbd-client/break/at-once", test_break_fails_at_once)
VTEST("/nbd-client/break/idle", test_idle_link_reports_its_end)
VTEST_ANY_ORDER("/nbd-client/break/resend", test_requests_wait_and_are_sent_again)
VTEST("/nbd-client/break/delay", test_delay_passes)
VTEST("/nbd-client/break/mayfly", test_server_that_dies_of_a_request_is_given_up)
VTEST_ANY_ORDER("/nbd-client/break/yank", test_yank_fails_those_that_wait)
VTEST("/nbd-client/break/close", test_close_does_not_wait_for_a_silent_server)
VTEST("/nbd-client/break/unflushed", test_unflushed_writes_fail_the_next_flush)
VTEST("/nbd-client/break/another-disk", test_another_disk_after_reconnect_is_refused)
