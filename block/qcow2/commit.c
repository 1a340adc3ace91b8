/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bringing metadata to the file in an order that any power cut may interrupt.
 *
 * "A => B": A is durable before B may reach the disk.
 *
 *   R1   a raised refcount => a pointer to the cluster
 *   R2   guest data and copied data => the L2 entry
 *   R3   a new L2 table and its refcount => the L1 entry
 *   R4   a new refcount block => its refcount table entry
 *   R5   a grown refcount table and its blocks => the header, in one write
 *   R6   a new L1 table => the header, in one write
 *   R7   removal of the last pointer => the lowered refcount
 *   R8   that removal, and the end of all requests that may use the cluster
 *        => its reuse, or a hole in its place
 *   R9   the dirty bit => the first change that is not ordered; everything
 *        durable => the dirty bit is cleared
 *   R10  the backing file => emptying the overlay
 *
 * A commit takes one consistent copy of everything dirty without yielding, and
 * writes that. At that moment every L2 entry's data has been written, and its
 * counts are in the copy or on their way. So: refcounts; [flush; refcount
 * table]; flush; L2; [flush; L1]; flush. Counts freed before the copy was made
 * may go down after that. With lazy refcounts the first step is left out: the
 * dirty bit says so (R9). R5 and R6 are kept where they happen.
 */
#include "qcow2.h"
#include "scratch.h"

/* One slice as it is to be written. */
typedef struct Copy {
    Qcow2Slice *slice;
    uint64_t host;
    uint8_t *data; /* in Copies.data */
} Copy;

typedef struct Copies {
    Copy *v;
    guint n;
    uint8_t *data;
    size_t bytes; /* of data */
} Copies;

/* --- copying --- */

/* Where a slice belongs now; 0: nowhere any more. */
static uint64_t l2_slice_host(const Qcow2 *q, uint64_t key)
{
    uint32_t in_table_bits = q->cluster_bits - q->l2_slice_bits;
    uint64_t i = key >> in_table_bits;
    uint64_t table = i < q->h.l1_size ? q->l1[i] & QCOW2_OFFSET_MASK : 0;

    return table ? table + ((key & ((UINT64_C(1) << in_table_bits) - 1)) << q->l2_slice_bits) : 0;
}

static uint64_t rb_slice_host(const Qcow2 *q, uint64_t key)
{
    uint32_t in_block_bits = q->cluster_bits - q->rb_slice_bits;
    uint64_t i = key >> in_block_bits;
    uint64_t block = i < q->rt_entries ? q->rt[i] : 0;

    return block ? block + ((key & ((UINT64_C(1) << in_block_bits) - 1)) << q->rb_slice_bits) : 0;
}

static int compare_copies(const void *a, const void *b)
{
    const Copy *x = a, *y = b;

    return x->host < y->host ? -1 : x->host > y->host;
}

static bool
copies_take(Qcow2 *q, Qcow2Cache *c, uint64_t (*host_of)(const Qcow2 *, uint64_t), Copies *ret)
{
    *ret = (Copies){.n = c->dirty->len};
    if (ret->n == 0) {
        return true;
    }
    ret->bytes = (size_t)ret->n * c->slice_bytes;
    ret->data = buf_try_alloc(ret->bytes);
    ret->v = g_try_new(Copy, ret->n);
    if (!ret->data || !ret->v) {
        buf_free(ret->data, ret->bytes);
        g_free(ret->v);
        *ret = (Copies){0};
        return false;
    }
    for (guint i = 0; i < ret->n; i++) {
        Qcow2Slice *s = g_ptr_array_index(c->dirty, i);

        ret->v[i] = (Copy){s, host_of(q, s->key), NULL};
        s->dirty = false;
        s->writing = true;
    }
    g_ptr_array_set_size(c->dirty, 0);
    qsort(ret->v, ret->n, sizeof(Copy), compare_copies);
    for (guint i = 0; i < ret->n; i++) {
        ret->v[i].data = ret->data + (size_t)i * c->slice_bytes;
        memcpy(ret->v[i].data, ret->v[i].slice->data, c->slice_bytes);
    }
    return true;
}

static void copies_drop(Qcow2Cache *c, Copies *copies, bool written)
{
    for (guint i = 0; i < copies->n; i++) {
        Qcow2Slice *s = copies->v[i].slice;

        s->writing = false;
        if (!written && copies->v[i].host) {
            qcow2_cache_dirty(c, s);
        }
    }
    buf_free(copies->data, copies->bytes);
    g_free(copies->v);
    *copies = (Copies){0};
}

/* Neighbours in the file are neighbours in the copy: one write each run. */
static int coroutine_fn copies_write(Qcow2 *q, const Copies *copies, uint32_t slice_bytes,
                                     Qcow2Owner owner, const char *event)
{
    int r = 0;

    for (guint i = 0, n; i < copies->n && r == 0; i += n) {
        const Copy *c = &copies->v[i];

        for (n = 1; i + n < copies->n && copies->v[i + n].host == c->host + n * slice_bytes; n++) {
        }
        if (c->host == 0) {
            n = 1;
            continue; /* its table is gone */
        }
        r = qcow2_co_guard(q, c->host, n * slice_bytes, owner);
        if (r == 0) {
            QCOW2_EVENT(q, event);
            r = child_co_pwrite(qcow2_file(q), (int64_t)c->host, c->data, n * slice_bytes, 0);
        }
    }
    return r;
}

