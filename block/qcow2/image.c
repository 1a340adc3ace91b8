/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The image as a whole: loading header and top-level tables, changing header
 * fields, and what happens when the image turns out to be corrupt.
 */
#include <stdarg.h>

#include "block/backend.h"
#include "qapi/events.h"
#include "qcow2.h"

/* --- tables --- */

int coroutine_fn qcow2_co_read_table(Qcow2 *q, uint64_t host, uint64_t *table, uint64_t entries)
{
    int r = entries ? child_co_pread(qcow2_file(q), (int64_t)host, table, entries * 8) : 0;

    for (uint64_t i = 0; i < entries && r == 0; i++) {
        table[i] = be64toh(table[i]);
    }
    return r;
}

int coroutine_fn qcow2_co_write_table(Qcow2 *q, uint64_t host, const uint64_t *table,
                                      uint64_t entries, uint64_t bytes)
{
    uint8_t *raw = buf_try_alloc(bytes);
    int r;

    assert(entries * 8 <= bytes);
    if (!raw) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < entries; i++) {
        qcow2_put64(raw + i * 8, table[i]);
    }
    memset(raw + entries * 8, 0, bytes - entries * 8);
    r = child_co_pwrite(qcow2_file(q), (int64_t)host, raw, bytes, 0);
    buf_free(raw, bytes);
    return r;
}

/* --- loading --- */

static bool coroutine_fn read_header(Qcow2 *q, GError **errp)
{
    uint64_t file_bytes = (uint64_t)MAX(node_length(qcow2_file(q)->node), 0);
    uint8_t head[QCOW2_V2_HEADER];
    uint32_t bits;
    size_t bytes;
    uint8_t *raw;
    bool ok;
    int r;

    if (file_bytes < sizeof(head)) {
        return fail(errp, "The file is too short for a qcow2 header");
    }
    r = child_co_pread(qcow2_file(q), 0, head, sizeof(head));
    if (r < 0) {
        return fail_errno(errp, -r, "Could not read the qcow2 header");
    }
    if (!qcow2_header_cluster_bits(head, sizeof(head), &bits, errp)) {
        return false;
    }
    bytes = MIN(file_bytes, UINT64_C(1) << bits);
    raw = buf_try_alloc(bytes);
    if (!raw) {
        return fail_errno(errp, ENOMEM, "Could not read the qcow2 header");
    }
    r = child_co_pread(qcow2_file(q), 0, raw, bytes);
    ok = r < 0 ? fail_errno(errp, -r, "Could not read the qcow2 header")
               : qcow2_header_parse(raw, bytes, file_bytes, &q->h, errp);
    buf_free(raw, bytes);
    return ok;
}

static void set_geometry(Qcow2 *q)
{
    q->cluster_bits = q->h.cluster_bits;
    q->cluster_size = UINT64_C(1) << q->cluster_bits;
    q->rb_slice_bits = MIN(q->cluster_bits, 12);
    q->l2_bits = q->cluster_bits - 3;
    q->rb_bits = q->cluster_bits + 3 - q->h.refcount_order;
    q->fresh_from = qcow2_file_end(q);
    q->free_hint = 0;
}

static bool coroutine_fn
load_one(Qcow2 *q, uint64_t host, uint64_t entries, uint64_t **ret, const char *what, GError **errp)
{
    uint64_t *table = g_try_new0(uint64_t, MAX(entries, 1));
    int r = table ? qcow2_co_read_table(q, host, table, entries) : -ENOMEM;

    if (r < 0) {
        g_free(table);
        return fail_errno(errp, -r, "Could not read the %s", what);
    }
    *ret = table;
    return true;
}

static bool make_caches(Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp)
{
    uint64_t l2_bytes, rb_bytes;

    q->l2_slice_bits = qcow2_l2_slice_bits(q, o);
    qcow2_cache_sizes(q, o, &l2_bytes, &rb_bytes);
    if (!qcow2_cache_init(&q->l2, UINT32_C(1) << q->l2_slice_bits, l2_bytes, "l2_load") ||
        !qcow2_cache_init(&q->rb, UINT32_C(1) << q->rb_slice_bits, rb_bytes, "refblock_load")) {
        return fail_errno(errp, ENOMEM, "Could not allocate the metadata caches");
    }
    return true;
}

bool coroutine_fn qcow2_co_load(Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp)
{
    q->quarantine_tail = &q->quarantine;
    q->freed = g_array_new(FALSE, FALSE, sizeof(Qcow2Range));
    q->l1_dirty = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    q->rt_dirty = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    if (!read_header(q, errp)) {
        return false;
    }
    set_geometry(q);
    if (!qcow2_check_options(q, o, errp) || !make_caches(q, o, errp)) {
        return false;
    }
    if (!load_one(q, q->h.l1_offset, q->h.l1_size, &q->l1, "L1 table", errp)) {
        return false;
    }
    q->rt_entries = (uint32_t)(((uint64_t)q->h.reftable_clusters << q->cluster_bits) / 8);
    QCOW2_EVENT(q, "reftable_load");
    return load_one(q, q->h.reftable_offset, q->rt_entries, &q->rt, "refcount table", errp);
}

