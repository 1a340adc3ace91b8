/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault: at most one armed failure for the whole process.
 *
 * Places are counted with atomics because a worker thread may pass one; which
 * thread hits the n-th is then up to the scheduler, so tests that need to
 * repeat exactly keep to one thread.
 */
#include "util/fault.h"

#include <string.h>

bool fault_armed;

static struct {
    const char *only;
    uint64_t left; /* places to pass before the failure, counting it */
    bool fired;
} fault;

bool fault_check(const char *place)
{
    const char *only = __atomic_load_n(&fault.only, __ATOMIC_ACQUIRE);

    if (only != NULL && strcmp(only, place) != 0) {
        return false;
    }
    if (__atomic_sub_fetch(&fault.left, 1, __ATOMIC_ACQ_REL) != 0) {
        return false;
    }
    __atomic_store_n(&fault.fired, true, __ATOMIC_RELEASE);
    __atomic_store_n(&fault_armed, false, __ATOMIC_RELEASE);
    return true;
}

void fault_arm_nth(uint64_t n, const char *only)
{
    __atomic_store_n(&fault_armed, false, __ATOMIC_RELEASE);
    __atomic_store_n(&fault.only, only, __ATOMIC_RELEASE);
    __atomic_store_n(&fault.left, n, __ATOMIC_RELEASE);
    __atomic_store_n(&fault.fired, false, __ATOMIC_RELEASE);
    __atomic_store_n(&fault_armed, n > 0, __ATOMIC_RELEASE);
}

bool fault_fired(void)
{
    return __atomic_load_n(&fault.fired, __ATOMIC_ACQUIRE);
}
