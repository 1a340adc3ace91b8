/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream: the in-process pair in virtual time, and what all kinds share. */
#include "util/stream.h"

#include <errno.h>
#include <string.h>

#include "util/prng.h"
#include "util/sync.h"
#include "vtest.h"

static Stream *a, *b;

static void pair_start(StreamPairOptions o)
{
    stream_pair(&o, &a, &b);
}

static void pair_end(void)
{
    stream_close(a);
    stream_close(b);
}

static void coroutine_fn test_bytes_arrive_after_the_latency(void)
{
    char buf[8];
    int64_t start_ns = loop_now_ns();

    pair_start((StreamPairOptions){.latency_ns = 5 * NS_PER_MS});
    g_assert_cmpint(stream_co_write_all(a, "hello", 5), ==, 0);
    g_assert_cmpint(stream_try_read(b, buf, 8), ==, -EAGAIN);
    g_assert_cmpint(stream_co_read(b, buf, 8), ==, 5);
    g_assert_cmpmem(buf, 5, "hello", 5);
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 5 * NS_PER_MS);
    pair_end();
}

static void coroutine_fn test_rate_delays_what_follows(void)
{
    char buf[2000] = {0};
    int64_t start_ns = loop_now_ns();

    pair_start((StreamPairOptions){.latency_ns = NS_PER_MS, .bytes_per_s = 1000000});
    g_assert_cmpint(stream_co_write_all(a, buf, 1000), ==, 0);
    g_assert_cmpint(stream_co_write_all(a, buf, 1000), ==, 0);
    g_assert_cmpint(stream_co_read_all(b, buf, 2000), ==, 0);
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 3 * NS_PER_MS);
    pair_end();
}

static void coroutine_fn writer_entry(void *done)
{
    char buf[300] = {0};

    g_assert_cmpint(stream_co_write_all(a, buf, sizeof(buf)), ==, 0);
    *(bool *)done = true;
}

static void coroutine_fn test_full_pair_holds_the_writer_back(void)
{
    char buf[300];
    bool done = false;

    pair_start((StreamPairOptions){.capacity = 100});
    co_spawn(writer_entry, &done);
    co_sleep_ns(NS_PER_MS);
    g_assert_false(done);
    g_assert_cmpint(stream_co_read(b, buf, 300), ==, 100);
    co_sleep_ns(NS_PER_MS);
    g_assert_false(done);
    g_assert_cmpint(stream_co_read_all(b, buf, 200), ==, 0);
    co_sleep_ns(NS_PER_MS);
    g_assert_true(done);
    pair_end();
}

static void coroutine_fn test_end_of_stream_comes_behind_the_data(void)
{
    char buf[8];

    pair_start((StreamPairOptions){.latency_ns = NS_PER_MS});
    g_assert_cmpint(stream_co_write_all(a, "bye", 3), ==, 0);
    stream_close(a);
    g_assert_cmpint(stream_co_write_all(b, "x", 1), ==, 0); /* not known here yet */
    g_assert_cmpint(stream_co_read_all(b, buf, 3), ==, 0);
    g_assert_cmpint(stream_co_read(b, buf, 8), ==, 0);
    g_assert_cmpint(stream_co_read_all(b, buf, 1), ==, -EPIPE);
    g_assert_cmpint(stream_try_read(b, buf, 1), ==, 0);
    g_assert_cmpint(stream_co_write_all(b, "x", 1), ==, -EPIPE);
    stream_close(b);
}

static void coroutine_fn test_stall_holds_everything_until_it_ends(void)
{
    char buf[4];
    int64_t start_ns = loop_now_ns();

    pair_start((StreamPairOptions){.latency_ns = NS_PER_MS});
    g_assert_cmpint(stream_co_write_all(a, "1", 1), ==, 0);
    stream_pair_stall(b, true);
    g_assert_cmpint(stream_co_write_all(b, "2", 1), ==, 0);
    co_sleep_ns(10 * NS_PER_MS);
    g_assert_cmpint(stream_try_read(a, buf, 1), ==, -EAGAIN);
    g_assert_cmpint(stream_try_read(b, buf, 1), ==, -EAGAIN);
    stream_pair_stall(b, false);
    g_assert_cmpint(stream_co_read(a, buf, 1), ==, 1);
    g_assert_cmpint(stream_co_read(b, buf, 1), ==, 1);
    g_assert_cmpint(loop_now_ns(), ==, start_ns + 10 * NS_PER_MS);
    pair_end();
}

static void coroutine_fn test_short_reads_give_all_bytes(void)
{
    char out[1000], in[1000];
    int reads = 0;
    Prng p;

    prng_init(&p, 1);
    prng_fill(&p, out, sizeof(out));
    pair_start((StreamPairOptions){.seed = 7});
    g_assert_cmpint(stream_co_write_all(a, out, sizeof(out)), ==, 0);
    for (size_t done = 0; done < sizeof(in); reads++) {
        ssize_t n = stream_co_read(b, in + done, sizeof(in) - done);

        g_assert_cmpint(n, >, 0);
        done += n;
    }
    g_assert_cmpmem(out, sizeof(out), in, sizeof(in));
    g_assert_cmpint(reads, >, 3);
    pair_end();
}

