/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror under a guest that writes, a user who pauses, resumes, cancels or
 * completes, and disks that fail.
 *
 * The guest never notices: it reads what it wrote, from the source or, once the
 * job has been completed, from the copy. A copy that has succeeded is equal.
 * A job that fails changes nothing. States follow each other as QMP says. Who
 * drains either end meets no request there.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/job.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "replworld.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (1 * MiB + 512)

typedef struct World {
    Choices *c;
    Memdisk *from, *to;
    BlockNode *source, *target;
    BlockBackend *guest;
    uint8_t model[LENGTH]; /* one writer at a time in each half */
    Job *job;
    bool ended, completed, may_fail;
    bool quiet;            /* the job was told to end when no guest was at work any more */
    int result;
    unsigned writers, guests;
    char last[32];
} World;

static void
hear(const char *name, json_t *data, void *opaque)
{
    World *w = opaque;

    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        const char *status = json_string_value(json_object_get(data, "status"));

        g_assert_cmpstr(status, !=, w->last);
        g_assert_cmpstr(w->last, !=, "null");
        g_strlcpy(w->last, status, sizeof(w->last));
    }
}

static void coroutine_fn
job_done(int ret, void *opaque)
{
    World *w = opaque;

    w->ended = true;
    w->result = ret;
    w->job = NULL;
}

static void coroutine_fn
world_open(World *w)
{
    MemdiskOptions o = {.length = LENGTH, .jitter_ns = 2 * NS_PER_MS, .seed = 3};
    GError *err = NULL;

    w->from = memdisk_new(&o);
    w->to = memdisk_new(&o);
    choose_bytes(w->c, memdisk_data(w->from), 16);
    memset(memdisk_data(w->from) + LENGTH / 2, 0x77, LENGTH / 4);
    memset(memdisk_data(w->to), 0x99, LENGTH);
    memcpy(w->model, memdisk_data(w->from), LENGTH);
    w->source = memdisk_open(w->from, "source", NULL, NULL);
    w->target = memdisk_open(w->to, "target", NULL, NULL);
    w->guest = backend_new(NULL, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL}, NULL,
                           NULL, NULL);
    backend_co_insert(w->guest, w->source, &err);
    g_assert_no_error(err);
    event_sink_add(hear, w);
}

static void coroutine_fn
world_close(World *w)
{
    event_sink_remove(hear, w);
    backend_co_free(w->guest);
    node_co_unref(w->source);
    node_co_unref(w->target);
    memdisk_free(w->from);
    memdisk_free(w->to);
}

static int coroutine_fn
guest_co_entry(void *opaque)
{
    World *w = opaque;
    int64_t base = w->writers++ * (LENGTH / 2);

    w->guests++;
    for (unsigned n = choose_in(w->c, 0, 8); n > 0; n--) {
        uint8_t buf[20000];
        int64_t offset = base + choose_in(w->c, 0, LENGTH / 2 - 1);
        int64_t bytes = choose_in(w->c, 1, MIN(base + LENGTH / 2 - offset, (int64_t)sizeof(buf)));
        uint8_t value = choose(w->c) ? choose_in(w->c, 1, 255) : 0;

        int r;

        memset(buf, value, bytes);
        r = value ? backend_co_pwrite(w->guest, offset, buf, bytes, 0)
                  : backend_co_pwrite_zeroes(w->guest, offset, bytes, 0);
        if (r == 0) {
            memcpy(w->model + offset, buf, bytes);
        } else { /* the copy is the guest's disk already, and fails on its own account */
            g_assert_true(w->may_fail && backend_node(w->guest) == w->target);
        }
    }
    w->guests--;
    return 0;
}

/* Requests that start at an end while it is drained would be in the log. */
static int coroutine_fn
drain_co_entry(void *opaque)
{
    World *w = opaque;

    while (choose_more(w->c, 2)) {
        bool at_target = choose(w->c);
        BlockNode *node = at_target ? w->target : w->source;
        Memdisk *disk = at_target ? w->to : w->from;

        co_sleep_ns(choose_in(w->c, 0, 8) * NS_PER_MS);
        drain_co_begin(node);
        memdisk_log_clear(disk);
        co_sleep_ns(choose_in(w->c, 0, 5) * NS_PER_MS);
        g_assert_cmpuint(memdisk_log_count(disk, MEMDISK_ALL), ==, 0);
        drain_end(node);
    }
    return 0;
}

