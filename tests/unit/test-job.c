/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of jobs: every verb in every state answers as QMP says, and jobs
 * that change the graph do it or leave it as it was.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/drivers.h"
#include "block/jobs/job-int.h"
#include "block/jobs/job-verb.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "qcow2-disk.h"
#include "replworld.h"
#include "user.h"
#include "vtest.h"

/* --- states and verbs, as documented --- */

static const char *const permitted_in[JOB_VERB__MAX] = {
    [JOB_VERB_CANCEL] = "created running paused ready standby waiting pending",
    [JOB_VERB_PAUSE] = "created running paused ready standby",
    [JOB_VERB_RESUME] = "created running paused ready standby",
    [JOB_VERB_SET_SPEED] = "created running paused ready standby",
    [JOB_VERB_CHANGE] = "created running paused ready standby",
    [JOB_VERB_COMPLETE] = "ready standby",
    [JOB_VERB_FINALIZE] = "pending",
    [JOB_VERB_DISMISS] = "concluded",
};

static bool
is_permitted(JobVerb verb, const char *status)
{
    g_auto(GStrv) states = g_strsplit(permitted_in[verb], " ", -1);

    return g_strv_contains((const char *const *)states, status);
}

static void
check_verbs(const Job *job)
{
    const char *status = job_status_str(job->status);

    for (JobVerb v = 0; v < JOB_VERB__MAX; v++) {
        g_autofree char *words = g_strdup_printf(
            "Job 'j' in state '%s' cannot accept command verb '%s'", status, job_verb_str(v));
        g_autoptr(GError) err = NULL;

        g_assert_true(job_verb_allowed(job, v, &err) == is_permitted(v, status));
        g_assert_true(!err == is_permitted(v, status));
        g_assert_true(!err || g_str_equal(err->message, words));
    }
}

/* --- a job that goes where the test wants it --- */

typedef struct Plan {
    bool ready, aborting; /* hold it there; neither: in running */
} Plan;

typedef struct Toy {
    Plan plan;
    bool go, completed, soft;
} Toy;

typedef struct Heard {
    GString *states;
    GString *events;
} Heard;

static void coroutine_fn
toy_wait(Job *job)
{
    Toy *t = job->state;

    while (!t->go && !t->completed && !t->soft && !job_is_cancelled(job)) {
        job_co_pause_point(job);
        if (!t->go && !t->completed && !t->soft) {
            job_co_sleep(job, INT64_MAX);
        }
    }
    job_co_pause_point(job);
}

static int coroutine_fn
toy_co_run(Job *job)
{
    Toy *t = job->state;

    if (t->plan.aborting) {
        return -EIO;
    }
    if (t->plan.ready) {
        job_ready(job);
    }
    toy_wait(job);
    return job_is_cancelled(job) ? -ECANCELED : 0;
}

static int coroutine_fn
toy_co_finish(Job *job, int ret)
{
    Toy *t = job->state;

    while (t->plan.aborting && !t->go) {
        co_sleep_ns(NS_PER_MS);
    }
    return ret;
}

static bool
toy_complete(Job *job, GError **errp)
{
    (void)errp;
    ((Toy *)job->state)->completed = true;
    return true;
}

static bool
toy_soft_cancel(Job *job)
{
    ((Toy *)job->state)->soft = true;
    return true;
}

static const JobDriver toy_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(Toy),
    .co_run = toy_co_run,
    .co_finish = toy_co_finish,
    .complete = toy_complete,
    .soft_cancel = toy_soft_cancel,
};

static void
hear(const char *name, json_t *data, void *opaque)
{
    Heard *h = opaque;

    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        check_verbs(job_find("j")); /* also the states in which nothing waits */
        g_string_append_printf(h->states, " %s",
                               json_string_value(json_object_get(data, "status")));
    } else {
        g_string_append_printf(h->events, " %s", name);
    }
}

/* --- what each verb does in each state that lasts --- */

typedef struct Row {
    const char *state;       /* where it is held */
    const char *verb;        /* "soft" is cancel, not forced */
    const char *states;      /* that follow */
    const char *error;       /* or its words */
} Row;

#define ENDS    " waiting pending concluded null"
#define CANCELS " aborting concluded null"

