/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports over a real socket: what the fence catches, what a drain holds back,
 * and what a removal waits for.
 */
#include "block/export.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../block/nbd/client.h"
#include "block/backend.h"
#include "block/nbd-client.h"
#include "memdisk.h"
#include "replworld.h"
#include "user.h"
#include "vtest.h"

#define DISK (1 * MiB)

static Memdisk *disk;
static BlockNode *node;
static NbdClient *client;
static char *folder, *path;

static void coroutine_fn start(int64_t latency_ns)
{
    MemdiskOptions o = {.length = DISK, .latency_ns = latency_ns};
    NodeFlags flags = {.unmap = true};
    SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX};
    NbdServerOptions so = {.addr = &addr};
    BlockExportOptions eo = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)"e0",
        .node_name = (char *)"disk",
        .has_writable = true,
        .writable = true,
    };
    StreamAddr to = {.kind = STREAM_ADDR_UNIX};
    NbdClientOptions co = {.addr = &to, .export = "disk", .context = NBD_CONTEXT_BASE_ALLOCATION};
    g_autoptr(GError) err = NULL;

    folder = g_dir_make_tmp("tandem-export-XXXXXX", &err);
    g_assert_no_error(err);
    path = g_build_filename(folder, "s", NULL);
    addr.u.q_unix.path = path;
    to.path = path;
    disk = memdisk_new(&o);
    node = memdisk_open(disk, "disk", &flags, &err);
    g_assert_no_error(err);
    g_assert_true(export_nbd_co_start(&so, &err));
    g_assert_true(export_co_add(&eo, &err));
    client = nbd_client_co_open(&co, &err);
    g_assert_no_error(err);
}

static void coroutine_fn end(void)
{
    if (client) {
        nbd_client_co_close(client);
    }
    export_co_del_all();
    g_assert_false(export_nbd_is_running());
    node_co_unref(node);
    memdisk_free(disk);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_rmdir(folder);
    g_free(folder);
    g_free(path);
}

typedef struct Running {
    uint16_t type;
    int ret;
    bool done;
    CoQueue over;
} Running;

static void coroutine_fn request_entry(void *opaque)
{
    Running *r = opaque;
    char data[512] = "data";
    struct iovec v;
    NbdCall call = {.type = r->type, .length = sizeof(data)};

    call.iov = iov_one(&v, data, sizeof(data));
    r->ret = nbd_client_co_call(client, &call);
    r->done = true;
    co_queue_wake_all(&r->over);
}

static void request_start(Running *r, uint16_t type)
{
    *r = (Running){.type = type};
    co_spawn(request_entry, r);
}

static int coroutine_fn request_end(Running *r)
{
    while (!r->done) {
        co_queue_wait(&r->over);
    }
    return r->ret;
}

static int coroutine_fn request(uint16_t type)
{
    Running r;

    request_start(&r, type);
    return request_end(&r);
}

static void coroutine_fn test_fence_refuses_changes_only(void)
{
    start(0);
    export_fence_node(node, EPERM);
    g_assert_cmpint(request(NBD_CMD_WRITE), ==, -EPERM);
    g_assert_cmpint(request(NBD_CMD_WRITE_ZEROES), ==, -EPERM);
    g_assert_cmpint(request(NBD_CMD_TRIM), ==, -EPERM);
    g_assert_cmpint(request(NBD_CMD_READ), ==, 0);
    g_assert_cmpint(nbd_client_co_flush(client), ==, 0);
    g_assert_cmpuint(memdisk_log_count(disk, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_DISCARD), ==,
                     0);
    export_fence_node(node, 0);
    g_assert_cmpint(request(NBD_CMD_WRITE), ==, 0);
    end();
}

