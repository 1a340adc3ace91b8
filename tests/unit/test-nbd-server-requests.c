/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to the NBD server: each answer, each refusal, and the end of a connection. */
#include "nbd-fake-client.h"

static void coroutine_fn test_plain_write_then_read(void)
{
    start();
    go_plain();
    ask("0000 0001", "0000000000000003 00000004 'abcd'", "00000000");
    say(REQ "0000 0000" COOKIE "0000000000000002 00000006");
    hear(SIMPLE "00000000" COOKIE "00 'abcd' 00");
    g_assert_cmpint(ram.last_flags, ==, 0);
    disconnect();
    end();
}

static void coroutine_fn test_structured_read_of_data_and_zeroes(void)
{
    start();
    memcpy(ram.data + 8, "abcd", 4);
    go_structured();
    say(REQ "0000 0000" COOKIE "0000000000000008 00000004");
    hear(CHUNK "0001 0001" COOKIE "0000000c 0000000000000008 'abcd'");
    say(REQ "0000 0000" COOKIE "0000000000000010 00000004");
    hear(CHUNK "0001 0002" COOKIE "0000000c 0000000000000010 00000004");
    say(REQ "0004 0000" COOKIE "0000000000000010 00000004"); /* DF */
    hear(CHUNK "0001 0001" COOKIE "0000000c 0000000000000010 00000000");
    end();
}

static void coroutine_fn test_long_read_has_holes(void)
{
    g_autofree uint8_t *data = g_malloc(4096);

    start();
    memset(ram.data + 4096, 'x', 4096);
    ram.hole[1] = false;
    go_structured();
    say(REQ "0000 0000" COOKIE "0000000000000000 00010000");
    hear(CHUNK "0000 0002" COOKIE "0000000c 0000000000000000 00001000");
    hear(CHUNK "0000 0001" COOKIE "00001008 0000000000001000");
    g_assert_cmpint(stream_co_read_all(wire, data, 4096), ==, 0);
    g_assert_cmpint(data[0], ==, 'x');
    for (int b = 2; b < 16; b++) {
        g_autofree char *hole =
            g_strdup_printf(CHUNK "%s 0002" COOKIE "0000000c 000000000000%04x 00001000",
                            b == 15 ? "0001" : "0000", b * 4096);

        hear(hole);
    }
    end();
}

static void coroutine_fn test_read_error_midway_is_an_error_chunk(void)
{
    start();
    memset(ram.hole, false, 16);
    ram.hole[0] = true;
    ram.bad_block = 1;
    go_structured();
    say(REQ "0000 0000" COOKIE "0000000000000000 00010000");
    hear(CHUNK "0000 0002" COOKIE "0000000c 0000000000000000 00001000");
    hear(CHUNK "0001 8002" COOKIE "0000000e 00000005 0000 0000000000001000");
    say(REQ "0000 0000" COOKIE "0000000000000000 00000001"); /* still there */
    hear(CHUNK "0001 0002" COOKIE "0000000c 0000000000000000 00000001");
    end();
}

static void coroutine_fn test_plain_read_error_keeps_the_connection(void)
{
    start();
    ram.bad_block = 0;
    go_plain();
    ask("0000 0000", "0000000000000000 00000200", "00000005");
    ask("0000 0003", "0000000000000000 00000000", "00000000");
    end();
}

static void coroutine_fn test_bounds_errors(void)
{
    start();
    go_plain();
    /* past the end: writes and zeroes ENOSPC, the others EINVAL */
    ask("0000 0001", "00000000000fffff 00000002 'ab'", "0000001c");
    ask("0000 0006", "00000000000fffff 00000002", "0000001c");
    ask("0000 0000", "00000000000fffff 00000002", "00000016");
    ask("0000 0004", "00000000000fffff 00000002", "00000016");
    ask("0000 0000", "ffffffffffffffff 00000002", "00000016");
    ask("0000 0005", "8000000000000000 ffffffff", "00000016");
    g_assert_cmpint(ram.writes, ==, 0);
    end();
}

static void coroutine_fn test_read_only_refuses_with_eperm(void)
{
    start_with((NbdServerBounds){0}, false, DISK);
    go_plain();
    ask("0000 0001", "0000000000000000 00000002 'ab'", "00000001");
    ask("0000 0004", "0000000000000000 00000002", "00000001");
    ask("0000 0006", "0000000000000000 00000002", "00000001");
    end();
}

static void coroutine_fn test_what_was_not_offered_is_einval(void)
{
    start();
    go_plain();
    ask("0000 0007", "0000000000000000 00000200", "00000016");      /* no context */
    ask("0004 0000", "0000000000000000 00000200", "00000016");      /* DF without structured */
    ask("0000 0008", "0000000000000000 00000200", "00000016");      /* RESIZE */
    ask("8000 0003", "0000000000000000 00000000", "00000016");      /* unknown flag */
    ask("0002 0001", "0000000000000000 00000002 'ab'", "00000016"); /* NO_HOLE on WRITE */
    ask("0000 0000", "0000000000000000 02000001", "00000016");      /* longer than we take */
    ask("0000 0000", "0000000000000000 00000000", "00000000");      /* nothing to read */
    end();
}

