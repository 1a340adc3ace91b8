/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating images: header, refcount table, refcount blocks, L1 table, in this
 * order from the start of the file. Nothing else is stored, so the rest of the
 * work (preallocation) is done by the driver on the new image.
 */
#include "block/backend.h"
#include "qcow2.h"

typedef struct Layout {
    Qcow2Header h;
    uint64_t table_clusters, blocks, l1_clusters;
    uint64_t clusters; /* all of them, header included */
} Layout;

/* --- options --- */

static bool check_unsupported(const BlockdevCreateOptionsQcow2 *o, GError **errp)
{
    if (o->data_file || (o->has_data_file_raw && o->data_file_raw)) {
        return fail(errp, "External data files are not supported");
    }
    if (o->has_extended_l2 && o->extended_l2) {
        return fail(errp, "Extended L2 entries are not supported");
    }
    if (o->encrypt) {
        return fail(errp, "Encryption is not supported");
    }
    if (o->has_compression_type && o->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB) {
        return fail(errp, "Compression type zstd is not supported");
    }
    return true;
}

static bool take_refcount_bits(const BlockdevCreateOptionsQcow2 *o, Qcow2Header *h, GError **errp)
{
    int64_t bits = o->has_refcount_bits ? o->refcount_bits : 16;

    if (bits < 1 || bits > 64 || (bits & (bits - 1)) != 0) {
        return fail(errp, "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (h->version < 3 && bits != 16) {
        return fail(errp, "Different refcount widths than 16 bits require compatibility level 1.1 "
                          "or above (use version=v3 or greater)");
    }
    h->refcount_order = (uint32_t)g_bit_nth_lsf((gulong)bits, -1);
    return true;
}

static bool take_cluster_size(const BlockdevCreateOptionsQcow2 *o, Qcow2Header *h, GError **errp)
{
    uint64_t size = o->has_cluster_size ? o->cluster_size : 65536;

    if (size < 512 || size > 2 * (uint64_t)MiB || (size & (size - 1)) != 0) {
        return fail(errp, "Cluster size must be a power of two between 512 and 2048k");
    }
    h->cluster_bits = (uint32_t)g_bit_nth_lsf((gulong)size, -1);
    return true;
}

static bool take_backing(const BlockdevCreateOptionsQcow2 *o, Qcow2Header *h, GError **errp)
{
    if (!o->backing_file) {
        return !o->has_backing_fmt ||
               fail(errp, "Backing format cannot be used without backing file");
    }
    if (o->has_preallocation && o->preallocation != PREALLOC_MODE_OFF) {
        return fail(errp, "Backing file and preallocation can only be used at the same time if "
                          "extended_l2 is on");
    }
    h->backing_file = g_strdup(o->backing_file);
    if (o->has_backing_fmt) {
        h->backing_format = g_strdup(blockdev_driver_str(o->backing_fmt));
    }
    return true;
}

static bool take_lazy(const BlockdevCreateOptionsQcow2 *o, Qcow2Header *h, GError **errp)
{
    if (!o->has_lazy_refcounts || !o->lazy_refcounts) {
        return true;
    }
    if (h->version < 3) {
        return fail(errp, "Lazy refcounts only supported with compatibility level 1.1 and above "
                          "(use version=v3 or greater)");
    }
    h->compatible |= QCOW2_COMPAT_LAZY;
    return true;
}

static bool take_options(const BlockdevCreateOptionsQcow2 *o, Qcow2Header *h, GError **errp)
{
    h->version = o->has_version && o->version == BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3;
    h->size = o->size;
    if (o->size % 512 != 0) {
        return fail(errp, "Image size must be a multiple of 512 bytes");
    }
    return check_unsupported(o, errp) && take_cluster_size(o, h, errp) &&
           take_backing(o, h, errp) && take_lazy(o, h, errp) && take_refcount_bits(o, h, errp);
}

/* --- layout --- */

static bool plan(Layout *l, GError **errp)
{
    Qcow2Header *h = &l->h;
    uint64_t cluster_size = UINT64_C(1) << h->cluster_bits;
    uint64_t block_clusters = UINT64_C(1) << (h->cluster_bits + 3 - h->refcount_order);
    uint32_t span_bits = 2 * h->cluster_bits - 3;
    uint64_t l1_entries =
        (h->size >> span_bits) + ((h->size & ((UINT64_C(1) << span_bits) - 1)) != 0);

    if (h->size > (uint64_t)BLOCK_MAX_LENGTH || l1_entries * 8 > (uint64_t)QCOW2_L1_BYTES_MAX) {
        return fail(errp, "The image size is too large (try using a larger cluster size)");
    }
    l->l1_clusters = DIV_ROUND_UP(l1_entries * 8, cluster_size);
    l->blocks = l->table_clusters = 1;
    for (;;) {
        uint64_t blocks, table_clusters;

        l->clusters = 1 + l->table_clusters + l->blocks + l->l1_clusters;
        blocks = DIV_ROUND_UP(l->clusters, block_clusters);
        table_clusters = DIV_ROUND_UP(blocks * 8, cluster_size);
        if (blocks <= l->blocks && table_clusters <= l->table_clusters) {
            break;
        }
        l->blocks = blocks;
        l->table_clusters = table_clusters;
    }
    h->reftable_offset = cluster_size;
    h->reftable_clusters = (uint32_t)l->table_clusters;
    h->l1_offset = (1 + l->table_clusters + l->blocks) << h->cluster_bits;
    h->l1_size = (uint32_t)l1_entries;
    return true;
}

static uint8_t *build(const Layout *l, GError **errp)
{
    const Qcow2Header *h = &l->h;
    size_t bytes = (size_t)l->clusters << h->cluster_bits;
    uint64_t first_block = (1 + l->table_clusters) << h->cluster_bits;
    uint8_t *raw = buf_try_alloc(bytes);

    if (!raw) {
        return fail_errno(errp, ENOMEM, "Could not build the image"), NULL;
    }
    memset(raw, 0, bytes);
    if (!qcow2_header_emit(h, raw, errp)) {
        buf_free(raw, bytes);
        return NULL;
    }
    for (uint64_t i = 0; i < l->blocks; i++) {
        qcow2_put64(raw + h->reftable_offset + i * 8, first_block + (i << h->cluster_bits));
    }
    /* The blocks follow each other and their entries fill whole bytes: one long array. */
    for (uint64_t i = 0; i < l->clusters; i++) {
        qcow2_refcount_pack(raw + first_block, h->refcount_order, i, 1);
    }
    return raw;
}

/* --- writing --- */

static bool coroutine_fn write_image(BlockBackend *be, const Layout *l, GError **errp)
{
    size_t bytes = (size_t)l->clusters << l->h.cluster_bits;
    uint8_t *raw = build(l, errp);
    int r;

    if (!raw) {
        return false;
    }
    if (!backend_co_truncate(be, 0, false, BLOCK_PREALLOC_OFF, 0, errp) ||
        !backend_co_truncate(be, (int64_t)bytes, false, BLOCK_PREALLOC_OFF, 0, errp)) {
        buf_free(raw, bytes);
        return false;
    }
    r = backend_co_pwrite(be, 0, raw, bytes, 0);
    if (r == 0) {
        r = backend_co_flush(be);
    }
    buf_free(raw, bytes);
    return r == 0 || fail_errno(errp, -r, "Could not write the qcow2 image");
}

static bool coroutine_fn write_to_node(BlockNode *file, const Layout *l, GError **errp)
{
    PermPair perm = {PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
                     PERM_ALL & ~(PERM_WRITE | PERM_RESIZE)};
    BlockBackend *be = backend_new(NULL, perm, NULL, NULL, errp);
    bool ok;

    if (!be) {
        return false;
    }
    ok = backend_co_insert(be, file, errp) && write_image(be, l, errp);
    backend_co_free(be);
    return ok;
}

/* Let the driver do it on the new image. */
static bool coroutine_fn preallocate(BlockNode *file, PreallocMode mode, GError **errp)
{
    json_t *opts =
        json_pack("{s:s, s:s, s:n}", "driver", "qcow2", "file", file->node_name, "backing");
    BlockNode *node = node_co_open_json(opts, NULL, errp);
    PermPair perm = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};
    BlockBackend *be;
    bool ok = false;

    json_decref(opts);
    if (!node) {
        return false;
    }
    be = backend_new(NULL, perm, NULL, NULL, errp);
    if (be && backend_co_insert(be, node, errp)) {
        int r = qcow2_co_preallocate(qcow2_of(node), 0, qcow2_of(node)->h.size,
                                     (BlockPreallocMode)mode);

        ok = r == 0 || fail_errno(errp, -r, "Could not preallocate the image");
    }
    if (be) {
        backend_co_free(be);
    }
    node_co_unref(node);
    return ok;
}

static BlockNode *coroutine_fn open_file(const BlockdevRef *ref, GError **errp)
{
    if (ref->kind == BLOCKDEV_REF_REFERENCE) {
        BlockNode *node = node_lookup(ref->u.reference, errp);

        return node ? node_ref(node) : NULL;
    }
    return node_co_open(ref->u.definition, NULL, errp);
}

bool coroutine_fn qcow2_co_create(const BlockdevCreateOptions *opts, GError **errp)
{
    const BlockdevCreateOptionsQcow2 *o = &opts->u.qcow2;
    Layout l = {0};
    BlockNode *file;
    bool ok = false;

    if (!take_options(o, &l.h, errp) || !plan(&l, errp)) {
        qcow2_header_clear(&l.h);
        return false;
    }
    file = open_file(o->file, errp);
    if (file) {
        ok = write_to_node(file, &l, errp);
        if (ok && o->has_preallocation && o->preallocation != PREALLOC_MODE_OFF && o->size > 0) {
            ok = preallocate(file, o->preallocation, errp);
        }
        node_co_unref(file);
    }
    qcow2_header_clear(&l.h);
    return ok;
}
