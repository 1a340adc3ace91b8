/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts of host clusters: the refcount table, all in memory, and slices of
 * refcount blocks through the cache.
 *
 * The counts in memory are always ones that may go to disk at any moment: they
 * are raised before anything points at a cluster (R1) and lowered only when it
 * is durable that nothing does any more (R7). So blocks are written in any
 * order, and only what relies on them has to wait.
 *
 * All under meta_lock.
 */
#include "qcow2.h"

static uint32_t slice_count_bits(const Qcow2 *q)
{
    return q->rb_slice_bits + 3 - q->h.refcount_order;
}

static int coroutine_fn check_rt_entry(Qcow2 *q, uint64_t i)
{
    uint64_t host = q->rt[i], at = q->h.reftable_offset + i * 8;

    if (host & QCOW2_REFTABLE_RESERVED || !IS_ALIGNED(host, q->cluster_size) ||
        host >= QCOW2_HOST_END) {
        return qcow2_co_corrupt(q, at, 8, "Refcount table entry %" PRIu64 " is bad: %#" PRIx64, i,
                                host);
    }
    if (host >= MAX(qcow2_file_end(q), q->fresh_from)) {
        return qcow2_co_corrupt(
            q, at, 8, "Refcount block offset %#" PRIx64 " lies outside of the file", host);
    }
    if (host == q->h.reftable_offset) {
        return qcow2_co_corrupt(q, at, 8, "Refcount table entry %" PRIu64 " points at the table",
                                i);
    }
    return 0;
}

static bool has_block(const Qcow2 *q, uint64_t cluster)
{
    uint64_t i = cluster >> q->rb_bits;

    return i < q->rt_entries && q->rt[i] != 0;
}

static int coroutine_fn load_slice(Qcow2 *q, uint64_t cluster, Qcow2Slice **ret)
{
    uint64_t key = cluster >> slice_count_bits(q);
    uint32_t in_block_bits = q->cluster_bits - q->rb_slice_bits;
    uint64_t slice_in_block = key & ((UINT64_C(1) << in_block_bits) - 1);
    uint64_t i = cluster >> q->rb_bits;
    int r;

    *ret = qcow2_cache_find(&q->rb, key);
    if (*ret) {
        return 0;
    }
    r = check_rt_entry(q, i);
    if (r < 0) {
        return r;
    }
    return qcow2_cache_co_load(q, &q->rb, key, q->rt[i] + (slice_in_block << q->rb_slice_bits),
                               ret);
}

int coroutine_fn qcow2_co_refcount_get(Qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    Qcow2Slice *s;
    int r;

    if (!has_block(q, cluster)) {
        *ret = 0;
        return 0;
    }
    r = load_slice(q, cluster, &s);
    if (r == 0) {
        *ret = qcow2_refcount_unpack(s->data, q->h.refcount_order,
                                     cluster & ((UINT64_C(1) << slice_count_bits(q)) - 1));
    }
    return r;
}

int coroutine_fn qcow2_co_refcount_set(Qcow2 *q, uint64_t cluster, uint64_t value)
{
    Qcow2Slice *s;
    int r;

    assert(has_block(q, cluster));
    if (value > qcow2_refcount_max(q->h.refcount_order)) {
        return -ERANGE;
    }
    r = load_slice(q, cluster, &s);
    if (r < 0) {
        return r;
    }
    qcow2_refcount_pack(s->data, q->h.refcount_order,
                        cluster & ((UINT64_C(1) << slice_count_bits(q)) - 1), value);
    qcow2_cache_dirty(&q->rb, s);
    return 0;
}

/* --- new blocks and a larger table --- */

typedef struct Cover {
    uint64_t first, last;    /* refcount table indices that need a block */
    uint64_t place;          /* cluster where new things go: blocks, then the table */
    uint64_t blocks;         /* how many are missing */
    uint64_t entries;        /* of the table afterwards */
    uint64_t table_clusters; /* of the new table; 0: the old one is large enough */
} Cover;

static uint64_t missing_blocks(const Qcow2 *q, const Cover *c)
{
    uint64_t n = 0;

    for (uint64_t i = c->first; i <= c->last; i++) {
        n += i >= q->rt_entries || q->rt[i] == 0;
    }
    return n;
}

/* Blocks that lie at @place need counts too: grow the plan until it covers itself. */
static int plan(const Qcow2 *q, Cover *c)
{
    uint64_t per_table_cluster = q->cluster_size / 8;
    uint64_t end;

    for (;;) {
        if (c->last >= QCOW2_REFTABLE_BYTES_MAX / 8) {
            return -EFBIG;
        }
        c->blocks = missing_blocks(q, c);
        c->table_clusters = 0;
        c->entries = q->rt_entries;
        if (c->last >= q->rt_entries) {
            /* Half as much again, so that growing is rare. */
            uint64_t want = MIN(c->last + 1 + c->last / 2, QCOW2_REFTABLE_BYTES_MAX / 8);

            c->table_clusters = DIV_ROUND_UP(want, per_table_cluster);
            c->entries = c->table_clusters * per_table_cluster;
        }
        end = c->place + c->blocks + c->table_clusters;
        if (end > QCOW2_HOST_END >> q->cluster_bits) {
            return -EFBIG;
        }
        if (end == c->place || (end - 1) >> q->rb_bits <= c->last) {
            return 0;
        }
        c->last = (end - 1) >> q->rb_bits;
    }
}

