/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream-pair: a connection inside the process, with the manners of a network.
 *
 * Each direction is a Pipe. What is written becomes chunks with a time of
 * arrival; they fly, arrive in order (deliver()), and wait to be read. Arrival
 * is the one event at which everything else happens: bytes count towards a
 * cut, the end of the stream is noticed, a stall holds everything back.
 *
 * Invariants, until it breaks: used = bytes flying + bytes arrived and unread <= capacity;
 * flying chunks are ordered by arrival; the timer is armed exactly while a
 * chunk flies, nothing is stalled and the connection is not broken.
 *
 * The Pair lives until both ends are closed.
 */
#include <errno.h>
#include <string.h>

#include "stream-internal.h"
#include "util/prng.h"
#include "util/sync.h"

#define DEFAULT_CAPACITY ((size_t)(256 * KiB))
/* A long write arrives bit by bit, as on a wire. */
#define CHUNK_MAX ((size_t)(64 * KiB))

typedef struct Chunk {
    int64_t arrive_ns;
    bool end; /* the writer shut down; no bytes */
    size_t bytes, taken;
    uint8_t data[];
} Chunk;

typedef struct Pair Pair;
typedef struct End End;

typedef struct Pipe {
    End *reader, *writer;
    GQueue flying, arrived; /* of Chunk */
    size_t used;
    int64_t line_free_ns; /* when the wire has sent all that was written */
    uint64_t cut_left;    /* bytes that still arrive before the cut; UINT64_MAX: no cut */
    bool ended;           /* the end has arrived */
    LoopTimer timer;
    CoQueue readable, writable; /* at most one waits in each */
} Pipe;

struct End {
    Stream stream;
    Pair *pair;
    Pipe *in, *out;
};

struct Pair {
    End ends[2];
    Pipe pipes[2]; /* [i]: from end i to the other */
    int64_t latency_ns;
    uint64_t bytes_per_s;
    size_t capacity;
    bool short_reads;
    Prng prng;
    bool stalled;
    bool broken;
    int open; /* ends not closed */
};

static End *end_of(Stream *s)
{
    return container_of(s, End, stream);
}

/* --- a pipe --- */

static void chunks_clear(GQueue *chunks)
{
    g_queue_clear_full(chunks, g_free);
}

static void pipe_wake(Pipe *p)
{
    co_queue_wake_all(&p->readable);
    co_queue_wake_all(&p->writable);
}

/* What flies is lost; what has arrived can still be read. */
static void pair_break(Pair *pair)
{
    pair->broken = true;
    for (int i = 0; i < 2; i++) {
        timer_cancel(&pair->pipes[i].timer);
        chunks_clear(&pair->pipes[i].flying);
        pipe_wake(&pair->pipes[i]);
    }
}

/* Nobody will read it: make room for the writer instead of letting him wait for ever. */
static void chunk_discard(Pipe *p, Chunk *c)
{
    assert(p->used >= c->bytes);
    p->used -= c->bytes;
    co_queue_wake_all(&p->writable);
    g_free(c);
}

static void chunk_arrive(Pair *pair, Pipe *p, Chunk *c)
{
    c->bytes = MIN(c->bytes, p->cut_left); /* what is behind the cut does not arrive */
    if (p->cut_left != UINT64_MAX) {
        p->cut_left -= c->bytes;
    }
    if (c->end) {
        p->ended = true;
        co_queue_wake_all(&p->reader->out->writable); /* he who ended reads no more either */
        g_free(c);
    } else if (p->reader->stream.down || c->bytes == 0) {
        chunk_discard(p, c);
    } else {
        g_queue_push_tail(&p->arrived, c);
    }
    co_queue_wake_all(&p->readable);
}

/* Let arrive what is due, and set the timer for the rest. */
static void deliver(Pair *pair, Pipe *p)
{
    int64_t now_ns = loop_now_ns();

    while (!pair->stalled && !pair->broken && !g_queue_is_empty(&p->flying)) {
        Chunk *c = g_queue_peek_head(&p->flying);

        if (c->arrive_ns > now_ns) {
            timer_arm(&p->timer, c->arrive_ns);
            return;
        }
        g_queue_pop_head(&p->flying);
        chunk_arrive(pair, p, c);
        if (p->cut_left == 0) {
            pair_break(pair);
        }
    }
    timer_cancel(&p->timer);
}

static void pipe_timer(void *opaque)
{
    Pipe *p = opaque;

    deliver(p->writer->pair, p);
}

static void pipe_send(Pair *pair, Pipe *p, Chunk *c)
{
    int64_t start_ns = MAX(p->line_free_ns, loop_now_ns());

    p->line_free_ns = start_ns;
    if (pair->bytes_per_s > 0) {
        unsigned __int128 ns = (unsigned __int128)c->bytes * NS_PER_S / pair->bytes_per_s;

        p->line_free_ns += MIN(ns, (unsigned __int128)(3600 * NS_PER_S));
    }
    c->arrive_ns = p->line_free_ns + pair->latency_ns;
    p->used += c->bytes;
    g_queue_push_tail(&p->flying, c);
    deliver(pair, p);
}

/* --- reading --- */

