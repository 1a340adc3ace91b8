/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD client when its connection breaks, and comes back. */
#include "nbd-fake-server.h"

static void coroutine_fn test_break_fails_at_once(void)
{
    int64_t now_ns;
    Stream *old;

    open_structured((Opening){0});
    now_ns = loop_now_ns();
    old = wire;
    ask(NBD_CMD_READ, 0, 8);
    stream_shutdown(wire);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_NOWAIT);
    g_assert_cmpint(opening.downs, ==, 1);
    call_start(&one, NBD_CMD_READ, 0, 8);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(loop_now_ns(), ==, now_ns);
    await_redial(old);
    close_client();
}

static void coroutine_fn test_idle_link_reports_its_end(void)
{
    Stream *old;

    open_structured((Opening){0});
    old = wire;
    stream_shutdown(wire);
    while (opening.downs == 0) {
        co_sleep_ns(NS_PER_US); /* nobody asks anything */
    }
    await_redial(old);
    serve_handshake();
    while (opening.ups == 0) {
        co_sleep_ns(NS_PER_US);
    }
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_CONNECTED);
    close_client();
}

static void coroutine_fn test_requests_wait_and_are_sent_again(void)
{
    open_structured((Opening){.delay_ns = 5 * NS_PER_S});
    ask(NBD_CMD_TRIM, 0, 8);
    stream_shutdown(wire);
    await_redial(wire);
    serve_handshake();
    hear_request(&one);
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpint(opening.downs, ==, 0); /* nobody above has noticed */
    g_assert_cmpint(opening.losses, ==, 0);
    close_client();
}

static Stream *coroutine_fn dial_nobody(const StreamAddr *addr, void *opaque, GError **errp)
{
    dials++;
    g_set_error(errp, TANDEM_ERROR, 0, "nobody there");
    return NULL;
}

static void coroutine_fn test_delay_passes(void)
{
    int64_t start_ns;
    unsigned before;

    open_structured((Opening){.delay_ns = 5 * NS_PER_S});
    start_ns = loop_now_ns();
    before = dials;
    nbd_client_set_dialer(dial_nobody, NULL);
    ask(NBD_CMD_READ, 0, 8);
    stream_shutdown(wire);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 5 * NS_PER_S);
    g_assert_cmpint(opening.downs, ==, 1);
    g_assert_cmpint(dials - before, ==, 3); /* at 0, 1 and 3 s */
    co_sleep_ns(100 * NS_PER_S);
    g_assert_cmpint(dials - before, ==, 10); /* 7, 15, 31, 47, 63, 79, 95 */
    close_client();
}

/* A server that agrees to everything and dies of each request. */
static void coroutine_fn mayfly_entry(void *opaque)
{
    Stream *s = opaque, *keep = wire;
    uint8_t raw[NBD_REQUEST_BYTES];

    wire = s;
    serve_handshake();
    wire = keep;
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
    int64_t start_ns;
    unsigned before;

    open_structured((Opening){.delay_ns = 10 * NS_PER_S});
    start_ns = loop_now_ns();
    before = dials;
    nbd_client_set_dialer(dial_mayfly, NULL);
    ask(NBD_CMD_READ, 0, 8);
    stream_shutdown(wire);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 10 * NS_PER_S);
    g_assert_cmpint(dials - before, ==, 4); /* at 0, 1, 3 and 7 s */
    close_client();
}

static void coroutine_fn test_yank_fails_those_that_wait(void)
{
    int64_t start_ns;

    open_structured((Opening){.delay_ns = 1000 * NS_PER_S});
    start_ns = loop_now_ns();
    nbd_client_set_dialer(dial_nobody, NULL);
    ask(NBD_CMD_READ, 0, 8); /* and silence */
    nbd_client_give_up(client);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(loop_now_ns(), ==, start_ns);
    close_client();
}

static void coroutine_fn test_close_does_not_wait_for_a_silent_server(void)
{
    int64_t start_ns;

    open_structured((Opening){.delay_ns = 1000 * NS_PER_S});
    stream_shutdown(wire);
    await_redial(wire); /* the new server says nothing at all */
    start_ns = loop_now_ns();
    close_client();
    g_assert_cmpint(loop_now_ns(), ==, start_ns);
}

static void coroutine_fn close_entry(void *opaque)
{
    nbd_client_co_close(client);
    opening.done = true;
    co_queue_wake_all(&opening.over);
}

/* What the client asks by itself. */
static void coroutine_fn hear_own(uint16_t type)
{
    one.call = (NbdCall){.type = type};
    hear_request(&one);
}

/* A client that closes with a write that it has not flushed, and has said so. */
static void coroutine_fn close_unflushed(Opening how)
{
    open_structured(how);
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    opening.done = false;
    co_spawn(close_entry, NULL);
    hear_own(NBD_CMD_FLUSH);
}

static void coroutine_fn end_of_close(void)
{
    open_wait();
    stream_close(wire);
    nbd_client_set_dialer(NULL, NULL);
}

static void coroutine_fn test_close_flushes_what_was_written(void)
{
    close_unflushed((Opening){0});
    co_sleep_ns(NS_PER_S);
    g_assert_false(opening.done);
    answer(&one, SIMPLE "00000000", "");
    hear_own(NBD_CMD_DISC); /* and nothing before that */
    end_of_close();
}

static void coroutine_fn test_close_does_not_wait_for_a_flush_for_ever(void)
{
    int64_t start_ns;

    close_unflushed((Opening){.delay_ns = 1000 * NS_PER_S});
    start_ns = loop_now_ns();
    end_of_close();
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 5 * NS_PER_S);
}

