/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server, byte for byte: what a client sends and what must come back,
 * as hexadecimal text with spaces where the fields end.
 */
#include "nbd-ram.h"
#include "vtest.h"

#define MAGIC     "4e42444d41474943 49484156454f5054 0003"
#define OPT       "49484156454f5054"
#define REP       "0003e889045565a9"
#define DISK      (1 * MiB)
#define SIZE_HEX  "0000000000100000"
#define BLOCKSIZE "0003 00000001 00001000 02000000"

static NbdServer *server;
static NbdExport *export;
static NbdRam ram;
static Stream *c;
static bool served;

static void coroutine_fn serve_entry(void *stream)
{
    nbd_server_co_serve(server, stream);
    served = true;
}

static Stream *connect_pair(void)
{
    StreamPairOptions o = {.capacity = 64 * MiB};
    Stream *ours, *theirs;

    stream_pair(&o, &ours, &theirs);
    co_spawn(serve_entry, theirs);
    return ours;
}

static void start_with(const NbdServerBounds *o, bool writable)
{
    server = nbd_server_new(o);
    nbd_ram_init(&ram, DISK);
    export = nbd_ram_export(server, &ram, "exp", writable);
    served = false;
    c = connect_pair();
}

static void start(void)
{
    start_with(&(NbdServerBounds){0}, true);
}

static void coroutine_fn end(void)
{
    if (c) {
        stream_close(c);
    }
    nbd_export_co_free(export);
    nbd_server_co_stop(server);
    nbd_server_free(server);
    nbd_ram_destroy(&ram);
}

/* --- transcripts --- */

static size_t unhex(const char *text, uint8_t *out, size_t max)
{
    size_t n = 0;

    for (const char *p = text; *p;) {
        if (*p == ' ') {
            p++;
            continue;
        }
        if (*p == '\'') { /* text: 'exp' */
            for (p++; *p != '\''; p++) {
                out[n++] = *p;
            }
            p++;
            continue;
        }
        g_assert_cmpuint(n, <, max);
        out[n++] = g_ascii_xdigit_value(p[0]) << 4 | g_ascii_xdigit_value(p[1]);
        p += 2;
    }
    return n;
}

static void coroutine_fn say(const char *hex)
{
    uint8_t bytes[1024];
    size_t n = unhex(hex, bytes, sizeof(bytes));

    g_assert_cmpint(stream_co_write_all(c, bytes, n), ==, 0);
}

static void coroutine_fn hear(const char *hex)
{
    uint8_t want[1024], got[1024];
    size_t n = unhex(hex, want, sizeof(want));

    g_assert_cmpint(stream_co_read_all(c, got, n), ==, 0);
    for (size_t i = 0; i < n; i++) {
        if (got[i] != want[i]) {
            g_error("byte %zu of '%s' is %02x", i, hex, got[i]);
        }
    }
}

static void coroutine_fn hear_zeros(size_t n)
{
    uint8_t b = 1;

    while (n-- > 0) {
        g_assert_cmpint(stream_co_read_all(c, &b, 1), ==, 0);
        g_assert_cmpint(b, ==, 0);
    }
}

static void coroutine_fn hear_end(void)
{
    uint8_t b;

    g_assert_cmpint(stream_co_read(c, &b, 1), <=, 0);
}

static void coroutine_fn greet(void)
{
    hear(MAGIC);
    say("00000003");
}

static void coroutine_fn go_structured(void)
{
    greet();
    say(OPT "00000008 00000000");
    hear(REP "00000008 00000001 00000000");
    say(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    hear(REP "0000000a 00000004 00000013 00000000 'base:allocation'");
    hear(REP "0000000a 00000001 00000000");
    say(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE_HEX "0ded");
    hear(REP "00000007 00000001 00000000");
}

static void coroutine_fn go_plain(void)
{
    greet();
    say(OPT "00000007 00000009 00000003 'exp' 0000");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE_HEX);
    hear(export->writable ? "0d6d" : "050f");
    hear(REP "00000007 00000001 00000000");
}

