/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking: count the references to every cluster and compare with what the
 * refcount blocks say.
 *
 *   more stored than found     leak: -r leaks lowers it
 *   less stored than found     corruption: -r all raises it
 *   count of 0 that is used, or a bad refcount structure: -r all writes new
 *   refcount structures
 *   COPIED differs from "refcount is 1": corruption, -r all mends it, and so
 *   does -r leaks if nothing else is corrupt
 *   bad table entries          corruption that is reported, not guessed at;
 *   what they point at counts as used, lest it be given to something else
 *
 * Nothing may be dirty in memory, and no request in flight. L2 tables are read
 * and mended in the file, where two L1 entries may share one; refcounts are
 * read and written through the cache, under meta_lock.
 */
#include "check.h"

#define MAX_REFS_BYTES (UINT64_C(4) << 30)
#define NEAR_END       65536 /* clusters: what is rebuilt goes there, not where an entry points */

/* --- references --- */

static void bad_entry(Check *c)
{
    c->corruptions++;
    c->bad_entries++;
}

static void reference(Check *c, uint64_t host, uint64_t bytes)
{
    uint32_t bits = c->q->cluster_bits;

    for (uint64_t i = host >> bits; bytes && i <= (host + bytes - 1) >> bits; i++) {
        if (i >= c->clusters) {
            block_finding("ERROR: counting reference for region exceeding the end of the file by "
                          "one cluster or more: offset 0x%" PRIx64 " size 0x%" PRIx64,
                          host, bytes);
            bad_entry(c);
            if (i < c->clusters + NEAR_END) {
                c->keep_off = MAX(c->keep_off, ((host + bytes - 1) >> bits) + 1);
            }
            return;
        }
        c->refs[i] += c->refs[i] < UINT32_MAX;
        c->end = MAX(c->end, i + 1);
    }
}

/* The bound of a compressed extent may run past the end by less than a cluster: it is rounded. */
static uint64_t clamp_extent(const Check *c, uint64_t offset, uint64_t bytes)
{
    uint64_t end = c->clusters << c->q->cluster_bits;

    return offset < end && offset + bytes <= end + c->q->cluster_size ? MIN(bytes, end - offset)
                                                                      : bytes;
}

static void count_entry(Check *c, uint64_t entry)
{
    const Qcow2 *q = c->q;
    uint64_t offset, bytes;

    switch (qcow2_entry_type(entry)) {
    case QCOW2_COMPRESSED:
        qcow2_compressed_extent(entry, q->cluster_bits, &offset, &bytes);
        reference(c, offset, clamp_extent(c, offset, bytes));
        c->compressed++;
        c->allocated++;
        c->fragmented++; /* by nature */
        break;
    case QCOW2_DATA:
    case QCOW2_ZERO_ALLOC:
        c->allocated++;
        c->fragmented += c->last_data && (entry & QCOW2_OFFSET_MASK) != c->last_data;
        c->last_data = (entry & QCOW2_OFFSET_MASK) + q->cluster_size;
        reference(c, entry & QCOW2_OFFSET_MASK, q->cluster_size);
        break;
    default:
        break;
    }
}

static bool l1_entry_is_sane(const Qcow2 *q, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    return !(entry & QCOW2_L1_RESERVED) && IS_ALIGNED(host, q->cluster_size) && host != 0 &&
           host < qcow2_file_end(q);
}

static int coroutine_fn read_table(Check *c, uint64_t host, uint8_t *table)
{
    return child_co_pread(qcow2_file(c->q), (int64_t)host, table, c->q->cluster_size);
}

/* Not behind the end of the file: that is told, and counted, with the reference. */
static void check_entry(Check *c, uint64_t entry)
{
    const Qcow2 *q = c->q;

    if (!qcow2_entry_is_sane(entry, q->h.version, q->cluster_bits, QCOW2_HOST_END)) {
        block_finding("ERROR: L2 entry %" PRIx64 " is bad", entry);
        bad_entry(c);
    }
}