/* Move what has arrived into @iov, oldest first. */
static size_t take_arrived(Pipe *p, IoVec iov)
{
    size_t done = 0;

    while (done < iov.bytes && !g_queue_is_empty(&p->arrived)) {
        Chunk *c = g_queue_peek_head(&p->arrived);
        size_t n = iov_copy_in(iov_slice(iov, done, iov.bytes - done), c->data + c->taken,
                               c->bytes - c->taken);

        c->taken += n;
        done += n;
        if (c->taken == c->bytes) {
            g_free(g_queue_pop_head(&p->arrived));
        }
    }
    return done;
}

static ssize_t pair_try_readv(Stream *s, IoVec iov)
{
    End *end = end_of(s);
    Pair *pair = end->pair;
    Pipe *p = end->in;

    if (s->down) {
        return -ESHUTDOWN;
    }
    if (!g_queue_is_empty(&p->arrived)) {
        size_t max = pair->short_reads ? 1 + prng_below(&pair->prng, iov.bytes) : iov.bytes;
        size_t n = take_arrived(p, iov_slice(iov, 0, max));

        p->used -= n;
        co_queue_wake_all(&p->writable);
        return n;
    }
    if (pair->broken) {
        return -ECONNRESET;
    }
    return p->ended ? 0 : -EAGAIN;
}

static ssize_t coroutine_fn pair_co_readv(Stream *s, IoVec iov)
{
    for (;;) {
        ssize_t n = pair_try_readv(s, iov);

        if (n != -EAGAIN) {
            return n;
        }
        co_queue_wait(&end_of(s)->in->readable);
    }
}

/* --- writing --- */

static int write_error(const End *end)
{
    if (end->stream.down) {
        return -ESHUTDOWN;
    }
    if (end->pair->broken) {
        return -ECONNRESET;
    }
    return end->in->ended ? -EPIPE : 0;
}

static Chunk *chunk_new(IoVec iov)
{
    Chunk *c = g_malloc(sizeof(*c) + iov.bytes);

    *c = (Chunk){.bytes = iov.bytes};
    iov_copy_out(iov, c->data, iov.bytes);
    return c;
}

static int coroutine_fn pair_co_writev(Stream *s, IoVec iov)
{
    End *end = end_of(s);
    Pair *pair = end->pair;
    Pipe *p = end->out;

    while (iov.bytes > 0) {
        size_t room = pair->capacity - p->used;
        size_t n = MIN(MIN(iov.bytes, room), CHUNK_MAX);
        int r = write_error(end);

        if (r < 0) {
            return r;
        }
        if (n == 0) {
            co_queue_wait(&p->writable);
            continue;
        }
        pipe_send(pair, p, chunk_new(iov_slice(iov, 0, n)));
        iov = iov_slice(iov, n, iov.bytes - n);
    }
    return 0;
}

/* --- the end --- */

static void pair_shutdown(Stream *s)
{
    End *end = end_of(s);
    Pair *pair = end->pair;

    for (Chunk *c; (c = g_queue_pop_head(&end->in->arrived)) != NULL;) {
        c->bytes -= c->taken;
        chunk_discard(end->in, c);
    }
    pipe_wake(end->in);
    pipe_wake(end->out);
    if (!pair->broken) {
        Chunk *c = g_malloc0(sizeof(*c));

        c->end = true;
        pipe_send(pair, end->out, c);
    }
}

static void pair_free(Stream *s)
{
    Pair *pair = end_of(s)->pair;

    if (--pair->open > 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        timer_cancel(&pair->pipes[i].timer);
        chunks_clear(&pair->pipes[i].flying);
        chunks_clear(&pair->pipes[i].arrived);
    }
    g_free(pair);
}

static const StreamOps pair_ops = {
    .co_readv = pair_co_readv,
    .try_readv = pair_try_readv,
    .co_writev = pair_co_writev,
    .shutdown = pair_shutdown,
    .free = pair_free,
};

/* --- what tests call --- */

static void pair_connect(Pair *pair, int i)
{
    End *end = &pair->ends[i];
    Pipe *p = &pair->pipes[i];

    stream_init(&end->stream, &pair_ops, g_strdup(i == 0 ? "pair:b" : "pair:a"));
    end->pair = pair;
    end->out = p;
    end->in = &pair->pipes[!i];
    p->writer = end;
    p->reader = &pair->ends[!i];
    p->cut_left = UINT64_MAX;
    timer_init(&p->timer, pipe_timer, p);
}

void stream_pair(const StreamPairOptions *o, Stream **ret_a, Stream **ret_b)
{
    Pair *pair = g_new0(Pair, 1);

    pair->latency_ns = o->latency_ns;
    pair->bytes_per_s = o->bytes_per_s;
    pair->capacity = o->capacity > 0 ? o->capacity : DEFAULT_CAPACITY;
    pair->short_reads = o->seed != 0;
    prng_init(&pair->prng, o->seed);
    pair->open = 2;
    pair_connect(pair, 0);
    pair_connect(pair, 1);
    *ret_a = &pair->ends[0].stream;
    *ret_b = &pair->ends[1].stream;
}

static Pair *pair_of(Stream *s)
{
    assert(s->ops == &pair_ops);
    return end_of(s)->pair;
}

void stream_pair_cut_after(Stream *s, uint64_t bytes)
{
    Pair *pair = pair_of(s);

    end_of(s)->out->cut_left = bytes;
    if (bytes == 0 && !pair->broken) {
        pair_break(pair);
    }
}

void stream_pair_stall(Stream *s, bool stalled)
{
    Pair *pair = pair_of(s);

    pair->stalled = stalled;
    deliver(pair, &pair->pipes[0]);
    deliver(pair, &pair->pipes[1]);
}
