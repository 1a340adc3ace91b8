/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of the NBD client: each answer, and each lie in one. */
#include "nbd-fake-server.h"

static void coroutine_fn test_plain_read(void)
{
    open_plain((Opening){0});
    ask(NBD_CMD_READ, 512, 4);
    answer(&one, SIMPLE "00000000", "'abcd'");
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpmem(one.buf, 4, "abcd", 4);

    ask(NBD_CMD_READ, 0, 4);
    answer(&one, SIMPLE "00000005", "");
    g_assert_cmpint(call_end(&one), ==, -EIO);
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_CONNECTED);
    close_client();
}

static void coroutine_fn test_chunks_in_any_order(void)
{
    open_structured((Opening){0});
    ask(NBD_CMD_READ, 0x1000, 8);
    answer(&one, CHUNK "0000 0001", "0000000a 0000000000001006 'gh'");
    answer(&one, CHUNK "0000 0002", "0000000c 0000000000001002 00000004");
    answer(&one, CHUNK "0000 0001", "0000000a 0000000000001000 'ab'");
    answer(&one, CHUNK "0001 0000", "00000000");
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpmem(one.buf, 8, "ab\0\0\0\0gh", 8);
    close_client();
}

static void coroutine_fn test_error_chunk_after_data(void)
{
    open_structured((Opening){0});
    ask(NBD_CMD_READ, 0, 8);
    answer(&one, CHUNK "0000 0001", "0000000a 0000000000000000 'ab'");
    answer(&one, CHUNK "0000 8002", "00000011 0000001c 0003 'bad' 0000000000000002");
    answer(&one, CHUNK "0000 8fff", "00000003 'abc'"); /* an error of a later time */
    answer(&one, CHUNK "0001 0000", "00000000");
    g_assert_cmpint(call_end(&one), ==, -ENOSPC);
    g_assert_cmpint(nbd_client_state(client), ==, NBD_CLIENT_CONNECTED);
    close_client();
}

static void coroutine_fn test_block_status(void)
{
    open_structured((Opening){0});
    /* Equal neighbours are one; what runs past the request is cut. */
    ask(NBD_CMD_BLOCK_STATUS, 0, 0x800);
    answer(&one, CHUNK "0001 0005",
           "0000001c 00000007 00000400 00000003 00001000 00000003 00001000 00000000");
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpuint(one.call.extent.length, ==, 0x800);
    g_assert_cmpuint(one.call.extent.flags, ==, 3);

    /* A length that is no multiple of the block size is rounded, and never to nothing. */
    ask(NBD_CMD_BLOCK_STATUS, 0, 0x800);
    answer(&one, CHUNK "0001 0005", "0000000c 00000007 00000001 00000003");
    g_assert_cmpint(call_end(&one), ==, 0);
    g_assert_cmpuint(one.call.extent.length, ==, 0x200);
    g_assert_cmpuint(one.call.extent.flags, ==, 0);
    close_client();
}

static void coroutine_fn test_requests_leave_together(void)
{
    g_autofree Running *r = g_new0(Running, 3);

    open_plain((Opening){0});
    for (int i = 0; i < 3; i++) {
        call_start(&r[i], NBD_CMD_READ, i * 512, 1);
    }
    for (int i = 0; i < 3; i++) {
        hear_request(&r[i]);
    }
    answer(&r[2], SIMPLE "00000000", "'c'");
    answer(&r[0], SIMPLE "00000000", "'a'");
    answer(&r[1], SIMPLE "00000000", "'b'");
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(call_end(&r[i]), ==, 0);
        g_assert_cmpint(r[i].buf[0], ==, "abc"[i]);
    }
    close_client();
}

/* --- lies in transmission: each ends the link for ever --- */

static void coroutine_fn lie(uint16_t type, bool structured, const char *before, const char *after)
{
    Opening o = {.delay_ns = 10 * NS_PER_S};

    if (structured) {
        open_structured(o);
    } else {
        open_plain(o);
    }
    ask(type, 0, 8);
    answer(&one, before, after);
    expect_quit();
    g_assert_cmpint(opening.downs, ==, 1);
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
    open_structured((Opening){0});
    ask(NBD_CMD_READ, 0, 8);
    answer(&one, CHUNK "0000 0001", "0000000c 0000000000000000 'abcd'");
    answer(&one, CHUNK "0001 0001", "0000000c 0000000000000003 'abcd'");
    expect_quit();
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
        g_autofree char *hex = g_strdup_printf(SIMPLE "00000000 %s", cookies[i]);

        open_plain((Opening){0});
        ask(NBD_CMD_READ, 0, 8);
        say(hex);
        expect_quit();
    }
}

static void coroutine_fn test_two_replies_to_one_request(void)
{
    open_plain((Opening){0});
    ask(NBD_CMD_TRIM, 0, 8);
    answer(&one, SIMPLE "00000000", "");
    answer(&one, SIMPLE "00000000", "");
    g_assert_cmpint(call_end(&one), ==, 0);
    call_start(&one, NBD_CMD_TRIM, 0, 8);
    expect_quit();
}

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
