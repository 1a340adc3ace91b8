/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of an image with the scratch policy.
 *
 * A sub-block becomes "data" only after its data has been written, so a reader
 * sees the backing file's content until then. Writing a sub-block for the
 * first time holds it in s->firsts: shared if the whole of it is written,
 * exclusive if the rest comes from below, because that rest must not cover
 * what another first writer has just stored. If the image is emptied while a
 * write is on its way, the write ends without effect.
 */
#include "scratch.h"

/* --- coming and going --- */

/* False: the policy has ended while we waited. */
static bool coroutine_fn enter(Qcow2 *q)
{
    while (q->scratch && q->scratch->ending) {
        co_queue_wait(&q->scratch_queue);
    }
    if (q->scratch) {
        q->scratch->in_flight++;
    }
    return q->scratch != NULL;
}

static void leave(Scratch *s)
{
    s->in_flight--;
    if (s->in_flight == 0 && s->ending) {
        co_queue_wake_all(&s->waiting);
    }
}

/* --- looking --- */

static void run_in_cluster(const Qcow2 *q, uint64_t guest, uint64_t bytes, ScratchRun *ret)
{
    const Scratch *s = q->scratch;
    uint64_t into = guest & (q->cluster_size - 1);
    ScratchEntry *e = scratch_map_find(&s->map, guest >> q->cluster_bits);
    uint32_t sub = (uint32_t)(into >> s->sub_bits);
    uint64_t left = q->cluster_size - into;

    if (!e) {
        *ret = (ScratchRun){SCRATCH_ABSENT, 0, MIN(bytes, left)};
        return;
    }
    left =
        ((uint64_t)(sub + scratch_entry_run(&s->map, e, sub, s->sub_blocks)) << s->sub_bits) - into;
    *ret = (ScratchRun){
        .state = scratch_entry_state(&s->map, e, sub),
        .host = (e->host << q->cluster_bits) + into,
        .bytes = MIN(bytes, left),
    };
}

void scratch_run(const Qcow2 *q, uint64_t guest, uint64_t bytes, ScratchRun *ret)
{
    run_in_cluster(q, guest, bytes, ret);
    while (ret->bytes < bytes && IS_ALIGNED(guest + ret->bytes, q->cluster_size)) {
        ScratchRun more;

        run_in_cluster(q, guest + ret->bytes, bytes - ret->bytes, &more);
        if (more.state != ret->state ||
            (more.state == SCRATCH_DATA && more.host != ret->host + ret->bytes)) {
            return;
        }
        ret->bytes += more.bytes;
    }
}

/* --- reading --- */

static int coroutine_fn read_run(Qcow2 *q, const ScratchRun *run, uint64_t guest, IoVec iov)
{
    switch (run->state) {
    case SCRATCH_DATA:
        QCOW2_EVENT(q, "read_aio");
        return child_co_preadv(qcow2_file(q), (int64_t)run->host, iov, 0);
    case SCRATCH_ABSENT:
        return qcow2_co_read_backing(q, guest, iov);
    case SCRATCH_ZERO:
        iov_fill(iov, 0);
        return 0;
    }
    g_assert_not_reached();
}

int coroutine_fn scratch_co_preadv(Qcow2 *q, uint64_t guest, IoVec iov)
{
    uint64_t done = 0;
    int r = 0;

    if (!enter(q)) {
        return qcow2_co_preadv(q->node, (int64_t)guest, iov, 0);
    }
    while (done < iov.bytes && r == 0) {
        ScratchRun run;

        scratch_run(q, guest + done, iov.bytes - done, &run);
        r = read_run(q, &run, guest + done, iov_slice(iov, done, run.bytes));
        done += run.bytes;
    }
    leave(q->scratch);
    return r;
}

