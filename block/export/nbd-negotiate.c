/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake of an NBD connection, server side.
 *
 * Source: NBD protocol specification, "Handshake phase". Fixed newstyle only.
 * An option is read whole (its length is bounded first), answered with one
 * write, and only then is the next one looked at. Malformed option data is an
 * error reply; what breaks the framing ends the connection. The number of
 * options and the bytes dropped are bounded, and the caller's deadline runs
 * until the handshake is over.
 */
#include "nbd-server.h"

#include <errno.h>

#include "util/trace.h"

#define MAX_OPTIONS 1024       /* of one client; real ones send fewer than ten */
#define MAX_DATA    (64 * KiB) /* of one option; longer data is dropped and refused */
#define MAX_DROPPED NBD_MAX_OPTION

typedef enum NegoResult {
    NEGO_NEXT,
    NEGO_TRANSMIT,
    NEGO_CLOSE,
} NegoResult;

typedef struct Nego {
    NbdConn *c;
    uint32_t option; /* the one being answered */
    const uint8_t *data;
    uint32_t bytes;
    GByteArray *reply;
    bool fixed;
    uint64_t dropped;
} Nego;

/* --- replies --- */

static void put_reply(Nego *n, uint32_t type, const void *data, uint32_t bytes)
{
    uint8_t head[NBD_OPT_REPLY_BYTES];

    nbd_opt_reply_encode(head, n->option, type, bytes);
    g_byte_array_append(n->reply, head, sizeof(head));
    if (bytes) {
        g_byte_array_append(n->reply, data, bytes);
    }
}

static NegoResult put_ack(Nego *n)
{
    put_reply(n, NBD_REP_ACK, NULL, 0);
    return NEGO_NEXT;
}

static NegoResult put_error(Nego *n, uint32_t type, const char *text)
{
    put_reply(n, type, text, strlen(text));
    return NEGO_NEXT;
}

/* Of a name only the start, so that the answer is no longer than an error may be. */
static NegoResult put_unknown(Nego *n, NbdText name)
{
    g_autofree char *text = g_strdup_printf("export '%.*s%s' not present", (int)MIN(name.len, 80),
                                            name.s, name.len > 80 ? "..." : "");

    return put_error(n, NBD_REP_ERR_UNKNOWN, text);
}

static NegoResult put_invalid(Nego *n)
{
    return put_error(n, NBD_REP_ERR_INVALID, "malformed option data");
}

/* A u32 or u16 and text. */
static void
put_text_reply(Nego *n, uint32_t type, const void *head, size_t head_bytes, const char *text)
{
    g_autoptr(GByteArray) b = g_byte_array_new();

    g_byte_array_append(b, head, head_bytes);
    g_byte_array_append(b, (const uint8_t *)text, strlen(text));
    put_reply(n, type, b->data, b->len);
}

/* --- what an export is to this client --- */

static uint16_t export_flags(const NbdConn *c, const NbdExport *e)
{
    uint16_t flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

    if (e->writable) {
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    } else {
        flags |= NBD_FLAG_READ_ONLY;
    }
    if (c->structured) {
        flags |= NBD_FLAG_SEND_DF;
    }
    if (c->server->o.max_connections != 1) {
        flags |= NBD_FLAG_CAN_MULTI_CONN; /* one backend behind all of them */
    }
    return flags;
}

static uint32_t offered_contexts(const NbdExport *e)
{
    return NBD_CTX_BASE | (e->depth_context ? NBD_CTX_DEPTH : 0);
}

/* Contexts live only as long as the client keeps to the export it chose them for. */
static void keep_contexts_for(NbdConn *c, const NbdExport *e)
{
    if (!c->context_export || strcmp(c->context_export, e->name) != 0) {
        c->contexts = 0;
    }
    c->contexts &= offered_contexts(e);
}

/* --- options --- */

static NegoResult opt_export_name(Nego *n)
{
    NbdConn *c = n->c;
    NbdText name = {(const char *)n->data, n->bytes};
    NbdExport *e = nbd_text_valid(name) ? nbd_server_find(c->server, name) : NULL;
    uint8_t out[NBD_EXPORT_NAME_BYTES + NBD_EXPORT_NAME_ZEROES] = {0};

    if (!e) {
        return NEGO_CLOSE; /* there is no way to say why */
    }
    be64_put(out, e->ops->length(e->disk));
    be16_put(out + 8, export_flags(c, e));
    g_byte_array_append(n->reply, out, c->no_zeroes ? NBD_EXPORT_NAME_BYTES : sizeof(out));
    keep_contexts_for(c, e);
    nbd_conn_attach(c, e);
    return NEGO_TRANSMIT;
}

