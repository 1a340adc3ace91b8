/* SPDX-License-Identifier: GPL-2.0-or-later */
/* user: somebody who reads and writes a node, for tests. */
#ifndef TESTS_LIB_USER_H
#define TESTS_LIB_USER_H

#include "block/backend.h"

/** user_co_new() - a backend on @node that takes @taken and leaves everything to others; the test
 * fails if that fails
 * @id: as a drive; NULL: none */
BlockBackend *coroutine_fn user_co_new(const char *id, BlockNode *node, Perm taken);

#endif
