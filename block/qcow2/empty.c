/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Emptying: every cluster unallocated again, the length kept.
 *
 * The fast way writes a fresh set of tables at the start of the file and cuts
 * off the rest, however much was in the image. The dirty bit covers the time
 * when refcounts are wrong; after a cut at any step the image opens, is
 * repaired and is either as before or (partly) empty:
 *
 *   1  dirty bit, flush                       content intact
 *   2  old L1 becomes zeroes                  empty or partly empty, leaks
 *   3  clusters 1 to 2+n become zeroes; flush refcounts are lost: rebuilt
 *   4  the header points at them              empty
 *   5  refcount table entry 0
 *   6  refcounts of clusters 0 to 2+n, flush  consistent
 *   7  dirty bit cleared
 *   8  file cut, a bit with each commit
 *
 * Where tables have moved, guest data may lie in the clusters of step 3: they
 * are zeroed only when no L1 entry can lead there any more, after one flush more.
 *
 * The flush in step 3 matters: without it the header might switch to an L1
 * table that still holds what cluster 3 held before. Steps 4 to 6 may reach the
 * disk in any order: refcounts are rebuilt while the image is dirty. So what is
 * in memory need not be written before; and whether 7 and 8 survive matters to
 * nobody until the next flush. Cutting costs the kernel what all the rest does
 * many times over, so it is left to the commits to come, and to the close. What
 * is allocated until then lies in the old part: zeroes are put there ahead of
 * it by the piece, so that it is as good as what was never used.
 *
 * The general way (version 2, or tables too large for one refcount block)
 * frees cluster by cluster in the order of R7.
 */
#include "qcow2.h"
#include "scratch.h"

bool qcow2_is_empty(const Qcow2 *q)
{
    for (uint32_t i = 0; i < q->h.l1_size; i++) {
        if (q->l1[i]) {
            return false;
        }
    }
    return true;
}

static uint64_t l1_clusters(const Qcow2 *q)
{
    return DIV_ROUND_UP((uint64_t)q->h.l1_size * 8, q->cluster_size);
}

static bool fast_is_possible(const Qcow2 *q)
{
    return q->h.version >= 3 && q->h.nb_snapshots == 0 && !q->h.has_bitmaps &&
           3 + l1_clusters(q) <= UINT64_C(1) << q->rb_bits;
}

static int coroutine_fn write_zeroes(Qcow2 *q, uint64_t host, uint64_t bytes)
{
    return bytes ? child_co_pwrite_zeroes(qcow2_file(q), (int64_t)host, (int64_t)bytes, 0) : 0;
}

static int coroutine_fn flush(Qcow2 *q)
{
    return child_co_flush(qcow2_file(q));
}

/* --- the fast way --- */

/* Where the fresh ones go nothing lies but the tables whose place they take. */
static bool tables_are_in_place(const Qcow2 *q)
{
    return q->h.l1_offset == 3 * q->cluster_size && q->h.reftable_offset == q->cluster_size &&
           q->h.reftable_clusters == 1 && q->rt[0] == 2 * q->cluster_size;
}

/* Steps 3 to 6. */
static int coroutine_fn write_fresh_tables(Qcow2 *q, uint64_t n)
{
    uint8_t head[20], entry[8];
    uint8_t *block;
    int r = tables_are_in_place(q) ? 0 : flush(q); /* R7 */

    if (r == 0) {
        r = write_zeroes(q, q->cluster_size, (2 + n) << q->cluster_bits);
    }
    if (r == 0) {
        r = flush(q); /* R6 */
    }
    if (r < 0) {
        return r;
    }
    qcow2_put64(head, 3 * q->cluster_size);
    qcow2_put64(head + 8, q->cluster_size);
    qcow2_put32(head + 16, 1);
    r = child_co_pwrite(qcow2_file(q), QCOW2_AT_L1_OFFSET, head, sizeof(head), 0);
    if (r == 0) {
        qcow2_put64(entry, 2 * q->cluster_size);
        r = child_co_pwrite(qcow2_file(q), (int64_t)q->cluster_size, entry, sizeof(entry), 0);
    }
    if (r < 0) {
        return r;
    }
    block = buf_try_alloc(q->cluster_size);
    if (!block) {
        return -ENOMEM;
    }
    memset(block, 0, q->cluster_size);
    for (uint64_t i = 0; i < 3 + n; i++) {
        qcow2_refcount_pack(block, q->h.refcount_order, i, 1);
    }
    r = child_co_pwrite(qcow2_file(q), (int64_t)(2 * q->cluster_size), block, q->cluster_size, 0);
    buf_free(block, q->cluster_size);
    return r < 0 ? r : flush(q); /* R9 */
}

