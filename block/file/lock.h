/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks: who uses a file for what, shown to other programs as shared
 * locks on single bytes of the file itself.
 *
 * Byte 100 + i: somebody takes permission i. Byte 200 + i: somebody does not
 * share permission i. The locks never exclude each other; whoever wants
 * something looks for the byte that forbids it, with its own byte in place
 * first, so of two that come at once at least one sees the other.
 *
 * Locks belong to the open file description (F_OFD_SETLK). The descriptor that
 * carries them lives as long as the node, whatever happens to the ones that
 * data goes through.
 */
#ifndef BLOCK_FILE_LOCK_H
#define BLOCK_FILE_LOCK_H

#include "block/types.h"
#include "util/error.h"

typedef struct FileLock {
    int fd;                         /* -1: no locking */
    Perm taken, unshared;           /* bytes that are locked */
    Perm keep_taken, keep_unshared; /* what they were before file_lock_prepare() */
    bool prepared;
} FileLock;

/** file_lock_supported() - does the file system of @fd have such locks? */
bool file_lock_supported(int fd);

/**
 * file_lock_prepare() - lock what @perm needs besides what is held, and look for conflicts
 *
 * On failure the locks are as they were. After success commit or abort follows.
 */
bool file_lock_prepare(FileLock *l, PermPair perm, const char *filename, GError **errp);
/** file_lock_commit() - keep just what @perm needs; also without prepare if it is less */
void file_lock_commit(FileLock *l, PermPair perm);
void file_lock_abort(FileLock *l);

#endif