static int coroutine_fn copy_run(Qcow2 *q, const ScratchRun *run, uint64_t guest,
                                 const Qcow2Copy *c)
{
    switch (run->state) {
    case SCRATCH_DATA:
        return qcow2_co_copy_stored(q, run->host, c);
    case SCRATCH_ABSENT:
        return qcow2_co_copy_backing(q, guest, c);
    case SCRATCH_ZERO:
        return qcow2_co_copy_zeroes(c);
    }
    g_assert_not_reached();
}

int coroutine_fn scratch_co_copy_from(Qcow2 *q, uint64_t guest, const Qcow2Copy *c)
{
    uint64_t done = 0;
    int r = 0;

    if (!enter(q)) {
        return qcow2_co_copy_range_from(q->node, (int64_t)guest, c->dst, (int64_t)c->to,
                                        (int64_t)c->bytes, c->flags);
    }
    while (done < c->bytes && r == 0) {
        Qcow2Copy part = *c;
        ScratchRun run;

        scratch_run(q, guest + done, c->bytes - done, &run);
        part.to += done;
        part.bytes = run.bytes;
        r = copy_run(q, &run, guest + done, &part);
        done += run.bytes;
    }
    leave(q->scratch);
    return r;
}

/* --- writing --- */

/* Part of a request whose host clusters follow each other. */
typedef struct First {
    uint64_t guest, bytes;
    uint64_t start, end; /* rounded to sub-blocks */
    uint64_t host;       /* file offset for start */
    uint32_t epoch;
} First;

/* Give every cluster from @guest on a host that follows the one before; fewer bytes if not. */
static int coroutine_fn take_hosts(Qcow2 *q, First *f)
{
    Scratch *s = q->scratch;
    uint64_t first = f->guest >> q->cluster_bits;
    uint64_t last = (f->guest + f->bytes - 1) >> q->cluster_bits;
    uint64_t want = 0, host, n;
    ScratchEntry *e = scratch_map_find(&s->map, first);

    if (e && e->host) {
        host = e->host; /* go on as far as the hosts of the next ones follow */
        for (n = 1; first + n <= last; n++) {
            e = scratch_map_find(&s->map, first + n);
            if (!e || e->host != host + n) {
                break;
            }
        }
    } else {
        for (n = 0; first + n <= last; n++, want++) {
            e = scratch_map_find(&s->map, first + n);
            if (e && e->host) {
                break;
            }
        }
        host = scratch_co_alloc(q, want); /* may wait: look again at who has a host by now */
        for (uint64_t i = 0; i < want; i++) {
            e = scratch_map_get(&s->map, first + i);
            if (!e) {
                return -ENOMEM;
            }
            if (e->host) {
                n = i;
                break;
            }
            e->host = host + i;
        }
        if (n == 0) {
            f->bytes = 0;
            return 0;
        }
    }
    f->bytes = MIN(f->bytes, ((first + n) << q->cluster_bits) - f->guest);
    f->start = ALIGN_DOWN(f->guest, scratch_sub_bytes(s));
    f->end = ALIGN_UP(f->guest + f->bytes, scratch_sub_bytes(s));
    f->host = (host << q->cluster_bits) + (f->start & (q->cluster_size - 1));
    f->epoch = s->map.epoch;
    return 0;
}

static bool is_data(const Qcow2 *q, uint64_t guest)
{
    ScratchRun run;

    scratch_run(q, guest, 1, &run);
    return run.state == SCRATCH_DATA;
}

/* Bytes at the edges that must come from below, because their sub-block is not data yet. */
static uint64_t head_fill(const Qcow2 *q, const First *f)
{
    return f->start < f->guest && !is_data(q, f->start) ? f->guest - f->start : 0;
}

static uint64_t tail_fill(const Qcow2 *q, const First *f)
{
    uint64_t end = f->guest + f->bytes;

    return end < f->end && !is_data(q, f->end - 1) ? f->end - end : 0;
}