static int coroutine_fn count_table(Check *c, uint64_t l1_index, uint8_t *table)
{
    Qcow2 *q = c->q;
    uint64_t host = q->l1[l1_index] & QCOW2_OFFSET_MASK;
    int r;

    reference(c, host, q->cluster_size);
    if (host >= qcow2_file_end(q)) {
        return 0;
    }
    if (!l1_entry_is_sane(q, q->l1[l1_index])) {
        block_finding("ERROR: L1 entry %" PRIx64 " is bad", q->l1[l1_index]);
        bad_entry(c);
    }
    r = read_table(c, host, table);
    if (r < 0) {
        c->errors++;
        return 0;
    }
    c->last_data = 0; /* each table begins anew */
    for (uint64_t i = 0; i < q->cluster_size; i += 8) {
        check_entry(c, qcow2_get64(table + i));
        count_entry(c, qcow2_get64(table + i));
    }
    return 0;
}

static int coroutine_fn count_map(Check *c)
{
    Qcow2 *q = c->q;
    uint8_t *table = buf_try_alloc(q->cluster_size);
    int r = table ? 0 : -ENOMEM;

    reference(c, 0, q->cluster_size);
    reference(c, q->h.l1_offset, (uint64_t)q->h.l1_size * 8);
    for (uint32_t i = 0; i < q->h.l1_size && r == 0; i++) {
        if (q->l1[i]) {
            r = count_table(c, i, table);
        }
    }
    buf_free(table, q->cluster_size);
    return r;
}

/* The counts in block @i cannot be told. That is no finding, but an error of the check, if they are
 * of clusters that the file has; a rebuild needs none of them. */
static void count_unreadable(Check *c, uint32_t i)
{
    uint64_t first = (uint64_t)i << c->q->rb_bits;
    uint64_t end = MIN(first + (UINT64_C(1) << c->q->rb_bits), c->clusters);

    c->errors += !c->fix_all && end > first ? (int64_t)(end - first) : 0;
}

static void count_refcount_structures(Check *c)
{
    const Qcow2 *q = c->q;

    reference(c, q->h.reftable_offset, (uint64_t)q->h.reftable_clusters << q->cluster_bits);
    for (uint32_t i = 0; i < q->rt_entries; i++) {
        uint64_t host = q->rt[i];

        if (host == 0) {
            continue;
        }
        if (host & QCOW2_REFTABLE_RESERVED || !IS_ALIGNED(host, q->cluster_size) ||
            host >= qcow2_file_end(q)) {
            block_finding("ERROR refcount table entry %" PRIu32 " is bad: %" PRIx64, i, host);
            c->corruptions++;
            c->rebuild = c->unreadable = true;
            if (!IS_ALIGNED(host & ~(uint64_t)QCOW2_REFTABLE_RESERVED, q->cluster_size)) {
                count_unreadable(c, i);
            }
            continue;
        }
        reference(c, host, q->cluster_size);
        if (c->refs[host >> q->cluster_bits] != 1) {
            block_finding("ERROR refcount block %" PRIu32 " refcount=%" PRIu32, i,
                          c->refs[host >> q->cluster_bits]);
            c->corruptions++;
            c->rebuild = c->unreadable = true;
        }
    }
}

int coroutine_fn check_co_references(Check *c)
{
    int r = count_map(c);

    if (r == 0) {
        count_refcount_structures(c);
    }
    return r;
}

/* --- counts --- */

typedef int (*coroutine_ptr CountFn)(Check *c, uint64_t cluster, uint64_t stored, uint64_t found);

/* One cluster whose count is not what it should be. */
static int coroutine_fn note_count(Check *c, uint64_t cluster, uint64_t stored, uint64_t found)
{
    bool leak = stored > found;

    block_finding("%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
                  leak ? "Leaked" : "ERROR", cluster, stored, found);
    if (leak) {
        c->leaks++;
    } else {
        c->corruptions++;
        c->rebuild |= stored == 0;
    }
    return 0;
}

