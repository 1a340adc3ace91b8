/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exports: the link between a node and the server that shows it.
 *
 * An export is listed from its creation until it is gone. While it is being
 * removed it is shown as shutting down and its name is free already.
 */
#include "block/export.h"

#include <errno.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/info.h"
#include "block/sockaddr.h"
#include "nbd-server.h"
#include "qapi/events.h"

#define DEFAULT_MAX_CONNECTIONS   100
#define DEFAULT_HANDSHAKE_SECONDS 10
#define DEFAULT_PREFERRED         4096

typedef struct BlockExport {
    char *id;
    BlockBackend *be;
    const NbdServer *server;
    NbdExport *nbd; /* NULL: nobody uses it any more, it is about to go */
    bool shutting_down;
} BlockExport;

static GList *all_exports; /* of BlockExport, in order of creation */
static CoQueue export_gone;
static NbdServer *nbd_server;
static void (*client_gone_fn)(bool served, void *opaque);
static void *client_gone_opaque;

/* --- the NBD server --- */

static void conn_ended(NbdServer *s, bool served, void *opaque)
{
    if (client_gone_fn) {
        client_gone_fn(served, client_gone_opaque);
    }
}

bool coroutine_fn export_nbd_co_start(const NbdServerOptions *o, GError **errp)
{
    unsigned seconds =
        o->has_handshake_max_seconds ? o->handshake_max_seconds : DEFAULT_HANDSHAKE_SECONDS;
    NbdServerBounds bounds = {
        .max_connections = o->has_max_connections ? o->max_connections : DEFAULT_MAX_CONNECTIONS,
        .handshake_ns = seconds * NS_PER_S,
    };
    StreamAddr addr;
    NbdServer *s;

    if (nbd_server) {
        return fail(errp, "NBD server already running");
    }
    if (o->tls_creds || o->tls_authz) {
        return fail(errp, "Parameter '%s' is not supported",
                    o->tls_creds ? "tls-creds" : "tls-authz");
    }
    if (!sockaddr_to_stream(o->addr, &addr, errp)) {
        return false;
    }
    s = nbd_server_new(&bounds);
    s->conn_ended = conn_ended;
    nbd_server = s; /* so that a second start meanwhile is refused */
    if (!nbd_server_co_listen(s, &addr, errp)) {
        nbd_server = NULL;
        nbd_server_free(s);
        return false;
    }
    return true;
}

bool export_nbd_is_running(void)
{
    return nbd_server != NULL;
}

unsigned export_nbd_clients(void)
{
    return nbd_server ? nbd_server->conns.length : 0;
}

void export_nbd_set_client_gone(void (*fn)(bool served, void *opaque), void *opaque)
{
    client_gone_fn = fn;
    client_gone_opaque = opaque;
}

/* --- finding --- */

static BlockExport *find_export(const char *id)
{
    for (GList *l = all_exports; l; l = l->next) {
        BlockExport *e = l->data;

        if (strcmp(e->id, id) == 0) {
            return e;
        }
    }
    return NULL;
}

BlockBackend *export_backend(const char *id)
{
    BlockExport *e = find_export(id);

    return e ? e->be : NULL;
}

static BlockExportInfo *export_info(const BlockExport *e)
{
    BlockExportInfo *info = g_new0(BlockExportInfo, 1);
    BlockNode *node = backend_node(e->be);

    info->id = g_strdup(e->id);
    info->type = BLOCK_EXPORT_TYPE_NBD;
    info->node_name = g_strdup(node ? node->node_name : "");
    info->shutting_down = e->shutting_down;
    info->stats = info_backend_counters(e->be);
    return info;
}

BlockExportInfoArray *export_query(void)
{
    BlockExportInfoArray *a = g_new0(BlockExportInfoArray, 1);

    a->items = g_new0(BlockExportInfo *, g_list_length(all_exports));
    for (GList *l = g_list_last(all_exports); l; l = l->prev) { /* the newest first */
        a->items[a->n++] = export_info(l->data);
    }
    return a;
}

/* --- adding --- */

