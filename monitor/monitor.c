/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Monitors: a character device whose clients speak QMP. */
#include "monitor/monitor.h"

#include "event-route.h"
#include "monitor/chardev.h"
#include "qmp-session.h"
#include "util/error.h"
#include "util/loop.h"

#define HANG_UP_NS NS_PER_S /* for clients to take the last replies and events */

static GHashTable *ids; /* of monitors that have one */

void
monitors_start(void)
{
    ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    event_route_start();
}

static void coroutine_fn
serve(Stream *s, void *opaque)
{
    qmp_session_co_serve(s, opaque != NULL);
}

bool
monitor_add(const MonitorOptions *o, GError **errp)
{
    Chardev *c = chardev_find(o->chardev);

    if (!c) {
        return fail(errp, "chardev \"%s\" not found", o->chardev);
    }
    if (o->id && g_hash_table_contains(ids, o->id)) {
        return fail(errp, "Duplicate ID '%s' for monitor", o->id);
    }
    if (!chardev_attach(c, serve, o->pretty ? &ids : NULL, errp)) {
        return false;
    }
    if (o->id) {
        g_hash_table_add(ids, g_strdup(o->id));
    }
    return true;
}

void
monitors_open(void)
{
    qmp_sessions_open();
}

void
monitors_stop(void)
{
    chardevs_stop();
    qmp_sessions_stop();
}

bool coroutine_fn
monitors_co_wait_commands(int64_t deadline_ns)
{
    return qmp_sessions_co_wait_commands(deadline_ns);
}

void coroutine_fn
monitors_co_end(void)
{
    event_route_stop();
    qmp_sessions_co_close(loop_now_ns() + HANG_UP_NS);
    chardevs_co_free();
    g_clear_pointer(&ids, g_hash_table_destroy);
}
