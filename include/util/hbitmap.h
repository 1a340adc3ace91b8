/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HBitmap: a bitmap with levels of summaries, so that the next set bit is
 * found in O(levels) and a sparse bitmap is reset in O(bits set).
 *
 * Works in bytes of a disk: one bit stands for @granularity of them. Memory of
 * the leaves is allocated when first needed: an empty map of 16 TiB is small.
 */
#ifndef UTIL_HBITMAP_H
#define UTIL_HBITMAP_H

#include "util/compiler.h"

typedef struct HBitmap HBitmap;

/** hbitmap_new() - @granularity is a power of two; NULL when memory is out */
HBitmap *hbitmap_new(uint64_t bytes, uint32_t granularity) MUST_USE;
void hbitmap_free(HBitmap *hb);

/* A range is rounded out to whole bits; it lies inside the map (asserted); bytes may be 0. */
void hbitmap_set(HBitmap *hb, uint64_t offset, uint64_t bytes);
void hbitmap_reset(HBitmap *hb, uint64_t offset, uint64_t bytes);
/** hbitmap_reset_all() - O(leaves that hold a set bit) */
void hbitmap_reset_all(HBitmap *hb);
bool hbitmap_get(const HBitmap *hb, uint64_t offset);
/** hbitmap_next_set() - first byte >= @offset whose bit is set (offset itself if inside), or
 * UINT64_MAX */
uint64_t hbitmap_next_set(const HBitmap *hb, uint64_t offset);
/** hbitmap_next_clear() - likewise for clear; the length of the map is the end */
uint64_t hbitmap_next_clear(const HBitmap *hb, uint64_t offset);
/** hbitmap_next_run() - the first run of set bits in [*offset, end): false if none */
bool hbitmap_next_run(const HBitmap *hb, uint64_t *offset, uint64_t end, uint64_t *ret_bytes);
/** hbitmap_count() - bytes covered by set bits (the last bit counts up to the end of the disk) */
uint64_t hbitmap_count(const HBitmap *hb);
/** hbitmap_merge() - or @src into @dst; sizes are equal, granularities may differ */
void hbitmap_merge(HBitmap *dst, const HBitmap *src);
uint64_t hbitmap_bytes(const HBitmap *hb);
uint32_t hbitmap_granularity(const HBitmap *hb);
/** hbitmap_truncate() - new length; grown bits are clear. False when memory is out. */
bool hbitmap_truncate(HBitmap *hb, uint64_t bytes) MUST_USE;

#endif
