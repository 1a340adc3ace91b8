/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memdisk: see memdisk.h.
 *
 * Two arrays: what readers see, and what a power cut leaves for certain. A
 * change is kept in a list from the moment it starts until a flush that began
 * after its end has ended. A power cut goes through the list in order and
 * keeps or drops each sector of each change.
 */
#include "memdisk.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "block/driver.h"
#include "util/buf.h"
#include "util/loop.h"
#include "util/prng.h"
#include "util/sync.h"

#define GROWTH (4 * GiB)
#define SECTOR 512
#define MEMDISK_KINDS 7 /* bits in MEMDISK_ALL */

/* A change that is not durable yet. */
typedef struct Change {
    int64_t offset, bytes;
    uint8_t *data;     /* NULL: zeroes */
    uint64_t done;     /* when it ended, in changes of the disk; 0: not yet */
} Change;

typedef struct FailRange {
    unsigned kinds;
    int64_t offset, bytes;
    int err;
} FailRange;

struct Memdisk {
    unsigned refs;
    MemdiskOptions o;
    int64_t latency_ns[MEMDISK_KINDS]; /* by number of the bit of the kind */
    int64_t length, durable_length;
    size_t capacity;
    uint8_t *live, *durable;
    GPtrArray *changes; /* of Change: what has ended in order of its end, the rest by its start */
    uint64_t n_done;
    GArray *log;        /* of MemdiskEntry */
    GArray *fail_ranges;
    unsigned nth_kinds;
    uint64_t nth;
    int nth_err;
    bool nth_and_all_after;
    bool stalled;
    unsigned n_stalled;
    CoQueue stall;
    unsigned power_cycles;
    Prng prng;
};

typedef struct MemdiskNode {
    Memdisk *disk;
    unsigned power_cycle; /* that it was opened in */
} MemdiskNode;

/* --- the disk --- */

static void change_free(void *opaque)
{
    Change *c = opaque;

    g_free(c->data);
    g_free(c);
}

static uint8_t *map_zeroes(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    g_assert_true(p != MAP_FAILED);
    return p;
}

Memdisk *memdisk_new(const MemdiskOptions *o)
{
    Memdisk *d = g_new0(Memdisk, 1);

    d->refs = 1;
    d->o = *o;
    d->length = d->durable_length = o->length;
    memdisk_set_latency(d, MEMDISK_ALL, o->latency_ns);
    d->capacity = o->length + GROWTH;
    d->live = map_zeroes(d->capacity);
    d->durable = map_zeroes(d->capacity);
    d->changes = g_ptr_array_new_with_free_func(change_free);
    d->log = g_array_new(false, false, sizeof(MemdiskEntry));
    d->fail_ranges = g_array_new(false, false, sizeof(FailRange));
    prng_init(&d->prng, o->seed);
    return d;
}

void memdisk_free(Memdisk *d)
{
    if (!d || --d->refs > 0) {
        return;
    }
    g_assert_cmpuint(d->n_stalled, ==, 0);
    munmap(d->live, d->capacity);
    munmap(d->durable, d->capacity);
    g_ptr_array_unref(d->changes);
    g_array_unref(d->log);
    g_array_unref(d->fail_ranges);
    g_free(d);
}

void memdisk_set_latency(Memdisk *d, unsigned kinds, int64_t latency_ns)
{
    for (unsigned i = 0; i < MEMDISK_KINDS; i++) {
        if (kinds & (1u << i)) {
            d->latency_ns[i] = latency_ns;
        }
    }
}

void memdisk_set_jitter(Memdisk *d, int64_t jitter_ns)
{
    d->o.jitter_ns = jitter_ns;
}

uint8_t *memdisk_data(Memdisk *d)
{
    return d->live;
}

int64_t memdisk_length(const Memdisk *d)
{
    return d->length;
}

const MemdiskEntry *memdisk_log(const Memdisk *d, size_t *ret_n)
{
    *ret_n = d->log->len;
    return (const MemdiskEntry *)d->log->data;
}

void memdisk_log_clear(Memdisk *d)
{
    g_array_set_size(d->log, 0);
}

size_t memdisk_log_count(const Memdisk *d, unsigned kinds)
{
    size_t count = 0;

    for (size_t i = 0; i < d->log->len; i++) {
        count += (g_array_index(d->log, MemdiskEntry, i).kind & kinds) != 0;
    }
    return count;
}

/* --- faults --- */

void memdisk_fail_nth(Memdisk *d, unsigned kinds, uint64_t n, int err)
{
    d->nth_kinds = kinds;
    d->nth = n;
    d->nth_err = err;
    d->nth_and_all_after = false;
}

