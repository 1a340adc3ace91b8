/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The size of a file: changing it, with or without room on the disk; making a new file. */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "file-internal.h"
#include "util/buf.h"

#define BLOCK        4096
#define ZEROES_BYTES ((size_t)1 << 20)

static const char *const prealloc_names[] = {"off", "metadata", "falloc", "full"};

/* Data blocks of zeroes over [@from, @to). */
static int coroutine_fn write_zeroes(IoFile *io, int64_t from, int64_t to)
{
    uint8_t *buf = buf_alloc(ZEROES_BYTES);
    int r = 0;

    memset(buf, 0, ZEROES_BYTES);
    while (from < to && r == 0) {
        /* Multiples of the buffer's size, so that a direct file stays aligned. */
        size_t n = MIN(to - from, (int64_t)ZEROES_BYTES - from % (int64_t)ZEROES_BYTES);
        struct iovec v;

        r = io_file_co_pwritev(io, from, iov_one(&v, buf, n), 0);
        from += n;
    }
    buf_free(buf, ZEROES_BYTES);
    return r;
}

static bool coroutine_fn
preallocate(IoFile *io, int64_t from, int64_t to, BlockPreallocMode prealloc, GError **errp)
{
    int r;

    if (prealloc == BLOCK_PREALLOC_FALLOC) {
        r = io_file_co_fallocate(io, 0, from, to - from);
        return r == 0 || fail_errno(errp, -r, "Could not preallocate data for the new file");
    }
    r = write_zeroes(io, from, to);
    if (r == 0) {
        r = io_file_co_fdatasync(io);
    }
    return r == 0 || fail_errno(errp, -r, "Could not write zeros for preallocation");
}

/* What a direct file must be aligned to is found by reading; in a hole any read succeeds. */
static void coroutine_fn allocate_first_block(IoFile *io, int64_t length)
{
    int64_t block = length < BLOCK ? FILE_SECTOR : BLOCK;

    (void)write_zeroes(io, 0, MIN(length, block)); /* what fails here costs only the probe */
}

/* A regular file from @old to @length bytes; as it was on failure. */
static bool coroutine_fn
resize_file(IoFile *io, int64_t old, int64_t length, BlockPreallocMode prealloc, GError **errp)
{
    int r;

    if (prealloc == BLOCK_PREALLOC_METADATA) {
        return fail(errp, "Unsupported preallocation mode: %s", prealloc_names[prealloc]);
    }
    if (prealloc != BLOCK_PREALLOC_OFF && length < old) {
        return fail(errp, "Cannot use preallocation for shrinking files");
    }
    if (prealloc == BLOCK_PREALLOC_OFF || length == old) {
        r = io_file_co_truncate(io, length);
        if (r == 0 && old == 0) {
            allocate_first_block(io, length);
        }
        return r == 0 || fail_errno(errp, -r, "Could not resize file");
    }
    if (!preallocate(io, old, length, prealloc, errp)) {
        (void)io_file_co_truncate(io, old); /* the first error is the one to tell */
        return false;
    }
    return true;
}

static bool check_device_size(int64_t old, int64_t length, bool exact, BlockPreallocMode prealloc,
                              GError **errp)
{
    if (prealloc != BLOCK_PREALLOC_OFF) {
        return fail(errp, "Preallocation mode '%s' unsupported for this non-regular file",
                    prealloc_names[prealloc]);
    }
    if (exact && length != old) {
        return fail(errp, "Cannot resize device files");
    }
    if (length > old) {
        return fail(errp, "Cannot grow device files");
    }
    return true;
}

bool coroutine_fn file_co_truncate(BlockNode *node, int64_t length, bool exact,
                                   BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    FileState *s = node->state;
    HANDLE_OF(s);
    int64_t old = file_length_of(io_file_fd(h->io), s->type);

    if (old < 0) {
        return fail_errno(errp, (int)-old, "Could not get the size of '%s'", s->filename);
    }
    file_forget_data_run(s);
    if (s->type != S_IFREG) {
        return check_device_size(old, length, exact, prealloc, errp);
    }
    if (!resize_file(h->io, old, length, prealloc, errp)) {
        return false;
    }
    node->length = ALIGN_UP(length, FILE_SECTOR);
    return true;
}

