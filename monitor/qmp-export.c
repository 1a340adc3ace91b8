/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands of export.json.
 */
#include "block/export.h"
#include "block/sockaddr.h"
#include "qapi/commands.h"

bool coroutine_fn qmp_nbd_server_start(const NbdServerOptionsLegacy *args, GError **errp)
{
    g_autoptr(SocketAddress) addr = sockaddr_from_legacy(args->addr);
    NbdServerOptions o = {
        .addr = addr,
        .tls_creds = args->tls_creds,
        .tls_authz = args->tls_authz,
        .has_max_connections = args->has_max_connections,
        .max_connections = args->max_connections,
        .has_handshake_max_seconds = args->has_handshake_max_seconds,
        .handshake_max_seconds = args->handshake_max_seconds,
    };

    return export_nbd_co_start(&o, errp);
}

bool coroutine_fn qmp_nbd_server_stop(GError **errp)
{
    return export_nbd_co_stop(errp);
}

bool coroutine_fn qmp_nbd_server_add(const NbdServerAddOptions *args, GError **errp)
{
    BlockNode *node = node_lookup(args->device, errp);
    BlockExportOptions o = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = args->name ? args->name : args->device,
        .has_writable = true,
        .u.nbd.name = args->name ? args->name : args->device,
        .u.nbd.description = args->description,
    };

    if (!node) {
        return false;
    }
    if (args->bitmap) {
        return fail(errp, "Parameter 'bitmap' is not supported");
    }
    o.node_name = node->node_name;
    o.writable = args->writable && !node_is_read_only(node); /* as it was always done */
    return export_co_add(&o, errp);
}

bool coroutine_fn qmp_nbd_server_remove(const QmpNbdServerRemoveArgs *args, GError **errp)
{
    return export_co_del(args->name, args->has_mode ? args->mode : BLOCK_EXPORT_REMOVE_MODE_SAFE,
                         errp);
}

bool coroutine_fn qmp_block_export_add(const BlockExportOptions *args, GError **errp)
{
    return export_co_add(args, errp);
}

bool coroutine_fn qmp_block_export_del(const QmpBlockExportDelArgs *args, GError **errp)
{
    return export_co_del(args->id, args->has_mode ? args->mode : BLOCK_EXPORT_REMOVE_MODE_SAFE,
                         errp);
}

BlockExportInfoArray *coroutine_fn qmp_query_block_exports(GError **errp)
{
    return export_query();
}