static void coroutine_fn test_fenced_node_is_not_exported_writable(void)
{
    BlockExportOptions o = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)"late",
        .u.nbd.name = (char *)"late",
        .has_writable = true,
        .writable = true,
    };
    GError *err = NULL;

    start(0);
    o.node_name = node->node_name;
    node_fence(node, EPERM, NULL, NULL);
    g_assert_false(export_co_add(&o, &err));
    g_assert_nonnull(strstr(err->message, "is fenced: a failover writes to the disk below it"));
    g_clear_error(&err);
    o.writable = false;
    g_assert_true(export_co_add(&o, &err));
    node_fence(node, 0, NULL, NULL);
    end();
}

static void coroutine_fn test_fence_catches_what_waits_at_the_gate(void)
{
    static const uint16_t types[] = {NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM};
    Running r[G_N_ELEMENTS(types)];

    start(0);
    drain_co_begin(node);
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        request_start(&r[i], types[i]);
    }
    co_sleep_ns(50 * NS_PER_MS); /* they are at the gate now */
    export_fence_node(node, EPERM);
    drain_end(node);
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        g_assert_cmpint(request_end(&r[i]), ==, -EPERM);
    }
    g_assert_cmpuint(memdisk_log_count(disk, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_DISCARD), ==,
                     0);
    end();
}

static void coroutine_fn test_drain_holds_requests_back(void)
{
    Running r;

    start(0);
    drain_co_begin(node);
    request_start(&r, NBD_CMD_WRITE);
    co_sleep_ns(50 * NS_PER_MS);
    g_assert_false(r.done);
    g_assert_cmpuint(memdisk_log_count(disk, MEMDISK_WRITE), ==, 0);
    drain_end(node);
    g_assert_cmpint(request_end(&r), ==, 0);
    end();
}

static void coroutine_fn test_removal_waits_for_the_disk(void)
{
    g_autoptr(GError) err = NULL;
    BlockExportInfoArray *list;
    Running r;

    start(0);
    memdisk_stall(disk, true);
    request_start(&r, NBD_CMD_WRITE);
    while (memdisk_stalled(disk) == 0) {
        co_sleep_ns(NS_PER_MS);
    }
    g_assert_false(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_SAFE, &err));
    g_assert_true(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_HARD, NULL));
    g_assert_cmpint(request_end(&r), ==, -EIO); /* the client hears at once */
    list = export_query();
    g_assert_cmpuint(list->n, ==, 1);
    g_assert_true(list->items[0]->shutting_down);
    block_export_info_array_free(list);
    memdisk_stall(disk, false);
    end();
}

static void coroutine_fn gone(void)
{
    BlockExportInfoArray *list;
    bool is_gone = false;

    while (!is_gone) {
        list = export_query();
        is_gone = list->n == 0;
        block_export_info_array_free(list);
        co_sleep_ns(NS_PER_MS);
    }
}

/* The test holds the node too, so its close is not what flushes. */
static void coroutine_fn test_removal_flushes(void)
{
    for (int way = 0; way < 4; way++) {
        start(0);
        g_assert_cmpint(request(NBD_CMD_WRITE), ==, 0);
        g_assert_cmpint(memdisk_log_count(disk, MEMDISK_FLUSH), ==, 0);
        if (way == 0) {
            g_assert_true(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_HARD, NULL));
        } else if (way == 1) {
            nbd_client_co_close(client);
            while (export_nbd_clients() > 0) {
                co_sleep_ns(NS_PER_MS);
            }
            g_assert_true(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_SAFE, NULL));
            client = NULL;
        } else if (way == 2) {
            g_assert_true(export_nbd_co_stop(NULL));
        } else {
            export_co_del_all();
        }
        gone();
        g_assert_cmpint(memdisk_log_count(disk, MEMDISK_FLUSH), ==, 1);
        end();
    }
}

static char *warned;

static void keep_warning(const char *text)
{
    g_free(warned);
    warned = g_strdup(text);
}

static void coroutine_fn test_flush_that_fails_is_told(void)
{
    start(0);
    g_assert_cmpint(request(NBD_CMD_WRITE), ==, 0);
    memdisk_fail_nth(disk, MEMDISK_FLUSH, 1, EIO);
    block_set_warning(keep_warning);
    export_co_del_all();
    block_set_warning(NULL);
    g_assert_cmpstr(warned, ==,
                    "Could not flush the disk of export 'e0': Input/output error");
    g_clear_pointer(&warned, g_free);
    end();
}