int coroutine_fn qcow2_co_write_refcounts(Qcow2 *q, const char *event)
{
    Copies copies;
    int r;

    if (!copies_take(q, &q->rb, rb_slice_host, &copies)) {
        return -ENOMEM;
    }
    r = copies_write(q, &copies, q->rb.slice_bytes, QCOW2_OWNER_REFBLOCK, event);
    copies_drop(&q->rb, &copies, r == 0);
    return r;
}

/* --- tables that are wholly in memory --- */

typedef struct Words {
    uint32_t *index; /* sorted, each once */
    uint64_t *value; /* big-endian */
    guint n;
} Words;

static int compare_indices(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static Words words_take(GArray *dirty, const uint64_t *table, uint32_t entries)
{
    Words w = {g_new(uint32_t, dirty->len), g_new(uint64_t, dirty->len), 0};

    g_array_sort(dirty, compare_indices); /* has no data while it is empty, which qsort() minds */
    for (guint i = 0; i < dirty->len; i++) {
        uint32_t index = g_array_index(dirty, uint32_t, i);

        if (index < entries && (w.n == 0 || w.index[w.n - 1] != index)) {
            w.index[w.n] = index;
            w.value[w.n++] = htobe64(table[index]);
        }
    }
    g_array_set_size(dirty, 0);
    return w;
}

static void words_drop(Words *w, GArray *dirty, bool written)
{
    if (!written) {
        g_array_append_vals(dirty, w->index, w->n);
    }
    g_free(w->index);
    g_free(w->value);
    *w = (Words){0};
}

static int coroutine_fn
words_write(Qcow2 *q, const Words *w, uint64_t table, Qcow2Owner owner, const char *event)
{
    int r = 0;

    for (guint i = 0, n; i < w->n && r == 0; i += n) {
        uint64_t at = table + (uint64_t)w->index[i] * 8;

        for (n = 1; i + n < w->n && w->index[i + n] == w->index[i] + n; n++) {
        }
        r = qcow2_co_guard(q, at, (uint64_t)n * 8, owner);
        if (r == 0) {
            QCOW2_EVENT(q, event);
            r = child_co_pwrite(qcow2_file(q), (int64_t)at, &w->value[i], (size_t)n * 8, 0);
        }
    }
    return r;
}

/* --- the commit --- */

typedef struct Commit {
    Copies rb, l2;
    Words rt, l1;
    GArray *freed; /* Qcow2Range */
    uint64_t freed_bytes;
} Commit;

/* @late: counts stay in memory. */
static bool commit_take(Qcow2 *q, Commit *c, bool late)
{
    *c = (Commit){0};
    if (!late && !copies_take(q, &q->rb, rb_slice_host, &c->rb)) {
        return false;
    }
    if (!copies_take(q, &q->l2, l2_slice_host, &c->l2)) {
        copies_drop(&q->rb, &c->rb, false);
        return false;
    }
    if (!late) {
        c->rt = words_take(q->rt_dirty, q->rt, q->rt_entries);
    }
    c->l1 = words_take(q->l1_dirty, q->l1, q->h.l1_size);
    c->freed = q->freed;
    c->freed_bytes = q->freed_bytes;
    q->freed = g_array_new(FALSE, FALSE, sizeof(Qcow2Range));
    q->freed_bytes = 0;
    return true;
}

static int coroutine_fn commit_counts(Qcow2 *q, const Commit *c)
{
    int r =
        copies_write(q, &c->rb, q->rb.slice_bytes, QCOW2_OWNER_REFBLOCK, "refblock_update_part");

    if (r == 0 && c->rt.n > 0) {
        r = child_co_flush(qcow2_file(q)); /* R4 */
        if (r == 0) {
            r = words_write(q, &c->rt, q->h.reftable_offset, QCOW2_OWNER_REFTABLE,
                            "refblock_alloc_hookup");
        }
    }
    return r;
}

static int coroutine_fn commit_map(Qcow2 *q, const Commit *c)
{
    int r;

    if (c->l2.n == 0 && c->l1.n == 0) {
        return 0;
    }
    r = child_co_flush(qcow2_file(q)); /* R1, R2 */
    if (r == 0) {
        r = copies_write(q, &c->l2, q->l2.slice_bytes, QCOW2_OWNER_L2, "l2_update");
    }
    if (r == 0 && c->l1.n > 0) {
        if (c->l2.n > 0) {
            r = child_co_flush(qcow2_file(q)); /* R3 */
        }
        if (r == 0) {
            r = words_write(q, &c->l1, q->h.l1_offset, QCOW2_OWNER_L1, "l1_update");
        }
    }
    return r;
}

/* R7 holds from here on; R8 waits for requests. */
static void quarantine(Qcow2 *q, Commit *c)
{
    Qcow2FreedBatch *b = g_new0(Qcow2FreedBatch, 1);

    b->ranges = g_steal_pointer(&c->freed);
    b->epoch = q->io_epoch;
    *q->quarantine_tail = b;
    q->quarantine_tail = &b->next;
}

static void commit_end(Qcow2 *q, Commit *c, bool done)
{
    copies_drop(&q->l2, &c->l2, done);
    words_drop(&c->l1, q->l1_dirty, done);
    if (done && c->freed->len > 0) {
        quarantine(q, c);
    } else {
        g_array_append_vals(q->freed, c->freed->data, c->freed->len);
        q->freed_bytes += c->freed_bytes;
        g_array_free(c->freed, TRUE);
    }
}

bool qcow2_is_clean(const Qcow2 *q)
{
    return q->rb.dirty->len == 0 && q->l2.dirty->len == 0 && q->l1_dirty->len == 0 &&
           q->rt_dirty->len == 0 && q->freed->len == 0;
}

static bool counts_are_dirty(const Qcow2 *q)
{
    return q->rb.dirty->len > 0 || q->rt_dirty->len > 0;
}

static int coroutine_fn commit_locked(Qcow2 *q, bool all)
{
    bool late = !all && q->lazy && counts_are_dirty(q);
    Commit c;
    int r;

    if (qcow2_is_clean(q)) {
        QCOW2_EVENT(q, "flush_to_disk");
        return child_co_flush(qcow2_file(q));
    }
    if (late) {
        r = qcow2_co_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0); /* R9 */
        if (r < 0) {
            return r;
        }
    }
    co_mutex_lock(&q->rb_write_lock);
    if (!commit_take(q, &c, late)) {
        co_mutex_unlock(&q->rb_write_lock);
        return -ENOMEM;
    }
    r = commit_counts(q, &c);
    copies_drop(&q->rb, &c.rb, r == 0);
    words_drop(&c.rt, q->rt_dirty, r == 0);
    co_mutex_unlock(&q->rb_write_lock);

    if (r == 0) {
        r = commit_map(q, &c);
    }
    if (r == 0) {
        QCOW2_EVENT(q, "flush_to_disk");
        r = child_co_flush(qcow2_file(q));
    }
    commit_end(q, &c, r == 0);
    qcow2_clean_later(q);
    return r;
}

