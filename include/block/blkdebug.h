/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Breakpoints of a blkdebug node, for tandem-io and tests: the next request
 * that comes to a named event stops there until it is resumed.
 *
 * Each function takes any node and uses the first blkdebug node at or below it
 * on the way along "file"; false and @errp if there is none.
 */
#ifndef BLOCK_BLKDEBUG_H
#define BLOCK_BLKDEBUG_H

#include "block/node.h"
#include "util/error.h"

/** blkdebug_break() - stop the next request at @event (a name of BlkdebugEvent) under @tag */
bool blkdebug_break(BlockNode *node, const char *event, const char *tag, GError **errp);
/** blkdebug_resume() - let the first request that stopped under @tag go on; false if none has */
bool blkdebug_resume(BlockNode *node, const char *tag, GError **errp);
/** blkdebug_remove_break() - drop the breakpoints under @tag and resume all that stopped there */
bool blkdebug_remove_break(BlockNode *node, const char *tag, GError **errp);
/** blkdebug_co_wait_break() - wait until a request has stopped under @tag */
bool coroutine_fn blkdebug_co_wait_break(BlockNode *node, const char *tag, GError **errp);
bool blkdebug_is_stopped(BlockNode *node, const char *tag);

/**
 * blkdebug_set_notice() - have @notice called whenever a request is "Suspended" or "Resuming"
 *
 * Of the process: call before nodes are opened. NULL, the default, tells nobody.
 */
void blkdebug_set_notice(void (*notice)(const char *what, const char *tag));

#endif
