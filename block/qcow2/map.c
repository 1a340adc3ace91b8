/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest offsets to host offsets: the L1 table, all in memory, and slices of L2
 * tables through the cache.
 *
 * Whatever an entry says is checked when it is used, so later code may trust
 * an extent. Lookups take no lock. Changing an entry needs its clusters in
 * alloc_ranges and a table of our own (qcow2_co_l2_ensure()).
 */
#include "qcow2.h"

static inline uint64_t slice_entries(const Qcow2 *q)
{
    return UINT64_C(1) << (q->l2_slice_bits - 3);
}

static inline uint64_t slice_key(const Qcow2 *q, uint64_t guest)
{
    return guest >> (q->cluster_bits + q->l2_slice_bits - 3);
}

static inline uint64_t l1_entry(const Qcow2 *q, uint64_t guest)
{
    uint64_t i = qcow2_l1_index(q, guest);

    return i < q->h.l1_size ? q->l1[i] : 0;
}

/* --- reading an entry --- */

/* Entries from @i on that continue the first one, at most @max. */
static uint64_t
run_length(const Qcow2 *q, const uint8_t *data, uint64_t i, uint64_t max, uint64_t first)
{
    Qcow2Type type = qcow2_entry_type(first);
    uint64_t step = type == QCOW2_DATA || type == QCOW2_ZERO_ALLOC ? q->cluster_size : 0;
    uint64_t n = 1;

    if (type == QCOW2_COMPRESSED) {
        return 1;
    }
    while (n < max && qcow2_get64(data + (i + n) * 8) == first + n * step) {
        n++;
    }
    return n;
}

/* False if the entry is not one that a sound image can hold. */
static bool
read_extent(Qcow2 *q, const uint8_t *data, uint64_t guest, uint64_t bytes, Qcow2Extent *ret)
{
    uint64_t into = guest & (q->cluster_size - 1);
    uint64_t i = (guest >> q->cluster_bits) & (slice_entries(q) - 1);
    uint64_t max = DIV_ROUND_UP(into + bytes, q->cluster_size);
    uint64_t entry = qcow2_get64(data + i * 8);
    uint64_t n = run_length(q, data, i, MIN(max, slice_entries(q) - i), entry);
    uint64_t last;

    ret->type = qcow2_entry_type(entry);
    ret->entry = entry;
    ret->copied = (entry & QCOW2_COPIED) != 0;
    ret->host = (entry & QCOW2_OFFSET_MASK) + into;
    ret->bytes = MIN(bytes, n * q->cluster_size - into);

    last = entry;
    if (ret->type == QCOW2_DATA || ret->type == QCOW2_ZERO_ALLOC) {
        last += (n - 1) * q->cluster_size;
    }
    return qcow2_entry_is_sane(entry, q->h.version, q->cluster_bits, qcow2_file_end(q)) &&
           (n == 1 || qcow2_entry_is_sane(last, q->h.version, q->cluster_bits, qcow2_file_end(q)));
}

static void unallocated_extent(const Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret)
{
    uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
    uint64_t left = span - (guest & (span - 1));

    *ret = (Qcow2Extent){.type = QCOW2_UNALLOCATED, .bytes = MIN(bytes, left)};
}

/* 1: done, 0: the slice is not in memory, -1: the entry is insane. */
static inline int lookup(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret)
{
    Qcow2Slice *s;

    if (l1_entry(q, guest) == 0) {
        unallocated_extent(q, guest, bytes, ret);
        return 1;
    }
    s = qcow2_cache_find(&q->l2, slice_key(q, guest));
    if (!s) {
        return 0;
    }
    return read_extent(q, s->data, guest, bytes, ret) ? 1 : -1;
}

bool qcow2_map_cached(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret)
{
    return lookup(q, guest, bytes, ret) == 1;
}

/* --- L2 tables --- */

static int coroutine_fn check_l1_entry(Qcow2 *q, uint64_t l1_index)
{
    uint64_t entry = q->l1[l1_index];
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    if (entry & QCOW2_L1_RESERVED || !IS_ALIGNED(host, q->cluster_size) || host == 0) {
        return qcow2_co_corrupt(q, q->h.l1_offset + l1_index * 8, 8,
                                "L1 entry %" PRIu64 " is bad: %#" PRIx64, l1_index, entry);
    }
    if (host >= MAX(qcow2_file_end(q), q->fresh_from)) {
        return qcow2_co_corrupt(q, q->h.l1_offset + l1_index * 8, 8,
                                "L2 table offset %#" PRIx64 " lies outside of the file", host);
    }
    return 0;
}

/* The slice of @guest, whose L1 entry is not 0. */
static int coroutine_fn load_slice(Qcow2 *q, uint64_t guest, Qcow2Slice **ret)
{
    uint64_t key = slice_key(q, guest);
    uint32_t in_table_bits = q->cluster_bits - q->l2_slice_bits;
    uint64_t slice_in_table = key & ((UINT64_C(1) << in_table_bits) - 1);
    uint64_t host;
    int r;

    *ret = qcow2_cache_find(&q->l2, key);
    if (*ret) {
        return 0;
    }
    r = check_l1_entry(q, qcow2_l1_index(q, guest));
    if (r < 0) {
        return r;
    }
    host = (l1_entry(q, guest) & QCOW2_OFFSET_MASK) + (slice_in_table << q->l2_slice_bits);
    return qcow2_cache_co_load(q, &q->l2, key, host, ret);
}

/* Where the file has the L2 entry of @guest, whose L1 entry is sound. */
static uint64_t entry_host(const Qcow2 *q, uint64_t guest)
{
    uint64_t i = (guest >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);

    return (l1_entry(q, guest) & QCOW2_OFFSET_MASK) + i * 8;
}

