/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of tandemd: from users down to disks, so that nothing meets what is
 * gone already.
 */
#include "block/blockdev.h"
#include "block/export.h"
#include "block/job.h"
#include "block/node.h"
#include "monitor/machine.h"
#include "monitor/monitor.h"
#include "monitor/object.h"
#include "qapi/events.h"
#include "tandemd.h"

#define PATIENCE_NS  (2 * NS_PER_S)  /* for peers to answer something of what is in flight */
#define COMMANDS_NS  (10 * NS_PER_S) /* for commands that wait for something else */

static LoopTimer impatience;

/* Fail what waits for a silent peer; again and again, for there may be more. A peer that answers is
 * needed: what is closed may have much to write. */
static void
lose_patience(void *opaque)
{
    node_cancel_silent();
    timer_arm(&impatience, loop_now_ns() + PATIENCE_NS);
}

static void
announce(void)
{
    ShutdownEvent event = { .guest = false, .reason = machine_shutdown_cause() };

    event_emit_shutdown(&event);
}

bool coroutine_fn
teardown_co(void)
{
    bool ok;

    monitors_stop();
    timer_init(&impatience, lose_patience, NULL);
    timer_arm(&impatience, loop_now_ns() + PATIENCE_NS);

    ok = monitors_co_wait_commands(loop_now_ns() + COMMANDS_NS);
    if (ok) {
        export_co_del_all();
        machine_exports_gone();
        (void)monitors_co_wait_commands(INT64_MAX); /* each quit is answered now */
        if (machine_shutdown_cause() != SHUTDOWN_CAUSE_NONE) {
            announce();
        }
        job_co_cancel_all();
        blockdev_co_close_all();
        objects_free();
        monitors_co_end();
    }
    timer_cancel(&impatience);
    return ok;
}
