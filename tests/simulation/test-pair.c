/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replication from end to end: guests on both hosts write, links break and
 * stall, disks fail, and whatever happens
 *
 *  R1 the secondary reads as its last checkpoint and its own writes since;
 *  R2 a checkpoint makes that the primary's disk of the moment, on all disks of
 *     the group or on none;
 *  R3 failover keeps R1 through any fault and ends with it on the disk;
 *  R4 a dead link never fails a request of the primary's guest, and is told;
 *  R5 what is told is what is.
 */
#include <errno.h>
#include <string.h>

#include "block/job.h"
#include "pair.h"
#include "vtest.h"

#define SETTLE_NS (1 * NS_PER_S) /* what is still on its way has arrived or failed */

typedef struct Run {
    Pair *p;
    Choices *c;
    Memdisk *faulty;   /* armed to fail in this round */
    bool stopped_p;    /* the primary side is not running any more */
    bool discards;     /* guests discard, too: each end may do that or leave it */
} Run;

/* --- guests --- */

typedef struct Guest {
    Run *run;
    PairDisk *disk;
    Side *side;
    unsigned ops;
} Guest;

static bool
may_fail(const Guest *g)
{
    const ReplWorld *w = g->side->world;
    Memdisk *f = g->run->faulty;

    return f && (f == g->side->local || (w && (f == w->active || f == w->hidden)));
}

typedef struct Range {
    int64_t offset, bytes;
} Range;

static Range
choose_range(Run *run)
{
    int64_t unit = choose(run->c) ? 1 : choose(run->c) ? 512 : 4096;
    int64_t units = run->p->length / unit;
    int64_t at = choose_in(run->c, 0, units - 1);
    int64_t n = choose_in(run->c, 1, MIN(units - at, MAX(24 * KiB / unit, 1)));

    return (Range){at * unit, n * unit};
}

static void
guest_failed(const Guest *g, int r)
{
    if (!may_fail(g)) {
        g_error("a request of the guest of disk %u failed: %s", g->disk->index, g_strerror(-r));
    }
}

static void coroutine_fn
guest_read(Guest *g, Range at)
{
    uint64_t began = history_now(g->side->history);
    uint8_t *buf = g_malloc(at.bytes);
    int r = backend_co_pread(g->side->guest, at.offset, buf, at.bytes);

    if (r == 0) {
        history_check(g->side->history, began, at.offset, buf, at.bytes);
    } else {
        guest_failed(g, r);
    }
    g_free(buf);
}

static int coroutine_fn
do_write(BlockBackend *be, Range at, uint8_t value, ReqFlags flags)
{
    uint8_t *buf = g_malloc(at.bytes);
    int r;

    memset(buf, value, at.bytes);
    r = backend_co_pwrite(be, at.offset, buf, at.bytes, flags);
    g_free(buf);
    return r;
}

static void coroutine_fn
guest_change(Guest *g, Range at, size_t kind)
{
    uint8_t value = kind == 0 ? choose_in(g->run->c, 1, 255) : 0;
    HistoryOp *op = history_begin(g->side->history, at.offset, at.bytes, value);
    BlockBackend *be = g->side->guest;
    bool primary = g->side == &g->disk->a;
    int r;

    if (kind == 0) {
        r = do_write(be, at, value, choose(g->run->c) ? REQ_FUA : 0);
    } else if (kind == 1) {
        r = backend_co_pwrite_zeroes(be, at.offset, at.bytes,
                                     choose(g->run->c) ? REQ_MAY_UNMAP : 0);
    } else {
        r = backend_co_pdiscard(be, at.offset, at.bytes);
    }
    history_end(g->side->history, op, r == 0 && kind != 2);
    if (r < 0) {
        guest_failed(g, r);
    }
    /* Both ends may differ now where the guest may not rely on the content. */
    g->disk->tainted |= primary && (r < 0 || kind == 2);
}

static void coroutine_fn
guest_flush(Guest *g)
{
    int r = backend_co_flush(g->side->guest);

    if (r < 0) {
        guest_failed(g, r);
    }
}