int coroutine_fn qcow2_co_commit_locked(Qcow2 *q)
{
    return commit_locked(q, true);
}

static int coroutine_fn commit_and_release(Qcow2 *q, bool all)
{
    int r;

    CO_LOCK_GUARD(&q->commit_lock);
    r = commit_locked(q, all);
    if (r == 0 && (q->quarantine || q->used_end)) {
        CO_LOCK_GUARD(&q->meta_lock);
        (void)!qcow2_co_release(q); /* what could not be released leaks; the flush has happened */
        if (q->used_end) {
            qcow2_co_cut_step(q);
        }
    }
    return r;
}

int coroutine_fn qcow2_co_commit(Qcow2 *q)
{
    return commit_and_release(q, false);
}

int coroutine_fn qcow2_co_commit_all(Qcow2 *q)
{
    return commit_and_release(q, true);
}

int coroutine_fn qcow2_co_settle(Qcow2 *q)
{
    int r;

    qcow2_co_cut_rest(q);
    r = qcow2_co_commit_all(q);
    if (r == 0 && !qcow2_is_clean(q)) {
        r = qcow2_co_commit_all(q); /* counts that the first one has lowered */
    }
    /* Of an image that is open to be repaired only a check knows whether its counts are right. */
    if (r == 0 && q->h.incompatible & QCOW2_INCOMPAT_DIRTY && qcow2_is_clean(q) &&
        !q->quarantine && !q->node->flags.repair) {
        r = qcow2_co_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY); /* R9 */
        if (r == 0) {
            r = child_co_flush(qcow2_file(q));
        }
    }
    return r;
}

/* Keep a quarter of the cache for readers, and bound what quarantine costs in space. */
int coroutine_fn qcow2_co_relieve(Qcow2 *q)
{
    if (likely(q->l2.dirty->len <= q->l2.max_slices * 3 / 4 &&
               q->rb.dirty->len <= q->rb.max_slices * 3 / 4 && q->freed_bytes <= 64 * MiB)) {
        return 0;
    }
    return qcow2_co_commit_all(q);
}

int coroutine_fn qcow2_co_flush(BlockNode *node)
{
    Qcow2 *q = qcow2_of(node);

    if (!qcow2_is_usable(q)) {
        return -EIO;
    }
    if (node->flags.read_only || !q->writable) {
        return 0; /* nothing has been changed, maybe nothing opened */
    }
    if (q->scratch) {
        return scratch_co_flush(q);
    }
    return qcow2_co_commit(q);
}
