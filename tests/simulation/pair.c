/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pair: see pair.h. */
#include "pair.h"

#include <string.h>

#include "block/driver.h"
#include "block/nbd-client.h"
#include "user.h"

/* --- the wire --- */

typedef struct Serve {
    Pair *pair;
    PairDisk *disk;
    Stream *stream;
} Serve;

static void coroutine_fn
serve_co_entry(void *opaque)
{
    Serve *v = opaque;
    Pair *p = v->pair;

    nbd_server_co_serve(p->server, v->stream);
    if (v->disk->link == v->stream) {
        v->disk->link = NULL;
    }
    g_free(v);
    if (--p->serving == 0) {
        co_queue_wake_all(&p->idle);
    }
}

/* The path of the address says whose link it is: "0", "1", "2". */
static Stream *coroutine_fn
dial(const StreamAddr *addr, void *opaque, GError **errp)
{
    Pair *p = opaque;
    StreamPairOptions o = {
        .latency_ns = choose_in(p->c, 0, 3) * NS_PER_MS,
        .seed = choose_in(p->c, 0, 1000),
    };
    Serve *v = g_new(Serve, 1);
    Stream *ours;

    (void)errp;
    *v = (Serve){.pair = p, .disk = &p->d[addr->path[0] - '0']};
    stream_pair(&o, &ours, &v->stream);
    v->disk->link = v->stream;
    p->serving++;
    co_spawn(serve_co_entry, v);
    return ours;
}

BlockNode *coroutine_fn
pair_co_open_link(PairDisk *d, GError **errp)
{
    g_autofree char *text = g_strdup_printf(
        "{\"discard\":\"unmap\",\"driver\":\"nbd\",\"node-name\":\"nbd%u-%u\",\"export\":\"%u\","
        "\"server\":{\"type\":\"unix\",\"path\":\"%u\"}}",
        d->index, ++d->pair->generation, d->index, d->index);
    json_t *json = json_loads(text, 0, NULL);
    BlockNode *node = node_co_open_json(json, NULL, errp);

    json_decref(json);
    return node;
}

/* --- sides --- */

static void
fill_at_random(Pair *p, uint8_t *data)
{
    uint8_t seed = choose_in(p->c, 1, 255);

    for (int64_t i = 0; i < p->length; i++) {
        data[i] = seed + i / 512 * 7;
    }
}

static void coroutine_fn
make_plain_side(PairDisk *d, Side *s)
{
    Pair *p = d->pair;
    g_autofree char *name = g_strdup_printf("local%u", d->index);
    GError *err = NULL;
    BlockNode *file;

    s->local = memdisk_new(&(MemdiskOptions){
        .length = p->length,
        .latency_ns = choose_in(p->c, 0, 1) * 100 * NS_PER_US,
        .jitter_ns = choose_in(p->c, 0, 1) * NS_PER_MS,
        .seed = d->index,
    });
    fill_at_random(p, memdisk_data(s->local));
    file = memdisk_open(s->local, name, &(NodeFlags){.unmap = true}, &err);
    g_assert_no_error(err);
    s->quorum = world_co_open("{\"discard\":\"unmap\",\"driver\":\"quorum\",\"node-name\":\"q%u\","
                              "\"read-pattern\":\"fifo\",\"vote-threshold\":1,"
                              "\"children\":[\"%s\"]}",
                              d->index, name);
    node_co_unref(file);
    s->guest = user_co_new(NULL, s->quorum, PERM_CONSISTENT_READ | PERM_WRITE);
    s->history = history_new(name, memdisk_data(s->local), p->length);
}

static void coroutine_fn
side_co_free(Side *s)
{
    if (s->history) {
        history_free(s->history);
    }
    if (s->world) {
        world_co_free(s->world);
    } else if (s->guest) {
        backend_co_free(s->guest);
        node_co_unref(s->quorum);
        memdisk_free(s->local);
    }
    *s = (Side){0};
}

static void coroutine_fn
make_secondary_side(PairDisk *d, Side *s)
{
    Pair *p = d->pair;
    g_autofree char *name = g_strdup_printf("s%u-%u", d->index, ++p->generation % 1000);

    s->world = world_co_new_in("s", name, p->length, choose_in(p->c, 1, 255));
    if (choose(p->c)) {
        memdisk_set_jitter(s->world->disk, choose_in(p->c, 1, 3) * NS_PER_MS);
        memdisk_set_jitter(s->world->hidden, choose_in(p->c, 1, 3) * NS_PER_MS);
        memdisk_set_jitter(s->world->active, choose_in(p->c, 1, 3) * NS_PER_MS);
    }
    s->quorum = s->world->quorum;
    s->guest = s->world->top;
    s->local = s->world->disk;
    s->history = history_new(name, memdisk_data(s->local), p->length);
}

static void
export_side(PairDisk *d)
{
    g_autofree char *name = g_strdup_printf("%u", d->index);
    NbdExport init = {
        .name = name,
        .writable = true,
        .preferred_block = 4096,
        .ops = &nbd_backend_ops,
        .disk = d->b.world->peer,
    };

    d->export = nbd_export_new(d->pair->server, &init);
}

