/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overlap guard: no write may land on a structure that it is not meant for.
 * Option overlap-check says which structures are looked at; those of snapshots
 * and bitmaps are not in images that can be written.
 *
 * Header, L1 and refcount table are compared as ranges; active L2 tables and
 * refcount blocks are members of a set that is made at the first write. A
 * table may be written by its own kind: which table it is was checked when its
 * offset was read.
 */
#include "qcow2.h"

static const char *const owner_names[] = {
    [QCOW2_OWNER_DATA] = "guest data",         [QCOW2_OWNER_L2] = "active L2 table",
    [QCOW2_OWNER_REFBLOCK] = "refcount block", [QCOW2_OWNER_L1] = "active L1 table",
    [QCOW2_OWNER_REFTABLE] = "refcount table", [QCOW2_OWNER_HEADER] = "qcow2_header",
};

/* --- what is guarded --- */

#define BIT(owner)     (1u << QCOW2_OWNER_##owner)
#define GUARD_CONSTANT (BIT(HEADER) | BIT(L1) | BIT(REFTABLE))
#define GUARD_CACHED   (GUARD_CONSTANT | BIT(L2) | BIT(REFBLOCK))

static unsigned guards_of_mode(Qcow2OverlapCheckMode mode)
{
    static const unsigned guards[QCOW2_OVERLAP_CHECK_MODE__MAX] = {
        [QCOW2_OVERLAP_CHECK_MODE_NONE] = 0,
        [QCOW2_OVERLAP_CHECK_MODE_CONSTANT] = GUARD_CONSTANT,
        [QCOW2_OVERLAP_CHECK_MODE_CACHED] = GUARD_CACHED,
        [QCOW2_OVERLAP_CHECK_MODE_ALL] = GUARD_CACHED,
    };

    return guards[mode];
}

static void set_guard(Qcow2 *q, unsigned bit, bool has, bool on)
{
    if (has) {
        q->guards = on ? q->guards | bit : q->guards & ~bit;
    }
}

void qcow2_set_guards(Qcow2 *q, const Qcow2OverlapChecks *o)
{
    const Qcow2OverlapCheckFlags *f;

    if (!o || o->kind == QCOW2_OVERLAP_CHECKS_MODE) {
        q->guards = guards_of_mode(o ? o->u.mode : QCOW2_OVERLAP_CHECK_MODE_CACHED);
        return;
    }
    f = o->u.flags;
    q->guards = guards_of_mode(f->has_template ? f->template : QCOW2_OVERLAP_CHECK_MODE_CACHED);
    set_guard(q, BIT(HEADER), f->has_main_header, f->main_header);
    set_guard(q, BIT(L1), f->has_active_l1, f->active_l1);
    set_guard(q, BIT(L2), f->has_active_l2, f->active_l2);
    set_guard(q, BIT(REFTABLE), f->has_refcount_table, f->refcount_table);
    set_guard(q, BIT(REFBLOCK), f->has_refcount_block, f->refcount_block);
}

static inline bool guards(const Qcow2 *q, unsigned tag)
{
    return q->guards & (1u << tag);
}

/* --- the set --- */

void qcow2_meta_forget(Qcow2 *q)
{
    qcow2_set_clear(&q->meta);
    q->meta_known = false;
}

static void add(Qcow2 *q, uint64_t host, Qcow2Owner owner)
{
    if (host >> q->cluster_bits > 0 && host < QCOW2_HOST_END) {
        qcow2_set_add(&q->meta, host >> q->cluster_bits, owner);
    }
}

static void learn(Qcow2 *q)
{
    for (uint32_t i = 0; i < q->h.l1_size; i++) {
        add(q, q->l1[i] & QCOW2_OFFSET_MASK, QCOW2_OWNER_L2);
    }
    for (uint32_t i = 0; i < q->rt_entries; i++) {
        add(q, q->rt[i], QCOW2_OWNER_REFBLOCK);
    }
    q->meta_known = true;
}

void qcow2_meta_add(Qcow2 *q, uint64_t host, Qcow2Owner owner)
{
    if (q->meta_known) {
        add(q, host, owner);
    }
}

void qcow2_meta_remove(Qcow2 *q, uint64_t host)
{
    qcow2_set_remove(&q->meta, host >> q->cluster_bits);
}

/* --- the guard --- */

static bool meets(uint64_t host, uint64_t bytes, uint64_t start, uint64_t length)
{
    return length > 0 && host < start + length && start < host + bytes;
}

const char *qcow2_overlaps(Qcow2 *q, uint64_t host, uint64_t bytes, Qcow2Owner owner)
{
    uint64_t first = ALIGN_DOWN(host, q->cluster_size);
    uint64_t size = ALIGN_UP(host + bytes, q->cluster_size) - first;

    if (first == 0 && owner != QCOW2_OWNER_HEADER && guards(q, QCOW2_OWNER_HEADER)) {
        return owner_names[QCOW2_OWNER_HEADER];
    }
    if (owner != QCOW2_OWNER_L1 && guards(q, QCOW2_OWNER_L1) &&
        meets(first, size, q->h.l1_offset, q->h.l1_size * 8)) {
        return owner_names[QCOW2_OWNER_L1];
    }
    if (owner != QCOW2_OWNER_REFTABLE && guards(q, QCOW2_OWNER_REFTABLE) &&
        meets(first, size, q->h.reftable_offset,
              (uint64_t)q->h.reftable_clusters << q->cluster_bits)) {
        return owner_names[QCOW2_OWNER_REFTABLE];
    }
    if (!(q->guards & (BIT(L2) | BIT(REFBLOCK)))) {
        return NULL;
    }
    if (!q->meta_known) {
        learn(q);
    }
    for (uint64_t c = first; c < first + size; c += q->cluster_size) {
        unsigned tag = qcow2_set_get(&q->meta, c >> q->cluster_bits);

        if (tag && tag != owner && guards(q, tag)) {
            return owner_names[tag];
        }
    }
    return NULL;
}
