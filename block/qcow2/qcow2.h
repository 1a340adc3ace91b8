/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open qcow2 image, and what the files of this folder offer each other.
 *
 * Memory is ahead of the disk: l1, rt, and the slices of L2 tables and
 * refcount blocks are what counts; commit.c brings them to the file in the
 * order that its numbered rules (R1, R2, ...) demand.
 *
 * Locks, outermost first. A request takes alloc_ranges, then meta_lock. A
 * flush takes commit_lock, then rb_write_lock or meta_lock. Nobody takes
 * commit_lock while holding another one. Lookups take no lock.
 *
 *   commit_lock    one commit at a time
 *   header_lock    one change of the feature bits at a time; taken last
 *   alloc_ranges   guest clusters whose L2 entries somebody is about to change
 *   meta_lock      l1, rt, refcounts and the allocator
 *   rb_write_lock  writing refcount blocks, so that an older copy of a block
 *                  never lands after a newer one
 */
#ifndef BLOCK_QCOW2_QCOW2_H
#define BLOCK_QCOW2_QCOW2_H

#include <errno.h>

#include "block/driver.h"
#include "block/io.h"
#include "block/node.h"
#include "format.h"
#include "set.h"
#include "util/buf.h"
#include "util/loop.h"
#include "util/sync.h"

typedef struct Qcow2 Qcow2;
typedef struct Scratch Scratch;

/* --- cache.c: slices of L2 tables and refcount blocks --- */

/* A part of a table, 4 KiB if not told otherwise: what is read and written at once. */
typedef struct Qcow2Slice {
    uint64_t key; /* place in the guest's (L2) or the host's (refcounts) address space */
    struct Qcow2Slice *chain; /* next in the hash bucket */
    uint8_t *data;            /* big-endian, as on disk */
    bool dirty;
    bool writing;    /* a commit has a copy that is not yet on disk: do not evict */
    bool loading;    /* data is not there yet */
    bool referenced; /* since the clock hand passed */
    CoQueue loaded;
} Qcow2Slice;

typedef struct Qcow2Cache {
    Qcow2Slice **buckets;
    uint32_t bucket_bits;
    uint32_t slice_bytes;
    guint max_slices; /* soft: dirty ones are never evicted, commits keep their number low */
    guint hand;
    GPtrArray *slices; /* all */
    GPtrArray *dirty;
    const char *load_event;
} Qcow2Cache;

bool qcow2_cache_init(Qcow2Cache *c, uint32_t slice_bytes, uint64_t max_bytes,
                      const char *load_event) MUST_USE;
void qcow2_cache_destroy(Qcow2Cache *c);
/** qcow2_cache_resize() - from now on at most @max_bytes; what can go at once goes */
void qcow2_cache_resize(Qcow2Cache *c, uint64_t max_bytes);
/** qcow2_cache_clean() - drop what is clean and was not used since the last call
 * Return: is there anything that the next call might drop? */
bool qcow2_cache_clean(Qcow2Cache *c);
/** qcow2_cache_drop() - forget all; nothing may be loading or being written */
void qcow2_cache_drop(Qcow2Cache *c);

static inline uint64_t qcow2_cache_bucket(const Qcow2Cache *c, uint64_t key)
{
    return key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - c->bucket_bits);
}

/** qcow2_cache_find() - the slice if it is loaded. The pointer is good until the next yield. */
static inline Qcow2Slice *qcow2_cache_find(Qcow2Cache *c, uint64_t key)
{
    Qcow2Slice *s = c->buckets[qcow2_cache_bucket(c, key)];

    while (s && s->key != key) {
        s = s->chain;
    }
    if (!s || s->loading) {
        return NULL;
    }
    s->referenced = true;
    return s;
}

/** qcow2_cache_co_load() - the slice, read from @host if it is not there
 * Return: 0 or -errno. *ret is good until the next yield. */
int coroutine_fn MUST_USE
qcow2_cache_co_load(Qcow2 *q, Qcow2Cache *c, uint64_t key, uint64_t host, Qcow2Slice **ret);
void qcow2_cache_dirty(Qcow2Cache *c, Qcow2Slice *s);

/* --- the image --- */

