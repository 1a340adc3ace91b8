/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * history: what a disk may read as while writes to it overlap in time.
 *
 * A disk starts with known content. Each write is noted when it begins and
 * when it ends. A byte may then read as any write that covers it, unless that
 * write had ended before another one began that ended well before the reading;
 * and as the content of the beginning, unless a write that covers it had ended
 * well. A discard or a failed write may have happened or not.
 */
#ifndef TESTS_SIMULATION_HISTORY_H
#define TESTS_SIMULATION_HISTORY_H

#include <glib.h>

#include "util/compiler.h"

typedef struct History History;
typedef struct HistoryOp HistoryOp;

/** history_new() - @name is for messages; @base is copied */
History *history_new(const char *name, const uint8_t *base, int64_t length);
void history_free(History *h);

/** history_begin() - @value is written to the range from now on */
HistoryOp *history_begin(History *h, int64_t offset, int64_t bytes, uint8_t value);
/** history_end() - @certain: it has happened, once; else it may have */
void history_end(History *h, HistoryOp *op, bool certain);
/** history_jump() - the whole disk becomes @data, between the two calls */
HistoryOp *history_jump_begin(History *h, const uint8_t *data);

/** history_now() - for history_check() of a reading that begins now */
uint64_t history_now(History *h);
/** history_check() - the test fails if the range may not read as @buf */
void history_check(const History *h, uint64_t began, int64_t offset, const uint8_t *buf,
                   int64_t bytes);
/** history_adopt() - nobody writes: check the whole disk, and begin again from what it holds */
void history_adopt(History *h, const uint8_t *disk);
/** history_content() - as of the last adopt */
const uint8_t *history_content(const History *h);

#endif