static const Row rows[] = {
    {"created", "cancel", " running" CANCELS, NULL},
    {"created", "pause", " running paused", NULL},
    {"created", "resume", "", "not paused"},
    {"running", "cancel", CANCELS, NULL},
    {"running", "soft", CANCELS, NULL},
    {"running", "pause", " paused", NULL},
    {"running", "resume", "", "not paused"},
    {"running", "set-speed", "", NULL},
    {"running", "change", "", "does not support change"},
    {"paused", "cancel", " running" CANCELS, NULL},
    {"paused", "pause", "", "already paused"},
    {"paused", "resume", " running", NULL},
    {"paused", "set-speed", "", NULL},
    {"paused", "change", "", "does not support change"},
    {"ready", "cancel", CANCELS, NULL},
    {"ready", "soft", ENDS, NULL},
    {"ready", "pause", " standby", NULL},
    {"ready", "resume", "", "not paused"},
    {"ready", "set-speed", "", NULL},
    {"ready", "change", "", "does not support change"},
    {"ready", "complete", ENDS, NULL},
    {"standby", "cancel", " ready" CANCELS, NULL},
    {"standby", "pause", "", "already paused"},
    {"standby", "resume", " ready", NULL},
    {"standby", "set-speed", "", NULL},
    {"standby", "change", "", "does not support change"},
    {"standby", "complete", "", NULL}, /* when it is resumed */
    {"pending", "cancel", CANCELS, NULL},
    {"pending", "finalize", " concluded null", NULL},
    {"concluded", "dismiss", " null", NULL},
};

static Job *coroutine_fn
job_in_state(const char *state)
{
    JobOptions o = {.id = "j", .manual_finalize = g_str_equal(state, "pending"),
                    .manual_dismiss = g_str_equal(state, "concluded")};
    Job *job = job_new(&toy_driver, &o, NULL);
    Toy *t = job->state;

    t->plan.ready = g_str_equal(state, "ready") || g_str_equal(state, "standby");
    t->go = g_str_equal(state, "pending") || g_str_equal(state, "concluded");
    if (!g_str_equal(state, "created")) {
        job_start(job);
        co_sleep_ns(NS_PER_MS);
        if (g_str_equal(state, "paused") || g_str_equal(state, "standby")) {
            g_assert_true(job_user_pause(job, NULL));
            co_sleep_ns(NS_PER_MS);
        }
    }
    g_assert_cmpstr(job_status_str(job->status), ==, state);
    return job;
}

static bool
apply(Job *job, const char *verb, GError **errp)
{
    if (g_str_equal(verb, "cancel") || g_str_equal(verb, "soft")) {
        return job_cancel(job, g_str_equal(verb, "cancel")), true;
    }
    if (g_str_equal(verb, "pause")) {
        return job_user_pause(job, errp);
    }
    if (g_str_equal(verb, "resume")) {
        return job_user_resume(job, errp);
    }
    if (g_str_equal(verb, "set-speed")) {
        return job_set_speed(job, 4096), job->speed_bytes_per_s == 4096;
    }
    if (g_str_equal(verb, "change")) {
        return job_change(job, &(BlockJobChangeOptions){.id = (char *)"j"}, errp);
    }
    if (g_str_equal(verb, "complete")) {
        return job_complete(job, errp);
    }
    if (g_str_equal(verb, "finalize")) {
        return job_finalize(job), true;
    }
    g_assert_cmpstr(verb, ==, "dismiss");
    return job_dismiss(job), true;
}

static void coroutine_fn
check_row(const Row *row, Heard *h)
{
    Job *job = job_in_state(row->state);
    g_autoptr(GError) err = NULL;

    g_string_truncate(h->states, 0);
    g_assert_true(apply(job, row->verb, &err) == !row->error);
    if (row->error) {
        g_assert_nonnull(strstr(err->message, row->error));
    }
    if (g_str_equal(row->state, "created") && !row->error) {
        job_start(job);
    }
    co_sleep_ns(NS_PER_MS);
    if (!g_str_equal(h->states->str, row->states)) {
        g_error("%s in %s: then%s, not%s", row->verb, row->state, h->states->str, row->states);
    }
    if (job_find("j") && job->status == JOB_STATUS_CREATED) {
        job_start(job);
    }
    if (job_find("j")) {
        job_co_cancel(job);
    }
    g_assert_null(job_find("j"));
}

