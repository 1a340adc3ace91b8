/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the io language share. */
#ifndef IMAGE_IO_CMD_INT_H
#define IMAGE_IO_CMD_INT_H

#include "image/io-cmd.h"
#include "util/error.h"
#include "util/iov.h"
#include "util/sync.h"

struct IoCmd {
    BlockBackend *be;
    FILE *out, *err;
    const char *program;
    FILE *reports; /* without @program */
    const IoCommand *extra;
    size_t n_extra;
    void *opaque;
    unsigned in_flight; /* asynchronous requests */
    CoQueue idle;
};

extern const IoCommand io_rw_commands[], io_misc_commands[];
extern const size_t n_io_rw_commands, n_io_misc_commands;

/** io_size() - a number with an optional unit; told if it is none. -EINVAL or -ERANGE then */
int64_t io_size(IoCmd *io, const char *text);
/** io_length() - the same, at most what one request takes; @but is said of that limit */
int64_t io_length(IoCmd *io, const char *text, const char *but);
/** io_byte() - 0 to 255 or -EINVAL, told */
int io_byte(IoCmd *io, const char *text);

typedef struct IoReport {
    const char *verb; /* "read" */
    int64_t offset, total, count;
    int ops;
    int64_t ns;
    bool machine;     /* -C */
} IoReport;

void io_report(IoCmd *io, const IoReport *r);
void io_dump(IoCmd *io, const uint8_t *buf, int64_t offset, int64_t bytes);
void coroutine_fn io_co_wait_idle(IoCmd *io);

#endif