/* What is in [@guest, @guest + @bytes) now, zeroes behind the end of the disk. */
static int coroutine_fn read_edge(Qcow2 *q, uint64_t guest, uint8_t *buf, uint64_t bytes)
{
    uint64_t inside = guest < q->h.size ? MIN(bytes, q->h.size - guest) : 0, done = 0;
    struct iovec v;
    int r = 0;

    memset(buf + inside, 0, bytes - inside);
    while (done < inside && r == 0) {
        ScratchRun run;

        scratch_run(q, guest + done, inside - done, &run);
        r = read_run(q, &run, guest + done, iov_one(&v, buf + done, run.bytes));
        done += run.bytes;
    }
    return r;
}

static int coroutine_fn
write_filled(Qcow2 *q, const First *f, uint64_t head, uint64_t tail, IoVec iov)
{
    struct iovec *v = g_new(struct iovec, iov.n + 2);
    uint8_t *buf = buf_try_alloc(head + tail);
    int n = 0, r = buf ? 0 : -ENOMEM;

    QCOW2_EVENT(q, "cow_read");
    if (r == 0 && head) {
        r = read_edge(q, f->start, buf, head);
        v[n++] = (struct iovec){buf, head};
    }
    n += iov_to_sys(iov, v + n, iov.n);
    if (r == 0 && tail) {
        r = read_edge(q, f->end - tail, buf + head, tail);
        v[n++] = (struct iovec){buf + head, tail};
    }
    if (r == 0) {
        uint64_t at = f->host + (f->guest - f->start) - head;

        QCOW2_EVENT(q, "write_aio");
        QCOW2_EVENT(q, "cow_write");
        r = child_co_pwritev(qcow2_file(q), (int64_t)at, iov_of(v, n), 0);
    }
    buf_free(buf, head + tail);
    g_free(v);
    return r;
}

static void mark_data(Qcow2 *q, const First *f)
{
    Scratch *s = q->scratch;
    uint64_t at = f->start;

    if (f->epoch != s->map.epoch) {
        return; /* emptied meanwhile */
    }
    while (at < f->end) {
        uint64_t into = at & (q->cluster_size - 1);
        uint64_t bytes = MIN(q->cluster_size - into, f->end - at);
        ScratchEntry *e = scratch_map_find(&s->map, at >> q->cluster_bits);

        scratch_entry_set(&s->map, e, (uint32_t)(into >> s->sub_bits),
                          (uint32_t)(bytes >> s->sub_bits), SCRATCH_DATA);
        at += bytes;
    }
}

static int coroutine_fn write_locked(Qcow2 *q, const First *f, IoVec iov)
{
    uint64_t head = head_fill(q, f), tail = tail_fill(q, f);
    int r;

    if (f->epoch != q->scratch->map.epoch) {
        return 0; /* emptied while we waited: the host clusters may be another's by now */
    }
    if (head || tail) {
        r = write_filled(q, f, head, tail, iov);
    } else {
        QCOW2_EVENT(q, "write_aio");
        r = child_co_pwritev(qcow2_file(q), (int64_t)(f->host + (f->guest - f->start)), iov, 0);
    }
    if (r == 0) {
        mark_data(q, f);
    }
    return r;
}

/* Write the start of @iov where at least the first sub-block is not data yet. */
static int coroutine_fn write_first(Qcow2 *q, uint64_t guest, IoVec iov, uint64_t *ret_done)
{
    Scratch *s = q->scratch;
    First f = {.guest = guest, .bytes = iov.bytes};
    CoRangeMode mode = CO_RANGE_SHARED;
    CoRange range;
    int r = take_hosts(q, &f);

    *ret_done = f.bytes;
    if (r < 0 || f.bytes == 0) {
        return r;
    }
    for (;;) {
        if (head_fill(q, &f) || tail_fill(q, &f)) {
            mode = CO_RANGE_EXCLUSIVE;
        }
        co_range_lock(&s->firsts, &range, f.start, f.end - f.start, mode);
        if (mode == CO_RANGE_EXCLUSIVE || !(head_fill(q, &f) || tail_fill(q, &f))) {
            break;
        }
        co_range_unlock(&s->firsts, &range); /* zeroed while we waited */
    }
    r = write_locked(q, &f, iov_slice(iov, 0, f.bytes));
    co_range_unlock(&s->firsts, &range);
    return r;
}