static int coroutine_fn
guest_co_entry(void *opaque)
{
    static const unsigned weights[] = {8, 2, 2, 4, 1};
    Guest *g = opaque;

    for (; g->ops > 0; g->ops--) {
        size_t kind = choose_weighted(g->run->c, weights, G_N_ELEMENTS(weights));

        if (kind == 2 && !g->run->discards) {
            guest_change(g, choose_range(g->run), 1);
        } else if (kind < 3) {
            guest_change(g, choose_range(g->run), kind);
        } else if (kind == 3) {
            guest_read(g, choose_range(g->run));
        } else {
            guest_flush(g);
        }
        if (choose(g->run->c)) {
            co_sleep_ns(choose_in(g->run->c, 0, 3) * NS_PER_MS);
        }
    }
    g_free(g);
    return 0;
}

static void
spawn_guests(Run *run, CoGroup *group, PairDisk *d, Side *side, unsigned max)
{
    for (unsigned n = choose_in(run->c, 0, max); n > 0; n--) {
        Guest *g = g_new(Guest, 1);

        *g = (Guest){run, d, side, choose_in(run->c, 1, 6)};
        co_group_spawn(group, guest_co_entry, g);
    }
}

/* --- what goes wrong in a round --- */

static void
arm_cut(Run *run)
{
    PairDisk *d = &run->p->d[choose_in(run->c, 0, run->p->n - 1)];

    if (d->link) {
        stream_pair_cut_after(d->link, choose_in(run->c, 0, 30000));
    }
}

static void
arm_fault(Run *run)
{
    static const int errors[] = {EIO, ENOSPC};

    run->faulty = pair_any_disk(run->p);
    memdisk_fail_nth(run->faulty, MEMDISK_ALL & ~MEMDISK_STATUS, choose_in(run->c, 1, 30),
                     errors[choose_in(run->c, 0, 1)]);
}

static void
stall_links(Pair *p, bool stalled)
{
    for (unsigned i = 0; i < p->n; i++) {
        if (p->d[i].link) {
            stream_pair_stall(p->d[i].link, stalled);
        }
    }
}

/* The other host is silent; whoever stops the primary does not wait for it. */
static void coroutine_fn
stall_and_stop(Run *run)
{
    int64_t began;

    stall_links(run->p, true);
    co_sleep_ns(choose_in(run->c, 0, 20) * NS_PER_MS);
    if (choose(run->c)) {
        began = loop_now_ns();
        run->stopped_p = true;
        replication_co_stop_all("p", choose(run->c), NULL);
        if (choose(run->c)) {
            pair_co_disconnect(run->p);
        }
        g_assert_cmpint(loop_now_ns() - began, <, NS_PER_S);
    }
    stall_links(run->p, false);
}

static bool coroutine_fn
any_stage(const Pair *p, ReplicationStage stage)
{
    bool found = false;

    for (unsigned i = 0; i < p->n; i++) {
        g_autoptr(ReplicationInfo) info = pair_info(&p->d[i].b, REPLICATION_MODE_SECONDARY);

        found |= info->stage == stage;
    }
    return found;
}

static void coroutine_fn
begin_failover(Run *run)
{
    GError *err = NULL;

    run->p->failed_over = true;
    if (!replication_co_stop_all("s", true, &err)) {
        g_assert_nonnull(run->faulty);
        g_clear_error(&err);
    }
}

static void coroutine_fn
wait_merged(Run *run)
{
    while (any_stage(run->p, REPLICATION_STAGE_FAILOVER)) {
        co_sleep_ns(NS_PER_MS);
    }
}

static int coroutine_fn
event_co_entry(void *opaque)
{
    static const unsigned weights[] = {6, 2, 2, 2, 1, 1};
    Run *run = opaque;

    switch (choose_weighted(run->c, weights, G_N_ELEMENTS(weights))) {
    case 0:
        return 0;
    case 1:
        arm_cut(run);
        return 0;
    case 2:
        arm_fault(run);
        return 0;
    case 3:
        stall_and_stop(run);
        return 0;
    case 4:
        arm_fault(run);
        break;
    }
    co_sleep_ns(choose_in(run->c, 0, 20) * NS_PER_MS);
    if (run->p->d[0].b.world && !run->p->failed_over) {
        begin_failover(run);
    }
    return 0;
}

