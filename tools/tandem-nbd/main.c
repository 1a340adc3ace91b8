/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-nbd: serve a disk image by NBD.
 *
 * With --fork the parent waits for one byte from the child, which says that
 * clients can connect; without it the child has failed and said why.
 */
#include "tandem-nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/drivers.h"
#include "image/corruption.h"
#include "util/error.h"
#include "util/loop.h"
#include "util/trace.h"

static NbdToolOptions options;
static int ready_fd = -1;
static bool wrote_pid;

typedef struct Run {
    bool ok;
    GError *err;
} Run;

static void warn(const char *text)
{
    fprintf(stderr, "WARNING: %s\n", text);
}

static bool write_pid(GError **errp)
{
    g_autofree char *text = g_strdup_printf("%d\n", getpid());

    if (options.pid_file && !g_file_set_contents(options.pid_file, text, -1, errp)) {
        return false;
    }
    wrote_pid = options.pid_file != NULL;
    return true;
}

/* Clients can come: leave the terminal and tell the parent. */
static bool ready(GError **errp)
{
    int null;

    if (!write_pid(errp)) {
        return false;
    }
    if (options.verbose) {
        fprintf(stderr, "tandem-nbd: ready\n");
    }
    if (ready_fd < 0) {
        return true;
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0 || write(ready_fd, "", 1) != 1 ||
        dup2(null, STDERR_FILENO) < 0) {
        return fail_errno(errp, errno, "Could not go to the background");
    }
    close(null);
    close(ready_fd);
    return true;
}

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;

    r->ok = options.list ? list_co_run(&options, &r->err) : serve_co_run(&options, ready, &r->err);
}

static void on_signal(void *opaque)
{
    serve_stop();
}

static bool watch_signals(Loop *loop, GError **errp)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        if (!loop_signal_add(loop, signals[i], on_signal, NULL, errp)) {
            return false;
        }
    }
    return true;
}

static bool run(GError **errp)
{
    Loop *loop = loop_new(LOOP_POLLER_AUTO, errp);
    Run r = {0};

    if (!loop) {
        return false;
    }
    if (options.list || watch_signals(loop, errp)) {
        loop_run_coroutine(loop, run_entry, &r);
    }
    loop_free(loop);
    if (wrote_pid) {
        unlink(options.pid_file);
    }
    if (r.err) {
        g_propagate_error(errp, r.err);
    }
    return r.ok;
}

/* In the parent: the exit status. In the child it returns -1. */
static int fork_child(GError **errp)
{
    int fds[2];
    pid_t pid;
    char byte;

    if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        return fail_errno(errp, errno, "Could not fork"), EXIT_FAILURE;
    }
    if (pid == 0) {
        close(fds[0]);
        ready_fd = fds[1];
        setsid();
        return -1;
    }
    close(fds[1]);
    return read(fds[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int report(GError *err)
{
    if (err) {
        fprintf(stderr, "tandem-nbd: %s\n", err->message);
        g_error_free(err);
    }
    return EXIT_FAILURE;
}

/* "--fork" leaves the directory of the caller. */
static void make_absolute(char **path)
{
    if (*path && **path != '/') {
        g_autofree char *here = g_get_current_dir();
        char *full = g_build_filename(here, *path, NULL);

        g_free(*path);
        *path = full;
    }
}

int main(int argc, char **argv)
{
    GError *err = NULL;
    int status;

    if (!options_parse(argc, argv, &options, &err)) {
        return report(err);
    }
    trace_install_handlers();
    loop_ignore_io_signals();
    image_tell_corruption();
    block_set_warning(warn);
    drivers_register();
    make_absolute(&options.pid_file);
    make_absolute(&options.socket);
    if (options.fork && !options.list) {
        status = fork_child(&err);
        if (status >= 0) {
            return err ? report(err) : status;
        }
    }
    return run(&err) ? EXIT_SUCCESS : report(err);
}