void coroutine_fn
pair_co_make_secondary(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        make_secondary_side(&p->d[i], &p->d[i].b);
        export_side(&p->d[i]);
    }
}

static void coroutine_fn
withdraw_export(PairDisk *d)
{
    if (d->export) {
        nbd_export_co_free(d->export);
        d->export = NULL;
    }
}

void coroutine_fn
pair_co_drop_secondary(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        withdraw_export(&p->d[i]);
        if (p->d[i].b.world) {
            side_co_free(&p->d[i].b);
        }
    }
}

void coroutine_fn
pair_co_promote(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        PairDisk *d = &p->d[i];

        withdraw_export(d);
        side_co_free(&d->a);
        d->a = d->b;
        d->b = (Side){0};
        d->tainted = false;
    }
    p->failed_over = false;
}

/* --- the primary's second child --- */

static bool coroutine_fn
connect_disk(PairDisk *d)
{
    BlockNode *link = pair_co_open_link(d, NULL);
    GError *err = NULL;
    BlockNode *repl;

    if (!link) {
        return false;
    }
    repl = world_co_open("{\"discard\":\"unmap\",\"driver\":\"replication\","
                         "\"mode\":\"primary\",\"group\":\"p\","
                         "\"node-name\":\"prepl%u\",\"file\":\"%s\"}",
                         d->index, link->node_name);
    d->a.quorum->drv->co_add_child(d->a.quorum, repl, &err);
    g_assert_no_error(err);
    node_co_unref(repl);
    node_co_unref(link);
    return true;
}

bool coroutine_fn
pair_co_connect(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        if (!connect_disk(&p->d[i])) {
            pair_co_disconnect(p);
            return false;
        }
    }
    return true;
}

void coroutine_fn
pair_co_disconnect(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        BlockNode *quorum = p->d[i].a.quorum;
        BlockChild *child = node_child(quorum, "children.1");
        GError *err = NULL;

        if (child) {
            quorum->drv->co_del_child(quorum, child, &err);
            g_assert_no_error(err);
        }
    }
}

/* --- the whole --- */

Pair *coroutine_fn
pair_co_new(Choices *c)
{
    Pair *p = g_new0(Pair, 1);

    p->c = c;
    p->n = choose_in(c, 1, PAIR_DISKS_MAX);
    p->length = choose_in(c, 1, 4) * 64 * KiB - (choose(c) ? 512 : 0);
    p->server = nbd_server_new(&(NbdServerBounds){.max_requests = choose_in(c, 2, 16)});
    nbd_client_set_dialer(dial, p);
    for (unsigned i = 0; i < p->n; i++) {
        p->d[i].pair = p;
        p->d[i].index = i;
        make_plain_side(&p->d[i], &p->d[i].a);
    }
    pair_co_make_secondary(p);
    for (unsigned i = 0; i < p->n; i++) {
        memcpy(memdisk_data(p->d[i].b.local), memdisk_data(p->d[i].a.local), p->length);
    }
    return p;
}

void coroutine_fn
pair_co_free(Pair *p)
{
    pair_co_disconnect(p);
    pair_co_drop_secondary(p);
    for (unsigned i = 0; i < p->n; i++) {
        side_co_free(&p->d[i].a);
    }
    while (p->serving > 0) {
        co_queue_wait(&p->idle);
    }
    nbd_server_co_stop(p->server);
    nbd_server_free(p->server);
    nbd_client_set_dialer(NULL, NULL);
    g_free(p);
}

static void
heal_side(const Side *s)
{
    if (s->local) {
        memdisk_heal(s->local);
    }
    if (s->world) {
        memdisk_heal(s->world->active);
        memdisk_heal(s->world->hidden);
    }
}

void
pair_heal(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        heal_side(&p->d[i].a);
        heal_side(&p->d[i].b);
    }
}

Memdisk *
pair_any_disk(Pair *p)
{
    PairDisk *d = &p->d[choose_in(p->c, 0, p->n - 1)];
    ReplWorld *w = d->b.world;
    Memdisk *all[] = {d->a.local, w ? w->disk : NULL, w ? w->hidden : NULL, w ? w->active : NULL};

    return all[choose_in(p->c, 0, w ? 3 : 0)];
}

ReplicationInfo *
pair_info(const Side *s, ReplicationMode mode)
{
    g_autofree char *name = g_strdup(s->world && mode == REPLICATION_MODE_SECONDARY
                                         ? s->world->repl->node_name
                                         : node_child(s->quorum, "children.1")->node->node_name);
    ReplicationInfoArray *a = replication_query();
    ReplicationInfo *found = NULL;

    for (size_t i = 0; i < a->n; i++) {
        if (g_str_equal(a->items[i]->node_name, name)) {
            found = a->items[i];
            a->items[i] = a->items[a->n - 1];
            a->n--;
            break;
        }
    }
    replication_info_array_free(a);
    g_assert_nonnull(found);
    return found;
}

uint8_t *coroutine_fn
pair_co_read(const Pair *p, const Side *s)
{
    uint8_t *buf = g_malloc(p->length);

    g_assert_cmpint(backend_co_pread(s->guest, 0, buf, p->length), ==, 0);
    return buf;
}
