/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 file format: numbers, the checked header, entries.
 *
 * Source: qcow2 specification. Everything on disk is big-endian; everything
 * here is in host order. Nothing here does I/O.
 */
#ifndef BLOCK_QCOW2_FORMAT_H
#define BLOCK_QCOW2_FORMAT_H

#include <endian.h>
#include <inttypes.h>
#include <glib.h>
#include <string.h>

#include "util/compiler.h"
#include "util/error.h"

#define QCOW2_MAGIC             0x514649fbu
#define QCOW2_V2_HEADER         72
#define QCOW2_V3_HEADER         104
#define QCOW2_V3_HEADER_WRITTEN 112

/* Where fields that are written alone lie in the header. */
#define QCOW2_AT_SIZE         24
#define QCOW2_AT_L1_SIZE      36 /* l1_size, l1_table_offset: 12 bytes, one write */
#define QCOW2_AT_L1_OFFSET    40 /* l1_table_offset, refcount table: 20 bytes, one write */
#define QCOW2_AT_REFTABLE     48 /* refcount_table_offset and _clusters: 12 bytes, one write */
#define QCOW2_AT_INCOMPATIBLE 72

#define QCOW2_INCOMPAT_DIRTY       (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_CORRUPT     (UINT64_C(1) << 1)
#define QCOW2_INCOMPAT_DATA_FILE   (UINT64_C(1) << 2)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPAT_KNOWN       UINT64_C(0x1f)
#define QCOW2_COMPAT_LAZY          (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_BITMAPS    (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_RAW        (UINT64_C(1) << 1)
#define QCOW2_AUTOCLEAR_KNOWN      UINT64_C(3)

#define QCOW2_EXT_END            0x00000000u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_DATA_FILE      0x44415441u
#define QCOW2_EXT_FEATURE_NAMES  0x6803f857u
#define QCOW2_EXT_BITMAPS        0x23852875u
#define QCOW2_EXT_LUKS           0x0537be77u

/* Limits, checked before memory is allocated. */
#define QCOW2_CLUSTER_BITS_MIN   9
#define QCOW2_CLUSTER_BITS_MAX   21
#define QCOW2_L1_BYTES_MAX       (32 * MiB)
#define QCOW2_REFTABLE_BYTES_MAX (8 * MiB)
#define QCOW2_SNAPSHOTS_MAX      65536
#define QCOW2_BACKING_NAME_MAX   1023
#define QCOW2_BACKING_FORMAT_MAX 15
#define QCOW2_HOST_END           (UINT64_C(1) << 56) /* allocatable offsets end here */

/* L1, L2 and refcount table entries. */
#define QCOW2_OFFSET_MASK       UINT64_C(0x00fffffffffffe00)
#define QCOW2_COPIED            (UINT64_C(1) << 63)
#define QCOW2_L2_COMPRESSED     (UINT64_C(1) << 62)
#define QCOW2_L2_ZERO           UINT64_C(1)
#define QCOW2_L1_RESERVED       UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED       UINT64_C(0x3f000000000001fe)
#define QCOW2_REFTABLE_OFFSET   UINT64_C(0xfffffffffffffe00)
#define QCOW2_REFTABLE_RESERVED UINT64_C(0x1ff)

/* A header extension that we do not interpret, kept for rewriting. */
typedef struct Qcow2Extension {
    uint32_t type;
    uint32_t bytes;
    uint8_t *data;
} Qcow2Extension;

/* The header after all checks that need no more than the first cluster. */
typedef struct Qcow2Header {
    uint32_t version; /* 2 or 3 */
    uint32_t cluster_bits;
    uint64_t size; /* of the disk, bytes */
    uint32_t l1_size;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint32_t crypt_method;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order;
    uint32_t header_length;
    uint8_t compression_type; /* 0 deflate, 1 zstd */
    uint8_t *unknown;         /* header bytes from QCOW2_V3_HEADER_WRITTEN on; may be NULL */
    uint32_t unknown_bytes;

    char *backing_file;   /* NULL: none */
    char *backing_format; /* NULL: not said */
    bool has_bitmaps;     /* the extension is there (trustworthy or not) */
    bool has_luks;
    bool has_data_file;
    GArray *extensions; /* Qcow2Extension, unknown types and those kept verbatim, in order */
} Qcow2Header;

/** qcow2_header_parse() - check the start of an image
 * @raw, @bytes: the first cluster as far as the file reaches (64 KiB are enough to learn its size)
 * @file_bytes: length of the file
 *
 * False and @errp if this is no image that we can use; @ret is then empty. */
bool qcow2_header_parse(const uint8_t *raw, size_t bytes, uint64_t file_bytes, Qcow2Header *ret,
                        GError **errp);
/** qcow2_header_cluster_bits() - how much of the file qcow2_header_parse() wants; @raw: >= 72
 * bytes. False and @errp if magic, version or cluster size are bad. */
bool qcow2_header_cluster_bits(const uint8_t *raw, size_t bytes, uint32_t *ret, GError **errp);
/** qcow2_header_emit() - the whole first cluster; false and @errp if it does not fit */
bool qcow2_header_emit(const Qcow2Header *h, uint8_t *cluster, GError **errp);
void qcow2_header_clear(Qcow2Header *h);

/* --- entries --- */

typedef enum Qcow2Type {
    QCOW2_UNALLOCATED,
    QCOW2_ZERO_PLAIN,
    QCOW2_ZERO_ALLOC,
    QCOW2_DATA,
    QCOW2_COMPRESSED,
} Qcow2Type;

static inline Qcow2Type qcow2_entry_type(uint64_t entry)
{
    if (entry & QCOW2_L2_COMPRESSED) {
        return QCOW2_COMPRESSED;
    }
    if (entry & QCOW2_L2_ZERO) {
        return entry & QCOW2_OFFSET_MASK ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return entry & QCOW2_OFFSET_MASK ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

/** qcow2_entry_is_sane() - reserved bits, alignment, place of a standard or compressed entry
 * @file_end: end of the file, rounded up to clusters; nothing may point at or past it */
bool qcow2_entry_is_sane(uint64_t entry, uint32_t version, uint32_t cluster_bits,
                         uint64_t file_end);
/** qcow2_compressed_extent() - byte offset and upper bound of the length */
void qcow2_compressed_extent(uint64_t entry, uint32_t cluster_bits, uint64_t *ret_offset,
                             uint64_t *ret_bytes);

/* --- refcounts in a block; @index counts entries --- */

uint64_t qcow2_refcount_unpack(const uint8_t *block, uint32_t order, uint64_t index);
void qcow2_refcount_pack(uint8_t *block, uint32_t order, uint64_t index, uint64_t value);
static inline uint64_t qcow2_refcount_max(uint32_t order)
{
    return order == 6 ? UINT64_MAX : (UINT64_C(1) << (UINT64_C(1) << order)) - 1;
}

/* --- bytes --- */

static inline uint64_t qcow2_get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

static inline uint32_t qcow2_get32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

static inline void qcow2_put64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

static inline void qcow2_put32(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}

#endif
