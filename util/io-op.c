/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IoOp by plain system calls. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "io-op.h"

static ssize_t call(const IoOp *op)
{
    switch (op->kind) {
    case IO_OP_READ:
        return preadv2(op->fd, op->iov, op->n_iov, op->offset, op->mode);
    case IO_OP_WRITE:
        return pwritev2(op->fd, op->iov, op->n_iov, op->offset, op->mode);
    case IO_OP_FDATASYNC:
        return fdatasync(op->fd);
    case IO_OP_FALLOCATE:
        return fallocate(op->fd, op->mode, op->offset, op->bytes);
    }
    abort();
}

ssize_t io_op_run(const IoOp *op)
{
    ssize_t r;

    do {
        r = call(op);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}
