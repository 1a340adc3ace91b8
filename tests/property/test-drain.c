/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * However requests, drains and graph changes interleave: nothing is in flight
 * on a drained node, every drain and every change ends, every request that was
 * let in ends well, and in the end the graph takes itself apart.
 */
#include "../unit/graph-drivers.h"
#include "user.h"

#define FILES    3
#define FORMATS  2
#define BACKENDS 3
#define CHANGERS 2

typedef struct World {
    Choices *c;
    Disk *disk[FILES];
    BlockNode *file[FILES], *fmt[FORMATS];
    BlockBackend *be[BACKENDS];
    CoMutex backend_lock[BACKENDS]; /* insert, remove and perm of one backend, one at a time */
    CoMutex fmt_lock[FORMATS];      /* likewise for the file of a format */
    int running;                    /* coroutines besides the main one */
    uint64_t requests, changes, refused;
} World;

static void coroutine_fn nap(World *w)
{
    co_sleep_ns((int64_t)choose_in(w->c, 0, 5) * NS_PER_MS);
}

/* --- users --- */

typedef struct User {
    World *w;
    int i;
} User;

static void coroutine_fn use_backend(void *opaque)
{
    User *u = opaque;
    World *w = u->w;
    char byte = 'u';

    while (choose_more(w->c, 10)) {
        int r = choose(w->c) ? backend_co_pwrite(w->be[u->i], 5, &byte, 1, 0)
                             : backend_co_pread(w->be[u->i], 5, &byte, 1);

        g_assert_true(r == 0 || r == -ENOMEDIUM || r == -EPERM);
        w->requests++;
        nap(w);
    }
    w->running--;
    g_free(u);
}

/* --- changers --- */

static void assert_quiet(const BlockNode *node)
{
    g_assert_cmpuint(node->in_flight, ==, 0);
}

static void coroutine_fn drain_one(World *w)
{
    BlockNode *node = choose(w->c) ? w->file[choose_in(w->c, 0, FILES - 1)]
                                   : w->fmt[choose_in(w->c, 0, FORMATS - 1)];

    drain_co_begin(node);
    assert_quiet(node);
    nap(w);
    assert_quiet(node);
    drain_end(node);
}

static void coroutine_fn drain_everything(World *w)
{
    drain_co_all_begin();
    nap(w);
    for (BlockNode *n = node_first(); n; n = node_next(n)) {
        assert_quiet(n);
    }
    for (int i = 0; i < BACKENDS; i++) {
        g_assert_cmpuint(backend_in_flight(w->be[i]), ==, 0);
    }
    drain_all_end();
}

static void count(World *w, bool ok)
{
    w->changes++;
    w->refused += ok ? 0 : 1;
}

static void coroutine_fn change_file(World *w)
{
    int i = (int)choose_in(w->c, 0, FORMATS - 1);
    GraphTx *tx;

    CO_LOCK_GUARD(&w->fmt_lock[i]);
    tx = graph_tx_new();
    graph_tx_set_child(tx, w->fmt[i]->file, w->file[choose_in(w->c, 0, FILES - 1)]);
    count(w, graph_tx_co_commit(tx, NULL));
}

static void coroutine_fn filter_for_a_while(World *w)
{
    BlockNode *node = w->fmt[choose_in(w->c, 0, FORMATS - 1)];
    BlockNode *f = node_new_internal(&driver_test_filter, NULL, NULL, NULL);
    GraphTx *tx = graph_tx_new();
    bool ok;

    graph_tx_attach(tx, f, "file", node, CHILD_FILTERED);
    graph_tx_replace_node(tx, node, f, NULL);
    ok = graph_tx_co_commit(tx, NULL);
    count(w, ok);
    nap(w);
    if (ok) {
        g_assert_true(graph_co_remove_filter(f, NULL));
    }
    node_co_unref(f);
}

