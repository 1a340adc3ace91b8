/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IoOp: one file operation on its way through an engine, on the stack of the
 * coroutine that waits for it.
 */
#ifndef UTIL_IO_OP_H
#define UTIL_IO_OP_H

#include <sys/uio.h>

#include "util/coroutine.h"

typedef enum IoOpKind {
    IO_OP_READ,
    IO_OP_WRITE,
    IO_OP_FDATASYNC,
    IO_OP_FALLOCATE,
} IoOpKind;

typedef struct IoOp IoOp;
struct IoOp {
    IoOpKind kind;
    int fd;
    int64_t offset;
    int64_t bytes;           /* fallocate */
    int mode;                /* fallocate: its mode; read, write: RWF_* */
    const struct iovec *iov; /* read, write; stays until the end */
    int n_iov;

    ssize_t result; /* as the system call: >= 0 or -errno */
    Coroutine *co;
    IoOp *next; /* queue of an engine */
};

/** io_op_run() - the plain system call, again while interrupted */
ssize_t io_op_run(const IoOp *op);

#endif
