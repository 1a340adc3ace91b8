/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries of tables: what an L2 entry says, and refcounts of all widths.
 *
 * Source: qcow2 specification, "Standard Cluster Descriptor", "Compressed
 * Clusters Descriptor", "Host cluster management".
 */
#include "format.h"

void qcow2_compressed_extent(uint64_t entry, uint32_t cluster_bits, uint64_t *ret_offset,
                             uint64_t *ret_bytes)
{
    uint32_t x = 62 - (cluster_bits - 8);
    uint64_t offset = entry & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_L2_COMPRESSED | QCOW2_COPIED)) >> x) + 1;

    *ret_offset = offset;
    *ret_bytes = sectors * 512 - (offset & 511);
}

bool qcow2_entry_is_sane(uint64_t entry, uint32_t version, uint32_t cluster_bits, uint64_t file_end)
{
    uint64_t cluster_size = UINT64_C(1) << cluster_bits;
    uint64_t offset, bytes;

    if (entry & QCOW2_L2_COMPRESSED) {
        qcow2_compressed_extent(entry, cluster_bits, &offset, &bytes);
        /* The bound may run past the end by less than a cluster: it is rounded to sectors. */
        return !(entry & QCOW2_COPIED) && offset < file_end && offset < QCOW2_HOST_END &&
               offset >= cluster_size && offset + bytes <= file_end + cluster_size;
    }
    if (entry & QCOW2_L2_RESERVED || (version == 2 && (entry & QCOW2_L2_ZERO))) {
        return false;
    }
    offset = entry & QCOW2_OFFSET_MASK;
    return IS_ALIGNED(offset, cluster_size) && offset < file_end;
}

uint64_t qcow2_refcount_unpack(const uint8_t *block, uint32_t order, uint64_t index)
{
    uint16_t v16;

    switch (order) {
    case 0:
        return (block[index / 8] >> (index % 8)) & 1;
    case 1:
        return (block[index / 4] >> (2 * (index % 4))) & 3;
    case 2:
        return (block[index / 2] >> (4 * (index % 2))) & 15;
    case 3:
        return block[index];
    case 4:
        memcpy(&v16, block + 2 * index, 2);
        return be16toh(v16);
    case 5:
        return qcow2_get32(block + 4 * index);
    default:
        assert(order == 6);
        return qcow2_get64(block + 8 * index);
    }
}

static void pack_bits(uint8_t *byte, unsigned shift, unsigned mask, uint64_t value)
{
    *byte = (uint8_t)((*byte & ~(mask << shift)) | (unsigned)value << shift);
}

void qcow2_refcount_pack(uint8_t *block, uint32_t order, uint64_t index, uint64_t value)
{
    uint16_t v16 = htobe16((uint16_t)value);

    assert(value <= qcow2_refcount_max(order));
    switch (order) {
    case 0:
        pack_bits(&block[index / 8], index % 8, 1, value);
        break;
    case 1:
        pack_bits(&block[index / 4], 2 * (index % 4), 3, value);
        break;
    case 2:
        pack_bits(&block[index / 2], 4 * (index % 2), 15, value);
        break;
    case 3:
        block[index] = (uint8_t)value;
        break;
    case 4:
        memcpy(block + 2 * index, &v16, 2);
        break;
    case 5:
        qcow2_put32(block + 4 * index, (uint32_t)value);
        break;
    default:
        assert(order == 6);
        qcow2_put64(block + 8 * index, value);
    }
}
