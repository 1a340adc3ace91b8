/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD server negotiates: what clients ask, and what they should not. */
#include "nbd-fake-client.h"

static void coroutine_fn test_go_gives_size_and_flags(void)
{
    start();
    go_plain();
    disconnect();
    end();
}

static void coroutine_fn test_structured_client_of_qemu(void)
{
    start();
    go_structured();
    disconnect();
    end();
}

static void coroutine_fn test_read_only_export_says_so(void)
{
    start_with((NbdServerBounds){0}, false, DISK);
    go_plain();
    end();
}

static void coroutine_fn hear_zeros(size_t n)
{
    uint8_t b = 1;

    while (n-- > 0) {
        g_assert_cmpint(stream_co_read_all(wire, &b, 1), ==, 0);
        g_assert_cmpint(b, ==, 0);
    }
}

static void coroutine_fn test_export_name_pads_with_zeroes(void)
{
    start();
    hear(MAGIC);
    say("00000001");
    say(OPT "00000001 00000003 'exp'");
    hear(SIZE "0d6d");
    hear_zeros(124);
    disconnect();
    end();
}

static void coroutine_fn test_export_name_without_zeroes(void)
{
    start();
    go_by_name(SIZE "0d6d");
    disconnect();
    end();
}

static void coroutine_fn test_export_name_unknown_disconnects(void)
{
    start();
    greet();
    say(OPT "00000001 00000003 'exq'");
    hear_end();
    end();
}

static void coroutine_fn test_old_client_may_only_name_its_export(void)
{
    start();
    hear(MAGIC);
    say("00000000");
    say(OPT "00000003 00000000");
    hear_end();
    end();
}

static void coroutine_fn test_unknown_client_flag_disconnects(void)
{
    start();
    hear(MAGIC);
    say("00000007");
    hear_end();
    end();
}

static void coroutine_fn test_list(void)
{
    start();
    greet();
    say(OPT "00000003 00000000");
    hear(REP "00000003 00000002 00000007 00000003 'exp'");
    hear(REP "00000003" ACK);
    say(OPT "00000003 00000001 00");
    hear(REP "00000003 80000003 00000015 'malformed option data'");
    end();
}

static void coroutine_fn test_abort_is_acknowledged(void)
{
    start();
    greet();
    say(OPT "00000002 00000000");
    hear(REP "00000002" ACK);
    hear_end();
    end();
}

static void coroutine_fn test_unsupported_options(void)
{
    static const char *const options[] = {"00000004", "00000005", "0000000b", "12345678"};

    start();
    greet();
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *ask = g_strdup_printf(OPT "%s 00000002 ffff", options[i]);
        g_autofree char *answer =
            g_strdup_printf(REP "%s 80000001 00000017 'option is not supported'", options[i]);

        say(ask);
        hear(answer);
    }
    end();
}

static void coroutine_fn test_go_unknown_then_info(void)
{
    start();
    greet();
    say(OPT "00000007 00000007 00000001 'x' 0000");
    hear(REP "00000007 80000006 00000016 'export ' 27 'x' 27 ' not present'");
    say(OPT "00000006 0000000b 00000003 'exp' 0001 0001");
    hear(REP "00000006 00000003 00000005 0001 'exp'");
    hear(REP "00000006 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000006 00000003 0000000c 0000" SIZE "0d6d");
    hear(REP "00000006" ACK);
    end();
}

static void coroutine_fn test_malformed_go_keeps_the_connection(void)
{
    static const char *const bad[] = {
        "00000003 000000",                   /* too short for a length */
        "00000004 ffffffff",                 /* a name longer than the data */
        "00000009 00000003 'exp' 0001",      /* fewer infos than it says */
        "0000000b 00000003 'exp' 0000 0003", /* more */
        "00000009 00000003 650070 0000",     /* NUL in the name */
        "00000009 00000003 c328ff 0000",     /* not UTF-8 */
    };

    start();
    greet();
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *ask = g_strdup_printf(OPT "00000007 %s", bad[i]);

        say(ask);
        hear(REP "00000007 80000003 00000015 'malformed option data'");
    }
    end();
}

static void coroutine_fn test_structured_twice_is_invalid(void)
{
    start();
    greet();
    say(OPT "00000008 00000000");
    hear(REP "00000008" ACK);
    say(OPT "00000008 00000000");
    hear(REP "00000008 80000003 00000015 'malformed option data'");
    end();
}

static void coroutine_fn test_set_context_needs_structured(void)
{
    start();
    greet();
    say(OPT "0000000a 0000000b 00000003 'exp' 00000000");
    hear(REP "0000000a 80000003 0000001d 'structured replies come first'");
    end();
}

