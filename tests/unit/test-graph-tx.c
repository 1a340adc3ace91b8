/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions: all or nothing, filters, reopen, drain. */
#include "block/blockdev.h"
#include "graph-drivers.h"
#include "user.h"

static const PermPair writer = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};

/* drive "d" over format "fmt" over file "a"; file "b" stands alone. */
typedef struct World {
    Disk *a, *b;
    BlockNode *file_a, *file_b, *fmt;
    BlockBackend *be;
} World;

static World coroutine_fn world_begin(void)
{
    World w;

    graph_world_begin();
    w.a = disk_new("/a", "");
    w.b = disk_new("/b", "");
    w.file_a = must_open("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\"}");
    w.file_b = must_open("{\"driver\":\"file\",\"node-name\":\"b\",\"filename\":\"/b\"}");
    w.fmt = must_open("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"a\"}");
    w.be = user_co_new("d", w.fmt, writer.taken);
    return w;
}

static void coroutine_fn world_end(World *w)
{
    backend_co_free(w->be);
    node_co_unref(w->fmt);
    node_co_unref(w->file_a);
    node_co_unref(w->file_b);
    graph_world_end();
}

static BlockNode *coroutine_fn new_filter(const char *name, BlockNode *below)
{
    GError *err = NULL;
    BlockNode *f = node_new_internal(&driver_test_filter, name, NULL, &err);
    GraphTx *tx = graph_tx_new();

    g_assert_no_error(err);
    graph_tx_attach(tx, f, "file", below, CHILD_FILTERED);
    g_assert_true(graph_tx_co_commit(tx, &err));
    return f;
}

/* --- filters --- */

static void coroutine_fn test_filter(void)
{
    World w = world_begin();
    g_autofree char *before = graph_dump(), *after = NULL;
    GError *err = NULL;
    BlockNode *f = new_filter("f", w.fmt);
    char byte = 'x';

    g_assert_true(graph_co_insert_filter(f, w.fmt, &err));
    g_assert_true(backend_node(w.be) == f && f->file->node == w.fmt);
    g_assert_cmpint(node_length(f), ==, DISK_BYTES);
    g_assert_cmpuint(f->file->perm.taken, ==, writer.taken);
    g_assert_true(node_skip_filters(f) == w.fmt);
    g_assert_cmpint(backend_co_pwrite(w.be, 0, &byte, 1, 0), ==, 0);
    g_assert_cmpint(w.a->data[0], ==, 'x');

    g_assert_true(graph_co_remove_filter(f, &err));
    g_assert_null(f->file);
    node_co_unref(f);
    after = graph_dump();
    g_assert_cmpstr(before, ==, after);
    world_end(&w);
}
VTEST("/tx/filter/insert-and-remove", test_filter)

static void coroutine_fn test_filter_with_two_edges(void)
{
    World w = world_begin();
    GError *err = NULL;
    BlockNode *f = NULL;
    GraphTx *tx = graph_tx_new();

    /* Attach and replace in one transaction: nobody sees half of it. */
    f = node_new_internal(&driver_test_filter, "f", NULL, &err);
    graph_tx_attach(tx, f, "file", w.file_a, CHILD_FILTERED);
    graph_tx_replace_node(tx, w.file_a, f, (BlockChild *[]){w.fmt->file, NULL});
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_true(w.fmt->file->node == w.file_a); /* kept */

    tx = graph_tx_new();
    graph_tx_replace_node(tx, w.file_a, f, NULL);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_true(w.fmt->file->node == f && f->file->node == w.file_a);
    g_assert_true(graph_co_remove_filter(f, &err));
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/filter/kept-edges", test_filter_with_two_edges)

/* --- cycles --- */

static void coroutine_fn test_cycle(void)
{
    World w = world_begin();
    g_autofree char *before = NULL, *after = NULL;
    GError *err = NULL;
    BlockNode *f = new_filter("f", w.fmt), *g = new_filter("g", f);
    GraphTx *tx = graph_tx_new();

    before = graph_dump();
    graph_tx_set_child(tx, f->file, g);
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "would create a cycle");
    tx = graph_tx_new();
    graph_tx_attach(tx, w.fmt, "backing", g, CHILD_COW);
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "would create a cycle");
    after = graph_dump();
    g_assert_cmpstr(before, ==, after);
    node_co_unref(g);
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/cycles-are-refused", test_cycle)