static NegoResult opt_list(Nego *n)
{
    GPtrArray *exports = n->c->server->exports;

    if (n->bytes) {
        return put_invalid(n);
    }
    for (guint i = 0; i < exports->len; i++) {
        const NbdExport *e = exports->pdata[i];
        g_autoptr(GByteArray) head = g_byte_array_new();
        uint8_t len[4];

        be32_put(len, strlen(e->name));
        g_byte_array_append(head, len, sizeof(len));
        g_byte_array_append(head, (const uint8_t *)e->name, strlen(e->name));
        put_text_reply(n, NBD_REP_SERVER, head->data, head->len,
                       e->description ? e->description : "");
    }
    return put_ack(n);
}

static void put_infos(Nego *n, const NbdExport *e, const NbdGoData *go)
{
    uint8_t block_size[14], export[12], type[2];

    if (go->wants_name) {
        be16_put(type, NBD_INFO_NAME);
        put_text_reply(n, NBD_REP_INFO, type, sizeof(type), e->name);
    }
    if (e->description) {
        be16_put(type, NBD_INFO_DESCRIPTION);
        put_text_reply(n, NBD_REP_INFO, type, sizeof(type), e->description);
    }
    /* Any byte can be addressed: what the disk below cannot do, the core pads. */
    nbd_info_block_size_encode(block_size, 1, e->preferred_block, NBD_MAX_PAYLOAD);
    put_reply(n, NBD_REP_INFO, block_size, sizeof(block_size));
    nbd_info_export_encode(export, e->ops->length(e->disk), export_flags(n->c, e));
    put_reply(n, NBD_REP_INFO, export, sizeof(export));
}

static NegoResult opt_info_or_go(Nego *n)
{
    NbdConn *c = n->c;
    NbdGoData go;
    NbdExport *e;

    if (!nbd_go_parse(n->data, n->bytes, &go)) {
        return put_invalid(n);
    }
    e = nbd_server_find(c->server, go.name);
    if (!e) {
        return put_unknown(n, go.name);
    }
    put_infos(n, e, &go);
    put_ack(n);
    if (n->option == NBD_OPT_INFO) {
        return NEGO_NEXT;
    }
    keep_contexts_for(c, e);
    nbd_conn_attach(c, e);
    return NEGO_TRANSMIT;
}

static NegoResult opt_structured_reply(Nego *n)
{
    if (n->bytes || n->c->structured) {
        return put_invalid(n);
    }
    n->c->structured = true;
    return put_ack(n);
}

/* The contexts that @query names; in a LIST a namespace or its start names all below. */
static uint32_t contexts_of(NbdText query, uint32_t offered, bool list)
{
    uint32_t ret = 0;

    if (nbd_text_equals(query, NBD_CONTEXT_BASE_ALLOCATION) ||
        (list && nbd_text_equals(query, "base:"))) {
        ret |= NBD_CTX_BASE;
    }
    if (nbd_text_equals(query, NBD_CONTEXT_QEMU_DEPTH) ||
        (list && nbd_text_equals(query, "qemu:"))) {
        ret |= NBD_CTX_DEPTH;
    }
    return ret & offered;
}

static void put_context(Nego *n, uint32_t id, const char *name)
{
    uint8_t wire_id[4];

    be32_put(wire_id, n->option == NBD_OPT_SET_META_CONTEXT ? id : 0);
    put_text_reply(n, NBD_REP_META_CONTEXT, wire_id, sizeof(wire_id), name);
}

