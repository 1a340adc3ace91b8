/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header: bytes to a checked struct once, and back.
 *
 * Source: qcow2 specification, "Header", "Feature name table", "Header
 * extensions". A field that a version 2 header has not got reads as 0. Every
 * number that later code allocates by or seeks to is bounded here.
 */
#include "format.h"

#include "extension.h"

bool qcow2_header_cluster_bits(const uint8_t *raw, size_t bytes, uint32_t *ret, GError **errp)
{
    uint32_t version, bits;

    if (bytes < QCOW2_V2_HEADER) {
        return fail(errp, "The file is too short for a qcow2 header");
    }
    if (qcow2_get32(raw) != QCOW2_MAGIC) {
        return fail(errp, "Image is not in qcow2 format");
    }
    version = qcow2_get32(raw + 4);
    if (version != 2 && version != 3) {
        return fail(errp, "Unsupported qcow2 version %" PRIu32, version);
    }
    bits = qcow2_get32(raw + 20);
    if (bits < QCOW2_CLUSTER_BITS_MIN || bits > QCOW2_CLUSTER_BITS_MAX) {
        return fail(errp, "Unsupported cluster size: 2^%" PRIu32, bits);
    }
    *ret = bits;
    return true;
}

/* --- fields --- */

static void read_v2(const uint8_t *raw, Qcow2Header *h)
{
    h->version = qcow2_get32(raw + 4);
    h->cluster_bits = qcow2_get32(raw + 20);
    h->size = ALIGN_DOWN(qcow2_get64(raw + 24), UINT64_C(512));
    h->crypt_method = qcow2_get32(raw + 32);
    h->l1_size = qcow2_get32(raw + 36);
    h->l1_offset = qcow2_get64(raw + 40);
    h->reftable_offset = qcow2_get64(raw + 48);
    h->reftable_clusters = qcow2_get32(raw + 56);
    h->nb_snapshots = qcow2_get32(raw + 60);
    h->snapshots_offset = qcow2_get64(raw + 64);
    h->refcount_order = 4;
    h->header_length = QCOW2_V2_HEADER;
}

static bool read_v3(const uint8_t *raw, size_t bytes, Qcow2Header *h, GError **errp)
{
    if (bytes < QCOW2_V3_HEADER) {
        return fail(errp, "The file is too short for a version 3 qcow2 header");
    }
    h->incompatible = qcow2_get64(raw + 72);
    h->compatible = qcow2_get64(raw + 80);
    h->autoclear = qcow2_get64(raw + 88);
    h->refcount_order = qcow2_get32(raw + 96);
    h->header_length = qcow2_get32(raw + 100);
    if (h->header_length < QCOW2_V3_HEADER) {
        return fail(errp, "qcow2 header too short");
    }
    if (h->header_length > UINT32_C(1) << h->cluster_bits) {
        return fail(errp, "qcow2 header exceeds cluster size");
    }
    if (h->header_length % 8 != 0) {
        return fail(errp, "qcow2 header length %" PRIu32 " is not a multiple of 8",
                    h->header_length);
    }
    if (bytes < h->header_length) {
        return fail(errp, "The file ends inside its qcow2 header");
    }
    if (h->header_length > QCOW2_V3_HEADER) {
        h->compression_type = raw[104];
    }
    if (h->header_length > QCOW2_V3_HEADER_WRITTEN) {
        h->unknown_bytes = h->header_length - QCOW2_V3_HEADER_WRITTEN;
        h->unknown = g_memdup2(raw + QCOW2_V3_HEADER_WRITTEN, h->unknown_bytes);
    }
    return true;
}

/* --- checks --- */

static bool check_table(const Qcow2Header *h, uint64_t offset, uint64_t bytes, uint64_t max,
                        const char *what, GError **errp)
{
    if (bytes > max) {
        return fail(errp, "%s too large", what);
    }
    if (!IS_ALIGNED(offset, UINT64_C(1) << h->cluster_bits) || offset > INT64_MAX - bytes) {
        return fail(errp, "%s offset invalid", what);
    }
    return true;
}

static bool check_l1(const Qcow2Header *h, uint64_t file_end, GError **errp)
{
    uint32_t span_bits = 2 * h->cluster_bits - 3;
    uint64_t need = (h->size >> span_bits) + ((h->size & ((UINT64_C(1) << span_bits) - 1)) != 0);

    if (h->size > (uint64_t)INT64_MAX || need > INT32_MAX) {
        return fail(errp, "Image is too big for its cluster size");
    }
    if (!check_table(h, h->l1_offset, (uint64_t)h->l1_size * 8, QCOW2_L1_BYTES_MAX,
                     "Active L1 table", errp)) {
        return false;
    }
    if (h->l1_size < need) {
        return fail(errp, "L1 table is too small");
    }
    if (h->l1_size > 0 && (h->l1_offset == 0 || h->l1_offset + h->l1_size * 8 > file_end)) {
        return fail(errp, "Active L1 table lies outside of the file");
    }
    return true;
}

