/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hold-image OPTIONS none|read|write: open a node, use it as a read-only or a
 * writable export would (none: no user), say "held" or the error, and keep it
 * until the standard input ends.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/backend.h"
#include "block/drivers.h"
#include "block/node.h"
#include "util/loop.h"

typedef struct Run {
    const char *options, *use;
    int status;
} Run;

static int wait_for_end(void *opaque)
{
    char c;

    while (read(STDIN_FILENO, &c, 1) > 0) {
        /* only the end counts */
    }
    return 0;
}

static int coroutine_fn say(GError *err)
{
    printf("%s\n", err ? err->message : "held");
    fflush(stdout);
    if (err) {
        return 1;
    }
    return co_run_blocking(wait_for_end, NULL);
}

static void coroutine_fn run(void *opaque)
{
    Run *r = opaque;
    PermPair perm = {.taken = PERM_CONSISTENT_READ, .shared = PERM_ALL & ~PERM_RESIZE};
    json_t *json = json_loads(r->options, 0, NULL);
    g_autoptr(GError) err = NULL;
    BlockBackend *be = NULL;
    BlockNode *node = json ? node_co_open_json(json, NULL, &err) : NULL;

    perm.taken |= strcmp(r->use, "write") == 0 ? PERM_WRITE : 0;
    if (node && strcmp(r->use, "none") != 0) {
        be = backend_new(NULL, perm, NULL, NULL, &err);
        if (be) {
            (void)backend_co_insert(be, node, &err); /* err says it */
        }
    }
    r->status = say(err);
    if (be) {
        backend_co_free(be);
    }
    node_co_unref(node);
    json_decref(json);
}

int main(int argc, char **argv)
{
    Run r = {.options = argv[1], .use = argv[2]};
    g_autoptr(GError) err = NULL;
    Loop *loop;

    if (argc != 3) {
        fprintf(stderr, "usage: hold-image OPTIONS none|read|write\n");
        return 2;
    }
    drivers_register();
    loop = loop_new(LOOP_POLLER_AUTO, &err);
    if (!loop) {
        fprintf(stderr, "%s\n", err->message);
        return 2;
    }
    loop_run_coroutine(loop, run, &r);
    while (loop_step(loop, false)) {
        /* what was closed gets to end */
    }
    loop_free(loop);
    return r.status;
}