void memdisk_fail_from(Memdisk *d, unsigned kinds, uint64_t n, int err)
{
    memdisk_fail_nth(d, kinds, n, err);
    d->nth_and_all_after = true;
}

void memdisk_fail_range(Memdisk *d, unsigned kinds, int64_t offset, int64_t bytes, int err)
{
    FailRange f = {.kinds = kinds, .offset = offset, .bytes = bytes, .err = err};

    g_array_append_val(d->fail_ranges, f);
}

void memdisk_stall(Memdisk *d, bool stalled)
{
    d->stalled = stalled;
    if (!stalled) {
        co_queue_wake_all(&d->stall);
    }
}

unsigned memdisk_stalled(const Memdisk *d)
{
    return d->n_stalled;
}

void memdisk_heal(Memdisk *d)
{
    d->nth = 0;
    g_array_set_size(d->fail_ranges, 0);
    memdisk_stall(d, false);
}

static int fault_of(Memdisk *d, MemdiskKind kind, int64_t offset, int64_t bytes)
{
    if ((d->nth_kinds & kind) && d->nth > 0) {
        bool hit = d->nth == 1;

        if (!hit || !d->nth_and_all_after) {
            d->nth--;
        }
        if (hit) {
            return -d->nth_err;
        }
    }
    for (size_t i = 0; i < d->fail_ranges->len; i++) {
        const FailRange *f = &g_array_index(d->fail_ranges, FailRange, i);

        if ((f->kinds & kind) && offset < f->offset + f->bytes && f->offset < offset + bytes) {
            return -f->err;
        }
    }
    return 0;
}

/* --- power --- */

static void store(uint8_t *to, int64_t offset, int64_t bytes, const uint8_t *data)
{
    if (data) {
        memcpy(to + offset, data, bytes);
    } else {
        memset(to + offset, 0, bytes);
    }
}

/* Keep or drop each sector of @ch. */
static void crash_change(Memdisk *d, const Change *ch, Choices *c)
{
    int64_t at = ch->offset;
    int64_t end = ch->offset + ch->bytes;
    bool torn = choose(c);
    bool keep = choose(c);

    while (at < end) {
        int64_t n = torn ? MIN(end, (at / SECTOR + 1) * SECTOR) - at : end - at;

        if (torn) {
            keep = choose(c);
        }
        if (keep) {
            store(d->durable, at, n, ch->data ? ch->data + (at - ch->offset) : NULL);
            d->durable_length = MAX(d->durable_length, at + n);
        }
        at += n;
    }
}

/* What was written behind the new end of the disk cannot come back. */
static void forget_changes(Memdisk *d, int64_t length)
{
    for (guint i = d->changes->len; i-- > 0;) {
        Change *ch = g_ptr_array_index(d->changes, i);

        if (ch->offset >= length) {
            g_ptr_array_remove_index(d->changes, i);
        } else {
            ch->bytes = MIN(ch->bytes, length - ch->offset);
        }
    }
}

static void keep_change(Memdisk *d, const Change *ch)
{
    store(d->durable, ch->offset, ch->bytes, ch->data);
    d->durable_length = MAX(d->durable_length, ch->offset + ch->bytes);
}

static void lose_power(Memdisk *d)
{
    int64_t had = d->length;

    g_ptr_array_set_size(d->changes, 0);
    d->length = MIN(d->durable_length, (int64_t)d->capacity);
    memcpy(d->live, d->durable, d->length);
    if (had > d->length) { /* a disk that grows again grows by zeroes */
        memset(d->live + d->length, 0, had - d->length);
    }
    d->power_cycles++;
    memdisk_stall(d, false);
}

void memdisk_crash(Memdisk *d, Choices *c)
{
    for (size_t i = 0; i < d->changes->len; i++) {
        crash_change(d, g_ptr_array_index(d->changes, i), c);
    }
    lose_power(d);
}

void memdisk_crash_newest(Memdisk *d)
{
    const Change *newest = NULL;

    for (size_t i = 0; i < d->changes->len; i++) {
        const Change *ch = g_ptr_array_index(d->changes, i);

        if (ch->done > 0 && (!newest || ch->done > newest->done)) {
            newest = ch;
        }
    }
    if (newest) {
        keep_change(d, newest);
    }
    lose_power(d);
}

/* --- requests --- */

static Memdisk *disk_of(const BlockNode *node)
{
    return ((const MemdiskNode *)node->state)->disk;
}

static bool has_power(const BlockNode *node)
{
    const MemdiskNode *s = node->state;

    return s->power_cycle == s->disk->power_cycles;
}

