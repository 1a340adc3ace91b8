/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The framework: acts on every instance of a group, in two phases.
 *
 * A group operation drains every disk of the group first, so that the epochs
 * of all disks change at one moment between requests, whatever is written
 * meanwhile. One operation at a time has a disk; groups that share none do not
 * wait for each other, for a disk may hang.
 */
#include <inttypes.h>

#include "block/backend.h"
#include "block/replication/replication-int.h"
#include "util/sync.h"

static Replication *instances; /* newest first */

void
replication_register(Replication *r)
{
    r->next = instances;
    instances = r;
}

void
replication_unregister(Replication *r)
{
    for (Replication **p = &instances; *p; p = &(*p)->next) {
        if (*p == r) {
            *p = r->next;
            return;
        }
    }
}

/* --- the members of an operation: a list that survives what happens while we wait --- */

typedef struct Members {
    Replication **v;
    size_t n;
} Members;

static Members
members_of(const char *group)
{
    GPtrArray *a = g_ptr_array_new();
    Members m;

    for (Replication *r = instances; r; r = r->next) {
        /* One that is being opened or closed cannot be found; it has no count to add to. */
        bool open = node_find(r->node->node_name) == r->node;

        if (open && (!group || g_str_equal(r->group, group))) {
            node_ref(r->node);
            g_ptr_array_add(a, r);
        }
    }
    m.n = a->len;
    m.v = (Replication **)g_ptr_array_free(a, FALSE);
    return m;
}

/* Always in the order of the list, so that two operations never wait for each other. */
static Members coroutine_fn
members_co_lock(const char *group)
{
    Members m = members_of(group);

    for (size_t i = 0; i < m.n; i++) {
        co_mutex_lock(&m.v[i]->operation);
    }
    return m;
}

static void coroutine_fn
members_co_unlock(Members m)
{
    for (size_t i = 0; i < m.n; i++) {
        co_mutex_unlock(&m.v[i]->operation);
        node_co_unref(m.v[i]->node);
    }
    g_free(m.v);
}

/* A named group that nobody is in is a mistake; "all" of none is fine (QMP). */
static bool
members_check_group(Members m, const char *group, GError **errp)
{
    if (group && m.n == 0) {
        return fail(errp, "There is no replication node in group '%s'", group);
    }
    return true;
}

/* What a promoted instance or one in failover does with start and checkpoint. */
static bool
ignores_operations(const Replication *r)
{
    return r->stage == REPLICATION_STAGE_DONE || r->stage == REPLICATION_STAGE_FAILOVER;
}

static BlockNode *
lower_disk(const Replication *r)
{
    if (r->mode == REPLICATION_MODE_PRIMARY) {
        return NULL;
    }
    if (r->cbw) {
        return r->cbw;
    }
    /* Not started: the bottom of the chain, if the chain is as it should be. */
    if (r->node->file && r->node->file->node->backing &&
        r->node->file->node->backing->node->backing) {
        return r->node->file->node->backing->node->backing->node;
    }
    return NULL;
}

typedef struct DrainedNodes {
    BlockNode **v;
    size_t n;
} DrainedNodes;

/* Both sides of every secondary: what its guest does and what its primary sends. */
static DrainedNodes coroutine_fn
members_co_drain(Members m)
{
    DrainedNodes d = {.v = g_new(BlockNode *, 2 * m.n)};

    for (size_t i = 0; i < m.n; i++) {
        BlockNode *lower = lower_disk(m.v[i]);

        /* A promoted one may stand above a new primary filter: no waiting for that one's peer. */
        if (m.v[i]->mode == REPLICATION_MODE_PRIMARY || ignores_operations(m.v[i])) {
            continue;
        }
        d.v[d.n++] = node_ref(m.v[i]->node);
        if (lower) {
            d.v[d.n++] = node_ref(lower);
        }
    }
    for (size_t i = 0; i < d.n; i++) {
        drain_co_begin(d.v[i]);
    }
    return d;
}

