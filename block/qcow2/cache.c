/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slices of metadata tables in memory.
 *
 * A hit is a hash lookup: no lock, no yield. A miss puts a placeholder in, so
 * that one reader fetches the slice and the others wait for it. What is dirty
 * or being written stays; the rest goes by the clock algorithm. The bound is
 * soft: evicting never writes, because writing has an order (commit.c).
 */
#include "qcow2.h"

static guint slices_in(uint32_t slice_bytes, uint64_t max_bytes)
{
    return (guint)CLAMP(max_bytes / slice_bytes, 16, 1u << 24);
}

bool qcow2_cache_init(Qcow2Cache *c, uint32_t slice_bytes, uint64_t max_bytes,
                      const char *load_event)
{
    *c = (Qcow2Cache){
        .slice_bytes = slice_bytes,
        .max_slices = slices_in(slice_bytes, max_bytes),
        .load_event = load_event,
    };
    c->bucket_bits = g_bit_storage(c->max_slices);
    c->buckets = g_try_new0(Qcow2Slice *, (gsize)1 << c->bucket_bits);
    if (!c->buckets) {
        return false;
    }
    c->slices = g_ptr_array_new();
    c->dirty = g_ptr_array_new();
    return true;
}

static void slice_free(Qcow2Slice *s)
{
    free(s->data);
    g_free(s);
}

void qcow2_cache_drop(Qcow2Cache *c)
{
    for (guint i = 0; i < c->slices->len; i++) {
        Qcow2Slice *s = g_ptr_array_index(c->slices, i);

        assert(!s->loading && !s->writing);
        slice_free(s);
    }
    g_ptr_array_set_size(c->slices, 0);
    g_ptr_array_set_size(c->dirty, 0);
    c->hand = 0;
    memset(c->buckets, 0, sizeof(*c->buckets) << c->bucket_bits);
}

void qcow2_cache_destroy(Qcow2Cache *c)
{
    if (!c->buckets) {
        return;
    }
    qcow2_cache_drop(c);
    g_ptr_array_free(c->slices, TRUE);
    g_ptr_array_free(c->dirty, TRUE);
    g_free(c->buckets);
    *c = (Qcow2Cache){0};
}

static void unlink_slice(Qcow2Cache *c, Qcow2Slice *s)
{
    Qcow2Slice **p = &c->buckets[qcow2_cache_bucket(c, s->key)];

    while (*p != s) {
        p = &(*p)->chain;
    }
    *p = s->chain;
}

static void link_slice(Qcow2Cache *c, Qcow2Slice *s)
{
    Qcow2Slice **p = &c->buckets[qcow2_cache_bucket(c, s->key)];

    s->chain = *p;
    *p = s;
}

static bool may_go(const Qcow2Slice *s)
{
    return !s->dirty && !s->writing && !s->loading;
}

/* A slice that may be reused, unlinked; NULL if each is in use. */
static Qcow2Slice *evict(Qcow2Cache *c)
{
    for (guint n = 2 * c->slices->len; n > 0; n--) {
        Qcow2Slice *s = g_ptr_array_index(c->slices, c->hand);

        c->hand = (c->hand + 1) % c->slices->len;
        if (!may_go(s)) {
            continue;
        }
        if (!s->referenced) {
            unlink_slice(c, s);
            return s;
        }
        s->referenced = false;
    }
    return NULL;
}

static Qcow2Slice *slice_new(Qcow2Cache *c)
{
    Qcow2Slice *s = c->slices->len >= c->max_slices ? evict(c) : NULL;

    if (s) {
        return s;
    }
    s = g_new0(Qcow2Slice, 1);
    s->data = aligned_alloc(c->slice_bytes, c->slice_bytes);
    if (!s->data) {
        g_free(s);
        return NULL;
    }
    g_ptr_array_add(c->slices, s);
    return s;
}

/* Nobody shall find it any more. */
static void discard_slice(Qcow2Cache *c, Qcow2Slice *s)
{
    unlink_slice(c, s);
    g_ptr_array_remove_fast(c->slices, s);
    c->hand = c->slices->len ? c->hand % c->slices->len : 0;
    slice_free(s);
}

void qcow2_cache_resize(Qcow2Cache *c, uint64_t max_bytes)
{
    Qcow2Cache was = *c;
    Qcow2Slice *s;

    c->max_slices = slices_in(c->slice_bytes, max_bytes);
    c->bucket_bits = g_bit_storage(c->max_slices);
    c->buckets = g_try_new0(Qcow2Slice *, (gsize)1 << c->bucket_bits);
    if (!c->buckets) { /* longer chains are only slower */
        c->buckets = was.buckets;
        c->bucket_bits = was.bucket_bits;
    } else {
        for (guint i = 0; i < c->slices->len; i++) {
            link_slice(c, g_ptr_array_index(c->slices, i));
        }
        g_free(was.buckets);
    }
    while (c->slices->len > c->max_slices && (s = evict(c))) {
        link_slice(c, s);
        discard_slice(c, s);
    }
}

bool qcow2_cache_clean(Qcow2Cache *c)
{
    bool more = false;

    for (guint i = c->slices->len; i-- > 0;) {
        Qcow2Slice *s = g_ptr_array_index(c->slices, i);

        if (!may_go(s)) {
            continue;
        }
        if (s->referenced) {
            s->referenced = false;
            more = true;
        } else {
            unlink_slice(c, s);
            g_ptr_array_remove_index_fast(c->slices, i);
            slice_free(s);
        }
    }
    c->hand = 0;
    return more;
}

static int coroutine_fn
fetch(Qcow2 *q, Qcow2Cache *c, uint64_t key, uint64_t host, Qcow2Slice **ret)
{
    Qcow2Slice *s = slice_new(c);
    int r;

    if (!s) {
        return -ENOMEM;
    }
    s->key = key;
    s->loading = true;
    s->referenced = true;
    link_slice(c, s);

    QCOW2_EVENT(q, c->load_event);
    r = child_co_pread(qcow2_file(q), (int64_t)host, s->data, c->slice_bytes);
    s->loading = false;
    co_queue_wake_all(&s->loaded);
    if (r < 0) {
        discard_slice(c, s);
        return r;
    }
    qcow2_clean_later(q);
    *ret = s;
    return 0;
}

static Qcow2Slice *find_loading(Qcow2Cache *c, uint64_t key)
{
    Qcow2Slice *s = c->buckets[qcow2_cache_bucket(c, key)];

    while (s && s->key != key) {
        s = s->chain;
    }
    return s;
}

int coroutine_fn
qcow2_cache_co_load(Qcow2 *q, Qcow2Cache *c, uint64_t key, uint64_t host, Qcow2Slice **ret)
{
    for (;;) {
        Qcow2Slice *s = find_loading(c, key);

        if (!s) {
            return fetch(q, c, key, host, ret);
        }
        if (!s->loading) {
            s->referenced = true;
            *ret = s;
            return 0;
        }
        co_queue_wait(&s->loaded); /* then look again: it may have failed or gone */
    }
}

void qcow2_cache_dirty(Qcow2Cache *c, Qcow2Slice *s)
{
    assert(!s->loading);
    if (!s->dirty) {
        s->dirty = true;
        g_ptr_array_add(c->dirty, s);
    }
}
