/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turning the scratch policy off: the map becomes tables on disk.
 *
 * First every host cluster that is stored in part is completed, then counts
 * are raised, then entries are set, then an ordinary commit follows; until the
 * dirty bit is cleared at the very end (R9) the image counts as worthless.
 */
#include "scratch.h"

/* --- completing clusters --- */

static int coroutine_fn
fill_run(Qcow2 *q, const ScratchEntry *e, uint32_t sub, uint32_t n, bool zero)
{
    const Scratch *s = q->scratch;
    uint64_t into = (uint64_t)sub << s->sub_bits, bytes = (uint64_t)n << s->sub_bits;
    uint64_t guest = (e->guest << q->cluster_bits) + into;
    uint64_t host = (e->host << q->cluster_bits) + into;
    uint64_t inside = guest < q->h.size ? MIN(bytes, q->h.size - guest) : 0;
    uint8_t *buf = buf_try_alloc(bytes);
    struct iovec v;
    int r = buf ? 0 : -ENOMEM;

    if (r == 0) {
        memset(buf, 0, bytes);
        if (!zero && inside) {
            r = qcow2_co_read_backing(q, guest, iov_one(&v, buf, inside));
        }
    }
    if (r == 0) {
        r = child_co_pwrite(qcow2_file(q), (int64_t)host, buf, bytes, 0);
    }
    buf_free(buf, bytes);
    return r;
}

/* Is the whole cluster in one state? */
static bool is_whole(const Scratch *s, const ScratchEntry *e, ScratchState state)
{
    return scratch_entry_state(&s->map, e, 0) == state &&
           scratch_entry_run(&s->map, e, 0, s->sub_blocks) == s->sub_blocks;
}

/* Can the cluster be left without a host? */
static bool needs_no_host(const Qcow2 *q, const ScratchEntry *e)
{
    const Scratch *s = q->scratch;
    bool below = e->guest << q->cluster_bits < qcow2_backing_bytes(q);

    if (is_whole(s, e, SCRATCH_ABSENT)) {
        return true;
    }
    if (is_whole(s, e, SCRATCH_ZERO)) {
        return q->h.version >= 3 || !below;
    }
    for (uint32_t i = 0; i < s->map.words; i++) {
        if (e->bits[i]) {
            return false; /* data */
        }
    }
    return !below; /* zeroes and nothing, above nothing: all reads as zeroes */
}

/* The entry does not move: nothing is inserted any more. */
static int coroutine_fn complete(Qcow2 *q, ScratchEntry *e)
{
    Scratch *s = q->scratch;
    int r = 0;

    if (needs_no_host(q, e)) {
        return 0;
    }
    if (!e->host) {
        e->host = scratch_co_alloc(q, 1);
    }
    for (uint32_t sub = 0, n; sub < s->sub_blocks && r == 0; sub += n) {
        ScratchState state = scratch_entry_state(&s->map, e, sub);

        n = scratch_entry_run(&s->map, e, sub, s->sub_blocks);
        if (state != SCRATCH_DATA) {
            r = fill_run(q, e, sub, n, state == SCRATCH_ZERO);
            if (r == 0) {
                scratch_entry_set(&s->map, e, sub, n, SCRATCH_DATA);
            }
        }
    }
    return r;
}

static int coroutine_fn complete_all(Qcow2 *q)
{
    ScratchEntry *e;
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && (e = scratch_map_next(&q->scratch->map, &at))) {
        r = complete(q, e);
    }
    return r;
}

/* --- tables --- */

static int coroutine_fn count_hosts(Qcow2 *q)
{
    Scratch *s = q->scratch;
    ScratchEntry *e;
    uint64_t at = 0, end;
    int r = 0;

    CO_LOCK_GUARD(&q->meta_lock);

    q->fresh_from = MAX(qcow2_file_end(q), s->high << q->cluster_bits);
    if (s->next > s->base) {
        r = qcow2_co_refcount_cover(q, s->base, s->next - 1, s->next, &end);
    }
    while (r == 0 && (e = scratch_map_next(&s->map, &at))) {
        if (!needs_no_host(q, e)) {
            r = qcow2_co_refcount_set(q, e->host, 1);
        }
    }
    return r;
}

static int coroutine_fn link_one(Qcow2 *q, const ScratchEntry *e)
{
    uint64_t guest = e->guest << q->cluster_bits, entry, old;
    int r;

    if (!needs_no_host(q, e)) {
        entry = (e->host << q->cluster_bits) | QCOW2_COPIED;
    } else if (!is_whole(q->scratch, e, SCRATCH_ABSENT) && guest < qcow2_backing_bytes(q)) {
        entry = QCOW2_L2_ZERO;
    } else {
        return 0;
    }
    r = qcow2_co_l2_ensure(q, guest);
    if (r == 0) {
        r = qcow2_co_l2_set(q, guest, entry, &old);
    }
    return r < 0 ? r : qcow2_co_relieve(q);
}

static int coroutine_fn link_all(Qcow2 *q)
{
    ScratchEntry *e;
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && (e = scratch_map_next(&q->scratch->map, &at))) {
        r = link_one(q, e);
    }
    return r;
}

static int coroutine_fn write_tables(Qcow2 *q)
{
    uint64_t end;
    int r = count_hosts(q);

    if (r == 0) {
        r = link_all(q);
    }
    if (r == 0) {
        r = qcow2_co_commit_all(q);
    }
    if (r == 0) {
        r = qcow2_co_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY);
    }
    if (r == 0) {
        CO_LOCK_GUARD(&q->meta_lock);
        r = qcow2_co_used_end(q, &end);
    }
    if (r == 0) {
        qcow2_co_cut_file(q, end);
        r = child_co_flush(qcow2_file(q));
    }
    return r;
}

/* --- end --- */

static void coroutine_fn keep_requests_out(Scratch *s)
{
    s->ending = true;
    while (s->in_flight > 0) {
        co_queue_wait(&s->waiting);
    }
}

/*
 * What earlier epochs have used goes before the first flush, which would write it out. In steps,
 * between which the requests of others get the processor.
 */
static void coroutine_fn cut_unused(Qcow2 *q)
{
    Scratch *s = q->scratch;
    uint64_t end = s->next << q->cluster_bits, before = UINT64_MAX;

    while (qcow2_file_end(q) > end && qcow2_file_end(q) < before) {
        before = qcow2_file_end(q);
        qcow2_co_cut_file(q, before - end > SCRATCH_CUT_BYTES ? before - SCRATCH_CUT_BYTES : end);
    }
    if (qcow2_file_end(q) <= end) {
        s->high = s->next;
    }
}

int coroutine_fn scratch_co_end(Qcow2 *q)
{
    Scratch *s = q->scratch;
    int r;

    if (!s) {
        return 0;
    }
    if (s->broken || s->ending || q->corrupt) {
        return -EIO;
    }
    keep_requests_out(s);
    r = complete_all(q);
    if (r == 0) {
        cut_unused(q);
        s->broken = true;
        r = write_tables(q);
        s->broken = r < 0;
    }
    s->ending = false;
    co_queue_wake_all(&q->scratch_queue);
    if (r == 0) {
        q->want_scratch = false;
        q->scratch = NULL;
        scratch_map_destroy(&s->map);
        g_free(s);
    }
    return r;
}
