/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes, names, opening, backends, op blockers. */
#include "graph-drivers.h"

static const PermPair reader = {PERM_CONSISTENT_READ, PERM_ALL};
static const PermPair writer = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};

#define FILE_A "{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\"}"
#define FMT_A                                                                                      \
    "{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":{\"driver\":\"file\","                     \
    "\"filename\":\"/a\"}}"

/* --- opening --- */

static void coroutine_fn test_open_inline(void)
{
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "");
    node = must_open(FMT_A);

    g_assert_true(node_find("fmt") == node);
    g_assert_cmpstr(node->file->node->filename, ==, "/a");
    g_assert_cmpstr(node->filename, ==, "/a");
    g_assert_true(g_str_has_prefix(node->file->node->node_name, "#block"));
    g_assert_cmpint(node_length(node), ==, DISK_BYTES);
    /* A writable format writes its metadata and keeps others from writing. */
    g_assert_cmpuint(node->file->perm.taken, ==, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);
    g_assert_cmpuint(node->file->perm.shared, ==, PERM_ALL & ~(PERM_WRITE | PERM_RESIZE));
    node_co_unref(node);
    graph_world_end();
}
VTEST("/graph/open/inline-child", test_open_inline)

static void coroutine_fn test_open_by_reference(void)
{
    BlockNode *file, *node;

    graph_world_begin();
    disk_new("/a", "");
    file = must_open(FILE_A);
    node = must_open("{\"driver\":\"raw\",\"node-name\":\"fmt\",\"file\":\"a\"}");
    g_assert_true(node->file->node == file);
    node_co_unref(file);
    g_assert_true(node_find("a") == file); /* the edge holds it */
    node_co_unref(node);
    graph_world_end();
}
VTEST("/graph/open/reference", test_open_by_reference)

static void coroutine_fn test_open_errors(void)
{
    GError *err = NULL;
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "BROKEN");
    assert_fails(!open_json("{\"driver\":\"raw\",\"file\":\"none\"}", &err), &err,
                 "Cannot find device='none' nor node-name='none'");
    assert_fails(!open_json("{\"driver\":\"file\",\"filename\":\"/none\"}", &err), &err,
                 "Could not open '/none': No such file or directory");
    assert_fails(!open_json(FMT_A, &err), &err,
                 "Image is not in the right format");
    assert_fails(!open_json("{\"driver\":\"null-co\"}", &err), &err, "Unknown driver 'null-co'");
    node = open_json("{\"driver\":\"file\",\"filename\":\"/a\",\"force-share\":true}", &err);
    assert_fails(!node, &err, "force-share=on can only be used with read-only images");
    graph_world_end();
}
VTEST("/graph/open/errors", test_open_errors)

static void coroutine_fn test_open_each_failure(void)
{
    graph_world_begin();
    disk_new("/top", "BACKING:mid\n");
    disk_new("/mid", "BACKING:/base\n");
    disk_new("/base", "");
    for_each_failure(i)
    {
        GError *err = NULL;
        BlockNode *node = node_co_open_filename("/top", NULL, NULL, &err);

        g_assert_true(!node == fault_fired());
        g_assert_true(!err == !!node);
        g_clear_error(&err);
        node_co_unref(node);
        graph_world_end();
    }
}
VTEST("/graph/open/each-failure-leaves-nothing", test_open_each_failure)

static void coroutine_fn test_auto_read_only(void)
{
    NodeFlags flags = {.auto_read_only = true};
    GError *err = NULL;
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "")->write_denied = true;
    node = node_co_open_filename("/a", "raw", &flags, &err);
    g_assert_no_error(err);
    g_assert_true(node_is_read_only(node) && node_is_read_only(node->file->node));
    node_co_unref(node);
    assert_fails(!node_co_open_filename("/a", "raw", NULL, &err), &err, "Permission denied");
    graph_world_end();
}
VTEST("/graph/open/auto-read-only", test_auto_read_only)

/* --- names --- */

static void coroutine_fn assert_bad_name(const char *name, const char *words)
{
    GError *err = NULL;

    assert_fails(!node_new_internal(&driver_test_leaf, name, NULL, &err), &err, words);
}

