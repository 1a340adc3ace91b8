/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blklogwrites: a filter that logs every change and flush, in the order of
 * their ends, so that a test can replay a disk up to any of them.
 *
 * The log has the format of the kernel's dm-log-writes target: a super block in
 * the first sector, then for each entry a sector with its header and the data.
 * An entry counts once the super block does; that is written every so many
 * entries, with each flush, and on close.
 */
#include <errno.h>
#include <string.h>

#include "block/driver.h"
#include "qapi/drivers.h"
#include "util/buf.h"
#include "util/sync.h"

#define LOG_MAGIC       UINT64_C(0x6a736677736872)
#define LOG_VERSION     1
#define LOG_FLUSH       UINT64_C(1)
#define LOG_FUA         UINT64_C(2)
#define LOG_DISCARD     UINT64_C(4)
#define LOG_KNOWN_FLAGS UINT64_C(15)
#define SECTOR_SIZE_MAX (1u << 23)
#define ENTRY_BYTES     32
#define SUPER_BYTES     28

typedef struct LogState {
    BlockChild *log;
    uint32_t sector_size;
    uint64_t interval;
    CoMutex lock;        /* the next three; held while an entry is written, taken in order of end */
    int64_t next_sector; /* of the log */
    uint64_t entries;
    uint64_t since_super; /* entries that the super block does not count yet */
    bool is_open;
} LogState;

typedef struct LogEntry {
    int64_t offset, bytes;
    uint64_t flags;
    const IoVec *data; /* NULL: none, or zeroes */
    bool zeroes;
} LogEntry;

/* --- on the log --- */

static void put_le64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(p, &v, sizeof(v));
}

static uint64_t get_le64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return GUINT64_FROM_LE(v);
}

static uint32_t get_le32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return GUINT32_FROM_LE(v);
}

/* Under lock. */
static int coroutine_fn write_super(LogState *s)
{
    uint8_t *sector = buf_alloc(s->sector_size);
    uint32_t size = GUINT32_TO_LE(s->sector_size);
    int r;

    memset(sector, 0, s->sector_size);
    put_le64(sector, LOG_MAGIC);
    put_le64(sector + 8, LOG_VERSION);
    put_le64(sector + 16, s->entries);
    memcpy(sector + 24, &size, sizeof(size));
    r = child_co_pwrite(s->log, 0, sector, s->sector_size, 0);
    buf_free(sector, s->sector_size);
    if (r == 0) {
        s->since_super = 0;
    }
    return r;
}

static int coroutine_fn write_header(LogState *s, const LogEntry *e)
{
    uint8_t *sector = buf_alloc(s->sector_size);
    int r;

    memset(sector, 0, s->sector_size);
    put_le64(sector, (uint64_t)e->offset / s->sector_size);
    put_le64(sector + 8, (uint64_t)e->bytes / s->sector_size);
    put_le64(sector + 16, e->flags);
    put_le64(sector + 24, 0);
    r = child_co_pwrite(s->log, s->next_sector * s->sector_size, sector, s->sector_size, 0);
    buf_free(sector, s->sector_size);
    return r;
}

static int coroutine_fn write_data(LogState *s, const LogEntry *e)
{
    int64_t at = (s->next_sector + 1) * s->sector_size;

    if (e->zeroes) {
        return child_co_pwrite_zeroes(s->log, at, e->bytes, 0);
    }
    return e->data ? child_co_pwritev(s->log, at, *e->data, 0) : 0;
}

static int coroutine_fn log_entry(LogState *s, const LogEntry *e)
{
    bool flush = (e->flags & LOG_FLUSH) != 0;
    int r;

    CO_LOCK_GUARD(&s->lock);
    r = write_header(s, e);
    if (r == 0) {
        r = write_data(s, e);
    }
    if (r < 0) {
        return r;
    }
    s->next_sector += 1 + (e->data || e->zeroes ? e->bytes / s->sector_size : 0);
    s->entries++;
    s->since_super++;
    if (flush || s->since_super >= s->interval) {
        r = write_super(s);
    }
    return r == 0 && flush ? child_co_flush(s->log) : r;
}

/* --- opening --- */

/* Find the end of what a log has already. */
static bool coroutine_fn skip_entries(LogState *s, uint64_t n, GError **errp)
{
    uint8_t raw[ENTRY_BYTES];
    int64_t sectors = node_length(s->log->node) / s->sector_size;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t bytes, flags;
        int r;

        if (s->next_sector >= sectors) {
            return fail(errp, "Log entry %llu lies outside the log", (unsigned long long)i);
        }
        r = child_co_pread(s->log, s->next_sector * s->sector_size, raw, sizeof(raw));
        if (r < 0) {
            return fail_errno(errp, -r, "Failed to read log entry %llu", (unsigned long long)i);
        }
        bytes = get_le64(raw + 8);
        flags = get_le64(raw + 16);
        if (flags & ~LOG_KNOWN_FLAGS) {
            return fail(errp, "Invalid flags 0x%llx in log entry %llu", (unsigned long long)flags,
                        (unsigned long long)i);
        }
        if (flags & LOG_DISCARD) {
            bytes = 0;
        }
        if (bytes > (uint64_t)sectors) {
            return fail(errp, "Log entry %llu lies outside the log", (unsigned long long)i);
        }
        s->next_sector += 1 + (int64_t)bytes;
        s->entries++;
    }
    return true;
}

