/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file, host_device: a regular file, or a block or character device.
 *
 * Opening, permissions, reopening. The descriptor that carries the image locks
 * is opened once and stays; the one that data goes through (FileHandle) is
 * replaced when the access mode has to change: by a reopen, or with
 * auto-read-only when the first writer comes.
 */
#include <fcntl.h>
#include <unistd.h>

#include "file-internal.h"
#include "qapi/drivers.h"

#define PERM_ANY_WRITE (PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE)

static const BlockdevOptionsFile *options_of(const BlockdevOptions *opts)
{
    return opts->driver == BLOCKDEV_DRIVER_FILE ? &opts->u.file : &opts->u.host_device;
}

/* --- opening --- */

static bool
engine_of(const BlockdevOptionsFile *o, const NodeFlags *flags, IoEngine *ret, GError **errp)
{
    *ret = IO_ENGINE_AUTO;
    if (!o->has_aio) {
        return true;
    }
    switch (o->aio) {
    case BLOCKDEV_AIO_OPTIONS_THREADS:
        *ret = IO_ENGINE_THREADS;
        return true;
    case BLOCKDEV_AIO_OPTIONS_IO_URING:
        *ret = IO_ENGINE_IO_URING;
        return true;
    default:
        *ret = IO_ENGINE_NATIVE;
        return flags->cache_direct ||
               fail(errp, "aio=native was specified, but it requires cache.direct=on, which was "
                          "not specified.");
    }
}

static bool check_type(FileState *s, const BlockNode *node, const struct stat *st, GError **errp)
{
    s->type = st->st_mode & S_IFMT;
    s->dev = st->st_dev;
    s->ino = st->st_ino;
    if (node->drv == &driver_file) {
        return s->type == S_IFREG ||
               fail(errp,
                    "'%s' driver requires '%s' to be a regular file", node->drv->name, s->filename);
    }
    return s->type == S_IFBLK || s->type == S_IFCHR ||
           fail(errp, "'%s' driver requires '%s' to be either a character or block device",
                node->drv->name, s->filename);
}

static bool set_up_lock(FileState *s, const BlockdevOptionsFile *o, int fd, GError **errp)
{
    OnOffAuto locking = o->has_locking ? o->locking : ON_OFF_AUTO_AUTO;

    if (locking == ON_OFF_AUTO_OFF) {
        return true;
    }
    if (!file_lock_supported(fd)) {
        return locking == ON_OFF_AUTO_AUTO ||
               fail(errp, "File lock requested but '%s' does not support OFD locks", s->filename);
    }
    s->lock.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return s->lock.fd >= 0 || fail_errno(errp, errno, "Could not open '%s'", s->filename);
}

/* The first descriptor. With auto-read-only it is read-only until somebody wants to write. */
static int coroutine_fn open_first(BlockNode *node, HandleWish *wish)
{
    FileState *s = node->state;
    int direct = wish->direct ? O_DIRECT : 0;
    int fd;

    wish->writable = !node->flags.read_only;
    if (wish->writable && node->flags.auto_read_only) {
        /* Is it possible at all? If not, the node is read-only from the start. */
        fd = file_co_open_fd(s->filename, O_RDWR | direct);
        if (fd == -EACCES || fd == -EPERM || fd == -EROFS) {
            node->flags.read_only = true;
        } else if (fd < 0) {
            return fd;
        } else {
            close(fd);
        }
        wish->writable = false;
    }
    return file_co_open_fd(s->filename, (wish->writable ? O_RDWR : O_RDONLY) | direct);
}

static bool coroutine_fn
take_first(BlockNode *node, const BlockdevOptionsFile *o, int fd, HandleWish wish, GError **errp)
{
    FileState *s = node->state;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        fail_errno(errp, errno, "Could not stat '%s'", s->filename);
    } else if (check_type(s, node, &st, errp) && set_up_lock(s, o, fd, errp)) {
        s->handle = file_co_handle_new(fd, wish, s->engine, s->type, errp);
        return s->handle != NULL;
    }
    close(fd);
    return false;
}

static bool coroutine_fn file_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsFile *o = options_of(opts);
    HandleWish wish = {.direct = node->flags.cache_direct};
    FileState *s = node->state;
    int fd;

    s->lock.fd = -1;
    s->filename = g_strdup(o->filename);
    if (o->pr_manager) {
        return fail(errp, "pr-manager is not supported");
    }
    if (!engine_of(o, &node->flags, &s->engine, errp)) {
        return false;
    }
    fd = open_first(node, &wish);
    if (fd == -EINVAL && wish.direct) {
        return fail_errno(errp, -fd, "Could not open '%s': file system may not support O_DIRECT",
                          s->filename);
    }
    if (fd < 0) {
        return fail_errno(errp, -fd, "Could not open '%s'", s->filename);
    }
    if (!take_first(node, o, fd, wish, errp) || !file_co_refresh_length(node, errp)) {
        return false;
    }
    g_free(node->filename);
    node->filename = g_strdup(s->filename);
    node->supported_write_flags = REQ_FUA;
    node->supported_zero_flags = REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    return true;
}

