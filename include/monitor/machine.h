/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands for the machine in a program that has none: its name, whether it
 * is said to run, and the wish that the program ends.
 *
 * One for the process, on the main loop's thread.
 */
#ifndef MONITOR_MACHINE_H
#define MONITOR_MACHINE_H

#include <stdbool.h>

#include "qapi/types.h"
#include "util/coroutine.h"

/** version_info() - the numbers of this program; caller frees */
VersionInfo *version_info(void);

bool machine_is_running(void);
/** machine_set_running() - emits STOP or RESUME if that is a change */
void machine_set_running(bool running);

/** machine_wait_for_cont() - at the start: it does not run until it is told to. No event. */
void machine_wait_for_cont(void);
RunState machine_run_state(void);

/** machine_set_name() - copied */
void machine_set_name(const char *name);
const char *machine_name(void); /* NULL: none */

/** machine_request_shutdown() - the first cause counts, later ones are ignored */
void machine_request_shutdown(ShutdownCause cause);
/** machine_co_quit() - the same for a command; returns when the exports are gone, so that who is
 * answered finds on the disks what was written */
void coroutine_fn machine_co_quit(ShutdownCause cause);
/** machine_quitting() - commands that wait in machine_co_quit() */
unsigned machine_quitting(void);
/** machine_exports_gone() - let them return */
void machine_exports_gone(void);
/** machine_shutdown_cause() - SHUTDOWN_CAUSE_NONE as long as nobody wants the end */
ShutdownCause machine_shutdown_cause(void);
/** machine_co_wait_shutdown() - until somebody does */
ShutdownCause coroutine_fn machine_co_wait_shutdown(void);

#endif