static void coroutine_fn test_fence_during_a_removal(void)
{
    start(0);
    g_assert_cmpint(request(NBD_CMD_WRITE), ==, 0);
    memdisk_stall(disk, true);
    g_assert_true(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_HARD, NULL));
    while (memdisk_stalled(disk) == 0) {
        co_sleep_ns(NS_PER_MS); /* the flush */
    }
    export_fence_node(node, EPERM);
    g_assert_false(export_co_del("e0", BLOCK_EXPORT_REMOVE_MODE_HARD, NULL));
    memdisk_stall(disk, false);
    gone();
    end();
}

/* Clients that are accepted in the very turn in which the server is stopped. */
static void coroutine_fn test_stop_while_a_client_comes(void)
{
    for (int turns = 0; turns < 12; turns++) {
        g_autofree char *dir = g_dir_make_tmp("tandem-export-XXXXXX", NULL);
        g_autofree char *name = g_build_filename(dir, "s", NULL);
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX, .u.q_unix.path = name};
        NbdServerOptions so = {.addr = &addr};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        g_strlcpy(sa.sun_path, name, sizeof(sa.sun_path));
        g_assert_true(export_nbd_co_start(&so, NULL));
        g_assert_cmpint(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
        for (int i = 0; i < turns; i++) {
            co_reschedule();
        }
        g_assert_true(export_nbd_co_stop(NULL));
        co_sleep_ns(NS_PER_MS);
        close(fd);
        g_rmdir(dir);
    }
}

static void coroutine_fn stop_entry(void *opaque)
{
    g_assert_true(export_nbd_co_stop(NULL));
    *(bool *)opaque = true;
}

static void coroutine_fn unstall_entry(void *opaque)
{
    co_sleep_ns(10 * NS_PER_MS);
    memdisk_stall(opaque, false);
}

typedef struct FarRead {
    BlockBackend *be;
    int ret;
    bool done;
} FarRead;

static void coroutine_fn far_read_entry(void *opaque)
{
    FarRead *r = opaque;
    uint8_t buf[512];

    r->ret = backend_co_pread(r->be, 0, buf, sizeof(buf));
    r->done = true;
}

/* The server goes before the drain, or while it waits. */
static void coroutine_fn drain_without_server(bool before)
{
    FarRead r = {0};
    bool stopped = false;
    BlockNode *far;
    int64_t start_ns;

    start(0);
    far = world_co_open("{\"driver\": \"nbd\", \"export\": \"disk\", \"reconnect-delay\": 1000,"
                        " \"server\": {\"type\": \"unix\", \"path\": \"%s\"}}", path);
    r.be = user_co_new(NULL, far, PERM_CONSISTENT_READ);
    memdisk_stall(disk, true);
    co_spawn(far_read_entry, &r);
    while (memdisk_stalled(disk) == 0) {
        co_sleep_ns(NS_PER_MS);
    }
    co_spawn(stop_entry, &stopped);
    if (before) {
        co_sleep_ns(100 * NS_PER_MS);
        g_assert_false(r.done); /* it waits for the server */
    }
    start_ns = loop_now_ns();
    drain_co_begin(far);
    g_assert_true(r.done);
    g_assert_cmpint(r.ret, ==, -EIO);
    g_assert_cmpint(loop_now_ns() - start_ns, <, 20 * NS_PER_S);
    drain_end(far);
    memdisk_stall(disk, false);
    while (!stopped) {
        co_sleep_ns(NS_PER_MS);
    }
    backend_co_free(r.be);
    node_co_unref(far);
    end();
}

static void coroutine_fn test_drain_does_not_wait_for_a_lost_server(void)
{
    drain_without_server(true);
    drain_without_server(false);
}

static void told_of_link(BlockNode *far, NbdLinkEvent event, int err, void *opaque)
{
    ++*(unsigned *)opaque;
}