/* Verbs at random, as long as the table permits them; at last the job is let go. */
static int coroutine_fn
user_co_entry(void *opaque)
{
    World *w = opaque;

    while (w->job && choose_more(w->c, 6)) {
        switch (choose_in(w->c, 0, 4)) {
        case 0:
            if (job_verb_allowed(w->job, JOB_VERB_PAUSE, NULL)) {
                (void)job_user_pause(w->job, NULL); /* twice is refused */
            }
            break;
        case 1:
            if (job_verb_allowed(w->job, JOB_VERB_RESUME, NULL)) {
                (void)job_user_resume(w->job, NULL); /* of one that runs is refused */
            }
            break;
        case 2:
            if (job_verb_allowed(w->job, JOB_VERB_COMPLETE, NULL)) {
                w->completed = true;
                g_assert_true(job_complete(w->job, NULL));
            }
            break;
        case 3:
            if (choose(w->c) && job_verb_allowed(w->job, JOB_VERB_CANCEL, NULL)) {
                job_cancel(w->job, choose(w->c));
            }
            break;
        default:
            job_set_speed(w->job, choose(w->c) ? 0 : 1 * MiB);
        }
        co_sleep_ns(choose_in(w->c, 0, 5) * NS_PER_MS);
    }
    while (w->job) {
        if (job_is_user_paused(w->job)) {
            g_assert_true(job_user_resume(w->job, NULL));
        }
        if (job_verb_allowed(w->job, JOB_VERB_COMPLETE, NULL)) {
            w->quiet |= w->guests == 0;
            job_cancel(w->job, false);
        }
        co_sleep_ns(NS_PER_MS);
    }
    return 0;
}

static void coroutine_fn
check(World *w)
{
    bool pivoted = backend_node(w->guest) == w->target;
    g_autofree uint8_t *seen = g_malloc(LENGTH);

    g_assert_true(w->ended);
    g_assert_cmpstr(w->last, ==, "null");
    if (w->result == 0) {
        g_assert_true(!pivoted || w->completed);
        if (w->quiet) {
            g_assert_cmpmem(memdisk_data(w->to), LENGTH, w->model, LENGTH);
        }
    } else {
        g_assert_false(pivoted);
        g_assert_true(w->result == -ECANCELED || (w->may_fail && w->result == -EIO));
        g_assert_true(backend_node(w->guest) == w->source);
    }
    memdisk_heal(w->from);
    g_assert_cmpint(backend_co_pread(w->guest, 0, seen, LENGTH), ==, 0);
    g_assert_cmpmem(seen, LENGTH, w->model, LENGTH);
}

static void coroutine_fn
mirror_co_entry(void *opaque)
{
    World *w = opaque;
    JobOptions o = {.id = "m", .done = job_done, .opaque = w};
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_FULL, .write_blocking = choose(w->c),
                       .granularity = choose(w->c) ? 512u << choose_in(w->c, 0, 11) : 0,
                       .on_source_error = BLOCKDEV_ON_ERROR_REPORT,
                       .on_target_error = BLOCKDEV_ON_ERROR_REPORT};
    CoGroup g = {0};
    GError *err = NULL;

    world_open(w);
    w->may_fail = choose(w->c);
    if (w->may_fail) {
        memdisk_fail_nth(choose(w->c) ? w->from : w->to, MEMDISK_READ, choose_in(w->c, 1, 20), EIO);
        memdisk_fail_nth(w->to, MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_FLUSH,
                         choose_in(w->c, 1, 30), EIO);
    }
    co_group_spawn(&g, guest_co_entry, w);
    w->job = mirror_co_start(&o, &m, w->source, w->target, &err);
    g_assert_no_error(err);
    co_group_spawn(&g, guest_co_entry, w);
    co_group_spawn(&g, user_co_entry, w);
    co_group_spawn(&g, drain_co_entry, w);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    check(w);
    world_close(w);
}

static void
prop_mirror(Choices *c)
{
    g_autofree World *w = g_new0(World, 1);

    w->c = c;
    vtest_run(mirror_co_entry, w, choose_in(c, 0, 100));
}

PROPERTY("/mirror/the-guest-never-notices", prop_mirror)
