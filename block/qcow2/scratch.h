/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scratch policy: for images that are worthless after a crash.
 *
 * On disk the image is empty and (version 3) marked dirty, from begin to end.
 * Everything else is in memory: a map from guest clusters to host clusters
 * with the state of each sub-block of 4 KiB, so that a small write stores no
 * more than itself. Host clusters lie behind the tables of the empty image and
 * are handed out in order; emptying starts over from the first, so the same
 * clusters, whose pages the system has already, are used again and again.
 */
#ifndef BLOCK_QCOW2_SCRATCH_H
#define BLOCK_QCOW2_SCRATCH_H

#include "qcow2.h"

/* --- scratch-map.c --- */

typedef enum ScratchState {
    SCRATCH_ABSENT, /* the backing file's content */
    SCRATCH_DATA,
    SCRATCH_ZERO,
} ScratchState;

typedef struct ScratchEntry {
    uint64_t guest; /* cluster number */
    uint64_t host;  /* cluster number; 0: none */
    uint32_t epoch; /* another than the map's: a free slot */
    uint32_t unused;
    uint64_t bits[]; /* per sub-block: words of "data", then words of "zero" */
} ScratchEntry;

/*
 * Open addressing with linear probing. An entry of an older epoch counts as a
 * free slot for lookups and insertions alike, so emptying the map is adding
 * one to its epoch. Nothing is removed one by one. An insertion may move all.
 */
typedef struct ScratchMap {
    uint8_t *slots;
    uint64_t used;   /* in this epoch */
    uint64_t stored; /* sub-blocks with data in this epoch */
    size_t entry_bytes;
    uint32_t bits; /* log2 of the number of slots */
    uint32_t epoch;
    uint32_t words; /* of each half of ScratchEntry.bits */
} ScratchMap;

bool scratch_map_init(ScratchMap *m, uint32_t sub_blocks) MUST_USE;
void scratch_map_destroy(ScratchMap *m);
void scratch_map_empty(ScratchMap *m);
/** scratch_map_find() - NULL if there is none; good until the next insertion */
ScratchEntry *scratch_map_find(const ScratchMap *m, uint64_t guest);
/** scratch_map_get() - the entry, made absent and without a host if it is new; NULL: no memory */
ScratchEntry *scratch_map_get(ScratchMap *m, uint64_t guest);
/** scratch_map_next() - walk all entries; *at starts as 0; NULL at the end */
ScratchEntry *scratch_map_next(const ScratchMap *m, uint64_t *at);

ScratchState scratch_entry_state(const ScratchMap *m, const ScratchEntry *e, uint32_t sub);
/** scratch_entry_run() - sub-blocks from @sub on in the same state, at most up to @end */
uint32_t scratch_entry_run(const ScratchMap *m, const ScratchEntry *e, uint32_t sub, uint32_t end);
void scratch_entry_set(ScratchMap *m, ScratchEntry *e, uint32_t sub, uint32_t n,
                       ScratchState state);

/* --- the policy --- */

#define SCRATCH_CUT_BYTES (UINT64_C(8) * MiB) /* of the file in one step, less than a millisecond */

struct Scratch {
    ScratchMap map;
    uint32_t sub_bits;   /* log2 of a sub-block's bytes */
    uint32_t sub_blocks; /* of a cluster */
    uint64_t base, next; /* host clusters in use this epoch: base <= n < next */
    uint64_t high;       /* no host cluster from here on has been handed out since the last trim */
    unsigned in_flight;  /* requests that know host clusters */
    bool ending;         /* requests wait in q->scratch_queue until it is over */
    bool broken;         /* an end failed when the tables were half written */
    CoQueue waiting;     /* for the requests in flight, or for a trim */
    bool trimming;       /* clusters from high on are being cut off */
    bool no_trim;        /* the file cannot be cut */
    uint32_t since_trim; /* allocations since the last step */
    CoRangeLock firsts;  /* sub-blocks that are being written for the first time */
};

/* What a range is, as long as it is one thing. */
typedef struct ScratchRun {
    ScratchState state;
    uint64_t host;  /* file offset, for SCRATCH_DATA */
    uint64_t bytes; /* > 0 */
} ScratchRun;

int coroutine_fn scratch_co_begin(Qcow2 *q);
void scratch_empty(Qcow2 *q);
int coroutine_fn scratch_co_end(Qcow2 *q);
void scratch_free(Qcow2 *q);
/** scratch_co_trim() - one bounded step of giving space back, if there is too much */
void coroutine_fn scratch_co_trim(Qcow2 *q);
/** scratch_co_alloc() - @n consecutive host clusters; the first */
uint64_t coroutine_fn scratch_co_alloc(Qcow2 *q, uint64_t n);

void scratch_run(const Qcow2 *q, uint64_t guest, uint64_t bytes, ScratchRun *ret);
int coroutine_fn scratch_co_preadv(Qcow2 *q, uint64_t guest, IoVec iov);
int coroutine_fn scratch_co_copy_from(Qcow2 *q, uint64_t guest, const Qcow2Copy *c);
int coroutine_fn scratch_co_pwritev(Qcow2 *q, uint64_t guest, IoVec iov);
/** scratch_co_zero() - @discard: only what is stored, and nothing where nothing is */
int coroutine_fn scratch_co_zero(Qcow2 *q, uint64_t guest, uint64_t bytes, bool discard);
int coroutine_fn scratch_co_flush(Qcow2 *q);

static inline uint64_t scratch_sub_bytes(const Scratch *s)
{
    return UINT64_C(1) << s->sub_bits;
}

#endif
