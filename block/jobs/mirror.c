/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copying engine: see mirror.h for the rules M1 to M4 cited below.
 */
#include <errno.h>

#include "block/graph.h"
#include "block/jobs/mirror.h"
#include "util/buf.h"
#include "util/loop.h"

#define MIRROR_MAX_COPY   (256 * KiB)
/* A copy that found the guest faster this often is finished with the guest held. */
#define MIRROR_MAX_ROUNDS 3

/* --- writes through the filter --- */

typedef struct MirrorWrite {
    int64_t offset, bytes;
    const IoVec *iov; /* NULL: zeroes, or discard */
    bool discard;
    ReqFlags flags;
} MirrorWrite;

static int coroutine_fn
mirror_write_co_do(const MirrorWrite *w, BlockChild *to, int64_t offset, int64_t bytes)
{
    if (w->discard) {
        return child_co_pdiscard(to, offset, bytes);
    }
    if (!w->iov) {
        return child_co_pwrite_zeroes(to, offset, bytes, w->flags & ~REQ_NO_FALLBACK);
    }
    return child_co_pwritev(to, offset, iov_slice(*w->iov, offset - w->offset, bytes), w->flags);
}

/* M3: what lies in clean pieces also goes to the target; a piece that could not is dirty again. */
static void coroutine_fn
mirror_co_write_clean(Mirror *m, const MirrorWrite *w)
{
    uint64_t at = w->offset;
    uint64_t end = w->offset + w->bytes;

    while (at < end) {
        uint64_t from = hbitmap_next_clear(m->dirty, at);
        uint64_t to;

        if (from >= end) {
            return;
        }
        to = MIN(hbitmap_next_set(m->dirty, from), end);
        if (mirror_write_co_do(w, backend_root(m->target), from, to - from) < 0) {
            hbitmap_set(m->dirty, from, to - from);
            job_kick(m->job);
        }
        at = to;
    }
}

int coroutine_fn
mirror_co_write(Mirror *m, BlockChild *file, int64_t offset, int64_t bytes, const IoVec *iov,
                bool discard, ReqFlags flags)
{
    MirrorWrite w = {.offset = offset, .bytes = bytes, .iov = iov, .discard = discard,
                     .flags = flags};
    CoRange range;
    int r;

    if (!m->write_blocking) {
        r = mirror_write_co_do(&w, file, offset, bytes);
        hbitmap_set(m->dirty, offset, bytes); /* M2, also after an error */
        job_kick(m->job);
        return r;
    }
    co_range_lock(&m->ranges, &range, offset, bytes, CO_RANGE_EXCLUSIVE);
    r = mirror_write_co_do(&w, file, offset, bytes);
    if (r < 0 || discard) {
        /* What the source now shows there is its own affair. */
        hbitmap_set(m->dirty, offset, bytes);
        job_kick(m->job);
    } else {
        mirror_co_write_clean(m, &w);
    }
    co_range_unlock(&m->ranges, &range);
    return r;
}

/* --- copies --- */

typedef struct MirrorCopy {
    Mirror *m;
    int64_t offset, bytes;
    BackendReq source, target;
    bool entered;
} MirrorCopy;

/* Both gates before any lock, without waiting at one while counted at the other. */
static void coroutine_fn
mirror_copy_co_enter(MirrorCopy *c)
{
    Mirror *m = c->m;

    while (!m->drained) {
        backend_co_enter(m->source, &c->source);
        if (backend_try_enter(m->target, &c->target)) {
            c->entered = true;
            return;
        }
        backend_exit(m->source, &c->source);
        backend_co_enter(m->target, &c->target);
        backend_exit(m->target, &c->target);
    }
}

static void
mirror_copy_exit(MirrorCopy *c)
{
    if (c->entered) {
        backend_exit(c->m->target, &c->target);
        backend_exit(c->m->source, &c->source);
    }
}

static int coroutine_fn
mirror_copy_co_data(MirrorCopy *c)
{
    Mirror *m = c->m;
    struct iovec v;
    void *buf = buf_try_alloc(c->bytes);
    int r;

    if (!buf) {
        return -ENOMEM;
    }
    r = child_co_preadv(backend_root(m->source), c->offset, iov_one(&v, buf, c->bytes), 0);
    if (r < 0) {
        m->error_was_read = true;
    } else if (buf_is_zero(buf, c->bytes)) {
        r = child_co_pwrite_zeroes(backend_root(m->target), c->offset, c->bytes, REQ_MAY_UNMAP);
    } else {
        r = child_co_pwritev(backend_root(m->target), c->offset, iov_one(&v, buf, c->bytes), 0);
    }
    buf_free(buf, c->bytes);
    return r;
}