/* A disk ends at a sector: what a file lacks to the end of its last one reads as zeroes. */
bool coroutine_fn file_co_refresh_length(BlockNode *node, GError **errp)
{
    FileState *s = node->state;
    int64_t length = file_length_of(io_file_fd(s->handle->io), s->type);

    if (length < 0) {
        return fail_errno(errp, (int)-length, "Could not get the size of '%s'", s->filename);
    }
    node->length = ALIGN_UP(length, FILE_SECTOR);
    return true;
}

int64_t coroutine_fn file_co_allocated_size(BlockNode *node)
{
    FileState *s = node->state;
    struct stat st;

    if (fstat(io_file_fd(s->handle->io), &st) < 0) {
        return -errno;
    }
    return (int64_t)st.st_blocks * 512;
}

/* --- creating --- */

/* Copy-on-write of the file system off; where that is not known, there is none to turn off. */
static void turn_cow_off(int fd)
{
    int attr;

    if (ioctl(fd, FS_IOC_GETFLAGS, &attr) == 0) {
        attr |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &attr);
    }
}

static void hint_extent_size(int fd, uint64_t bytes)
{
    struct fsxattr attr;

    if (bytes > 0 && ioctl(fd, FS_IOC_FSGETXATTR, &attr) == 0) {
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = bytes;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &attr); /* a hint */
    }
}

static bool coroutine_fn fill_new_file(int fd, const BlockdevCreateOptionsFile *o, GError **errp)
{
    BlockPreallocMode prealloc =
        o->has_preallocation ? (BlockPreallocMode)o->preallocation : BLOCK_PREALLOC_OFF;
    IoFile *io = io_file_new(fd, IO_ENGINE_AUTO, errp);
    bool ok;
    int r;

    if (!io) {
        return false;
    }
    r = io_file_co_truncate(io, 0);
    if (r < 0) {
        ok = fail_errno(errp, -r, "Could not resize file");
    } else {
        if (o->has_nocow && o->nocow) {
            turn_cow_off(fd);
        }
        hint_extent_size(fd, o->has_extent_size_hint ? o->extent_size_hint : 1 * MiB);
        ok = resize_file(io, 0, (int64_t)o->size, prealloc, errp);
    }
    io_file_free(io);
    return ok;
}

bool coroutine_fn file_co_create(const BlockdevCreateOptions *opts, GError **errp)
{
    static const PermPair perm = {.taken = PERM_WRITE | PERM_RESIZE,
                                  .shared = PERM_ALL & ~PERM_RESIZE};
    const BlockdevCreateOptionsFile *o = &opts->u.file;
    FileLock lock = {0};
    struct stat st;
    bool ok;
    int fd;

    if (o->size > (uint64_t)BLOCK_MAX_LENGTH) {
        return fail(errp, "Image size is too large");
    }
    if (o->has_extent_size_hint && o->extent_size_hint > UINT32_MAX) {
        return fail(errp, "Extent size hint is too large");
    }
    fd = file_co_open_fd(o->filename, O_RDWR | O_CREAT);
    if (fd < 0) {
        return fail_errno(errp, -fd, "Could not create '%s'", o->filename);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(errp, "Could not create '%s': not a regular file", o->filename);
    }
    lock.fd = file_lock_supported(fd) ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    ok = file_lock_prepare(&lock, perm, o->filename, errp);
    if (ok) {
        ok = fill_new_file(fd, o, errp);
    } else {
        close(fd);
    }
    if (lock.fd >= 0) {
        close(lock.fd); /* the last descriptor of the description: its locks go with it */
    }
    return ok;
}