/* --- what must hold when nobody writes --- */

static void coroutine_fn
check_primary(Run *run, PairDisk *d)
{
    g_autofree uint8_t *content = pair_co_read(run->p, &d->a);

    history_adopt(d->a.history, content);
    g_assert_cmpmem(memdisk_data(d->a.local), run->p->length, content, run->p->length);
    if (d->b.world && !run->stopped_p && !run->p->failed_over && !d->tainted) {
        g_autoptr(ReplicationInfo) info = pair_info(&d->a, REPLICATION_MODE_PRIMARY);

        g_assert_true(info->error || d->link); /* R5 */
        if (!info->error) {
            g_assert_cmpmem(memdisk_data(d->b.local), run->p->length, content, run->p->length);
        }
    }
}

static void coroutine_fn
check_secondary(Run *run, PairDisk *d)
{
    g_autofree uint8_t *content = pair_co_read(run->p, &d->b);
    g_autoptr(ReplicationInfo) info = pair_info(&d->b, REPLICATION_MODE_SECONDARY);

    history_adopt(d->b.history, content);
    if (info->stage == REPLICATION_STAGE_DONE) {
        g_assert_false(info->error);
        g_assert_cmpmem(memdisk_data(d->b.local), run->p->length, content, run->p->length);
    }
}

static void coroutine_fn
check_all(Run *run)
{
    for (unsigned i = 0; i < run->p->n; i++) {
        check_primary(run, &run->p->d[i]);
        if (run->p->d[i].b.world) {
            check_secondary(run, &run->p->d[i]);
        }
    }
}

/* --- steps --- */

static void coroutine_fn
start_both(Run *run)
{
    Pair *p = run->p;
    GError *err = NULL;

    replication_co_start_all("s", REPLICATION_MODE_SECONDARY, &err);
    g_assert_no_error(err);
    for (unsigned i = 0; i < p->n; i++) {
        History *h = p->d[i].b.history;

        history_end(h, history_jump_begin(h, memdisk_data(p->d[i].b.local)), true);
    }
    replication_co_start_all("p", REPLICATION_MODE_PRIMARY, &err);
    g_assert_no_error(err);
    run->stopped_p = false;
}

/* Guests of both hosts at work, and perhaps an event. */
static void coroutine_fn
round_of_work(Run *run)
{
    Pair *p = run->p;
    CoGroup group = {0};

    for (unsigned i = 0; i < p->n; i++) {
        spawn_guests(run, &group, &p->d[i], &p->d[i].a, 3);
        if (p->d[i].b.world) {
            spawn_guests(run, &group, &p->d[i], &p->d[i].b, 2);
        }
    }
    co_group_spawn(&group, event_co_entry, run);
    (void)co_group_wait(&group); /* each guest has looked at its own errors */
    co_sleep_ns(SETTLE_NS);
    if (p->failed_over) {
        wait_merged(run);
    }
    pair_heal(p);
    if (p->failed_over && any_stage(p, REPLICATION_STAGE_FAILOVER_FAILED)) {
        check_all(run); /* R3: the view holds */
        begin_failover(run);
        wait_merged(run);
    }
    run->faulty = NULL;
    if (p->failed_over) {
        g_assert_false(any_stage(p, REPLICATION_STAGE_FAILOVER_FAILED));
        g_assert_false(any_stage(p, REPLICATION_STAGE_RUNNING));
    }
}

static bool
has_error(const Pair *p, bool secondary)
{
    bool found = false;

    for (unsigned i = 0; i < p->n; i++) {
        g_autoptr(ReplicationInfo) info =
            pair_info(secondary ? &p->d[i].b : &p->d[i].a,
                      secondary ? REPLICATION_MODE_SECONDARY : REPLICATION_MODE_PRIMARY);

        found |= info->error != NULL;
    }
    return found;
}

