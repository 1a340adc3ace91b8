/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client of QMP, from its greeting until it is gone.
 *
 * Three coroutines at most: one reads requests into a bounded queue, one
 * executes them one after the other, one writes what there is to write. The
 * last two exist only while there is work. The session goes with the last.
 * What is to be run out of band is run by the reader: such a command never
 * waits, and so overtakes whatever the queue waits for.
 *
 * Memory: requests are read only while the queue has room, and executed only
 * while the client takes its replies. Events for a client that does not read
 * are dropped beyond a bound, and the client is told how many.
 */
#ifndef MONITOR_QMP_SESSION_H
#define MONITOR_QMP_SESSION_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "util/stream.h"

typedef struct QmpSession QmpSession;

/**
 * qmp_session_co_serve() - greet and serve a client until it sends no more
 * @s: owned from here on
 *
 * What it has asked for by then is still executed and answered after the
 * return, in the background.
 */
void coroutine_fn qmp_session_co_serve(Stream *s, bool pretty);

/* --- for the router of events --- */

/** qmp_sessions_event() - queue @event for each session that has negotiated. Never yields. */
void qmp_sessions_event(const json_t *event);

/* --- the beginning and the end --- */

/** qmp_sessions_open() - commands run from now on; those that came earlier have waited */
void qmp_sessions_open(void);

/** qmp_sessions_stop() - execute no further command */
void qmp_sessions_stop(void);
/** qmp_sessions_co_wait_commands() - until those that have begun return; false at the deadline */
bool coroutine_fn qmp_sessions_co_wait_commands(int64_t deadline_ns);
/** qmp_sessions_co_close() - let clients take what is queued until @deadline_ns, then hang up.
 * No command may be running. */
void coroutine_fn qmp_sessions_co_close(int64_t deadline_ns);

/* --- one request (qmp-dispatch.c) --- */

/* What qmp_capabilities has agreed on. */
typedef struct QmpAgreed {
    bool done;
    bool oob; /* `exec-oob` is known */
} QmpAgreed;

/** qmp_dispatch_co() - the reply to what a client sent; a new reference
 * @agreed: set by qmp_capabilities */
json_t *coroutine_fn qmp_dispatch_co(const json_t *request, QmpAgreed *agreed);
/** qmp_is_oob() - is it to be run at once, out of band? */
bool qmp_is_oob(const json_t *request, const QmpAgreed *agreed);
/** qmp_error_reply() - to what is no request; a new reference */
json_t *qmp_error_reply(const GError *err);
json_t *qmp_greeting(void);

#endif