/* A rebuild mends what is too low, and says so itself. */
static int coroutine_fn mend_count(Check *c, uint64_t cluster, uint64_t stored, uint64_t found)
{
    bool fits = found <= qcow2_refcount_max(c->q->h.refcount_order);
    bool leak = stored > found, fix = leak || (c->fix_all && !c->rebuild && fits);
    int r;

    if (fix || !c->rebuild) {
        block_finding("%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
                      fix ? "Repairing" : "ERROR", cluster, stored, found);
    }
    if (!fix) {
        return 0;
    }
    r = qcow2_co_refcount_set(c->q, cluster, found);
    if (r == 0) {
        c->leaks_fixed += leak;
        c->corruptions_fixed += !leak;
    }
    return r;
}

/* @fn is called with each cluster whose stored count is not the one found. */
static int coroutine_fn each_wrong_count(Check *c, CountFn fn)
{
    uint64_t covered = (uint64_t)c->q->rt_entries << c->q->rb_bits;
    int r = 0;

    for (uint64_t i = 0; i < MAX(c->clusters, covered) && r == 0; i++) {
        uint64_t found = i < c->clusters ? c->refs[i] : 0, stored;

        if (i >= c->clusters && c->q->rt[i >> c->q->rb_bits] == 0) {
            i |= (UINT64_C(1) << c->q->rb_bits) - 1; /* no block: all its counts are 0 */
            continue;
        }
        r = qcow2_co_refcount_get(c->q, i, &stored);
        if (r == 0 && stored != found) {
            r = fn(c, i, stored, found);
        }
    }
    return r;
}

/* What is wrong is known as a whole before any of it is mended. */
int coroutine_fn check_co_refcounts(Check *c)
{
    bool readable = false;
    int r = 0;

    CO_LOCK_GUARD(&c->q->meta_lock);

    if (!c->unreadable) {
        r = each_wrong_count(c, note_count);
        readable = true;
    }
    if (r == 0 && c->rebuild && c->fix_leaks && !c->fix_all) {
        block_finding("ERROR need to rebuild refcount structures");
        r = -EIO; /* counts that are known to be wrong are not to be lowered one by one */
    }
    if (r == 0 && readable && (c->leaks || c->corruptions) && (c->fix_leaks || c->fix_all)) {
        r = each_wrong_count(c, mend_count);
    }
    if (r < 0) {
        c->errors++;
    }
    return r;
}

/* --- COPIED --- */

/* The flag is about the count that is stored; whether that one is right has been looked at. */
static int coroutine_fn stored_count(Check *c, uint64_t host, uint64_t *ret)
{
    uint64_t i = host >> c->q->cluster_bits;

    CO_LOCK_GUARD(&c->q->meta_lock);

    if (c->unreadable && !c->fix_all) { /* no blocks to read it from */
        *ret = i < c->clusters ? c->refs[i] : 0;
        return 0;
    }
    return qcow2_co_refcount_get(c->q, i, ret);
}

static bool is_copied_right(uint64_t entry, uint64_t count)
{
    return ((entry & QCOW2_COPIED) != 0) == (count == 1);
}

static bool entry_may_be_copied(const Check *c, uint64_t entry)
{
    Qcow2Type type = qcow2_entry_type(entry);

    return (type == QCOW2_DATA || type == QCOW2_ZERO_ALLOC) &&
           qcow2_entry_is_sane(entry & ~QCOW2_COPIED, c->q->h.version, c->q->cluster_bits,
                               qcow2_file_end(c->q));
}

static int coroutine_fn write_table(Check *c, uint64_t host, const uint8_t *table)
{
    Qcow2 *q = c->q;
    int r = qcow2_co_guard(q, host, q->cluster_size, QCOW2_OWNER_L2);

    return r < 0 ? r : child_co_pwrite(qcow2_file(q), (int64_t)host, table, q->cluster_size, 0);
}

