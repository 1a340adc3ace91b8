/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replworld: a secondary host in memory, for tests of replication.
 *
 * Three memdisks (the files of active and hidden, and the disk itself), the
 * chain over them, and a user on each side: `top` is the secondary's guest,
 * `peer` is what the primary writes through. Beside them a model says what
 * each side must read: see world_check().
 */
#ifndef TESTS_LIB_REPLWORLD_H
#define TESTS_LIB_REPLWORLD_H

#include "block/backend.h"
#include "block/replication.h"
#include "memdisk.h"

typedef struct ReplWorld {
    char name[8];                  /* prefix of all node names */
    char group[8];
    int64_t length;
    Memdisk *active, *hidden, *disk;
    BlockNode *repl;               /* counted */
    BlockNode *quorum;             /* counted; of one child, between top and repl; or NULL */
    BlockBackend *top;             /* drive id NAME-top */
    BlockBackend *peer;            /* the primary's writes */
    /* The model. */
    uint8_t *disk_model;           /* what the primary has written */
    uint8_t *view;                 /* what top must read */
} ReplWorld;

/** world_co_new() - disks of @length bytes, the disk filled with @fill; not started. The group is
 * called as the world. */
ReplWorld *coroutine_fn world_co_new(const char *name, int64_t length, uint8_t fill);
/** world_co_new_in() - the same in a group of several, under a quorum as documented for COLO */
ReplWorld *coroutine_fn world_co_new_in(const char *group, const char *name, int64_t length,
                                        uint8_t fill);
/** world_co_free() - closes in the order top, chain, disk */
void coroutine_fn world_co_free(ReplWorld *w);

void coroutine_fn world_co_start(ReplWorld *w);
void coroutine_fn world_co_checkpoint(ReplWorld *w);

/* Requests that must succeed; they change the model too. */
void coroutine_fn world_co_peer_write(ReplWorld *w, int64_t offset, int64_t bytes, uint8_t byte);
void coroutine_fn world_co_top_write(ReplWorld *w, int64_t offset, int64_t bytes, uint8_t byte);

/** world_co_check() - the top reads as the model's view, every byte */
void coroutine_fn world_co_check(ReplWorld *w);
/** world_co_check_range() - ... every byte of a range is @byte, through @be */
void coroutine_fn world_co_check_range(BlockBackend *be, int64_t offset, int64_t bytes,
                                       uint8_t byte);
ReplicationStage world_stage(const ReplWorld *w);
/** world_co_wait_stage() - until it has left stage failover */
void coroutine_fn world_co_wait_merged(ReplWorld *w);

/** world_co_make_overlay() - a disk that holds an empty qcow2 image; @file is the name of a node
 * that it needs meanwhile */
Memdisk *coroutine_fn world_co_make_overlay(const char *file, int64_t length);

/** world_co_open() - a node from JSON text in printf style; the test fails if that fails */
BlockNode *coroutine_fn world_co_open(const char *fmt, ...) PRINTF(1, 2);

#endif