static NegoResult opt_meta_context(Nego *n)
{
    NbdConn *c = n->c;
    bool list = n->option == NBD_OPT_LIST_META_CONTEXT;
    bool instance = false;
    uint32_t found = 0;
    NbdMetaData m;
    NbdText query;
    NbdExport *e;

    if (!list) {
        c->contexts = 0; /* a failed SET drops the earlier set too */
        g_clear_pointer(&c->context_export, g_free);
        if (!c->structured) {
            return put_error(n, NBD_REP_ERR_INVALID, "structured replies come first");
        }
    }
    if (!nbd_meta_parse(n->data, n->bytes, &m)) {
        return put_invalid(n);
    }
    e = nbd_server_find(c->server, m.name);
    if (!e) {
        return put_unknown(n, m.name);
    }
    if (list && m.n_queries == 0) {
        found = offered_contexts(e);
    }
    while (nbd_meta_next(&m, &query)) {
        found |= contexts_of(query, offered_contexts(e), list);
        instance |= list && nbd_text_equals(query, NBD_CONTEXT_INSTANCE);
    }
    if (found & NBD_CTX_BASE) {
        put_context(n, 0, NBD_CONTEXT_BASE_ALLOCATION);
    }
    if (found & NBD_CTX_DEPTH) {
        put_context(n, 1, NBD_CONTEXT_QEMU_DEPTH);
    }
    if (instance) {
        put_context(n, 0, e->instance);
    }
    if (!list) {
        c->contexts = found;
        c->context_export = g_strdup(e->name);
    }
    return put_ack(n);
}

static NegoResult answer(Nego *n)
{
    if (!n->fixed && n->option != NBD_OPT_EXPORT_NAME) {
        return NEGO_CLOSE;
    }
    switch (n->option) {
    case NBD_OPT_EXPORT_NAME:
        return opt_export_name(n);
    case NBD_OPT_ABORT:
        put_ack(n);
        return NEGO_CLOSE;
    case NBD_OPT_LIST:
        return opt_list(n);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return opt_info_or_go(n);
    case NBD_OPT_STRUCTURED_REPLY:
        return opt_structured_reply(n);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return opt_meta_context(n);
    default:
        return put_error(n, NBD_REP_ERR_UNSUP, "option is not supported");
    }
}

/* --- reading them --- */

static bool coroutine_fn send_reply(Nego *n)
{
    int ret = 0;

    if (n->reply->len) {
        ret = stream_co_write_all(n->c->stream, n->reply->data, n->reply->len);
        g_byte_array_set_size(n->reply, 0);
    }
    return ret == 0;
}

static NegoResult coroutine_fn drop_long_option(Nego *n)
{
    n->dropped += n->bytes;
    if (n->option == NBD_OPT_EXPORT_NAME || !n->fixed || n->dropped > MAX_DROPPED ||
        nbd_reader_co_skip(&n->c->reader, n->bytes) < 0) {
        return NEGO_CLOSE;
    }
    return put_error(n, NBD_REP_ERR_TOO_BIG, "option data is too long");
}

static NegoResult coroutine_fn one_option(Nego *n)
{
    g_autofree uint8_t *data = NULL;
    const uint8_t *p;
    NbdOptHeader h;
    NegoResult result;

    if (nbd_reader_co_need(&n->c->reader, NBD_OPT_BYTES, &p) < 0 || !nbd_opt_parse(p, &h)) {
        return NEGO_CLOSE;
    }
    nbd_reader_consume(&n->c->reader, NBD_OPT_BYTES);
    n->option = h.option;
    n->bytes = h.length;
    if (h.length > MAX_DATA) {
        result = drop_long_option(n);
    } else {
        n->data = data = g_malloc(h.length + 1);
        if (nbd_reader_co_read(&n->c->reader, data, h.length) < 0) {
            return NEGO_CLOSE;
        }
        result = answer(n);
    }
    return send_reply(n) ? result : NEGO_CLOSE;
}

static bool coroutine_fn greet(Nego *n)
{
    NbdConn *c = n->c;
    uint8_t greeting[NBD_GREETING_BYTES];
    const uint8_t *p;
    uint32_t flags;

    nbd_greeting_encode(greeting, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (stream_co_write_all(c->stream, greeting, sizeof(greeting)) < 0 ||
        nbd_reader_co_need(&c->reader, 4, &p) < 0) {
        return false;
    }
    flags = be32_get(p);
    nbd_reader_consume(&c->reader, 4);
    n->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return !(flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
}

bool coroutine_fn nbd_conn_co_negotiate(NbdConn *c)
{
    Nego n = {.c = c};
    NegoResult result = NEGO_CLOSE;

    n.reply = g_byte_array_new();
    if (greet(&n)) {
        result = NEGO_NEXT;
    }
    for (int i = 0; i < MAX_OPTIONS && result == NEGO_NEXT; i++) {
        result = one_option(&n);
    }
    g_byte_array_unref(n.reply);
    return result == NEGO_TRANSMIT;
}
