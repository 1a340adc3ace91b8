/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IoFile: which way an operation goes, and the whole transfer out of parts.
 *
 * A transfer is cut into calls of at most IOV_MAX vectors and MAX_CALL_BYTES;
 * each goes inline (file-inline.c) if that is likely not to wait, else through
 * the engine. A file on a virtual loop, where nothing may depend on the time of
 * the kernel, is always operated on inline.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aio.h"
#include "file-internal.h"
#include "ring.h"
#include "util/error.h"
#include "util/fault.h"

#define MAX_CALL_BYTES   ((size_t)GiB) /* the kernel cuts at 2 GiB less a page */
#define LOCAL_VECTORS    16
#define DIRECT_ALIGN_MAX 4096 /* what O_DIRECT may ask for at most */

/* --- life --- */

static bool engine_open(IoFile *f, IoEngine engine, GError **errp)
{
    Loop *loop = f->loop;

    if (loop->kind == LOOP_POLLER_VIRTUAL) {
        f->engine = FILE_ENGINE_INLINE;
        return true;
    }
    switch (engine) {
    case IO_ENGINE_AUTO:
        f->engine = loop->ring ? FILE_ENGINE_RING : FILE_ENGINE_THREADS;
        return true;
    case IO_ENGINE_THREADS:
        f->engine = FILE_ENGINE_THREADS;
        return true;
    case IO_ENGINE_IO_URING:
        f->engine = FILE_ENGINE_RING;
        loop->ring = loop->ring ?: ring_new(loop, errp);
        return loop->ring != NULL;
    case IO_ENGINE_NATIVE:
        if (!f->direct) {
            return fail(errp, "aio=native needs a file opened with O_DIRECT (cache.direct=on)");
        }
        f->engine = FILE_ENGINE_AIO;
        loop->aio = loop->aio ?: aio_new(loop, errp);
        return loop->aio != NULL;
    }
    abort();
}

IoFile *io_file_new(int fd, IoEngine engine, GError **errp)
{
    IoFile *f = g_new0(IoFile, 1);
    int flags = fcntl(fd, F_GETFL);

    assert(flags >= 0 && loop_current());
    f->fd = fd;
    f->loop = loop_current();
    f->direct = flags & O_DIRECT;
    if (!engine_open(f, engine, errp)) {
        close(fd);
        g_free(f);
        return NULL;
    }
    if (engine == IO_ENGINE_AUTO) {
        io_file_allow_inline(f);
    }
    return f;
}

void io_file_allow_inline(IoFile *f)
{
    if (f->engine != FILE_ENGINE_INLINE) {
        file_inline_init(f);
    }
}

void io_file_free(IoFile *f)
{
    assert(f->in_flight == 0);
    close(f->fd);
    g_free(f);
}

int io_file_fd(const IoFile *f)
{
    return f->fd;
}

/* --- engines --- */

static int run_op(void *opaque)
{
    IoOp *op = opaque;

    op->result = io_op_run(op);
    return 0;
}

static ssize_t coroutine_fn engine_co_do(IoFile *f, IoOp *op)
{
    bool transfers = op->kind == IO_OP_READ || op->kind == IO_OP_WRITE;

    switch (f->engine) {
    case FILE_ENGINE_INLINE:
        return io_op_run(op);
    case FILE_ENGINE_RING:
        return ring_co_do(f->loop->ring, op);
    case FILE_ENGINE_AIO:
        if (transfers) {
            return aio_co_do(f->loop->aio, op);
        }
        break; /* libaio has no fallocate, and its fdatasync is a kernel thread too */
    case FILE_ENGINE_THREADS:
        break;
    }
    co_run_blocking(run_op, op);
    return op->result;
}

static ssize_t coroutine_fn do_op(IoFile *f, IoOp *op, size_t bytes)
{
    ssize_t r;

    op->fd = f->fd;
    if (file_inline_try(f, op, bytes)) {
        if (unlikely(file_inline_used_up(f, bytes))) {
            co_reschedule();
        }
        return op->result;
    }
    f->in_flight++;
    r = engine_co_do(f, op);
    f->in_flight--;
    return r;
}

/* --- transfers --- */

static size_t vectors_bytes(const struct iovec *v, int n)
{
    size_t bytes = 0;

    for (int i = 0; i < n; i++) {
        bytes += v[i].iov_len;
    }
    return bytes;
}

/* One call for a prefix of @iov. *@ret_asked: how much it asked for. */
static ssize_t coroutine_fn transfer_some(IoFile *f, IoOp *op, IoVec iov, size_t *ret_asked)
{
    struct iovec local[LOCAL_VECTORS];
    g_autofree struct iovec *many = NULL;
    int max = MIN(iov.n, IOV_MAX);
    struct iovec *v = local;

    if (max > LOCAL_VECTORS) {
        v = many = g_new(struct iovec, max);
    }
    op->iov = v;
    op->n_iov = iov_to_sys(iov, v, max);
    *ret_asked = vectors_bytes(v, op->n_iov);
    return do_op(f, op, *ret_asked);
}

/*
 * O_DIRECT got @r bytes at @offset, less than it asked for. The next call must
 * start at an aligned place again, unless the file ends here.
 * Return: what to count as read: @r, less than that to read some of it again, or
 * -EIO if that leads nowhere. *@ret_end: the file ends here.
 */
static ssize_t direct_short_read(IoFile *f, int64_t offset, ssize_t r, bool *ret_end)
{
    int64_t end = offset + r;
    struct stat st;

    if (IS_ALIGNED(end, DIRECT_ALIGN_MAX)) {
        return r;
    }
    if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode) || end >= st.st_size) {
        *ret_end = true;
        return r;
    }
    end = ALIGN_DOWN(end, DIRECT_ALIGN_MAX);
    return end > offset ? end - offset : -EIO;
}

