/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening files: descriptors, how they have to be accessed, how long they are.
 *
 * With cache.direct the kernel wants aligned offsets, lengths and memory. It
 * says how much by statx() where it can; else we try.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "file-internal.h"
#include "util/buf.h"

#define MAX_ALIGNMENT 4096

/* --- descriptors --- */

typedef struct OpenCall {
    const char *filename;
    int flags;
} OpenCall;

static int open_on_worker(void *opaque)
{
    const OpenCall *c = opaque;
    int fd;

    do {
        fd = open(c->filename, c->flags | O_CLOEXEC | O_NONBLOCK, 0644);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int coroutine_fn file_co_open_fd(const char *filename, int flags)
{
    OpenCall c = {.filename = filename, .flags = flags};

    return co_run_blocking(open_on_worker, &c);
}

int64_t file_length_of(int fd, mode_t type)
{
    struct stat st;
    uint64_t bytes;
    off_t end;

    if (type == S_IFREG) {
        return fstat(fd, &st) < 0 ? -errno : st.st_size;
    }
    if (type == S_IFBLK) {
        return ioctl(fd, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
    }
    end = lseek(fd, 0, SEEK_END);
    return end < 0 ? -errno : end;
}

/* --- alignment --- */

static bool alignment_of_statx(int fd, FileHandle *h)
{
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align > 0 &&
        stx.stx_dio_offset_align <= MAX_ALIGNMENT && stx.stx_dio_mem_align <= MAX_ALIGNMENT) {
        h->request_alignment = stx.stx_dio_offset_align;
        h->memory_alignment = MAX(stx.stx_dio_mem_align, 1);
        return true;
    }
#endif
    return false;
}

static bool alignment_of_device(int fd, FileHandle *h)
{
    int sector;

    if (ioctl(fd, BLKSSZGET, &sector) < 0 || sector < 512 || sector > MAX_ALIGNMENT) {
        return false;
    }
    h->request_alignment = h->memory_alignment = sector;
    return true;
}

/* The smallest read that the file takes; what is empty tells nothing. */
static void alignment_by_trying(int fd, FileHandle *h)
{
    void *buf = buf_alloc(MAX_ALIGNMENT);

    h->request_alignment = h->memory_alignment = MAX_ALIGNMENT;
    for (uint32_t n = 512; n < MAX_ALIGNMENT; n *= 2) {
        if (pread(fd, buf, n, 0) > 0) {
            h->request_alignment = n;
            h->memory_alignment = MAX(n, 512);
            break;
        }
    }
    buf_free(buf, MAX_ALIGNMENT);
}

typedef struct AlignCall {
    int fd;
    mode_t type;
    FileHandle *h;
} AlignCall;

static int align_on_worker(void *opaque)
{
    AlignCall *c = opaque;

    if (!alignment_of_statx(c->fd, c->h) &&
        !(c->type == S_IFBLK && alignment_of_device(c->fd, c->h))) {
        alignment_by_trying(c->fd, c->h);
    }
    return 0;
}

/* --- handles --- */

FileHandle *coroutine_fn
file_co_handle_new(int fd, HandleWish wish, IoEngine engine, mode_t type, GError **errp)
{
    FileHandle *h = g_new0(FileHandle, 1);

    h->refs = 1;
    h->writable = wish.writable;
    h->direct = wish.direct;
    h->request_alignment = h->memory_alignment = 1;
    if (wish.direct) {
        AlignCall c = {.fd = fd, .type = type, .h = h};

        (void)co_run_blocking(align_on_worker, &c); /* always finds an answer */
        h->request_alignment = MAX(h->request_alignment, h->memory_alignment);
    }
    h->io = io_file_new(fd, engine, errp);
    if (!h->io) {
        g_free(h);
        return NULL;
    }
    io_file_allow_inline(h->io); /* "aio" says who waits for what has to be waited for */
    return h;
}

void handle_unref(FileHandle *h)
{
    if (h && --h->refs == 0) {
        io_file_free(h->io);
        g_free(h);
    }
}

FileHandle *coroutine_fn file_co_handle_again(const FileState *s, HandleWish wish, GError **errp)
{
    int flags = (wish.writable ? O_RDWR : O_RDONLY) | (wish.direct ? O_DIRECT : 0);
    int fd = file_co_open_fd(s->filename, flags);
    struct stat st;

    if (fd < 0) {
        return fail_errno(errp, -fd, "Could not open '%s'", s->filename), NULL;
    }
    if (fstat(fd, &st) < 0 || st.st_dev != s->dev || st.st_ino != s->ino) {
        close(fd);
        return fail(errp, "Could not open '%s': another file has taken its name", s->filename),
               NULL;
    }
    return file_co_handle_new(fd, wish, s->engine, s->type, errp);
}
