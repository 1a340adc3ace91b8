/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turning the scratch policy on, emptying, host clusters, and giving space back.
 *
 * begin leaves a durable empty image on disk, in version 3 with the dirty bit,
 * so that whoever opens it after a crash repairs an empty image (R9). From
 * then on neither tables nor refcounts nor the header are written.
 */
#include "scratch.h"

#define SUB_BITS   12
#define KEEP_BYTES (1 * GiB) /* host space kept for reuse however little is in use */

/* --- begin and empty --- */

static Scratch *scratch_new(const Qcow2 *q, uint64_t base)
{
    Scratch *s = g_new0(Scratch, 1);

    s->sub_bits = MIN(q->cluster_bits, SUB_BITS);
    s->sub_blocks = UINT32_C(1) << (q->cluster_bits - s->sub_bits);
    s->base = s->next = s->high = base;
    if (!scratch_map_init(&s->map, s->sub_blocks)) {
        g_free(s);
        return NULL;
    }
    return s;
}

void scratch_free(Qcow2 *q)
{
    if (q->scratch) {
        scratch_map_destroy(&q->scratch->map);
        g_free(q->scratch);
        q->scratch = NULL;
    }
}

static int coroutine_fn prepare_disk(Qcow2 *q, uint64_t *ret_base)
{
    uint64_t end = 0;
    int r = qcow2_co_empty_on_disk(q);

    if (r == 0) {
        qcow2_co_cut_rest(q);
        CO_LOCK_GUARD(&q->meta_lock);
        r = qcow2_co_used_end(q, &end);
    }
    if (r == 0) {
        r = qcow2_co_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0); /* R9 */
    }
    if (r == 0) {
        *ret_base = end >> q->cluster_bits;
    }
    return r;
}

int coroutine_fn scratch_co_begin(Qcow2 *q)
{
    uint64_t base = 0;
    Scratch *s;
    int r;

    if (q->scratch && !q->scratch->broken) {
        scratch_empty(q);
        return 0;
    }
    r = prepare_disk(q, &base);
    if (r < 0) {
        return r;
    }
    s = scratch_new(q, base);
    if (!s) {
        (void)!qcow2_co_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY); /* repaired at open if not */
        return -ENOMEM;
    }
    scratch_free(q);
    q->scratch = s;
    return 0;
}

void scratch_empty(Qcow2 *q)
{
    Scratch *s = q->scratch;

    scratch_map_empty(&s->map);
    if (s->in_flight == 0) {
        s->next = s->base;
    } /* else who is in flight may still use its clusters: go on behind them */
}

/* --- host clusters --- */

uint64_t coroutine_fn scratch_co_alloc(Qcow2 *q, uint64_t n)
{
    Scratch *s = q->scratch;
    uint64_t host;

    while (s->trimming && s->next + n > s->high) {
        co_queue_wait(&s->waiting);
    }
    host = s->next;
    s->next += n;
    s->high = MAX(s->high, s->next);
    return host;
}

void coroutine_fn scratch_co_trim(Qcow2 *q)
{
    Scratch *s = q->scratch;
    uint64_t keep = s->base + (KEEP_BYTES >> q->cluster_bits);
    uint64_t step = MAX(SCRATCH_CUT_BYTES >> q->cluster_bits, 1);
    uint64_t floor = MAX(keep, s->next);

    s->since_trim = 0;
    if (s->high <= floor || s->trimming || s->no_trim || s->ending) {
        return;
    }
    s->in_flight++; /* end and close wait for us */
    s->trimming = true;
    s->high = MAX(floor, s->high - MIN(step, s->high));
    s->no_trim = !child_co_truncate(qcow2_file(q), (int64_t)(s->high << q->cluster_bits), false,
                                    BLOCK_PREALLOC_OFF, 0, NULL);
    s->trimming = false;
    s->in_flight--;
    co_queue_wake_all(&s->waiting);
}
