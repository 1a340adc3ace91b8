/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a test once on each poller that this machine has. */
#ifndef TESTS_LIB_LOOPS_H
#define TESTS_LIB_LOOPS_H

#include <glib.h>

#include "util/loop.h"

/** A test body; @loop is made before and freed after it. */
typedef void LoopTestFn(Loop *loop);

/** test_on_real_loops() - register NAME/epoll and NAME/io_uring (skipped where refused) */
void test_on_real_loops(const char *name, LoopTestFn *fn);

/** test_on_all_loops() - the same and NAME/virtual */
void test_on_all_loops(const char *name, LoopTestFn *fn);

#endif
