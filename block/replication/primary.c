/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's half of an instance: it hears of trouble with the peer and
 * says whether guest writes are forwarded.
 *
 * After the first error nothing more is forwarded. The peer then holds a
 * prefix of what the guest wrote, never a history with a hole in it, and the
 * guest does not wait for a peer that cannot be used without a resync. A link
 * that breaks with writes that nobody has flushed is such an error, even if it
 * comes back, unless it comes back to the same export: else the peer may have died
 * with them and been started again.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/nbd-client.h"
#include "block/replication/replication-int.h"

static void
primary_link_changed(BlockNode *nbd, NbdLinkEvent event, int err, void *opaque)
{
    Replication *r = opaque;

    if (event == NBD_LINK_UP || r->stage != REPLICATION_STAGE_RUNNING) {
        return;
    }
    latch_set(r, REPLICATION_OPERATION_LINK, err ? err : ENOTCONN, -1);
    if (event == NBD_LINK_WRITES_LOST) {
        nbd_client_fail_waiting(nbd); /* what waits for the link to come back waits in vain */
    }
}

/* The NBD client below us, if there is one. */
static BlockNode *
primary_nbd(Replication *r)
{
    BlockNode *n = r->node->file ? node_skip_filters(r->node->file->node) : NULL;

    return n && nbd_client_is(n) ? n : NULL;
}

/* Counted: when we close, another node may stand where it stood, and it may live on. */
void
primary_open(Replication *r)
{
    BlockNode *nbd = primary_nbd(r);

    if (nbd) {
        r->link = node_ref(nbd);
        nbd_client_set_link_callback(nbd, primary_link_changed, r);
    }
}

void coroutine_fn
primary_co_close(Replication *r)
{
    if (r->link) {
        nbd_client_set_link_callback(r->link, NULL, NULL);
        node_co_unref(r->link);
        r->link = NULL;
    }
}

static bool
check_connected(const BlockNode *nbd, GError **errp)
{
    if (nbd && !nbd_client_is_connected(nbd)) {
        return fail(errp, "Node '%s' is not connected to the secondary's disk", nbd->node_name);
    }
    return true;
}

bool
primary_check_start(Replication *r, GError **errp)
{
    return check_connected(primary_nbd(r), errp);
}

/*
 * A peer that is gone cannot end the epoch with us. With a reconnect-delay it
 * may come back and nothing be lost; but the guest, held for the checkpoint,
 * shall not wait for that with what it has written.
 */
bool
primary_check_checkpoint(Replication *r, GError **errp)
{
    if (r->stage != REPLICATION_STAGE_RUNNING) {
        return true;
    }
    if (r->link) {
        nbd_client_fail_waiting(r->link);
    }
    if (r->latch.err) {
        return fail(errp,
                    "Node '%s' has lost writes since epoch %" PRIu64
                    " began (%s): a resync is needed",
                    r->node->node_name, r->epoch, g_strerror(r->latch.err));
    }
    return check_connected(r->link, errp);
}

void
primary_start(Replication *r)
{
    latch_clear(r);
    r->epoch = 1;
    stage_move(r, REPLICATION_STAGE_RUNNING, "start");
}

void
primary_stop(Replication *r)
{
    stage_move(r, REPLICATION_STAGE_DONE, "stop");
    /* A write that still waits for a silent peer is the guest's time lost for nothing. */
    node_cancel_in_flight(r->node->file->node);
    latch_clear(r);
}
