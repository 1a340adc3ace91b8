/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events on their way to the clients of QMP: they get their time stamp, and
 * those that come in floods are thinned out.
 *
 * Source: QMP specification, "Asynchronous events". Of an event in the table of
 * event-route.c one is sent at once; those of the next second replace each
 * other and the last is sent when the second has passed. Which events are
 * equal in this sense is said by one member of their data.
 */
#ifndef MONITOR_EVENT_ROUTE_H
#define MONITOR_EVENT_ROUTE_H

#include <jansson.h>

void event_route_start(void);
/** event_route_stop() - send what is held back; later events go nowhere */
void event_route_stop(void);

/** event_stamped() - the object that clients see, as of now; @data is borrowed, NULL: none */
json_t *event_stamped(const char *name, json_t *data);

#endif