static void coroutine_fn
mirror_copy_co_entry(void *opaque)
{
    MirrorCopy *c = opaque;
    Mirror *m = c->m;
    int64_t begin_ns;
    CoRange range;
    int r;

    mirror_copy_co_enter(c);
    co_range_lock(&m->ranges, &range, c->offset, c->bytes, CO_RANGE_EXCLUSIVE);
    begin_ns = loop_now_ns();
    hbitmap_reset(m->dirty, c->offset, c->bytes); /* M1 */
    r = mirror_copy_co_data(c);
    if (r < 0) {
        hbitmap_set(m->dirty, c->offset, c->bytes);
        m->error = m->error ? m->error : r;
    } else {
        m->job->progress.current += c->bytes;
        if (c->bytes == MIRROR_MAX_COPY) {
            copy_window_done(&m->window, loop_now_ns() - begin_ns);
        }
    }
    co_range_unlock(&m->ranges, &range);
    mirror_copy_exit(c);

    m->running--;
    co_queue_wake_all(&m->copy_done);
    g_free(c);
}

/* The next dirty piece, going round and round so that a busy spot does not starve the rest. */
static bool
mirror_next_piece(Mirror *m, int64_t *ret_offset, int64_t *ret_bytes)
{
    uint64_t end = hbitmap_bytes(m->dirty);
    uint64_t offset = m->cursor, run;

    if (!hbitmap_next_run(m->dirty, &offset, end, &run)) {
        offset = 0;
        if (!hbitmap_next_run(m->dirty, &offset, end, &run)) {
            return false;
        }
    }
    *ret_offset = offset;
    *ret_bytes = MIN(run, (uint64_t)MIRROR_MAX_COPY);
    m->cursor = offset + *ret_bytes;
    return true;
}

static void coroutine_fn
mirror_co_throttle(Mirror *m, int64_t bytes)
{
    int64_t wait = rate_limit_delay_ns(&m->job->speed, bytes);

    if (wait > 0) {
        job_co_sleep(m->job, wait);
    }
}

static void coroutine_fn
mirror_co_wait_copies(Mirror *m, int max)
{
    while (m->running > max) {
        co_queue_wait(&m->copy_done);
    }
}

static void
mirror_start_copy(Mirror *m, int64_t offset, int64_t bytes)
{
    MirrorCopy *c = g_new0(MirrorCopy, 1);

    *c = (MirrorCopy){.m = m, .offset = offset, .bytes = bytes};
    /* The search must not find it again before the copy holds its range. */
    hbitmap_reset(m->dirty, offset, bytes);
    m->running++;
    co_spawn(mirror_copy_co_entry, c);
}

int coroutine_fn
mirror_co_round(Mirror *m)
{
    int64_t offset, bytes;
    int r;

    while (!m->error && !job_is_cancelled(m->job)) {
        if (!m->drained) {
            mirror_co_wait_copies(m, m->job->pauses ? 0 : m->window.size - 1);
            job_co_pause_point(m->job);
        } else {
            mirror_co_wait_copies(m, m->window.size - 1);
        }
        if (!mirror_next_piece(m, &offset, &bytes)) {
            if (m->running == 0) {
                break;
            }
            mirror_co_wait_copies(m, m->running - 1);
            continue;
        }
        m->job->progress.total =
            m->job->progress.current + hbitmap_count(m->dirty) + m->running * MIRROR_MAX_COPY;
        mirror_start_copy(m, offset, bytes);
        if (!m->drained) { /* the guest is held meanwhile: no speed limit is worth that */
            mirror_co_throttle(m, bytes);
        }
    }
    mirror_co_wait_copies(m, 0);
    m->job->progress.total = m->job->progress.current + hbitmap_count(m->dirty);
    r = m->error;
    m->error = 0;
    return r ? r : job_is_cancelled(m->job) ? -ECANCELED : 0;
}

int coroutine_fn
mirror_co_converge(Mirror *m)
{
    for (int round = 1;; round++) {
        int r = mirror_co_round(m);

        if (r < 0) {
            return r;
        }
        drain_co_begin(m->filter);
        m->drained = true; /* copies need not pass a gate now: nobody else is there */
        r = round < MIRROR_MAX_ROUNDS ? 0 : mirror_co_round(m);
        if (r == 0 && hbitmap_count(m->dirty) == 0) {
            return 0; /* M4 */
        }
        m->drained = false;
        drain_end(m->filter);
        if (r < 0) {
            return r;
        }
    }
}

