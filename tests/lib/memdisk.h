/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memdisk: a protocol driver for tests, over a disk in memory.
 *
 * The disk (Memdisk) outlives the nodes that use it, as a real one outlives
 * the programs. It can be slow in the loop's time, demand alignment, fail
 * chosen requests, stop answering, and lose its power: then each sector of 512
 * bytes that was written since the last flush may hold any version that it has
 * had since (so writes are dropped, torn and reordered), and every node opened
 * before answers -EIO for ever.
 *
 * Each node keeps its disk alive; the test frees its own handle.
 */
#ifndef TESTS_LIB_MEMDISK_H
#define TESTS_LIB_MEMDISK_H

#include <glib.h>

#include "block/node.h"
#include "choices.h"

typedef enum MemdiskKind {
    MEMDISK_READ = 1,
    MEMDISK_WRITE = 2,
    MEMDISK_ZERO = 4,
    MEMDISK_DISCARD = 8,
    MEMDISK_FLUSH = 16,
    MEMDISK_STATUS = 32,
    MEMDISK_TRUNCATE = 64,
    MEMDISK_ALL = 127,
} MemdiskKind;

typedef struct MemdiskOptions {
    int64_t length;
    uint32_t alignment; /* of requests; 0: 1 */
    int64_t latency_ns; /* of each request */
    int64_t jitter_ns;  /* up to that much more, drawn from @seed */
    uint64_t seed;
    BlockLimits limits;               /* what is not 0 is taken over */
    ReqFlags write_flags, zero_flags; /* supported natively, of REQ_FUA and so on */
    bool no_zeroes;                   /* zero writes are -ENOTSUP */
    bool no_discard;                  /* discards are -ENOTSUP */
    bool no_copy;                     /* offloaded copies to it are -ENOTSUP */
} MemdiskOptions;

/* What the driver was asked. */
typedef struct MemdiskEntry {
    MemdiskKind kind;
    ReqFlags flags;
    int64_t offset, bytes;
    int64_t start_ns;
} MemdiskEntry;

typedef struct Memdisk Memdisk;

/** memdisk_new() - zeroes; it may grow by 4 GiB */
Memdisk *memdisk_new(const MemdiskOptions *o);
void memdisk_free(Memdisk *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Memdisk, memdisk_free)

/** memdisk_open() - a node on the disk; NULL and @errp if the name is taken. A counted reference.
 */
BlockNode *memdisk_open(Memdisk *d, const char *node_name, const NodeFlags *flags, GError **errp);

/** memdisk_set_latency() - from now on requests of @kinds take so long, and the jitter, instead of
 * what the options say */
void memdisk_set_latency(Memdisk *d, unsigned kinds, int64_t latency_ns);
void memdisk_set_jitter(Memdisk *d, int64_t jitter_ns);

/** memdisk_data() - the content as a reader sees it; may be changed by the test while idle */
uint8_t *memdisk_data(Memdisk *d);
int64_t memdisk_length(const Memdisk *d);

const MemdiskEntry *memdisk_log(const Memdisk *d, size_t *ret_n);
void memdisk_log_clear(Memdisk *d);
/** memdisk_log_count() - entries whose kind is in @kinds */
size_t memdisk_log_count(const Memdisk *d, unsigned kinds);

/* --- faults: until memdisk_heal() --- */

/** memdisk_fail_nth() - the @n-th request of @kinds from now (1: the next) fails, once */
void memdisk_fail_nth(Memdisk *d, unsigned kinds, uint64_t n, int err);
/** memdisk_fail_from() - that one and all after it */
void memdisk_fail_from(Memdisk *d, unsigned kinds, uint64_t n, int err);
/** memdisk_fail_range() - requests of @kinds that touch the range fail */
void memdisk_fail_range(Memdisk *d, unsigned kinds, int64_t offset, int64_t bytes, int err);
/** memdisk_stall() - requests wait, before they have any effect, until stalled is false */
void memdisk_stall(Memdisk *d, bool stalled);
unsigned memdisk_stalled(const Memdisk *d); /* how many wait */
void memdisk_heal(Memdisk *d);

/** memdisk_crash() - the power fails now; what is left is drawn from @c */
void memdisk_crash(Memdisk *d, Choices *c);
/** memdisk_crash_newest() - the same, but of what no flush covers only the newest change is
 * left: it shows whether anything that must be durable before it was not */
void memdisk_crash_newest(Memdisk *d);

#endif
