/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz: what a hostile NBD server may send. The first byte chooses how the
 * bytes arrive and whether the handshake is done for it; the rest is the server.
 *
 * The client opens, reads, asks for status, writes and flushes; it may fail but
 * must come to an end, and a read that succeeds must have filled its buffer.
 */
#include "../../block/nbd/client.h"

#include "block/nbd-client.h"
#include "util/loop.h"
#include "util/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct World {
    const uint8_t *data;
    size_t bytes;
    unsigned dials, open_servers;
    CoQueue over;
} World;

typedef struct Serve {
    World *w;
    Stream *s;
} Serve;

/* What a server with structured replies, the context and a disk of 1 MiB says. */
static const uint8_t handshake[] = {
    'N', 'B', 'D', 'M', 'A', 'G', 'I', 'C', 'I', 'H', 'A', 'V', 'E',  'O', 'P', 'T',  0,    3,
#define REP 0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0, 0, 0
    REP, 8,   0,   0,   0,   1,   0,   0,   0,   0,   REP, 10,  0,    0,   0,   4,    0,    0,
    0,   19,  0,   0,   0,   0,   'b', 'a', 's', 'e', ':', 'a', 'l',  'l', 'o', 'c',  'a',  't',
    'i', 'o', 'n', REP, 10,  0,   0,   0,   1,   0,   0,   0,   0,    REP, 7,   0,    0,    0,
    3,   0,   0,   0,   12,  0,   0,   0,   0,   0,   0,   0,   0x10, 0,   0,   0x0d, 0xed, REP,
    7,   0,   0,   0,   1,   0,   0,   0,   0,
};

static void coroutine_fn serve_entry(void *opaque)
{
    Serve *v = opaque;
    World *w = v->w;
    int ret = 0;

    if (w->bytes && (w->data[0] & 1)) {
        ret = stream_co_write_all(v->s, handshake, sizeof(handshake));
    }
    if (ret == 0 && w->bytes > 1) {
        ret = stream_co_write_all(v->s, w->data + 1, w->bytes - 1);
    }
    (void)ret; /* the client may hang up at any time */
    co_sleep_ns(5 * NS_PER_S);
    stream_close(v->s);
    g_free(v);
    if (--w->open_servers == 0) {
        co_queue_wake_all(&w->over);
    }
}

static Stream *coroutine_fn dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    World *w = opaque;
    StreamPairOptions o = {.capacity = 16 * MiB, .seed = w->bytes ? w->data[0] & 0xfe : 0};
    Serve *v;
    Stream *ours;

    if (w->dials++ >= 3) {
        g_set_error(errp, TANDEM_ERROR, 0, "enough");
        return NULL;
    }
    v = g_new(Serve, 1);
    v->w = w;
    stream_pair(&o, &ours, &v->s);
    w->open_servers++;
    co_spawn(serve_entry, v);
    return ours;
}

typedef struct Use {
    NbdClient *c;
    uint16_t type;
    uint64_t offset;
    uint8_t buf[4096];
} Use;

static int coroutine_fn use_entry(void *opaque)
{
    Use *u = opaque;
    struct iovec v;
    NbdCall call = {.type = u->type, .offset = u->offset, .length = sizeof(u->buf)};

    if (u->type == NBD_CMD_BLOCK_STATUS && !nbd_client_session(u->c)->has_context) {
        return 0;
    }
    call.iov = iov_one(&v, u->buf, sizeof(u->buf));
    if (nbd_client_co_call(u->c, &call) == 0 && u->type == NBD_CMD_BLOCK_STATUS) {
        assert(call.extent.length > 0 && call.extent.length <= call.length);
    }
    return 0;
}

static void coroutine_fn use_client(NbdClient *c)
{
    static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE,
                                     NBD_CMD_READ};
    Use *uses = g_new0(Use, G_N_ELEMENTS(types));
    CoGroup g = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        uses[i].c = c;
        uses[i].type = types[i];
        uses[i].offset = i * sizeof(uses[i].buf);
        co_group_spawn(&g, use_entry, &uses[i]);
    }
    (void)co_group_wait(&g);
    (void)nbd_client_co_flush(c);
    g_free(uses);
}

static void coroutine_fn world_entry(void *opaque)
{
    World *w = opaque;
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = "x"};
    NbdClientOptions o = {
        .addr = &addr,
        .export = "x",
        .context = NBD_CONTEXT_BASE_ALLOCATION,
        .reconnect_delay_ns = w->bytes && (w->data[0] & 2) ? 3 * NS_PER_S : 0,
    };
    NbdClient *c = nbd_client_co_open(&o, NULL);

    if (c) {
        use_client(c);
        nbd_client_co_close(c);
    }
    while (w->open_servers > 0) {
        co_queue_wait(&w->over);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    World w = {.data = data, .bytes = bytes};
    Loop *loop = loop_new(LOOP_POLLER_VIRTUAL, NULL);

    nbd_client_set_dialer(dial, &w);
    loop_run_coroutine(loop, world_entry, &w);
    loop_free(loop); /* asserts that nothing is left */
    return 0;
}