static void coroutine_fn
test_verbs(void)
{
    Heard h = {g_string_new(NULL), g_string_new(NULL)};

    event_sink_add(hear, &h);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        check_row(&rows[i], &h);
    }
    event_sink_remove(hear, &h);
    g_string_free(h.states, TRUE);
    g_string_free(h.events, TRUE);
}

/* Each permitted verb of each state that lasts has a row above. */
static void
test_rows_are_complete(void)
{
    static const char *const lasting[] = {"running", "paused", "ready", "standby", "pending",
                                          "concluded"};

    for (JobVerb v = 0; v < JOB_VERB__MAX; v++) {
        for (size_t i = 0; i < G_N_ELEMENTS(lasting); i++) {
            bool found = false;

            for (size_t k = 0; k < G_N_ELEMENTS(rows); k++) {
                found |= g_str_equal(rows[k].state, lasting[i]) &&
                         g_str_equal(rows[k].verb, job_verb_str(v));
            }
            if (!found && is_permitted(v, lasting[i])) {
                g_error("no row for %s in %s", job_verb_str(v), lasting[i]);
            }
        }
    }
}

static void coroutine_fn
test_abort_refuses_verbs(void)
{
    Heard h = {g_string_new(NULL), g_string_new(NULL)};
    JobOptions o = {.id = "j"};
    Job *job;
    Toy *t;

    event_sink_add(hear, &h);
    job = job_new(&toy_driver, &o, NULL);
    t = job->state;
    t->plan.aborting = true;
    job_start(job);
    co_sleep_ns(NS_PER_MS);
    g_assert_cmpstr(job_status_str(job->status), ==, "aborting");
    check_verbs(job);
    t->go = true;
    co_sleep_ns(2 * NS_PER_MS);
    g_assert_null(job_find("j"));
    g_assert_cmpstr(h.states->str, ==, " created running aborting concluded null");
    g_assert_cmpstr(h.events->str, ==, " BLOCK_JOB_COMPLETED");
    event_sink_remove(hear, &h);
    g_string_free(h.states, TRUE);
    g_string_free(h.events, TRUE);
}

/* --- the switch to the target --- */

typedef struct Switch {
    Memdisk *from, *to;
    BlockNode *source, *target;
    BlockBackend *guest;
    bool ended;
    int result;
} Switch;

#define LENGTH (1 * MiB)

static BlockBackend *coroutine_fn
make_user(BlockNode *node, Perm taken, Perm shared)
{
    BlockBackend *be = backend_new(NULL, (PermPair){taken, shared}, NULL, NULL, NULL);
    GError *err = NULL;

    backend_co_insert(be, node, &err);
    g_assert_no_error(err);
    return be;
}

static void coroutine_fn
switch_done(int ret, void *opaque)
{
    Switch *s = opaque;

    s->ended = true;
    s->result = ret;
}

static void coroutine_fn
mirror_and_complete(Switch *s, MirrorSyncMode sync)
{
    JobOptions o = {.id = "m", .done = switch_done, .opaque = s};
    MirrorOptions m = {.sync = sync};
    GError *err = NULL;
    Job *job = mirror_co_start(&o, &m, s->source, s->target, &err);

    g_assert_no_error(err);
    while (!job_verb_allowed(job, JOB_VERB_COMPLETE, NULL)) {
        co_sleep_ns(NS_PER_MS);
    }
    g_assert_true(job_complete(job, NULL));
    while (!s->ended) {
        co_sleep_ns(NS_PER_MS);
    }
    co_sleep_ns(NS_PER_MS);
    g_assert_null(job_find("m"));
}

static void coroutine_fn
switch_open(Switch *s, PermPair guest)
{
    s->from = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    memset(memdisk_data(s->from), 0x55, LENGTH);
    s->source = memdisk_open(s->from, "source", NULL, NULL);
    s->guest = make_user(s->source, guest.taken, guest.shared);
}

static void coroutine_fn
switch_close(Switch *s)
{
    backend_co_free(s->guest);
    node_co_unref(s->source);
    node_co_unref(s->target);
    memdisk_free(s->from);
    memdisk_free(s->to);
}

