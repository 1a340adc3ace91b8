/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror and commit under a guest that writes, a user who changes his mind,
 * somebody who drains, and disks that fail.
 *
 * The guest never notices: it reads what it wrote, from the source or, once the
 * job has been completed, from the target. A copy that has succeeded is equal,
 * and survives a power cut. A job that fails changes nothing. States follow each
 * other as QMP says, and errors go by the policy. Who drains either end meets no
 * request there.
 */
#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/job.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH (1 * MiB + 512)
#define JOB    "m"

typedef struct World World;

/* mirror: a disk to another. commit: a chain of three into its middle or its bottom. */
typedef struct Kind {
    void (*coroutine_ptr co_open)(World *w);
    Job *(*coroutine_ptr co_start)(World *w, const JobOptions *o, GError **errp);
    unsigned reads; /* of `from`: what may fail without failing a request of the guest */
} Kind;

struct World {
    const Kind *kind;
    Choices *c;
    Memdisk *from, *mid, *to;
    BlockNode *source, *target;
    BlockBackend *guest;
    uint8_t model[LENGTH]; /* one writer at a time in each half */
    BlockdevOnError policy;
    int fault;             /* errno of the one request that fails; 0: none does */
    bool ended, completed, cancelled;
    bool quiet;            /* the job was told to end when no guest was at work any more */
    int result;
    unsigned writers, guests;
    char last[32];
};

/* --- what is heard --- */

static const char *
action_of(const World *w)
{
    switch (w->policy) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return "ignore";
    case BLOCKDEV_ON_ERROR_STOP:
        return "stop";
    case BLOCKDEV_ON_ERROR_ENOSPC:
        return w->fault == ENOSPC ? "stop" : "report";
    default:
        return "report";
    }
}

static void
hear(const char *name, json_t *data, void *opaque)
{
    World *w = opaque;

    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        const char *status = json_string_value(json_object_get(data, "status"));

        g_assert_cmpstr(status, !=, w->last);
        g_assert_cmpstr(w->last, !=, "null");
        g_strlcpy(w->last, status, sizeof(w->last));
    } else if (strcmp(name, "BLOCK_JOB_ERROR") == 0) {
        g_assert_cmpint(w->fault, !=, 0);
        g_assert_cmpstr(json_string_value(json_object_get(data, "action")), ==, action_of(w));
    }
}

static void coroutine_fn
job_done(int ret, void *opaque)
{
    World *w = opaque;

    w->ended = true;
    w->result = ret;
}

/* --- the world --- */

static BlockNode *coroutine_fn
open_disk(Memdisk *d, const char *name)
{
    GError *err = NULL;
    BlockNode *node = memdisk_open(d, name, &(NodeFlags){.unmap = true}, &err);

    g_assert_no_error(err);
    return node;
}

static Memdisk *
new_disk(uint64_t seed)
{
    return memdisk_new(&(MemdiskOptions){.length = LENGTH, .jitter_ns = 2 * NS_PER_MS,
                                         .seed = seed});
}

static void coroutine_fn
mirror_co_open(World *w)
{
    w->from = new_disk(3);
    w->to = new_disk(4);
    choose_bytes(w->c, memdisk_data(w->from), 16);
    memset(memdisk_data(w->from) + LENGTH / 2, 0x77, LENGTH / 4);
    memset(memdisk_data(w->to), 0x99, LENGTH);
    memcpy(w->model, memdisk_data(w->from), LENGTH);
    w->source = open_disk(w->from, "source");
    w->target = open_disk(w->to, "target");
}

static Job *coroutine_fn
mirror_co_begin(World *w, const JobOptions *o, GError **errp)
{
    MirrorOptions m = {.sync = MIRROR_SYNC_MODE_FULL, .write_blocking = choose(w->c),
                       .granularity = choose(w->c) ? 512u << choose_in(w->c, 0, 11) : 0,
                       .on_source_error = w->policy,
                       .on_target_error = w->policy};

    return mirror_co_start(o, &m, w->source, w->target, errp);
}

static const Kind mirror_kind = {mirror_co_open, mirror_co_begin, MEMDISK_READ};

/* Content that a power cut leaves. */
static void coroutine_fn
fill(BlockNode *node, const uint8_t *data)
{
    BlockBackend *be = user_co_new(NULL, node, PERM_WRITE);

    g_assert_cmpint(backend_co_pwrite(be, 0, data, LENGTH, REQ_FUA), ==, 0);
    backend_co_free(be);
}

