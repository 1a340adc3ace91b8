/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The little language of tandem-io and of the monitor's qemu-io: "write -P 1 0
 * 64k". One interpreter works on one backend, whose permissions it raises as a
 * command needs.
 */
#ifndef IMAGE_IO_CMD_H
#define IMAGE_IO_CMD_H

#include <glib.h>
#include <stdio.h>

#include "block/backend.h"

typedef struct IoCmd IoCmd;
typedef struct IoCommand IoCommand;

struct IoCommand {
    const char *name, *alias; /* @alias may be NULL */
    /* A coroutine_fn; argv[0] is the name. 0 or -errno, told already. */
    int (*run)(IoCmd *io, int argc, char **argv);
    int min_args, max_args;   /* -1: any number */
    bool any_time;            /* works without an open file */
    Perm perm;
    const char *args, *summary, *help; /* @args, @help may be NULL */
};

/**
 * io_cmd_new() - without a file
 * @extra, @n_extra: commands besides those that the language has; borrowed
 */
IoCmd *io_cmd_new(const char *program, FILE *out, FILE *err, const IoCommand *extra,
                  size_t n_extra, void *opaque);
/** io_cmd_co_free() - once all asynchronous requests are done; the backend stays the caller's */
void coroutine_fn io_cmd_co_free(IoCmd *io);

/** io_cmd_co_set_backend() - waits for asynchronous requests first; NULL: no file */
void coroutine_fn io_cmd_co_set_backend(IoCmd *io, BlockBackend *be);
BlockBackend *io_cmd_backend(const IoCmd *io);
void *io_cmd_opaque(const IoCmd *io);

/** io_cmd_co_run() - one line; 0 or -errno, told already. An empty line does nothing. */
int coroutine_fn io_cmd_co_run(IoCmd *io, const char *line);

/** io_cmd_set_reports() - what io_cmd_report() tells goes to @reports, and names no program */
void io_cmd_set_reports(IoCmd *io, FILE *reports);
/** io_cmd_report() - "PROGRAM: message" on @err; frees @error */
void io_cmd_report(IoCmd *io, GError *error);
/** io_cmd_usage() - the command's line of help; returns -EINVAL */
int io_cmd_usage(IoCmd *io, const char *name);

#endif