static void coroutine_fn
members_co_undrain(DrainedNodes d)
{
    for (size_t i = d.n; i-- > 0;) {
        drain_end(d.v[i]);
        node_co_unref(d.v[i]);
    }
    g_free(d.v);
}

/* --- start --- */

static bool
check_start(Replication *r, ReplicationMode mode, GError **errp)
{
    if (r->stage != REPLICATION_STAGE_NONE) {
        return fail(errp, "Block replication of node '%s' is running or has failed over",
                    r->node->node_name);
    }
    if (r->mode != mode) {
        return fail(errp, "The parameter mode is '%s', but node '%s' is in mode '%s'",
                    replication_mode_str(mode), r->node->node_name,
                    replication_mode_str(r->mode));
    }
    return mode == REPLICATION_MODE_SECONDARY || primary_check_start(r, errp);
}

static bool coroutine_fn
members_co_prepare_start(Members m, ReplicationMode mode, GError **errp)
{
    for (size_t i = 0; i < m.n; i++) {
        if (!ignores_operations(m.v[i]) && !check_start(m.v[i], mode, errp)) {
            return false;
        }
    }
    for (size_t i = 0; i < m.n; i++) {
        if (ignores_operations(m.v[i]) || mode == REPLICATION_MODE_PRIMARY) {
            continue;
        }
        if (!secondary_co_prepare_start(m.v[i], errp)) {
            while (i-- > 0) {
                if (!ignores_operations(m.v[i])) {
                    secondary_co_release(m.v[i]);
                }
            }
            return false;
        }
    }
    return true;
}

bool coroutine_fn
replication_co_start_all(const char *group, ReplicationMode mode, GError **errp)
{
    Members m = members_co_lock(group);
    DrainedNodes d;
    bool ok = members_check_group(m, group, errp);

    if (ok) {
        d = members_co_drain(m);
        ok = members_co_prepare_start(m, mode, errp);
        for (size_t i = 0; ok && i < m.n; i++) {
            if (ignores_operations(m.v[i])) {
                continue;
            }
            if (mode == REPLICATION_MODE_PRIMARY) {
                primary_start(m.v[i]);
            } else {
                secondary_commit_start(m.v[i]);
            }
        }
        members_co_undrain(d);
    }
    members_co_unlock(m);
    return ok;
}

/* --- checkpoint --- */

static bool
check_checkpoint(Replication *r, GError **errp)
{
    return r->mode == REPLICATION_MODE_SECONDARY ? secondary_check_checkpoint(r, errp)
                                                 : primary_check_checkpoint(r, errp);
}

static bool
members_check_checkpoint(Members m, GError **errp)
{
    for (size_t i = 0; i < m.n; i++) {
        if (!ignores_operations(m.v[i]) && !check_checkpoint(m.v[i], errp)) {
            return false;
        }
    }
    return true;
}

static void
commit_checkpoint(Replication *r)
{
    if (r->stage != REPLICATION_STAGE_RUNNING) {
        return;
    }
    r->epoch++;
    if (r->mode == REPLICATION_MODE_SECONDARY) {
        secondary_commit_checkpoint(r);
    }
}

bool coroutine_fn
replication_co_checkpoint_all(const char *group, GError **errp)
{
    Members m = members_co_lock(group);
    bool ok = members_check_group(m, group, errp) && members_check_checkpoint(m, errp);

    if (ok) {
        DrainedNodes d = members_co_drain(m);

        /* While the gates closed a copy may have failed. */
        ok = members_check_checkpoint(m, errp);
        for (size_t i = 0; ok && i < m.n; i++) {
            commit_checkpoint(m.v[i]);
        }
        members_co_undrain(d);
    }
    members_co_unlock(m);
    return ok;
}

/* --- error and stop --- */

