/* SPDX-License-Identifier: GPL-2.0-or-later */
/* machine: a name, a state that stop and cont turn, and the cause of the end. */
#include "monitor/machine.h"

#include <glib.h>

#include "qapi/events.h"
#include "util/sync.h"

static struct Machine {
    char *name;
    bool prelaunch; /* stopped, and has never run */
    bool stopped;
    ShutdownCause cause;
    CoQueue waiting; /* for a cause */
    unsigned quitting;
    bool exports_gone;
    CoQueue leaving; /* for exports_gone */
} machine;

bool
machine_is_running(void)
{
    return !machine.stopped;
}

void
machine_set_running(bool running)
{
    if (running == machine_is_running()) {
        return;
    }
    machine.stopped = !running;
    machine.prelaunch = false;
    if (running) {
        event_emit_resume();
    } else {
        event_emit_stop();
    }
}

void
machine_wait_for_cont(void)
{
    machine.stopped = machine.prelaunch = true;
}

RunState
machine_run_state(void)
{
    if (machine.prelaunch) {
        return RUN_STATE_PRELAUNCH;
    }
    return machine.stopped ? RUN_STATE_PAUSED : RUN_STATE_RUNNING;
}

void
machine_set_name(const char *name)
{
    g_free(machine.name);
    machine.name = g_strdup(name);
}

const char *
machine_name(void)
{
    return machine.name;
}

void
machine_request_shutdown(ShutdownCause cause)
{
    assert(cause != SHUTDOWN_CAUSE_NONE);
    if (machine.cause == SHUTDOWN_CAUSE_NONE) {
        machine.cause = cause;
        co_queue_wake_all(&machine.waiting);
    }
}

void coroutine_fn
machine_co_quit(ShutdownCause cause)
{
    machine_request_shutdown(cause);
    machine.quitting++;
    while (!machine.exports_gone) {
        co_queue_wait(&machine.leaving);
    }
}

unsigned
machine_quitting(void)
{
    return machine.quitting;
}

void
machine_exports_gone(void)
{
    machine.exports_gone = true;
    machine.quitting = 0;
    co_queue_wake_all(&machine.leaving);
}

ShutdownCause
machine_shutdown_cause(void)
{
    return machine.cause;
}

ShutdownCause coroutine_fn
machine_co_wait_shutdown(void)
{
    while (machine.cause == SHUTDOWN_CAUSE_NONE) {
        co_queue_wait(&machine.waiting);
    }
    return machine.cause;
}