static void coroutine_fn test_child_twice(void)
{
    World w = world_begin();
    GError *err = NULL;
    GraphTx *tx = graph_tx_new();

    graph_tx_attach(tx, w.fmt, "file", w.file_b, CHILD_IMAGE);
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "has a child 'file' already");
    world_end(&w);
}
VTEST("/tx/second-file-is-refused", test_child_twice)

static void coroutine_fn test_stale_edge(void)
{
    World w = world_begin();
    GError *err = NULL;
    GraphTx *tx = graph_tx_new(), *first = graph_tx_new();
    BlockNode *f = new_filter("f", w.file_b);

    graph_tx_detach(tx, f->file);
    graph_tx_detach(first, f->file);
    g_assert_true(graph_tx_co_commit(first, &err));
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "The graph has changed meanwhile");
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/edge-that-is-gone", test_stale_edge)

/* The new edge may stand where the old one stood in memory. */
static void coroutine_fn test_edge_made_again(void)
{
    World w = world_begin();
    GError *err = NULL;
    GraphTx *tx = graph_tx_new(), *other = graph_tx_new();
    BlockNode *f = new_filter("f", w.file_b);

    graph_tx_detach(tx, f->file);
    graph_tx_detach(other, f->file);
    g_assert_true(graph_tx_co_commit(other, &err));
    other = graph_tx_new();
    graph_tx_attach(other, f, "file", w.file_b, CHILD_FILTERED | CHILD_PRIMARY);
    g_assert_true(graph_tx_co_commit(other, &err));
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "The graph has changed meanwhile");
    g_assert_nonnull(f->file);
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/edge-made-again-is-another", test_edge_made_again)

/* Its user may let a node go while the transaction waits for another one. */
static void coroutine_fn test_node_let_go(void)
{
    World w = world_begin();
    GError *err = NULL;
    GraphTx *tx = graph_tx_new(), *dropped = graph_tx_new();
    BlockNode *f = new_filter("f", w.file_b);

    graph_tx_drain(tx, f);
    graph_tx_drain(dropped, f);
    node_co_unref(f);
    graph_tx_co_drop(dropped);
    g_assert_true(node_find("f") == f);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_null(node_find("f"));
    world_end(&w);
}
VTEST("/tx/node-of-a-step-is-kept", test_node_let_go)

/* --- fences --- */

static BlockBackend *coroutine_fn new_user(BlockNode *node)
{
    BlockBackend *be = backend_new(NULL, (PermPair){0, PERM_ALL}, NULL, NULL, NULL);

    g_assert_true(backend_co_insert(be, node, NULL));
    return be;
}

