/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Header extensions: type, length, data, padding to 8 bytes.
 *
 * What we do not interpret is kept and written back as it was. The feature
 * name table is made anew. A bitmaps extension that its autoclear bit does not
 * vouch for is dropped with the next rewrite, as the specification demands.
 */
#include "extension.h"

#define NAME_BYTES 46
#define NAME_ENTRY 48

static const struct {
    uint8_t set, bit;
    const char *name;
} feature_names[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

/* --- walking --- */

typedef struct Walk {
    const uint8_t *raw;
    uint64_t at, end; /* end <= bytes there are */
    uint64_t area_end;
    uint32_t type, bytes;
    const uint8_t *data;
} Walk;

/* 1: an extension, 0: the end, -1: bad. */
static int walk_next(Walk *w)
{
    if (w->at + 8 > w->end) {
        return 0; /* running off the end of the area ends it too */
    }
    w->type = qcow2_get32(w->raw + w->at);
    w->bytes = qcow2_get32(w->raw + w->at + 4);
    w->data = w->raw + w->at + 8;
    if (w->type == QCOW2_EXT_END) {
        return 0;
    }
    if (w->bytes > w->end - (w->at + 8)) {
        return -1;
    }
    w->at += 8 + ALIGN_UP((uint64_t)w->bytes, 8);
    return 1;
}

static Walk walk_of(const Qcow2Header *h, const uint8_t *raw, size_t bytes, uint64_t area_end)
{
    return (Walk){.raw = raw, .at = h->header_length, .end = MIN(area_end, bytes)};
}

/* --- incompatible features --- */

static bool name_in_table(const Walk *w, unsigned bit, char name[NAME_BYTES + 1])
{
    for (uint32_t i = 0; i + NAME_ENTRY <= w->bytes; i += NAME_ENTRY) {
        if (w->data[i] == 0 && w->data[i + 1] == bit) {
            memcpy(name, w->data + i + 2, NAME_BYTES);
            name[NAME_BYTES] = 0;
            return name[0] != 0;
        }
    }
    return false;
}

static void
append_name(GString *s, const Qcow2Header *h, const uint8_t *raw, uint64_t end, unsigned bit)
{
    Walk w = walk_of(h, raw, end, end);
    char name[NAME_BYTES + 1];

    g_string_append(s, s->len ? ", " : "");
    while (walk_next(&w) == 1) {
        if (w.type == QCOW2_EXT_FEATURE_NAMES && name_in_table(&w, bit, name)) {
            g_autofree char *valid = g_utf8_make_valid(name, -1);

            g_string_append(s, valid);
            return;
        }
    }
    g_string_append_printf(s, "Unknown incompatible feature: %" PRIx64, UINT64_C(1) << bit);
}

bool qcow2_check_incompatible(const Qcow2Header *h, const uint8_t *raw, uint64_t end, GError **errp)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned bit = 0; bit < 64; bit++) {
        if (h->incompatible & ~QCOW2_INCOMPAT_KNOWN & (UINT64_C(1) << bit)) {
            append_name(names, h, raw, end, bit);
        }
    }
    return names->len == 0 || fail(errp, "Unsupported qcow2 feature(s): %s", names->str);
}

/* --- reading --- */

static bool read_backing_format(const Walk *w, Qcow2Header *h, GError **errp)
{
    if (w->bytes > QCOW2_BACKING_FORMAT_MAX) {
        return fail(errp, "Backing format name too long: %" PRIu32 " bytes, at most %u", w->bytes,
                    QCOW2_BACKING_FORMAT_MAX);
    }
    g_free(h->backing_format);
    h->backing_format = g_strndup((const char *)w->data, w->bytes);
    return true;
}

