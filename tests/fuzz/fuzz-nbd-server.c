/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz: what a hostile NBD client may send. The first byte chooses how the
 * bytes arrive and whether the handshake is done for it; the rest is the client.
 *
 * Whatever comes, the server ends with the connection and keeps nothing.
 */
#include "nbd-ram.h"
#include "util/loop.h"

#define DISK (256 * KiB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct World {
    const uint8_t *data;
    size_t bytes;
    NbdServer *server;
    NbdRam ram;
    bool served;
    CoQueue over;
} World;

typedef struct Serve {
    World *w;
    Stream *s;
} Serve;

static void coroutine_fn serve_entry(void *opaque)
{
    Serve *v = opaque;

    nbd_server_co_serve(v->w->server, v->s);
    v->w->served = true;
    co_queue_wake_all(&v->w->over);
}

/* Take what the server says, so that it is not held up by us. */
static void coroutine_fn drain_entry(void *opaque)
{
    Stream *s = opaque;
    uint8_t buf[4096];

    while (stream_co_read(s, buf, sizeof(buf)) > 0) {
        /* the fuzzer cares for crashes, not for answers */
    }
}

static const uint8_t handshake[] = {
    0,   0,   0,   3,                                                              /* flags */
    'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0,   0,   0,   8,   0,   0,   0,   0,  /* structured */
    'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0,   0,   0,   10,  0,   0,   0,   28, /* context */
    0,   0,   0,   1,   'x', 0,   0,   0,   1,   0,   0,   0,   15,  'b', 'a', 's', 'e',
    ':', 'a', 'l', 'l', 'o', 'c', 'a', 't', 'i', 'o', 'n', 'I', 'H', 'A', 'V', 'E', 'O',
    'P', 'T', 0,   0,   0,   7,   0,   0,   0,   7,   0,   0,   0,   1,   'x', 0,   0, /* GO */
};

static void coroutine_fn talk(World *w, Stream *client)
{
    uint8_t how = w->bytes ? w->data[0] : 0;
    int ret = 0;

    if (how & 1) {
        ret = stream_co_write_all(client, handshake, sizeof(handshake));
    }
    if (ret == 0 && w->bytes > 1) {
        ret = stream_co_write_all(client, w->data + 1, w->bytes - 1);
    }
    (void)ret;                  /* the server may hang up at any time */
    co_sleep_ns(20 * NS_PER_S); /* longer than its patience */
    stream_shutdown(client);
}

static void coroutine_fn world_entry(void *opaque)
{
    World *w = opaque;
    NbdServerBounds b = {.handshake_ns = 10 * NS_PER_S, .max_requests = 4};
    StreamPairOptions o = {.capacity = 16 * MiB, .seed = w->bytes ? w->data[0] & 0xfe : 0};
    NbdExport *e;
    Stream *client;
    Serve v = {.w = w};

    w->server = nbd_server_new(&b);
    nbd_ram_init(&w->ram, DISK);
    w->ram.bad_block = 3;
    e = nbd_ram_export(w->server, &w->ram, "x", true);
    stream_pair(&o, &client, &v.s);
    co_spawn(serve_entry, &v);
    co_spawn(drain_entry, client);
    talk(w, client);
    while (!w->served) {
        co_queue_wait(&w->over);
    }
    co_sleep_ns(1); /* the drain ends too */
    stream_close(client);
    nbd_export_co_free(e);
    nbd_server_co_stop(w->server);
    nbd_server_free(w->server);
    nbd_ram_destroy(&w->ram);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    World w = {.data = data, .bytes = bytes};
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);

    loop_run_coroutine(loop, world_entry, &w);
    loop_free(loop); /* asserts that nothing is left */
    return 0;
}