static int coroutine_fn copied_in_table(Check *c, uint64_t host, uint8_t *table)
{
    int64_t fixed = 0;
    int r = read_table(c, host, table);

    for (uint64_t i = 0; r == 0 && i < c->q->cluster_size; i += 8) {
        uint64_t entry = qcow2_get64(table + i), count;

        if (!entry_may_be_copied(c, entry)) {
            continue;
        }
        r = stored_count(c, entry & QCOW2_OFFSET_MASK, &count);
        if (r < 0 || is_copied_right(entry, count)) {
            continue;
        }
        block_finding("%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
                      c->fix_copied ? "Repairing" : "ERROR", entry, count);
        c->corruptions++;
        qcow2_put64(table + i, entry ^ QCOW2_COPIED);
        fixed++;
    }
    if (r == 0 && fixed && c->fix_copied) {
        r = write_table(c, host, table);
        c->corruptions_fixed += r == 0 ? fixed : 0;
    }
    return r;
}

static int coroutine_fn copied_in_l1(Check *c, uint32_t i)
{
    Qcow2 *q = c->q;
    uint64_t count;
    int r = stored_count(c, q->l1[i] & QCOW2_OFFSET_MASK, &count);

    if (r < 0 || is_copied_right(q->l1[i], count)) {
        return r;
    }
    block_finding("%s OFLAG_COPIED L2 cluster: l1_index=%" PRIu32 " l1_entry=%" PRIx64
                  " refcount=%" PRIu64,
                  c->fix_copied ? "Repairing" : "ERROR", i, q->l1[i], count);
    c->corruptions++;
    if (c->fix_copied) {
        q->l1[i] ^= QCOW2_COPIED;
        g_array_append_val(q->l1_dirty, i);
        c->corruptions_fixed++;
    }
    return 0;
}

int coroutine_fn check_co_copied(Check *c)
{
    Qcow2 *q = c->q;
    uint8_t *table = buf_try_alloc(q->cluster_size);
    int r = table ? 0 : -ENOMEM;

    c->fix_copied = c->fix_all || (c->fix_leaks && c->corruptions == 0);
    if (r == 0 && c->fix_copied) {
        r = qcow2_co_commit_all(q); /* the counts that the flags are about */
    }
    for (uint32_t i = 0; i < q->h.l1_size && r == 0; i++) {
        if (q->l1[i] && l1_entry_is_sane(q, q->l1[i])) {
            r = copied_in_l1(c, i);
            r = r == 0 ? copied_in_table(c, q->l1[i] & QCOW2_OFFSET_MASK, table) : r;
        }
    }
    buf_free(table, q->cluster_size);
    if (c->fix_copied) {
        qcow2_cache_drop(&q->l2);
    }
    if (r < 0) {
        c->errors++;
    }
    return r;
}

/* --- the whole --- */

static int coroutine_fn prepare(Check *c)
{
    c->clusters = qcow2_file_end(c->q) >> c->q->cluster_bits;
    c->total = (int64_t)DIV_ROUND_UP(c->q->h.size, c->q->cluster_size);
    if (c->clusters * sizeof(*c->refs) > MAX_REFS_BYTES) {
        return -EFBIG;
    }
    c->refs = g_try_new0(uint32_t, MAX(c->clusters, 1));
    return c->refs ? 0 : -ENOMEM;
}

static int coroutine_fn run(Check *c)
{
    int r = prepare(c);

    if (r == 0) {
        r = check_co_references(c);
    }
    if (r == 0) {
        r = check_co_refcounts(c);
    }
    if (r == 0 && c->rebuild && c->fix_all) {
        r = check_co_rebuild(c);
    }
    if (r == 0) {
        r = check_co_copied(c);
    }
    return r;
}