static void coroutine_fn test_fence(void)
{
    World w = world_begin();
    GError *err = NULL;
    GraphTx *tx = graph_tx_new();
    BlockNode *f = new_filter("f", w.file_b), *pass = new_filter("pass", w.file_b);
    BlockNode *moves = new_filter("moves", w.file_a);
    BlockBackend *above = new_user(f), *passes = new_user(pass), *elsewhere = new_user(moves);
    BlockBackend *late, *late_passes;

    node_fence(w.file_b, EPERM, pass, NULL);
    late = new_user(w.file_b);
    late_passes = new_user(pass);
    g_assert_cmpint(backend_fence_err(above), ==, EPERM);
    g_assert_cmpint(backend_fence_err(late), ==, EPERM);
    g_assert_cmpint(backend_fence_err(passes), ==, 0);
    g_assert_cmpint(backend_fence_err(late_passes), ==, 0);
    g_assert_cmpint(backend_fence_err(elsewhere), ==, 0);

    /* An edge moves, and brings a user with it. */
    graph_tx_set_child(tx, moves->file, w.file_b);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_cmpint(backend_fence_err(elsewhere), ==, EPERM);

    backend_co_free(late);
    node_fence(w.file_b, 0, NULL, NULL);
    late = new_user(w.file_b);
    g_assert_cmpint(backend_fence_err(late), ==, 0);
    g_assert_cmpint(backend_fence_err(above), ==, EPERM); /* for good */
    backend_co_free(late);
    backend_co_free(above);
    backend_co_free(passes);
    backend_co_free(late_passes);
    backend_co_free(elsewhere);
    node_co_unref(f);
    node_co_unref(pass);
    node_co_unref(moves);
    world_end(&w);
}
VTEST("/tx/fence-meets-newcomers", test_fence)

/* --- all or nothing --- */

static void count_call(void *opaque)
{
    ++*(int *)opaque;
}

static GraphTx *coroutine_fn big_change(World *w, BlockNode *f, int *calls)
{
    GraphTx *tx = graph_tx_new();
    NodeFlags ro = w->file_b->flags;

    ro.cache_no_flush = true;
    graph_tx_attach(tx, f, "file", w->fmt, CHILD_FILTERED);
    graph_tx_replace_node(tx, w->fmt, f, NULL);
    graph_tx_set_child(tx, w->fmt->file, w->file_b);
    graph_tx_set_flags(tx, w->file_a, &ro);
    graph_tx_on_commit(tx, count_call, calls);
    return tx;
}

static void coroutine_fn test_each_failure(void)
{
    World w = world_begin();
    GError *err = NULL;
    BlockNode *f = node_new_internal(&driver_test_filter, "f", NULL, &err);
    g_autofree char *before = graph_dump();
    int calls = 0;

    for_each_failure(i)
    {
        bool ok = graph_tx_co_commit(big_change(&w, f, &calls), &err);

        g_assert_true(ok != fault_fired());
        if (!ok) {
            g_autofree char *after = graph_dump();

            g_assert_cmpstr(before, ==, after);
            g_assert_cmpint(calls, ==, 0);
        }
        g_clear_error(&err);
    }
    g_assert_cmpint(calls, ==, 1);
    g_assert_true(backend_node(w.be) == f && w.fmt->file->node == w.file_b);
    g_assert_cmpuint(w.a->perm.taken, ==, 0);
    g_assert_true(w.file_a->flags.cache_no_flush);
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/each-failure-leaves-the-graph", test_each_failure)

static void coroutine_fn test_lock_denied(void)
{
    World w = world_begin();
    g_autofree char *before = graph_dump(), *after = NULL;
    GError *err = NULL;
    GraphTx *tx = graph_tx_new();

    w.b->lock_denied = true;
    graph_tx_set_child(tx, w.fmt->file, w.file_b);
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "Failed to get \"write\" lock");
    after = graph_dump();
    g_assert_cmpstr(before, ==, after);
    w.b->lock_denied = false;
    world_end(&w);
}
VTEST("/tx/denied-lock-leaves-the-graph", test_lock_denied)

static void coroutine_fn test_taken_lock_is_given_back(void)
{
    World w = world_begin();
    GError *err = NULL;
    Disk *c = disk_new("/c", "");
    BlockNode *file_c = must_open("{\"driver\":\"file\",\"node-name\":\"c\","
                                  "\"filename\":\"/c\"}");
    GraphTx *tx = graph_tx_new();

    /* b is locked first, then c refuses. */
    c->lock_denied = true;
    graph_tx_set_child(tx, w.fmt->file, w.file_b);
    graph_tx_attach(tx, w.fmt, "backing", file_c, CHILD_COW);
    assert_fails(!graph_tx_co_commit(tx, &err), &err, "Failed to get \"write\" lock");
    g_assert_cmpint(w.b->aborts, ==, 1);
    node_co_unref(file_c);
    world_end(&w);
}
VTEST("/tx/lock-is-given-back", test_taken_lock_is_given_back)