static bool read_bitmaps(const Walk *w, Qcow2Header *h, GError **errp)
{
    if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        return true; /* stale: ignored, and dropped when the header is rewritten */
    }
    if (w->bytes != 24) {
        return fail(errp, "bitmaps extension: Invalid length %" PRIu32, w->bytes);
    }
    uint32_t count = qcow2_get32(w->data);
    uint64_t dir_bytes = qcow2_get64(w->data + 8), dir_offset = qcow2_get64(w->data + 16);

    if (qcow2_get32(w->data + 4) != 0) {
        return fail(errp, "bitmaps extension: Reserved field is not zero");
    }
    if (count == 0 || count > 65535) {
        return fail(errp, "bitmaps extension: %" PRIu32 " bitmaps, want 1 to 65535", count);
    }
    if (dir_offset == 0 || !IS_ALIGNED(dir_offset, UINT64_C(1) << h->cluster_bits)) {
        return fail(errp, "bitmaps extension: Invalid bitmap directory offset");
    }
    if (dir_bytes > UINT64_C(67107840) || dir_bytes < (uint64_t)count * 24) {
        return fail(errp, "bitmaps extension: Invalid bitmap directory size");
    }
    h->has_bitmaps = true;
    return true;
}

static bool read_luks(const Walk *w, Qcow2Header *h, GError **errp)
{
    if (w->bytes != 16) {
        return fail(errp, "LUKS extension: Invalid length %" PRIu32, w->bytes);
    }
    h->has_luks = true;
    return true;
}

static bool read_one(const Walk *w, Qcow2Header *h, GError **errp)
{
    switch (w->type) {
    case QCOW2_EXT_BACKING_FORMAT:
        return read_backing_format(w, h, errp);
    case QCOW2_EXT_BITMAPS:
        return read_bitmaps(w, h, errp);
    case QCOW2_EXT_LUKS:
        return read_luks(w, h, errp);
    case QCOW2_EXT_DATA_FILE:
        h->has_data_file = true;
        return true;
    case QCOW2_EXT_FEATURE_NAMES:
        return true;
    default: {
        Qcow2Extension e = {w->type, w->bytes, g_memdup2(w->data, w->bytes)};

        g_array_append_val(h->extensions, e);
        return true;
    }
    }
}

bool qcow2_extensions_read(const uint8_t *raw, size_t bytes, uint64_t area_end, Qcow2Header *h,
                           GError **errp)
{
    Walk w = walk_of(h, raw, bytes, area_end);
    int r;

    while ((r = walk_next(&w)) == 1) {
        if (!read_one(&w, h, errp)) {
            return false;
        }
    }
    return r == 0 || fail(errp, "Header extension too large");
}

/* --- writing --- */

static bool emit_one(uint8_t *cluster, size_t end, size_t *at, uint32_t type, const void *data,
                     size_t bytes, GError **errp)
{
    size_t padded = ALIGN_UP(bytes, 8);

    if (end - *at < 8 || padded > end - *at - 8) {
        return fail(errp, "The header extensions do not fit into a cluster");
    }
    qcow2_put32(cluster + *at, type);
    qcow2_put32(cluster + *at + 4, (uint32_t)bytes);
    if (bytes) {
        memcpy(cluster + *at + 8, data, bytes);
    }
    *at += 8 + padded;
    return true;
}

static bool emit_feature_names(uint8_t *cluster, size_t end, size_t *at, GError **errp)
{
    uint8_t table[G_N_ELEMENTS(feature_names) * NAME_ENTRY] = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(feature_names); i++) {
        uint8_t *e = table + i * NAME_ENTRY;

        e[0] = feature_names[i].set;
        e[1] = feature_names[i].bit;
        memcpy(e + 2, feature_names[i].name, strlen(feature_names[i].name));
    }
    return emit_one(cluster, end, at, QCOW2_EXT_FEATURE_NAMES, table, sizeof(table), errp);
}

bool qcow2_extensions_emit(const Qcow2Header *h, uint8_t *cluster, size_t *at, GError **errp)
{
    size_t end = (size_t)1 << h->cluster_bits;

    if (h->backing_format && !emit_one(cluster, end, at, QCOW2_EXT_BACKING_FORMAT,
                                       h->backing_format, strlen(h->backing_format), errp)) {
        return false;
    }
    /* With small clusters the names would leave no room for what matters. */
    if (h->version >= 3 && end > 4096 && !emit_feature_names(cluster, end, at, errp)) {
        return false;
    }
    for (guint i = 0; h->extensions && i < h->extensions->len; i++) {
        const Qcow2Extension *e = &g_array_index(h->extensions, Qcow2Extension, i);

        if (!emit_one(cluster, end, at, e->type, e->data, e->bytes, errp)) {
            return false;
        }
    }
    return emit_one(cluster, end, at, QCOW2_EXT_END, NULL, 0, errp);
}
