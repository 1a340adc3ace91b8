/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-nbd: one image, one export, until the last client leaves or a signal
 * comes.
 */
#include "tandem-nbd.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/export.h"
#include "block/nbd/proto.h"
#include "util/error.h"
#include "util/sync.h"

#define EXPORT_ID "tandem-nbd"

static CoQueue stop_queue;
static bool stopping;

void serve_stop(void)
{
    stopping = true;
    co_queue_wake_all(&stop_queue);
}

/* --- the export --- */

static void fill_address(const NbdToolOptions *o, SocketAddress *addr)
{
    const char *activated = g_getenv("LISTEN_FDS"), *pid = g_getenv("LISTEN_PID");

    if (activated && pid && strcmp(activated, "1") == 0 && atoi(pid) == getpid()) {
        addr->type = SOCKET_ADDRESS_TYPE_FD;
        addr->u.fd.str = (char *)"3"; /* the first that a service manager passes */
    } else if (o->socket) {
        addr->type = SOCKET_ADDRESS_TYPE_UNIX;
        addr->u.q_unix.path = o->socket;
    } else {
        addr->type = SOCKET_ADDRESS_TYPE_INET;
        addr->u.inet.host = o->bind ? o->bind : (char *)"0.0.0.0";
        addr->u.inet.port = o->port ? o->port : (char *)NBD_DEFAULT_PORT;
    }
}

static bool coroutine_fn start_server(const NbdToolOptions *o, GError **errp)
{
    SocketAddress addr = {0};
    NbdServerOptions so = {
        .addr = &addr,
        .has_max_connections = true,
        .max_connections = o->shared,
        .has_handshake_max_seconds = true,
        .handshake_max_seconds = o->handshake_limit,
    };

    fill_address(o, &addr);
    return export_nbd_co_start(&so, errp);
}

static bool coroutine_fn add_export(const NbdToolOptions *o, BlockNode *node, GError **errp)
{
    BlockExportOptions eo = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)EXPORT_ID,
        .node_name = node->node_name,
        .has_writable = true,
        .writable = !node_is_read_only(node),
        .has_writethrough = true,
        .writethrough = o->image.writethrough,
        .u.nbd =
            {
                .name = o->name ? o->name : (char *)"",
                .description = o->description,
                .has_allocation_depth = true,
                .allocation_depth = o->allocation_depth,
            },
    };

    return export_co_add(&eo, errp);
}

static void client_gone(bool served, void *opaque)
{
    const NbdToolOptions *o = opaque;

    if (o->verbose) {
        fprintf(stderr, "tandem-nbd: a client has left, %u remain\n", export_nbd_clients());
    }
    if (served && !o->persistent && export_nbd_clients() == 0) {
        serve_stop();
    }
}

static bool coroutine_fn
serve_node(const NbdToolOptions *o, BlockNode *node, bool (*ready)(GError **errp), GError **errp)
{
    bool ok;

    if (!start_server(o, errp)) {
        return false;
    }
    export_nbd_set_client_gone(client_gone, (void *)o);
    ok = add_export(o, node, errp) && ready(errp);
    while (ok && !stopping) {
        co_queue_wait(&stop_queue);
    }
    export_nbd_set_client_gone(NULL, NULL);
    export_co_del_all();
    return ok;
}

/* What of @image comes behind the offset; consumes the reference. */
static BlockNode *coroutine_fn behind_offset(BlockNode *image, uint64_t offset, GError **errp)
{
    json_t *opts = json_pack("{s:s, s:s, s:I, s:b}", "driver", "raw", "file", image->node_name,
                             "offset", (json_int_t)offset, "read-only", node_is_read_only(image));
    BlockNode *node = NULL;

    if (offset <= INT64_MAX) {
        node = node_co_open_json(opts, NULL, errp);
    } else {
        fail(errp, "Parameter 'offset' expects a non-negative number below 2^64\n"
                   "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                   "and exabytes, respectively.");
    }
    json_decref(opts);
    node_co_unref(image);
    return node;
}

static BlockNode *coroutine_fn open_node(const NbdToolOptions *o, GError **errp)
{
    BlockNode *node = image_co_open_node(&o->image, errp);

    if (!node) {
        g_prefix_error(errp, "Failed to blk_new_open '%s': ", o->image.name);
        return NULL;
    }
    return o->offset ? behind_offset(node, o->offset, errp) : node;
}

bool coroutine_fn serve_co_run(const NbdToolOptions *o, bool (*ready)(GError **errp), GError **errp)
{
    BlockNode *node = open_node(o, errp);
    bool ok = node && serve_node(o, node, ready, errp);

    if (node) {
        node_co_unref(node);
    }
    return ok;
}
