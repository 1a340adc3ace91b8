/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users type: file names, untyped options, drives, blockdev-add and -del. */
#include "block/blockdev.h"
#include "block/info.h"
#include "graph-drivers.h"

static json_t *parse(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);

    g_assert_nonnull(o);
    return o;
}

/* --- file names --- */

typedef struct NameCase {
    const char *name;
    const char *printed; /* NULL: an error that contains */
    const char *words;
} NameCase;

static void coroutine_fn check_name(const NameCase *c)
{
    NodeFlags ro = {.read_only = true};
    GError *err = NULL;
    BlockNode *node = node_co_open_filename(c->name, NULL, &ro, &err);

    if (c->words) {
        assert_fails(!node, &err, c->words);
        return;
    }
    g_assert_no_error(err);
    g_assert_cmpstr(node->filename, ==, c->printed);
    node_co_unref(node);
}

static void coroutine_fn test_file_names(void)
{
    static const NameCase cases[] = {
        {"/a", "/a", NULL},
        {"file:/a", "/a", NULL},
        {"./x:y", "./x:y", NULL},
        {"file:x:y", "x:y", NULL},
        {"x:y", NULL, "Unknown protocol 'x'"},
        {"", NULL, "requires a file name"},
        {"/none", NULL, "Could not open '/none': No such file or directory"},
        {"json:{\"driver\":\"raw\",\"file.filename\":\"/a\"}", "/a", NULL},
        {"json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/a\"}}", "/a",
         NULL},
        {"json:{\"file.filename\":\"/a\"}", "/a", NULL},
        {"json:{", NULL, "Could not parse the JSON options"},
        {"json:[]", NULL, "expected a JSON object"},
        {"json:{\"driver\":\"raw\",\"file\":\"none\"}", NULL, "Cannot find device='none'"},
        {"json:{\"driver\":\"raw\"}", NULL, "file"},
        {"json:{\"driver\":\"raw\",\"file\":\"a\",\"file.filename\":\"/a\"}", NULL,
         "both as a value and as an object"},
        {"json:{\"driver\":\"raw\",\"file\":{\"size\":1}}", NULL,
         "Parameter 'file.driver' is missing"},
        {"nbd://", NULL, "names no host"},
        {"nbd+unix:///x", NULL, "exactly one parameter"},
        {"nbd+unix:///x?socket=/s&a=b", NULL, "exactly one parameter"},
        {"nbd:host", NULL, "is not nbd:host:port"},
        {"nbd://h/?x=1", NULL, "takes no parameters"},
    };

    graph_world_begin();
    disk_new("/a", "");
    disk_new("./x:y", "");
    disk_new("x:y", "");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        check_name(&cases[i]);
        graph_world_end();
    }
}
VTEST("/filename/forms", test_file_names)

static void coroutine_fn test_deep_json_name(void)
{
    GString *name = g_string_new("json:");
    GError *err = NULL;

    graph_world_begin();
    for (int i = 0; i < 100000; i++) {
        g_string_append_c(name, '[');
    }
    assert_fails(!node_co_open_filename(name->str, NULL, NULL, &err), &err,
                 "nest deeper than 64 levels");
    g_string_free(name, TRUE);
    graph_world_end();
}
VTEST("/filename/deep-json-is-refused", test_deep_json_name)

static void coroutine_fn test_json_printed(void)
{
    GError *err = NULL;
    BlockNode *a, *q;
    json_t *o;

    graph_world_begin();
    disk_new("/a", "");
    a = must_open("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\"}");
    q = must_open("{\"driver\":\"quorum\",\"vote-threshold\":1,\"children\":[\"a\"]}");
    g_assert_true(g_str_has_prefix(q->filename, "json:{"));
    /* The name of a node is no name that opens it later; its options are. */
    o = parse(q->filename + 5);
    g_assert_cmpstr(json_string_value(json_object_get(
                        json_array_get(json_object_get(o, "children"), 0), "filename")),
                    ==, "/a");
    json_decref(o);
    node_co_unref(a);
    {
        g_autofree char *name = g_strdup(q->filename);

        node_co_unref(q);
        q = node_co_open_filename(name, NULL, NULL, &err);
        g_assert_no_error(err);
        g_assert_cmpstr(q->filename, ==, name);
    }
    node_co_unref(q);
    graph_world_end();
}
VTEST("/filename/json-names-reopen", test_json_printed)