/* --- reopen --- */

static bool coroutine_fn reopen(const char *json, GError **errp)
{
    g_autoptr(BlockdevOptions) o = options_of(json);

    return blockdev_co_reopen(&o, 1, errp);
}

static void coroutine_fn test_reopen_flags(void)
{
    World w = world_begin();
    GError *err = NULL;

    assert_fails(!reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"a\","
                         "\"read-only\":true}",
                         &err),
                 &err, "Block node is read-only");
    g_assert_true(backend_co_set_perm(w.be, (PermPair){PERM_CONSISTENT_READ, PERM_ALL}, &err));
    g_assert_true(reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"a\","
                         "\"read-only\":true}",
                         &err));
    g_assert_cmpuint(w.a->perm.taken, ==, PERM_CONSISTENT_READ);
    /* What is left out returns to its default. */
    g_assert_true(reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"a\"}", &err));
    g_assert_false(node_is_read_only(w.fmt));
    world_end(&w);
}
VTEST("/reopen/flags", test_reopen_flags)

static void coroutine_fn test_reopen_inherited(void)
{
    GError *err = NULL;
    BlockNode *node;
    Disk *d;
    const char *rw = "{\"driver\":\"raw\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\","
                     "\"filename\":\"/a\"}}";

    graph_world_begin();
    d = disk_new("/a", "");
    node = must_open("{\"driver\":\"raw\",\"node-name\":\"n\",\"read-only\":true,"
                     "\"file\":{\"driver\":\"file\",\"filename\":\"/a\"}}");
    g_assert_true(node_is_read_only(node->file->node));
    d->write_denied = true;
    assert_fails(!reopen(rw, &err), &err, "Permission denied");
    g_assert_true(node_is_read_only(node) && node_is_read_only(node->file->node));
    d->write_denied = false;
    g_assert_true(reopen(rw, &err));
    g_assert_false(node_is_read_only(node) || node_is_read_only(node->file->node));
    node_co_unref(node);
    graph_world_end();
}
VTEST("/reopen/inline-children-follow", test_reopen_inherited)

static void coroutine_fn test_reopen_file(void)
{
    World w = world_begin();
    GError *err = NULL;

    g_assert_true(reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"b\"}", &err));
    g_assert_true(w.fmt->file->node == w.file_b);
    g_assert_cmpstr(w.fmt->filename, ==, "/b");
    assert_fails(!reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"none\"}", &err),
                 &err, "Cannot find device='none'");
    assert_fails(!reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":{\"driver\":\"file\","
                         "\"filename\":\"/a\"}}",
                         &err),
                 &err, "Cannot change the option 'file'");
    assert_fails(!reopen("{\"driver\":\"file\",\"node-name\":\"fmt\",\"filename\":\"/a\"}", &err),
                 &err, "Cannot change the option 'driver'");
    assert_fails(!reopen("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/b\"}", &err),
                 &err, "Cannot change the option 'filename' of node 'a'");
    assert_fails(!reopen("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"offset\":512,"
                         "\"file\":\"b\"}",
                         &err),
                 &err, "Cannot change the option 'offset'");
    world_end(&w);
}
VTEST("/reopen/file", test_reopen_file)

