/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD client when its connection breaks, and comes back. */
#include "nbd-fake-server.h"

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
    g_assert_cmpint(o.losses, ==, 0);
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

static void coroutine_fn close_entry(void *opaque)
{
    Opening *o = opaque;

    nbd_client_co_close(o->client);
    o->done = true;
    co_queue_wake_all(&o->over);
}

/* A client that closes with a write that it has not flushed, and has said so. */
static uint64_t coroutine_fn close_unflushed(Opening *o)
{
    NbdClient *c = open_structured(o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;

    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    cookie = hear_request(0, NBD_CMD_TRIM, 0, 8);
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    o->done = false;
    co_spawn(close_entry, o);
    return hear_request(0, NBD_CMD_FLUSH, 0, 0);
}

static void coroutine_fn end_of_close(Opening *o)
{
    open_end(o);
    stream_close(srv);
    nbd_client_set_dialer(NULL, NULL);
}

static void coroutine_fn test_close_flushes_what_was_written(void)
{
    Opening o = {0};
    uint64_t cookie = close_unflushed(&o);

    co_sleep_ns(NS_PER_S);
    g_assert_false(o.done);
    answer(SIMPLE "00000000", cookie, "");
    hear_request(0, NBD_CMD_DISC, 0, 0); /* and nothing before that */
    end_of_close(&o);
}

static void coroutine_fn test_close_does_not_wait_for_a_flush_for_ever(void)
{
    Opening o = {.delay_ns = 1000 * NS_PER_S};
    int64_t start_ns;

    close_unflushed(&o);
    start_ns = loop_now_ns();
    end_of_close(&o);
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 5 * NS_PER_S);
}

static void coroutine_fn test_yank_and_cut_end_the_flush_of_a_close(void)
{
    for (int cut = 0; cut < 2; cut++) {
        Opening o = {.delay_ns = 1000 * NS_PER_S};
        int64_t start_ns;

        close_unflushed(&o);
        start_ns = loop_now_ns();
        nbd_client_set_dialer(dial_nobody, NULL);
        if (cut) {
            stream_shutdown(srv);
        } else {
            nbd_client_give_up(o.client);
        }
        end_of_close(&o);
        g_assert_cmpint(loop_now_ns(), ==, start_ns);
    }
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
    while (o.losses == 0) {
        co_sleep_ns(NS_PER_US); /* told before anybody asks, and before the link comes back */
    }
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_WAIT);
    reconnect(old);
    call_start(r, c, NBD_CMD_FLUSH, 0, 0);
    g_assert_cmpint(call_end(r), ==, -EIO); /* once */
    call_start(r, c, NBD_CMD_FLUSH, 0, 0);
    cookie = hear_request(0, NBD_CMD_FLUSH, 0, 0);
    answer(SIMPLE "00000000", cookie, "");
    g_assert_cmpint(call_end(r), ==, 0);
    close_client(c);
}

/* The answer and the end of the connection come in one piece. */
static void coroutine_fn test_write_answered_with_the_last_breath_is_not_trusted(void)
{
    Opening o = {.delay_ns = 5 * NS_PER_S};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    uint64_t cookie;
    Stream *old = srv;

    call_start(r, c, NBD_CMD_TRIM, 0, 8);
    cookie = hear_request(0, NBD_CMD_TRIM, 0, 8);
    answer(SIMPLE "00000000", cookie, "");
    stream_shutdown(srv);
    g_assert_cmpint(call_end(r), ==, 0);
    g_assert_cmpint(o.losses, ==, 1);
    reconnect(old);
    call_start(r, c, NBD_CMD_FLUSH, 0, 0);
    g_assert_cmpint(call_end(r), ==, -EIO);
    close_client(c);
}

static void coroutine_fn test_descriptor_is_used_once(void)
{
    Opening o = {.delay_ns = 5 * NS_PER_S, .is_fd = true};
    NbdClient *c = open_structured(&o);
    g_autofree Running *r = g_new0(Running, 1);
    unsigned before = dials;

    call_start(r, c, NBD_CMD_READ, 0, 8);
    hear_request(0, NBD_CMD_READ, 0, 8);
    stream_shutdown(srv);
    g_assert_cmpint(call_end(r), ==, -EIO);
    co_sleep_ns(100 * NS_PER_S);
    g_assert_cmpuint(dials, ==, before);
    g_assert_cmpint(nbd_client_state(c), ==, NBD_CLIENT_QUIT);
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

VTEST("/nbd-client/break/at-once", test_break_fails_at_once)
VTEST("/nbd-client/break/idle", test_idle_link_reports_its_end)
VTEST_ANY_ORDER("/nbd-client/break/resend", test_requests_wait_and_are_sent_again)
VTEST("/nbd-client/break/delay", test_delay_passes)
VTEST("/nbd-client/break/mayfly", test_server_that_dies_of_a_request_is_given_up)
VTEST_ANY_ORDER("/nbd-client/break/yank", test_yank_fails_those_that_wait)
VTEST("/nbd-client/break/close", test_close_does_not_wait_for_a_silent_server)
VTEST("/nbd-client/close/flush", test_close_flushes_what_was_written)
VTEST("/nbd-client/close/silent", test_close_does_not_wait_for_a_flush_for_ever)
VTEST_ANY_ORDER("/nbd-client/close/yank", test_yank_and_cut_end_the_flush_of_a_close)
VTEST("/nbd-client/break/unflushed", test_unflushed_writes_fail_the_next_flush)
VTEST_ANY_ORDER("/nbd-client/break/last-breath",
                test_write_answered_with_the_last_breath_is_not_trusted)
VTEST("/nbd-client/break/descriptor", test_descriptor_is_used_once)
VTEST("/nbd-client/break/another-disk", test_another_disk_after_reconnect_is_refused)
