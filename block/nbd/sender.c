/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdSender: see sender.h.
 */
#include "block/nbd/sender.h"

#define MAX_VECTORS 192
#define MAX_BATCH   (1 * MiB) /* so that the first of many large ones is freed early */

void nbd_sender_init(NbdSender *s, Stream *stream, NbdSentFn *sent, void *opaque)
{
    *s = (NbdSender){.stream = stream, .sent = sent, .opaque = opaque};
    s->tail = &s->first;
}

/* Add @out to @v if it fits. A body of many vectors may go alone: then false on *ret_whole. */
static int add_message(const NbdOut *out, struct iovec *v, int n, size_t *bytes)
{
    int used;
    size_t sum = 0;

    if (n + 1 + (out->body.bytes > 0) > MAX_VECTORS) {
        return 0;
    }
    v[n] = out->head;
    used = out->body.bytes ? iov_to_sys(out->body, v + n + 1, MAX_VECTORS - n - 1) : 0;
    for (int i = 0; i < used; i++) {
        sum += v[n + 1 + i].iov_len;
    }
    if (sum != out->body.bytes) {
        return 0;
    }
    *bytes += out->head.iov_len + sum;
    return 1 + used;
}

/* Take messages off the queue for one write. */
static NbdOut *take_batch(NbdSender *s, struct iovec *v, int *ret_n)
{
    NbdOut *batch = s->first, *last = NULL;
    size_t bytes = 0;
    int n = 0;

    for (NbdOut *o = s->first; o && bytes < (size_t)MAX_BATCH; o = o->next) {
        int used = add_message(o, v, n, &bytes);

        if (used == 0) {
            break;
        }
        n += used;
        last = o;
    }
    if (!last) {
        last = batch; /* more vectors than fit: sent in two writes */
    }
    s->first = last->next;
    if (!s->first) {
        s->tail = &s->first;
    }
    last->next = NULL;
    *ret_n = n;
    return batch;
}

static int coroutine_fn send_batch(NbdSender *s, NbdOut *batch, struct iovec *v, int n)
{
    int ret;

    if (n > 0) {
        return stream_co_writev_all(s->stream, iov_of(v, n));
    }
    ret = stream_co_write_all(s->stream, batch->head.iov_base, batch->head.iov_len);
    return ret < 0 ? ret : stream_co_writev_all(s->stream, batch->body);
}

static void tell_sent(NbdSender *s, NbdOut *batch)
{
    while (batch) {
        NbdOut *next = batch->next;

        s->sent(batch, s->opaque);
        batch = next;
    }
}

static void coroutine_fn sender_co(void *opaque)
{
    NbdSender *s = opaque;
    struct iovec v[MAX_VECTORS];

    while (s->first) {
        int n, ret;
        NbdOut *batch = take_batch(s, v, &n);

        if (!s->error) {
            s->stuck_since_ns = loop_now_ns();
            ret = send_batch(s, batch, v, n);
            s->stuck_since_ns = 0;
            if (ret < 0) {
                s->error = ret;
                stream_shutdown(s->stream);
            }
        }
        tell_sent(s, batch);
    }
    s->running = false;
    co_queue_wake_all(&s->idle);
}

void nbd_sender_push(NbdSender *s, NbdOut *out)
{
    out->next = NULL;
    *s->tail = out;
    s->tail = &out->next;
    if (!s->running) {
        s->running = true;
        co_spawn(sender_co, s);
    }
}

void coroutine_fn nbd_sender_co_join(NbdSender *s)
{
    while (s->running) {
        co_queue_wait(&s->idle);
    }
}