/* R2: the primary's guest is held; the secondary's may be at work. */
static void coroutine_fn
checkpoint(Run *run)
{
    Pair *p = run->p;
    HistoryOp *jump[PAIR_DISKS_MAX];
    bool ok = !has_error(p, true);
    CoGroup group = {0};

    g_assert_true(replication_co_checkpoint_all("p", NULL) == !has_error(p, false));
    g_assert_true(replication_get_error_all("p", NULL) == !has_error(p, false));
    g_assert_true(replication_get_error_all("s", NULL) == ok);
    if (has_error(p, false)) {
        return;
    }
    for (unsigned i = 0; i < p->n; i++) {
        spawn_guests(run, &group, &p->d[i], &p->d[i].b, 2);
    }
    co_sleep_ns(choose_in(run->c, 0, 5) * NS_PER_MS);
    for (unsigned i = 0; ok && i < p->n; i++) {
        jump[i] = history_jump_begin(p->d[i].b.history, memdisk_data(p->d[i].b.local));
    }
    g_assert_true(replication_co_checkpoint_all("s", NULL) == ok);
    for (unsigned i = 0; ok && i < p->n; i++) {
        history_end(p->d[i].b.history, jump[i], true);
    }
    (void)co_group_wait(&group); /* each guest has looked at its own errors */
}

/* Both guests are held. */
static void coroutine_fn
stop_without_failover(Run *run)
{
    Pair *p = run->p;
    GError *err = NULL;

    replication_co_stop_all("p", false, &err);
    g_assert_no_error(err);
    run->stopped_p = true;
    replication_co_stop_all("s", false, &err);
    g_assert_no_error(err);
    for (unsigned i = 0; i < p->n; i++) {
        History *h = p->d[i].b.history;

        history_end(h, history_jump_begin(h, memdisk_data(p->d[i].b.local)), true);
    }
    check_all(run);
}

/* --- a new secondary, filled by mirror while the guest goes on --- */

static const char *const resync_ids[PAIR_DISKS_MAX] = {"resync0", "resync1", "resync2"};

typedef struct Resync {
    unsigned running;
    int result; /* the first error */
} Resync;

static void coroutine_fn
mirror_done(int ret, void *opaque)
{
    Resync *r = opaque;

    r->running--;
    r->result = r->result ? r->result : ret;
}

static void coroutine_fn
start_mirror(Run *run, PairDisk *d, Resync *r)
{
    JobOptions o = {.id = resync_ids[d->index], .done = mirror_done, .opaque = r};
    MirrorOptions m = {
        .sync = MIRROR_SYNC_MODE_FULL,
        .write_blocking = choose(run->c),
        .granularity = choose(run->c) ? 4096 : 0,
        .on_source_error = BLOCKDEV_ON_ERROR_REPORT,
        .on_target_error = BLOCKDEV_ON_ERROR_REPORT,
    };
    GError *err = NULL;
    BlockNode *link = pair_co_open_link(d, &err);

    g_assert_no_error(err);
    r->running++;
    (void)mirror_co_start(&o, &m, d->a.quorum, link, &err);
    g_assert_no_error(err);
    node_co_unref(link);
}

/* What may go wrong while it is filled; whoever asks for a new secondary tries again. */
static int coroutine_fn
resync_trouble_co_entry(void *opaque)
{
    static const unsigned weights[] = {6, 2, 2, 1, 1};
    Run *run = opaque;
    Job *job;

    switch (choose_weighted(run->c, weights, G_N_ELEMENTS(weights))) {
    case 1:
        arm_cut(run);
        break;
    case 2:
        arm_fault(run);
        break;
    case 3:
        stall_links(run->p, true);
        co_sleep_ns(choose_in(run->c, 0, 20) * NS_PER_MS);
        stall_links(run->p, false);
        break;
    case 4:
        co_sleep_ns(choose_in(run->c, 0, 20) * NS_PER_MS);
        job = job_find(resync_ids[0]);
        if (job && job_verb_allowed(job, JOB_VERB_CANCEL, NULL)) {
            job_cancel(job, true);
        }
    }
    return 0;
}