static void coroutine_fn test_list_contexts(void)
{
    start();
    greet();
    say(OPT "00000009 0000000b 00000003 'exp' 00000000");
    hear(REP "00000009 00000004 00000013 00000000 'base:allocation'");
    hear(REP "00000009" ACK);
    say(OPT "00000009 00000014 00000003 'exp' 00000001 00000005 'base:'");
    hear(REP "00000009 00000004 00000013 00000000 'base:allocation'");
    hear(REP "00000009" ACK);
    say(OPT "00000009 00000014 00000003 'exp' 00000001 00000005 'nope:'");
    hear(REP "00000009" ACK);
    end();
}

#define INSTANCE_QUERY "00000021 00000003 'exp' 00000001 00000012 'x-tandem:instance:'"

static void coroutine_fn list_instance(uint8_t told[NBD_INSTANCE_BYTES])
{
    say(OPT "00000009" INSTANCE_QUERY);
    hear(REP "00000009 00000004 0000003a 00000000 'x-tandem:instance:'");
    g_assert_cmpint(stream_co_read_all(wire, told, NBD_INSTANCE_BYTES), ==, 0);
    hear(REP "00000009" ACK);
}

/* The same as long as the export lives; told only when asked for, and no context to select. */
static void coroutine_fn test_instance(void)
{
    uint8_t first[NBD_INSTANCE_BYTES], again[NBD_INSTANCE_BYTES];

    start();
    greet();
    list_instance(first);
    list_instance(again);
    g_assert_cmpmem(first, sizeof(first), again, sizeof(again));
    say(OPT "00000008 00000000");
    hear(REP "00000008" ACK);
    say(OPT "0000000a" INSTANCE_QUERY);
    hear(REP "0000000a" ACK);
    end();
    start();
    greet();
    list_instance(again);
    g_assert_cmpint(memcmp(first, again, sizeof(first)), !=, 0);
    end();
}

static void coroutine_fn test_option_too_long_for_us_is_dropped(void)
{
    g_autofree uint8_t *junk = g_malloc0(100000);

    start();
    greet();
    say(OPT "00000007 000186a0");
    g_assert_cmpint(stream_co_write_all(wire, junk, 100000), ==, 0);
    hear(REP "00000007 80000009 00000017 'option data is too long'");
    end();
}

static void coroutine_fn test_option_of_gigabytes_disconnects(void)
{
    start();
    greet();
    say(OPT "00000007 ffffffff");
    hear_end();
    end();
}

static void coroutine_fn test_handshake_deadline(void)
{
    int64_t start_ns = loop_now_ns();

    start_with((NbdServerBounds){.handshake_ns = 10 * NS_PER_S}, true, DISK);
    greet();
    say("49484156"); /* and nothing more */
    hear_end();
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 10 * NS_PER_S);
    end();
}

static void coroutine_fn test_options_are_counted(void)
{
    int n = 0;
    uint8_t buf[64];

    start();
    greet();
    for (; n < 2000; n++) {
        uint8_t opt[16];

        nbd_opt_encode(opt, 99, 0);
        if (stream_co_write_all(wire, opt, sizeof(opt)) < 0 ||
            stream_co_read_all(wire, buf, 20 + 23) < 0) {
            break;
        }
    }
    g_assert_cmpint(n, ==, 1024);
    end();
}

VTEST_ANY_ORDER("/nbd-server/go", test_go_gives_size_and_flags)
VTEST_ANY_ORDER("/nbd-server/qemu", test_structured_client_of_qemu)
VTEST("/nbd-server/read-only", test_read_only_export_says_so)
VTEST("/nbd-server/export-name/zeroes", test_export_name_pads_with_zeroes)
VTEST("/nbd-server/export-name/no-zeroes", test_export_name_without_zeroes)
VTEST("/nbd-server/export-name/unknown", test_export_name_unknown_disconnects)
VTEST("/nbd-server/old-client", test_old_client_may_only_name_its_export)
VTEST("/nbd-server/client-flags", test_unknown_client_flag_disconnects)
VTEST("/nbd-server/list", test_list)
VTEST("/nbd-server/abort", test_abort_is_acknowledged)
VTEST("/nbd-server/unsupported", test_unsupported_options)
VTEST("/nbd-server/unknown-then-info", test_go_unknown_then_info)
VTEST("/nbd-server/malformed-go", test_malformed_go_keeps_the_connection)
VTEST("/nbd-server/structured-twice", test_structured_twice_is_invalid)
VTEST("/nbd-server/context-needs-structured", test_set_context_needs_structured)
VTEST("/nbd-server/list-contexts", test_list_contexts)
VTEST("/nbd-server/instance", test_instance)
VTEST("/nbd-server/long-option", test_option_too_long_for_us_is_dropped)
VTEST("/nbd-server/huge-option", test_option_of_gigabytes_disconnects)
VTEST("/nbd-server/handshake-deadline", test_handshake_deadline)
VTEST("/nbd-server/options-counted", test_options_are_counted)