int coroutine_fn qcow2_co_map(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret)
{
    int found = lookup(q, guest, bytes, ret);
    Qcow2Slice *s;

    if (likely(found == 1)) {
        return 0;
    }
    if (found == 0) {
        int r = load_slice(q, guest, &s);

        if (r < 0) {
            return r;
        }
        found = read_extent(q, s->data, guest, bytes, ret) ? 1 : -1;
    }
    if (found < 0) {
        return qcow2_co_corrupt(q, entry_host(q, guest), 8,
                                "L2 entry for guest offset %#" PRIx64 " is bad: %#" PRIx64, guest,
                                ret->entry);
    }
    return 0;
}

int coroutine_fn qcow2_co_l2_get(Qcow2 *q, uint64_t guest, uint64_t *ret)
{
    Qcow2Extent e;
    int r = qcow2_co_map(q, guest, 1, &e);

    if (r == 0) {
        *ret = e.entry;
    }
    return r;
}

int coroutine_fn qcow2_co_l2_set(Qcow2 *q, uint64_t guest, uint64_t entry, uint64_t *ret_old)
{
    uint64_t i = (guest >> q->cluster_bits) & (slice_entries(q) - 1);
    Qcow2Slice *s;
    int r;

    assert(l1_entry(q, guest) & QCOW2_COPIED);
    r = load_slice(q, guest, &s);
    if (r < 0) {
        return r;
    }
    *ret_old = qcow2_get64(s->data + i * 8);
    if (*ret_old != entry) {
        qcow2_put64(s->data + i * 8, entry);
        qcow2_cache_dirty(&q->l2, s);
    }
    return 0;
}

int coroutine_fn qcow2_co_l2_table(Qcow2 *q, uint64_t l1_index, uint8_t *table)
{
    uint64_t guest = l1_index << (q->cluster_bits + q->l2_bits);
    uint64_t slice_bytes = UINT64_C(1) << q->l2_slice_bits;

    for (uint64_t at = 0; at < q->cluster_size; at += slice_bytes) {
        Qcow2Slice *s;
        int r = load_slice(q, guest + ((at / 8) << q->cluster_bits), &s);

        if (r < 0) {
            return r;
        }
        memcpy(table + at, s->data, slice_bytes);
    }
    return 0;
}

/* --- making an L2 table; under meta_lock --- */

static void set_l1(Qcow2 *q, uint64_t l1_index, uint64_t entry)
{
    uint32_t i = (uint32_t)l1_index;

    q->l1[l1_index] = entry;
    g_array_append_val(q->l1_dirty, i);
}

/* Fill the cluster at @host with what the table of @l1_index holds now: R3's first half. */
static int coroutine_fn write_new_table(Qcow2 *q, uint64_t l1_index, uint64_t host, bool fresh)
{
    uint8_t *table;
    int r;

    if (q->l1[l1_index] == 0) {
        if (fresh) {
            return 0;
        }
        QCOW2_EVENT(q, "l2_alloc_write");
        return child_co_pwrite_zeroes(qcow2_file(q), (int64_t)host, (int64_t)q->cluster_size, 0);
    }
    table = buf_try_alloc(q->cluster_size);
    if (!table) {
        return -ENOMEM;
    }
    QCOW2_EVENT(q, "l2_alloc_cow_read");
    r = qcow2_co_l2_table(q, l1_index, table);
    if (r == 0) {
        QCOW2_EVENT(q, "l2_alloc_write");
        r = child_co_pwrite(qcow2_file(q), (int64_t)host, table, q->cluster_size, 0);
    }
    buf_free(table, q->cluster_size);
    return r;
}

/* The count of a table is in the file as soon as can be, lazy or not: tables are few. */
static int coroutine_fn write_its_count(Qcow2 *q)
{
    CO_LOCK_GUARD(&q->rb_write_lock);

    return qcow2_co_write_refcounts(q, "refblock_update_part");
}

static int coroutine_fn make_table(Qcow2 *q, uint64_t l1_index)
{
    uint64_t old = q->l1[l1_index] & QCOW2_OFFSET_MASK, host, got;
    bool fresh;
    int r = qcow2_co_alloc_locked(q, 1, true, &host, &got, &fresh);

    if (r < 0) {
        return r;
    }
    r = qcow2_co_guard(q, host, q->cluster_size, QCOW2_OWNER_DATA);
    if (r == 0) {
        r = write_new_table(q, l1_index, host, fresh);
    }
    if (r == 0 && q->lazy) {
        r = write_its_count(q);
    }
    if (r < 0) {
        qcow2_co_unalloc(q, host, 1);
        return r;
    }
    qcow2_meta_add(q, host, QCOW2_OWNER_L2);
    set_l1(q, l1_index, host | QCOW2_COPIED);
    if (old) {
        qcow2_meta_remove(q, old);
        qcow2_free(q, old, q->cluster_size, QCOW2_FREE_OTHER);
    }
    return 0;
}

int coroutine_fn qcow2_co_l2_ensure(Qcow2 *q, uint64_t guest)
{
    uint64_t i = qcow2_l1_index(q, guest);
    int r = 0;

    assert(i < q->h.l1_size);
    if (likely(q->l1[i] & QCOW2_COPIED)) {
        return check_l1_entry(q, i);
    }
    co_mutex_lock(&q->meta_lock);
    if (q->l1[i] != 0) {
        r = check_l1_entry(q, i);
    }
    if (r == 0 && !(q->l1[i] & QCOW2_COPIED)) {
        r = make_table(q, i);
    }
    co_mutex_unlock(&q->meta_lock);
    return r;
}
