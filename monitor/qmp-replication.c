/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of qapi/replication.json.
 *
 * The commands of old act on every disk of the process; their words and
 * silences are those that existing managers rely on.
 */
#include "block/replication.h"
#include "qapi/commands.h"
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

COLOStatus *coroutine_fn
qmp_query_colo_status(GError **errp)
{
    COLOStatus *status = g_new0(COLOStatus, 1);

    status->mode = COLO_MODE_NONE;
    status->last_mode = COLO_MODE_NONE;
    status->reason = COLO_EXIT_REASON_NONE;
    return status;
}

/* Does a disk of this process run, or has its failover failed? */
static bool
is_replicating(void)
{
    g_autoptr(ReplicationInfoArray) all = replication_query();

    for (size_t i = 0; i < all->n; i++) {
        ReplicationStage stage = all->items[i]->stage;

        if (stage == REPLICATION_STAGE_RUNNING || stage == REPLICATION_STAGE_FAILOVER_FAILED) {
            return true;
        }
    }
    return false;
}

bool coroutine_fn
qmp_x_colo_lost_heartbeat(GError **errp)
{
    if (!is_replicating()) {
        return fail(errp, "Not in COLO state: no replication is running");
    }
    return replication_co_stop_all(NULL, true, errp);
}