/* --- cuts --- */

static void coroutine_fn cut_at(size_t cut, size_t total)
{
    uint8_t buf[64] = {0};
    size_t got = 0;
    ssize_t n;

    pair_start((StreamPairOptions){.latency_ns = 100, .seed = 1 + cut});
    stream_pair_cut_after(a, cut);
    for (size_t i = 0; i < total; i++) {
        int r = stream_co_write_all(a, buf, 1);

        g_assert_true(r == 0 || (r == -ECONNRESET && cut == 0));
    }
    while ((n = stream_co_read(b, buf, sizeof(buf))) > 0) {
        got += n;
    }
    g_assert_cmpint(n, ==, -ECONNRESET);
    g_assert_cmpuint(got, ==, cut);
    g_assert_cmpint(stream_co_write_all(b, buf, 1), ==, -ECONNRESET);
    g_assert_cmpint(stream_co_read(a, buf, 1), ==, -ECONNRESET);
    pair_end();
}

static void coroutine_fn test_cut_at_each_byte(void)
{
    for (size_t cut = 0; cut <= 40; cut++) {
        cut_at(cut, 40);
    }
}

static void coroutine_fn test_cut_tears_a_long_write(void)
{
    g_autofree char *buf = g_malloc0(200000);

    pair_start((StreamPairOptions){.latency_ns = 100});
    stream_pair_cut_after(a, 100001);
    g_assert_cmpint(stream_co_write_all(a, buf, 200000), ==, 0);
    g_assert_cmpint(stream_co_read_all(b, buf, 100001), ==, 0);
    g_assert_cmpint(stream_co_read(b, buf, 1), ==, -ECONNRESET);
    pair_end();
}

/* --- shutdown while both sides wait in both directions --- */

typedef struct Waiter {
    Stream *stream;
    int result;
    bool done;
} Waiter;

static void coroutine_fn read_entry(void *opaque)
{
    Waiter *w = opaque;
    char buf[1];

    w->result = stream_co_read(w->stream, buf, 1);
    w->done = true;
}

static void coroutine_fn fill_entry(void *opaque)
{
    Waiter *w = opaque;
    g_autofree char *buf = g_malloc0(64 * KiB);

    while ((w->result = stream_co_write_all(w->stream, buf, 64 * KiB)) == 0) {
        /* until it fails */
    }
    w->done = true;
}

static void coroutine_fn shutdown_wakes(CoroutineFn *fn, int mine, int peers)
{
    Waiter wa = {.result = 1}, wb = {.result = 1};

    pair_start((StreamPairOptions){.latency_ns = NS_PER_MS});
    wa.stream = a;
    wb.stream = b;
    co_spawn(fn, &wa);
    co_spawn(fn, &wb);
    co_sleep_ns(10 * NS_PER_MS);
    g_assert_false(wa.done || wb.done);
    stream_shutdown(a);
    co_sleep_ns(2 * NS_PER_MS);
    g_assert_true(wa.done && wb.done);
    g_assert_cmpint(wa.result, ==, mine);
    g_assert_cmpint(wb.result, ==, peers);
    pair_end();
}

static void coroutine_fn test_shutdown_wakes_readers(void)
{
    shutdown_wakes(read_entry, -ESHUTDOWN, 0);
}

static void coroutine_fn test_shutdown_wakes_writers(void)
{
    shutdown_wakes(fill_entry, -ESHUTDOWN, -EPIPE);
}

static void coroutine_fn test_cut_wakes_readers(void)
{
    Waiter wa = {0}, wb = {0};

    pair_start((StreamPairOptions){0});
    wa.stream = a;
    wb.stream = b;
    co_spawn(read_entry, &wa);
    co_spawn(read_entry, &wb);
    co_sleep_ns(NS_PER_MS);
    stream_pair_cut_after(a, 0);
    co_sleep_ns(NS_PER_MS);
    g_assert_cmpint(wa.result, ==, -ECONNRESET);
    g_assert_cmpint(wb.result, ==, -ECONNRESET);
    pair_end();
}

static void coroutine_fn test_closing_with_data_in_flight_is_clean(void)
{
    char buf[100] = {0};

    pair_start((StreamPairOptions){.latency_ns = NS_PER_S});
    g_assert_cmpint(stream_co_write_all(a, buf, 100), ==, 0);
    g_assert_cmpint(stream_co_write_all(b, buf, 100), ==, 0);
    pair_end(); /* no timer is left: the loop checks */
}

static void coroutine_fn test_closing_on_unread_data_is_clean(void)
{
    char buf[100] = {0};

    pair_start((StreamPairOptions){.latency_ns = NS_PER_MS});
    g_assert_cmpint(stream_co_write_all(a, buf, 100), ==, 0);
    g_assert_cmpint(stream_co_read(b, buf, 60), ==, 60);
    stream_close(b);
    g_assert_cmpint(stream_co_write_all(a, buf, 100), ==, 0); /* goes nowhere */
    co_sleep_ns(2 * NS_PER_MS);
    g_assert_cmpint(stream_co_write_all(a, buf, 1), ==, -EPIPE);
    stream_close(a);
}