/* Memory says what steps 2 to 6 have made. */
static void adopt_fresh_tables(Qcow2 *q, uint64_t n)
{
    uint64_t entries = q->cluster_size / 8;

    q->h.l1_offset = 3 * q->cluster_size;
    q->h.reftable_offset = q->cluster_size;
    q->h.reftable_clusters = 1;
    memset(q->l1, 0, (size_t)q->h.l1_size * 8);
    if (q->rt_entries < entries) {
        g_free(q->rt);
        q->rt = g_new(uint64_t, entries);
    }
    q->rt_entries = (uint32_t)entries;
    memset(q->rt, 0, entries * 8);
    q->rt[0] = 2 * q->cluster_size;
    q->free_hint = 3 + n;
}

static void forget_tables(Qcow2 *q)
{
    qcow2_cache_drop(&q->l2);
    qcow2_cache_drop(&q->rb);
    qcow2_meta_forget(q);
    qcow2_forget_freed(q);
    g_array_set_size(q->l1_dirty, 0);
    g_array_set_size(q->rt_dirty, 0);
}

/*
 * A power cut may bring back what was cut off. Whoever takes that for fresh has
 * nothing point at it before the next flush.
 */
void coroutine_fn qcow2_co_cut_file(Qcow2 *q, uint64_t end)
{
    if (child_co_truncate(qcow2_file(q), (int64_t)end, false, BLOCK_PREALLOC_OFF, 0, NULL)) {
        q->fresh_from = MAX(end, qcow2_file_end(q));
    } /* else: a long file is no error; what is in it is not fresh */
}

/* Small enough not to be felt by one request. */
static uint64_t cut_bytes(const Qcow2 *q)
{
    return MIN(128 * q->cluster_size, 8 * (uint64_t)MiB);
}

static void coroutine_fn cut_to(Qcow2 *q, uint64_t end)
{
    uint64_t used_end = q->used_end;

    if (qcow2_file_end(q) > end) {
        qcow2_co_cut_file(q, end);
    }
    if (end == used_end || qcow2_file_end(q) > end) { /* done, or it cannot be done */
        q->used_end = 0;
    }
}

void coroutine_fn qcow2_co_cut_step(Qcow2 *q)
{
    uint64_t end = qcow2_file_end(q), step = cut_bytes(q);

    cut_to(q, end > q->used_end + step ? end - step : q->used_end);
}

/*
 * Nobody has been given anything behind used_end. As with what is cut off, a
 * power cut may bring back what was there as long as nothing points at it.
 */
bool coroutine_fn qcow2_co_blank(Qcow2 *q, uint64_t host, uint64_t end)
{
    uint64_t from = MAX(q->used_end, q->blank_to);
    uint64_t to = MIN(end + cut_bytes(q), qcow2_file_end(q));

    if (q->blank_to && end > q->blank_to && to > from) {
        int r = child_co_pwrite_zeroes(qcow2_file(q), (int64_t)from, (int64_t)(to - from),
                                       REQ_MAY_UNMAP | REQ_NO_FALLBACK);

        q->blank_to = r < 0 ? 0 : to;
    }
    return host >= q->used_end && end <= q->blank_to;
}

void coroutine_fn qcow2_co_cut_rest(Qcow2 *q)
{
    CO_LOCK_GUARD(&q->meta_lock);

    if (q->used_end) {
        cut_to(q, q->used_end);
    }
}

static void redirty_l1(Qcow2 *q)
{
    for (uint32_t i = 0; i < q->h.l1_size; i++) {
        if (q->l1[i]) {
            g_array_append_val(q->l1_dirty, i);
        }
    }
}

static int coroutine_fn empty_fast(Qcow2 *q)
{
    uint64_t n = l1_clusters(q);
    int r = qcow2_co_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0);

    if (r < 0) {
        return r;
    }
    QCOW2_EVENT(q, "empty_image_prepare");
    if (!q->half_empty) {
        r = write_zeroes(q, q->h.l1_offset, n << q->cluster_bits);
        if (r < 0) {
            redirty_l1(q); /* memory has it all: the next commit puts it back */
            return r;
        }
    }
    q->half_empty = true;
    forget_tables(q);
    r = write_fresh_tables(q, n);
    if (r < 0) {
        return r;
    }
    adopt_fresh_tables(q, n);
    q->half_empty = false;
    r = qcow2_co_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY);
    q->used_end = (3 + n) << q->cluster_bits;
    q->blank_to = q->used_end;
    q->fresh_from = MAX(q->fresh_from, qcow2_file_end(q));
    if (qcow2_file_end(q) <= q->used_end + cut_bytes(q)) {
        qcow2_co_cut_rest(q);
    }
    return r;
}