static int coroutine_fn read_all(IoFile *f, int64_t offset, IoVec iov)
{
    size_t done = 0;
    bool at_end = false;

    while (done < iov.bytes && !at_end) {
        IoOp op = {.kind = IO_OP_READ, .offset = offset + done};
        IoVec part = iov_slice(iov, done, MIN(iov.bytes - done, MAX_CALL_BYTES));
        size_t asked;
        ssize_t r = transfer_some(f, &op, part, &asked);

        if (r == 0) {
            at_end = true;
        } else if (r > 0 && (size_t)r < asked && f->direct) {
            r = direct_short_read(f, op.offset, r, &at_end);
        }
        if (r < 0) {
            return r;
        }
        done += r;
    }
    iov_fill(iov_slice(iov, done, iov.bytes - done), 0);
    return 0;
}

static int coroutine_fn write_all(IoFile *f, int64_t offset, IoVec iov, int mode)
{
    size_t done = 0;

    while (done < iov.bytes) {
        IoOp op = {.kind = IO_OP_WRITE, .offset = offset + done, .mode = mode};
        IoVec part = iov_slice(iov, done, MIN(iov.bytes - done, MAX_CALL_BYTES));
        size_t asked;
        ssize_t r = transfer_some(f, &op, part, &asked);

        if (r < 0) {
            return r;
        }
        if (r == 0) {
            return -EIO; /* neither progress nor a reason */
        }
        done += r;
    }
    return 0;
}

int coroutine_fn io_file_co_preadv(IoFile *f, int64_t offset, IoVec iov)
{
    if (fault_hit("file-read")) {
        return -EIO;
    }
    return read_all(f, offset, iov);
}

int coroutine_fn io_file_co_pwritev(IoFile *f, int64_t offset, IoVec iov, int flags)
{
    if (fault_hit("file-write")) {
        return -EIO;
    }
    return write_all(f, offset, iov, flags & IO_FILE_FUA ? RWF_DSYNC : 0);
}

/* --- the rest --- */

/* They hold locks of the file for long: writes do not go inline meanwhile. */
static int coroutine_fn do_heavy(IoFile *f, IoOp *op)
{
    int r;

    f->heavy++;
    r = do_op(f, op, 0);
    f->heavy--;
    return r;
}

int coroutine_fn io_file_co_fdatasync(IoFile *f)
{
    IoOp op = {.kind = IO_OP_FDATASYNC};

    if (fault_hit("file-fdatasync")) {
        return -EIO;
    }
    return do_heavy(f, &op);
}

int coroutine_fn io_file_co_fallocate(IoFile *f, int mode, int64_t offset, int64_t bytes)
{
    IoOp op = {.kind = IO_OP_FALLOCATE, .mode = mode, .offset = offset, .bytes = bytes};

    if (fault_hit("file-fallocate")) {
        return -EIO;
    }
    return do_heavy(f, &op);
}

typedef struct Truncate {
    int fd;
    int64_t length;
} Truncate;

static int run_truncate(void *opaque)
{
    Truncate *t = opaque;
    int r;

    do {
        r = ftruncate(t->fd, t->length);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

int coroutine_fn io_file_co_truncate(IoFile *f, int64_t length)
{
    Truncate t = {f->fd, length};
    int r;

    if (fault_hit("file-truncate")) {
        return -EIO;
    }
    f->in_flight++;
    f->heavy++;
    r = co_run_blocking(run_truncate, &t);
    f->heavy--;
    f->in_flight--;
    return r;
}

typedef struct CopyRange {
    int src, dst;
    int64_t src_offset, dst_offset, bytes;
} CopyRange;

static int run_copy_range(void *opaque)
{
    CopyRange *c = opaque;

    while (c->bytes > 0) {
        ssize_t r =
            copy_file_range(c->src, &c->src_offset, c->dst, &c->dst_offset, MIN(c->bytes, GiB), 0);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -errno;
        }
        if (r == 0) {
            return -ENODATA; /* the source ends here: a read would give zeros */
        }
        c->bytes -= r;
    }
    return 0;
}

static int coroutine_fn copy_here(IoFile *dst, CopyRange *c)
{
    size_t bytes = c->bytes;
    int r = run_copy_range(c);

    if (file_inline_used_up(dst, bytes)) {
        co_reschedule();
    }
    return r;
}

static int coroutine_fn copy_in_worker(IoFile *src, IoFile *dst, CopyRange *c)
{
    int r;

    src->in_flight++;
    dst->in_flight++;
    dst->heavy++;
    r = co_run_blocking(run_copy_range, c);
    dst->heavy--;
    dst->in_flight--;
    src->in_flight--;
    return r;
}

int coroutine_fn io_file_co_copy_range(IoFile *src, int64_t src_offset, IoFile *dst,
                                       int64_t dst_offset, int64_t bytes)
{
    CopyRange c = {src->fd, dst->fd, src_offset, dst_offset, bytes};
    int r;

    if (fault_hit("file-copy-range")) {
        return -EIO;
    }
    if (dst->no_copy) {
        return -ENOTSUP;
    }
    r = file_inline_may_copy(src, dst, bytes) ? copy_here(dst, &c) : copy_in_worker(src, dst, &c);
    if (r == -EXDEV || r == -ENOSYS || r == -EOPNOTSUPP) {
        dst->no_copy = true;
        return -ENOTSUP;
    }
    return r == -EINVAL || r == -ENODATA ? -ENOTSUP : r;
}