static void coroutine_fn disconnect(void)
{
    say("25609513 0000 0002 0000000000000000 0000000000000000 00000000");
    hear_end();
}

/* --- handshake --- */

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
    start_with(&(NbdServerBounds){0}, false);
    go_plain();
    end();
}

static void coroutine_fn test_export_name_pads_with_zeroes(void)
{
    start();
    hear(MAGIC);
    say("00000001");
    say(OPT "00000001 00000003 'exp'");
    hear(SIZE_HEX "0d6d");
    hear_zeros(124);
    disconnect();
    end();
}

static void coroutine_fn test_export_name_without_zeroes(void)
{
    start();
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear(SIZE_HEX "0d6d");
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
    hear(REP "00000003 00000001 00000000");
    say(OPT "00000003 00000001 00");
    hear(REP "00000003 80000003 00000015 'malformed option data'");
    end();
}

static void coroutine_fn test_abort_is_acknowledged(void)
{
    start();
    greet();
    say(OPT "00000002 00000000");
    hear(REP "00000002 00000001 00000000");
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
    hear(REP "00000007 80000006 00000016 'no export of this name'");
    say(OPT "00000006 0000000b 00000003 'exp' 0001 0001");
    hear(REP "00000006 00000003 00000005 0001 'exp'");
    hear(REP "00000006 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000006 00000003 0000000c 0000" SIZE_HEX "0d6d");
    hear(REP "00000006 00000001 00000000");
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
    hear(REP "00000008 00000001 00000000");
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
    hear(REP "00000009 00000001 00000000");
    say(OPT "00000009 00000014 00000003 'exp' 00000001 00000005 'base:'");
    hear(REP "00000009 00000004 00000013 00000000 'base:allocation'");
    hear(REP "00000009 00000001 00000000");
    say(OPT "00000009 00000014 00000003 'exp' 00000001 00000005 'nope:'");
    hear(REP "00000009 00000001 00000000");
    end();
}

static void coroutine_fn test_option_too_long_for_us_is_dropped(void)
{
    g_autofree uint8_t *junk = g_malloc0(100000);

    start();
    greet();
    say(OPT "00000007 000186a0");
    g_assert_cmpint(stream_co_write_all(c, junk, 100000), ==, 0);
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

    start_with(&(NbdServerBounds){.handshake_ns = 10 * NS_PER_S}, true);
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
        if (stream_co_write_all(c, opt, sizeof(opt)) < 0 ||
            stream_co_read_all(c, buf, 20 + 23) < 0) {
            break;
        }
    }
    g_assert_cmpint(n, ==, 1024);
    end();
}

/* --- requests --- */

#define REQ    "25609513"
#define SIMPLE "67446698"
#define CHUNK  "668e33ef"
#define COOKIE "0102030405060708"

static void coroutine_fn test_plain_write_then_read(void)
{
    start();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000003 00000004 'abcd'");
    hear(SIMPLE "00000000" COOKIE);
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
    g_assert_cmpint(stream_co_read_all(c, data, 4096), ==, 0);
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
    say(REQ "0000 0000" COOKIE "0000000000000000 00000200");
    hear(SIMPLE "00000005" COOKIE);
    say(REQ "0000 0003" COOKIE "0000000000000000 00000000");
    hear(SIMPLE "00000000" COOKIE);
    end();
}

static void coroutine_fn test_bounds_errors(void)
{
    start();
    go_plain();
    /* past the end: writes and zeroes ENOSPC, the others EINVAL */
    say(REQ "0000 0001" COOKIE "00000000000fffff 00000002 'ab'");
    hear(SIMPLE "0000001c" COOKIE);
    say(REQ "0000 0006" COOKIE "00000000000fffff 00000002");
    hear(SIMPLE "0000001c" COOKIE);
    say(REQ "0000 0000" COOKIE "00000000000fffff 00000002");
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0004" COOKIE "00000000000fffff 00000002");
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0000" COOKIE "ffffffffffffffff 00000002");
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0005" COOKIE "8000000000000000 ffffffff");
    hear(SIMPLE "00000016" COOKIE);
    g_assert_cmpint(ram.writes, ==, 0);
    end();
}

