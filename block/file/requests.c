/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests on a file: data, flush, copy.
 *
 * With cache.direct, memory that the kernel would not take goes through a
 * buffer that it takes, a megabyte at a time.
 */
#include "file-internal.h"
#include "util/buf.h"

#define BOUNCE_MAX ((size_t)1 << 20)

static bool is_good_memory(const FileHandle *h, IoVec iov)
{
    return !h->direct || iov_is_aligned(iov, h->request_alignment);
}

static int coroutine_fn read_through_buffer(FileHandle *h, int64_t offset, IoVec iov)
{
    size_t bytes = MIN(iov.bytes, BOUNCE_MAX);
    uint8_t *buf = buf_alloc(bytes);
    size_t done = 0;
    int r = 0;

    while (done < iov.bytes && r == 0) {
        size_t n = MIN(iov.bytes - done, bytes);
        struct iovec v;

        r = io_file_co_preadv(h->io, offset + (int64_t)done, iov_one(&v, buf, n));
        if (r == 0) {
            iov_copy_in(iov_slice(iov, done, n), buf, n);
        }
        done += n;
    }
    buf_free(buf, bytes);
    return r;
}

static int coroutine_fn write_through_buffer(FileHandle *h, int64_t offset, IoVec iov, int flags)
{
    size_t bytes = MIN(iov.bytes, BOUNCE_MAX);
    uint8_t *buf = buf_alloc(bytes);
    size_t done = 0;
    int r = 0;

    while (done < iov.bytes && r == 0) {
        size_t n = MIN(iov.bytes - done, bytes);
        struct iovec v;

        iov_copy_out(iov_slice(iov, done, n), buf, n);
        r = io_file_co_pwritev(h->io, offset + (int64_t)done, iov_one(&v, buf, n), flags);
        done += n;
    }
    buf_free(buf, bytes);
    return r;
}

int coroutine_fn file_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    HANDLE_OF((FileState *)node->state);

    if (unlikely(!is_good_memory(h, iov))) {
        return read_through_buffer(h, offset, iov);
    }
    return io_file_co_preadv(h->io, offset, iov);
}

int coroutine_fn file_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    FileState *s = node->state;
    HANDLE_OF(s);
    /* Who does not want flushes to reach the disk does not want writes to wait for it either. */
    int io_flags = (flags & REQ_FUA) && !node->flags.cache_no_flush ? IO_FILE_FUA : 0;

    if (unlikely(!is_good_memory(h, iov))) {
        return write_through_buffer(h, offset, iov, io_flags);
    }
    return io_file_co_pwritev(h->io, offset, iov, io_flags);
}

/*
 * After a failed flush the kernel forgets which pages it could not write, so a
 * second one would succeed though the data is lost: only the first error is
 * true, and it stays. Without the page cache nothing is forgotten.
 */
int coroutine_fn file_co_flush(BlockNode *node)
{
    FileState *s = node->state;
    HANDLE_OF(s);
    int r;

    if (s->flush_failed) {
        return -EIO;
    }
    r = io_file_co_fdatasync(h->io);
    if (r < 0 && !h->direct) {
        s->flush_failed = true;
    }
    return r;
}

int coroutine_fn file_co_copy_range(BlockNode *node, BlockNode *src, int64_t src_offset,
                                    int64_t dst_offset, int64_t bytes, ReqFlags flags)
{
    FileState *s = node->state;
    int r;

    if (src->drv != node->drv) {
        return -ENOTSUP;
    } else {
        HANDLE_OF(s);
        FileHandle *from = handle_ref(((FileState *)src->state)->handle);

        r = io_file_co_copy_range(from->io, src_offset, h->io, dst_offset, bytes);
        handle_unref(from);
        if (r == 0 && (flags & REQ_FUA) && !node->flags.cache_no_flush) {
            r = io_file_co_fdatasync(h->io);
        }
    }
    return r;
}