/* --- untyped options --- */

static void coroutine_fn test_dotted(void)
{
    json_t *o = parse("{\"driver\":\"quorum\",\"children.1\":\"b\",\"children.0.driver\":\"raw\","
                      "\"children.0.file.filename\":\"/a\",\"vote-threshold\":\"1\","
                      "\"cache.direct\":\"on\",\"cache\":{\"no-flush\":\"on\"}}");
    GError *err = NULL;
    BlockNode *b, *q;

    graph_world_begin();
    disk_new("/a", "");
    disk_new("/b", "");
    b = must_open("{\"driver\":\"file\",\"node-name\":\"b\",\"filename\":\"/b\"}");
    q = node_co_open_json(o, NULL, &err);
    g_assert_no_error(err);
    g_assert_true(q->flags.cache_direct && q->flags.cache_no_flush);
    g_assert_true(node_child(q, "children.1")->node == b);
    g_assert_cmpstr(node_child(q, "children.0")->node->drv->name, ==, "raw");
    g_assert_true(node_child(q, "children.0")->node->flags.cache_direct);
    node_co_unref(q);
    node_co_unref(b);
    json_decref(o);
    graph_world_end();
}
VTEST("/untyped/dotted-keys", test_dotted)

static void coroutine_fn assert_untyped_fails(const char *text, const char *words)
{
    json_t *o = parse(text);
    GError *err = NULL;

    assert_fails(!node_co_open_json(o, NULL, &err), &err, words);
    json_decref(o);
}

static void coroutine_fn test_untyped_errors(void)
{
    graph_world_begin();
    disk_new("/a", "");
    assert_untyped_fails("{\"driver\":\"quorum\",\"vote-threshold\":1,\"children.0\":\"a\","
                         "\"children.2\":\"b\"}",
                         "array indexes have no gaps");
    assert_untyped_fails("{\"driver\":\"raw\",\"file..x\":\"a\"}", "Invalid parameter");
    assert_untyped_fails("{}", "Must specify either driver or file");
    assert_untyped_fails("{\"driver\":\"nosuch\"}", "nosuch");
    assert_untyped_fails("{\"driver\":\"raw\",\"file.filename\":\"/a\",\"bogus\":\"1\"}", "bogus");
    assert_untyped_fails("{\"driver\":\"raw\",\"file.filename\":\"/a\",\"active\":\"off\"}",
                         "Inactive nodes are not supported");
    graph_world_end();
}
VTEST("/untyped/errors", test_untyped_errors)

static int warnings;

static void count_warning(const char *text)
{
    g_assert_nonnull(strstr(text, "probing guessed raw"));
    warnings++;
}

static void coroutine_fn test_probe_warns(void)
{
    NodeFlags ro = {.read_only = true};
    GError *err = NULL;
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "");
    warnings = 0;
    block_set_warning(count_warning);
    node = node_co_open_filename("/a", NULL, &ro, &err);
    g_assert_cmpint(warnings, ==, 0); /* nobody can write what would fool the next probe */
    node_co_unref(node);
    node = node_co_open_filename("/a", NULL, NULL, &err);
    g_assert_cmpint(warnings, ==, 1);
    g_assert_true(node_is_probed(node));
    node_co_unref(node);
    node = node_co_open_filename("/a", "raw", NULL, &err);
    g_assert_cmpint(warnings, ==, 1);
    g_assert_false(node_is_probed(node));
    node_co_unref(node);
    block_set_warning(NULL);
    graph_world_end();
}
VTEST("/probe/warns-of-raw", test_probe_warns)

/* --- blockdev --- */

static bool coroutine_fn add(const char *json, GError **errp)
{
    g_autoptr(BlockdevOptions) o = options_of(json);

    return blockdev_co_add(o, errp);
}

