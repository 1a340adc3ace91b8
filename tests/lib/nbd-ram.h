/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-ram: a disk in memory behind an NbdExport, for tests of the protocol.
 *
 * It can be slow by random amounts (so replies are reordered), fail chosen
 * blocks, and knows for each block of 4 KiB whether it is data, zero or a hole.
 */
#ifndef TESTS_LIB_NBD_RAM_H
#define TESTS_LIB_NBD_RAM_H

#include <errno.h>
#include <string.h>

#include "../../block/export/nbd-server.h"
#include "util/prng.h"

#define NBD_RAM_BLOCK 4096

typedef struct NbdRam {
    uint8_t *data;
    int64_t length;
    bool *hole;  /* per block */
    Prng *delay; /* NULL: answers at once */
    int64_t delay_max_ns;
    int64_t bad_block; /* reads of it fail with EIO; -1: none */
    int write_error;   /* positive errno */
    bool slow_zeroes;  /* REQ_NO_FALLBACK is refused */
    unsigned reads, writes, flushes, in_flight, max_in_flight;
    ReqFlags last_flags;
} NbdRam;

static inline void nbd_ram_init(NbdRam *r, int64_t length)
{
    *r = (NbdRam){.length = length, .bad_block = -1};
    r->data = g_malloc0(length);
    r->hole = g_new0(bool, length / NBD_RAM_BLOCK + 1);
    memset(r->hole, true, length / NBD_RAM_BLOCK + 1);
}

static inline void nbd_ram_destroy(NbdRam *r)
{
    g_free(r->data);
    g_free(r->hole);
}

static inline int64_t nbd_ram_length(void *disk)
{
    return ((NbdRam *)disk)->length;
}

static inline void coroutine_fn nbd_ram_work(NbdRam *r)
{
    r->in_flight++;
    r->max_in_flight = MAX(r->max_in_flight, r->in_flight);
    if (r->delay) {
        co_sleep_ns(prng_below(r->delay, r->delay_max_ns) + 1);
    }
    r->in_flight--;
}

static inline void nbd_ram_mark(NbdRam *r, int64_t offset, int64_t bytes, bool hole)
{
    for (int64_t b = offset / NBD_RAM_BLOCK; b * NBD_RAM_BLOCK < offset + bytes; b++) {
        bool whole = b * NBD_RAM_BLOCK >= offset && (b + 1) * NBD_RAM_BLOCK <= offset + bytes;

        if (!hole || whole) {
            r->hole[b] = hole;
        }
    }
}

static inline int coroutine_fn nbd_ram_co_preadv(void *disk, int64_t offset, IoVec iov)
{
    NbdRam *r = disk;
    int64_t bad = r->bad_block * NBD_RAM_BLOCK;

    r->reads++;
    nbd_ram_work(r);
    g_assert_cmpint(offset + iov.bytes, <=, r->length);
    if (r->bad_block >= 0 && offset < bad + NBD_RAM_BLOCK && offset + (int64_t)iov.bytes > bad) {
        return -EIO;
    }
    iov_copy_in(iov, r->data + offset, iov.bytes);
    return 0;
}

static inline int coroutine_fn
nbd_ram_co_pwritev(void *disk, int64_t offset, IoVec iov, ReqFlags flags)
{
    NbdRam *r = disk;

    nbd_ram_work(r);
    r->writes++;
    r->last_flags = flags;
    if (r->write_error) {
        return -r->write_error;
    }
    g_assert_cmpint(offset + iov.bytes, <=, r->length);
    iov_copy_out(iov, r->data + offset, iov.bytes);
    nbd_ram_mark(r, offset, iov.bytes, false);
    return 0;
}

static inline int coroutine_fn
nbd_ram_co_pwrite_zeroes(void *disk, int64_t offset, int64_t bytes, ReqFlags flags)
{
    NbdRam *r = disk;

    nbd_ram_work(r);
    r->writes++;
    r->last_flags = flags;
    if (r->slow_zeroes && (flags & REQ_NO_FALLBACK)) {
        return -ENOTSUP;
    }
    g_assert_cmpint(offset + bytes, <=, r->length);
    memset(r->data + offset, 0, bytes);
    nbd_ram_mark(r, offset, bytes, flags & REQ_MAY_UNMAP);
    return 0;
}

static inline int coroutine_fn nbd_ram_co_pdiscard(void *disk, int64_t offset, int64_t bytes)
{
    NbdRam *r = disk;

    nbd_ram_work(r);
    g_assert_cmpint(offset + bytes, <=, r->length);
    for (int64_t b = DIV_ROUND_UP(offset, NBD_RAM_BLOCK); (b + 1) * NBD_RAM_BLOCK <= offset + bytes;
         b++) {
        memset(r->data + b * NBD_RAM_BLOCK, 0, NBD_RAM_BLOCK);
        r->hole[b] = true;
    }
    return 0;
}

static inline int coroutine_fn nbd_ram_co_flush(void *disk)
{
    NbdRam *r = disk;

    nbd_ram_work(r);
    r->flushes++;
    return 0;
}

static inline int coroutine_fn
nbd_ram_co_block_status(void *disk, int64_t offset, int64_t bytes, BlockStatus *ret, int *ret_depth)
{
    NbdRam *r = disk;
    int64_t b = offset / NBD_RAM_BLOCK;
    bool hole = r->hole[b];
    int64_t end = MIN((b + 1) * NBD_RAM_BLOCK, offset + bytes);

    *ret = (BlockStatus){
        .flags = hole ? STATUS_ZERO : STATUS_DATA | STATUS_ALLOCATED,
        .bytes = end - offset,
    };
    *ret_depth = 0;
    return 0;
}

static const NbdDiskOps nbd_ram_ops = {
    .length = nbd_ram_length,
    .co_preadv = nbd_ram_co_preadv,
    .co_pwritev = nbd_ram_co_pwritev,
    .co_pwrite_zeroes = nbd_ram_co_pwrite_zeroes,
    .co_pdiscard = nbd_ram_co_pdiscard,
    .co_flush = nbd_ram_co_flush,
    .co_block_status = nbd_ram_co_block_status,
};

static inline NbdExport *nbd_ram_export(NbdServer *s, NbdRam *r, const char *name, bool writable)
{
    NbdExport init = {
        .name = (char *)name,
        .writable = writable,
        .preferred_block = 4096,
        .ops = &nbd_ram_ops,
        .disk = r,
    };

    return nbd_export_new(s, &init);
}

#endif