static bool check_id(const char *id, GError **errp)
{
    bool ok = g_ascii_isalpha(*id);

    for (const char *p = id; *p; p++) {
        ok = ok && (g_ascii_isalnum(*p) || strchr("-._", *p));
    }
    if (!ok) {
        return fail(errp, "Invalid block export id");
    }
    if (find_export(id)) {
        return fail(errp, "Block export id '%s' is already in use", id);
    }
    return true;
}

static bool check_unsupported(const BlockExportOptions *o, GError **errp)
{
    if (o->iothread) {
        return fail(errp, "Parameter 'iothread' is not supported");
    }
    if (o->u.nbd.n_bitmaps > 0) {
        return fail(errp, "Parameter 'bitmaps' is not supported");
    }
    return true;
}

static bool check_nbd(const BlockExportOptionsNbd *o, const char *name, GError **errp)
{
    NbdText text = {name, strlen(name)};

    if (!nbd_server) {
        return fail(errp, "NBD server not running");
    }
    if (strlen(name) > NBD_MAX_STRING) {
        return fail(errp, "export name '%.40s...' too long", name);
    }
    if (o->description && strlen(o->description) > NBD_MAX_STRING) {
        return fail(errp, "description '%.40s...' too long", o->description);
    }
    if (nbd_server_find(nbd_server, text)) {
        return fail(errp, "NBD server already has export named '%s'", name);
    }
    return true;
}

static char *export_describe(void *opaque)
{
    const BlockExport *e = opaque;

    return g_strdup_printf("export '%s'", e->id);
}

static const BackendOps backend_ops = {
    .describe = export_describe,
};

static bool coroutine_fn
open_backend(BlockExport *e, BlockNode *node, const BlockExportOptions *o, GError **errp)
{
    bool writable = o->has_writable && o->writable;
    PermPair perm = {
        .taken = PERM_CONSISTENT_READ | (writable ? PERM_WRITE : 0),
        .shared = PERM_ALL & ~PERM_RESIZE,
    };

    if (writable && node_is_read_only(node)) {
        return fail(errp, "Cannot export read-only node as writable");
    }
    e->be = backend_new(NULL, perm, &backend_ops, e, errp);
    if (!e->be) {
        return false;
    }
    if (!backend_co_insert(e->be, node, errp)) {
        backend_co_free(e->be);
        e->be = NULL;
        return false;
    }
    if (writable && backend_fence_err(e->be)) {
        backend_co_free(e->be);
        e->be = NULL;
        return fail(errp, "Node '%s' is fenced: a failover writes to the disk below it",
                    node->node_name);
    }
    backend_set_write_cache(e->be, !(o->has_writethrough && o->writethrough));
    return true;
}

static uint32_t preferred_block(const BlockNode *node)
{
    int64_t best = MAX(node->limits.request_alignment, DEFAULT_PREFERRED);

    return MIN(best, NBD_MAX_PAYLOAD);
}

static void offer(BlockExport *e, const char *name, const BlockExportOptions *o)
{
    const BlockExportOptionsNbd *n = &o->u.nbd;
    NbdExport init = {
        .name = (char *)name,
        .description = n->description,
        .writable = o->has_writable && o->writable,
        .depth_context = n->has_allocation_depth && n->allocation_depth,
        .preferred_block = preferred_block(backend_node(e->be)),
        .ops = &nbd_backend_ops,
        .disk = e->be,
    };

    e->server = nbd_server;
    e->nbd = nbd_export_new(nbd_server, &init);
}

static void free_export(BlockExport *e)
{
    g_free(e->id);
    g_free(e);
}

bool coroutine_fn export_co_add(const BlockExportOptions *o, GError **errp)
{
    const char *name = o->u.nbd.name ? o->u.nbd.name : o->node_name;
    BlockNode *node;
    BlockExport *e;

    if (!check_id(o->id, errp) || !check_unsupported(o, errp) ||
        !check_nbd(&o->u.nbd, name, errp)) {
        return false;
    }
    node = node_find(o->node_name);
    if (!node) {
        return fail(errp, "Cannot find device='' nor node-name='%s'", o->node_name);
    }
    e = g_new0(BlockExport, 1);
    e->id = g_strdup(o->id);
    if (!open_backend(e, node, o, errp)) {
        free_export(e);
        return false;
    }
    /* Opening may have waited: look again. */
    if (!check_id(o->id, errp) || !check_nbd(&o->u.nbd, name, errp)) {
        backend_co_free(e->be);
        free_export(e);
        return false;
    }
    offer(e, name, o);
    all_exports = g_list_append(all_exports, e);
    return true;
}