static void coroutine_fn test_read_only_refuses_with_eperm(void)
{
    start_with(&(NbdServerBounds){0}, false);
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'ab'");
    hear(SIMPLE "00000001" COOKIE);
    say(REQ "0000 0004" COOKIE "0000000000000000 00000002");
    hear(SIMPLE "00000001" COOKIE);
    say(REQ "0000 0006" COOKIE "0000000000000000 00000002");
    hear(SIMPLE "00000001" COOKIE);
    end();
}

static void coroutine_fn test_what_was_not_offered_is_einval(void)
{
    start();
    go_plain();
    say(REQ "0000 0007" COOKIE "0000000000000000 00000200"); /* no context */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0004 0000" COOKIE "0000000000000000 00000200"); /* DF without structured */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0008" COOKIE "0000000000000000 00000200"); /* RESIZE */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "8000 0003" COOKIE "0000000000000000 00000000"); /* unknown flag */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0002 0001" COOKIE "0000000000000000 00000002 'ab'"); /* NO_HOLE on WRITE */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0000" COOKIE "0000000000000000 02000001"); /* longer than we take */
    hear(SIMPLE "00000016" COOKIE);
    say(REQ "0000 0000" COOKIE "0000000000000000 00000000"); /* nothing to read */
    hear(SIMPLE "00000000" COOKIE);
    end();
}

static void coroutine_fn test_flags_reach_the_disk(void)
{
    start();
    go_plain();
    say(REQ "0001 0001" COOKIE "0000000000000000 00000002 'ab'");
    hear(SIMPLE "00000000" COOKIE);
    g_assert_cmpint(ram.last_flags, ==, REQ_FUA);
    say(REQ "0000 0006" COOKIE "0000000000000000 00000200");
    hear(SIMPLE "00000000" COOKIE);
    g_assert_cmpint(ram.last_flags, ==, REQ_MAY_UNMAP);
    say(REQ "0013 0006" COOKIE "0000000000000000 00000200");
    hear(SIMPLE "00000000" COOKIE);
    g_assert_cmpint(ram.last_flags, ==, REQ_FUA | REQ_NO_FALLBACK);
    ram.slow_zeroes = true;
    say(REQ "0010 0006" COOKIE "0000000000000000 00000200");
    hear(SIMPLE "0000005f" COOKIE);
    g_assert_cmpint(ram.flushes, ==, 0);
    say(REQ "0001 0004" COOKIE "0000000000000000 00000200"); /* TRIM with FUA */
    hear(SIMPLE "00000000" COOKIE);
    g_assert_cmpint(ram.flushes, ==, 1);
    say(REQ "0000 0005" COOKIE "0000000000000000 00000200");
    hear(SIMPLE "00000000" COOKIE);
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
    greet();
    say(OPT "00000008 00000000");
    hear(REP "00000008 00000001 00000000");
    say(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    hear(REP "0000000a 00000004 00000013 00000000 'base:allocation'");
    hear(REP "0000000a 00000001 00000000");
    say(OPT "00000007 00000009 00000003 'two' 0000");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE_HEX "0ded");
    hear(REP "00000007 00000001 00000000");
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
    stream_shutdown(c);
    stream_close(c);
    c = NULL;
    end();
    g_assert_true(served);
    g_assert_cmpint(ram.writes, ==, 0);
}

static void coroutine_fn test_oversized_write_is_refused_then_the_end(void)
{
    start();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 ffffffff 'abcdef'");
    hear(SIMPLE "00000016" COOKIE);
    hear_end();
    end();
}

