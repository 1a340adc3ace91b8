/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both halves of NBD against a model, in virtual time: requests of several
 * writers at once, replies in any order, short reads, and the connection cut
 * after any byte.
 */
#include "../../block/nbd/client.h"

#include "block/nbd-client.h"
#include "nbd-ram.h"
#include "vtest.h"

#define REGIONS 4
#define REGION  (64 * KiB)
#define DISK    (REGIONS * REGION)

typedef struct World {
    Choices *c;
    NbdServer *server;
    NbdExport *export;
    NbdRam ram;
    Prng prng;
    uint8_t model[DISK];
    NbdClient *client;
    unsigned serving, cuts_left;
    bool may_fail;
    CoQueue idle;
} World;

typedef struct Serve {
    World *w;
    Stream *s;
} Serve;

static void coroutine_fn serve_entry(void *opaque)
{
    Serve *v = opaque;
    World *w = v->w;

    nbd_server_co_serve(w->server, v->s);
    g_free(v);
    if (--w->serving == 0) {
        co_queue_wake_all(&w->idle);
    }
}

static Stream *coroutine_fn dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    World *w = opaque;
    StreamPairOptions o = {
        .latency_ns = choose_in(w->c, 0, 3) * NS_PER_MS,
        .seed = choose_in(w->c, 0, 1000),
    };
    Serve *v = g_new(Serve, 1);
    Stream *ours;

    v->w = w;
    stream_pair(&o, &ours, &v->s);
    if (w->cuts_left > 0) {
        w->cuts_left--;
        stream_pair_cut_after(choose(w->c) ? ours : v->s, choose_in(w->c, 0, 40000));
    }
    w->serving++;
    co_spawn(serve_entry, v);
    return ours;
}

/* --- one region: its operations are ordered, so the model knows the outcome --- */

typedef struct Region {
    World *w;
    uint64_t start;
    unsigned ops;
} Region;

static void check_read(World *w, uint64_t offset, const uint8_t *buf, uint64_t bytes, int ret)
{
    if (ret == 0) {
        g_assert_cmpmem(buf, bytes, w->model + offset, bytes);
    } else {
        g_assert_true(w->may_fail);
        g_assert_cmpint(ret, ==, -EIO);
    }
}

/* A failed write may or may not have happened: ask what is there now. */
static void after_failed_write(World *w, uint64_t offset, uint64_t bytes)
{
    g_assert_true(w->may_fail);
    memcpy(w->model + offset, w->ram.data + offset, bytes);
}

static void coroutine_fn op_read(World *w, NbdCall *call, uint8_t *buf)
{
    struct iovec v[2];

    memset(buf, 0xee, call->length);
    v[0] = (struct iovec){buf, call->length / 3};
    v[1] = (struct iovec){buf + call->length / 3, call->length - call->length / 3};
    call->iov = iov_of(v, 2);
    call->type = NBD_CMD_READ;
    check_read(w, call->offset, buf, call->length, nbd_client_co_call(w->client, call));
}

static void coroutine_fn op_write(World *w, NbdCall *call, uint8_t *buf)
{
    struct iovec v;

    call->type = NBD_CMD_WRITE;
    for (uint32_t i = 0; i < call->length; i++) {
        buf[i] = prng_next(&w->prng) | 1;
    }
    call->iov = iov_one(&v, buf, call->length);
    memcpy(w->model + call->offset, buf, call->length);
    if (nbd_client_co_call(w->client, call) < 0) {
        after_failed_write(w, call->offset, call->length);
    }
}

static void coroutine_fn op_zero(World *w, NbdCall *call)
{
    call->type = NBD_CMD_WRITE_ZEROES;
    memset(w->model + call->offset, 0, call->length);
    if (nbd_client_co_call(w->client, call) < 0) {
        after_failed_write(w, call->offset, call->length);
    }
}

static void coroutine_fn op_status(World *w, NbdCall *call)
{
    call->type = NBD_CMD_BLOCK_STATUS;
    call->flags = NBD_CMD_FLAG_REQ_ONE;
    if (!nbd_client_session(w->client)->has_context) {
        return;
    }
    if (nbd_client_co_call(w->client, call) < 0) {
        g_assert_true(w->may_fail);
        return;
    }
    g_assert_cmpuint(call->extent.length, >, 0);
    g_assert_cmpuint(call->extent.length, <=, call->length);
    for (uint32_t i = 0; (call->extent.flags & NBD_STATE_ZERO) && i < call->extent.length; i++) {
        g_assert_cmpint(w->model[call->offset + i], ==, 0);
    }
}

