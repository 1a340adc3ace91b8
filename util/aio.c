/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Aio. */
#include "config.h"

#include <errno.h>

#include "aio.h"
#include "util/error.h"

#if CONFIG_LIBAIO

#include <libaio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sanitizer.h"

#define MAX_IN_FLIGHT 1024 /* of /proc/sys/fs/aio-max-nr, which all programs share */
#define BATCH         128

typedef struct AioOp AioOp;
struct AioOp { /* on the stack of the one that waits */
    struct iocb iocb;
    IoOp *op;
    AioOp *next;
};

struct Aio {
    LoopSource source; /* the eventfd */
    Loop *loop;
    io_context_t ctx;
    AioOp *head, **tail; /* gathered */
    unsigned in_flight;
};

/* io_submit() refused the first of the queue: it, and it alone, has failed. */
static void fail_first(Aio *aio, int error)
{
    AioOp *a = aio->head;

    aio->head = a->next;
    if (!aio->head) {
        aio->tail = &aio->head;
    }
    a->op->result = error;
    co_wake(a->op->co);
}

static void drop_first(Aio *aio, int n)
{
    aio->in_flight += n;
    while (n--) {
        aio->head = aio->head->next;
    }
    if (!aio->head) {
        aio->tail = &aio->head;
    }
}

void aio_flush(Aio *aio)
{
    while (aio->head && aio->in_flight < MAX_IN_FLIGHT) {
        struct iocb *batch[BATCH];
        unsigned room = MIN(BATCH, MAX_IN_FLIGHT - aio->in_flight);
        unsigned n = 0;
        int r;

        for (AioOp *a = aio->head; a && n < room; a = a->next) {
            batch[n++] = &a->iocb;
        }
        r = io_submit(aio->ctx, n, batch);
        if (r > 0) {
            drop_first(aio, r);
        } else if (r == -EAGAIN && aio->in_flight) {
            return; /* completions make room and bring us back */
        } else if (r < 0 && r != -EINTR) {
            fail_first(aio, r);
        }
    }
}

static void aio_dispatch(LoopSource *src, uint32_t events)
{
    Aio *aio = container_of(src, Aio, source);
    struct io_event done[BATCH];
    struct timespec zero = {0};
    int n;

    do {
        n = io_getevents(aio->ctx, 0, BATCH, done, &zero);
        for (int i = 0; i < n; i++) {
            AioOp *a = container_of(done[i].obj, AioOp, iocb);

            a->op->result = (ssize_t)done[i].res;
            co_wake(a->op->co);
            aio->in_flight--;
        }
    } while (n == BATCH);
}

static void mark_read_memory(const IoOp *op)
{
    for (int i = 0; i < op->n_iov; i++) {
        san_mem_defined(op->iov[i].iov_base, op->iov[i].iov_len);
    }
}

ssize_t coroutine_fn aio_co_do(Aio *aio, IoOp *op)
{
    AioOp a = {.op = op};

    if (op->kind == IO_OP_READ) {
        io_prep_preadv(&a.iocb, op->fd, op->iov, op->n_iov, op->offset);
    } else {
        assert(op->kind == IO_OP_WRITE);
        io_prep_pwritev2(&a.iocb, op->fd, op->iov, op->n_iov, op->offset, op->mode);
    }
    io_set_eventfd(&a.iocb, aio->source.fd);
    op->co = co_self();
    *aio->tail = &a;
    aio->tail = &a.next;
    co_yield();
    if (op->kind == IO_OP_READ && op->result > 0) {
        mark_read_memory(op);
    }
    return op->result;
}

Aio *aio_new(Loop *loop, GError **errp)
{
    Aio *aio = g_new0(Aio, 1);
    int r = io_setup(MAX_IN_FLIGHT, &aio->ctx);

    aio->loop = loop;
    aio->tail = &aio->head;
    aio->source.dispatch = aio_dispatch;
    if (r < 0) {
        g_free(aio);
        fail_errno(errp, -r, "Linux native AIO is not available");
        return NULL;
    }
    aio->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = aio->source.fd < 0 ? -errno : loop->ops->add(loop, &aio->source, EPOLLIN);
    if (r < 0) {
        if (aio->source.fd >= 0) {
            close(aio->source.fd);
        }
        io_destroy(aio->ctx);
        g_free(aio);
        fail_errno(errp, -r, "Could not watch Linux native AIO");
        return NULL;
    }
    return aio;
}

void aio_free(Aio *aio)
{
    if (!aio) {
        return;
    }
    assert(aio->in_flight == 0 && !aio->head);
    aio->loop->ops->del(aio->loop, &aio->source);
    io_destroy(aio->ctx);
    close(aio->source.fd);
    g_free(aio);
}

#else /* !CONFIG_LIBAIO */

Aio *aio_new(Loop *loop, GError **errp)
{
    fail(errp, "This build has no libaio");
    return NULL;
}

void aio_free(Aio *aio)
{
}

ssize_t coroutine_fn aio_co_do(Aio *aio, IoOp *op)
{
    return -ENOSYS;
}

void aio_flush(Aio *aio)
{
}

#endif
