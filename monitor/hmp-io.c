/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HMP's "qemu-io DEVICE COMMAND": one request by hand.
 *
 * What the command prints goes to the process's own standard output and error,
 * as with QEMU, where scripts look for it; what is answered is errors only. Either
 * may be a pipe that nobody reads, so a worker does the writing.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hmp.h"
#include "image/io-cmd.h"
#include "util/error.h"
#include "util/loop.h"

#define N_OUTPUTS 3

typedef struct Output {
    int fd; /* -1: the monitor */
    FILE *stream;
    char *text;
    size_t bytes;
} Output;

/* The descriptor may be non-blocking: somebody else's is the same file. */
static int
write_on_worker(void *opaque)
{
    const Output *o = opaque;
    size_t done = 0;

    while (done < o->bytes) {
        ssize_t n = write(o->fd, o->text + done, o->bytes - done);

        if (n > 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            (void)poll(&(struct pollfd){.fd = o->fd, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Errors as the monitor tells them are the answer after all. */
static void coroutine_fn
outputs_co_close(Output *outputs, GString *out)
{
    for (Output *o = outputs; o < outputs + N_OUTPUTS && o->stream; o++) {
        fclose(o->stream);
        if (o->bytes > 0 && o->fd < 0) {
            o->text[o->bytes - 1] = '\0'; /* the newline */
            hmp_print_lines(out, "", o->text);
        } else if (o->bytes > 0) {
            (void)co_run_blocking(write_on_worker, o); /* nobody is left to be told */
        }
        free(o->text);
    }
}

static bool coroutine_fn
run_command(BlockBackend *be, const char *line, GString *out, GError **errp)
{
    Output outputs[N_OUTPUTS] = {{.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}, {.fd = -1}};
    IoCmd *io;

    for (Output *o = outputs; o < outputs + N_OUTPUTS; o++) {
        o->stream = open_memstream(&o->text, &o->bytes);
        if (!o->stream) {
            fail_errno(errp, errno, "Could not collect the output");
            outputs_co_close(outputs, out);
            return false;
        }
    }
    io = io_cmd_new(NULL, outputs[0].stream, outputs[1].stream, NULL, 0, NULL);
    io_cmd_set_reports(io, outputs[2].stream);
    io_cmd_co_set_backend(io, be);
    (void)io_cmd_co_run(io, line); /* it has told */
    io_cmd_co_set_backend(io, NULL);
    io_cmd_co_free(io);
    outputs_co_close(outputs, out);
    return true;
}

bool coroutine_fn
hmp_qemu_io_co(int argc, char **argv, GString *out, GError **errp)
{
    const PermPair perm = { .taken = 0, .shared = PERM_ALL };
    BlockBackend *be, *drive;
    BlockNode *node;
    bool ok;

    if (argc > 1 && strcmp(argv[1], "-d") == 0) { /* by the id of a guest's device */
        return argc == 4 && fail(errp, "Device '%s' not found", argv[2]);
    }
    if (argc != 3) {
        return false;
    }
    if (!backend_find(argv[1]) && !node_find(argv[1])) {
        return fail(errp, "Cannot find device='' nor node-name='%s'", argv[1]);
    }
    node = node_lookup(argv[1], errp);
    if (!node) {
        return false;
    }
    be = backend_new(NULL, perm, NULL, NULL, errp);
    if (!be) {
        return false;
    }
    drive = backend_find(argv[1]);
    if (drive) {
        backend_share_stats(be, drive); /* the permissions are the command's own */
    }
    if (!backend_co_insert(be, node, errp)) {
        backend_co_free(be);
        return false;
    }
    ok = run_command(be, argv[2], out, errp);
    backend_co_free(be);
    return ok;
}
