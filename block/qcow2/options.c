/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the user of an image may ask for: checked against the header, and
 * turned into what the other files look at. All of it but the length of a
 * cache entry may change while the image is open.
 */
#include "qcow2.h"

#define L2_CACHE_MAX      (32 * (uint64_t)MiB) /* if nothing is said */
#define RB_CACHE_MIN      ((uint64_t)MiB)
#define L2_SLICE_BITS_MAX 12
#define CLEAN_SECONDS     600

/* --- caches --- */

uint32_t qcow2_l2_slice_bits(const Qcow2 *q, const BlockdevOptionsQcow2 *o)
{
    return o->has_l2_cache_entry_size ? (uint32_t)__builtin_ctzll((uint64_t)o->l2_cache_entry_size)
                                      : MIN(q->cluster_bits, L2_SLICE_BITS_MAX);
}

/* What is not said follows from the rest; "cache-size" gives the L2 tables what they can use. */
void qcow2_cache_sizes(const Qcow2 *q, const BlockdevOptionsQcow2 *o, uint64_t *ret_l2,
                       uint64_t *ret_rb)
{
    uint64_t tables = MAX(DIV_ROUND_UP(q->h.size, q->cluster_size) * 8, UINT64_C(65536));
    uint64_t rb_least = MAX(4 * q->cluster_size, RB_CACHE_MIN);
    uint64_t both = (uint64_t)o->cache_size;
    uint64_t l2 = L2_CACHE_MAX, rb = rb_least;

    if (o->has_l2_cache_size) {
        l2 = (uint64_t)o->l2_cache_size;
        rb = o->has_cache_size ? both - l2 : rb;
    } else if (o->has_cache_size && o->has_refcount_cache_size) {
        l2 = both - (uint64_t)o->refcount_cache_size;
    } else if (o->has_cache_size) {
        l2 = MIN(tables, both - MIN(rb_least, both / 4));
        rb = both - l2;
    }
    *ret_l2 = MIN(l2, tables);
    *ret_rb = o->has_refcount_cache_size ? (uint64_t)o->refcount_cache_size : rb;
}

static bool check_caches(const Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp)
{
    int64_t entry = o->l2_cache_entry_size;

    if (o->has_cache_size) {
        if (o->has_l2_cache_size && o->has_refcount_cache_size) {
            return fail(errp, "cache-size, l2-cache-size and refcount-cache-size may not be set at"
                              " the same time");
        }
        if (o->has_l2_cache_size && o->l2_cache_size > o->cache_size) {
            return fail(errp, "l2-cache-size may not exceed cache-size");
        }
        if (o->has_refcount_cache_size && o->refcount_cache_size > o->cache_size) {
            return fail(errp, "refcount-cache-size may not exceed cache-size");
        }
    }
    if (o->has_l2_cache_entry_size &&
        ((entry & (entry - 1)) != 0 || entry > (int64_t)q->cluster_size)) {
        return fail(errp,
                    "L2 cache entry size must be a power of two between 512 and the cluster size"
                    " (%" PRIu64 ")",
                    q->cluster_size);
    }
    return true;
}

/* --- dropping what is not used --- */

static void clean(void *opaque)
{
    Qcow2 *q = opaque;
    bool l2 = qcow2_cache_clean(&q->l2), rb = qcow2_cache_clean(&q->rb);

    if (l2 || rb) {
        qcow2_clean_later(q);
    }
}

void qcow2_clean_later(Qcow2 *q)
{
    if (q->clean_ns > 0 && !timer_is_armed(&q->clean_timer)) {
        timer_arm(&q->clean_timer, loop_now_ns() + q->clean_ns);
    }
}

static void take_clean_interval(Qcow2 *q, const BlockdevOptionsQcow2 *o)
{
    timer_cancel(&q->clean_timer);
    timer_init(&q->clean_timer, clean, q);
    q->clean_ns =
        (o->has_cache_clean_interval ? o->cache_clean_interval : CLEAN_SECONDS) * NS_PER_S;
    qcow2_clean_later(q);
}

/* --- all --- */

bool qcow2_check_options(const Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp)
{
    if (o->data_file) {
        return fail(errp, "External data files are not supported");
    }
    if (o->encrypt) {
        return fail(errp, "Encryption is not supported");
    }
    if (q->h.version < 3 && o->has_lazy_refcounts && o->lazy_refcounts) {
        return fail(errp, "Lazy refcounts require a qcow2 image with at least qemu 1.1"
                          " compatibility level");
    }
    if (q->h.version < 3 && o->has_discard_no_unref && o->discard_no_unref) {
        return fail(errp, "discard-no-unref is only supported since qcow2 version 3");
    }
    return check_caches(q, o, errp);
}

static bool is_on(bool has, bool value, bool otherwise)
{
    return has ? value : otherwise;
}

void qcow2_take_options(Qcow2 *q, const BlockdevOptionsQcow2 *o, const NodeFlags *flags)
{
    uint64_t l2_bytes, rb_bytes;

    q->lazy = is_on(o->has_lazy_refcounts, o->lazy_refcounts,
                    (q->h.compatible & QCOW2_COMPAT_LAZY) != 0);
    q->pass_discard[QCOW2_FREE_REQUEST] =
        is_on(o->has_pass_discard_request, o->pass_discard_request, flags->unmap);
    q->pass_discard[QCOW2_FREE_OTHER] =
        is_on(o->has_pass_discard_other, o->pass_discard_other, false);
    q->pass_discard[QCOW2_FREE_ALWAYS] = true;
    q->discard_no_unref = is_on(o->has_discard_no_unref, o->discard_no_unref, false);
    qcow2_set_guards(q, o->overlap_check);
    q->want_scratch = o->has_metadata_policy && o->metadata_policy == QCOW2_METADATA_POLICY_SCRATCH;
    qcow2_cache_sizes(q, o, &l2_bytes, &rb_bytes);
    qcow2_cache_resize(&q->l2, l2_bytes);
    qcow2_cache_resize(&q->rb, rb_bytes);
    take_clean_interval(q, o);
}
