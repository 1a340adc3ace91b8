/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-fake-client: an NBD server with one export, a disk in memory, whose
 * client is the test, byte for byte.
 */
#ifndef TESTS_NBD_FAKE_CLIENT_H
#define TESTS_NBD_FAKE_CLIENT_H

#include "nbd-ram.h"
#include "nbd-transcript.h"

#define DISK      (1 * MiB) /* SIZE */
#define BLOCKSIZE "0003 00000001 00001000 02000000"
#define COOKIE    "0102030405060708"

static NbdServer *server;
static NbdExport *export;
static NbdRam ram;
static bool served;

static inline void coroutine_fn serve_entry(void *stream)
{
    nbd_server_co_serve(server, stream);
    served = true;
}

/* @capacity: what the server may say that nobody reads */
static inline Stream *connect_pair(size_t capacity)
{
    StreamPairOptions o = {.capacity = capacity};
    Stream *ours, *theirs;

    stream_pair(&o, &ours, &theirs);
    co_spawn(serve_entry, theirs);
    return ours;
}

static inline void start_with(NbdServerBounds o, bool writable, int64_t bytes)
{
    server = nbd_server_new(&o);
    nbd_ram_init(&ram, bytes);
    export = nbd_ram_export(server, &ram, "exp", writable);
    served = false;
    wire = connect_pair(64 * MiB);
}

static inline void start(void)
{
    start_with((NbdServerBounds){0}, true, DISK);
}

/* Requests take up to a second. */
static inline void slow_down(void)
{
    static Prng p;

    prng_init(&p, 1);
    ram.delay = &p;
    ram.delay_max_ns = NS_PER_S;
}

static inline void coroutine_fn end(void)
{
    if (wire) {
        stream_close(wire);
    }
    nbd_export_co_free(export);
    nbd_server_co_stop(server);
    nbd_server_free(server);
    nbd_ram_destroy(&ram);
}

static inline void coroutine_fn hear_end(void)
{
    uint8_t b;

    g_assert_cmpint(stream_co_read(wire, &b, 1), <=, 0);
}

/* --- handshake --- */

static inline void coroutine_fn greet(void)
{
    hear(MAGIC);
    say("00000003");
}

static inline void coroutine_fn agree_context(void)
{
    greet();
    say(OPT "00000008 00000000");
    hear(REP "00000008" ACK);
    say(OPT "0000000a 0000001e 00000003 'exp' 00000001 0000000f 'base:allocation'");
    hear(REP "0000000a 00000004 00000013 00000000 'base:allocation'");
    hear(REP "0000000a" ACK);
}

static inline void coroutine_fn go_structured(void)
{
    agree_context();
    say(OPT "00000007 0000000b 00000003 'exp' 0001 0003");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE "0ded");
    hear(REP "00000007" ACK);
}

static inline void coroutine_fn go_plain(void)
{
    greet();
    say(OPT "00000007 00000009 00000003 'exp' 0000");
    hear(REP "00000007 00000003 0000000e" BLOCKSIZE);
    hear(REP "00000007 00000003 0000000c 0000" SIZE);
    hear(export->writable ? "0d6d" : "050f");
    hear(REP "00000007" ACK);
}

static inline void coroutine_fn go_by_name(const char *size_and_flags)
{
    greet();
    say(OPT "00000001 00000003 'exp'");
    hear(size_and_flags);
}

/* --- requests --- */

/* A request and its simple reply without data: @flags_and_type, @range and what follows, @error. */
static inline void coroutine_fn
ask(const char *flags_and_type, const char *range, const char *error)
{
    g_autofree char *request = g_strdup_printf(REQ "%s" COOKIE "%s", flags_and_type, range);
    g_autofree char *reply = g_strdup_printf(SIMPLE "%s" COOKIE, error);

    say(request);
    hear(reply);
}

static inline void coroutine_fn disconnect(void)
{
    say(REQ "0000 0002 0000000000000000 0000000000000000 00000000");
    hear_end();
}

#endif
