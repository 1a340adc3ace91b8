/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stages of an instance and its error latch: what may follow what, and the
 * events that tell it. Nothing else writes `stage` or `latch`, so what is
 * reported is what is.
 */
#include <string.h>

#include "block/replication/replication-int.h"
#include "qapi/events.h"
#include "util/loop.h"

#define TO(stage) (1u << REPLICATION_STAGE_##stage)

/* Row: from; bit: allowed next. */
static const unsigned stage_moves[REPLICATION_STAGE__MAX] = {
    [REPLICATION_STAGE_NONE] = TO(RUNNING),
    [REPLICATION_STAGE_RUNNING] = TO(DONE) | TO(FAILOVER),
    [REPLICATION_STAGE_FAILOVER] = TO(DONE) | TO(FAILOVER_FAILED),
    [REPLICATION_STAGE_FAILOVER_FAILED] = TO(FAILOVER) | TO(DONE),
    [REPLICATION_STAGE_DONE] = 0,
};

void
stage_move(Replication *r, ReplicationStage to, const char *reason)
{
    ReplicationStageChangeEvent ev = {
        .node_name = r->node->node_name,
        .group = r->group,
        .mode = r->mode,
        .previous = r->stage,
        .stage = to,
        .epoch = r->epoch,
        .reason = (char *)reason,
    };

    assert(stage_moves[r->stage] & (1u << to));
    r->stage = to;
    event_emit_replication_stage_change(&ev);
}

void
latch_set(Replication *r, ReplicationOperation op, int err, int64_t offset)
{
    ReplicationErrorEvent ev = {
        .node_name = r->node->node_name,
        .group = r->group,
        .mode = r->mode,
        .epoch = r->epoch,
        .operation = op,
        .q_errno = err,
        .error = (char *)strerror(err),
        .has_offset = offset >= 0,
        .offset = offset,
    };

    assert(err > 0);
    if (r->latch.err) {
        return;
    }
    r->latch = (ReplicationLatch){.err = err, .operation = op, .offset = offset,
                                  .wall_ns = loop_wall_ns()};
    event_emit_replication_error(&ev);
}

void
latch_clear(Replication *r)
{
    r->latch = (ReplicationLatch){0};
}

bool
instance_check_error(const Replication *r, GError **errp)
{
    if (r->stage == REPLICATION_STAGE_NONE) {
        return fail(errp, "Block replication is not running");
    }
    if (r->stage != REPLICATION_STAGE_DONE && r->latch.err) {
        return fail(errp, "I/O error occurred");
    }
    return true;
}
