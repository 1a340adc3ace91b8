/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD wire format: what may come in is checked here, once.
 */
#include "block/nbd/proto.h"

#include <errno.h>
#include <string.h>

/* --- a cursor over option data: what is taken is always inside --- */

typedef struct Cursor {
    const uint8_t *p;
    size_t left;
} Cursor;

static bool take16(Cursor *c, uint16_t *ret)
{
    if (c->left < 2) {
        return false;
    }
    *ret = be16_get(c->p);
    c->p += 2;
    c->left -= 2;
    return true;
}

static bool take32(Cursor *c, uint32_t *ret)
{
    if (c->left < 4) {
        return false;
    }
    *ret = be32_get(c->p);
    c->p += 4;
    c->left -= 4;
    return true;
}

/* A u32 length and that many bytes. */
static bool take_text(Cursor *c, NbdText *ret)
{
    uint32_t len;

    if (!take32(c, &len) || len > c->left) {
        return false;
    }
    *ret = (NbdText){(const char *)c->p, len};
    c->p += len;
    c->left -= len;
    return true;
}

/* --- text --- */

bool nbd_text_valid(NbdText t)
{
    return t.len <= NBD_MAX_STRING && memchr(t.s, 0, t.len) == NULL &&
           g_utf8_validate(t.s, t.len, NULL);
}

