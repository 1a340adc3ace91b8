/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of drivers `file` and `host_device` share.
 *
 * A FileHandle is one open file description with its engine. A node goes over
 * to another one when it is reopened or when its first writer comes; requests
 * that are inside keep the old one alive, so nothing has to stop for it.
 */
#ifndef BLOCK_FILE_INTERNAL_H
#define BLOCK_FILE_INTERNAL_H

#include <errno.h>
#include <sys/stat.h>

#include "block/driver.h"
#include "lock.h"
#include "util/file.h"

#define FILE_SECTOR 512 /* a disk is made of whole ones */

typedef struct FileHandle {
    unsigned refs;
    IoFile *io;
    bool writable;
    bool direct;
    uint32_t request_alignment; /* of offsets and lengths */
    uint32_t memory_alignment;
} FileHandle;

/* The last run of data that was found, so that not each question is a system call. */
typedef struct DataRun {
    int64_t start, end; /* empty: nothing known */
} DataRun;

typedef struct FileState {
    char *filename;
    FileHandle *handle;
    FileHandle *next; /* prepared by a permission check; NULL if none */
    FileLock lock;
    IoEngine engine;
    mode_t type; /* S_IFREG, S_IFBLK or S_IFCHR */
    dev_t dev;   /* which file it is: a path can come to name another one */
    ino_t ino;
    DataRun data;
    /* What the file system has turned out not to have. */
    bool no_punch, no_zero_range, no_allocate, no_seek_hole;
    bool flush_failed; /* dirty pages were dropped: no later flush can be believed */
} FileState;

static inline FileHandle *handle_ref(FileHandle *h)
{
    h->refs++;
    return h;
}
void handle_unref(FileHandle *h); /* NULL is fine */
static inline void handle_unref_at(FileHandle **h)
{
    handle_unref(*h);
}
/* The handle of @node for this request. */
#define HANDLE_OF(s)                                                                               \
    __attribute__((cleanup(handle_unref_at), unused)) FileHandle *h = handle_ref((s)->handle)

/* --- open.c --- */
typedef struct HandleWish {
    bool writable, direct;
} HandleWish;

/** file_co_open_fd() - open @filename, without waiting for a peer of a FIFO; -errno */
int coroutine_fn file_co_open_fd(const char *filename, int flags);
/** file_co_handle_new() - takes @fd over, also on failure */
FileHandle *coroutine_fn
file_co_handle_new(int fd, HandleWish wish, IoEngine engine, mode_t type, GError **errp);
/** file_co_handle_again() - open the file of @s once more, the same one */
FileHandle *coroutine_fn file_co_handle_again(const FileState *s, HandleWish wish, GError **errp);
/** file_length_of() - bytes, or -errno */
int64_t file_length_of(int fd, mode_t type);

/* --- requests.c --- */
int coroutine_fn file_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn file_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags);
int coroutine_fn file_co_flush(BlockNode *node);
int coroutine_fn file_co_copy_range(BlockNode *node, BlockNode *src, int64_t src_offset,
                                    int64_t dst_offset, int64_t bytes, ReqFlags flags);

/* --- holes.c --- */
int coroutine_fn
file_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags);
int coroutine_fn file_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes);
int coroutine_fn file_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                      int64_t bytes, BlockStatus *ret);
void file_forget_data_run(FileState *s);

/* --- size.c --- */
bool coroutine_fn file_co_truncate(BlockNode *node, int64_t length, bool exact,
                                   BlockPreallocMode prealloc, ReqFlags flags, GError **errp);
bool coroutine_fn file_co_refresh_length(BlockNode *node, GError **errp);
int64_t coroutine_fn file_co_allocated_size(BlockNode *node);
bool coroutine_fn file_co_create(const BlockdevCreateOptions *opts, GError **errp);

#endif