/* Log the request, let it take its time, and say whether it fails. */
static int coroutine_fn
begin(BlockNode *node, MemdiskKind kind, int64_t offset, int64_t bytes, ReqFlags flags)
{
    Memdisk *d = disk_of(node);
    MemdiskEntry e = {
        .kind = kind,
        .flags = flags,
        .offset = offset,
        .bytes = bytes,
        .start_ns = loop_now_ns(),
    };
    int64_t wait_ns = d->latency_ns[__builtin_ctz(kind)];
    int r;

    if (!has_power(node)) {
        return -EIO;
    }
    g_array_append_val(d->log, e);
    r = fault_of(d, kind, offset, bytes);
    if (d->o.jitter_ns > 0) {
        wait_ns += (int64_t)prng_below(&d->prng, d->o.jitter_ns);
    }
    if (wait_ns > 0) {
        co_sleep_ns(wait_ns);
    }
    d->n_stalled++;
    while (d->stalled && has_power(node)) {
        co_queue_wait(&d->stall);
    }
    d->n_stalled--;
    return has_power(node) ? r : -EIO;
}

static Change *change_new(Memdisk *d, int64_t offset, int64_t bytes, const IoVec *iov)
{
    Change *c = g_new0(Change, 1);

    *c = (Change){.offset = offset, .bytes = bytes};
    if (iov) {
        c->data = g_malloc(bytes);
        iov_copy_out(*iov, c->data, bytes);
    }
    g_ptr_array_add(d->changes, c);
    return c;
}

/* What is durable now cannot be undone by an older change. */
static void make_durable(Memdisk *d, const Change *ch)
{
    keep_change(d, ch);
    for (size_t i = 0; i < d->changes->len; i++) {
        Change *old = g_ptr_array_index(d->changes, i);
        int64_t from = MAX(old->offset, ch->offset);
        int64_t to = MIN(old->offset + old->bytes, ch->offset + ch->bytes);

        if (old != ch && old->done > 0 && from < to) {
            if (!old->data) {
                old->data = g_malloc0(old->bytes);
            }
            memcpy(old->data + (from - old->offset), d->durable + from, to - from);
        }
    }
}

static int coroutine_fn change(BlockNode *node, MemdiskKind kind, int64_t offset, int64_t bytes,
                               const IoVec *iov, ReqFlags flags)
{
    Memdisk *d = disk_of(node);
    Change *ch;
    guint index;
    int r;

    if (!has_power(node)) {
        return -EIO;
    }
    g_assert_cmpint(offset + bytes, <=, d->capacity);
    ch = change_new(d, offset, bytes, iov);
    r = begin(node, kind, offset, bytes, flags);
    if (!has_power(node)) {
        return -EIO; /* the power cut has dealt with @ch */
    }
    if (r < 0) {
        g_ptr_array_remove(d->changes, ch);
        return r;
    }
    store(d->live, offset, bytes, ch->data);
    d->length = MAX(d->length, offset + bytes);
    ch->done = ++d->n_done;
    g_ptr_array_find(d->changes, ch, &index);
    g_ptr_array_add(d->changes, g_ptr_array_steal_index(d->changes, index));
    if (flags & REQ_FUA) {
        make_durable(d, ch);
    }
    return 0;
}

static int coroutine_fn
memdisk_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    Memdisk *d = disk_of(node);
    int r = begin(node, MEMDISK_READ, offset, iov.bytes, flags);

    if (r == 0) {
        iov_copy_in(iov, d->live + offset, iov.bytes);
    }
    return r;
}

static int coroutine_fn
memdisk_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return change(node, MEMDISK_WRITE, offset, iov.bytes, &iov, flags);
}

static int coroutine_fn
memdisk_co_copy_range(BlockNode *node, BlockNode *src, int64_t src_offset, int64_t dst_offset,
                      int64_t bytes, ReqFlags flags)
{
    g_autofree uint8_t *buf = NULL;
    struct iovec v;
    int r;

    if (src->drv != node->drv || disk_of(node)->o.no_copy) {
        return -ENOTSUP;
    }
    buf = g_malloc(bytes);
    r = memdisk_co_preadv(src, src_offset, iov_one(&v, buf, bytes), 0);
    return r < 0 ? r : memdisk_co_pwritev(node, dst_offset, iov_one(&v, buf, bytes), flags);
}

static int coroutine_fn
memdisk_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    if (disk_of(node)->o.no_zeroes) {
        return -ENOTSUP;
    }
    return change(node, MEMDISK_ZERO, offset, bytes, NULL, flags);
}