static bool check_reftable(const Qcow2Header *h, uint64_t file_end, GError **errp)
{
    uint64_t bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;

    if (h->reftable_clusters == 0) {
        return fail(errp, "Image does not contain a reference count table");
    }
    if (!check_table(h, h->reftable_offset, bytes, QCOW2_REFTABLE_BYTES_MAX,
                     "Reference count table", errp)) {
        return false;
    }
    if (h->reftable_offset == 0 || h->reftable_offset >= file_end) {
        return fail(errp, "Reference count table lies outside of the file");
    }
    return true;
}

static bool check_snapshots(const Qcow2Header *h, uint64_t file_end, GError **errp)
{
    if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX) {
        return fail(errp, "Snapshot table too large");
    }
    /* The smallest entry has 40 bytes. */
    if (!check_table(h, h->snapshots_offset, (uint64_t)h->nb_snapshots * 40, 64 * MiB,
                     "Snapshot table", errp)) {
        return false;
    }
    if (h->nb_snapshots > 0 &&
        (h->snapshots_offset == 0 || h->snapshots_offset + h->nb_snapshots * 40 > file_end)) {
        return fail(errp, "Snapshot table lies outside of the file");
    }
    return true;
}

static bool check_compression(const Qcow2Header *h, GError **errp)
{
    bool bit = (h->incompatible & QCOW2_INCOMPAT_COMPRESSION) != 0;

    if (h->compression_type > 1) {
        return fail(errp, "qcow2: unknown compression type: %u", h->compression_type);
    }
    if (bit != (h->compression_type != 0)) {
        return fail(errp, "qcow2: Compression type incompatible feature bit %s be set",
                    bit ? "must not" : "must");
    }
    return true;
}

/* What is part of the format but not of this driver is refused by its name. */
static bool check_supported(const Qcow2Header *h, GError **errp)
{
    if (h->crypt_method > 2) {
        return fail(errp, "Unsupported encryption method %" PRIu32, h->crypt_method);
    }
    if (h->has_luks != (h->crypt_method == 2)) {
        return fail(errp, "The LUKS header extension does not match the encryption method");
    }
    if (h->crypt_method != 0) {
        return fail(errp, "Images with %s encryption are not supported",
                    h->crypt_method == 1 ? "AES" : "LUKS");
    }
    if (h->autoclear & QCOW2_AUTOCLEAR_RAW && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE)) {
        return fail(errp, "The raw external data flag is set without an external data file");
    }
    if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE) {
        return fail(errp, "Images with an external data file are not supported");
    }
    if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) {
        return h->cluster_bits < 14
                   ? fail(errp, "Extended L2 entries are only supported with cluster sizes of at "
                                "least 16384 bytes")
                   : fail(errp, "Images with extended L2 entries are not supported");
    }
    if (h->autoclear & QCOW2_AUTOCLEAR_BITMAPS && !h->has_bitmaps) {
        return fail(errp, "The bitmaps flag is set without a bitmaps extension");
    }
    return true;
}

static bool check_all(const Qcow2Header *h, uint64_t file_bytes, GError **errp)
{
    uint64_t file_end = ALIGN_UP(file_bytes, UINT64_C(1) << h->cluster_bits);

    if (h->refcount_order > 6) {
        return fail(errp, "Reference count entry width too large; may not exceed 64 bits");
    }
    return check_compression(h, errp) && check_supported(h, errp) && check_l1(h, file_end, errp) &&
           check_reftable(h, file_end, errp) && check_snapshots(h, file_end, errp);
}

/* --- the name of the backing file --- */

static bool check_backing(const uint8_t *raw, const Qcow2Header *h, GError **errp)
{
    uint64_t offset = qcow2_get64(raw + 8);
    uint32_t bytes = qcow2_get32(raw + 16);
    uint64_t cluster_size = UINT64_C(1) << h->cluster_bits;

    if (offset > cluster_size) {
        return fail(errp, "Invalid backing file offset");
    }
    if (offset == 0) {
        return true;
    }
    if (offset < h->header_length) {
        return fail(errp, "Invalid backing file offset");
    }
    if (bytes > MIN(QCOW2_BACKING_NAME_MAX, cluster_size - offset)) {
        return fail(errp, "Backing file name too long");
    }
    return true;
}