void
mirror_cancel(Mirror *m)
{
    if (m->target && backend_node(m->target)) {
        node_cancel_in_flight(backend_node(m->target));
    }
}

/* --- in and out of the graph --- */

static void
mirror_drained_begin(void *opaque)
{
    job_pause_for_drain(((Mirror *)opaque)->job);
}

static void
mirror_drained_end(void *opaque)
{
    job_resume_after_drain(((Mirror *)opaque)->job);
}

static char *
mirror_describe(void *opaque)
{
    Mirror *m = opaque;

    return g_strdup_printf("block job '%s'", m->job->id ? m->job->id : "(internal)");
}

static const BackendOps mirror_backend_ops = {
    .describe = mirror_describe,
    .drained_begin = mirror_drained_begin,
    .drained_end = mirror_drained_end,
};

static bool coroutine_fn
mirror_co_attach(Mirror *m, BlockNode *source, BlockNode *target, GError **errp)
{
    m->source = backend_new(NULL, (PermPair){PERM_CONSISTENT_READ, PERM_ALL & ~PERM_RESIZE},
                            &mirror_backend_ops, m, errp);
    m->target = backend_new(NULL, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE,
                                             PERM_ALL & ~PERM_RESIZE},
                            &mirror_backend_ops, m, errp);
    return m->source && m->target && backend_co_insert(m->source, source, errp) &&
           backend_co_insert(m->target, target, errp);
}

/* Both ends are attached already and stay below: the filter needs them from its first request. */
static bool coroutine_fn
mirror_co_insert_filter(Mirror *m, BlockNode *source, GError **errp)
{
    BlockChild *const keep[] = {backend_root(m->source), NULL};
    GraphTx *tx = graph_tx_new();

    mirror_filter_attach(m->filter, m);
    graph_tx_attach(tx, m->filter, "file", source, CHILD_FILTERED);
    graph_tx_replace_node(tx, source, m->filter, keep);
    return graph_tx_co_commit(tx, errp);
}

bool coroutine_fn
mirror_co_open(Mirror *m, Job *job, BlockNode *source, BlockNode *target, int64_t granularity,
               const char *filter_name, GError **errp)
{
    NodeFlags flags = source->flags;

    flags.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    m->job = job;
    copy_window_init(&m->window);
    m->dirty = hbitmap_new(node_length(source), granularity);
    if (!m->dirty) {
        return fail(errp, "Not enough memory for the dirty bitmap of node '%s'",
                    source->node_name);
    }
    m->filter = node_new_internal(&driver_mirror_top, filter_name, &flags, errp);
    if (!m->filter) {
        mirror_co_close(m, NULL);
        return false;
    }
    m->filter->supported_write_flags = REQ_FUA | REQ_WRITE_UNCHANGED;
    m->filter->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_WRITE_UNCHANGED;
    /* The filter goes in while the source is drained and sees every write from then on; what came
     * before is covered by the first dirty bits. */
    if (!mirror_co_attach(m, source, target, errp) || !mirror_co_insert_filter(m, source, errp)) {
        mirror_co_close(m, NULL);
        return false;
    }
    return true;
}

static void coroutine_fn
mirror_co_remove_filter(Mirror *m, BlockNode *successor)
{
    GraphTx *tx = graph_tx_new();
    GError *err = NULL;

    if (successor) {
        graph_tx_replace_node(tx, m->filter, successor, NULL);
        graph_tx_detach(tx, m->filter->file);
    } else {
        graph_tx_remove_filter(tx, m->filter);
    }
    if (!graph_tx_co_commit(tx, &err)) {
        /* Every permission was held through the filter before. */
        g_error("removing filter '%s': %s", m->filter->node_name, err->message);
    }
}

void coroutine_fn
mirror_co_close(Mirror *m, BlockNode *successor)
{
    assert(m->running == 0);
    if (m->filter) {
        if (!m->drained) {
            drain_co_begin(m->filter);
        }
        if (m->filter->file) {
            mirror_co_remove_filter(m, successor);
        }
        mirror_filter_attach(m->filter, NULL);
        drain_end(m->filter);
        node_co_unref(m->filter);
    }
    if (m->source) {
        backend_co_free(m->source);
    }
    if (m->target) {
        backend_co_free(m->target);
    }
    if (m->dirty) {
        hbitmap_free(m->dirty);
    }
    *m = (Mirror){.job = m->job};
}