static void coroutine_fn
commit_co_open(World *w)
{
    BlockNode *bottom, *mid_file, *top_file;

    w->to = new_disk(5);
    w->mid = world_co_make_overlay("mid-file", LENGTH);
    w->from = world_co_make_overlay("top-file", LENGTH);
    memset(w->model, 0x99, LENGTH);
    bottom = open_disk(w->to, "bottom");
    fill(bottom, w->model);
    mid_file = open_disk(w->mid, "mid-file");
    top_file = open_disk(w->from, "top-file");
    w->source = world_co_open("{\"driver\":\"qcow2\",\"node-name\":\"top\",\"file\":\"top-file\","
                              "\"metadata-policy\":\"%s\",\"backing\":"
                              "{\"driver\":\"qcow2\",\"node-name\":\"mid\",\"file\":\"mid-file\","
                              "\"backing\":\"bottom\"}}",
                              choose(w->c) ? "scratch" : "writeback");
    memdisk_set_jitter(w->mid, 2 * NS_PER_MS);
    memdisk_set_jitter(w->from, 2 * NS_PER_MS);
    w->target = node_ref(choose(w->c) ? node_find("mid") : bottom);
    node_co_unref(top_file);
    node_co_unref(mid_file);
    node_co_unref(bottom);
}

static Job *coroutine_fn
commit_co_begin(World *w, const JobOptions *o, GError **errp)
{
    CommitOptions co = {.on_error = w->policy, .top_is_volatile = choose(w->c)};

    return commit_co_start(o, &co, w->source, w->target, errp);
}

static const Kind commit_kind = {commit_co_open, commit_co_begin, 0};

static void coroutine_fn
world_open(World *w)
{
    w->kind->co_open(w);
    w->guest = user_co_new(NULL, w->source, PERM_CONSISTENT_READ | PERM_WRITE);
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
    memdisk_free(w->mid);
    memdisk_free(w->to);
}

static void
arm_fault(World *w)
{
    static const BlockdevOnError policies[] = {BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_IGNORE,
                                               BLOCKDEV_ON_ERROR_STOP, BLOCKDEV_ON_ERROR_ENOSPC};
    unsigned changes = MEMDISK_WRITE | MEMDISK_ZERO | MEMDISK_FLUSH;

    w->policy = policies[choose_in(w->c, 0, 3)];
    if (!choose(w->c)) {
        return;
    }
    w->fault = choose(w->c) ? EIO : ENOSPC;
    if (w->kind->reads && choose(w->c)) {
        memdisk_fail_nth(w->from, w->kind->reads, choose_in(w->c, 1, 20), w->fault);
    } else {
        memdisk_fail_nth(w->to, changes, choose_in(w->c, 1, 30), w->fault);
    }
}

