/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where events go: functions that asked for them.
 *
 * One list for the process, for the main loop's thread only. Events are emitted
 * by the generated event_emit_X() of "qapi/events.h".
 */
#ifndef QAPI_EVENT_SINK_H
#define QAPI_EVENT_SINK_H

#include <jansson.h>

/* @data is borrowed; NULL if the event has none. Must not yield. */
typedef void EventSinkFn(const char *name, json_t *data, void *opaque);

/** event_sink_add() - have @fn called for every event from now on */
void event_sink_add(EventSinkFn *fn, void *opaque);
/** event_sink_remove() - undo it; from within a sink too. Not there: our bug (asserted) */
void event_sink_remove(EventSinkFn *fn, void *opaque);

/** event_send() - for generated code; takes the reference to @data */
void event_send(const char *name, json_t *data);

#endif
