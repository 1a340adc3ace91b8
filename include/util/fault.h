/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fault registry: named places in the code that a test can make fail.
 *
 * `if (fault_hit("qcow2-alloc")) return -ENOMEM;` costs one load and branch
 * while no fault is armed. for_each_failure() of the test library arms "the
 * n-th place passed" for n = 1, 2, ... until the operation succeeds.
 */
#ifndef UTIL_FAULT_H
#define UTIL_FAULT_H

#include "util/compiler.h"

extern bool fault_armed; /* private to the macro */
bool fault_check(const char *place);
#define fault_hit(place) (unlikely(fault_armed) && fault_check(place))

/** fault_arm_nth() - the @n-th place passed from now on (1 = next) fails, once. 0 disarms.
 * @only: count just places with this name, NULL: all */
void fault_arm_nth(uint64_t n, const char *only);
/** fault_fired() - has the armed fault happened? */
bool fault_fired(void);

#endif