static void coroutine_fn test_reopen_all_or_none(void)
{
    World w = world_begin();
    g_autofree char *before = graph_dump();
    GError *err = NULL;
    BlockdevOptions *list[2];

    list[0] = options_of("{\"driver\":\"file\",\"node-name\":\"b\",\"filename\":\"/b\","
                         "\"read-only\":true}");
    list[1] = options_of("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/other\"}");
    g_assert_false(blockdev_co_reopen(list, 2, &err));
    g_clear_error(&err);
    {
        g_autofree char *after = graph_dump();

        g_assert_cmpstr(before, ==, after);
    }
    blockdev_options_free(list[0]);
    blockdev_options_free(list[1]);
    world_end(&w);
}
VTEST("/reopen/all-or-none", test_reopen_all_or_none)

/* --- drain --- */

typedef struct Hints {
    int begun, ended, root_changed;
} Hints;

static void hint_begin(void *opaque)
{
    ((Hints *)opaque)->begun++;
}

static void hint_end(void *opaque)
{
    ((Hints *)opaque)->ended++;
}

static void hint_root(void *opaque)
{
    ((Hints *)opaque)->root_changed++;
}

static const BackendOps hint_ops = {
    .drained_begin = hint_begin,
    .drained_end = hint_end,
    .root_changed = hint_root,
};

typedef struct Request {
    BlockBackend *be;
    int64_t done_ns;
    bool done;
} Request;

static void coroutine_fn write_byte(void *opaque)
{
    Request *r = opaque;
    char byte = 'w';

    g_assert_cmpint(backend_co_pwrite(r->be, 0, &byte, 1, 0), ==, 0);
    r->done_ns = loop_now_ns();
    r->done = true;
}

static void coroutine_fn test_drain_waits_and_holds(void)
{
    World w = world_begin();
    Request first = {.be = w.be}, second = {.be = w.be};
    int64_t start = loop_now_ns();

    w.a->delay_ns = NS_PER_MS;
    co_spawn(write_byte, &first);
    co_reschedule();
    g_assert_cmpuint(backend_in_flight(w.be), ==, 1);
    drain_co_begin(w.file_a); /* closes the gate of what is above */
    g_assert_true(first.done);
    drain_co_begin(w.fmt);
    co_spawn(write_byte, &second);
    co_sleep_ns(10 * NS_PER_MS);
    drain_end(w.file_a);
    co_sleep_ns(10 * NS_PER_MS);
    g_assert_false(second.done); /* nested: still drained */
    drain_end(w.fmt);
    co_sleep_ns(10 * NS_PER_MS);
    g_assert_true(second.done);
    g_assert_cmpint(second.done_ns - start, >=, 21 * NS_PER_MS);
    world_end(&w);
}
VTEST_ANY_ORDER("/drain/waits-and-holds", test_drain_waits_and_holds)

static void coroutine_fn test_drain_of_child_elsewhere(void)
{
    World w = world_begin();
    Request r = {.be = w.be};

    drain_co_begin(w.file_b); /* not below our backend */
    co_spawn(write_byte, &r);
    co_reschedule();
    co_reschedule();
    g_assert_true(r.done);
    drain_end(w.file_b);
    world_end(&w);
}
VTEST("/drain/others-go-on", test_drain_of_child_elsewhere)

static void coroutine_fn test_drain_backends_come_and_go(void)
{
    World w = world_begin();
    GError *err = NULL;
    Hints hints = {0};
    BlockBackend *be = backend_new(NULL, writer, &hint_ops, &hints, &err);
    Request r = {.be = be};

    drain_co_begin(w.fmt);
    g_assert_true(backend_co_insert(be, w.fmt, &err));
    g_assert_cmpint(hints.begun, ==, 1); /* closed on arrival */
    co_spawn(write_byte, &r);
    co_reschedule();
    g_assert_false(r.done);
    backend_co_remove(be);
    g_assert_cmpint(hints.ended, ==, 1); /* open without a node */
    g_assert_true(backend_co_insert(be, w.fmt, &err));
    g_assert_cmpint(hints.begun, ==, 2);
    drain_end(w.fmt);
    g_assert_cmpint(hints.ended, ==, 2);
    while (!r.done) {
        co_reschedule();
    }
    backend_co_free(be);
    world_end(&w);
}
VTEST("/drain/backends-come-and-go", test_drain_backends_come_and_go)