static bool sector_size_is_valid(uint32_t size)
{
    return size >= 512 && size <= SECTOR_SIZE_MAX && (size & (size - 1)) == 0;
}

static bool coroutine_fn read_log(LogState *s, GError **errp)
{
    uint8_t raw[SUPER_BYTES];
    int r = child_co_pread(s->log, 0, raw, sizeof(raw));

    if (r < 0) {
        return fail_errno(errp, -r, "Could not read log superblock");
    }
    if (get_le64(raw) != LOG_MAGIC) {
        return fail(errp, "Invalid log superblock magic");
    }
    if (get_le64(raw + 8) != LOG_VERSION) {
        return fail(errp, "Unsupported log version %llu", (unsigned long long)get_le64(raw + 8));
    }
    s->sector_size = get_le32(raw + 24);
    if (!sector_size_is_valid(s->sector_size)) {
        return fail(errp, "Invalid log sector size %u", s->sector_size);
    }
    return skip_entries(s, get_le64(raw + 16), errp);
}

static bool coroutine_fn
blklogwrites_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsBlklogwrites *o = &opts->u.blklogwrites;
    LogState *s = node->state;
    bool append = o->has_log_append && o->log_append;

    s->sector_size = o->has_log_sector_size ? o->log_sector_size : 512;
    s->interval = o->has_log_super_update_interval ? o->log_super_update_interval : 4096;
    s->next_sector = 1;
    if (append && o->has_log_sector_size) {
        return fail(errp, "log-append and log-sector-size are mutually exclusive");
    }
    if (!sector_size_is_valid(s->sector_size)) {
        return fail(errp, "Invalid log sector size %u", s->sector_size);
    }
    if (s->interval == 0) {
        return fail(errp, "Invalid log superblock update interval 0");
    }
    if (!node_co_open_child(node, "file", o->file, CHILD_FILTERED | CHILD_PRIMARY, errp) ||
        !node_co_open_child(node, "log", o->log, CHILD_METADATA, errp)) {
        return false;
    }
    s->log = node_child(node, "log");
    if (append && !read_log(s, errp)) {
        return false;
    }
    s->is_open = true;
    node->supported_write_flags = REQ_FUA;
    node->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    return true;
}

static void coroutine_fn blklogwrites_co_close(BlockNode *node)
{
    LogState *s = node->state;

    if (s->is_open && !node->flags.read_only) {
        CO_LOCK_GUARD(&s->lock);

        (void)write_super(s); /* nobody is left to tell; what it does not count is lost */
    }
}

static PermPair blklogwrites_child_perm(BlockNode *node, const BlockChild *child, const char *name,
                                        ChildRole role, PermPair parents, const NodeFlags *flags)
{
    if (strcmp(name, "log") != 0) {
        return perm_default_filter(node, child, name, role, parents, flags);
    }
    return (PermPair){
        .taken = PERM_CONSISTENT_READ | (flags->read_only ? 0 : PERM_WRITE | PERM_RESIZE),
        .shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED,
    };
}

static void blklogwrites_refresh_limits(BlockNode *node)
{
    const LogState *s = node->state;

    node->limits.request_alignment = MAX(node->limits.request_alignment, s->sector_size);
}

/* --- requests --- */

static uint64_t entry_flags(ReqFlags flags)
{
    return flags & REQ_FUA ? LOG_FUA : 0;
}

static int coroutine_fn
blklogwrites_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    LogEntry e = {
        .offset = offset,
        .bytes = (int64_t)iov.bytes,
        .flags = entry_flags(flags),
        .data = &iov,
    };
    int r = child_co_pwritev(node->file, offset, iov, flags);

    return r < 0 ? r : log_entry(node->state, &e);
}

static int coroutine_fn
blklogwrites_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    LogEntry e = {
        .offset = offset,
        .bytes = bytes,
        .flags = entry_flags(flags),
        .zeroes = true,
    };
    int r = child_co_pwrite_zeroes(node->file, offset, bytes, flags);

    return r < 0 ? r : log_entry(node->state, &e);
}

static int coroutine_fn blklogwrites_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    LogEntry e = {.offset = offset, .bytes = bytes, .flags = LOG_DISCARD};
    int r = child_co_pdiscard(node->file, offset, bytes);

    return r < 0 ? r : log_entry(node->state, &e);
}

static int coroutine_fn blklogwrites_co_flush(BlockNode *node)
{
    LogEntry e = {.flags = LOG_FLUSH};
    int r = child_co_flush(node->file);

    return r < 0 ? r : log_entry(node->state, &e);
}

static int coroutine_fn
blklogwrites_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return child_co_preadv(node->file, offset, iov, flags);
}

const BlockDriver driver_blklogwrites = {
    .name = "blklogwrites",
    .state_size = sizeof(LogState),
    .is_filter = true,
    .co_open = blklogwrites_co_open,
    .co_close = blklogwrites_co_close,
    .child_perm = blklogwrites_child_perm,
    .refresh_limits = blklogwrites_refresh_limits,
    .co_preadv = blklogwrites_co_preadv,
    .co_pwritev = blklogwrites_co_pwritev,
    .co_pwrite_zeroes = blklogwrites_co_pwrite_zeroes,
    .co_pdiscard = blklogwrites_co_pdiscard,
    .co_flush = blklogwrites_co_flush,
    .flush_does_children = true,
};
