/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of qapi/yank.json. They run out of band, so they never wait.
 */
#include <string.h>

#include "block/node.h"
#include "qapi/commands.h"
#include "util/error.h"

static BlockNode *
find_instance(const YankInstance *want, GError **errp)
{
    BlockNode *n = NULL;

    if (want->type == YANK_INSTANCE_TYPE_BLOCK_NODE) {
        do {
            n = node_next_with_peer(n);
        } while (n && strcmp(n->node_name, want->u.block_node.node_name) != 0);
    }
    if (!n) {
        fail_class(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Instance not found");
    }
    return n;
}

bool coroutine_fn
qmp_yank(const QmpYankArgs *args, GError **errp)
{
    for (size_t i = 0; i < args->n_instances; i++) {
        if (!find_instance(args->instances[i], errp)) {
            return false;
        }
    }
    for (size_t i = 0; i < args->n_instances; i++) {
        node_cancel_in_flight(find_instance(args->instances[i], NULL));
    }
    return true;
}

YankInstanceArray *coroutine_fn
qmp_query_yank(GError **errp)
{
    YankInstanceArray *ret = g_new0(YankInstanceArray, 1);
    GPtrArray *items = g_ptr_array_new();

    for (BlockNode *n = node_next_with_peer(NULL); n; n = node_next_with_peer(n)) {
        YankInstance *i = g_new0(YankInstance, 1);

        i->type = YANK_INSTANCE_TYPE_BLOCK_NODE;
        i->u.block_node.node_name = g_strdup(n->node_name);
        g_ptr_array_add(items, i);
    }
    ret->n = items->len;
    ret->items = (YankInstance **)g_ptr_array_free(items, FALSE);
    return ret;
}
