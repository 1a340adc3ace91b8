/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy-before-write: a filter that saves the old content of each range into a
 * target before the first write to it in an epoch.
 *
 * Rules (each cited in block/filters/cbw.c):
 *  C1 the old data is in the target before the new data reaches the source;
 *  C2 a reader that looked through the target before the copy was there and
 *     fell through to the source has finished before the copy is stored: the
 *     copy is a serialising write on the target, which tracks its readers;
 *  C3 a range is copied at most once an epoch; a second writer waits for the
 *     first one's copy and does not repeat it;
 *  C4 a failed copy fails the write, the source is unchanged, the range stays
 *     uncopied (break-guest-write).
 */
#ifndef BLOCK_CBW_H
#define BLOCK_CBW_H

#include "block/node.h"
#include "util/error.h"

typedef struct CbwOptions {
    const char *node_name;    /* NULL: generated */
    int64_t min_granularity;  /* bytes, 0: the finest that the target stores */
} CbwOptions;

/**
 * cbw_co_insert() - put a filter above @source, in all its parents except the
 * edges that lie below @target (its backing link keeps seeing the source)
 *
 * Return: counted reference to the filter, with nothing copied yet.
 */
BlockNode *coroutine_fn cbw_co_insert(BlockNode *source, BlockNode *target, const CbwOptions *o,
                                      GError **errp);
/** cbw_co_remove() - take the filter out again and drop the reference */
void coroutine_fn cbw_co_remove(BlockNode *cbw);
/** cbw_tx_remove() - the same as a step of a transaction; after its commit call cbw_co_forget() */
void cbw_tx_remove(GraphTx *tx, BlockNode *cbw);
void coroutine_fn cbw_co_forget(BlockNode *cbw);

/** cbw_new_epoch() - nothing is copied yet. Plain, cannot fail, O(ranges copied). Only while
 * the source is drained (asserted). */
void cbw_new_epoch(BlockNode *cbw);

/** cbw_copied_bytes() - in this epoch */
uint64_t cbw_copied_bytes(const BlockNode *cbw);

typedef enum CbwStep {
    CBW_COPY,   /* saving the old content; the source is unchanged */
    CBW_CHANGE, /* the write, zero write, discard or flush itself */
} CbwStep;

/* @err: errno > 0. @offset: -1 of a flush. Plain function. */
typedef void CbwErrorFn(CbwStep step, int err, int64_t offset, void *opaque);

/** cbw_set_error_callback() - hears of each request that failed, and in which step */
void cbw_set_error_callback(BlockNode *cbw, CbwErrorFn *fn, void *opaque);

#endif