static void coroutine_fn test_flags_reach_the_disk(void)
{
    start();
    go_plain();
    ask("0001 0001", "0000000000000000 00000002 'ab'", "00000000");
    g_assert_cmpint(ram.last_flags, ==, REQ_FUA);
    ask("0000 0006", "0000000000000000 00000200", "00000000");
    g_assert_cmpint(ram.last_flags, ==, REQ_MAY_UNMAP);
    ask("0013 0006", "0000000000000000 00000200", "00000000");
    g_assert_cmpint(ram.last_flags, ==, REQ_FUA | REQ_NO_FALLBACK);
    ram.slow_zeroes = true;
    ask("0010 0006", "0000000000000000 00000200", "0000005f");
    g_assert_cmpint(ram.flushes, ==, 0);
    ask("0001 0004", "0000000000000000 00000200", "00000000"); /* TRIM with FUA */
    g_assert_cmpint(ram.flushes, ==, 1);
    ask("0000 0005", "0000000000000000 00000200", "00000000");
    end();
}

static void coroutine_fn test_block_status(void)
{
    start();
    ram.hole[1] = false;
    ram.hole[2] = false;
    go_structured();
    say(REQ "0000 0007" COOKIE "0000000000000000 00010000");
    hear(CHUNK "0001 0005" COOKIE "0000001c 00000000");
    hear("00001000 00000003 00002000 00000000 0000d000 00000003");
    say(REQ "0008 0007" COOKIE "0000000000001800 00010000"); /* REQ_ONE */
    hear(CHUNK "0001 0005" COOKIE "0000000c 00000000 00001800 00000000");
    say(REQ "0000 0007" COOKIE "0000000000000000 00000000");
    hear(CHUNK "0001 8001" COOKIE "00000006 00000016 0000");
    end();
}

static void coroutine_fn test_contexts_go_with_another_export(void)
{
    NbdExport *other;

    start();
    other = nbd_ram_export(server, &ram, "two", true);
    agree_context();
    say(OPT "00000007 00000009 00000003 'two' 0000");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE "0ded");
    hear(REP "00000007" ACK);
    say(REQ "0000 0007" COOKIE "0000000000000000 00010000");
    hear(CHUNK "0001 8001" COOKIE "00000006 00000016 0000");
    nbd_export_co_free(other);
    end();
}

static void coroutine_fn test_bad_request_magic_disconnects(void)
{
    start();
    go_plain();
    say("25609514 0000 0000" COOKIE "0000000000000000 00000200");
    hear_end();
    end();
}

static void coroutine_fn test_half_a_write_never_happens(void)
{
    start();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000200 'abcdef'");
    stream_shutdown(wire);
    stream_close(wire);
    wire = NULL;
    end();
    g_assert_true(served);
    g_assert_cmpint(ram.writes, ==, 0);
}

static void coroutine_fn test_oversized_write_is_refused_then_the_end(void)
{
    start();
    go_plain();
    ask("0000 0001", "0000000000000000 ffffffff 'abcdef'", "00000016");
    hear_end();
    end();
}

static void coroutine_fn test_fence_refuses_changes_only(void)
{
    start();
    go_plain();
    export->fence_err = EPERM;
    ask("0000 0001", "0000000000000000 00000002 'ab'", "00000001");
    ask("0000 0003", "0000000000000000 00000000", "00000000");
    say(REQ "0000 0000" COOKIE "0000000000000000 00000001");
    hear(SIMPLE "00000000" COOKIE "00");
    g_assert_cmpint(ram.writes, ==, 0);
    end();
}

static void coroutine_fn test_fence_catches_a_write_on_the_wire(void)
{
    start();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'a'");
    co_sleep_ns(NS_PER_MS); /* the server has its header */
    export->fence_err = EPERM;
    say("'b'");
    hear(SIMPLE "00000001" COOKIE);
    g_assert_cmpint(ram.writes, ==, 0);
    end();
}

static void coroutine_fn test_removal_waits_for_requests(void)
{
    start();
    slow_down();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'ab'");
    co_sleep_ns(1000);
    g_assert_cmpint(ram.in_flight, ==, 1);
    nbd_export_co_free(export);
    g_assert_cmpint(ram.in_flight, ==, 0);
    g_assert_cmpint(ram.writes, ==, 1);
    hear_end();
    export = nbd_ram_export(server, &ram, "exp", true);
    end();
}

static void coroutine_fn test_disconnect_completes_what_was_accepted(void)
{
    start();
    slow_down();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'ab'");
    ask("0000 0002", "0000000000000000 00000000", "00000000");
    hear_end();
    end();
}

VTEST_ANY_ORDER("/nbd-server/write-read", test_plain_write_then_read)
VTEST("/nbd-server/structured-read", test_structured_read_of_data_and_zeroes)
VTEST("/nbd-server/holes", test_long_read_has_holes)
VTEST("/nbd-server/error-midway", test_read_error_midway_is_an_error_chunk)
VTEST("/nbd-server/error-plain", test_plain_read_error_keeps_the_connection)
VTEST("/nbd-server/bounds", test_bounds_errors)
VTEST("/nbd-server/eperm", test_read_only_refuses_with_eperm)
VTEST("/nbd-server/not-offered", test_what_was_not_offered_is_einval)
VTEST("/nbd-server/flags", test_flags_reach_the_disk)
VTEST("/nbd-server/block-status", test_block_status)
VTEST("/nbd-server/contexts-other-export", test_contexts_go_with_another_export)
VTEST("/nbd-server/bad-magic", test_bad_request_magic_disconnects)
VTEST("/nbd-server/half-write", test_half_a_write_never_happens)
VTEST("/nbd-server/oversized-write", test_oversized_write_is_refused_then_the_end)
VTEST("/nbd-server/fence", test_fence_refuses_changes_only)
VTEST("/nbd-server/fence-on-the-wire", test_fence_catches_a_write_on_the_wire)
VTEST_ANY_ORDER("/nbd-server/removal", test_removal_waits_for_requests)
VTEST_ANY_ORDER("/nbd-server/disconnect", test_disconnect_completes_what_was_accepted)