/* A guest that wants to be the only writer. */
static void coroutine_fn
test_switch_exclusive_guest(void)
{
    Switch s = {0};

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE,
                               PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED});
    s.to = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    s.target = memdisk_open(s.to, "target", NULL, NULL);
    mirror_and_complete(&s, MIRROR_SYNC_MODE_FULL);
    g_assert_cmpint(s.result, ==, 0);
    g_assert_true(backend_node(s.guest) == s.target);
    world_co_check_range(s.guest, 0, LENGTH, 0x55);
    switch_close(&s);
}

/* Somebody on the target does not let the guest do what it does: the job fails, all stays. */
static void coroutine_fn
test_switch_refused(void)
{
    BlockBackend *other;
    Switch s = {0};

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE | PERM_WRITE_UNCHANGED, PERM_ALL});
    s.to = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    s.target = memdisk_open(s.to, "target", NULL, NULL);
    other = make_user(s.target, 0, PERM_ALL & ~PERM_WRITE_UNCHANGED);
    mirror_and_complete(&s, MIRROR_SYNC_MODE_FULL);
    g_assert_cmpint(s.result, ==, -EPERM);
    g_assert_true(backend_node(s.guest) == s.source);
    world_co_check_range(s.guest, 0, LENGTH, 0x55);
    backend_co_free(other);
    switch_close(&s);
}

/* An overlay of the source as the target: its backing link must not run through the job. */
static void coroutine_fn
test_switch_to_overlay(void)
{
    uint8_t byte = 0x66;
    BlockNode *file;
    Switch s = {0};

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL});
    s.to = world_co_make_overlay("target-file", LENGTH);
    file = memdisk_open(s.to, "target-file", NULL, NULL);
    s.target = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"target\","
                             "\"file\":\"target-file\",\"backing\":\"source\"}");
    node_co_unref(file);
    mirror_and_complete(&s, MIRROR_SYNC_MODE_NONE);
    g_assert_cmpint(s.result, ==, 0);
    g_assert_true(backend_node(s.guest) == s.target);
    g_assert_true(node_backing(s.target) == s.source);
    world_co_check_range(s.guest, 0, LENGTH, 0x55);
    g_assert_cmpint(backend_co_pwrite(s.guest, 0, &byte, 1, 0), ==, 0);
    world_co_check_range(s.guest, 0, 1, 0x66);
    g_assert_cmphex(memdisk_data(s.from)[0], ==, 0x55);
    switch_close(&s);
}

/* --- starts that are refused --- */

static void coroutine_fn
start_fails(Switch *s, const char *words)
{
    JobOptions o = {.id = "second"};
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_FULL};
    GError *err = NULL;

    g_assert_null(mirror_co_start(&o, &m, s->source, s->target, &err));
    g_assert_nonnull(strstr(err->message, words));
    g_clear_error(&err);
    g_assert_null(backup_none_co_start(&o, s->source, s->target, NULL, &err));
    g_assert_nonnull(strstr(err->message, words));
    g_clear_error(&err);
    g_assert_null(job_find("second"));
}

/* One job at a time on a node, from its very start. */
static void coroutine_fn
test_busy(void)
{
    JobOptions o = {.id = "m"};
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_FULL};
    Switch s = {0};
    Job *job;

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL});
    s.to = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    s.target = memdisk_open(s.to, "target", NULL, NULL);
    job = mirror_co_start(&o, &m, s.source, s.target, NULL);
    start_fails(&s, "in use by block job: mirror");
    job_co_cancel(job);
    co_sleep_ns(NS_PER_MS);
    mirror_and_complete(&s, MIRROR_SYNC_MODE_FULL);
    g_assert_cmpint(s.result, ==, 0);
    switch_close(&s);
}

/* The base of a commit that does not start is as read-only as it was. */
static void coroutine_fn
test_commit_does_not_start(void)
{
    CommitOptions c = {.filter_name = "no name!", .on_error = BLOCKDEV_ON_ERROR_REPORT};
    JobOptions o = {.id = "c"};
    BlockNode *file, *base;
    Switch s = {0};
    GError *err = NULL;

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ, PERM_ALL});
    backend_co_free(s.guest);
    base = world_co_open("{\"driver\":\"raw\",\"node-name\":\"base\",\"read-only\":true,"
                         "\"file\":\"source\"}");
    s.to = world_co_make_overlay("top-file", LENGTH);
    file = memdisk_open(s.to, "top-file", NULL, NULL);
    s.target = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"top\","
                             "\"file\":\"top-file\",\"backing\":\"base\"}");
    s.guest = make_user(s.target, PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL);
    node_co_unref(file);
    g_assert_null(commit_co_start(&o, &c, s.target, base, &err));
    g_assert_nonnull(strstr(err->message, "no name!"));
    g_clear_error(&err);
    g_assert_true(node_is_read_only(base));
    g_assert_null(job_find("c"));
    g_assert_true(backend_node(s.guest) == s.target);
    node_co_unref(base);
    switch_close(&s);
}

