/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measuring: repeat a body for a while and print one JSON object a line,
 * {"bench": NAME, "unit": UNIT, "min": ..., "median": ..., "max": ...}.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <stdint.h>

/** Do @n operations of what is measured. */
typedef void BenchFn(uint64_t n, void *opaque);

/** bench_ns() - print the ns of one operation over several runs of @n each */
void bench_ns(const char *name, BenchFn *fn, uint64_t n, void *opaque);

/** bench_clock_ns() - CLOCK_MONOTONIC */
int64_t bench_clock_ns(void);
/** bench_cpu_ns() - CPU time of this process, all threads */
int64_t bench_cpu_ns(void);

#endif