static void coroutine_fn test_yank_and_cut_end_the_flush_of_a_close(void)
{
    for (int cut = 0; cut < 2; cut++) {
        int64_t start_ns;

        close_unflushed((Opening){.delay_ns = 1000 * NS_PER_S});
        start_ns = loop_now_ns();
        nbd_client_set_dialer(dial_nobody, NULL);
        if (cut) {
            stream_shutdown(wire);
        } else {
            nbd_client_give_up(client);
        }
        end_of_close();
        g_assert_cmpint(loop_now_ns(), ==, start_ns);
    }
}

static void coroutine_fn test_unflushed_writes_fail_the_next_flush(void)
{
    Stream *old;

    open_structured((Opening){.delay_ns = 5 * NS_PER_S});
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    old = wire;
    stream_shutdown(wire);
    while (opening.losses == 0) {
        co_sleep_ns(NS_PER_US); /* told before anybody asks, and before the link comes back */
    }
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_WAIT);
    await_redial(old);
    serve_handshake();
    call_start(&one, NBD_CMD_FLUSH, 0, 0);
    g_assert_cmpint(call_end(&one), ==, -EIO); /* once */
    ask(NBD_CMD_FLUSH, 0, 0);
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    close_client();
}

/* The answer and the end of the connection come in one piece. */
static void coroutine_fn test_write_answered_with_the_last_breath_is_not_trusted(void)
{
    Stream *old;

    open_structured((Opening){.delay_ns = 5 * NS_PER_S});
    old = wire;
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    stream_shutdown(wire);
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpint(opening.losses, ==, 1);
    await_redial(old);
    serve_handshake();
    call_start(&one, NBD_CMD_FLUSH, 0, 0);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    close_client();
}

#define FIRST  "c2b7b46c-0f5d-4e0b-9a53-0a6b1f1f2d01"
#define SECOND "c2b7b46c-0f5d-4e0b-9a53-0a6b1f1f2d02"

/* A link that breaks with a write not flushed comes back to an export that calls itself so. */
static void coroutine_fn come_back_to(const char *instance, bool at_last_breath)
{
    Stream *old;

    open_structured((Opening){.delay_ns = 5 * NS_PER_S, .instance = FIRST});
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    if (!at_last_breath) {
        g_assert_cmpint(call_end(&one), ==, 0);
    }
    old = wire;
    stream_shutdown(wire);
    if (at_last_breath) {
        g_assert_cmpint(call_end(&one), ==, 0);
    }
    await_redial(old);
    g_assert_cmpint(opening.losses, ==, 0); /* not known yet */
    opening.instance = instance;
    serve_handshake();
    while (nbd_client_state(client) != NBD_CLIENT_CONNECTED) {
        co_sleep_ns(NS_PER_US);
    }
}

static void coroutine_fn test_same_export_has_lost_nothing(void)
{
    for (int at_last_breath = 0; at_last_breath < 2; at_last_breath++) {
        come_back_to(FIRST, at_last_breath);
        g_assert_cmpint(opening.losses, ==, 0);
        ask(NBD_CMD_FLUSH, 0, 0);
        answer(&one, SIMPLE "00000000", "");
        g_assert_cmpint(call_end(&one), ==, 0);
        close_client();
    }
}

static void coroutine_fn test_another_export_may_lack_writes(void)
{
    static const char *const others[] = {SECOND, NULL};

    for (size_t i = 0; i < 2 * G_N_ELEMENTS(others); i++) {
        come_back_to(others[i / 2], i % 2);
        g_assert_cmpint(opening.losses, ==, 1);
        call_start(&one, NBD_CMD_FLUSH, 0, 0);
        g_assert_cmpint(call_end(&one), ==, -EIO); /* once */
        close_client();
    }
}

/* Nobody has come back: then it is told that the link is down, and what that means. */
static void coroutine_fn test_delay_passes_with_writes_unflushed(void)
{
    open_structured((Opening){.delay_ns = 5 * NS_PER_S, .instance = FIRST});
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    nbd_client_set_dialer(dial_nobody, NULL);
    stream_shutdown(wire);
    co_sleep_ns(4 * NS_PER_S);
    g_assert_cmpint(opening.losses + opening.downs, ==, 0);
    co_sleep_ns(2 * NS_PER_S);
    g_assert_cmpint(opening.losses, ==, 1);
    g_assert_cmpint(opening.downs, ==, 1);
    close_client();
}

static void coroutine_fn test_descriptor_is_used_once(void)
{
    unsigned before;

    open_structured((Opening){.delay_ns = 5 * NS_PER_S, .is_fd = true});
    before = dials;
    ask(NBD_CMD_READ, 0, 8);
    stream_shutdown(wire);
    g_assert_cmpint(call_end(&one), ==, -EIO);
    co_sleep_ns(100 * NS_PER_S);
    g_assert_cmpuint(dials, ==, before);
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_QUIT);
    close_client();
}

static void coroutine_fn come_back_as(const char *size_and_flags)
{
    g_autofree char *info =
        g_strdup_printf(REP "00000007 00000003 0000000c 0000 %s", size_and_flags);

    open_structured((Opening){.delay_ns = 5 * NS_PER_S});
    ask(NBD_CMD_READ, 0, 8);
    stream_shutdown(wire);
    await_redial(wire);
    greet();
    agree_structured();
    agree_context();
    tell_instance();
    hear_go();
    say(info);
    say(REP "00000007" ACK);
    expect_quit();
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
VTEST("/nbd-client/break/same-export", test_same_export_has_lost_nothing)
VTEST("/nbd-client/break/another-export", test_another_export_may_lack_writes)
VTEST("/nbd-client/break/delay-with-unflushed", test_delay_passes_with_writes_unflushed)
VTEST("/nbd-client/break/descriptor", test_descriptor_is_used_once)
VTEST("/nbd-client/break/another-disk", test_another_disk_after_reconnect_is_refused)
