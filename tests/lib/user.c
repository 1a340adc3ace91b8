/* SPDX-License-Identifier: GPL-2.0-or-later */
/* user: see user.h. */
#include "user.h"

BlockBackend *coroutine_fn user_co_new(const char *id, BlockNode *node, Perm taken)
{
    GError *err = NULL;
    BlockBackend *be = backend_new(id, (PermPair){taken, PERM_ALL}, NULL, NULL, &err);

    g_assert_no_error(err);
    backend_co_insert(be, node, &err);
    g_assert_no_error(err);
    return be;
}