/* Each mirror has come to an end or is ready. */
static bool
mirrors_are_settled(const Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        Job *job = job_find(resync_ids[i]);

        if (job && !job_verb_allowed(job, JOB_VERB_COMPLETE, NULL)) {
            return false;
        }
    }
    return true;
}

/* Those that are ready end well; if one has failed the copies are of no use. */
static void coroutine_fn
end_mirrors(const Pair *p, const Resync *r)
{
    for (unsigned i = 0; i < p->n; i++) {
        Job *job = job_find(resync_ids[i]);

        if (job && job_verb_allowed(job, JOB_VERB_CANCEL, NULL)) {
            job_cancel(job, r->result != 0);
        }
    }
    while (r->running > 0) {
        co_sleep_ns(NS_PER_MS);
    }
}

/* Nobody writes now. */
static void coroutine_fn
check_resynced(Run *run)
{
    Pair *p = run->p;

    for (unsigned i = 0; i < p->n; i++) {
        g_assert_cmpmem(memdisk_data(p->d[i].a.local), p->length,
                        memdisk_data(p->d[i].b.local), p->length);
        p->d[i].tainted = false;
    }
}

static bool coroutine_fn
resync_once(Run *run, bool in_peace)
{
    Pair *p = run->p;
    CoGroup group = {0};
    Resync r = {0};

    pair_co_disconnect(p);
    pair_co_drop_secondary(p);
    pair_co_make_secondary(p);
    for (unsigned i = 0; i < p->n; i++) {
        start_mirror(run, &p->d[i], &r);
        spawn_guests(run, &group, &p->d[i], &p->d[i].a, 3);
    }
    if (!in_peace) {
        co_group_spawn(&group, resync_trouble_co_entry, run);
    }
    (void)co_group_wait(&group); /* each guest has looked at its own errors */
    while (!mirrors_are_settled(p)) {
        co_sleep_ns(NS_PER_MS);
    }
    end_mirrors(p, &r);
    pair_heal(p);
    run->faulty = NULL;
    for (unsigned i = 0; i < p->n; i++) {
        check_primary(run, &p->d[i]); /* whatever has become of the copy */
    }
    g_assert_true(r.result == 0 || !in_peace);
    if (r.result == 0) {
        check_resynced(run);
    }
    return r.result == 0;
}

static void coroutine_fn
resync(Run *run)
{
    Pair *p = run->p;

    replication_co_stop_all("p", false, NULL); /* promoted hosts have no group "p" */
    run->stopped_p = true;
    for (unsigned attempt = 0; !resync_once(run, attempt == 2); attempt++) {
    }
    g_assert_true(pair_co_connect(p));
    p->failed_over = false;
    start_both(run);
}

/* --- the property --- */

/* After a round: where from here? False: nowhere. */
static bool coroutine_fn
go_on(Run *run)
{
    Pair *p = run->p;

    if (p->failed_over) {
        if (!choose(run->c)) {
            return false;
        }
        pair_co_promote(p);
        resync(run);
        return true;
    }
    if (run->stopped_p || has_error(p, false)) {
        if (choose(run->c)) {
            resync(run);
        } else {
            begin_failover(run);
            wait_merged(run);
        }
        return true;
    }
    checkpoint(run);
    return true;
}

static void coroutine_fn
pair_co_entry(void *opaque)
{
    Run *run = opaque;
    Pair *p = run->p = pair_co_new(run->c);

    run->discards = choose_in(run->c, 0, 3) == 3;
    g_assert_true(pair_co_connect(p));
    start_both(run);
    while (choose_more(run->c, 6)) {
        round_of_work(run);
        check_all(run);
        if (!go_on(run)) {
            break;
        }
        check_all(run);
    }
    if (!p->failed_over && choose(run->c)) {
        stop_without_failover(run);
    }
    pair_co_free(p);
}

static void
prop_pair(Choices *c)
{
    Run run = {.c = c};

    vtest_run(pair_co_entry, &run, choose_in(c, 0, 1000));
}

PROPERTY("/pair/r1-r5", prop_pair)