static void coroutine_fn test_fence_refuses_changes_only(void)
{
    start();
    go_plain();
    export->fence_err = EPERM;
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'ab'");
    hear(SIMPLE "00000001" COOKIE);
    say(REQ "0000 0003" COOKIE "0000000000000000 00000000");
    hear(SIMPLE "00000000" COOKIE);
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

/* --- bounds --- */

static void coroutine_fn test_client_that_never_reads_is_bounded(void)
{
    NbdServerBounds o = {.max_requests = 8, .max_bytes = 64 * KiB};
    StreamPairOptions po = {.capacity = 4096};
    Stream *theirs;
    NbdRequest r = {.length = 16 * KiB};
    uint8_t req[NBD_REQUEST_BYTES];

    start_with(&o, true);
    stream_close(c);
    stream_pair(&po, &c, &theirs);
    co_spawn(serve_entry, theirs);
    go_plain();
    for (int i = 0; i < 100; i++) { /* fits into the pair: never blocks */
        nbd_request_encode(req, &r);
        g_assert_cmpint(stream_co_write_all(c, req, sizeof(req)), ==, 0);
    }
    co_sleep_ns(NS_PER_S);
    g_assert_cmpuint(server->bytes, <=, 64 * KiB);
    g_assert_cmpuint(server->bytes, >, 0);
    end();
}

static void coroutine_fn test_others_are_served_when_one_stalls(void)
{
    Stream *stalled;

    start();
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 02000000"); /* 32 MiB announced */
    stalled = c;
    c = connect_pair();
    go_plain();
    say(REQ "0000 0000" COOKIE "0000000000000000 00000001");
    hear(SIMPLE "00000000" COOKIE "00");
    stream_close(stalled);
    end();
}

static void coroutine_fn test_stuck_clients_lose_their_memory(void)
{
    NbdServerBounds o = {.total_bytes = 40 * MiB, .stuck_ns = 5 * NS_PER_S};
    Stream *stalled;
    g_autofree uint8_t *data = g_malloc0(1 * MiB);

    start_with(&o, true);
    nbd_ram_destroy(&ram);
    nbd_ram_init(&ram, 64 * MiB);
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear("0000000004000000 0d6d");
    say(REQ "0000 0001" COOKIE "0000000000000000 02000000"); /* 32 MiB announced, none sent */
    stalled = c;
    c = connect_pair();
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear("0000000004000000 0d6d");
    /* The first read may always run; the second has to wait for the stalled one's end. */
    say(REQ "0000 0000" COOKIE "0000000000000000 00800000");
    say(REQ "0000 0000" COOKIE "0000000000000000 00800000");
    for (int n = 0; n < 2; n++) {
        hear(SIMPLE "00000000" COOKIE);
        for (int i = 0; i < 8; i++) {
            g_assert_cmpint(stream_co_read_all(c, data, 1 * MiB), ==, 0);
        }
    }
    stream_close(stalled);
    end();
}

static void coroutine_fn test_total_is_a_bound(void)
{
    NbdServerBounds o = {.total_bytes = 40 * MiB, .stuck_ns = 5 * NS_PER_S};
    Stream *greedy[4];

    start_with(&o, true);
    nbd_ram_destroy(&ram);
    nbd_ram_init(&ram, 64 * MiB);
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            c = connect_pair();
        }
        greet();
        say(OPT "00000001 00000003 'exp'");
        hear("0000000004000000 0d6d");
        say(REQ "0000 0001" COOKIE "0000000000000000 02000000"); /* 32 MiB announced */
        greedy[i] = c;
    }
    co_sleep_ns(NS_PER_S);
    g_assert_cmpuint(server->bytes, ==, 32 * MiB);
    c = connect_pair();
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear("0000000004000000 0d6d");
    say(REQ "0000 0000" COOKIE "0000000000000000 00000001"); /* a small one does not wait */
    hear(SIMPLE "00000000" COOKIE "00");
    for (int i = 0; i < 4; i++) {
        stream_close(greedy[i]);
    }
    end();
}

