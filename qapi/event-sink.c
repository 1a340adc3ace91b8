/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of event sinks.
 *
 * A sink may add or remove sinks while it is called: a removed entry is only
 * marked until the outermost event_send() returns, and an added one, at the
 * end, is not called for the event under way.
 */
#include "qapi/event-sink.h"

#include <assert.h>
#include <glib.h>

typedef struct Sink {
    EventSinkFn *fn; /* NULL: removed */
    void *opaque;
} Sink;

static GArray *sinks;
static unsigned sending; /* depth of event_send() */

static Sink *
sink_at(guint i)
{
    return &g_array_index(sinks, Sink, i);
}

void
event_sink_add(EventSinkFn *fn, void *opaque)
{
    Sink sink = { fn, opaque };

    if (!sinks) {
        sinks = g_array_new(FALSE, FALSE, sizeof(Sink));
    }
    g_array_append_val(sinks, sink);
}

static void
sweep(void)
{
    for (guint i = sinks->len; i-- > 0;) {
        if (!sink_at(i)->fn) {
            g_array_remove_index(sinks, i);
        }
    }
    if (!sinks->len) {
        g_array_free(sinks, TRUE);
        sinks = NULL;
    }
}

void
event_sink_remove(EventSinkFn *fn, void *opaque)
{
    guint i = 0;

    assert(sinks);
    while (i < sinks->len && (sink_at(i)->fn != fn || sink_at(i)->opaque != opaque)) {
        i++;
    }
    assert(i < sinks->len);
    sink_at(i)->fn = NULL;
    if (!sending) {
        sweep();
    }
}

void
event_send(const char *name, json_t *data)
{
    guint n = sinks ? sinks->len : 0;

    sending++;
    for (guint i = 0; i < n; i++) {
        Sink sink = *sink_at(i);
        if (sink.fn) {
            sink.fn(name, data, sink.opaque);
        }
    }
    sending--;
    if (sinks && !sending) {
        sweep();
    }
    json_decref(data);
}