/* A block of zeroes in the file at cluster @at, for table index @i. R4 comes with the commit. */
static int coroutine_fn put_block(Qcow2 *q, uint64_t i, uint64_t at)
{
    uint64_t host = at << q->cluster_bits;
    uint32_t index = (uint32_t)i;
    int r = qcow2_co_guard(q, host, q->cluster_size, QCOW2_OWNER_DATA);

    if (r < 0) {
        return r;
    }
    QCOW2_EVENT(q, "refblock_alloc_write");
    r = child_co_pwrite_zeroes(qcow2_file(q), (int64_t)host, (int64_t)q->cluster_size, 0);
    if (r < 0) {
        return r;
    }
    q->rt[i] = host;
    qcow2_meta_add(q, host, QCOW2_OWNER_REFBLOCK);
    g_array_append_val(q->rt_dirty, index);
    return 0;
}

static int grow_table_memory(Qcow2 *q, uint64_t entries)
{
    uint64_t *rt = g_try_renew(uint64_t, q->rt, entries);

    if (!rt) {
        return -ENOMEM;
    }
    memset(rt + q->rt_entries, 0, (entries - q->rt_entries) * 8);
    q->rt = rt;
    q->rt_entries = (uint32_t)entries;
    return 0;
}

/* R5: everything the new table points at, then the table, then the header. */
static int coroutine_fn switch_table(Qcow2 *q, uint64_t host, uint64_t clusters)
{
    uint64_t old = q->h.reftable_offset;
    uint64_t old_bytes = (uint64_t)q->h.reftable_clusters << q->cluster_bits;
    uint8_t raw[12], was[12];
    int r;

    CO_LOCK_GUARD(&q->rb_write_lock);

    r = qcow2_co_write_refcounts(q, "refblock_alloc_write_blocks");
    if (r == 0) {
        QCOW2_EVENT(q, "refblock_alloc_write_table");
        r = qcow2_co_write_table(q, host, q->rt, q->rt_entries, clusters << q->cluster_bits);
    }
    if (r == 0) {
        r = child_co_flush(qcow2_file(q)); /* R5 */
    }
    if (r < 0) {
        return r;
    }
    qcow2_put64(raw, host);
    qcow2_put32(raw + 8, (uint32_t)clusters);
    qcow2_put64(was, old);
    qcow2_put32(was + 8, q->h.reftable_clusters);
    r = qcow2_co_switch(q, "refblock_alloc_switch_table", QCOW2_AT_REFTABLE, raw, was, sizeof(raw));
    if (r < 0) {
        return r;
    }
    q->h.reftable_offset = host;
    q->h.reftable_clusters = (uint32_t)clusters;
    qcow2_free(q, old, old_bytes, QCOW2_FREE_OTHER);
    return 0;
}

static int coroutine_fn put_blocks(Qcow2 *q, const Cover *c)
{
    uint64_t at = c->place;
    int r = 0;

    for (uint64_t i = c->first; i <= c->last && r == 0; i++) {
        if (q->rt[i] == 0) {
            r = put_block(q, i, at++);
        }
    }
    return r;
}

static int coroutine_fn count_placed(Qcow2 *q, const Cover *c)
{
    int r = 0;

    for (uint64_t i = 0; i < c->blocks + c->table_clusters && r == 0; i++) {
        r = qcow2_co_refcount_set(q, c->place + i, 1);
    }
    return r;
}

/* No block means counts of zero: let what is cached of block @i say so. */
static void forget_block(Qcow2 *q, uint64_t i)
{
    uint32_t in_block_bits = q->cluster_bits - q->rb_slice_bits;

    for (guint n = 0; n < q->rb.slices->len; n++) {
        Qcow2Slice *s = g_ptr_array_index(q->rb.slices, n);

        if (s->key >> in_block_bits == i && !s->loading) {
            memset(s->data, 0, q->rb.slice_bytes);
            if (s->dirty) {
                s->dirty = false;
                g_ptr_array_remove_fast(q->rb.dirty, s);
            }
        }
    }
}

/* Memory as it was; what was written lies in clusters that count as free again. */
static void undo_cover(Qcow2 *q, const Cover *c, uint32_t old_entries)
{
    uint64_t low = c->place << q->cluster_bits;
    uint64_t high = (c->place + c->blocks) << q->cluster_bits;

    for (uint64_t i = c->first; i <= MIN(c->last, (uint64_t)q->rt_entries - 1); i++) {
        if (q->rt[i] >= low && q->rt[i] < high) {
            qcow2_meta_remove(q, q->rt[i]);
            q->rt[i] = 0;
            forget_block(q, i);
        }
    }
    q->rt_entries = old_entries;
}

int coroutine_fn
qcow2_co_refcount_cover(Qcow2 *q, uint64_t first, uint64_t last, uint64_t place, uint64_t *ret_end)
{
    Cover c = {.first = first >> q->rb_bits, .last = last >> q->rb_bits, .place = place};
    uint32_t old_entries = q->rt_entries;
    int r;

    c.last = MAX(c.last, place >> q->rb_bits);
    c.first = MIN(c.first, place >> q->rb_bits);
    r = plan(q, &c);
    if (r == 0 && c.table_clusters) {
        r = grow_table_memory(q, c.entries);
    }
    if (r < 0) {
        return r;
    }
    QCOW2_EVENT(q, c.table_clusters ? "reftable_grow" : "refblock_alloc");
    qcow2_note_used(q, (place + c.blocks + c.table_clusters) << q->cluster_bits);
    r = put_blocks(q, &c);
    if (r == 0) {
        r = count_placed(q, &c);
    }
    if (r == 0 && c.table_clusters) {
        r = switch_table(q, (c.place + c.blocks) << q->cluster_bits, c.table_clusters);
    }
    if (r < 0) {
        undo_cover(q, &c, old_entries);
        return r;
    }
    *ret_end = c.place + c.blocks + c.table_clusters;
    return 0;
}
