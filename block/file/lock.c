/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Image locks: see lock.h. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TAKEN_BASE    100
#define UNSHARED_BASE 200

static const char *const perm_names[] = {
    "consistent read", "write", "write unchanged", "resize", "change children",
};
#define N_PERMS G_N_ELEMENTS(perm_names)

static struct flock one_byte(short type, int64_t at)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
}

static int set_byte(int fd, short type, int64_t at)
{
    struct flock fl = one_byte(type, at);
    int r;

    do {
        r = fcntl(fd, F_OFD_SETLK, &fl);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* 0: nobody else holds the byte; -EAGAIN: somebody does. */
static int look_at_byte(int fd, int64_t at)
{
    struct flock fl = one_byte(F_WRLCK, at);

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
        return -errno;
    }
    return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

bool file_lock_supported(int fd)
{
    struct flock fl = one_byte(F_WRLCK, 0);

    return fcntl(fd, F_OFD_GETLK, &fl) == 0;
}

/* Lock the bytes of @want that are not in *@held; on failure those before it are in *@held. */
static bool lock_bytes(int fd, int64_t base, Perm *held, Perm want, GError **errp)
{
    for (size_t i = 0; i < N_PERMS; i++) {
        Perm bit = 1u << i;

        if ((want & bit) && !(*held & bit)) {
            int r = set_byte(fd, F_RDLCK, base + i);

            if (r < 0) {
                return fail_errno(errp, -r, "Failed to lock byte %d", (int)(base + i));
            }
            *held |= bit;
        }
    }
    return true;
}

/* Releasing what is no longer needed never fails an operation. */
static void unlock_bytes(int fd, int64_t base, Perm *held, Perm keep)
{
    for (size_t i = 0; i < N_PERMS; i++) {
        Perm bit = 1u << i;

        if ((*held & bit) && !(keep & bit)) {
            (void)set_byte(fd, F_UNLCK, base + i);
            *held &= ~bit;
        }
    }
}

static bool look_at_bytes(int fd, int64_t base, Perm want, const char *shared, const char *filename,
                          GError **errp)
{
    for (size_t i = 0; i < N_PERMS; i++) {
        int r = want & (1u << i) ? look_at_byte(fd, base + i) : 0;

        if (r < 0 && r != -EAGAIN) {
            return fail_errno(errp, -r, "Failed to get %s\"%s\" lock", shared, perm_names[i]);
        }
        if (r < 0) {
            return fail(errp,
                        "Failed to get %s\"%s\" lock\nIs another process using the image [%s]?",
                        shared, perm_names[i], filename);
        }
    }
    return true;
}

bool file_lock_prepare(FileLock *l, PermPair perm, const char *filename, GError **errp)
{
    Perm unshared = ~perm.shared & PERM_ALL;
    bool ok;

    assert(!l->prepared);
    l->keep_taken = l->taken;
    l->keep_unshared = l->unshared;
    l->prepared = true;
    if (l->fd < 0 || ((perm.taken & ~l->taken) == 0 && (unshared & ~l->unshared) == 0)) {
        return true;
    }
    ok = lock_bytes(l->fd, TAKEN_BASE, &l->taken, perm.taken, errp) &&
         lock_bytes(l->fd, UNSHARED_BASE, &l->unshared, unshared, errp) &&
         look_at_bytes(l->fd, UNSHARED_BASE, perm.taken, "", filename, errp) &&
         look_at_bytes(l->fd, TAKEN_BASE, unshared, "shared ", filename, errp);
    if (!ok) {
        file_lock_abort(l);
    }
    return ok;
}

void file_lock_commit(FileLock *l, PermPair perm)
{
    l->prepared = false;
    if (l->fd >= 0) {
        unlock_bytes(l->fd, TAKEN_BASE, &l->taken, perm.taken);
        unlock_bytes(l->fd, UNSHARED_BASE, &l->unshared, ~perm.shared & PERM_ALL);
    }
}

void file_lock_abort(FileLock *l)
{
    l->prepared = false;
    if (l->fd >= 0) {
        unlock_bytes(l->fd, TAKEN_BASE, &l->taken, l->keep_taken);
        unlock_bytes(l->fd, UNSHARED_BASE, &l->unshared, l->keep_unshared);
    }
}