static void coroutine_fn test_names(void)
{
    GError *err = NULL;
    BlockNode *node, *generated;
    BlockBackend *be;

    graph_world_begin();
    node = node_new_internal(&driver_test_leaf, "a-._9", NULL, &err);
    g_assert_no_error(err);
    be = backend_new("drive0", reader, NULL, NULL, &err);
    g_assert_no_error(err);
    generated = node_new_internal(&driver_test_leaf, NULL, NULL, &err);

    assert_bad_name("9a", "Invalid node-name: '9a'");
    assert_bad_name("", "Invalid node-name: ''");
    assert_bad_name("a#b", "Invalid node-name");
    assert_bad_name("a2345678901234567890123456789012", "Node name too long");
    assert_bad_name("a-._9", "Duplicate nodes with node-name='a-._9'");
    assert_bad_name("drive0", "node-name=drive0 is conflicting with a device id");
    assert_bad_name(generated->node_name, "Invalid node-name");
    assert_fails(!backend_new("drive0", reader, NULL, NULL, &err), &err,
                 "Device with id 'drive0' already exists");
    assert_fails(!backend_new("a-._9", reader, NULL, NULL, &err), &err,
                 "conflicts with an existing node name");
    assert_fails(!node_lookup("drive0", &err), &err, "Device 'drive0' has no medium");

    g_assert_true(backend_co_insert(be, node, &err));
    g_assert_true(node_lookup("drive0", &err) == node);
    backend_co_free(be);
    node_co_unref(node);
    node_co_unref(generated);
    graph_world_end();
}
VTEST("/graph/names", test_names)

/* --- backing chains --- */

static void coroutine_fn test_chain(void)
{
    GError *err = NULL;
    BlockNode *top;

    graph_world_begin();
    disk_new("/dir/top", "BACKING:mid\n");
    disk_new("/dir/mid", "BACKING:/base\n");
    disk_new("/base", "");
    top = node_co_open_filename("/dir/top", "raw", NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(node_backing(top)->filename, ==, "/dir/mid");
    g_assert_cmpstr(node_backing(node_backing(top))->filename, ==, "/base");
    g_assert_true(node_is_read_only(node_backing(top)));
    g_assert_false(node_is_read_only(top));
    node_co_unref(top);
    graph_world_end();
}
VTEST("/graph/chain/relative-to-the-overlay", test_chain)

static void coroutine_fn test_chain_loops(void)
{
    GError *err = NULL;

    graph_world_begin();
    disk_new("/a", "BACKING:b\n");
    disk_new("/b", "BACKING:/a\n");
    disk_new("/self", "BACKING:self\n");
    assert_fails(!node_co_open_filename("/a", "raw", NULL, &err), &err,
                 "Backing file '/a' creates an infinite loop");
    assert_fails(!node_co_open_filename("/self", "raw", NULL, &err), &err,
                 "Backing file '/self' creates an infinite loop");
    graph_world_end();
}
VTEST("/graph/chain/loops-are-found", test_chain_loops)

static void make_chain(int n)
{
    for (int i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("/chain%d", i);
        g_autofree char *head = g_strdup_printf("BACKING:chain%d\n", i + 1);

        disk_new(name, i + 1 < n ? head : "");
    }
}

static void coroutine_fn test_chain_length(void)
{
    GError *err = NULL;
    BlockNode *top;

    graph_world_begin();
    make_chain(201);
    assert_fails(!node_co_open_filename("/chain0", "raw", NULL, &err), &err,
                 "The backing chain is longer than 200 images");
    top = node_co_open_filename("/chain1", "raw", NULL, &err);
    g_assert_no_error(err);
    node_co_unref(top);
    graph_world_end();
}
VTEST("/graph/chain/length-is-bounded", test_chain_length)

static void coroutine_fn test_nesting(void)
{
    GString *json = g_string_new("{\"driver\":\"file\",\"filename\":\"/a\"}");
    GError *err = NULL;
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "");
    for (int i = 0; i < 40; i++) {
        char *inner = g_string_free(json, FALSE);

        if (i == 32) {
            node = must_open(inner);
            node_co_unref(node);
        }
        json = g_string_new(NULL);
        g_string_printf(json, "{\"driver\":\"raw\",\"file\":%s}", inner);
        g_free(inner);
    }
    assert_fails(!open_json(json->str, &err), &err, "nest deeper than 32 levels");
    g_string_free(json, TRUE);
    graph_world_end();
}
VTEST("/graph/open/nesting-is-bounded", test_nesting)