static void coroutine_fn test_blockdev(void)
{
    GError *err = NULL;
    BlockBackend *be;

    graph_world_begin();
    disk_new("/a", "");
    assert_fails(!add("{\"driver\":\"file\",\"filename\":\"/a\"}", &err), &err,
                 "'node-name' must be specified for the root node");
    g_assert_true(add("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\"}", &err));
    assert_fails(!add("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/a\"}", &err), &err,
                 "Duplicate nodes with node-name='a'");
    g_assert_true(add("{\"driver\":\"raw\",\"node-name\":\"f\",\"file\":\"a\"}", &err));
    be = backend_new("d", (PermPair){0, PERM_ALL}, NULL, NULL, &err);
    g_assert_true(backend_co_insert(be, node_find("f"), &err));
    assert_fails(!blockdev_co_del("a", &err), &err,
                 "Block device a is in use");
    assert_fails(!blockdev_co_del("f", &err), &err, "Node f is in use");
    assert_fails(!blockdev_co_del("x", &err), &err, "Failed to find node with node-name='x'");
    backend_co_free(be);
    g_assert_true(blockdev_co_del("f", &err));
    g_assert_true(blockdev_co_del("a", &err));
    graph_world_end();
}
VTEST("/blockdev/add-and-del", test_blockdev)

static void coroutine_fn test_blockdev_busy(void)
{
    GError *err = NULL;
    OpBlocker *b;
    BlockNode *node;

    graph_world_begin();
    disk_new("/a", "");
    disk_new("/top", "BACKING:/a\n");
    g_assert_true(add("{\"driver\":\"raw\",\"node-name\":\"t\",\"file\":{\"driver\":\"file\","
                      "\"filename\":\"/top\"}}",
                      &err));
    node = node_backing(node_find("t"));
    assert_fails(!blockdev_co_del(node->node_name, &err), &err,
                 "is busy: node is used as backing hd of 't'");
    b = op_blocker_new(node_find("t"), 1u << BLOCK_OP_DRIVE_DEL, "in use by a job");
    assert_fails(!blockdev_co_del("t", &err), &err, "Node 't' is busy: in use by a job");
    op_blocker_free(b);
    blockdev_co_close_all();
    graph_world_end();
}
VTEST("/blockdev/busy", test_blockdev_busy)

/* --- drives --- */

static BlockBackend *coroutine_fn drive(const char *json, GError **errp)
{
    json_t *o = parse(json);
    BlockBackend *be = drive_co_add(o, errp);

    json_decref(o);
    return be;
}

static BlockBackend *coroutine_fn must_drive(const char *json)
{
    GError *err = NULL;
    BlockBackend *be = drive(json, &err);

    g_assert_no_error(err);
    return be;
}

static void coroutine_fn test_drive(void)
{
    GError *err = NULL;
    BlockBackend *be;

    graph_world_begin();
    disk_new("/a", "");
    disk_new("/b", "");
    be = must_drive("{\"id\":\"d0\",\"if\":\"none\",\"file\":\"/a\",\"format\":\"raw\","
                    "\"cache\":\"none\",\"discard\":\"on\",\"werror\":\"stop\"}");
    g_assert_true(backend_find("d0") == be);
    g_assert_true(node_lookup("d0", &err) == backend_node(be));
    g_assert_true(backend_node(be)->flags.cache_direct && backend_node(be)->flags.unmap);
    g_assert_true(backend_node(be)->file->node->flags.cache_direct);
    assert_fails(!drive("{\"id\":\"d0\",\"file\":\"/b\"}", &err), &err,
                 "Duplicate ID 'd0' for drive");
    /* The quorum of the COLO recipe: a file inline, a drive by its id. */
    be = must_drive("{\"id\":\"q\",\"driver\":\"quorum\",\"read-pattern\":\"fifo\","
                    "\"vote-threshold\":\"1\",\"children.0.file.filename\":\"/b\","
                    "\"children.0.driver\":\"raw\",\"read-only\":\"on\",\"children.1\":\"d0\"}");
    g_assert_true(node_child(backend_node(be), "children.1")->node == node_lookup("d0", &err));
    g_assert_cmpuint(backend_root(be)->perm.taken, ==, 0);
    be = must_drive("{\"if\":\"none\"}");
    g_assert_null(backend_node(be));
    g_assert_cmpstr(backend_name(be), ==, "none0");
    assert_fails(!drive_co_del("nosuch", &err), &err, "Device 'nosuch' not found");
    g_assert_true(drive_co_del("q", &err));
    g_assert_true(drive_co_del("d0", &err));
    blockdev_co_close_all();
    graph_world_end();
}
VTEST("/drive/add-and-del", test_drive)

static void coroutine_fn assert_drive_fails(const char *json, const char *words)
{
    GError *err = NULL;

    assert_fails(!drive(json, &err), &err, words);
    graph_world_end();
}

