/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The events of quorum (QMP, QUORUM_REPORT_BAD and QUORUM_FAILURE); sectors of 512 bytes. */
#include <string.h>

#include "block/backend.h"
#include "block/filters/quorum-int.h"
#include "qapi/events.h"

static int64_t
quorum_sectors(int64_t offset, int64_t bytes)
{
    return DIV_ROUND_UP(offset + bytes, 512) - offset / 512;
}

void
quorum_report_bad(QuorumOpType type, BlockNode *child, int64_t offset, int64_t bytes, int ret)
{
    bool flush = type == QUORUM_OP_TYPE_FLUSH;
    QuorumReportBadEvent ev = {
        .type = type,
        .error = ret < 0 ? (char *)strerror(-ret) : NULL,
        .node_name = child->node_name,
        .sector_num = flush ? 0 : offset / 512,
        .sectors_count = flush ? 0 : quorum_sectors(offset, bytes),
    };

    event_emit_quorum_report_bad(&ev);
}

/* The drive id of a user above, else the node's name. */
static const char *
quorum_reference(const BlockNode *node)
{
    for (const BlockChild *e = node->first_parent; e; e = e->next_parent) {
        if (e->parent_backend && *backend_name(e->parent_backend)) {
            return backend_name(e->parent_backend);
        }
    }
    return node->node_name;
}

void
quorum_report_failure(BlockNode *node, int64_t offset, int64_t bytes)
{
    QuorumFailureEvent ev = {
        .reference = (char *)quorum_reference(node),
        .sector_num = offset / 512,
        .sectors_count = quorum_sectors(offset, bytes),
    };

    event_emit_quorum_failure(&ev);
}