/* --- backends --- */

static void coroutine_fn test_backend_conflict(void)
{
    GError *err = NULL;
    BlockNode *fmt = NULL;
    BlockBackend *be = NULL;

    graph_world_begin();
    disk_new("/a", "");
    fmt = must_open(FMT_A);
    be = backend_new("d", writer, NULL, NULL, &err);
    g_assert_no_error(err);
    /* The format does not let others write to its file. */
    assert_fails(!backend_co_insert(be, fmt->file->node, &err), &err,
                 "Permission conflict on node");
    g_assert_null(backend_node(be));
    g_assert_true(backend_co_insert(be, fmt, &err));
    g_assert_true(backend_co_set_perm(be, (PermPair){0, 0}, &err));
    g_assert_true(backend_co_set_perm(be, writer, &err));
    backend_co_free(be);
    node_co_unref(fmt);
    graph_world_end();
}
VTEST("/graph/backend/permission-conflict", test_backend_conflict)

static void coroutine_fn test_conflict_names_users(void)
{
    GError *err = NULL;
    BlockNode *q, *a;
    BlockBackend *be;

    graph_world_begin();
    disk_new("/a", "");
    a = must_open(FILE_A);
    q = must_open("{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":1,"
                  "\"children\":[\"a\"]}");
    be = backend_new("d", writer, NULL, NULL, &err);
    assert_fails(!backend_co_insert(be, a, &err), &err,
                 "Permission conflict on node 'a': permissions 'write' are both required by block "
                 "device 'd' (uses node 'a' as 'root' child) and unshared by node 'q' (uses node "
                 "'a' as 'children.0' child).");
    backend_co_free(be);
    node_co_unref(q);
    node_co_unref(a);
    graph_world_end();
}
VTEST("/graph/backend/conflict-names-both-users", test_conflict_names_users)

static void coroutine_fn test_read_only_refuses_writer(void)
{
    GError *err = NULL;
    BlockNode *a;
    BlockBackend *be;

    graph_world_begin();
    disk_new("/a", "");
    a = must_open("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\","
                  "\"read-only\":true}");
    be = backend_new(NULL, writer, NULL, NULL, &err);
    assert_fails(!backend_co_insert(be, a, &err), &err, "Block node is read-only");
    backend_co_free(be);
    node_co_unref(a);
    graph_world_end();
}
VTEST("/graph/backend/read-only-node-refuses-writer", test_read_only_refuses_writer)

/* --- op blockers --- */

static void coroutine_fn test_op_blockers(void)
{
    GError *err = NULL;
    BlockNode *node = NULL;
    OpBlocker *one, *two;

    graph_world_begin();
    node = node_new_internal(&driver_test_leaf, "n", NULL, &err);
    one = op_blocker_new(node, 1u << BLOCK_OP_RESIZE, "first reason");
    two = op_blocker_new(node, (1u << BLOCK_OP_RESIZE) | (1u << BLOCK_OP_STREAM), "second");
    assert_fails(op_blocked(node, BLOCK_OP_RESIZE, &err), &err, "Node 'n' is busy: ");
    g_assert_false(op_blocked(node, BLOCK_OP_EJECT, &err));
    op_blocker_free(two);
    g_assert_false(op_blocked(node, BLOCK_OP_STREAM, &err));
    assert_fails(op_blocked(node, BLOCK_OP_RESIZE, &err), &err, "first reason");
    node_co_unref(node); /* blockers do not keep it, and outlive it */
    g_assert_null(node_find("n"));
    op_blocker_free(one);
    op_blocker_free(NULL);
    graph_world_end();
}
VTEST("/graph/op-blockers", test_op_blockers)
