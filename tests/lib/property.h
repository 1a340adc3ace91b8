/* SPDX-License-Identifier: GPL-2.0-or-later */
/* property: what the runner and the shrinker share. Private to the library. */
#ifndef TESTS_LIB_PROPERTY_H
#define TESTS_LIB_PROPERTY_H

#include "test.h"

typedef struct Property {
    const char *path;
    PropertyFn *fn;
    PropertyKind kind;
} Property;

/** property_count() - that are registered; a soak divides its time among them */
unsigned property_count(void);

/** property_run() - all trials; on failure reports and aborts */
void property_run(const Property *p);

/** property_fails() - run @values in a silent child; on failure @shared holds what it used */
bool property_fails(const Property *p, const uint64_t *values, size_t n, Recording *shared);

/**
 * property_shrink() - look for a smaller failing recording
 * @values, @n: a failing one; replaced by the smallest found
 */
void property_shrink(const Property *p, uint64_t *values, size_t *n, Recording *shared);

#endif
