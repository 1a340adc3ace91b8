/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replworld.h"

#include <jansson.h>

#include "block/driver.h"
#include "block/drivers.h"
#include "qapi/walk.h"
#include "util/buf.h"
#include "util/loop.h"

#define OVERLAY_CLUSTER "65536"
#define UNMAP           "\"discard\":\"unmap\","

/* Programs that use a world link every driver. */
__attribute__((constructor)) static void
register_drivers(void)
{
    drivers_register();
}

static json_t *
parse(const char *text)
{
    json_error_t e;
    json_t *json = json_loads(text, 0, &e);

    if (!json) {
        g_error("%s in: %s", e.text, text);
    }
    return json;
}

BlockNode *coroutine_fn
world_co_open(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    GError *err = NULL;
    BlockNode *node;
    json_t *json;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    json = parse(text);
    node = node_co_open_json(json, NULL, &err);
    json_decref(json);
    g_assert_no_error(err);
    return node;
}

Memdisk *coroutine_fn
world_co_make_overlay(const char *file_name, int64_t length)
{
    Memdisk *d = memdisk_new(&(MemdiskOptions){0});
    g_autofree char *text = g_strdup_printf(
        "{'driver': 'qcow2', 'file': '%s', 'size': %" G_GINT64_FORMAT ", 'cluster-size': %s}",
        file_name, length, OVERLAY_CLUSTER);
    BlockdevCreateOptions *opts;
    GError *err = NULL;
    BlockNode *file;
    json_t *json;

    for (char *p = text; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    json = parse(text);
    opts = blockdev_create_options_from_json(json, &err);
    g_assert_no_error(err);
    file = memdisk_open(d, file_name, NULL, &err);
    g_assert_no_error(err);
    driver_find("qcow2")->co_create(opts, &err);
    g_assert_no_error(err);
    node_co_unref(file);
    blockdev_create_options_free(opts);
    json_decref(json);
    return d;
}

static Memdisk *coroutine_fn
make_overlay(const ReplWorld *w, const char *what)
{
    g_autofree char *name = g_strdup_printf("%s-%s-file", w->name, what);

    return world_co_make_overlay(name, w->length);
}

static BlockBackend *coroutine_fn
make_user(const char *name, BlockNode *node, Perm taken)
{
    PermPair perm = {taken, PERM_ALL & ~PERM_RESIZE};
    GError *err = NULL;
    BlockBackend *be = backend_new(name, perm, NULL, NULL, &err);

    g_assert_no_error(err);
    backend_co_insert(be, node, &err);
    g_assert_no_error(err);
    return be;
}

static void coroutine_fn
open_chain(ReplWorld *w, bool with_quorum)
{
    static const NodeFlags unmap = {.unmap = true};
    const char *n = w->name;
    g_autofree char *top = g_strdup_printf("%s-top", n);
    g_autofree char *active_name = g_strdup_printf("%s-active-file", n);
    g_autofree char *hidden_name = g_strdup_printf("%s-hidden-file", n);
    g_autofree char *disk_name = g_strdup_printf("%s-disk", n);
    GError *err = NULL;
    BlockNode *active, *hidden, *disk;

    disk = memdisk_open(w->disk, disk_name, &unmap, &err);
    g_assert_no_error(err);
    active = memdisk_open(w->active, active_name, &unmap, &err);
    g_assert_no_error(err);
    hidden = memdisk_open(w->hidden, hidden_name, &unmap, &err);
    g_assert_no_error(err);

    w->peer = make_user(NULL, disk, PERM_CONSISTENT_READ | PERM_WRITE);
    w->repl = world_co_open("{" UNMAP "\"driver\":\"replication\","
                            "\"mode\":\"secondary\",\"group\":\"%s\","
                            "\"node-name\":\"%s-repl\",\"top-id\":\"%s-top\","
                            "\"file\":{" UNMAP "\"driver\":\"qcow2\",\"node-name\":\"%s-active\","
                            "\"file\":\"%s\",\"backing\":{" UNMAP "\"driver\":\"qcow2\","
                            "\"node-name\":\"%s-hidden\",\"file\":\"%s\",\"backing\":\"%s\"}}}",
                            w->group, n, n, n, active_name, n, hidden_name, disk_name);
    if (with_quorum) {
        w->quorum = world_co_open("{" UNMAP "\"driver\":\"quorum\",\"node-name\":\"%s-quorum\","
                                  "\"read-pattern\":\"fifo\",\"vote-threshold\":1,"
                                  "\"children\":[\"%s-repl\"]}",
                                  n, n);
    }
    w->top = make_user(top, w->quorum ? w->quorum : w->repl, PERM_CONSISTENT_READ | PERM_WRITE);
    node_co_unref(active);
    node_co_unref(hidden);
    node_co_unref(disk);
}

static ReplWorld *coroutine_fn
make_world(const char *group, const char *name, int64_t length, uint8_t fill, bool with_quorum)
{
    ReplWorld *w = g_new0(ReplWorld, 1);

    g_strlcpy(w->name, name, sizeof(w->name));
    g_strlcpy(w->group, group, sizeof(w->group));
    w->length = length;
    w->disk_model = g_malloc(length);
    w->view = g_malloc(length);
    memset(w->disk_model, fill, length);
    memset(w->view, fill, length);
    w->disk = memdisk_new(&(MemdiskOptions){.length = length});
    memset(memdisk_data(w->disk), fill, length);
    w->active = make_overlay(w, "active");
    w->hidden = make_overlay(w, "hidden");
    open_chain(w, with_quorum);
    return w;
}

ReplWorld *coroutine_fn
world_co_new(const char *name, int64_t length, uint8_t fill)
{
    return make_world(name, name, length, fill, false);
}

ReplWorld *coroutine_fn
world_co_new_in(const char *group, const char *name, int64_t length, uint8_t fill)
{
    return make_world(group, name, length, fill, true);
}

void coroutine_fn
world_co_free(ReplWorld *w)
{
    backend_co_free(w->top);
    node_co_unref(w->quorum);
    node_co_unref(w->repl);
    backend_co_free(w->peer);
    memdisk_free(w->active);
    memdisk_free(w->hidden);
    memdisk_free(w->disk);
    g_free(w->disk_model);
    g_free(w->view);
    g_free(w);
}

void coroutine_fn
world_co_start(ReplWorld *w)
{
    GError *err = NULL;

    replication_co_start_all(w->group, REPLICATION_MODE_SECONDARY, &err);
    g_assert_no_error(err);
    memcpy(w->view, w->disk_model, w->length);
}

void coroutine_fn
world_co_checkpoint(ReplWorld *w)
{
    GError *err = NULL;

    replication_co_checkpoint_all(w->group, &err);
    g_assert_no_error(err);
    memcpy(w->view, w->disk_model, w->length);
}

static void coroutine_fn
write_all(BlockBackend *be, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = buf_alloc(bytes);

    memset(buf, byte, bytes);
    g_assert_cmpint(backend_co_pwrite(be, offset, buf, bytes, 0), ==, 0);
    buf_free(buf, bytes);
}

void coroutine_fn
world_co_peer_write(ReplWorld *w, int64_t offset, int64_t bytes, uint8_t byte)
{
    write_all(w->peer, offset, bytes, byte);
    memset(w->disk_model + offset, byte, bytes);
}

void coroutine_fn
world_co_top_write(ReplWorld *w, int64_t offset, int64_t bytes, uint8_t byte)
{
    write_all(w->top, offset, bytes, byte);
    memset(w->view + offset, byte, bytes);
}

void coroutine_fn
world_co_check(ReplWorld *w)
{
    uint8_t *buf = buf_alloc(w->length);

    g_assert_cmpint(backend_co_pread(w->top, 0, buf, w->length), ==, 0);
    for (int64_t i = 0; i < w->length; i++) {
        if (buf[i] != w->view[i]) {
            g_error("byte %" G_GINT64_FORMAT " of %s: 0x%02x, want 0x%02x (disk 0x%02x)", i,
                    w->name, buf[i], w->view[i], w->disk_model[i]);
        }
    }
    buf_free(buf, w->length);
}

void coroutine_fn
world_co_check_range(BlockBackend *be, int64_t offset, int64_t bytes, uint8_t byte)
{
    uint8_t *buf = buf_alloc(bytes);

    g_assert_cmpint(backend_co_pread(be, offset, buf, bytes), ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmphex(buf[i], ==, byte);
    }
    buf_free(buf, bytes);
}

ReplicationStage
world_stage(const ReplWorld *w)
{
    ReplicationInfoArray *a = replication_query();
    ReplicationStage stage = REPLICATION_STAGE__MAX;

    for (size_t i = 0; i < a->n; i++) {
        if (g_str_equal(a->items[i]->node_name, w->repl->node_name)) {
            stage = a->items[i]->stage;
        }
    }
    replication_info_array_free(a);
    g_assert_cmpint(stage, !=, REPLICATION_STAGE__MAX);
    return stage;
}

void coroutine_fn
world_co_wait_merged(ReplWorld *w)
{
    while (world_stage(w) == REPLICATION_STAGE_FAILOVER) {
        co_sleep_ns(NS_PER_MS);
    }
}