static void coroutine_fn test_who_has_gone_is_not_served(void)
{
    NbdServerBounds o = {.max_requests = 8};
    StreamPairOptions po = {.capacity = 65536};
    NbdRequest r = {.length = 16 * KiB};
    uint8_t req[100][NBD_REQUEST_BYTES];
    Stream *theirs;

    start_with(&o, true);
    stream_close(c);
    stream_pair(&po, &c, &theirs);
    co_spawn(serve_entry, theirs);
    go_plain();
    for (int i = 0; i < 100; i++) {
        nbd_request_encode(req[i], &r);
    }
    g_assert_cmpint(stream_co_write_all(c, req, sizeof(req)), ==, 0);
    co_sleep_ns(NS_PER_S);
    stream_close(c);
    co_sleep_ns(NS_PER_S);
    g_assert_cmpuint(ram.reads, >, 0);
    g_assert_cmpuint(ram.reads, <=, 16);
    c = NULL;
    end();
}

/* It takes no answer, and goes. Who comes next is served, and it does not stay for ever. */
static void coroutine_fn test_leaving_client_locks_nobody_out(void)
{
    NbdServerBounds o = {.stuck_ns = 5 * NS_PER_S};
    StreamPairOptions po = {.capacity = 4096};
    Stream *theirs, *rude;

    start_with(&o, true);
    stream_close(c);
    stream_pair(&po, &c, &theirs);
    co_spawn(serve_entry, theirs);
    go_plain();
    say(REQ "0000 0000" COOKIE "0000000000000000 00010000");
    say(REQ "0000 0002" COOKIE "0000000000000000 00000000"); /* DISC */
    co_sleep_ns(NS_PER_S);
    rude = c;
    c = connect_pair();
    go_plain();
    say(REQ "0000 0000" COOKIE "0000000000000000 00000001");
    hear(SIMPLE "00000000" COOKIE "00");
    g_assert_cmpuint(server->conns.length, ==, 2);
    co_sleep_ns(11 * NS_PER_S);
    g_assert_cmpuint(server->conns.length, ==, 1);
    stream_close(rude);
    end();
}

static void coroutine_fn test_connections_are_bounded(void)
{
    Stream *first;

    start_with(&(NbdServerBounds){.max_connections = 1}, true);
    hear(MAGIC);
    first = c;
    c = connect_pair();
    hear_end();
    stream_close(first);
    end();
}

static void coroutine_fn test_one_connection_offers_no_multi_conn(void)
{
    start_with(&(NbdServerBounds){.max_connections = 1}, true);
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear(SIZE_HEX "0c6d");
    end();
}

static void coroutine_fn test_removal_waits_for_requests(void)
{
    Prng p;

    start();
    prng_init(&p, 1);
    ram.delay = &p;
    ram.delay_max_ns = NS_PER_S;
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
    Prng p;

    start();
    prng_init(&p, 1);
    ram.delay = &p;
    ram.delay_max_ns = NS_PER_S;
    go_plain();
    say(REQ "0000 0001" COOKIE "0000000000000000 00000002 'ab'");
    say(REQ "0000 0002" COOKIE "0000000000000000 00000000");
    hear(SIMPLE "00000000" COOKIE);
    hear_end();
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
VTEST("/nbd-server/long-option", test_option_too_long_for_us_is_dropped)
VTEST("/nbd-server/huge-option", test_option_of_gigabytes_disconnects)
VTEST("/nbd-server/handshake-deadline", test_handshake_deadline)
VTEST("/nbd-server/options-counted", test_options_are_counted)
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
VTEST("/nbd-server/never-reads", test_client_that_never_reads_is_bounded)
VTEST("/nbd-server/stalled-write", test_others_are_served_when_one_stalls)
VTEST("/nbd-server/stuck", test_stuck_clients_lose_their_memory)
VTEST("/nbd-server/total", test_total_is_a_bound)
VTEST("/nbd-server/gone", test_who_has_gone_is_not_served)
VTEST("/nbd-server/leaving", test_leaving_client_locks_nobody_out)
VTEST("/nbd-server/connections", test_connections_are_bounded)
VTEST("/nbd-server/no-multi-conn", test_one_connection_offers_no_multi_conn)
VTEST_ANY_ORDER("/nbd-server/removal", test_removal_waits_for_requests)
VTEST_ANY_ORDER("/nbd-server/disconnect", test_disconnect_completes_what_was_accepted)
