/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copying engine: see mirror.h for the rules M1 to M5 cited below.
 */
#include <errno.h>

#include "block/graph.h"
#include "block/jobs/mirror.h"
#include "util/buf.h"
#include "util/loop.h"

/* Through memory: what the processor has at hand, and short enough for the guest's requests. */
#define MIRROR_MAX_COPY   (256 * KiB)
/* By the system, half a millisecond at a time: in threads of its own, of which two keep memory or
 * a disk busy and more would take the processor from the guest's requests, or here. */
#define MIRROR_MAX_OFFLOAD  (2 * MiB)
#define MIRROR_MAX_OFFLOADS 2
/* Smaller ones are done before a thread is awake. */
#define MIRROR_MIN_OFFLOAD  (64 * KiB)
/* Written back beside the copying, so that the flush at the end finds little to do. */
#define MIRROR_FLUSH_BYTES (32 * MiB)
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
        if (mirror_write_co_do(w, m->to, from, to - from) < 0) {
            hbitmap_set(m->dirty, from, to - from);
            job_kick(m->job);
        }
        at = to;
    }
}

int coroutine_fn
mirror_co_write(Mirror *m, int64_t offset, int64_t bytes, const IoVec *iov, bool discard,
                ReqFlags flags)
{
    BlockChild *file = m->filter->file;
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

/* --- what is dirty at first --- */

/* Whoever holds `finding` looks at the next part; a guest's flush may be ahead of the job. */
static int coroutine_fn
mirror_co_find_step(Mirror *m)
{
    CO_LOCK_GUARD(&m->finding);
    int64_t bytes = (int64_t)hbitmap_bytes(m->dirty) - m->found;
    int r = 0;

    if (bytes > 0) {
        r = m->co_must_copy(m->job, m->found, bytes, &bytes);
        if (r > 0) {
            hbitmap_set(m->dirty, m->found, bytes);
        }
        if (r >= 0) {
            m->found += bytes;
        }
    }
    return MIN(r, 0);
}

static bool
mirror_has_found_all(const Mirror *m)
{
    return m->found == (int64_t)hbitmap_bytes(m->dirty);
}

int coroutine_fn
mirror_co_find_dirty(Mirror *m)
{
    int r = 0;

    while (r == 0 && !mirror_has_found_all(m) && !job_is_cancelled(m->job)) {
        BackendReq req;

        backend_co_enter(m->source, &req);
        r = mirror_co_find_step(m);
        backend_exit(m->source, &req);
        co_reschedule();
    }
    return r;
}

/* --- copies --- */

/* A range that one copier holds, its bits clear. */
typedef struct MirrorPiece {
    uint64_t offset, bytes;
    CoRange range;
} MirrorPiece;

/*
 * Take the first dirty piece from *@cursor on and move the cursor behind it.
 * Whoever waits for the range may find that another has copied it meanwhile.
 */
static bool coroutine_fn
mirror_co_claim(Mirror *m, uint64_t *cursor, MirrorPiece *p)
{
    uint64_t most = m->offloading ? MIRROR_MAX_OFFLOAD : MIRROR_MAX_COPY;
    uint64_t run;

    most = MAX(most, (uint64_t)m->granularity); /* whole bits: one cannot be half clear */
    while (hbitmap_next_run(m->dirty, cursor, hbitmap_bytes(m->dirty), &run)) {
        uint64_t end = *cursor + MIN(run, most);

        p->offset = *cursor;
        co_range_lock(&m->ranges, &p->range, p->offset, end - p->offset, CO_RANGE_EXCLUSIVE);
        if (hbitmap_next_run(m->dirty, &p->offset, end, &p->bytes)) {
            hbitmap_reset(m->dirty, p->offset, p->bytes); /* M1 */
            *cursor = p->offset + p->bytes;
            return true;
        }
        co_range_unlock(&m->ranges, &p->range);
    }
    return false;
}

static int coroutine_fn
mirror_co_copy_data(Mirror *m, int64_t offset, void *buf, int64_t bytes)
{
    struct iovec v;
    int r = child_co_preadv(m->filter->file, offset, iov_one(&v, buf, bytes), 0);

    if (r < 0) {
        m->error_was_read = true;
        return r;
    }
    if (buf_is_zero(buf, bytes)) {
        return child_co_pwrite_zeroes(m->to, offset, bytes, REQ_MAY_UNMAP);
    }
    return child_co_pwritev(m->to, offset, iov_one(&v, buf, bytes), 0);
}

static int coroutine_fn
mirror_co_copy_by_hand(Mirror *m, const MirrorPiece *p)
{
    uint64_t size = MIN(p->bytes, MIRROR_MAX_COPY);
    void *buf = buf_try_alloc(size);
    int r = buf ? 0 : -ENOMEM;

    for (uint64_t done = 0; r == 0 && done < p->bytes; done += size) {
        r = mirror_co_copy_data(m, p->offset + done, buf, MIN(size, p->bytes - done));
    }
    if (buf) {
        buf_free(buf, size);
    }
    return r;
}

/* One copy instead of the two of reading and writing, where both ends are files. When it fails,
 * the other way finds out whether that was the read or the write. */
static bool coroutine_fn
mirror_co_offload(Mirror *m, const MirrorPiece *p)
{
    int64_t offset = (int64_t)p->offset;

    m->offloading = p->bytes >= MIRROR_MIN_OFFLOAD &&
                    child_co_copy_range(m->filter->file, offset, m->to, offset, (int64_t)p->bytes,
                                        0) == 0;
    return m->offloading;
}

/* Copy a claimed piece and let go of it. The caller is a request that all gates have admitted. */
static int coroutine_fn
mirror_co_copy_piece(Mirror *m, MirrorPiece *p)
{
    int r = mirror_co_offload(m, p) ? 0 : mirror_co_copy_by_hand(m, p);

    if (r < 0) {
        hbitmap_set(m->dirty, p->offset, p->bytes);
    }
    co_range_unlock(&m->ranges, &p->range);
    return r;
}

/* One of several that the job has at work. */
typedef struct MirrorCopy {
    Mirror *m;
    MirrorPiece piece;
    BackendReq source, target;
} MirrorCopy;

/* Both gates before any lock, without waiting at one while counted at the other. */
static void coroutine_fn
mirror_copy_co_enter(MirrorCopy *c)
{
    Mirror *m = c->m;

    for (;;) {
        backend_co_enter(m->source, &c->source);
        if (backend_try_enter(m->target, &c->target)) {
            return;
        }
        backend_exit(m->source, &c->source);
        backend_co_enter(m->target, &c->target);
        backend_exit(m->target, &c->target);
    }
}

static void
mirror_copy_free(MirrorCopy *c)
{
    backend_exit(c->m->target, &c->target);
    backend_exit(c->m->source, &c->source);
    g_free(c);
}

static void coroutine_fn
mirror_copy_co_entry(void *opaque)
{
    MirrorCopy *c = opaque;
    Mirror *m = c->m;
    int64_t begin_ns = loop_now_ns();
    int r = mirror_co_copy_piece(m, &c->piece);

    if (r < 0) {
        m->error = m->error ? m->error : r;
    } else {
        m->job->progress.current += c->piece.bytes;
        m->unflushed += c->piece.bytes;
        if (c->piece.bytes == MIRROR_MAX_COPY && !m->offloading) {
            copy_window_done(&m->window, loop_now_ns() - begin_ns);
        }
    }
    mirror_copy_free(c);
    m->running--;
    co_queue_wake_all(&m->copy_done);
}

/* The next dirty piece, going round and round so that a busy spot does not starve the rest. */
static MirrorCopy *coroutine_fn
mirror_copy_co_new(Mirror *m)
{
    MirrorCopy *c = g_new0(MirrorCopy, 1);

    c->m = m;
    mirror_copy_co_enter(c);
    if (mirror_co_claim(m, &m->cursor, &c->piece)) {
        return c;
    }
    m->cursor = 0;
    if (mirror_co_claim(m, &m->cursor, &c->piece)) {
        return c;
    }
    mirror_copy_free(c);
    return NULL;
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

static void coroutine_fn
mirror_flush_co_entry(void *opaque)
{
    Mirror *m = opaque;
    int r = backend_co_flush(m->target);

    m->error = m->error ? m->error : r;
    m->flushing = false;
    co_queue_wake_all(&m->copy_done);
}

static void
mirror_start_flush(Mirror *m)
{
    if (m->flush_copies && !m->flushing && m->unflushed >= MIRROR_FLUSH_BYTES) {
        m->unflushed = 0;
        m->flushing = true;
        co_spawn(mirror_flush_co_entry, m);
    }
}

static void coroutine_fn
mirror_co_wait_flush(Mirror *m)
{
    while (m->flushing) {
        co_queue_wait(&m->copy_done);
    }
}

/* Room for one more copy; before that, the user and whoever drains may hold us up. */
static void coroutine_fn
mirror_co_wait_turn(Mirror *m)
{
    int most = m->offloading ? MIRROR_MAX_OFFLOADS : m->window.size;

    mirror_co_wait_copies(m, m->job->pauses && !m->drained ? 0 : most - 1);
    if (!m->drained) {
        job_co_pause_point(m->job);
    }
}

int coroutine_fn
mirror_co_round(Mirror *m)
{
    int r;

    while (!m->error && !job_is_cancelled(m->job)) {
        MirrorCopy *c;
        uint64_t bytes;

        mirror_co_wait_turn(m);
        mirror_start_flush(m);
        c = mirror_copy_co_new(m);
        if (!c && m->running == 0) {
            break;
        }
        if (!c) {
            mirror_co_wait_copies(m, m->running - 1);
            continue;
        }
        bytes = c->piece.bytes;
        m->running++;
        m->job->progress.total =
            m->job->progress.current + hbitmap_count(m->dirty) + m->running * bytes;
        co_spawn(mirror_copy_co_entry, c);
        if (!m->drained) { /* the guest is held meanwhile: no speed limit is worth that */
            mirror_co_throttle(m, bytes);
        }
    }
    mirror_co_wait_copies(m, 0);
    mirror_co_wait_flush(m);
    m->job->progress.total = m->job->progress.current + hbitmap_count(m->dirty);
    r = m->error;
    m->error = 0;
    return r ? r : job_is_cancelled(m->job) ? -ECANCELED : 0;
}

/* The guest is held: what is left, if there has been a chance to have it done before, and a flush,
 * because a copy is only one when it survives what the source survives. */
static int coroutine_fn
mirror_co_finish_drained(Mirror *m, bool copy)
{
    int r = copy ? mirror_co_round(m) : 0;

    if (r == 0 && hbitmap_count(m->dirty) == 0) {
        r = backend_co_flush(m->target);
    }
    return r;
}

int coroutine_fn
mirror_co_converge(Mirror *m)
{
    for (int round = 1;; round++) {
        int r = mirror_co_round(m);

        if (r == 0) {
            /* So that little is left to flush with the guest held. */
            r = backend_co_flush(m->target);
        }
        if (r < 0) {
            return r;
        }
        drain_co_begin(m->filter);
        m->drained = true;
        r = mirror_co_finish_drained(m, round >= MIRROR_MAX_ROUNDS);
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

/* --- a flush through the filter --- */

/* Copy all that is dirty, once; unless the job is cancelled, which waits for us. */
static int coroutine_fn
mirror_co_sweep(Mirror *m)
{
    uint64_t cursor = 0;
    MirrorPiece p;
    int r = 0;

    while (r == 0 && !job_is_cancelled(m->job) && mirror_co_claim(m, &cursor, &p)) {
        r = mirror_co_copy_piece(m, &p);
    }
    return job_is_cancelled(m->job) ? -EIO : r;
}

/*
 * M5. We are a request of the guest: gates have admitted us, so we copy with our
 * own hands and do not wait for the job, which a drain that waits for us may hold.
 */
int coroutine_fn
mirror_co_flush(Mirror *m)
{
    CoRange all;
    int r = 0;

    while (r == 0 && !job_is_cancelled(m->job) && !mirror_has_found_all(m)) {
        r = mirror_co_find_step(m);
    }
    if (r == 0) {
        r = mirror_co_sweep(m);
    }
    if (r == 0) {
        /* What the job has claimed is done now, or dirty again. */
        co_range_lock(&m->ranges, &all, 0, hbitmap_bytes(m->dirty), CO_RANGE_EXCLUSIVE);
        co_range_unlock(&m->ranges, &all);
        r = mirror_co_sweep(m);
    }
    return r ? r : child_co_flush(m->to);
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

static const char *
mirror_job_id(void *opaque)
{
    Mirror *m = opaque;

    return m->job->id ? m->job->id : "";
}

static const BackendOps mirror_backend_ops = {
    .describe = mirror_describe,
    .job_id = mirror_job_id,
    .drained_begin = mirror_drained_begin,
    .drained_end = mirror_drained_end,
};

/*
 * What a target shows until the end is neither its old content nor the source's,
 * so nobody else may rely on it; but a base shows nothing that its users do not
 * see above it.
 */
static Perm
mirror_target_share(const Mirror *m)
{
    Perm share = PERM_ALL & ~PERM_RESIZE;

    return m->target_is_base ? share : share & ~PERM_CONSISTENT_READ;
}

static bool coroutine_fn
mirror_co_attach(Mirror *m, BlockNode *source, BlockNode *target, GError **errp)
{
    m->source = backend_new(NULL, (PermPair){PERM_CONSISTENT_READ, PERM_ALL & ~PERM_RESIZE},
                            &mirror_backend_ops, m, errp);
    m->target = backend_new(NULL, (PermPair){PERM_CONSISTENT_READ | PERM_WRITE,
                                             mirror_target_share(m)},
                            &mirror_backend_ops, m, errp);
    return m->source && m->target && backend_co_insert(m->source, source, errp) &&
           backend_co_insert(m->target, target, errp);
}

static void
mirror_linked(void *opaque)
{
    Mirror *m = opaque;

    m->to = node_child(m->filter, "target");
    mirror_filter_attach(m->filter, m);
}

/*
 * The filter needs both ends from its first request. It has an edge to the
 * target because its requests write there: who drains the target holds the
 * source's users too.
 */
static bool coroutine_fn
mirror_co_insert_filter(Mirror *m, BlockNode *source, GError **errp)
{
    BlockChild *const keep[] = {backend_root(m->source), NULL};
    GraphTx *tx = graph_tx_new();

    graph_tx_attach(tx, m->filter, "file", source, CHILD_FILTERED);
    graph_tx_attach(tx, m->filter, "target", backend_node(m->target), CHILD_DATA);
    graph_tx_replace_node(tx, source, m->filter, keep);
    graph_tx_on_commit(tx, mirror_linked, m);
    return graph_tx_co_commit(tx, errp);
}

bool coroutine_fn
mirror_co_open(Mirror *m, Job *job, BlockNode *source, BlockNode *target, int64_t granularity,
               const char *filter_name, GError **errp)
{
    NodeFlags flags = source->flags;

    flags.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    m->job = job;
    m->granularity = granularity;
    copy_window_init(&m->window);
    m->dirty = hbitmap_new(node_length(source), granularity);
    if (!m->dirty) {
        return fail(errp, "Not enough memory for the dirty bitmap of node '%s'",
                    source->node_name);
    }
    m->filter = node_new_internal(&driver_mirror_top, filter_name, &flags, errp);
    if (!m->filter) {
        (void)mirror_co_close(m, NULL, NULL);
        return false;
    }
    m->filter->supported_write_flags = REQ_FUA | REQ_WRITE_UNCHANGED;
    m->filter->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_WRITE_UNCHANGED;
    /* The filter goes in while the source is drained and sees every write from then on; what came
     * before is covered by the first dirty bits. */
    if (!mirror_co_attach(m, source, target, errp) || !mirror_co_insert_filter(m, source, errp)) {
        (void)mirror_co_close(m, NULL, NULL);
        return false;
    }
    return true;
}

static bool coroutine_fn
mirror_co_remove_filter(Mirror *m, BlockNode *successor, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    if (successor) {
        graph_tx_replace_node(tx, m->filter, successor, NULL);
        graph_tx_detach(tx, m->filter->file);
    } else {
        graph_tx_remove_filter(tx, m->filter);
    }
    graph_tx_detach(tx, m->to);
    return graph_tx_co_commit(tx, errp);
}

/* The filter is drained. */
static bool coroutine_fn
mirror_co_unlink(Mirror *m, BlockNode *successor, GError **errp)
{
    bool ok = true;

    /* The new users of the target may not like another writer there; we are none any more. */
    if (!backend_co_set_perm(m->target, (PermPair){0, PERM_ALL}, NULL)) {
        g_assert_not_reached(); /* giving up permissions cannot conflict */
    }
    if (successor) {
        ok = mirror_co_remove_filter(m, successor, errp);
    }
    if ((!successor || !ok) && !mirror_co_remove_filter(m, NULL, NULL)) {
        g_assert_not_reached(); /* every permission was held through the filter before */
    }
    mirror_filter_attach(m->filter, NULL);
    return ok;
}

bool coroutine_fn
mirror_co_close(Mirror *m, BlockNode *successor, GError **errp)
{
    bool ok = true;

    assert(m->running == 0);
    if (m->filter) {
        if (!m->drained) {
            drain_co_begin(m->filter);
        }
        if (m->to) {
            ok = mirror_co_unlink(m, successor, errp);
        }
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
    m->filter = NULL;
    m->to = NULL;
    m->source = m->target = NULL;
    m->dirty = NULL;
    m->drained = false;
    return ok;
}