/* Why clusters are freed: decides whether the file below is told. */
typedef enum Qcow2FreeWhy {
    QCOW2_FREE_REQUEST, /* the guest discards them, or makes them zeroes */
    QCOW2_FREE_OTHER,   /* something else takes their place */
    QCOW2_FREE_ALWAYS,  /* the image becomes shorter or empty */
} Qcow2FreeWhy;

typedef struct Qcow2Range {
    uint64_t host, bytes;
    Qcow2FreeWhy why;
} Qcow2Range;

/* Clusters whose last reference is gone, see rules R7 and R8. */
typedef struct Qcow2FreedBatch {
    struct Qcow2FreedBatch *next;
    GArray *ranges; /* Qcow2Range */
    uint64_t epoch; /* requests that started up to it may still use the clusters */
} Qcow2FreedBatch;

typedef struct Qcow2Inflated { /* the compressed cluster inflated last */
    uint64_t entry;            /* 0: none */
    uint8_t *data;             /* cluster_size bytes, NULL until first used */
} Qcow2Inflated;

struct Qcow2 {
    BlockNode *node;
    Qcow2Header h;
    uint32_t cluster_bits;
    uint64_t cluster_size;
    uint32_t l2_slice_bits, rb_slice_bits; /* log2 of a slice's bytes */
    uint32_t l2_bits;    /* log2 of entries of an L2 table */
    uint32_t rb_bits;    /* log2 of entries of a refcount block */

    uint64_t *l1; /* h.l1_size entries in host order */
    uint64_t *rt; /* rt_entries offsets of refcount blocks */
    uint32_t rt_entries;
    GArray *l1_dirty, *rt_dirty; /* uint32_t indices; may repeat */
    Qcow2Cache l2, rb;

    CoMutex commit_lock, meta_lock, rb_write_lock, header_lock;
    CoRangeLock alloc_ranges;

    uint64_t free_hint;  /* no cluster below is free; an index */
    uint64_t fresh_from; /* file offset: from here on the file has never held anything */
    uint64_t used_end;   /* of an emptied image: what lies behind is to be cut off; 0: nothing */
    uint64_t blank_to;   /* from used_end to here it reads as zeroes; 0: that cannot be had */
    Qcow2Set meta;       /* clusters of L2 tables and refcount blocks, once meta_known */
    bool meta_known;
    unsigned guards; /* bit per Qcow2Owner: no write may land there that is not meant for it */

    GArray *freed; /* Qcow2Range, since the last commit took them */
    uint64_t freed_bytes;
    Qcow2FreedBatch *quarantine, **quarantine_tail;
    uint64_t io_epoch;
    unsigned active[2]; /* requests that use host clusters, by the parity of their epoch */

    Qcow2Inflated inflated;
    CoMutex writable_lock;
    bool writable;     /* autoclear bits are dealt with */
    bool corrupt;      /* found while writable: all requests fail */
    bool corrupt_told; /* QMP knows of one that was not fatal */
    bool half_empty;   /* emptying failed half-way: all requests fail, emptying may be repeated */
    bool checking;     /* do not mark the image corrupt: check reports it */
    bool want_scratch; /* metadata-policy=scratch: as soon as the image is empty */
    bool pass_discard[QCOW2_FREE_ALWAYS + 1]; /* of freed space to the file */
    bool discard_no_unref;                    /* what the guest discards keeps its cluster */
    bool given_ahead, given_ahead_known; /* clusters that the file has no place for: info.c */
    bool lazy; /* flushes leave refcounts in memory, under the dirty bit */
    int64_t clean_ns; /* drop what the caches have not used for so long; 0: never */
    LoopTimer clean_timer;
    Scratch *scratch;      /* NULL: the policy is off */
    CoQueue scratch_queue; /* requests that wait until it has been turned off */
};

static inline Qcow2 *qcow2_of(BlockNode *node)
{
    return node->state;
}

static inline BlockChild *qcow2_file(const Qcow2 *q)
{
    return q->node->file;
}

/*
 * What a blkdebug node below is told: @event comes right before the request that it names (the
 * list is in docs/qcow2.md). May yield: never between looking something up and using it.
 */
#define QCOW2_EVENT(q, event) node_debug_event((q)->node, event)

