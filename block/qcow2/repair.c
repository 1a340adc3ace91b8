/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rebuilding refcounts: new blocks and a new table behind everything in use,
 * all flushed, then one header write (R5). Until that write the image is as
 * it was; the old structures are given up without a count.
 */
#include "check.h"

typedef struct Rebuild {
    uint64_t first; /* cluster of the first new block */
    uint64_t blocks, table_clusters;
    uint64_t clusters; /* that need a count */
} Rebuild;

static int plan(const Check *c, Rebuild *b)
{
    const Qcow2 *q = c->q;
    uint64_t per_block = UINT64_C(1) << q->rb_bits;

    *b = (Rebuild){.blocks = 1, .table_clusters = 1};
    b->first = MAX(MAX(c->clusters, c->end), c->keep_off);
    for (;;) {
        uint64_t blocks, table_clusters;

        b->clusters = b->first + b->blocks + b->table_clusters;
        blocks = DIV_ROUND_UP(b->clusters, per_block);
        table_clusters = DIV_ROUND_UP(blocks * 8, q->cluster_size);
        if (blocks <= b->blocks && table_clusters <= b->table_clusters) {
            break;
        }
        b->blocks = MAX(blocks, b->blocks);
        b->table_clusters = MAX(table_clusters, b->table_clusters);
    }
    return b->table_clusters << q->cluster_bits > (uint64_t)QCOW2_REFTABLE_BYTES_MAX ? -EFBIG : 0;
}

static uint64_t count_of(const Check *c, const Rebuild *b, uint64_t cluster)
{
    if (cluster >= b->first) {
        return cluster < b->clusters;
    }
    if (cluster >= c->clusters) {
        return 0;
    }
    return MIN((uint64_t)c->refs[cluster], qcow2_refcount_max(c->q->h.refcount_order));
}

static int coroutine_fn write_blocks(Check *c, const Rebuild *b, uint64_t *table)
{
    Qcow2 *q = c->q;
    uint64_t per_block = UINT64_C(1) << q->rb_bits;
    uint8_t *block = buf_try_alloc(q->cluster_size);
    int r = block ? 0 : -ENOMEM;

    for (uint64_t i = 0; i < b->blocks && r == 0; i++) {
        memset(block, 0, q->cluster_size);
        for (uint64_t k = 0; k < per_block && i * per_block + k < b->clusters; k++) {
            qcow2_refcount_pack(block, q->h.refcount_order, k, count_of(c, b, i * per_block + k));
        }
        table[i] = (b->first + i) << q->cluster_bits;
        QCOW2_EVENT(q, "refblock_update");
        r = child_co_pwrite(qcow2_file(q), (int64_t)table[i], block, q->cluster_size, 0);
    }
    buf_free(block, q->cluster_size);
    return r;
}

static void drop_reference(Check *c, uint64_t cluster)
{
    if (c->refs[cluster] > 0 && --c->refs[cluster] == 0) {
        block_finding("Repairing cluster %" PRIu64 " refcount=1 reference=0", cluster);
    }
}

/* References of the old structures are gone, the new ones have theirs. */
static void drop_old_references(Check *c)
{
    Qcow2 *q = c->q;
    uint64_t first = q->h.reftable_offset >> q->cluster_bits;

    for (uint64_t i = 0; i < q->h.reftable_clusters && first + i < c->clusters; i++) {
        drop_reference(c, first + i);
    }
    for (uint32_t i = 0; i < q->rt_entries; i++) {
        uint64_t k = q->rt[i] >> q->cluster_bits;

        if (q->rt[i] && IS_ALIGNED(q->rt[i], q->cluster_size) && k < c->clusters) {
            drop_reference(c, k);
        }
    }
}

static int coroutine_fn switch_over(Check *c, const Rebuild *b, uint64_t *table)
{
    Qcow2 *q = c->q;
    uint64_t host = (b->first + b->blocks) << q->cluster_bits;
    uint64_t entries = (b->table_clusters << q->cluster_bits) / 8;
    uint8_t now[12], before[12];
    int r;

    QCOW2_EVENT(q, "reftable_update");
    r = qcow2_co_write_table(q, host, table, b->blocks, entries * 8);
    if (r == 0) {
        r = child_co_flush(qcow2_file(q)); /* R5 */
    }
    if (r < 0) {
        return r;
    }
    qcow2_put64(now, host);
    qcow2_put32(now + 8, (uint32_t)b->table_clusters);
    qcow2_put64(before, q->h.reftable_offset);
    qcow2_put32(before + 8, q->h.reftable_clusters);
    r = qcow2_co_switch(q, NULL, QCOW2_AT_REFTABLE, now, before, sizeof(now));
    if (r < 0) {
        return r;
    }
    qcow2_cache_drop(&q->rb);
    qcow2_meta_forget(q);
    g_array_set_size(q->rt_dirty, 0);
    g_free(q->rt);
    q->rt = g_memdup2(table, entries * 8);
    q->rt_entries = (uint32_t)entries;
    q->h.reftable_offset = host;
    q->h.reftable_clusters = (uint32_t)b->table_clusters;
    q->free_hint = 0;
    q->fresh_from = MAX(q->fresh_from, qcow2_file_end(q));
    return 0;
}

int coroutine_fn check_co_rebuild(Check *c)
{
    Rebuild b;
    uint64_t *table;
    int r = plan(c, &b);

    if (r < 0) {
        return r;
    }
    CO_LOCK_GUARD(&c->q->meta_lock);
    table = g_try_malloc0(b.table_clusters << c->q->cluster_bits);
    if (!table) {
        return -ENOMEM;
    }
    block_finding("Rebuilding refcount structure");
    drop_old_references(c);
    r = write_blocks(c, &b, table);
    if (r == 0) {
        r = switch_over(c, &b, table);
    }
    g_free(table);
    if (r == 0) {
        c->corruptions_fixed = c->corruptions - c->bad_entries;
        c->leaks_fixed = c->leaks;
        c->end = b.clusters;
    }
    return r;
}