/* Once; the caller looks at what is left. */
static int coroutine_fn check_once(Qcow2 *q, Check *c, bool fix_leaks, bool fix_all)
{
    bool write = fix_leaks || fix_all;
    int r = 0;

    *c = (Check){.q = q, .fix_leaks = fix_leaks, .fix_all = fix_all};
    if (write) {
        qcow2_co_cut_rest(q); /* what is rebuilt goes behind the end */
    }
    q->checking = true;
    r = run(c);
    if (r == 0 && write) {
        r = qcow2_co_commit_all(q);
    }
    q->checking = false;
    g_free(c->refs);
    c->refs = NULL;
    return r;
}

/* Nothing wrong is left: the image may say so. */
static int coroutine_fn absolve(Qcow2 *q, const Check *c)
{
    bool clean = c->errors == 0 && c->corruptions == c->corruptions_fixed;
    int r = 0;

    if (clean) {
        r = qcow2_co_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
        q->corrupt = q->corrupt && r < 0;
    }
    return r;
}

static bool coroutine_fn
check_and_fix(Qcow2 *q, Check *c, bool fix_leaks, bool fix_all, GError **errp)
{
    int r = check_once(q, c, fix_leaks, fix_all);

    if (r == 0 && (fix_leaks || fix_all)) {
        r = absolve(q, c);
    }
    return r == 0 || fail(errp, "%s", g_strerror(-r));
}

static void report(const Check *c, ImageCheck *ret)
{
    uint64_t end = c->end << c->q->cluster_bits;

    ret->check_errors = c->errors;
    ret->corruptions = c->corruptions - c->corruptions_fixed;
    ret->has_corruptions = ret->corruptions > 0;
    ret->leaks = c->leaks - c->leaks_fixed;
    ret->has_leaks = ret->leaks > 0;
    ret->corruptions_fixed = c->corruptions_fixed;
    ret->has_corruptions_fixed = ret->corruptions_fixed > 0;
    ret->leaks_fixed = c->leaks_fixed;
    ret->has_leaks_fixed = ret->leaks_fixed > 0;
    ret->image_end_offset = (int64_t)end;
    ret->has_image_end_offset = end > 0;
    ret->total_clusters = c->total;
    ret->has_total_clusters = c->total > 0;
    ret->allocated_clusters = c->allocated;
    ret->has_allocated_clusters = c->allocated > 0;
    ret->fragmented_clusters = c->fragmented;
    ret->has_fragmented_clusters = c->fragmented > 0;
    ret->compressed_clusters = c->compressed;
    ret->has_compressed_clusters = c->compressed > 0;
}

bool coroutine_fn
qcow2_co_check(BlockNode *node, ImageCheck *ret, bool fix_leaks, bool fix_all, GError **errp)
{
    Qcow2 *q = qcow2_of(node);
    Check c;

    if (q->h.nb_snapshots > 0 || q->h.has_bitmaps) {
        return fail(errp, "Images with internal snapshots or persistent bitmaps cannot be checked");
    }
    if (q->scratch) {
        return fail(errp, "An image with the scratch policy cannot be checked while it is open");
    }
    if ((fix_leaks || fix_all) && node->flags.read_only) {
        return fail(errp, "Image is read-only");
    }
    if (!node->flags.read_only && qcow2_co_commit_all(q) < 0) {
        return fail(errp, "The image could not be written back before the check");
    }
    if (!check_and_fix(q, &c, fix_leaks, fix_all, errp)) {
        return false;
    }
    report(&c, ret);
    return true;
}

bool coroutine_fn qcow2_co_repair(Qcow2 *q, GError **errp)
{
    Check c;

    if (!check_and_fix(q, &c, true, true, errp)) {
        g_prefix_error(errp, "Could not repair dirty image: ");
        return false;
    }
    if (c.errors || c.corruptions != c.corruptions_fixed) {
        return fail(errp, "Could not repair dirty image: %" PRId64 " corruptions are left",
                    c.corruptions - c.corruptions_fixed);
    }
    return true;
}