static void coroutine_fn one_op(Region *r, uint8_t *buf)
{
    World *w = r->w;
    NbdCall call = {0};
    uint64_t at = choose_in(w->c, 0, REGION - 1);
    int ret;

    call.offset = r->start + at;
    call.length = choose_in(w->c, 1, REGION - at);
    switch (choose_in(w->c, 0, 4)) {
    case 0:
        op_read(w, &call, buf);
        break;
    case 1:
        op_write(w, &call, buf);
        break;
    case 2:
        op_zero(w, &call);
        break;
    case 3:
        op_status(w, &call);
        break;
    default:
        ret = nbd_client_co_flush(w->client);
        g_assert_true(ret == 0 || ret == -EIO);
        break;
    }
}

static int coroutine_fn region_entry(void *opaque)
{
    Region *r = opaque;
    g_autofree uint8_t *buf = g_malloc(REGION);

    while (r->ops-- > 0) {
        one_op(r, buf);
    }
    return 0;
}

static void coroutine_fn run_regions(World *w)
{
    Region regions[REGIONS];
    CoGroup g = {0};

    for (int i = 0; i < REGIONS; i++) {
        regions[i] = (Region){.w = w, .start = i * REGION, .ops = choose_in(w->c, 1, 8)};
        co_group_spawn(&g, region_entry, &regions[i]);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
}

/* --- the world --- */

static void world_start(World *w)
{
    NbdServerBounds b = {.max_requests = choose_in(w->c, 1, 8)};

    prng_init(&w->prng, choose_in(w->c, 1, 1000));
    w->server = nbd_server_new(&b);
    nbd_ram_init(&w->ram, DISK);
    w->ram.delay = &w->prng;
    w->ram.delay_max_ns = choose_in(w->c, 1, 20) * NS_PER_MS;
    w->export = nbd_ram_export(w->server, &w->ram, "x", true);
    nbd_client_set_dialer(dial, w);
}

static bool coroutine_fn world_open(World *w, int64_t delay_ns)
{
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = "nowhere"};
    NbdClientOptions o = {
        .addr = &addr,
        .export = "x",
        .context = choose(w->c) ? NBD_CONTEXT_BASE_ALLOCATION : NULL,
        .reconnect_delay_ns = delay_ns,
        .open_timeout_ns = 100 * NS_PER_S,
    };
    g_autoptr(GError) err = NULL;

    w->client = nbd_client_co_open(&o, &err);
    g_assert_no_error(err);
    return w->client != NULL;
}

static void coroutine_fn world_end(World *w)
{
    nbd_client_co_close(w->client);
    while (w->serving > 0) {
        co_queue_wait(&w->idle);
    }
    if (!w->may_fail) {
        g_assert_cmpmem(w->ram.data, DISK, w->model, DISK);
    }
    nbd_export_co_free(w->export);
    nbd_server_co_stop(w->server);
    nbd_server_free(w->server);
    nbd_ram_destroy(&w->ram);
    nbd_client_set_dialer(NULL, NULL);
}

static void run(Choices *c, CoroutineFn *fn)
{
    g_autofree World *w = g_new0(World, 1);

    w->c = c;
    vtest_run(fn, w, choose_in(c, 0, 1000));
}

static void coroutine_fn disk_entry(void *opaque)
{
    World *w = opaque;

    world_start(w);
    world_open(w, 0);
    run_regions(w);
    world_end(w);
}

static void prop_client_and_server_are_a_disk(Choices *c)
{
    run(c, disk_entry);
}

/* With a reconnect-delay nobody above notices the cuts. */
static void coroutine_fn resend_entry(void *opaque)
{
    World *w = opaque;

    w->cuts_left = choose_in(w->c, 1, 5);
    world_start(w);
    world_open(w, 1000 * NS_PER_S);
    run_regions(w);
    world_end(w);
}

static void prop_cuts_are_bridged(Choices *c)
{
    run(c, resend_entry);
}

/* Without one they fail at once, in order, with what happened known to the model. */
static void coroutine_fn fail_entry(void *opaque)
{
    World *w = opaque;

    w->may_fail = true;
    w->cuts_left = choose_in(w->c, 1, 5);
    world_start(w);
    world_open(w, 0);
    /* Writes that failed at the client may still be under way at the server. */
    w->ram.delay = NULL;
    run_regions(w);
    world_end(w);
}

static void prop_cuts_fail_at_once(Choices *c)
{
    run(c, fail_entry);
}

PROPERTY("/nbd/is-a-disk", prop_client_and_server_are_a_disk)
PROPERTY("/nbd/cuts-are-bridged", prop_cuts_are_bridged)
PROPERTY("/nbd/cuts-fail-at-once", prop_cuts_fail_at_once)
