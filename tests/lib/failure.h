/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * for_each_failure: walk every error path of an operation.
 *
 *   for_each_failure(i) {
 *       r = operation();
 *       g_assert_cmpint(r, ==, fault_fired() ? -ENOMEM : 0);
 *   }
 *
 * The body runs with the first fault place failing, then the second, and so
 * on, and a last time with none. The body must not break out of the loop: the
 * fault would stay armed for the next test.
 */
#ifndef TESTS_LIB_FAILURE_H
#define TESTS_LIB_FAILURE_H

#include <glib.h>

#include "util/fault.h"

#define FAILURE_MAX 100000

/* Has the body run without its fault? Else arm the next. */
static inline bool failure_next(uint64_t *i, const char *only)
{
    if (*i > 0 && !fault_fired()) {
        fault_arm_nth(0, NULL);
        return false;
    }
    g_assert_cmpuint(*i, <, FAILURE_MAX); /* else it never succeeds */
    fault_arm_nth(++*i, only);
    return true;
}

#define for_each_failure(i) for_each_failure_of(i, NULL)
/* Only at places with the name @place. */
#define for_each_failure_of(i, place) for (uint64_t i = 0; failure_next(&i, place);)

#endif