/* --- ends that meet --- */

static void coroutine_fn
slow_done(int ret, void *opaque)
{
    (void)ret;
    co_sleep_ns(5 * NS_PER_MS);
    *(bool *)opaque = true;
}

/* The user forgets a job while its owner is still being told of its end. */
static void coroutine_fn
test_dismiss_while_told(void)
{
    bool done = false;
    JobOptions o = {.id = "j", .done = slow_done, .opaque = &done};
    Job *job = job_new(&toy_driver, &o, NULL);

    ((Toy *)job->state)->go = true;
    job_start(job);
    co_sleep_ns(NS_PER_MS);
    g_assert_true(job_verb_allowed(job, JOB_VERB_DISMISS, NULL));
    job_dismiss(job);
    g_assert_null(job_find("j"));
    g_assert_false(done);
    co_sleep_ns(10 * NS_PER_MS);
    g_assert_true(done);
}

/* The program ends while a job is at its end. */
static void coroutine_fn
test_cancel_while_it_ends(void)
{
    Switch s = {0};
    JobOptions o = {.id = "m", .done = slow_done, .opaque = &s.ended};
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_NONE};
    Job *job;

    switch_open(&s, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL});
    s.to = memdisk_new(&(MemdiskOptions){.length = LENGTH});
    s.target = memdisk_open(s.to, "target", NULL, NULL);
    job = mirror_co_start(&o, &m, s.source, s.target, NULL);
    node_co_unref(s.target); /* the job's alone */
    s.target = NULL;
    co_sleep_ns(NS_PER_MS);
    job_cancel(job, false);
    co_sleep_ns(NS_PER_MS);
    g_assert_null(node_find("target"));
    job_co_cancel_all();
    g_assert_true(s.ended);
    switch_close(&s);
}

VTEST("/job/verbs", test_verbs)
TEST("/job/rows-are-complete", test_rows_are_complete)
VTEST("/job/abort-refuses-verbs", test_abort_refuses_verbs)
VTEST("/job/switch/exclusive-guest", test_switch_exclusive_guest)
VTEST("/job/switch/refused", test_switch_refused)
VTEST("/job/start/busy", test_busy)
VTEST("/job/start/commit-does-not-start", test_commit_does_not_start)
VTEST("/job/end/dismiss-while-told", test_dismiss_while_told)
VTEST("/job/end/cancel-while-it-ends", test_cancel_while_it_ends)
VTEST("/job/switch/to-overlay", test_switch_to_overlay)

/* --- a flush that outlives its job --- */

#define FIND_LENGTH (1 * MiB) /* of small clusters: many tables to read */

static int coroutine_fn
flush_guest(void *opaque)
{
    return backend_co_flush(opaque);
}

static void coroutine_fn
note_result(int ret, void *opaque)
{
    *(int *)opaque = ret;
}

/*
 * The job ends because it cannot find what is dirty while a guest's flush is
 * looking, too: a flush through the filter is no success then.
 */
