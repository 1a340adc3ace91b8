/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HMP's "qemu-io DEVICE COMMAND": one request by hand.
 *
 * What the command prints is the answer: standard output may be a monitor
 * itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hmp.h"
#include "image/io-cmd.h"
#include "util/error.h"

static bool coroutine_fn
run_command(BlockBackend *be, const char *line, GString *out, GError **errp)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    IoCmd *io;

    if (!stream) {
        return fail_errno(errp, errno, "Could not collect the output");
    }
    io = io_cmd_new("qemu-io", stream, stream, NULL, 0, NULL);
    io_cmd_co_set_backend(io, be);
    (void)io_cmd_co_run(io, line); /* it has told */
    io_cmd_co_set_backend(io, NULL);
    io_cmd_co_free(io);
    fclose(stream);
    g_string_append_len(out, text, bytes);
    free(text);
    return true;
}

bool coroutine_fn
hmp_qemu_io_co(int argc, char **argv, GString *out, GError **errp)
{
    const PermPair perm = { .taken = 0, .shared = PERM_ALL };
    BlockBackend *be, *drive;
    BlockNode *node;
    bool ok;

    if (argc != 3 || strcmp(argv[1], "-d") == 0) {
        return false;
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
