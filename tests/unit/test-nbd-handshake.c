/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD client negotiates: each way, each refusal, each lie. */
#include "nbd-fake-server.h"

/* The handshake has failed, and with these words in the message. */
static void coroutine_fn expect_refusal(const char *words)
{
    open_wait();
    g_assert_null(client);
    g_assert_nonnull(opening.err);
    if (!strstr(opening.err->message, words)) {
        g_error("'%s' does not say '%s'", opening.err->message, words);
    }
    g_clear_error(&opening.err);
    stream_close(wire);
    nbd_client_set_dialer(NULL, NULL);
}

static void coroutine_fn test_all_that_is_new(void)
{
    const NbdSession *s;

    open_structured((Opening){0});
    s = nbd_client_session(client);
    g_assert_true(s->structured);
    g_assert_true(s->has_context);
    g_assert_cmpuint(s->context_id, ==, 7);
    g_assert_cmpuint(s->info.size, ==, 1 * MiB);
    g_assert_cmpuint(s->info.min_block, ==, 512);
    g_assert_cmpuint(s->info.max_payload, ==, 65536);
    nbd_client_co_close(client);
    hear(REQ "0000 0002 0000000000000000 0000000000000000 00000000"); /* it says goodbye */
    stream_close(wire);
}

static void coroutine_fn test_falls_back_to_plain(void)
{
    open_plain((Opening){0});
    g_assert_false(nbd_client_session(client)->structured);
    g_assert_false(nbd_client_session(client)->has_context);
    close_client();
}

/* A server of before GO; @listed is the one name in its list. */
static void coroutine_fn open_without_go(const char *listed)
{
    open_start((Opening){0});
    greet();
    decline_structured();
    hear_go();
    say(REP "00000007" UNSUP);
    hear(OPT "00000003 00000000");
    say(REP "00000003 00000002 00000007 00000003");
    say(listed);
    say(REP "00000003" ACK);
}

static void coroutine_fn test_falls_back_to_export_name(void)
{
    open_without_go("'exp'");
    hear(OPT "00000001 00000003 'exp'");
    say(SIZE "0001");
    open_end();
    g_assert_cmpuint(nbd_client_session(client)->info.min_block, ==, 1);
    close_client();
}

static void coroutine_fn test_export_name_of_a_wrong_name_is_not_tried(void)
{
    open_without_go("'abc'");
    expect_refusal("Requested export not available");
}

static void coroutine_fn test_server_without_fixed_newstyle(void)
{
    uint8_t zeros[124] = {0};

    open_start((Opening){0});
    say("4e42444d41474943 49484156454f5054 0000");
    hear("00000000");
    hear(OPT "00000001 00000003 'exp'");
    say(SIZE "0001");
    g_assert_cmpint(stream_co_write_all(wire, zeros, sizeof(zeros)), ==, 0);
    open_end();
    close_client();
}

static void coroutine_fn test_no_such_context_is_no_problem(void)
{
    open_start((Opening){0});
    greet();
    agree_structured();
    hear_context();
    say(REP "0000000a" ACK);
    agree_go();
    open_end();
    g_assert_false(nbd_client_session(client)->has_context);
    close_client();
}

static void coroutine_fn test_refusal_has_the_servers_words(void)
{
    open_start((Opening){0});
    greet();
    decline_structured();
    hear_go();
    say(REP "00000007 80000006 00000007 'go' 1b 'away'");
    expect_refusal("\nserver reported: go away"); /* no escape sequences */
}

/* --- lies in the handshake; each is said instead of the answer to STRUCTURED_REPLY or GO --- */

static void coroutine_fn refuse_greeting(const char *greeting, const char *words)
{
    open_start((Opening){0});
    say(greeting);
    stream_shutdown(wire);
    expect_refusal(words);
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
    open_start((Opening){0});
    greet();
    hear(OPT "00000008 00000000");
    say(reply);
    expect_refusal(words);
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
    open_start((Opening){0});
    greet();
    decline_structured();
    hear_go();
    say(reply);
    expect_refusal(words);
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
    open_start((Opening){0});
    greet();
    agree_structured();
    hear_context();
    say(reply);
    expect_refusal("another metadata context");
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
    int64_t start_ns = loop_now_ns();

    open_start((Opening){0});
    greet();
    expect_refusal("did not answer in time");
    g_assert_cmpint(loop_now_ns() - start_ns, ==, 30 * NS_PER_S);
}

static void coroutine_fn test_open_timeout_tries_again(void)
{
    open_start((Opening){.timeout_ns = 10 * NS_PER_S});
    stream_shutdown(wire);
    await_redial(wire);
    serve_handshake();
    open_end();
    close_client();
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
