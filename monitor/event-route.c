/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The router of events: see event-route.h.
 *
 * A Held exists from the first event of its key until a second has passed with
 * no other, so the table holds no more than the keys of the last second.
 */
#include "event-route.h"

#include <glib.h>
#include <string.h>

#include "qapi/event-sink.h"
#include "qmp-session.h"
#include "util/loop.h"

#define PERIOD_NS NS_PER_S

/* Events that come in floods, and the member that tells them apart; NULL: none does. */
static const struct Limited {
    const char *event, *member;
} limited[] = {
    { "BLOCK_IO_ERROR", "qom-path" },
    { "QUORUM_REPORT_BAD", "node-name" },
    { "QUORUM_FAILURE", NULL },
};

typedef struct Held {
    char *key;
    json_t *last; /* to be sent when the timer fires; NULL: nothing came since */
    LoopTimer timer;
} Held;

static GHashTable *held; /* by key */

static void
held_free(gpointer opaque)
{
    Held *h = opaque;

    timer_cancel(&h->timer);
    json_decref(h->last);
    g_free(h->key);
    g_free(h);
}

static void
period_passed(void *opaque)
{
    Held *h = opaque;

    if (!h->last) {
        g_hash_table_remove(held, h->key);
        return;
    }
    qmp_sessions_event(h->last);
    g_clear_pointer(&h->last, json_decref);
    timer_arm(&h->timer, loop_now_ns() + PERIOD_NS);
}

json_t *
event_stamped(const char *name, json_t *data)
{
    int64_t now_us = loop_wall_ns() / NS_PER_US;
    json_t *time = json_object();
    json_t *event = json_object();

    json_object_set_new(time, "seconds", json_integer(now_us / 1000000));
    json_object_set_new(time, "microseconds", json_integer(now_us % 1000000));
    json_object_set_new(event, "timestamp", time);
    json_object_set_new(event, "event", json_string(name));
    if (data) {
        json_object_set(event, "data", data);
    }
    return event;
}

/* NULL: not limited. */
static char *
key_of(const char *name, const json_t *data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limited); i++) {
        if (strcmp(limited[i].event, name) == 0) {
            const char *value = NULL;

            if (limited[i].member) {
                value = json_string_value(json_object_get(data, limited[i].member));
            }
            return g_strdup_printf("%s %s", name, value ? value : "");
        }
    }
    return NULL;
}

static void
route(const char *name, json_t *data, void *opaque)
{
    g_autofree char *key = key_of(name, data);
    json_t *event = event_stamped(name, data);
    Held *h = key ? g_hash_table_lookup(held, key) : NULL;

    if (h) {
        json_decref(h->last);
        h->last = event;
        return;
    }
    qmp_sessions_event(event);
    json_decref(event);
    if (key) {
        h = g_new0(Held, 1);
        h->key = g_steal_pointer(&key);
        timer_init(&h->timer, period_passed, h);
        timer_arm(&h->timer, loop_now_ns() + PERIOD_NS);
        g_hash_table_insert(held, h->key, h);
    }
}

void
event_route_start(void)
{
    held = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, held_free);
    event_sink_add(route, NULL);
}

void
event_route_stop(void)
{
    GHashTableIter iter;
    gpointer value;

    event_sink_remove(route, NULL);
    g_hash_table_iter_init(&iter, held);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Held *h = value;

        if (h->last) {
            qmp_sessions_event(h->last);
        }
    }
    g_clear_pointer(&held, g_hash_table_destroy);
}