static void coroutine_fn
flush_while_finding(int failing)
{
    BlockdevCreateOptionsQcow2 small = {.size = FIND_LENGTH, .has_cluster_size = true,
                                        .cluster_size = 512};
    CommitOptions co = {.auto_complete = true, .top_is_volatile = true,
                        .on_error = BLOCKDEV_ON_ERROR_REPORT};
    Memdisk *from = memdisk_new(&(MemdiskOptions){0});
    Memdisk *to = memdisk_new(&(MemdiskOptions){.length = FIND_LENGTH});
    g_autofree uint8_t *data = g_malloc0(FIND_LENGTH);
    BlockNode *file, *bottom, *top;
    GError *err = NULL;
    BlockBackend *guest;
    CoGroup flushes = {0};
    int result = 1;
    JobOptions o = {.done = note_result, .opaque = &result};

    drivers_register();
    qcow2_disk_create(from, small);
    file = memdisk_open(from, "top-file", &(NodeFlags){0}, &err);
    bottom = memdisk_open(to, "bottom", &(NodeFlags){0}, &err);
    for (int round = 0; round < 2; round++) { /* the second time with nothing in memory */
        top = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"top\",\"file\":\"top-file\","
                            "\"backing\":\"bottom\"}");
        guest = user_co_new(NULL, top, PERM_WRITE);
        if (round == 0) {
            memset(data, 0x3c, FIND_LENGTH);
            g_assert_cmpint(backend_co_pwrite(guest, 0, data, FIND_LENGTH, REQ_FUA), ==, 0);
            backend_co_free(guest);
            node_co_unref(top);
        }
    }
    memdisk_set_jitter(from, 2 * NS_PER_MS);
    memdisk_fail_nth(from, MEMDISK_READ, failing, EIO);
    g_assert_nonnull(commit_co_start(&o, &co, top, bottom, &err));
    co_group_spawn(&flushes, flush_guest, guest);
    if (co_group_wait(&flushes) == 0) {
        g_assert_cmpmem(memdisk_data(to), FIND_LENGTH, data, FIND_LENGTH);
    }
    while (result == 1) {
        co_sleep_ns(NS_PER_MS);
    }
    backend_co_free(guest);
    node_co_unref(top);
    node_co_unref(bottom);
    node_co_unref(file);
    memdisk_free(from);
    memdisk_free(to);
}

static void coroutine_fn
test_flush_outlives_job(void)
{
    for (int failing = 1; failing < 34; failing++) {
        flush_while_finding(failing);
    }
}
VTEST("/job/flush-outlives-its-job", test_flush_outlives_job)

/* --- a merge of what does not survive --- */

#define MERGED      (96 * MiB)
#define MOST_AHEAD  (64 * MiB) /* twice the piece after which a flush begins, for it takes time */

/* It is written back on the way, not all of it in one flush at the end. */
static void coroutine_fn
test_merge_flushes_as_it_goes(void)
{
    CommitOptions co = {.auto_complete = true, .top_is_volatile = true,
                        .on_error = BLOCKDEV_ON_ERROR_REPORT};
    Memdisk *from = memdisk_new(&(MemdiskOptions){0});
    Memdisk *to = memdisk_new(&(MemdiskOptions){.length = MERGED});
    g_autofree uint8_t *data = g_malloc(MERGED);
    BlockNode *file, *bottom, *top;
    BlockBackend *guest;
    const MemdiskEntry *log;
    int64_t ahead = 0;
    GError *err = NULL;
    size_t n;
    int result = 1;
    JobOptions o = {.done = note_result, .opaque = &result};

    memset(data, 0x5a, MERGED);
    drivers_register();
    qcow2_disk_create(from, (BlockdevCreateOptionsQcow2){.size = MERGED});
    file = memdisk_open(from, "top-file", &(NodeFlags){0}, &err);
    bottom = memdisk_open(to, "bottom", &(NodeFlags){0}, &err);
    top = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"top\",\"file\":\"top-file\","
                        "\"backing\":\"bottom\"}");
    guest = make_user(top, PERM_WRITE, PERM_ALL);
    g_assert_cmpint(backend_co_pwrite(guest, 0, data, MERGED, 0), ==, 0);
    g_assert_nonnull(commit_co_start(&o, &co, top, bottom, &err));
    while (result == 1) {
        co_sleep_ns(NS_PER_MS);
    }
    g_assert_cmpint(result, ==, 0);
    log = memdisk_log(to, &n);
    for (size_t i = 0; i < n; i++) {
        ahead = log[i].kind == MEMDISK_FLUSH ? 0 : ahead + log[i].bytes;
        g_assert_cmpint(ahead, <=, MOST_AHEAD);
    }
    g_assert_cmpmem(memdisk_data(to), MERGED, data, MERGED);
    backend_co_free(guest);
    node_co_unref(top);
    node_co_unref(bottom);
    node_co_unref(file);
    memdisk_free(from);
    memdisk_free(to);
}
VTEST("/job/merge/flushes-as-it-goes", test_merge_flushes_as_it_goes)
