/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registering tests: a file of tests needs no main() and no list.
 *
 *   TEST("/iov/slice", test_slice)              static void test_slice(void)
 *   PROPERTY("/iov/model", prop_model)          static void prop_model(Choices *c)
 *   ENUMERATE("/iov/all-small", prop_model)     the same, every combination
 *
 * The library's main() runs them in the order of the file. A program with a
 * main() of its own calls test_register_all() before g_test_run().
 *
 * PROPERTY runs 200 seeds. When one fails (an assertion, a crash, a sanitizer's
 * report, a leak, more than TANDEM_TRIAL_SECONDS) the answers it was given are
 * shrunk, and the smallest failing trial is run once more with its output. The
 * trials run in child processes; replays run in this one, for a debugger.
 *
 * Environment:
 *   TANDEM_SEEDS=N or A-B       that many seeds, or those
 *   TANDEM_SEED=N               replay this one
 *   TANDEM_CHOICES=1,0,7        replay these answers
 *   TANDEM_TRIAL_SECONDS=60     a trial that takes longer hangs
 *   TANDEM_SOAK_SECONDS=N       new seeds for so long, all properties together
 */
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <glib.h>

#include "choices.h"

typedef void TestFn(void);
typedef void PropertyFn(Choices *c);

typedef enum PropertyKind {
    PROPERTY_RANDOM,
    PROPERTY_EXHAUSTIVE,
} PropertyKind;

void test_add(const char *path, TestFn *fn);
void property_add(const char *path, PropertyFn *fn, PropertyKind kind);

/** test_register_all() - hand what the macros collected to g_test */
void test_register_all(void);

/** property_fuzz() - run @fn on a fuzzer's input; for FUZZ_PROPERTY */
void property_fuzz(PropertyFn *fn, const uint8_t *data, size_t bytes);

#define TEST_CONSTRUCTOR_(line) TEST_CONSTRUCTOR__(line)
#define TEST_CONSTRUCTOR__(line)                                                                   \
    __attribute__((constructor)) static void test_constructor_##line(void)

#define TEST(path, fn)                                                                             \
    TEST_CONSTRUCTOR_(__COUNTER__)                                                                 \
    {                                                                                              \
        test_add(path, fn);                                                                        \
    }

#define PROPERTY(path, fn)                                                                         \
    TEST_CONSTRUCTOR_(__COUNTER__)                                                                 \
    {                                                                                              \
        property_add(path, fn, PROPERTY_RANDOM);                                                   \
    }

#define ENUMERATE(path, fn)                                                                        \
    TEST_CONSTRUCTOR_(__COUNTER__)                                                                 \
    {                                                                                              \
        property_add(path, fn, PROPERTY_EXHAUSTIVE);                                               \
    }

/* The entry of libFuzzer; without libFuzzer a target replays its corpus. */
#define FUZZ_PROPERTY(fn)                                                                          \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);                                 \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)                                  \
    {                                                                                              \
        property_fuzz(fn, data, bytes);                                                            \
        return 0;                                                                                  \
    }

#endif