static inline uint64_t qcow2_l1_index(const Qcow2 *q, uint64_t guest)
{
    return guest >> (q->cluster_bits + q->l2_bits);
}

static inline uint64_t qcow2_file_end(const Qcow2 *q)
{
    return ALIGN_UP((uint64_t)node_length(qcow2_file(q)->node), q->cluster_size);
}

/* Requests that use host clusters stand between these two: see R8. */
/* Requests may touch the image. */
static inline bool qcow2_is_usable(const Qcow2 *q)
{
    return likely(!q->corrupt && !q->half_empty);
}

static inline unsigned qcow2_enter(Qcow2 *q)
{
    unsigned parity = q->io_epoch & 1;

    q->active[parity]++;
    return parity;
}

static inline void qcow2_leave(Qcow2 *q, unsigned parity)
{
    q->active[parity]--;
}

/** qcow2_co_become_writable() - refuse, repair, or get ready for the first write */
bool coroutine_fn qcow2_co_become_writable(Qcow2 *q, GError **errp);
/** qcow2_co_begin_change() - before a request changes anything: 0 or -errno */
static inline int coroutine_fn qcow2_co_begin_change(Qcow2 *q)
{
    if (!qcow2_is_usable(q)) {
        return -EIO;
    }
    /* A node that was opened read-only and reopened gets here first. */
    return likely(q->writable) || qcow2_co_become_writable(q, NULL) ? 0 : -EACCES;
}

/* --- image.c --- */

/** qcow2_co_load() - header and top-level tables; checks @o, and makes the caches as it says */
bool coroutine_fn qcow2_co_load(Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp);
void qcow2_unload(Qcow2 *q);
/** qcow2_co_clear_autoclear() - unknown autoclear bits go before the first write */
int coroutine_fn qcow2_co_clear_autoclear(Qcow2 *q);
/** qcow2_co_write_header() - rewrite cluster 0 from q->h; not flushed */
int coroutine_fn qcow2_co_write_header(Qcow2 *q);
/** qcow2_co_set_incompatible() - set bits on disk, flushed, or clear some, not flushed; no-op on
 * version 2 */
int coroutine_fn qcow2_co_set_incompatible(Qcow2 *q, uint64_t set, uint64_t clear);
/** qcow2_co_switch() - let the header point at something else that is durable: one write, flushed.
 * If that fails the old bytes are put back; if that fails too the image is not written any more.
 * @event: what comes before that write, or NULL */
int coroutine_fn qcow2_co_switch(Qcow2 *q, const char *event, uint64_t at, const uint8_t *now,
                                 const uint8_t *before, size_t bytes);
/** qcow2_co_corrupt() - what [@offset, @offset + @bytes) of the file holds, or would get, cannot be
 *
 * A writable image is marked and not touched any more; of a read-only one this request fails. Told
 * to QMP the first time, and again when it becomes fatal. Return: -EIO. */
int coroutine_fn
qcow2_co_corrupt(Qcow2 *q, uint64_t offset, uint64_t bytes, const char *fmt, ...) PRINTF(4, 5);
/** qcow2_co_read_table() - @entries big-endian words at @host into host order */
int coroutine_fn qcow2_co_read_table(Qcow2 *q, uint64_t host, uint64_t *table, uint64_t entries);
int coroutine_fn qcow2_co_write_table(Qcow2 *q, uint64_t host, const uint64_t *table,
                                      uint64_t entries, uint64_t bytes);

/* --- options.c --- */

/** qcow2_check_options() - what does not fit the image, once its header is known */
bool qcow2_check_options(const Qcow2 *q, const BlockdevOptionsQcow2 *o, GError **errp);
/** qcow2_take_options() - what may change while the image is open; @o has been checked */
void qcow2_take_options(Qcow2 *q, const BlockdevOptionsQcow2 *o, const NodeFlags *flags);
uint32_t qcow2_l2_slice_bits(const Qcow2 *q, const BlockdevOptionsQcow2 *o);
/** qcow2_cache_sizes() - bytes for each cache */
void qcow2_cache_sizes(const Qcow2 *q, const BlockdevOptionsQcow2 *o, uint64_t *ret_l2,
                       uint64_t *ret_rb);
