/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk behind an NbdExport is a BlockBackend. */
#include "block/backend.h"
#include "nbd-server.h"

static int64_t disk_length(void *disk)
{
    return MAX(backend_length(disk), 0);
}

static int coroutine_fn disk_co_preadv(void *disk, int64_t offset, IoVec iov)
{
    return backend_co_preadv(disk, offset, iov, 0);
}

static int coroutine_fn disk_co_pwritev(void *disk, int64_t offset, IoVec iov, ReqFlags flags)
{
    return backend_co_pwritev(disk, offset, iov, flags);
}

static int coroutine_fn
disk_co_pwrite_zeroes(void *disk, int64_t offset, int64_t bytes, ReqFlags flags)
{
    return backend_co_pwrite_zeroes(disk, offset, bytes, flags);
}

static int coroutine_fn disk_co_pdiscard(void *disk, int64_t offset, int64_t bytes)
{
    return backend_co_pdiscard(disk, offset, bytes);
}

static int coroutine_fn disk_co_flush(void *disk)
{
    return backend_co_flush(disk);
}

static int coroutine_fn
disk_co_block_status(void *disk, int64_t offset, int64_t bytes, BlockStatus *ret, int *ret_depth)
{
    return backend_co_block_status_above(disk, NULL, true, offset, bytes, ret, ret_depth);
}

const NbdDiskOps nbd_backend_ops = {
    .length = disk_length,
    .co_preadv = disk_co_preadv,
    .co_pwritev = disk_co_pwritev,
    .co_pwrite_zeroes = disk_co_pwrite_zeroes,
    .co_pdiscard = disk_co_pdiscard,
    .co_flush = disk_co_flush,
    .co_block_status = disk_co_block_status,
};