/* What the drain waits for is elsewhere: the lost server has its time to come back. */
static void coroutine_fn test_drain_leaves_an_idle_link_its_delay(void)
{
    static const NodeFlags none;
    MemdiskOptions o = {.length = DISK};
    Memdisk *near = memdisk_new(&o);
    BlockNode *near_node = memdisk_open(near, "near", &none, NULL), *quorum, *far;
    FarRead r = {0};
    unsigned told = 0;

    start(0);
    quorum = world_co_open("{\"driver\": \"quorum\", \"vote-threshold\": 1, \"read-pattern\":"
                           " \"fifo\", \"children\": [\"near\", {\"driver\": \"nbd\","
                           " \"node-name\": \"far\", \"export\": \"disk\", \"server\":"
                           " {\"type\": \"unix\", \"path\": \"%s\"},"
                           " \"reconnect-delay\": 1000}]}", path);
    far = node_find("far");
    nbd_client_set_link_callback(far, told_of_link, &told);
    r.be = user_co_new(NULL, quorum, PERM_CONSISTENT_READ);
    g_assert_true(export_nbd_co_stop(NULL));
    while (nbd_client_is_connected(far)) {
        co_sleep_ns(NS_PER_MS);
    }
    memdisk_stall(near, true);
    co_spawn(far_read_entry, &r);
    while (memdisk_stalled(near) == 0) {
        co_sleep_ns(NS_PER_MS);
    }
    co_spawn(unstall_entry, near);
    drain_co_begin(quorum);
    g_assert_true(r.done);
    g_assert_cmpint(r.ret, >=, 0);
    g_assert_cmpuint(told, ==, 0);
    drain_end(quorum);
    nbd_client_set_link_callback(far, NULL, NULL);
    backend_co_free(r.be);
    node_co_unref(quorum);
    node_co_unref(near_node);
    memdisk_free(near);
    end();
}

static void coroutine_fn test_stop_leaves_the_next_server_alone(void)
{
    g_autofree char *name = NULL;
    SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX};
    NbdServerOptions so = {.addr = &addr};
    BlockExportOptions eo = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)"e1",
        .node_name = (char *)"disk",
    };
    bool stopped = false;
    Running r;

    start(0);
    name = g_strdup_printf("%s2", path);
    addr.u.q_unix.path = name;
    memdisk_stall(disk, true);
    request_start(&r, NBD_CMD_WRITE);
    while (memdisk_stalled(disk) == 0) {
        co_sleep_ns(NS_PER_MS);
    }
    co_spawn(stop_entry, &stopped);
    co_sleep_ns(NS_PER_MS);
    g_assert_true(export_nbd_co_start(&so, NULL));
    g_assert_true(export_co_add(&eo, NULL));
    memdisk_stall(disk, false);
    while (!stopped) {
        co_sleep_ns(NS_PER_MS);
    }
    request_end(&r);
    g_assert_nonnull(export_backend("e1"));
    end();
}

LOOP_TEST("/export/fence", test_fence_refuses_changes_only)
LOOP_TEST("/export/fenced-node-is-not-exported-writable",
          test_fenced_node_is_not_exported_writable)
LOOP_TEST("/export/fence-at-the-gate", test_fence_catches_what_waits_at_the_gate)
LOOP_TEST("/export/drain", test_drain_holds_requests_back)
LOOP_TEST("/export/removal", test_removal_waits_for_the_disk)
LOOP_TEST("/export/removal-fence", test_fence_during_a_removal)
LOOP_TEST("/export/stop-accept", test_stop_while_a_client_comes)
LOOP_TEST("/export/drain-lost-server", test_drain_does_not_wait_for_a_lost_server)
LOOP_TEST("/export/drain-idle-link", test_drain_leaves_an_idle_link_its_delay)
LOOP_TEST("/export/stop-start", test_stop_leaves_the_next_server_alone)
LOOP_TEST("/export/removal-flushes", test_removal_flushes)
LOOP_TEST("/export/removal-flush-fails", test_flush_that_fails_is_told)