static void coroutine_fn test_drain_all(void)
{
    World w = world_begin();
    GError *err = NULL;
    Request r = {.be = w.be};
    BlockBackend *late;

    w.a->delay_ns = NS_PER_MS;
    co_spawn(write_byte, &r);
    co_reschedule();
    drain_co_all_begin();
    g_assert_true(r.done);
    late = backend_new(NULL, writer, NULL, NULL, &err);
    g_assert_false(backend_try_enter(late, &(BackendReq){0}));
    drain_co_all_begin();
    drain_all_end();
    g_assert_false(backend_try_enter(w.be, &(BackendReq){0}));
    drain_all_end();
    backend_co_free(late);
    world_end(&w);
}
VTEST("/drain/all", test_drain_all)

static void coroutine_fn test_commit_waits_for_requests(void)
{
    World w = world_begin();
    GError *err = NULL;
    Request r = {.be = w.be};
    GraphTx *tx = graph_tx_new();

    w.a->delay_ns = 5 * NS_PER_MS;
    co_spawn(write_byte, &r);
    co_reschedule();
    graph_tx_set_child(tx, w.fmt->file, w.file_b);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_true(r.done);
    g_assert_cmpint(w.a->data[0], ==, 'w');
    w.a->delay_ns = 0;
    world_end(&w);
}
VTEST_ANY_ORDER("/tx/commit-waits-for-requests", test_commit_waits_for_requests)

static void coroutine_fn test_root_changed(void)
{
    World w = world_begin();
    GError *err = NULL;
    Hints hints = {0};
    BlockBackend *be = backend_new(NULL, (PermPair){0, PERM_ALL}, &hint_ops, &hints, &err);
    BlockNode *f;

    g_assert_true(backend_co_insert(be, w.fmt, &err));
    f = new_filter("f", w.fmt);
    g_assert_cmpint(hints.root_changed, ==, 0);
    g_assert_true(graph_co_insert_filter(f, w.fmt, &err));
    g_assert_cmpint(hints.root_changed, ==, 1);
    g_assert_cmpint(hints.begun, ==, hints.ended);
    g_assert_true(graph_co_remove_filter(f, &err));
    backend_co_free(be);
    node_co_unref(f);
    world_end(&w);
}
VTEST("/tx/root-changed-is-told", test_root_changed)

/* --- limits and tracking --- */

static void coroutine_fn test_limits_rise(void)
{
    World w = world_begin();
    GError *err = NULL;
    BlockNode *leaf = node_new_internal(&driver_test_leaf, "leaf", NULL, &err);
    GraphTx *tx = graph_tx_new();

    leaf->length = DISK_BYTES;
    g_assert_cmpuint(w.fmt->limits.request_alignment, ==, 1);
    graph_tx_set_child(tx, w.fmt->file, leaf);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_cmpuint(w.fmt->limits.request_alignment, ==, 512);
    tx = graph_tx_new();
    graph_tx_set_child(tx, w.fmt->file, w.file_a);
    g_assert_true(graph_tx_co_commit(tx, &err));
    g_assert_cmpuint(w.fmt->limits.request_alignment, ==, 1);
    node_co_unref(leaf);
    world_end(&w);
}
VTEST("/tx/limits-follow-the-children", test_limits_rise)

static void coroutine_fn test_tracking_counts(void)
{
    World w = world_begin();

    g_assert_false(w.fmt->track_requests);
    node_track_requests(w.fmt, true);
    node_track_requests(w.fmt, true);
    node_track_requests(w.fmt, false);
    g_assert_true(w.fmt->track_requests);
    node_track_requests(w.fmt, false);
    g_assert_false(w.fmt->track_requests);
    world_end(&w);
}
VTEST("/tx/tracking-counts", test_tracking_counts)
