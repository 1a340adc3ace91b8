/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random reads or writes of one file at a fixed depth.
 *
 * bench-file FILE MiB read|write BLOCK DEPTH SECONDS POLLER ENGINE direct|cached
 *
 * Prints one JSON object: operations a second, CPU time of all threads an
 * operation, and the longest that the loop was held up. The file is made and
 * filled if it is shorter.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "util/buf.h"
#include "util/error.h"
#include "util/file.h"
#include "util/prng.h"

typedef struct Bench {
    IoFile *file;
    int64_t blocks;
    size_t block;
    bool writes;
    int64_t end_ns;
    uint64_t operations;
    int running;
    Prng rng;
    int64_t last_beat_ns, longest_ns; /* between beats of a timer of 1 ms */
    LoopTimer beat;
} Bench;

static void coroutine_fn worker(void *opaque)
{
    Bench *b = opaque;
    uint8_t *buf = buf_alloc(b->block);
    struct iovec v;
    int r = 0;

    memset(buf, 1, b->block);
    while (r == 0 && (b->operations % 32 || loop_now_ns() < b->end_ns)) {
        int64_t offset = (int64_t)prng_below(&b->rng, b->blocks) * b->block;
        IoVec iov = iov_one(&v, buf, b->block);

        r = b->writes ? io_file_co_pwritev(b->file, offset, iov, 0)
                      : io_file_co_preadv(b->file, offset, iov);
        b->operations++;
    }
    if (r < 0) {
        fprintf(stderr, "bench-file: %s\n", strerror(-r));
        exit(1);
    }
    buf_free(buf, b->block);
    if (--b->running == 0) {
        timer_cancel(&b->beat);
        loop_stop(loop_current());
    }
}

static void beat(void *opaque)
{
    Bench *b = opaque;
    int64_t now = loop_now_ns();

    b->longest_ns = MAX(b->longest_ns, now - b->last_beat_ns);
    b->last_beat_ns = now;
    timer_arm(&b->beat, now + NS_PER_MS);
}

static void fill(int fd, int64_t bytes)
{
    uint8_t *buf = buf_alloc(MiB);
    Prng rng;

    prng_init(&rng, 1);
    prng_fill(&rng, buf, MiB);
    for (int64_t o = lseek(fd, 0, SEEK_END) / MiB * MiB; o < bytes; o += MiB) {
        if (pwrite(fd, buf, MiB, o) != MiB) {
            perror("bench-file: fill");
            exit(1);
        }
    }
    (void)fsync(fd);
    buf_free(buf, MiB);
}

static IoEngine parse_engine(const char *name)
{
    static const char *const names[] = {"auto", "threads", "io_uring", "native"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            return (IoEngine)i;
        }
    }
    fprintf(stderr, "bench-file: no engine '%s'\n", name);
    exit(2);
}

static void run(Bench *b, Loop *loop, int depth, int64_t ns)
{
    b->running = depth;
    b->end_ns = loop_now_ns() + ns;
    timer_init(&b->beat, beat, b);
    b->last_beat_ns = loop_now_ns();
    beat(b);
    for (int i = 0; i < depth; i++) {
        co_spawn(worker, b);
    }
    loop_run(loop);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    LoopPoller poller;
    Bench b = {0};
    int64_t wall, cpu, ns;
    Loop *loop;
    int fd;

    if (argc != 10 || !loop_poller_parse(argv[7], &poller)) {
        fprintf(stderr,
                "usage: bench-file FILE MiB read|write BLOCK DEPTH SECONDS POLLER ENGINE "
                "direct|cached\n");
        return 2;
    }
    b.block = strtoul(argv[4], NULL, 0);
    b.blocks = strtoll(argv[2], NULL, 0) * MiB / (int64_t)b.block;
    b.writes = strcmp(argv[3], "write") == 0;
    ns = (int64_t)(strtod(argv[6], NULL) * 1e9);
    prng_init(&b.rng, 1);
    fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        fill(fd, strtoll(argv[2], NULL, 0) * MiB);
        close(fd);
        fd = open(argv[1], O_RDWR | O_CLOEXEC | (strcmp(argv[9], "direct") == 0 ? O_DIRECT : 0));
    }
    if (fd < 0) {
        perror("bench-file: open");
        return 1;
    }
    loop = loop_new(poller, &err);
    if (loop) {
        b.file = io_file_new(fd, parse_engine(argv[8]), &err);
    }
    if (err) {
        fprintf(stderr, "bench-file: %s\n", err->message);
        return 1;
    }
    run(&b, loop, (int)strtol(argv[5], NULL, 0), ns / 10);
    b.operations = 0;
    b.longest_ns = 0;
    wall = bench_clock_ns();
    cpu = bench_cpu_ns();
    run(&b, loop, (int)strtol(argv[5], NULL, 0), ns);
    wall = bench_clock_ns() - wall;
    cpu = bench_cpu_ns() - cpu;
    printf("{\"iops\": %.0f, \"cpu_us\": %.2f, \"longest_us\": %.0f}\n",
           (double)b.operations * 1e9 / (double)wall, (double)cpu / 1e3 / (double)b.operations,
           (double)b.longest_ns / 1e3);
    io_file_free(b.file);
    loop_free(loop);
    return 0;
}
