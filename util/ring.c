/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ring.
 *
 * COOP_TASKRUN lets the kernel post completions when we enter it anyway, as in
 * epoll_wait(), instead of interrupting us; with SINGLE_ISSUER it was the
 * cheapest of the set-ups measured (DEFER_TASKRUN with the ring's descriptor
 * in an epoll set loses wake-ups). Kernels before 6.0 and 5.19 refuse these
 * flags and get none.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "ring.h"
#include "util/error.h"

#if CONFIG_LIBURING

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sanitizer.h"

#define SQ_ENTRIES 256
#define CQ_ENTRIES 4096 /* more in flight only costs the kernel a list */

struct Ring {
    LoopSource source; /* the eventfd */
    Loop *loop;
    struct io_uring uring;
    unsigned queued;    /* in the submission queue, not yet handed over */
    unsigned in_flight; /* handed over or queued, not completed */
};

static bool ring_has_operations(struct io_uring *uring)
{
    const int needed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
    bool ok = probe != NULL;

    for (size_t i = 0; ok && i < G_N_ELEMENTS(needed); i++) {
        ok = io_uring_opcode_supported(probe, needed[i]);
    }
    io_uring_free_probe(probe);
    return ok;
}

static int uring_init(struct io_uring *uring)
{
    const unsigned flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
                              IORING_SETUP_COOP_TASKRUN, 0};
    int r = -EINVAL;

    for (size_t i = 0; i < G_N_ELEMENTS(flags) && r == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE,
            .cq_entries = CQ_ENTRIES,
        };

        r = io_uring_queue_init_params(SQ_ENTRIES, uring, &params);
    }
    if (r == 0 && !ring_has_operations(uring)) {
        io_uring_queue_exit(uring);
        r = -EOPNOTSUPP;
    }
    return r;
}

static void take_completions(Ring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&ring->uring, head, cqe) {
        IoOp *op = io_uring_cqe_get_data(cqe);

        op->result = cqe->res;
        co_wake(op->co);
        n++;
    }
    if (n) {
        io_uring_cq_advance(&ring->uring, n);
        ring->in_flight -= n;
    }
}

static void ring_dispatch(LoopSource *src, uint32_t events)
{
    take_completions(container_of(src, Ring, source));
}

/* Room for completions comes from taking some: the kernel says EBUSY without it. */
static void submit(Ring *ring)
{
    while (ring->queued) {
        int r = io_uring_submit(&ring->uring);

        if (r >= 0) {
            ring->queued -= r;
        } else {
            assert(r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
        }
        take_completions(ring);
        if (r == 0 || r == -ENOMEM || r == -EAGAIN) {
            return; /* with the next turn */
        }
    }
}

void ring_flush(Ring *ring)
{
    if (ring->queued) {
        submit(ring);
    }
    if (ring->in_flight) {
        if (unlikely(io_uring_cq_has_overflow(&ring->uring))) {
            io_uring_get_events(&ring->uring);
        }
        take_completions(ring);
    }
}

bool ring_must_retry(const Ring *ring)
{
    return ring->queued > 0;
}

static void prepare(struct io_uring_sqe *sqe, IoOp *op)
{
    switch (op->kind) {
    case IO_OP_READ:
        io_uring_prep_readv(sqe, op->fd, op->iov, op->n_iov, op->offset);
        break;
    case IO_OP_WRITE:
        io_uring_prep_writev2(sqe, op->fd, op->iov, op->n_iov, op->offset, op->mode);
        break;
    case IO_OP_FDATASYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_OP_FALLOCATE:
        io_uring_prep_fallocate(sqe, op->fd, op->mode, op->offset, op->bytes);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

static void mark_read_memory(const IoOp *op)
{
    size_t left = op->result > 0 ? op->result : 0;

    for (int i = 0; i < op->n_iov && left; i++) {
        size_t n = MIN(left, op->iov[i].iov_len);

        san_mem_defined(op->iov[i].iov_base, n);
        left -= n;
    }
}

ssize_t coroutine_fn ring_co_do(Ring *ring, IoOp *op)
{
    do {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

        while (unlikely(!sqe)) {
            submit(ring);
            sqe = io_uring_get_sqe(&ring->uring);
            if (!sqe) {
                co_reschedule();
            }
        }
        prepare(sqe, op);
        op->co = co_self();
        ring->queued++;
        ring->in_flight++;
        co_yield();
    } while (op->result == -EINTR || op->result == -EAGAIN);
    if (op->kind == IO_OP_READ) {
        mark_read_memory(op);
    }
    return op->result;
}

/* Return: 0 or -errno. */
static int ring_watch(Ring *ring)
{
    int r;

    ring->source.dispatch = ring_dispatch;
    ring->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ring->source.fd < 0) {
        return -errno;
    }
    r = io_uring_register_eventfd(&ring->uring, ring->source.fd);
    if (r == 0) {
        r = ring->loop->ops->add(ring->loop, &ring->source, EPOLLIN);
    }
    if (r < 0) {
        close(ring->source.fd);
    }
    return r;
}

Ring *ring_new(Loop *loop, GError **errp)
{
    Ring *ring = g_new0(Ring, 1);
    int r = uring_init(&ring->uring);

    ring->loop = loop;
    if (r < 0) {
        g_free(ring);
        fail_errno(errp, -r, "io_uring is not available");
        return NULL;
    }
    r = ring_watch(ring);
    if (r < 0) {
        io_uring_queue_exit(&ring->uring);
        g_free(ring);
        fail_errno(errp, -r, "Could not watch the io_uring");
        return NULL;
    }
    return ring;
}

void ring_free(Ring *ring)
{
    if (!ring) {
        return;
    }
    assert(ring->in_flight == 0);
    ring->loop->ops->del(ring->loop, &ring->source);
    io_uring_queue_exit(&ring->uring);
    close(ring->source.fd);
    g_free(ring);
}

#else /* !CONFIG_LIBURING */

Ring *ring_new(Loop *loop, GError **errp)
{
    fail(errp, "This build has no io_uring");
    return NULL;
}

void ring_free(Ring *ring)
{
}

ssize_t coroutine_fn ring_co_do(Ring *ring, IoOp *op)
{
    return -ENOSYS;
}

void ring_flush(Ring *ring)
{
}

bool ring_must_retry(const Ring *ring)
{
    return false;
}

#endif