/** qcow2_clean_later() - the caches have something that cache-clean-interval may drop */
void qcow2_clean_later(Qcow2 *q);

/* --- map.c: guest to host --- */

typedef struct Qcow2Extent {
    Qcow2Type type;
    bool copied;
    uint64_t entry; /* of the first cluster */
    uint64_t host;  /* of the first byte asked for, for DATA and ZERO_ALLOC */
    uint64_t bytes; /* for how long, > 0 */
} Qcow2Extent;

/** qcow2_co_map() - what the start of [@guest, @guest + @bytes) is. Yields only to read a table. */
int coroutine_fn MUST_USE qcow2_co_map(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret);
/** qcow2_map_cached() - the same without waiting; false if a table would have to be read */
bool qcow2_map_cached(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Extent *ret);
/** qcow2_co_l2_ensure() - the L2 table of @guest exists and is ours alone */
int coroutine_fn MUST_USE qcow2_co_l2_ensure(Qcow2 *q, uint64_t guest);
/** qcow2_co_l2_get() - one entry in host order; 0 where there is no table */
int coroutine_fn MUST_USE qcow2_co_l2_get(Qcow2 *q, uint64_t guest, uint64_t *ret);
/** qcow2_co_l2_set() - one entry; after qcow2_co_l2_ensure(), in alloc_ranges; returns the old */
int coroutine_fn MUST_USE
qcow2_co_l2_set(Qcow2 *q, uint64_t guest, uint64_t entry, uint64_t *ret_old);
/** qcow2_co_l1_load_table() - a whole L2 table, cached changes included, big-endian */
int coroutine_fn MUST_USE qcow2_co_l2_table(Qcow2 *q, uint64_t l1_index, uint8_t *table);

/* --- refcount.c; under meta_lock --- */

int coroutine_fn MUST_USE qcow2_co_refcount_get(Qcow2 *q, uint64_t cluster, uint64_t *ret);
/** qcow2_co_refcount_set() - the block exists: see qcow2_co_refcount_cover() */
int coroutine_fn MUST_USE qcow2_co_refcount_set(Qcow2 *q, uint64_t cluster, uint64_t value);
/**
 * qcow2_co_refcount_cover() - make the refcount blocks of clusters [@first, @last]
 * @place: index of a cluster from which on new blocks and a grown table may be put: all clusters
 * from there to wherever they end are free and nothing else is put there
 *
 * Return: 0, -EFBIG past the format's limits, -errno. *ret_end: first cluster behind what was
 * put at @place.
 */
int coroutine_fn MUST_USE
qcow2_co_refcount_cover(Qcow2 *q, uint64_t first, uint64_t last, uint64_t place, uint64_t *ret_end);

/* --- alloc.c --- */

/** qcow2_co_alloc() - clusters with refcount 1
 * @want: clusters, > 0; @exact: all of them or -errno, else *ret_got may be less
 * @ret_fresh: the file has never held anything there, it reads as zeroes */
int coroutine_fn MUST_USE qcow2_co_alloc(Qcow2 *q, uint64_t want, bool exact, uint64_t *ret_host,
                                         uint64_t *ret_got, bool *ret_fresh);
/** qcow2_co_alloc_locked() - the same under meta_lock */
int coroutine_fn MUST_USE
qcow2_co_alloc_locked(Qcow2 *q, uint64_t want, bool exact, uint64_t *ret_host, uint64_t *ret_got,
                      bool *ret_fresh);
/** qcow2_co_unalloc() - give back what nothing on disk or in memory has ever pointed at */
void coroutine_fn qcow2_co_unalloc(Qcow2 *q, uint64_t host, uint64_t clusters);
/** qcow2_free() - drop one reference of each cluster touched; takes effect as R7 and R8 say */
void qcow2_free(Qcow2 *q, uint64_t host, uint64_t bytes, Qcow2FreeWhy why);
/** qcow2_free_entry() - the same for what an L2 entry points at */
void qcow2_free_entry(Qcow2 *q, uint64_t entry, Qcow2FreeWhy why);
/** qcow2_co_release() - let clusters out of quarantine; under meta_lock */
int coroutine_fn qcow2_co_release(Qcow2 *q);
void qcow2_forget_freed(Qcow2 *q);

