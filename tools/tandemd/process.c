/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandemd as a process: daemon and pid file.
 *
 * A daemon's parent waits on a pipe for one byte. If the child ends without
 * writing it, starting has failed and the child has said why on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tandemd.h"
#include "util/error.h"

static int parent_fd = -1;
static char *pidfile; /* absolute; NULL: none */
static int pidfile_fd = -1;

static NORETURN void
parent_wait(int fd, pid_t child)
{
    char byte;
    ssize_t n;
    int status;

    do {
        n = read(fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) {
        _exit(0);
    }
    if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        _exit(0); /* a signal ended it while it started */
    }
    _exit(1);
}

bool
process_daemonize(GError **errp)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return fail_errno(errp, errno, "Could not create a pipe");
    }
    pid = fork();
    if (pid < 0) {
        return fail_errno(errp, errno, "Could not fork");
    }
    if (pid > 0) {
        close(fds[1]);
        parent_wait(fds[0], pid);
    }
    close(fds[0]);
    parent_fd = fds[1];
    setsid();
    return true;
}

bool
process_is_daemon(void)
{
    return parent_fd >= 0;
}

void
process_started(void)
{
    int null;

    if (parent_fd < 0) {
        return;
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++) {
        dup2(null, fd);
    }
    if (null > STDERR_FILENO) {
        close(null);
    }
    (void)!chdir("/"); /* so that no file system is kept busy; not vital */
    (void)!write(parent_fd, "", 1); /* a parent that is gone needs no word */
    close(parent_fd);
    parent_fd = -1;
}

/* The file is ours only if the one we locked is still what the name means. */
static bool
is_same_file(int fd, const char *path)
{
    struct stat by_fd, by_name;

    return fstat(fd, &by_fd) == 0 && stat(path, &by_name) == 0 &&
           by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

static int
open_locked(const char *path, GError **errp)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

        if (fd < 0) {
            fail_errno(errp, errno, "cannot create PID file: Could not create '%s'", path);
            return -1;
        }
        if (fcntl(fd, F_SETLK, &lock) < 0) {
            fail_errno(errp, errno, "cannot lock PID file '%s'", path);
            close(fd);
            return -1;
        }
        if (is_same_file(fd, path)) {
            return fd;
        }
        close(fd); /* its owner removed it while we opened it */
    }
}

bool
process_write_pidfile(const char *path, GError **errp)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int fd = open_locked(path, errp);

    if (fd < 0) {
        return false;
    }
    if (ftruncate(fd, 0) < 0 || write(fd, text, n) != n) {
        fail_errno(errp, errno, "cannot write PID file '%s'", path);
        unlink(path);
        close(fd);
        return false;
    }
    pidfile_fd = fd;
    pidfile = g_canonicalize_filename(path, NULL);
    return true;
}

void
process_remove_pidfile(void)
{
    if (!pidfile) {
        return;
    }
    if (is_same_file(pidfile_fd, pidfile)) {
        unlink(pidfile);
    }
    close(pidfile_fd);
    g_clear_pointer(&pidfile, g_free);
}