/* --- the general way --- */

static int coroutine_fn free_table(Qcow2 *q, uint32_t i, uint8_t *table)
{
    int r = qcow2_co_l2_table(q, i, table);

    for (uint64_t k = 0; r == 0 && k < q->cluster_size; k += 8) {
        uint64_t entry = qcow2_get64(table + k);

        if (!qcow2_entry_is_sane(entry, q->h.version, q->cluster_bits, qcow2_file_end(q))) {
            return qcow2_co_corrupt(q, (q->l1[i] & QCOW2_OFFSET_MASK) + k, 8,
                                    "L2 entry %#" PRIx64 " is bad", entry);
        }
        qcow2_free_entry(q, entry, QCOW2_FREE_ALWAYS);
    }
    return r;
}

static int coroutine_fn free_everything(Qcow2 *q)
{
    guint had = q->freed->len;
    uint8_t *table = buf_try_alloc(q->cluster_size);
    int r = table ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < q->h.l1_size && r == 0; i++) {
        if (q->l1[i]) {
            r = free_table(q, i, table);
        }
    }
    buf_free(table, q->cluster_size);
    if (r < 0) {
        g_array_set_size(q->freed, had); /* nothing has changed yet */
        return r;
    }
    redirty_l1(q);
    for (uint32_t i = 0; i < q->h.l1_size; i++) {
        if (q->l1[i]) {
            qcow2_free(q, q->l1[i] & QCOW2_OFFSET_MASK, q->cluster_size, QCOW2_FREE_ALWAYS);
            q->l1[i] = 0;
        }
    }
    qcow2_cache_drop(&q->l2);
    qcow2_meta_forget(q);
    return 0;
}

/* Behind the last cluster in use. */
int coroutine_fn qcow2_co_used_end(Qcow2 *q, uint64_t *ret)
{
    uint64_t c = qcow2_file_end(q) >> q->cluster_bits;

    for (; c > 0; c--) {
        uint64_t count;
        int r = qcow2_co_refcount_get(q, c - 1, &count);

        if (r < 0) {
            return r;
        }
        if (count) {
            break;
        }
    }
    *ret = c << q->cluster_bits;
    return 0;
}

static int coroutine_fn empty_slowly(Qcow2 *q)
{
    uint64_t end;
    int r = free_everything(q);

    if (r == 0) {
        r = qcow2_co_commit_locked(q); /* R7 */
    }
    if (r < 0) {
        return r;
    }
    co_mutex_lock(&q->meta_lock);
    r = qcow2_co_release(q);
    if (r == 0) {
        r = qcow2_co_used_end(q, &end);
    }
    co_mutex_unlock(&q->meta_lock);
    if (r == 0) {
        r = qcow2_co_commit_locked(q);
    }
    if (r == 0) {
        qcow2_co_cut_file(q, end);
    }
    return r;
}

int coroutine_fn qcow2_co_empty_on_disk(Qcow2 *q)
{
    int r = 0;

    CO_LOCK_GUARD(&q->commit_lock);
    if (q->corrupt) {
        return -EIO;
    }
    if (q->node->backing) {
        r = child_co_flush(q->node->backing); /* R10 */
    }
    if (r < 0) {
        return r;
    }
    if (fast_is_possible(q)) {
        return empty_fast(q);
    }
    r = qcow2_co_commit_locked(q);
    return r < 0 || qcow2_is_empty(q) ? r : empty_slowly(q);
}

int coroutine_fn qcow2_co_make_empty(BlockNode *node)
{
    Qcow2 *q = qcow2_of(node);

    if (!q->writable && !qcow2_co_become_writable(q, NULL)) {
        return -EACCES;
    }
    if (q->scratch && !q->scratch->broken) {
        scratch_empty(q);
        return 0;
    }
    if (q->want_scratch) {
        return scratch_co_begin(q);
    }
    return qcow2_co_empty_on_disk(q);
}