int coroutine_fn scratch_co_pwritev(Qcow2 *q, uint64_t guest, IoVec iov)
{
    uint64_t done = 0;
    int r = 0;

    if (!enter(q)) {
        return qcow2_co_pwritev(q->node, (int64_t)guest, iov, 0);
    }
    while (done < iov.bytes && r == 0) {
        IoVec rest = iov_slice(iov, done, iov.bytes - done);
        ScratchRun run;

        scratch_run(q, guest + done, rest.bytes, &run);
        if (run.state == SCRATCH_DATA) {
            QCOW2_EVENT(q, "write_aio");
            r = child_co_pwritev(qcow2_file(q), (int64_t)run.host, iov_slice(rest, 0, run.bytes),
                                 0);
        } else {
            r = write_first(q, guest + done, rest, &run.bytes);
        }
        done += run.bytes;
    }
    leave(q->scratch);
    if (unlikely(++q->scratch->since_trim >= 64)) {
        scratch_co_trim(q);
    }
    return r;
}

/* --- zeroes --- */

/* Sub-blocks of one cluster. */
static int zero_in_cluster(Qcow2 *q, uint64_t guest, uint64_t bytes, bool discard)
{
    Scratch *s = q->scratch;
    uint64_t cluster = guest >> q->cluster_bits;
    bool below = guest < qcow2_backing_bytes(q);
    uint32_t sub = (uint32_t)((guest & (q->cluster_size - 1)) >> s->sub_bits);
    uint32_t n = (uint32_t)(DIV_ROUND_UP(bytes, scratch_sub_bytes(s)));
    ScratchEntry *e = scratch_map_find(&s->map, cluster);

    if (!e && (discard || !below)) {
        return 0;
    }
    e = scratch_map_get(&s->map, cluster);
    if (!e) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!discard || scratch_entry_state(&s->map, e, sub + i) == SCRATCH_DATA) {
            scratch_entry_set(&s->map, e, sub + i, 1, SCRATCH_ZERO);
        }
    }
    return 0;
}

int coroutine_fn scratch_co_zero(Qcow2 *q, uint64_t guest, uint64_t bytes, bool discard)
{
    Scratch *s;
    uint64_t start, end;
    CoRange range;
    int r = 0;

    if (!enter(q)) {
        return discard ? qcow2_co_pdiscard(q->node, (int64_t)guest, (int64_t)bytes)
                       : qcow2_co_pwrite_zeroes(q->node, (int64_t)guest, (int64_t)bytes, 0);
    }
    s = q->scratch;
    start = ALIGN_UP(guest, scratch_sub_bytes(s));
    end = guest + bytes >= q->h.size ? guest + bytes
                                     : ALIGN_DOWN(guest + bytes, scratch_sub_bytes(s));
    if (start >= end || (!discard && (start != guest || end != guest + bytes))) {
        leave(s);
        return discard ? 0 : -ENOTSUP;
    }
    /* A first write in flight below us would make data of what we have cleared. */
    co_range_lock(&s->firsts, &range, start, end - start, CO_RANGE_EXCLUSIVE);
    while (start < end && r == 0) {
        uint64_t n = MIN(end - start, q->cluster_size - (start & (q->cluster_size - 1)));

        r = zero_in_cluster(q, start, n, discard);
        start += n;
    }
    co_range_unlock(&s->firsts, &range);
    leave(s);
    return r;
}

/* Nothing here needs to be durable; space that is too much goes back bit by bit. */
int coroutine_fn scratch_co_flush(Qcow2 *q)
{
    scratch_co_trim(q);
    return 0;
}