bool
replication_get_error_all(const char *group, GError **errp)
{
    for (Replication *r = instances; r; r = r->next) {
        if ((!group || g_str_equal(r->group, group)) && !instance_check_error(r, errp)) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn
instance_co_stop(Replication *r, bool failover, GError **errp)
{
    switch (r->stage) {
    case REPLICATION_STAGE_NONE:
        return fail(errp, "Block replication of node '%s' is not running", r->node->node_name);
    case REPLICATION_STAGE_DONE:
    case REPLICATION_STAGE_FAILOVER:
        return true;
    case REPLICATION_STAGE_FAILOVER_FAILED:
        if (!failover) {
            return fail(errp,
                        "Failover of node '%s' has failed; it can be retried, but the disk's"
                        " content can no longer be given up",
                        r->node->node_name);
        }
        return failover_co_begin(r, errp);
    case REPLICATION_STAGE_RUNNING:
        break;
    default:
        g_assert_not_reached();
    }
    if (r->mode == REPLICATION_MODE_PRIMARY) {
        primary_stop(r);
        return true;
    }
    return failover ? failover_co_begin(r, errp) : secondary_co_stop(r, errp);
}

typedef struct Stop {
    Replication *r;
    bool failover, ok;
    GError *err;
} Stop;

static int coroutine_fn
stop_co_entry(void *opaque)
{
    Stop *s = opaque;

    s->ok = instance_co_stop(s->r, s->failover, &s->err);
    return 0;
}

/* All at once: one whose disk hangs keeps none of the others. The first error is the one told. */
static bool coroutine_fn
members_co_stop(Members m, bool failover, GError **errp)
{
    g_autofree Stop *stops = g_new0(Stop, m.n);
    CoGroup running = {0};
    bool ok = true;

    for (size_t i = 0; i < m.n; i++) {
        stops[i] = (Stop){.r = m.v[i], .failover = failover};
        co_group_spawn(&running, stop_co_entry, &stops[i]);
    }
    (void)co_group_wait(&running); /* each has its own error */
    for (size_t i = 0; i < m.n; i++) {
        if (!stops[i].ok && ok) {
            g_propagate_error(errp, stops[i].err);
        } else {
            g_clear_error(&stops[i].err);
        }
        ok &= stops[i].ok;
    }
    return ok;
}

bool coroutine_fn
replication_co_stop_all(const char *group, bool failover, GError **errp)
{
    Members m = members_co_lock(group);
    bool ok = members_check_group(m, group, errp) && members_co_stop(m, failover, errp);

    members_co_unlock(m);
    return ok;
}

/* --- query --- */

static ReplicationInfo *
instance_info(const Replication *r)
{
    ReplicationInfo *info = g_new0(ReplicationInfo, 1);
    BlockInfoData data;

    info->node_name = g_strdup(r->node->node_name);
    info->group = g_strdup(r->group);
    info->mode = r->mode;
    info->stage = r->stage;
    info->epoch = r->epoch;
    if (r->cbw) {
        node_get_info(r->active, &data);
        info->has_active_bytes = true;
        info->active_bytes = data.scratch_bytes;
        node_get_info(r->hidden, &data);
        info->has_hidden_bytes = true;
        info->hidden_bytes = data.scratch_bytes;
    }
    if (r->latch.err) {
        info->error = g_new0(ReplicationErrorInfo, 1);
        info->error->operation = r->latch.operation;
        info->error->q_errno = r->latch.err;
        info->error->message = g_strdup(g_strerror(r->latch.err));
        info->error->has_offset = r->latch.offset >= 0;
        info->error->offset = r->latch.offset;
        info->error->seconds = r->latch.wall_ns / NS_PER_S;
        info->error->microseconds = r->latch.wall_ns % NS_PER_S / NS_PER_US;
        info->error->missed_bytes = r->latch.missed_bytes;
    }
    if (r->commit) {
        JobProgress p = job_progress(r->commit);

        info->failover = g_new0(ReplicationProgress, 1);
        info->failover->current = p.current;
        info->failover->total = p.total;
    }
    return info;
}

ReplicationInfoArray *
replication_query(void)
{
    ReplicationInfoArray *a = g_new0(ReplicationInfoArray, 1);
    GPtrArray *items = g_ptr_array_new();

    for (Replication *r = instances; r; r = r->next) {
        g_ptr_array_add(items, instance_info(r));
    }
    a->n = items->len;
    a->items = (ReplicationInfo **)g_ptr_array_free(items, FALSE);
    return a;
}