/* --- removing --- */

/*
 * What clients were told is written shall outlive the export, whoever else goes
 * on using the node. They are gone: only the user can be told of a failure.
 */
static void coroutine_fn flush_disk(BlockExport *e)
{
    int ret = backend_co_flush(e->be);

    if (ret < 0) {
        block_warn("Could not flush the disk of export '%s': %s", e->id, strerror(-ret));
    }
}

/* May be the first function of a coroutine: a client's request may take its time. */
static void coroutine_fn remove_entry(void *opaque)
{
    BlockExport *e = opaque;
    BlockExportDeletedEvent ev = {.id = e->id};

    nbd_export_co_free(e->nbd);
    e->nbd = NULL; /* what follows may take its time too, and the export is listed until then */
    flush_disk(e);
    backend_co_free(e->be);
    all_exports = g_list_remove(all_exports, e);
    event_emit_block_export_deleted(&ev);
    free_export(e);
    co_queue_wake_all(&export_gone);
}

static void begin_removal(BlockExport *e)
{
    if (!e->shutting_down) {
        e->shutting_down = true;
        nbd_export_withdraw(e->nbd);
        co_spawn(remove_entry, e);
    }
}

bool coroutine_fn export_co_del(const char *id, BlockExportRemoveMode mode, GError **errp)
{
    BlockExport *e = find_export(id);

    if (!e) {
        return fail(errp, "Export '%s' is not found", id);
    }
    if (e->shutting_down) {
        return fail(errp, "Export '%s' is already shutting down", id);
    }
    if (mode == BLOCK_EXPORT_REMOVE_MODE_SAFE && e->nbd->conns.length > 0) {
        return fail(errp, "export '%s' still in use", id);
    }
    if (e->nbd->conns.length > 0) {
        begin_removal(e); /* which ends when its clients' requests have */
        return true;
    }
    e->shutting_down = true;
    nbd_export_withdraw(e->nbd);
    remove_entry(e); /* so that the event comes before the answer */
    return true;
}

/* NULL: of any server. */
static bool any_of(const NbdServer *server)
{
    for (GList *l = all_exports; l; l = l->next) {
        if (!server || ((const BlockExport *)l->data)->server == server) {
            return true;
        }
    }
    return false;
}

/* Another server may have been started meanwhile: its exports stay. */
static void coroutine_fn remove_all_of(const NbdServer *server)
{
    for (GList *l = all_exports; l; l = l->next) {
        BlockExport *e = l->data;

        if (!server || e->server == server) {
            begin_removal(e);
        }
    }
    while (any_of(server)) {
        co_queue_wait(&export_gone);
    }
}

static void coroutine_fn stop_server(void)
{
    NbdServer *s = nbd_server;

    nbd_server = NULL; /* nothing can be added while we wait */
    nbd_server_co_stop(s);
    remove_all_of(s);
    nbd_server_free(s);
}

bool coroutine_fn export_nbd_co_stop(GError **errp)
{
    if (!nbd_server) {
        return fail(errp, "NBD server not running");
    }
    stop_server();
    return true;
}

void coroutine_fn export_co_del_all(void)
{
    if (nbd_server) {
        stop_server();
    }
    remove_all_of(NULL);
}

/* --- the fence --- */

static bool shows(BlockNode *root, const BlockNode *node)
{
    while (root != node && root->drv->is_filter && root->file) {
        root = root->file->node;
    }
    return root == node;
}

void export_fence_node(BlockNode *node, int err)
{
    for (GList *l = all_exports; l; l = l->next) {
        BlockExport *e = l->data;
        BlockNode *root = backend_node(e->be);

        if (root && shows(root, node)) {
            if (e->nbd) {
                e->nbd->fence_err = err;
            }
            backend_fence(e->be, err);
        }
    }
}
