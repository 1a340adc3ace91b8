/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What clients that are slow, greedy or gone may cost the NBD server, and the others. */
#include "nbd-fake-client.h"

static void coroutine_fn test_client_that_never_reads_is_bounded(void)
{
    NbdServerBounds o = {.max_requests = 8, .max_bytes = 64 * KiB};
    NbdRequest r = {.length = 16 * KiB};
    uint8_t req[NBD_REQUEST_BYTES];

    start_with(o, true, DISK);
    stream_close(wire);
    wire = connect_pair(4096);
    go_plain();
    for (int i = 0; i < 100; i++) { /* fits into the pair: never blocks */
        nbd_request_encode(req, &r);
        g_assert_cmpint(stream_co_write_all(wire, req, sizeof(req)), ==, 0);
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
    stalled = wire;
    wire = connect_pair(64 * MiB);
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

    start_with(o, true, 64 * MiB);
    go_by_name("0000000004000000 0d6d");
    say(REQ "0000 0001" COOKIE "0000000000000000 02000000"); /* 32 MiB announced, none sent */
    stalled = wire;
    wire = connect_pair(64 * MiB);
    go_by_name("0000000004000000 0d6d");
    /* The first read may always run; the second has to wait for the stalled one's end. */
    say(REQ "0000 0000" COOKIE "0000000000000000 00800000");
    say(REQ "0000 0000" COOKIE "0000000000000000 00800000");
    for (int n = 0; n < 2; n++) {
        hear(SIMPLE "00000000" COOKIE);
        for (int i = 0; i < 8; i++) {
            g_assert_cmpint(stream_co_read_all(wire, data, 1 * MiB), ==, 0);
        }
    }
    stream_close(stalled);
    end();
}

static void coroutine_fn test_total_is_a_bound(void)
{
    NbdServerBounds o = {.total_bytes = 40 * MiB, .stuck_ns = 5 * NS_PER_S};
    Stream *greedy[4];

    start_with(o, true, 64 * MiB);
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            wire = connect_pair(64 * MiB);
        }
        go_by_name("0000000004000000 0d6d");
        say(REQ "0000 0001" COOKIE "0000000000000000 02000000"); /* 32 MiB announced */
        greedy[i] = wire;
    }
    co_sleep_ns(NS_PER_S);
    g_assert_cmpuint(server->bytes, ==, 32 * MiB);
    wire = connect_pair(64 * MiB);
    go_by_name("0000000004000000 0d6d");
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
    NbdRequest r = {.length = 16 * KiB};
    uint8_t req[100][NBD_REQUEST_BYTES];

    start_with(o, true, DISK);
    stream_close(wire);
    wire = connect_pair(65536);
    go_plain();
    for (int i = 0; i < 100; i++) {
        nbd_request_encode(req[i], &r);
    }
    g_assert_cmpint(stream_co_write_all(wire, req, sizeof(req)), ==, 0);
    co_sleep_ns(NS_PER_S);
    stream_close(wire);
    co_sleep_ns(NS_PER_S);
    g_assert_cmpuint(ram.reads, >, 0);
    g_assert_cmpuint(ram.reads, <=, 16);
    wire = NULL;
    end();
}

/* It takes no answer, and goes. Who comes next is served, and it does not stay for ever. */
static void coroutine_fn test_leaving_client_locks_nobody_out(void)
{
    NbdServerBounds o = {.stuck_ns = 5 * NS_PER_S};
    Stream *rude;

    start_with(o, true, DISK);
    stream_close(wire);
    wire = connect_pair(4096);
    go_plain();
    say(REQ "0000 0000" COOKIE "0000000000000000 00010000");
    say(REQ "0000 0002" COOKIE "0000000000000000 00000000"); /* DISC */
    co_sleep_ns(NS_PER_S);
    rude = wire;
    wire = connect_pair(64 * MiB);
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

    start_with((NbdServerBounds){.max_connections = 1}, true, DISK);
    hear(MAGIC);
    first = wire;
    wire = connect_pair(64 * MiB);
    hear_end();
    stream_close(first);
    end();
}

static void coroutine_fn test_one_connection_offers_no_multi_conn(void)
{
    start_with((NbdServerBounds){.max_connections = 1}, true, DISK);
    go_by_name(SIZE "0c6d");
    end();
}

VTEST("/nbd-server/never-reads", test_client_that_never_reads_is_bounded)
VTEST("/nbd-server/stalled-write", test_others_are_served_when_one_stalls)
VTEST("/nbd-server/stuck", test_stuck_clients_lose_their_memory)
VTEST("/nbd-server/total", test_total_is_a_bound)
VTEST("/nbd-server/gone", test_who_has_gone_is_not_served)
VTEST("/nbd-server/leaving", test_leaving_client_locks_nobody_out)
VTEST("/nbd-server/connections", test_connections_are_bounded)
VTEST("/nbd-server/no-multi-conn", test_one_connection_offers_no_multi_conn)