/* --- random chunking both ways --- */

#define MODEL_BYTES 3000

typedef struct Direction {
    Choices *c;
    Stream *from, *to;
    uint64_t seed;
    size_t total;
} Direction;

/* Byte i of a direction. */
static uint8_t byte_at(const Direction *d, size_t i)
{
    return (i * 31 + d->seed) ^ (i >> 8);
}

static IoVec choose_vectors(Choices *c, uint8_t *buf, size_t bytes, struct iovec *v, int max_n)
{
    size_t used = 0;
    int n = 0;

    while (n < max_n - 1 && used < bytes && choose(c)) {
        size_t len = choose_in(c, 0, bytes - used);

        v[n++] = (struct iovec){buf + used, len};
        used += len;
    }
    v[n++] = (struct iovec){buf + used, bytes - used};
    return iov_of(v, n);
}

static int coroutine_fn send_entry(void *opaque)
{
    const Direction *d = opaque;
    uint8_t buf[400];
    struct iovec v[5];

    for (size_t done = 0; done < d->total;) {
        size_t n = choose_in(d->c, 1, MIN(sizeof(buf), d->total - done));

        for (size_t i = 0; i < n; i++) {
            buf[i] = byte_at(d, done + i);
        }
        g_assert_cmpint(stream_co_writev_all(d->from, choose_vectors(d->c, buf, n, v, 5)), ==, 0);
        done += n;
        co_sleep_ns(choose_in(d->c, 0, 1) * 1000);
    }
    return 0;
}

static int coroutine_fn receive_entry(void *opaque)
{
    const Direction *d = opaque;
    uint8_t buf[400];
    struct iovec v[5];

    for (size_t done = 0; done < d->total;) {
        size_t want = choose_in(d->c, 1, MIN(sizeof(buf), d->total - done));
        bool all = choose(d->c);
        IoVec iov = choose_vectors(d->c, buf, want, v, 5);
        ssize_t n = all ? stream_co_readv_all(d->to, iov) : stream_co_readv(d->to, iov);

        g_assert_cmpint(n, >=, all ? 0 : 1);
        n = all ? (ssize_t)want : n;
        for (ssize_t i = 0; i < n; i++) {
            g_assert_cmpuint(buf[i], ==, byte_at(d, done + i));
        }
        done += n;
    }
    return 0;
}

static void coroutine_fn chunking_body(void *opaque)
{
    Choices *c = opaque;
    Direction d[2];
    CoGroup group = {0};
    StreamPairOptions o = {
        .latency_ns = choose_in(c, 0, 5000),
        .bytes_per_s = choose_in(c, 0, 2) * 100000,
        .capacity = choose_in(c, 1, 1000),
        .seed = choose_in(c, 0, 100),
    };

    pair_start(o);
    for (int i = 0; i < 2; i++) {
        d[i] = (Direction){
            .c = c,
            .from = i == 0 ? a : b,
            .to = i == 0 ? b : a,
            .seed = choose_in(c, 0, 255),
            .total = choose_in(c, 0, MODEL_BYTES),
        };
    }
    for (int i = 0; i < 2; i++) {
        co_group_spawn(&group, send_entry, &d[i]);
        co_group_spawn(&group, receive_entry, &d[i]);
    }
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    pair_end();
}

/* However it is cut into pieces, what goes in at one side comes out at the other. */
static void prop_stream_carries_bytes_in_order(Choices *c)
{
    vtest_run(chunking_body, c, choose_in(c, 0, 1000));
}

VTEST_ANY_ORDER("/pair/latency", test_bytes_arrive_after_the_latency)
VTEST_ANY_ORDER("/pair/rate", test_rate_delays_what_follows)
VTEST_ANY_ORDER("/pair/full-holds-the-writer-back", test_full_pair_holds_the_writer_back)
VTEST_ANY_ORDER("/pair/end-of-stream", test_end_of_stream_comes_behind_the_data)
VTEST_ANY_ORDER("/pair/stall", test_stall_holds_everything_until_it_ends)
VTEST("/pair/short-reads", test_short_reads_give_all_bytes)
VTEST("/pair/cut-at-each-byte", test_cut_at_each_byte)
VTEST("/pair/cut-tears-a-long-write", test_cut_tears_a_long_write)
VTEST_ANY_ORDER("/pair/shutdown-wakes-readers", test_shutdown_wakes_readers)
VTEST_ANY_ORDER("/pair/shutdown-wakes-writers", test_shutdown_wakes_writers)
VTEST_ANY_ORDER("/pair/cut-wakes-readers", test_cut_wakes_readers)
VTEST("/pair/closing-with-data-in-flight", test_closing_with_data_in_flight_is_clean)
VTEST_ANY_ORDER("/pair/closing-on-unread-data", test_closing_on_unread_data_is_clean)
PROPERTY("/pair/carries-bytes-in-order", prop_stream_carries_bytes_in_order)
