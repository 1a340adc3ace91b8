/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Monitors: QMP on character devices.
 *
 * One list for the process, on the main loop's thread.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <glib.h>
#include <stdbool.h>

#include "qapi/types.h"
#include "util/coroutine.h"

/** monitors_start() - from here on events reach clients */
void monitors_start(void);

/** monitor_add() - serve the clients of a character device */
bool monitor_add(const MonitorOptions *o, GError **errp);

/** monitors_open() - the program has started: commands, which have waited till now, may run.
 * A client must not find half of what the command line names. */
void monitors_open(void);
/** monitors_stop() - accept no client, begin no command any more */
void monitors_stop(void);
/** monitors_co_wait_commands() - until commands that have begun return; false at the deadline */
bool coroutine_fn monitors_co_wait_commands(int64_t deadline_ns);
/** monitors_co_end() - hang up; clients get a moment to take what is queued. After
 * monitors_stop(), with no command running (asserted). */
void coroutine_fn monitors_co_end(void);

#endif
