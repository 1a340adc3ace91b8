/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holes of a file: making them, writing zeroes without data, finding them.
 *
 * What the file system does not have is remembered and not tried again.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "file-internal.h"

static bool is_unsupported(int r)
{
    return r == -EOPNOTSUPP || r == -ENOSYS || r == -ENODEV || r == -ENOTTY;
}

/* fallocate() that says -ENOTSUP when the file cannot do it, and remembers it in *@never. */
static int coroutine_fn
allocate(FileHandle *h, bool *never, int mode, int64_t offset, int64_t bytes)
{
    int r;

    if (*never) {
        return -ENOTSUP;
    }
    r = io_file_co_fallocate(h->io, mode, offset, bytes);
    if (is_unsupported(r)) {
        *never = true;
        return -ENOTSUP;
    }
    return r == -EINVAL ? -ENOTSUP : r; /* this range, perhaps for its alignment */
}

static int coroutine_fn punch(FileState *s, FileHandle *h, int64_t offset, int64_t bytes)
{
    return allocate(h, &s->no_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}

/* Zeroes that need no allocation: a hole, and the file made longer if its last sector, the rest of
 * which is zeroes already, ends before. */
static int coroutine_fn zero_as_hole(FileState *s, FileHandle *h, int64_t offset, int64_t bytes)
{
    int64_t length = file_length_of(io_file_fd(h->io), s->type);
    int r = 0;

    if (length < 0) {
        return (int)length;
    }
    if (offset < length || s->type != S_IFREG) {
        r = punch(s, h, offset, bytes);
    }
    if (r == 0 && s->type == S_IFREG && offset + bytes > ALIGN_UP(length, FILE_SECTOR)) {
        r = io_file_co_truncate(h->io, offset + bytes);
    }
    return r;
}

/* Zeroes that keep their place on the disk. */
static int coroutine_fn zero_in_place(FileState *s, FileHandle *h, int64_t offset, int64_t bytes)
{
    int keep = s->type == S_IFREG ? 0 : FALLOC_FL_KEEP_SIZE;
    int r = allocate(h, &s->no_zero_range, FALLOC_FL_ZERO_RANGE | keep, offset, bytes);

    if (r != -ENOTSUP || s->type != S_IFREG || s->no_allocate) {
        return r;
    }
    r = zero_as_hole(s, h, offset, bytes);
    return r < 0 ? r : allocate(h, &s->no_allocate, 0, offset, bytes);
}

int coroutine_fn
file_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    FileState *s = node->state;
    HANDLE_OF(s);
    int r = -ENOTSUP;

    if (s->type == S_IFCHR) {
        return -ENOTSUP;
    }
    file_forget_data_run(s);
    if (flags & REQ_MAY_UNMAP) {
        r = zero_as_hole(s, h, offset, bytes);
    }
    if (r == -ENOTSUP && (s->type == S_IFREG || !(flags & REQ_NO_FALLBACK))) {
        r = zero_in_place(s, h, offset, bytes); /* a device may write the zeroes: slow */
    }
    return r;
}

int coroutine_fn file_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    FileState *s = node->state;
    HANDLE_OF(s);

    if (s->type == S_IFCHR) {
        return -ENOTSUP;
    }
    file_forget_data_run(s);
    return punch(s, h, offset, bytes);
}

/* --- finding --- */

void file_forget_data_run(FileState *s)
{
    s->data = (DataRun){0};
}

typedef struct SeekCall {
    int fd;
    int64_t offset;
    int64_t data; /* first byte of data at or after offset; INT64_MAX: none */
    int64_t hole; /* first byte of a hole at or after offset */
} SeekCall;

/*
 * 0 and the answer, or -errno. The file may be changed by others meanwhile, so
 * the two answers need not fit together; callers check.
 */
static int seek_on_worker(void *opaque)
{
    SeekCall *c = opaque;
    off_t at = lseek(c->fd, c->offset, SEEK_DATA);

    if (at < 0 && errno == ENXIO) {
        c->data = INT64_MAX; /* hole up to the end, or past it */
        c->hole = c->offset;
        return 0;
    }
    if (at < 0) {
        return -errno;
    }
    c->data = at;
    c->hole = c->offset;
    if (at == c->offset) {
        at = lseek(c->fd, c->offset, SEEK_HOLE);
        if (at < 0) {
            return -errno;
        }
        c->hole = at;
    }
    return 0;
}

/* The run of data or the hole at @offset, as far as @bytes; true: data. */
static bool coroutine_fn
find_run(FileState *s, FileHandle *h, int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    int64_t unit = h->request_alignment;
    SeekCall c = {.fd = io_file_fd(h->io), .offset = offset};
    int r;

    *ret_bytes = bytes;
    if (s->no_seek_hole || s->type != S_IFREG) {
        return true;
    }
    if (offset >= s->data.start && offset < s->data.end) {
        *ret_bytes = MIN(bytes, ALIGN_UP(s->data.end - offset, unit));
        return true;
    }
    r = co_run_blocking(seek_on_worker, &c);
    if (r < 0 || c.data < offset || (c.data == offset && c.hole <= offset)) {
        s->no_seek_hole = r == -EINVAL || r == -EOPNOTSUPP;
        return true;
    }
    if (c.data == offset) {
        s->data = (DataRun){.start = offset, .end = c.hole};
        *ret_bytes = MIN(bytes, ALIGN_UP(c.hole - offset, unit));
        return true;
    }
    if (c.data == INT64_MAX || c.data - offset >= bytes) {
        return false;
    }
    if (c.data - offset < unit) { /* a hole smaller than what we can speak about */
        *ret_bytes = unit;
        return true;
    }
    *ret_bytes = ALIGN_DOWN(c.data - offset, unit);
    return false;
}

int coroutine_fn file_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                      int64_t bytes, BlockStatus *ret)
{
    FileState *s = node->state;
    HANDLE_OF(s);
    int64_t run = bytes;
    bool data = true;

    if (want_zero) {
        data = find_run(s, h, offset, bytes, &run);
    }
    *ret = (BlockStatus){
        .flags = STATUS_OFFSET_VALID | (data ? STATUS_DATA : STATUS_ZERO),
        .bytes = run,
        .map = offset,
        .file = node,
    };
    return 0;
}
