/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of tandem-nbd share. */
#ifndef TOOLS_TANDEM_NBD_H
#define TOOLS_TANDEM_NBD_H

#include <glib.h>

#include "image/open.h"

typedef struct NbdToolOptions {
    /* Where. */
    char *bind, *port, *socket; /* NULL: default */
    /* What. */
    ImageSpec image; /* its texts are the command line's */
    char *name, *description;
    bool allocation_depth;
    uint64_t offset; /* where in the image the export begins */
    /* How. */
    unsigned shared; /* 0: no limit */
    unsigned handshake_limit;
    bool persistent, verbose, list, fork;
    char *pid_file;
} NbdToolOptions;

/**
 * options_parse() - the command line; help and version are printed and exit
 *
 * False and @errp if there is something we do not have; what was read until then is in @o.
 */
bool options_parse(int argc, char **argv, NbdToolOptions *o, GError **errp);

/** serve_co_run() - serve o->image until told to end; @ready is called once clients can come */
bool coroutine_fn
serve_co_run(const NbdToolOptions *o, bool (*ready)(GError **errp), GError **errp);

/** serve_stop() - end serve_co_run(). Plain. */
void serve_stop(void);

/** list_co_run() - print the exports of a server */
bool coroutine_fn list_co_run(const NbdToolOptions *o, GError **errp);

#endif