/* --- commit.c --- */

/** qcow2_co_commit() - all that a flush promises: with lazy refcounts not the counts */
int coroutine_fn MUST_USE qcow2_co_commit(Qcow2 *q);
/** qcow2_co_commit_all() - the counts too; the dirty bit stays */
int coroutine_fn MUST_USE qcow2_co_commit_all(Qcow2 *q);
/** qcow2_co_settle() - everything is in the file, and the dirty bit is clear */
int coroutine_fn MUST_USE qcow2_co_settle(Qcow2 *q);
/** qcow2_co_commit_locked() - under commit_lock; releases no clusters, so meta_lock may be held */
int coroutine_fn MUST_USE qcow2_co_commit_locked(Qcow2 *q);
/** qcow2_co_relieve() - commit if much is waiting for it; the caller holds no lock */
int coroutine_fn qcow2_co_relieve(Qcow2 *q);
/** qcow2_co_write_refcounts() - dirty refcount blocks; under rb_write_lock; not flushed
 * @event: what comes before each write */
int coroutine_fn MUST_USE qcow2_co_write_refcounts(Qcow2 *q, const char *event);
bool qcow2_is_clean(const Qcow2 *q);

/* --- overlap.c --- */

typedef enum Qcow2Owner {
    QCOW2_OWNER_DATA, /* guest data */
    QCOW2_OWNER_L2,
    QCOW2_OWNER_REFBLOCK,
    QCOW2_OWNER_L1,
    QCOW2_OWNER_REFTABLE,
    QCOW2_OWNER_HEADER,
} Qcow2Owner;

/** qcow2_overlaps() - name of the structure that a write of @owner would destroy, or NULL */
const char *qcow2_overlaps(Qcow2 *q, uint64_t host, uint64_t bytes, Qcow2Owner owner);
/** qcow2_co_guard() - 0, or the image is marked corrupt and -EIO */
static inline int coroutine_fn
qcow2_co_guard(Qcow2 *q, uint64_t host, uint64_t bytes, Qcow2Owner owner)
{
    const char *what = qcow2_overlaps(q, host, bytes, owner);

    if (likely(!what)) {
        return 0;
    }
    return qcow2_co_corrupt(q, host, bytes,
                            "Preventing invalid write on metadata (overlaps with %s)", what);
}
/** qcow2_set_guards() - which structures qcow2_overlaps() looks at; NULL: the default */
void qcow2_set_guards(Qcow2 *q, const Qcow2OverlapChecks *o);
void qcow2_meta_forget(Qcow2 *q);
/** qcow2_meta_add(), qcow2_meta_remove() - no-ops until the set has been made */
void qcow2_meta_add(Qcow2 *q, uint64_t host, Qcow2Owner owner);
void qcow2_meta_remove(Qcow2 *q, uint64_t host);

/* --- requests: read.c, write.c, zero.c, inflate.c, status.c --- */

int coroutine_fn qcow2_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
/** qcow2_co_read_backing() - backing content, zeroes behind its end and without one */
int coroutine_fn qcow2_co_read_backing(Qcow2 *q, uint64_t guest, IoVec iov);
/** qcow2_co_inflate() - the bytes at @offset in the compressed cluster of @entry */
int coroutine_fn qcow2_co_inflate(Qcow2 *q, uint64_t entry, uint64_t offset, IoVec iov);
int coroutine_fn qcow2_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn
qcow2_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags);
int coroutine_fn qcow2_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes);
int coroutine_fn qcow2_co_flush(BlockNode *node);
int coroutine_fn qcow2_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                       int64_t bytes, BlockStatus *ret);
/** qcow2_backing_bytes() - length of the backing file; 0 without one */
static inline uint64_t qcow2_backing_bytes(const Qcow2 *q)
{
    return q->node->backing ? (uint64_t)node_length(q->node->backing->node) : 0;
}

/* --- copy.c: copy offload --- */