bool nbd_text_equals(NbdText t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

/* --- handshake, fixed parts --- */

void nbd_greeting_encode(uint8_t out[NBD_GREETING_BYTES], uint16_t flags)
{
    be64_put(out, NBD_MAGIC);
    be64_put(out + 8, NBD_OPTS_MAGIC);
    be16_put(out + 16, flags);
}

bool nbd_opt_parse(const uint8_t in[NBD_OPT_BYTES], NbdOptHeader *ret)
{
    if (be64_get(in) != NBD_OPTS_MAGIC || be32_get(in + 12) > NBD_MAX_OPTION) {
        return false;
    }
    ret->option = be32_get(in + 8);
    ret->length = be32_get(in + 12);
    return true;
}

void nbd_opt_encode(uint8_t out[NBD_OPT_BYTES], uint32_t option, uint32_t length)
{
    be64_put(out, NBD_OPTS_MAGIC);
    be32_put(out + 8, option);
    be32_put(out + 12, length);
}

bool nbd_opt_reply_parse(const uint8_t in[NBD_OPT_REPLY_BYTES], NbdOptReply *ret)
{
    if (be64_get(in) != NBD_OPT_REPLY_MAGIC || be32_get(in + 16) > NBD_MAX_OPTION) {
        return false;
    }
    ret->option = be32_get(in + 8);
    ret->type = be32_get(in + 12);
    ret->length = be32_get(in + 16);
    return ret->type != NBD_REP_ACK || ret->length == 0;
}

void nbd_opt_reply_encode(uint8_t out[NBD_OPT_REPLY_BYTES], uint32_t option, uint32_t type,
                          uint32_t length)
{
    be64_put(out, NBD_OPT_REPLY_MAGIC);
    be32_put(out + 8, option);
    be32_put(out + 12, type);
    be32_put(out + 16, length);
}

/* --- handshake, option data --- */

bool nbd_go_parse(const uint8_t *in, size_t bytes, NbdGoData *ret)
{
    Cursor c = {in, bytes};
    NbdGoData go = {0};
    uint16_t n, type;

    if (!take_text(&c, &go.name) || !nbd_text_valid(go.name) || !take16(&c, &n) ||
        c.left != 2 * (size_t)n) {
        return false;
    }
    while (take16(&c, &type)) {
        go.wants_name |= type == NBD_INFO_NAME;
        go.wants_description |= type == NBD_INFO_DESCRIPTION;
        go.wants_block_size |= type == NBD_INFO_BLOCK_SIZE;
    }
    *ret = go;
    return true;
}

bool nbd_meta_parse(const uint8_t *in, size_t bytes, NbdMetaData *ret)
{
    Cursor c = {in, bytes};
    NbdMetaData m = {0};
    NbdText query;

    if (!take_text(&c, &m.name) || !nbd_text_valid(m.name) || !take32(&c, &m.n_queries)) {
        return false;
    }
    m.queries = c.p;
    m.queries_bytes = c.left;
    for (uint32_t i = 0; i < m.n_queries; i++) {
        if (!take_text(&c, &query)) {
            return false; /* at most bytes / 4 rounds */
        }
    }
    if (c.left != 0) {
        return false;
    }
    *ret = m;
    return true;
}

bool nbd_meta_next(NbdMetaData *m, NbdText *ret)
{
    Cursor c = {m->queries, m->queries_bytes};

    while (m->n_queries > 0) {
        bool ok = take_text(&c, ret);

        assert(ok); /* nbd_meta_parse() has walked them */
        m->n_queries--;
        m->queries = c.p;
        m->queries_bytes = c.left;
        if (ret->len <= NBD_MAX_STRING) {
            return true;
        }
    }
    return false;
}

void nbd_export_info_init(NbdExportInfo *info)
{
    *info = (NbdExportInfo){.min_block = 1, .preferred = 4096, .max_payload = NBD_MAX_PAYLOAD};
}

static bool is_pow2(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static bool info_export_parse(const uint8_t *in, size_t bytes, NbdExportInfo *info)
{
    if (bytes != 12 || be64_get(in + 2) > INT64_MAX || !(be16_get(in + 10) & NBD_FLAG_HAS_FLAGS)) {
        return false;
    }
    info->size = be64_get(in + 2);
    info->flags = be16_get(in + 10);
    return true;
}

static bool info_block_size_parse(const uint8_t *in, size_t bytes, NbdExportInfo *info)
{
    if (bytes != 14) {
        return false;
    }
    info->min_block = be32_get(in + 2);
    info->preferred = be32_get(in + 6);
    info->max_payload = be32_get(in + 10);
    info->has_block_size = true;
    return is_pow2(info->min_block) && info->min_block <= 64 * KiB && is_pow2(info->preferred) &&
           info->preferred >= info->min_block && info->max_payload >= info->min_block;
}

bool nbd_info_parse(const uint8_t *in, size_t bytes, NbdExportInfo *info, bool *has_export)
{
    if (bytes < 2) {
        return false;
    }
    switch (be16_get(in)) {
    case NBD_INFO_EXPORT:
        *has_export = true;
        return info_export_parse(in, bytes, info);
    case NBD_INFO_BLOCK_SIZE:
        return info_block_size_parse(in, bytes, info);
    default:
        return true;
    }
}

bool nbd_export_info_check(const NbdExportInfo *info)
{
    return (info->flags & NBD_FLAG_HAS_FLAGS) && info->size <= INT64_MAX &&
           info->size % info->min_block == 0;
}

void nbd_info_export_encode(uint8_t out[12], uint64_t size, uint16_t flags)
{
    be16_put(out, NBD_INFO_EXPORT);
    be64_put(out + 2, size);
    be16_put(out + 10, flags);
}

void nbd_info_block_size_encode(uint8_t out[14], uint32_t min, uint32_t preferred, uint32_t max)
{
    be16_put(out, NBD_INFO_BLOCK_SIZE);
    be32_put(out + 2, min);
    be32_put(out + 6, preferred);
    be32_put(out + 10, max);
}

bool nbd_server_parse(const uint8_t *in, size_t bytes, NbdText *ret_name, NbdText *ret_description)
{
    Cursor c = {in, bytes};
    NbdText name, description;

    if (!take_text(&c, &name) || !nbd_text_valid(name)) {
        return false;
    }
    description = (NbdText){(const char *)c.p, c.left};
    if (!nbd_text_valid(description)) {
        return false;
    }
    *ret_name = name;
    *ret_description = description;
    return true;
}

bool nbd_context_parse(const uint8_t *in, size_t bytes, uint32_t *ret_id, NbdText *ret_name)
{
    Cursor c = {in, bytes};
    uint32_t id;
    NbdText name;

    if (!take32(&c, &id)) {
        return false;
    }
    name = (NbdText){(const char *)c.p, c.left};
    if (!nbd_text_valid(name)) {
        return false;
    }
    *ret_id = id;
    *ret_name = name;
    return true;
}

/* --- transmission --- */

bool nbd_request_parse(const uint8_t in[NBD_REQUEST_BYTES], NbdRequest *ret)
{
    if (be32_get(in) != NBD_REQUEST_MAGIC) {
        return false;
    }
    *ret = (NbdRequest){
        .flags = be16_get(in + 4),
        .type = be16_get(in + 6),
        .cookie = be64_get(in + 8),
        .offset = be64_get(in + 16),
        .length = be32_get(in + 24),
    };
    return true;
}

void nbd_request_encode(uint8_t out[NBD_REQUEST_BYTES], const NbdRequest *req)
{
    be32_put(out, NBD_REQUEST_MAGIC);
    be16_put(out + 4, req->flags);
    be16_put(out + 6, req->type);
    be64_put(out + 8, req->cookie);
    be64_put(out + 16, req->offset);
    be32_put(out + 24, req->length);
}

void nbd_simple_reply_encode(uint8_t out[NBD_SIMPLE_REPLY_BYTES], uint32_t wire_error,
                             uint64_t cookie)
{
    be32_put(out, NBD_SIMPLE_REPLY_MAGIC);
    be32_put(out + 4, wire_error);
    be64_put(out + 8, cookie);
}

void nbd_chunk_encode(uint8_t out[NBD_CHUNK_BYTES], uint16_t flags, uint16_t type, uint64_t cookie,
                      uint32_t length)
{
    be32_put(out, NBD_STRUCT_REPLY_MAGIC);
    be16_put(out + 4, flags);
    be16_put(out + 6, type);
    be64_put(out + 8, cookie);
    be32_put(out + 16, length);
}

size_t nbd_reply_bytes(const uint8_t in[4])
{
    switch (be32_get(in)) {
    case NBD_SIMPLE_REPLY_MAGIC:
        return NBD_SIMPLE_REPLY_BYTES;
    case NBD_STRUCT_REPLY_MAGIC:
        return NBD_CHUNK_BYTES;
    default:
        return 0;
    }
}

/* Rules for a chunk that do not depend on the request. */
static bool chunk_is_sane(const NbdReply *r)
{
    bool done = r->flags & NBD_REPLY_FLAG_DONE;

    switch (r->type) {
    case NBD_CHUNK_NONE:
        return done && r->length == 0;
    case NBD_CHUNK_OFFSET_DATA:
        return r->length > NBD_DATA_HEAD_BYTES;
    case NBD_CHUNK_OFFSET_HOLE:
        return r->length == NBD_HOLE_BYTES;
    case NBD_CHUNK_BLOCK_STATUS:
        return r->length >= 4 + NBD_EXTENT_BYTES && (r->length - 4) % NBD_EXTENT_BYTES == 0;
    case NBD_CHUNK_ERROR:
        return r->length >= NBD_ERROR_BYTES;
    case NBD_CHUNK_ERROR_OFFSET:
        return r->length >= NBD_ERROR_BYTES + 8;
    default:
        return r->type & NBD_CHUNK_IS_ERROR;
    }
}

bool nbd_reply_parse(const uint8_t *in, NbdReply *ret)
{
    NbdReply r = {.cookie = be64_get(in + 8)};

    if (be32_get(in) == NBD_SIMPLE_REPLY_MAGIC) {
        r.wire_error = be32_get(in + 4);
        *ret = r;
        return true;
    }
    r.structured = true;
    r.flags = be16_get(in + 4);
    r.type = be16_get(in + 6);
    r.length = be32_get(in + 16);
    if (!chunk_is_sane(&r)) {
        return false;
    }
    *ret = r;
    return true;
}

bool nbd_error_parse(uint16_t type, const uint8_t *in, size_t bytes, uint32_t *ret_wire_error,
                     NbdText *ret_text)
{
    size_t rest = type == NBD_CHUNK_ERROR_OFFSET ? 8 : 0;
    uint32_t wire;
    uint16_t text;

    if (bytes < NBD_ERROR_BYTES + rest) {
        return false;
    }
    wire = be32_get(in);
    text = be16_get(in + 4);
    if (wire == 0 || text > bytes - NBD_ERROR_BYTES - rest) {
        return false;
    }
    *ret_wire_error = wire;
    *ret_text = (NbdText){(const char *)in + NBD_ERROR_BYTES, text};
    return true;
}

bool nbd_extent_get(const uint8_t *extents, size_t i, NbdExtent *ret)
{
    const uint8_t *p = extents + i * NBD_EXTENT_BYTES;

    ret->length = be32_get(p);
    ret->flags = be32_get(p + 4);
    return ret->length != 0;
}

/* --- errors: Linux numbers on the wire, whatever the host's are --- */

static const struct {
    uint32_t wire;
    int err;
} wire_errors[] = {
    {1, EPERM},   {5, EIO},        {12, ENOMEM},  {22, EINVAL},
    {28, ENOSPC}, {75, EOVERFLOW}, {95, ENOTSUP}, {108, ESHUTDOWN},
};

uint32_t nbd_errno_to_wire(int err)
{
    switch (err) {
    case EROFS:
        err = EPERM;
        break;
    case EDQUOT:
    case EFBIG:
        err = ENOSPC;
        break;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(wire_errors); i++) {
        if (wire_errors[i].err == err) {
            return wire_errors[i].wire;
        }
    }
    return 22;
}

int nbd_errno_from_wire(uint32_t wire)
{
    for (size_t i = 0; i < G_N_ELEMENTS(wire_errors); i++) {
        if (wire_errors[i].wire == wire) {
            return wire_errors[i].err;
        }
    }
    return EINVAL;
}

/* --- names --- */

const char *nbd_opt_name(uint32_t option)
{
    static const char *const names[] = {
        [NBD_OPT_EXPORT_NAME] = "EXPORT_NAME",
        [NBD_OPT_ABORT] = "ABORT",
        [NBD_OPT_LIST] = "LIST",
        [NBD_OPT_PEEK_EXPORT] = "PEEK_EXPORT",
        [NBD_OPT_STARTTLS] = "STARTTLS",
        [NBD_OPT_INFO] = "INFO",
        [NBD_OPT_GO] = "GO",
        [NBD_OPT_STRUCTURED_REPLY] = "STRUCTURED_REPLY",
        [NBD_OPT_LIST_META_CONTEXT] = "LIST_META_CONTEXT",
        [NBD_OPT_SET_META_CONTEXT] = "SET_META_CONTEXT",
        [NBD_OPT_EXTENDED_HEADERS] = "EXTENDED_HEADERS",
    };

    return option < G_N_ELEMENTS(names) && names[option] ? names[option] : "an unknown option";
}

const char *nbd_rep_error_name(uint32_t type)
{
    switch (type) {
    case NBD_REP_ERR_UNSUP:
        return "not supported";
    case NBD_REP_ERR_POLICY:
        return "forbidden by the server's policy";
    case NBD_REP_ERR_INVALID:
        return "invalid request";
    case NBD_REP_ERR_PLATFORM:
        return "not supported on the server's platform";
    case NBD_REP_ERR_TLS_REQD:
        return "TLS is required";
    case NBD_REP_ERR_UNKNOWN:
        return "export is unknown";
    case NBD_REP_ERR_SHUTDOWN:
        return "server is shutting down";
    case NBD_REP_ERR_BLOCK_SIZE_REQD:
        return "server requires the block size to be negotiated";
    case NBD_REP_ERR_TOO_BIG:
        return "request is too big";
    case NBD_REP_ERR_EXT_HEADER_REQD:
        return "extended headers are required";
    default:
        return "unknown error";
    }
}
