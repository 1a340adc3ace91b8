/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inline path of an IoFile: calls that will not wait are made at once.
 *
 * tmpfs never waits for a device, with O_DIRECT neither, and io_uring would give
 * its calls to a kernel thread. Nor does a copy within it, of which threads would
 * only queue for the lock of the destination. Other O_DIRECT files always wait and so never go
 * inline. In the page cache of other file systems a read goes with RWF_NOWAIT, so the
 * kernel answers EAGAIN where the page cache has a hole; after some of those in
 * a row it is tried only now and then, for the try costs as much as a hit.
 *
 * Writes: xfs and btrfs know RWF_NOWAIT too. ext4 does not, and an asynchronous
 * buffered write there is a kernel thread's (10-20 us) for what a plain call
 * does in about 2 us. But a plain call may wait: for the rest of a page that it
 * changes in part, for locks that a flush or an allocation holds, or because
 * the machine has too much dirty memory. The first is excluded by asking for
 * whole pages, the second by not going inline beside such operations of ours.
 * The third cannot be foreseen, so it is measured. A write that took longer
 * than GUARD_SLOW_NS makes the file suspect: it may have waited, or another
 * program had the processor. Beside the next writes the voluntary switches of
 * this thread are counted, which tells the two apart. One that was slow and
 * did wait sends the writes of the file to the engine for a while, and for twice
 * that while if it happens again soon after.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include "file-internal.h"

#define INLINE_MAX_READ  ((size_t)(256 * KiB))
#define INLINE_MAX_WRITE ((size_t)(128 * KiB))
#define INLINE_MAX_COPY  ((size_t)(2 * MiB))
#define PAGE_BYTES       4096

#define MISSES_IN_A_ROW 8
#define RETRY_EVERY     16 /* reads, while they miss; a power of two */

#define GUARD_SLOW_NS (500 * NS_PER_US)
#define SUSPECT_NS    (2 * NS_PER_S)
#define GUARD_MIN_NS  (100 * NS_PER_MS)
#define GUARD_MAX_NS  (6400 * NS_PER_MS)

#define CALL_COST (4 * KiB) /* of a call, in bytes that could be copied instead */

void file_inline_init(IoFile *f)
{
    struct statfs fs;

    if (fstatfs(f->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC) {
        f->reads = f->writes = INLINE_ALWAYS;
        return;
    }
    if (f->direct) {
        return;
    }
    f->reads = f->writes = INLINE_NOWAIT;
    f->guard_ns = GUARD_MIN_NS;
}

bool file_inline_used_up(IoFile *f, size_t bytes)
{
    f->loop->budget -= (int64_t)(bytes + CALL_COST) / LOOP_BUDGET_BYTES;
    return f->loop->budget <= 0;
}

/* --- reads --- */

static bool read_now(IoFile *f, IoOp *op)
{
    ssize_t r;

    if (f->misses >= MISSES_IN_A_ROW && f->misses++ % RETRY_EVERY) {
        return false;
    }
    op->mode = RWF_NOWAIT;
    r = io_op_run(op);
    op->mode = 0;
    if (r > 0) {
        f->misses = 0;
        op->result = r;
        return true;
    }
    if (r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS) {
        f->reads = INLINE_NEVER;
    } else if (r == -EAGAIN) {
        f->misses++;
    }
    return false; /* 0, the end of the file: some kernels say so where they would wait */
}

static bool read_inline(IoFile *f, IoOp *op, size_t bytes)
{
    if (bytes > INLINE_MAX_READ) {
        return false;
    }
    if (f->reads == INLINE_ALWAYS) {
        op->result = io_op_run(op);
        return true;
    }
    return read_now(f, op);
}

/* --- writes --- */

static bool write_now(IoFile *f, IoOp *op)
{
    int mode = op->mode;
    ssize_t r;

    op->mode |= RWF_NOWAIT;
    r = io_op_run(op);
    op->mode = mode;
    if (r >= 0) {
        op->result = r;
        return true;
    }
    if (r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS) {
        f->writes = INLINE_GUARDED;
    }
    return false;
}

static long voluntary_switches(void)
{
    struct rusage u;

    getrusage(RUSAGE_THREAD, &u);
    return u.ru_nvcsw;
}

/* An inline write has taken from @start to @end; if the file is suspect, @waited says why. */
static void guard_judge(IoFile *f, int64_t start, int64_t end, bool waited)
{
    if (likely(end - start <= GUARD_SLOW_NS)) {
        return;
    }
    if (waited) {
        if (start - f->guarded_until_ns > GUARD_MAX_NS) {
            f->guard_ns = GUARD_MIN_NS; /* the last time was long ago */
        }
        f->guarded_until_ns = end + f->guard_ns;
        f->guard_ns = MIN(f->guard_ns * 2, GUARD_MAX_NS);
    }
    f->suspect_until_ns = MAX(end, f->guarded_until_ns) + SUSPECT_NS;
}

static bool write_guarded(IoFile *f, IoOp *op, size_t bytes)
{
    int64_t start;
    long before = 0;
    bool suspect, waited;

    if (f->heavy || !IS_ALIGNED(op->offset | (int64_t)bytes, PAGE_BYTES)) {
        return false;
    }
    start = loop_now_ns();
    if (start < f->guarded_until_ns) {
        return false;
    }
    suspect = start < f->suspect_until_ns;
    if (suspect) {
        before = voluntary_switches();
    }
    op->result = io_op_run(op);
    waited = suspect && voluntary_switches() != before;
    guard_judge(f, start, loop_now_ns(), waited);
    return true;
}

static bool write_inline(IoFile *f, IoOp *op, size_t bytes)
{
    if (bytes > INLINE_MAX_WRITE) {
        return false;
    }
    if (f->writes == INLINE_ALWAYS) {
        op->result = io_op_run(op);
        return true;
    }
    if (op->mode & RWF_DSYNC) {
        return false;
    }
    if (f->writes == INLINE_NOWAIT && write_now(f, op)) {
        return true;
    }
    return f->writes == INLINE_GUARDED && write_guarded(f, op, bytes);
}

bool file_inline_try(IoFile *f, IoOp *op, size_t bytes)
{
    switch (op->kind) {
    case IO_OP_READ:
        return f->reads != INLINE_NEVER && read_inline(f, op, bytes);
    case IO_OP_WRITE:
        return f->writes != INLINE_NEVER && write_inline(f, op, bytes);
    case IO_OP_FDATASYNC:
        if (f->writes != INLINE_ALWAYS) {
            return false;
        }
        op->result = io_op_run(op);
        return true;
    case IO_OP_FALLOCATE:
        return false;
    }
    abort();
}

bool file_inline_may_copy(const IoFile *src, const IoFile *dst, size_t bytes)
{
    return src->reads == INLINE_ALWAYS && dst->writes == INLINE_ALWAYS && bytes <= INLINE_MAX_COPY;
}