/* --- everybody --- */

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
                  : backend_co_pwrite_zeroes(w->guest, offset, bytes,
                                             choose(w->c) ? REQ_MAY_UNMAP : 0);
        if (r == 0) {
            memcpy(w->model + offset, buf, bytes);
        } else { /* the copy is the guest's disk already, and fails on its own account */
            g_assert_true(w->fault && backend_node(w->guest) == w->target);
        }
        if (choose(w->c)) {
            r = backend_co_flush(w->guest);
            /* Of a volatile top it finishes the merge, or ends with it. */
            g_assert_true(r == 0 || w->fault || (w->cancelled && r == -EIO));
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

/* The job, if it may be told @verb now. */
static Job *
job_for(JobVerb verb)
{
    Job *job = job_find(JOB);

    return job && job_verb_allowed(job, verb, NULL) ? job : NULL;
}

/* One that an error has stopped says so, and is resumed when its disks are well. */
static void
resume(World *w, Job *job)
{
    BlockJobInfoArray *a = job_query_block();

    if (a->n == 1 && a->items[0]->io_status != BLOCK_DEVICE_IO_STATUS_OK) {
        g_assert_cmpstr(action_of(w), ==, "stop");
        g_assert_true((a->items[0]->io_status == BLOCK_DEVICE_IO_STATUS_NOSPACE) ==
                      (w->fault == ENOSPC));
    }
    block_job_info_array_free(a);
    (void)job_user_resume(job, NULL); /* of one that runs it is refused */
}

/* Verbs at random, as long as the table permits them. */
static void
any_verb(World *w)
{
    Job *job;

    switch (choose_in(w->c, 0, 4)) {
    case 0:
        if ((job = job_for(JOB_VERB_PAUSE))) {
            (void)job_user_pause(job, NULL); /* twice is refused */
        }
        break;
    case 1:
        if ((job = job_for(JOB_VERB_RESUME))) {
            resume(w, job);
        }
        break;
    case 2:
        if ((job = job_for(JOB_VERB_COMPLETE))) {
            w->completed = true;
            w->quiet |= w->guests == 0;
            g_assert_true(job_complete(job, NULL));
        }
        break;
    case 3:
        if (choose(w->c) && (job = job_for(JOB_VERB_CANCEL))) {
            w->cancelled = true;
            job_cancel(job, choose(w->c));
        }
        break;
    default:
        if ((job = job_for(JOB_VERB_SET_SPEED))) {
            job_set_speed(job, choose(w->c) ? 0 : 1 * MiB);
        }
    }
}

/* At last the job is let go. */
static void
let_go(World *w)
{
    Job *job;

    if ((job = job_for(JOB_VERB_RESUME)) && job_is_user_paused(job)) {
        resume(w, job);
    }
    if ((job = job_for(JOB_VERB_COMPLETE))) {
        w->quiet |= w->guests == 0;
        job_cancel(job, false);
    }
    if ((job = job_for(JOB_VERB_FINALIZE))) {
        job_finalize(job);
    }
    if ((job = job_for(JOB_VERB_DISMISS))) {
        job_dismiss(job);
    }
}

static int coroutine_fn
user_co_entry(void *opaque)
{
    World *w = opaque;

    while (job_find(JOB) && choose_more(w->c, 6)) {
        any_verb(w);
        co_sleep_ns(choose_in(w->c, 0, 5) * NS_PER_MS);
    }
    while (job_find(JOB)) {
        let_go(w);
        co_sleep_ns(NS_PER_MS);
    }
    return 0;
}

/* --- what must hold in the end --- */

static void coroutine_fn
check_disk(BlockBackend *be, const uint8_t *model)
{
    g_autofree uint8_t *seen = g_malloc(LENGTH);

    g_assert_cmpint(backend_co_pread(be, 0, seen, LENGTH), ==, 0);
    g_assert_cmpmem(seen, LENGTH, model, LENGTH);
}

static void coroutine_fn
check_copy(World *w)
{
    BlockBackend *be = user_co_new(NULL, w->target, PERM_CONSISTENT_READ);

    check_disk(be, w->model);
    backend_co_free(be);
    if (!node_backing(w->target)) { /* the disk itself */
        memdisk_crash(w->to, w->c);
        g_assert_cmpmem(memdisk_data(w->to), LENGTH, w->model, LENGTH);
    }
}

static void coroutine_fn
check(World *w)
{
    bool pivoted = backend_node(w->guest) == w->target;

    g_assert_true(w->ended);
    g_assert_cmpstr(w->last, ==, "null");
    memdisk_heal(w->from);
    memdisk_heal(w->to);
    check_disk(w->guest, w->model);
    if (w->result == 0) {
        g_assert_true(!pivoted || w->completed);
        if (w->quiet) {
            check_copy(w);
        }
        return;
    }
    g_assert_true(backend_node(w->guest) == w->source);
    g_assert_true(w->result == -ECANCELED ||
                  (w->result == -w->fault && strcmp(action_of(w), "report") == 0));
}

static void coroutine_fn
job_co_entry(void *opaque)
{
    World *w = opaque;
    JobOptions o = {.id = JOB, .done = job_done, .opaque = w,
                    .manual_finalize = choose_in(w->c, 0, 3) == 3,
                    .manual_dismiss = choose_in(w->c, 0, 3) == 3};
    CoGroup g = {0};
    GError *err = NULL;

    world_open(w);
    for (unsigned n = choose_in(w->c, 0, 1); n > 0; n--) {
        guest_co_entry(w); /* so that a commit has something to do */
        w->writers--;
    }
    arm_fault(w);
    co_group_spawn(&g, guest_co_entry, w);
    if (!w->kind->co_start(w, &o, &err)) {
        g_assert_no_error(err);
    }
    co_group_spawn(&g, guest_co_entry, w);
    co_group_spawn(&g, user_co_entry, w);
    co_group_spawn(&g, drain_co_entry, w);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    check(w);
    world_close(w);
}

static void
run(const Kind *kind, Choices *c)
{
    g_autofree World *w = g_new0(World, 1);

    w->kind = kind;
    w->c = c;
    vtest_run(job_co_entry, w, choose_in(c, 0, 100));
}

static void
prop_mirror(Choices *c)
{
    run(&mirror_kind, c);
}

static void
prop_commit(Choices *c)
{
    run(&commit_kind, c);
}

PROPERTY("/mirror/the-guest-never-notices", prop_mirror)
PROPERTY("/commit/the-guest-never-notices", prop_commit)