static int coroutine_fn memdisk_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    if (disk_of(node)->o.no_discard) {
        return -ENOTSUP;
    }
    return change(node, MEMDISK_DISCARD, offset, bytes, NULL, 0);
}

/* What had ended up to @n_done is durable now. */
static void settle(Memdisk *d, uint64_t n_done)
{
    for (size_t i = 0; i < d->changes->len;) {
        Change *c = g_ptr_array_index(d->changes, i);

        if (c->done > 0 && c->done <= n_done) {
            keep_change(d, c);
            g_ptr_array_remove_index(d->changes, i);
        } else {
            i++;
        }
    }
}

static int coroutine_fn memdisk_co_flush(BlockNode *node)
{
    Memdisk *d = disk_of(node);
    uint64_t n_done = d->n_done;
    int r = begin(node, MEMDISK_FLUSH, 0, 0, 0);

    if (r == 0) {
        settle(d, n_done);
    }
    return r;
}

/* The first run of zeroes or of data, in units of the alignment but at least 512. */
static int coroutine_fn memdisk_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                                int64_t bytes, BlockStatus *ret)
{
    Memdisk *d = disk_of(node);
    int64_t unit = MAX(node->limits.request_alignment, SECTOR);
    int64_t at = offset;
    bool first = false;
    int r = begin(node, MEMDISK_STATUS, offset, bytes, 0);

    if (r < 0) {
        return r;
    }
    while (at < offset + bytes) {
        int64_t n = MIN((at / unit + 1) * unit, offset + bytes) - at;
        bool zero = buf_is_zero(d->live + at, n);

        if (at > offset && zero != first) {
            break;
        }
        first = zero;
        at += n;
    }
    *ret = (BlockStatus){
        .flags = STATUS_OFFSET_VALID | (first ? STATUS_ZERO : STATUS_DATA),
        .bytes = at - offset,
        .map = offset,
        .file = node,
    };
    return 0;
}

static bool coroutine_fn
memdisk_co_truncate(BlockNode *node, int64_t length, bool exact, BlockPreallocMode prealloc,
                    ReqFlags flags, GError **errp)
{
    Memdisk *d = disk_of(node);
    int r = begin(node, MEMDISK_TRUNCATE, length, 0, flags);

    if (r < 0) {
        return fail_errno(errp, -r, "Could not resize");
    }
    if (length > (int64_t)d->capacity) {
        return fail(errp, "Could not resize: the test's disk is too small");
    }
    if (length < d->length) {
        memset(d->live + length, 0, d->length - length);
        memset(d->durable + length, 0, d->length - length);
        forget_changes(d, length);
    }
    d->length = d->durable_length = length;
    node->length = length;
    return true;
}

/* --- the node --- */

static void coroutine_fn memdisk_co_close(BlockNode *node)
{
    MemdiskNode *s = node->state;

    memdisk_free(s->disk);
    s->disk = NULL;
}

static void memdisk_refresh_limits(BlockNode *node)
{
    const MemdiskNode *s = node->state;

    if (s->disk) { /* not yet while the node is being made */
        node->limits = s->disk->o.limits;
        node->limits.request_alignment = MAX(s->disk->o.alignment, 1);
        node->limits.min_mem_alignment = MAX(s->disk->o.limits.min_mem_alignment, 1);
        node->limits.opt_mem_alignment = MAX(s->disk->o.limits.opt_mem_alignment, 1);
    }
}

static const BlockDriver driver_memdisk = {
    .name = "memdisk",
    .state_size = sizeof(MemdiskNode),
    .is_protocol = true,
    .co_close = memdisk_co_close,
    .co_preadv = memdisk_co_preadv,
    .co_pwritev = memdisk_co_pwritev,
    .co_copy_range = memdisk_co_copy_range,
    .co_pwrite_zeroes = memdisk_co_pwrite_zeroes,
    .co_pdiscard = memdisk_co_pdiscard,
    .co_flush = memdisk_co_flush,
    .co_block_status = memdisk_co_block_status,
    .co_truncate = memdisk_co_truncate,
    .refresh_limits = memdisk_refresh_limits,
};

BlockNode *memdisk_open(Memdisk *d, const char *node_name, const NodeFlags *flags, GError **errp)
{
    BlockNode *node = node_new_internal(&driver_memdisk, node_name, flags, errp);
    MemdiskNode *s;

    if (!node) {
        return NULL;
    }
    s = node->state;
    s->disk = d;
    s->power_cycle = d->power_cycles;
    d->refs++;
    node->length = d->length;
    node->supported_write_flags = d->o.write_flags;
    node->supported_zero_flags = d->o.zero_flags;
    memdisk_refresh_limits(node);
    return node;
}