static bool read_backing(const uint8_t *raw, size_t bytes, Qcow2Header *h, GError **errp)
{
    uint64_t offset = qcow2_get64(raw + 8);
    uint32_t n = qcow2_get32(raw + 16);

    if (offset == 0 || n == 0) {
        return true;
    }
    if (offset + n > bytes) {
        return fail(errp, "The file ends inside its backing file name");
    }
    if (memchr(raw + offset, 0, n)) {
        return fail(errp, "The backing file name contains a zero byte");
    }
    h->backing_file = g_strndup((const char *)raw + offset, n);
    return true;
}

/* --- in and out --- */

bool qcow2_header_parse(const uint8_t *raw, size_t bytes, uint64_t file_bytes, Qcow2Header *ret,
                        GError **errp)
{
    Qcow2Header h = {.extensions = g_array_new(FALSE, FALSE, sizeof(Qcow2Extension))};
    uint64_t backing_offset, area_end;
    uint32_t bits;

    if (!qcow2_header_cluster_bits(raw, bytes, &bits, errp)) {
        goto fail;
    }
    read_v2(raw, &h);
    if ((h.version == 3 && !read_v3(raw, bytes, &h, errp)) || !check_backing(raw, &h, errp)) {
        goto fail;
    }
    backing_offset = qcow2_get64(raw + 8);
    area_end = backing_offset ? backing_offset : UINT64_C(1) << h.cluster_bits;
    if (!qcow2_check_incompatible(&h, raw, MIN(area_end, bytes), errp) ||
        !qcow2_extensions_read(raw, bytes, area_end, &h, errp) ||
        !read_backing(raw, bytes, &h, errp) || !check_all(&h, file_bytes, errp)) {
        goto fail;
    }
    *ret = h;
    return true;
fail:
    qcow2_header_clear(&h);
    return false;
}

static void emit_fields(const Qcow2Header *h, uint8_t *p)
{
    qcow2_put32(p, QCOW2_MAGIC);
    qcow2_put32(p + 4, h->version);
    qcow2_put32(p + 20, h->cluster_bits);
    qcow2_put64(p + 24, h->size);
    qcow2_put32(p + 32, h->crypt_method);
    qcow2_put32(p + 36, h->l1_size);
    qcow2_put64(p + 40, h->l1_offset);
    qcow2_put64(p + 48, h->reftable_offset);
    qcow2_put32(p + 56, h->reftable_clusters);
    qcow2_put32(p + 60, h->nb_snapshots);
    qcow2_put64(p + 64, h->snapshots_offset);
    if (h->version < 3) {
        return;
    }
    qcow2_put64(p + 72, h->incompatible);
    qcow2_put64(p + 80, h->compatible);
    qcow2_put64(p + 88, h->autoclear);
    qcow2_put32(p + 96, h->refcount_order);
    qcow2_put32(p + 100, QCOW2_V3_HEADER_WRITTEN + h->unknown_bytes);
    p[104] = h->compression_type;
    if (h->unknown_bytes) {
        memcpy(p + QCOW2_V3_HEADER_WRITTEN, h->unknown, h->unknown_bytes);
    }
}

bool qcow2_header_emit(const Qcow2Header *h, uint8_t *cluster, GError **errp)
{
    size_t cluster_size = (size_t)1 << h->cluster_bits;
    size_t at = h->version < 3 ? QCOW2_V2_HEADER : QCOW2_V3_HEADER_WRITTEN + h->unknown_bytes;

    if (at > cluster_size) {
        return fail(errp, "The qcow2 header does not fit into a cluster");
    }
    memset(cluster, 0, cluster_size);
    emit_fields(h, cluster);
    if (!qcow2_extensions_emit(h, cluster, &at, errp)) {
        return false;
    }
    if (h->backing_file) {
        size_t n = strlen(h->backing_file);

        if (n > QCOW2_BACKING_NAME_MAX || n > cluster_size - at) {
            return fail(errp, "Backing file name too long");
        }
        memcpy(cluster + at, h->backing_file, n);
        qcow2_put64(cluster + 8, at);
        qcow2_put32(cluster + 16, (uint32_t)n);
    }
    return true;
}

void qcow2_header_clear(Qcow2Header *h)
{
    for (guint i = 0; h->extensions && i < h->extensions->len; i++) {
        g_free(g_array_index(h->extensions, Qcow2Extension, i).data);
    }
    if (h->extensions) {
        g_array_free(h->extensions, TRUE);
    }
    g_free(h->unknown);
    g_free(h->backing_file);
    g_free(h->backing_format);
    *h = (Qcow2Header){0};
}
