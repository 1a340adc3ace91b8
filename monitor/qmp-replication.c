/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of qapi/replication.json.
 *
 * The commands of old act on every disk of the process; their words and
 * silences are those that existing managers rely on.
 */
#include "block/replication.h"
#include "qapi/commands.h"
#include "qapi/events.h"
#include "util/error.h"

ReplicationInfoArray *coroutine_fn
qmp_query_replication(GError **errp)
{
    return replication_query();
}

bool coroutine_fn
qmp_replication_start(const QmpReplicationStartArgs *args, GError **errp)
{
    return replication_co_start_all(args->group, args->mode, errp);
}

bool coroutine_fn
qmp_replication_checkpoint(const QmpReplicationCheckpointArgs *args, GError **errp)
{
    return replication_co_checkpoint_all(args->group, errp);
}

bool coroutine_fn
qmp_replication_stop(const QmpReplicationStopArgs *args, GError **errp)
{
    return replication_co_stop_all(args->group, args->failover, errp);
}

bool coroutine_fn
qmp_xen_set_replication(const QmpXenSetReplicationArgs *args, GError **errp)
{
    ReplicationMode mode =
        args->primary ? REPLICATION_MODE_PRIMARY : REPLICATION_MODE_SECONDARY;

    if (args->enable) {
        if (args->has_failover) {
            return fail(errp, "Parameter 'failover' is only for stopping replication");
        }
        return replication_co_start_all(NULL, mode, errp);
    }
    if (args->failover) {
        /* Managers take an error here for a disk that is lost; the stage says what is. */
        (void)replication_co_stop_all(NULL, true, NULL);
        return true;
    }
    return replication_co_stop_all(NULL, false, errp);
}

ReplicationStatus *coroutine_fn
qmp_query_xen_replication_status(GError **errp)
{
    ReplicationStatus *status = g_new0(ReplicationStatus, 1);
    g_autoptr(GError) err = NULL;

    if (!replication_get_error_all(NULL, &err)) {
        status->error = true;
        status->desc = g_strdup(err->message);
    }
    return status;
}

bool coroutine_fn
qmp_xen_colo_do_checkpoint(GError **errp)
{
    return replication_co_checkpoint_all(NULL, errp);
}

/* The side given up by the last lost heartbeat. */
static COLOMode colo_left;

COLOStatus *coroutine_fn
qmp_query_colo_status(GError **errp)
{
    COLOStatus *status = g_new0(COLOStatus, 1);

    status->mode = COLO_MODE_NONE;
    status->last_mode = colo_left;
    status->reason = colo_left == COLO_MODE_NONE ? COLO_EXIT_REASON_NONE : COLO_EXIT_REASON_REQUEST;
    return status;
}

/* The side of a disk of this process that runs, or whose failover has failed. */
static COLOMode
replicating_as(void)
{
    g_autoptr(ReplicationInfoArray) all = replication_query();

    for (size_t i = 0; i < all->n; i++) {
        const ReplicationInfo *disk = all->items[i];

        if (disk->stage == REPLICATION_STAGE_RUNNING ||
            disk->stage == REPLICATION_STAGE_FAILOVER_FAILED) {
            return disk->mode == REPLICATION_MODE_PRIMARY ? COLO_MODE_PRIMARY
                                                          : COLO_MODE_SECONDARY;
        }
    }
    return COLO_MODE_NONE;
}

bool coroutine_fn
qmp_x_colo_lost_heartbeat(GError **errp)
{
    ColoExitEvent left = {.mode = replicating_as(), .reason = COLO_EXIT_REASON_REQUEST};

    if (left.mode == COLO_MODE_NONE) {
        return fail(errp, "Not in COLO state: no replication is running");
    }
    if (!replication_co_stop_all(NULL, true, errp)) {
        return false;
    }
    colo_left = left.mode;
    event_emit_colo_exit(&left);
    return true;
}