static void coroutine_fn test_drive_errors(void)
{
    graph_world_begin();
    disk_new("/a", "");
    assert_drive_fails("{\"if\":\"bogus\"}", "unsupported bus type 'bogus'");
    assert_drive_fails("{\"index\":\"0\",\"unit\":\"1\"}",
                       "index cannot be used with bus and unit");
    assert_drive_fails("{\"media\":\"tape\"}", "'tape' invalid media");
    assert_drive_fails("{\"file\":\"/a\",\"format\":\"raw\",\"driver\":\"raw\"}",
                       "Cannot specify both 'driver' and 'format'");
    assert_drive_fails("{\"file\":\"/a\",\"cache\":\"fast\"}", "invalid cache option");
    assert_drive_fails("{\"file\":\"/a\",\"snapshot\":\"on\"}", "'snapshot' is not supported");
    assert_drive_fails("{\"file\":\"/a\",\"copy-on-read\":\"on\"}", "'copy-on-read'");
    assert_drive_fails("{\"file\":\"/a\",\"iops_rd_max\":\"5\"}",
                       "Parameter 'iops_rd_max' is not supported");
    assert_drive_fails("{\"file\":\"/a\",\"throttling.bps-total\":\"5\"}", "throttling.bps-total");
    assert_drive_fails("{\"file\":\"/a\",\"werror\":\"panic\"}",
                       "'panic' invalid write error action");
    assert_drive_fails("{\"file\":\"/a\",\"rerror\":\"enospc\"}",
                       "'enospc' invalid read error action");
    assert_drive_fails("{\"file\":\"/a\",\"if\":\"sd\",\"werror\":\"stop\"}",
                       "werror is not supported by this bus type");
    assert_drive_fails("{\"file\":\"/a\",\"readonly\":\"maybe\"}", "expects 'on' or 'off'");
    assert_drive_fails("{\"file\":\"/a\",\"aio\":\"fast\"}", "invalid aio option");
    assert_drive_fails("{\"file\":\"/a\",\"bogus\":\"1\"}", "bogus");
    assert_drive_fails("{\"id\":\"9\",\"file\":\"/a\"}", "Invalid device id");
}
VTEST("/drive/errors", test_drive_errors)

static void coroutine_fn test_drive_each_failure(void)
{
    graph_world_begin();
    disk_new("/a", "");
    for_each_failure(i)
    {
        GError *err = NULL;
        BlockBackend *be = drive("{\"id\":\"d\",\"file\":\"/a\",\"format\":\"raw\"}", &err);

        g_assert_true(!be == fault_fired());
        g_clear_error(&err);
        backend_co_free(be);
        graph_world_end();
    }
}
VTEST("/drive/each-failure-leaves-nothing", test_drive_each_failure)

/* --- information --- */

static void coroutine_fn test_info(void)
{
    GError *err = NULL;
    BlockBackend *be;
    BlockInfo *info;
    BlockGraphInfo *graph;
    json_t *edges;

    graph_world_begin();
    disk_new("/a", "BACKING:/b\n");
    disk_new("/b", "");
    be = must_drive("{\"id\":\"d\",\"file\":\"/a\",\"format\":\"raw\"}");
    info = info_co_drive(be, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(info->inserted->file, ==, "/a");
    g_assert_cmpstr(info->inserted->backing_file, ==, "/b");
    g_assert_cmpint(info->inserted->backing_file_depth, ==, 1);
    g_assert_cmpstr(info->inserted->image->full_backing_filename, ==, "/b");
    g_assert_cmpstr(info->inserted->image->backing_image->filename, ==, "/b");
    g_assert_cmpuint(info->inserted->n_children, ==, 2);
    json_decref(block_info_to_json(info));
    block_info_free(info);

    graph = info_co_graph(backend_node(be), true, &err);
    g_assert_cmpstr(graph->children[0]->info->filename, ==, "/a");
    block_graph_info_free(graph);
    block_stats_free(info_drive_stats(be));

    edges = info_graph_edges();
    g_assert_cmpuint(json_array_size(json_object_get(edges, "nodes")), ==, 5);
    g_assert_cmpuint(json_array_size(json_object_get(edges, "edges")), ==, 4);
    json_decref(edges);
    backend_co_free(be);
    graph_world_end();
}
VTEST("/info/drive", test_info)