static void coroutine_fn file_co_close(BlockNode *node)
{
    FileState *s = node->state;

    handle_unref(s->next);
    handle_unref(s->handle);
    if (s->lock.fd >= 0) {
        close(s->lock.fd);
    }
    g_free(s->filename);
    *s = (FileState){.lock.fd = -1};
}

static void file_refresh_limits(BlockNode *node)
{
    const FileState *s = node->state;

    if (s->handle) {
        node->limits.request_alignment = s->handle->request_alignment;
        node->limits.min_mem_alignment = s->handle->memory_alignment;
        node->limits.opt_mem_alignment = MAX(s->handle->memory_alignment, 4096);
    }
}

/* --- permissions --- */

static void use_handle(FileState *s, FileHandle *h)
{
    handle_unref(s->handle);
    s->handle = h;
    s->flush_failed = false;
    file_forget_data_run(s);
}

static bool coroutine_fn file_co_check_perm(BlockNode *node, PermPair perm, GError **errp)
{
    FileState *s = node->state;

    if (!s->handle->writable && (perm.taken & PERM_ANY_WRITE) && node->flags.auto_read_only &&
        !node->flags.read_only) {
        HandleWish wish = {.writable = true, .direct = s->handle->direct};

        s->next = file_co_handle_again(s, wish, errp);
        if (!s->next) {
            return false;
        }
    }
    if (!file_lock_prepare(&s->lock, perm, s->filename, errp)) {
        handle_unref(s->next);
        s->next = NULL;
        return false;
    }
    return true;
}

static void file_set_perm(BlockNode *node, PermPair perm)
{
    FileState *s = node->state;

    file_lock_commit(&s->lock, perm);
    if (s->next) {
        use_handle(s, s->next);
        s->next = NULL;
    }
}

static void file_abort_perm(BlockNode *node)
{
    FileState *s = node->state;

    file_lock_abort(&s->lock);
    handle_unref(s->next);
    s->next = NULL;
}

/* --- reopening --- */

static bool check_same_options(const FileState *s, const BlockdevOptionsFile *o, GError **errp)
{
    OnOffAuto locking = o->has_locking ? o->locking : ON_OFF_AUTO_AUTO;

    if (strcmp(o->filename, s->filename) != 0) {
        return fail(errp, "Cannot change the option 'filename'");
    }
    if ((locking == ON_OFF_AUTO_OFF) != (s->lock.fd < 0)) {
        return fail(errp, "Cannot change the option 'locking'");
    }
    return true;
}

typedef struct FileReopen {
    FileHandle *handle; /* NULL: keep the one we have */
    IoEngine engine;
} FileReopen;

static bool coroutine_fn file_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    FileState *s = node->state;
    FileState as_wished = *s;
    HandleWish wish = {.writable = !rs->flags.read_only, .direct = rs->flags.cache_direct};
    FileReopen *ro;

    if (rs->opts && (!check_same_options(s, options_of(rs->opts), errp) ||
                     !engine_of(options_of(rs->opts), &rs->flags, &as_wished.engine, errp))) {
        return false;
    }
    ro = g_new0(FileReopen, 1);
    ro->engine = as_wished.engine;
    if (wish.writable != s->handle->writable || wish.direct != s->handle->direct ||
        as_wished.engine != s->engine || s->flush_failed) {
        ro->handle = file_co_handle_again(&as_wished, wish, errp);
        if (!ro->handle) {
            g_free(ro);
            return false;
        }
    }
    rs->driver_private = ro;
    return true;
}

static void file_reopen_commit(BlockNode *node, ReopenState *rs)
{
    FileReopen *ro = rs->driver_private;
    FileState *s = node->state;

    if (ro->handle) {
        use_handle(s, ro->handle);
    }
    s->engine = ro->engine;
    g_free(ro);
}

static void file_reopen_abort(BlockNode *node, ReopenState *rs)
{
    FileReopen *ro = rs->driver_private;

    handle_unref(ro->handle);
    g_free(ro);
}

/* --- the drivers --- */

#define FILE_DRIVER                                                                                \
    .state_size = sizeof(FileState), .is_protocol = true, .co_open = file_co_open,                 \
    .co_close = file_co_close, .co_reopen_prepare = file_co_reopen_prepare,                        \
    .reopen_commit = file_reopen_commit, .reopen_abort = file_reopen_abort,                        \
    .co_check_perm = file_co_check_perm, .set_perm = file_set_perm, .abort_perm = file_abort_perm, \
    .co_preadv = file_co_preadv, .co_pwritev = file_co_pwritev,                                    \
    .co_pwrite_zeroes = file_co_pwrite_zeroes, .co_pdiscard = file_co_pdiscard,                    \
    .co_flush = file_co_flush, .co_block_status = file_co_block_status,                            \
    .co_copy_range = file_co_copy_range, .co_truncate = file_co_truncate,                          \
    .co_refresh_length = file_co_refresh_length, .co_allocated_size = file_co_allocated_size,      \
    .refresh_limits = file_refresh_limits

const BlockDriver driver_file = {
    .name = "file",
    FILE_DRIVER,
    .co_create = file_co_create,
};

const BlockDriver driver_host_device = {
    .name = "host_device",
    FILE_DRIVER,
};
