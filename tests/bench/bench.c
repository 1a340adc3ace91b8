/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Measuring. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

#define RUNS 7

static int64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

int64_t bench_clock_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void bench_ns(const char *name, BenchFn *fn, uint64_t n, void *opaque)
{
    double ns[RUNS];

    fn(n / 10 + 1, opaque); /* warm up */
    for (int i = 0; i < RUNS; i++) {
        int64_t start = bench_clock_ns();

        fn(n, opaque);
        ns[i] = (double)(bench_clock_ns() - start) / (double)n;
    }
    qsort(ns, RUNS, sizeof(double), compare);
    printf("{\"bench\": \"%s\", \"unit\": \"ns\", "
           "\"min\": %.1f, \"median\": %.1f, \"max\": %.1f}\n",
           name, ns[0], ns[RUNS / 2], ns[RUNS - 1]);
    fflush(stdout);
}