/* Where the rest of a copy goes. */
typedef struct Qcow2Copy {
    BlockChild *dst;
    uint64_t to, bytes;
    ReqFlags flags;
} Qcow2Copy;
/* One run each, of @c->bytes from @guest or @host; -ENOTSUP if it is to be copied by hand. */
int coroutine_fn qcow2_co_copy_stored(Qcow2 *q, uint64_t host, const Qcow2Copy *c);
int coroutine_fn qcow2_co_copy_zeroes(const Qcow2Copy *c);
int coroutine_fn qcow2_co_copy_backing(Qcow2 *q, uint64_t guest, const Qcow2Copy *c);
int coroutine_fn qcow2_co_copy_range_from(BlockNode *node, int64_t offset, BlockChild *dst,
                                          int64_t dst_offset, int64_t bytes, ReqFlags flags);

typedef enum Qcow2Drop {
    QCOW2_DROP_DISCARD, /* reads as zeroes afterwards */
    QCOW2_DROP_UNMAP,   /* the same, and is allocated where the format has zero clusters */
    QCOW2_DROP_ZERO,    /* the same, but host clusters are kept */
    QCOW2_DROP_FULL,    /* unallocated afterwards: backing shows through */
} Qcow2Drop;
/** qcow2_co_drop() - whole clusters; @guest and @bytes are multiples of the cluster size */
int coroutine_fn qcow2_co_drop(Qcow2 *q, uint64_t guest, uint64_t bytes, Qcow2Drop how);

/* --- empty.c, resize.c, create.c, check.c, info.c --- */

int coroutine_fn qcow2_co_make_empty(BlockNode *node);
/** qcow2_co_empty_on_disk() - every cluster unallocated, durably; no request may be in flight */
int coroutine_fn qcow2_co_empty_on_disk(Qcow2 *q);
/** qcow2_co_used_end() - file offset behind the last cluster whose refcount is not 0; under
 * meta_lock */
int coroutine_fn qcow2_co_used_end(Qcow2 *q, uint64_t *ret);
/** qcow2_co_cut_file() - shorten the file to @end where that can be done */
void coroutine_fn qcow2_co_cut_file(Qcow2 *q, uint64_t end);
/** qcow2_co_cut_step() - a part of what emptying left behind what is in use; under meta_lock */
void coroutine_fn qcow2_co_cut_step(Qcow2 *q);
/** qcow2_co_blank() - [@host, @end) of an emptied image is about to be used: does it read as
 * zeroes? Sees to it if it can; under meta_lock */
bool coroutine_fn qcow2_co_blank(Qcow2 *q, uint64_t host, uint64_t end);
/** qcow2_co_cut_rest() - all of it */
void coroutine_fn qcow2_co_cut_rest(Qcow2 *q);
/** qcow2_note_used() - the file is used up to @end */
static inline void qcow2_note_used(Qcow2 *q, uint64_t end)
{
    q->fresh_from = MAX(q->fresh_from, end);
    if (q->used_end) {
        q->used_end = MAX(q->used_end, end);
    }
}
/** qcow2_is_empty() - no L2 table, so nothing is allocated */
bool qcow2_is_empty(const Qcow2 *q);
bool coroutine_fn qcow2_co_truncate(BlockNode *node, int64_t length, bool exact,
                                    BlockPreallocMode prealloc, ReqFlags flags, GError **errp);
/** qcow2_co_preallocate() - give [@from, @to) host clusters that read as zeroes */
int coroutine_fn qcow2_co_preallocate(Qcow2 *q, uint64_t from, uint64_t to, BlockPreallocMode mode);
bool coroutine_fn qcow2_co_create(const BlockdevCreateOptions *opts, GError **errp);
bool coroutine_fn
qcow2_co_check(BlockNode *node, ImageCheck *ret, bool fix_leaks, bool fix_all, GError **errp);
/** qcow2_co_repair() - full check and repair when a dirty image is opened for writing */
bool coroutine_fn qcow2_co_repair(Qcow2 *q, GError **errp);
ImageInfoSpecific *coroutine_fn qcow2_co_specific_info(BlockNode *node, GError **errp);
int64_t coroutine_fn qcow2_co_allocated_size(BlockNode *node);
bool coroutine_fn
qcow2_co_change_backing(BlockNode *node, const char *file, const char *format, GError **errp);

#endif
