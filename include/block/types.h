/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words of the block layer: permissions, roles, request flags, block status.
 */
#ifndef BLOCK_TYPES_H
#define BLOCK_TYPES_H

#include "util/compiler.h"

typedef struct BlockNode BlockNode;
typedef struct BlockChild BlockChild;
typedef struct BlockDriver BlockDriver;
typedef struct BlockBackend BlockBackend;
typedef struct GraphTx GraphTx;

/* --- permissions: numbers are those of the image lock bytes --- */
typedef uint32_t Perm;
#define PERM_CONSISTENT_READ 0x01u
#define PERM_WRITE           0x02u
#define PERM_WRITE_UNCHANGED 0x04u
#define PERM_RESIZE          0x08u
#define PERM_GRAPH_MOD       0x10u
#define PERM_ALL             0x1fu

/* What the holder of an edge does to the node, and what it lets others do. */
typedef struct PermPair {
    Perm taken, shared;
} PermPair;

/* --- what a child is to its parent --- */
typedef enum ChildRole {
    CHILD_DATA = 1 << 0,     /* guest data is stored there */
    CHILD_METADATA = 1 << 1, /* the parent's own structures are stored there */
    CHILD_FILTERED = 1 << 2, /* the parent is a filter over it */
    CHILD_COW = 1 << 3,      /* what the parent has not stored itself is read there */
    CHILD_PRIMARY = 1 << 4,  /* node->file points here */
    CHILD_IMAGE = CHILD_DATA | CHILD_METADATA | CHILD_PRIMARY, /* a format's file */
} ChildRole;

/* --- requests --- */
typedef uint32_t ReqFlags;
#define REQ_COPY_ON_READ    0x1u
#define REQ_ZERO_WRITE      0x2u
#define REQ_MAY_UNMAP       0x4u   /* a zero write may deallocate */
#define REQ_REGISTERED_BUF  0x8u
#define REQ_FUA             0x10u  /* durable before it completes */
#define REQ_COMPRESSED      0x20u
#define REQ_WRITE_UNCHANGED 0x40u  /* visible content does not change */
#define REQ_SERIALISING     0x80u  /* wait for and keep out overlapping requests of this node */
#define REQ_NO_FALLBACK     0x100u /* -ENOTSUP rather than write zeroes the slow way */
#define REQ_PREFETCH        0x200u
#define REQ_NO_WAIT         0x400u /* with SERIALISING: -EBUSY rather than wait */

#define BLOCK_MAX_REQUEST   ((int64_t)INT32_MAX - 511) /* 2^31 - 512 */
#define NODE_ALIGN_MAX      ((int64_t)1 << 29) /* of requests: two units are less than the most */
#define BLOCK_MAX_LENGTH    (INT64_MAX & ~(int64_t)511)

/* --- block status: one answer for the start of a range --- */
#define STATUS_DATA         0x01u
#define STATUS_ZERO         0x02u
#define STATUS_OFFSET_VALID 0x04u
#define STATUS_RAW          0x08u /* drivers only: ask @file at @map instead */
#define STATUS_ALLOCATED    0x10u
#define STATUS_EOF          0x20u
#define STATUS_RECURSE      0x40u /* drivers only: look for zeroes in @file too */
#define STATUS_COMPRESSED   0x80u

typedef struct BlockStatus {
    uint32_t flags;
    int64_t bytes;   /* for how long, > 0 */
    int64_t map;     /* offset in @file when STATUS_OFFSET_VALID */
    BlockNode *file; /* borrowed; NULL if unknown */
} BlockStatus;

/* Bytes; 0 means no limit. */
typedef struct BlockLimits {
    uint32_t request_alignment; /* power of two >= 1 */
    uint32_t min_mem_alignment;
    uint32_t opt_mem_alignment;
    int64_t max_transfer;
    int64_t opt_transfer;
    int64_t max_pdiscard;
    uint32_t pdiscard_alignment;
    int64_t max_pwrite_zeroes;
    uint32_t pwrite_zeroes_alignment;
} BlockLimits;

typedef struct BlockInfoData {
    int64_t cluster_size;      /* 0: no clusters */
    int64_t store_granularity; /* finest unit stored without amplification; 1 where all are */
    int64_t scratch_bytes;     /* stored since a scratch image was last emptied; else 0 */
    bool is_dirty;
} BlockInfoData;

typedef enum BlockPreallocMode { /* same order as the schema's PreallocMode */
    BLOCK_PREALLOC_OFF,
    BLOCK_PREALLOC_METADATA,
    BLOCK_PREALLOC_FALLOC,
    BLOCK_PREALLOC_FULL,
} BlockPreallocMode;

#endif
