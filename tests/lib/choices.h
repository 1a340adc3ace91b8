/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Choices: where a test gets everything that may vary.
 *
 * A property asks for numbers; they come from a seed, from an enumerator that
 * goes through all of them, from a fuzzer's bytes or from a recording. Every
 * answer is recorded, so a failing trial can be shrunk (fewer and smaller
 * answers) and replayed.
 *
 * The smallest answer should be the simplest case: a recording that is used up
 * answers everything with the lower bound, choose() with false. Loops written
 * `while (choose_more(c, 20))` or `while (choose(c))` therefore end.
 */
#ifndef TESTS_LIB_CHOICES_H
#define TESTS_LIB_CHOICES_H

#include "util/compiler.h"

typedef struct Choices Choices;

/** choose_in() - @lo to @hi, both included. From a seed the bounds are likelier than the rest. */
uint64_t choose_in(Choices *c, uint64_t lo, uint64_t hi);

/** choose() - false or true, evenly */
bool choose(Choices *c);

/** choose_more() - true @mean times on average before the first false */
bool choose_more(Choices *c, unsigned mean);

/** choose_weighted() - an index below @n, in proportion to @weights (their sum is not 0) */
size_t choose_weighted(Choices *c, const unsigned *weights, size_t n);

/** choose_bytes() - fill @buf; shrinks towards zeros */
void choose_bytes(Choices *c, void *buf, size_t bytes);

/* --- sources, for those who run trials themselves --- */

Choices *choices_of_seed(uint64_t seed);
/** choices_of_bytes() - a fuzzer's input; @data is the caller's and outlives it */
Choices *choices_of_bytes(const uint8_t *data, size_t bytes);
/** choices_of_recording() - @values is the caller's and outlives it */
Choices *choices_of_recording(const uint64_t *values, size_t n);
/** choices_enumerate() - each trial between choices_next() takes the next combination */
Choices *choices_enumerate(void);
/** choices_next() - of an enumerator: go to the next combination; false after the last */
bool choices_next(Choices *c);
void choices_free(Choices *c);

/*
 * Where the answers are recorded. The runner puts one in memory that it shares
 * with the trial's process, so that it survives a crash.
 */
#define RECORDING_MAX ((size_t)1 << 20)

typedef struct Recording {
    uint64_t seed;                  /* of the trial that runs */
    bool at_exit;                   /* all trials have passed */
    size_t n;                       /* may exceed RECORDING_MAX: the rest is lost */
    uint64_t values[RECORDING_MAX]; /* answer - lower bound */
} Recording;

void choices_record(Choices *c, Recording *r);

#endif