static void coroutine_fn change_backend(World *w)
{
    int i = (int)choose_in(w->c, 0, BACKENDS - 1);
    BlockBackend *be = w->be[i];

    CO_LOCK_GUARD(&w->backend_lock[i]);
    if (!backend_node(be)) {
        count(w, backend_co_insert(be, w->fmt[choose_in(w->c, 0, FORMATS - 1)], NULL));
    } else if (choose(w->c)) {
        backend_co_remove(be);
        g_assert_cmpuint(backend_in_flight(be), ==, 0);
    } else {
        PermPair p = {PERM_CONSISTENT_READ | (choose(w->c) ? PERM_WRITE : 0), PERM_ALL};

        count(w, backend_co_set_perm(be, p, NULL));
    }
}

static void coroutine_fn deny_locks_for_a_while(World *w)
{
    Disk *d = w->disk[choose_in(w->c, 0, FILES - 1)];

    d->lock_denied = true;
    nap(w);
    d->lock_denied = false;
}

static void coroutine_fn change_graph(void *opaque)
{
    World *w = opaque;

    while (choose_more(w->c, 10)) {
        switch (choose_in(w->c, 0, 5)) {
        case 0:
            drain_one(w);
            break;
        case 1:
            drain_everything(w);
            break;
        case 2:
            change_file(w);
            break;
        case 3:
            filter_for_a_while(w);
            break;
        case 4:
            change_backend(w);
            break;
        case 5:
            deny_locks_for_a_while(w);
            break;
        }
        nap(w);
    }
    w->running--;
}

/* --- the world --- */

static BlockNode *coroutine_fn make_format(int i)
{
    g_autofree char *json =
        g_strdup_printf("{\"driver\":\"raw\",\"node-name\":\"fmt%d\",\"file\":\"f%d\"}", i, i);

    return must_open(json);
}

static void coroutine_fn begin(World *w)
{

    graph_world_begin();
    for (int i = 0; i < FILES; i++) {
        g_autofree char *name = g_strdup_printf("/f%d", i);
        g_autofree char *json = g_strdup_printf(
            "{\"driver\":\"file\",\"node-name\":\"f%d\",\"filename\":\"/f%d\"}", i, i);

        w->disk[i] = disk_new(name, "");
        w->disk[i]->delay_ns = (int64_t)choose_in(w->c, 0, 3) * NS_PER_MS;
        w->file[i] = must_open(json);
    }
    for (int i = 0; i < FORMATS; i++) {
        w->fmt[i] = make_format(i);
    }
    for (int i = 0; i < BACKENDS; i++) {
        w->be[i] = user_co_new(NULL, w->fmt[i % FORMATS], PERM_CONSISTENT_READ | PERM_WRITE);
    }
}

static void coroutine_fn end(World *w)
{
    for (int i = 0; i < BACKENDS; i++) {
        backend_co_free(w->be[i]);
    }
    for (int i = 0; i < FORMATS; i++) {
        node_co_unref(w->fmt[i]);
    }
    for (int i = 0; i < FILES; i++) {
        node_co_unref(w->file[i]);
    }
    graph_world_end();
}

static void coroutine_fn run(void *opaque)
{
    World *w = opaque;

    begin(w);
    w->running = 2 * BACKENDS + CHANGERS;
    for (int i = 0; i < 2 * BACKENDS; i++) {
        User *u = g_new(User, 1);

        *u = (User){w, i % BACKENDS};
        co_spawn(use_backend, u);
    }
    for (int i = 0; i < CHANGERS; i++) {
        co_spawn(change_graph, w);
    }
    while (w->running > 0) {
        co_sleep_ns(NS_PER_MS); /* a coroutine that waits for ever keeps us here: the trial hangs */
        g_assert_cmpint(loop_now_ns(), <, 3600 * NS_PER_S);
    }
    end(w);
}

static void prop_drain(Choices *c)
{
    World w = {.c = c};

    vtest_run(run, &w, choose_in(c, 0, 1000));
}
PROPERTY("/drain/any-interleaving", prop_drain)