void qcow2_unload(Qcow2 *q)
{
    timer_cancel(&q->clean_timer);
    qcow2_cache_destroy(&q->l2);
    qcow2_cache_destroy(&q->rb);
    qcow2_meta_forget(q);
    if (q->freed) {
        qcow2_forget_freed(q);
        g_array_free(q->freed, TRUE);
        g_array_free(q->l1_dirty, TRUE);
        g_array_free(q->rt_dirty, TRUE);
    }
    g_free(q->l1);
    g_free(q->rt);
    buf_free(q->inflated.data, q->cluster_size);
    qcow2_header_clear(&q->h);
    *q = (Qcow2){.node = q->node};
}

/* --- the header --- */

int coroutine_fn qcow2_co_write_header(Qcow2 *q)
{
    uint8_t *raw = buf_try_alloc(q->cluster_size);
    int r;

    if (!raw) {
        return -ENOMEM;
    }
    r = qcow2_header_emit(&q->h, raw, NULL) ? 0 : -ENOSPC;
    if (r == 0) {
        r = child_co_pwrite(qcow2_file(q), 0, raw, q->cluster_size, 0);
    }
    buf_free(raw, q->cluster_size);
    return r;
}

static int coroutine_fn write_incompatible(Qcow2 *q, uint64_t bits)
{
    uint8_t raw[8];

    qcow2_put64(raw, bits);
    return child_co_pwrite(qcow2_file(q), QCOW2_AT_INCOMPATIBLE, raw, sizeof(raw), 0);
}

int coroutine_fn qcow2_co_set_incompatible(Qcow2 *q, uint64_t set, uint64_t clear)
{
    uint64_t bits;
    int r;

    CO_LOCK_GUARD(&q->header_lock);
    bits = (q->h.incompatible | set) & ~clear;
    if (q->h.version < 3 || bits == q->h.incompatible) {
        return 0;
    }
    r = write_incompatible(q, bits);
    if (r == 0 && set) {
        r = child_co_flush(qcow2_file(q)); /* R9 */
    }
    if (r == 0) {
        q->h.incompatible = bits;
    }
    return r;
}

int coroutine_fn qcow2_co_clear_autoclear(Qcow2 *q)
{
    uint64_t unknown = q->h.autoclear & ~QCOW2_AUTOCLEAR_KNOWN;
    int r = 0;

    if (unknown) {
        q->h.autoclear &= ~unknown;
        r = qcow2_co_write_header(q);
        if (r == 0) {
            r = child_co_flush(qcow2_file(q));
        }
        if (r < 0) {
            q->h.autoclear |= unknown;
        }
    }
    return r;
}

static int coroutine_fn write_and_flush(Qcow2 *q, uint64_t at, const uint8_t *buf, size_t bytes)
{
    int r = child_co_pwrite(qcow2_file(q), (int64_t)at, buf, bytes, 0);

    return r < 0 ? r : child_co_flush(qcow2_file(q));
}

int coroutine_fn qcow2_co_switch(Qcow2 *q, const char *event, uint64_t at, const uint8_t *now,
                                 const uint8_t *before, size_t bytes)
{
    int r;

    if (event) {
        QCOW2_EVENT(q, event);
    }
    r = write_and_flush(q, at, now, bytes);
    if (r < 0 && write_and_flush(q, at, before, bytes) < 0) {
        q->corrupt = true; /* which header the disk has is unknown: touch nothing any more */
    }
    return r;
}

/* --- corruption --- */

/* The drive that shows this node, as QMP names it. */
static const char *drive_of(const BlockNode *node)
{
    for (const BlockChild *e = node->first_parent; e; e = e->next_parent) {
        if (e->parent_backend && *backend_name(e->parent_backend)) {
            return backend_name(e->parent_backend);
        }
    }
    return "";
}

static void tell_corruption(const Qcow2 *q, uint64_t offset, uint64_t bytes, char *msg, bool fatal)
{
    BlockImageCorruptedEvent ev = {
        .device = (char *)drive_of(q->node),
        .node_name = q->node->node_name,
        .msg = msg,
        .has_offset = true,
        .offset = (int64_t)offset,
        .has_size = true,
        .size = (int64_t)bytes,
        .fatal = fatal,
    };

    event_emit_block_image_corrupted(&ev);
}

int coroutine_fn
qcow2_co_corrupt(Qcow2 *q, uint64_t offset, uint64_t bytes, const char *fmt, ...)
{
    bool fatal = q->writable && !q->node->flags.read_only;
    g_autofree char *msg = NULL;
    va_list ap;

    if (q->corrupt || q->checking || (q->corrupt_told && !fatal)) {
        return -EIO;
    }
    q->corrupt = fatal;
    q->corrupt_told = true;
    va_start(ap, fmt);
    msg = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (fatal) {
        (void)!qcow2_co_set_incompatible(q, QCOW2_INCOMPAT_CORRUPT, 0); /* we stop either way */
    }
    tell_corruption(q, offset, bytes, msg, fatal);
    return -EIO;
}
