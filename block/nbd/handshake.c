/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's handshake: see handshake.h.
 *
 * Source: NBD protocol specification, "Handshake phase". The server is not
 * trusted: each reply must answer the option that was asked, lengths are
 * bounded before memory is taken, the number of replies is bounded, and text
 * that goes into a message is made printable.
 */
#include "block/nbd/handshake.h"

#include <errno.h>
#include <inttypes.h>

#define MAX_DATA    (2 * (NBD_MAX_STRING + 64)) /* of one reply that we look into */
#define MAX_REPLIES 10000                       /* to one option */

/* The answer being looked at. */
typedef struct Answer {
    NbdOptReply h;
    uint8_t data[MAX_DATA];
    uint32_t bytes; /* of @data; an oversized error text is dropped: 0 */
} Answer;

static bool fail_io(GError **errp, int ret, const char *what)
{
    if (ret == -ENODATA || ret == -ECONNRESET || ret == -EPIPE) {
        return fail(errp, "The NBD server closed the connection %s", what);
    }
    return fail_errno(errp, -ret, "Connection to the NBD server broke %s", what);
}

/* --- options --- */

static bool coroutine_fn
send_option(NbdReader *r, uint32_t option, const void *data, uint32_t bytes, GError **errp)
{
    g_autofree uint8_t *msg = g_malloc(NBD_OPT_BYTES + bytes);
    int ret;

    nbd_opt_encode(msg, option, bytes);
    if (bytes) {
        memcpy(msg + NBD_OPT_BYTES, data, bytes);
    }
    ret = stream_co_write_all(r->stream, msg, NBD_OPT_BYTES + bytes);
    return ret == 0 || fail_io(errp, ret, "during the handshake");
}

static bool coroutine_fn read_data(NbdReader *r, Answer *a, GError **errp)
{
    int ret;

    a->bytes = a->h.length;
    if (a->h.length > MAX_DATA) {
        if (!(a->h.type & NBD_REP_ERROR)) {
            return fail(errp, "NBD server's reply to %s is too long", nbd_opt_name(a->h.option));
        }
        a->bytes = 0;
        ret = nbd_reader_co_skip(r, a->h.length);
    } else {
        ret = nbd_reader_co_read(r, a->data, a->bytes);
    }
    return ret == 0 || fail_io(errp, ret, "during the handshake");
}

static bool coroutine_fn read_answer(NbdReader *r, uint32_t option, Answer *a, GError **errp)
{
    const uint8_t *p;
    int ret = nbd_reader_co_need(r, NBD_OPT_REPLY_BYTES, &p);

    if (ret < 0) {
        return fail_io(errp, ret, "during the handshake");
    }
    if (!nbd_opt_reply_parse(p, &a->h)) {
        return fail(errp, "NBD server sent a malformed reply to %s", nbd_opt_name(option));
    }
    if (a->h.option != option) {
        return fail(errp, "NBD server answered %s when asked %s", nbd_opt_name(a->h.option),
                    nbd_opt_name(option));
    }
    nbd_reader_consume(r, NBD_OPT_REPLY_BYTES);
    return read_data(r, a, errp);
}

/* The server's own words, printable and short: the second line of an error. */
static char *error_text(const Answer *a)
{
    g_autofree char *s = NULL, *valid = NULL;

    if (a->bytes == 0) {
        return g_strdup("");
    }
    s = g_strndup((const char *)a->data, MIN(a->bytes, 256));
    valid = g_utf8_make_valid(s, -1);
    for (char *p = valid; *p; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = ' ';
        }
    }
    return g_strdup_printf("\nserver reported: %s", valid);
}

static bool fail_refused(GError **errp, const Answer *a, const char *what)
{
    g_autofree char *text = error_text(a);

    return fail(errp, "%s: %s%s", what, nbd_rep_error_name(a->h.type), text);
}

static bool fail_unexpected(GError **errp, const Answer *a)
{
    return fail(errp, "NBD server sent an unexpected reply of type %" PRIu32 " to %s", a->h.type,
                nbd_opt_name(a->h.option));
}

static void append_text(GByteArray *b, const char *s)
{
    uint8_t len[4];

    be32_put(len, strlen(s));
    g_byte_array_append(b, len, sizeof(len));
    g_byte_array_append(b, (const uint8_t *)s, strlen(s));
}

/* --- greeting --- */

typedef struct Greeting {
    bool fixed, no_zeroes;
} Greeting;

static bool coroutine_fn read_greeting(NbdReader *r, Greeting *ret_g, GError **errp)
{
    const uint8_t *p;
    int ret = nbd_reader_co_need(r, NBD_GREETING_BYTES, &p);
    uint16_t flags;

    if (ret < 0) {
        return fail_io(errp, ret, "before it said what it is");
    }
    if (be64_get(p) != NBD_MAGIC) {
        return fail(errp, "Not an NBD server");
    }
    if (be64_get(p + 8) == NBD_OLDSTYLE_MAGIC) {
        return fail(errp, "NBD server speaks the old style protocol only, which is not supported");
    }
    if (be64_get(p + 8) != NBD_OPTS_MAGIC) {
        return fail(errp, "NBD server speaks an unknown protocol");
    }
    flags = be16_get(p + 16);
    nbd_reader_consume(r, NBD_GREETING_BYTES);
    ret_g->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    ret_g->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return true;
}

static bool coroutine_fn greet(NbdReader *r, Greeting *g, GError **errp)
{
    uint8_t flags[4];
    int ret;

    if (!read_greeting(r, g, errp)) {
        return false;
    }
    be32_put(flags,
             (g->fixed ? NBD_FLAG_FIXED_NEWSTYLE : 0) | (g->no_zeroes ? NBD_FLAG_NO_ZEROES : 0));
    ret = stream_co_write_all(r->stream, flags, sizeof(flags));
    return ret == 0 || fail_io(errp, ret, "during the handshake");
}

/* --- STRUCTURED_REPLY --- */

static bool coroutine_fn ask_structured(NbdReader *r, Answer *a, bool *ret, GError **errp)
{
    if (!send_option(r, NBD_OPT_STRUCTURED_REPLY, NULL, 0, errp) ||
        !read_answer(r, NBD_OPT_STRUCTURED_REPLY, a, errp)) {
        return false;
    }
    if (a->h.type != NBD_REP_ACK && !(a->h.type & NBD_REP_ERROR)) {
        return fail_unexpected(errp, a);
    }
    *ret = a->h.type == NBD_REP_ACK; /* any error: it has none */
    return true;
}

/* --- SET_META_CONTEXT --- */

static bool coroutine_fn
send_meta(NbdReader *r, uint32_t option, const char *export, const char *query, GError **errp)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    uint8_t n[4];

    append_text(b, export);
    be32_put(n, query ? 1 : 0);
    g_byte_array_append(b, n, sizeof(n));
    if (query) {
        append_text(b, query);
    }
    return send_option(r, option, b->data, b->len, errp);
}

static bool coroutine_fn ask_context(NbdReader *r, Answer *a, const char *export,
                                     const char *context, NbdSession *s, GError **errp)
{
    if (!send_meta(r, NBD_OPT_SET_META_CONTEXT, export, context, errp)) {
        return false;
    }
    for (;;) {
        NbdText name;

        if (!read_answer(r, NBD_OPT_SET_META_CONTEXT, a, errp)) {
            return false;
        }
        if (a->h.type == NBD_REP_ACK) {
            return true;
        }
        if (a->h.type & NBD_REP_ERROR) {
            s->has_context = false;
            return true; /* GO will tell if the export is the problem */
        }
        if (a->h.type != NBD_REP_META_CONTEXT || s->has_context ||
            !nbd_context_parse(a->data, a->bytes, &s->context_id, &name) ||
            !nbd_text_equals(name, context)) {
            return fail(errp, "NBD server answered with another metadata context than '%s'",
                        context);
        }
        s->has_context = true;
    }
}

/* --- LIST_META_CONTEXT: the export's instance --- */

static void note_instance(NbdText name, NbdSession *s)
{
    size_t prefix = strlen(NBD_CONTEXT_INSTANCE);

    if (name.len == prefix + NBD_INSTANCE_BYTES &&
        memcmp(name.s, NBD_CONTEXT_INSTANCE, prefix) == 0) {
        memcpy(s->instance, name.s + prefix, NBD_INSTANCE_BYTES);
    }
}

/* Whoever does not know what we mean says so, or lists nothing. */
static bool coroutine_fn
ask_instance(NbdReader *r, Answer *a, const char *export, NbdSession *s, GError **errp)
{
    if (!send_meta(r, NBD_OPT_LIST_META_CONTEXT, export, NBD_CONTEXT_INSTANCE, errp)) {
        return false;
    }
    for (int i = 0; i < MAX_REPLIES; i++) {
        uint32_t id;
        NbdText name;

        if (!read_answer(r, NBD_OPT_LIST_META_CONTEXT, a, errp)) {
            return false;
        }
        if (a->h.type == NBD_REP_ACK || a->h.type & NBD_REP_ERROR) {
            return true;
        }
        if (a->h.type != NBD_REP_META_CONTEXT ||
            !nbd_context_parse(a->data, a->bytes, &id, &name)) {
            return fail(errp, "NBD server sent a malformed list of metadata contexts");
        }
        note_instance(name, s);
    }
    return fail(errp, "NBD server does not come to an end of its replies");
}

/* --- GO, INFO --- */

static bool coroutine_fn send_go(NbdReader *r, uint32_t option, const char *export, GError **errp)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    uint8_t tail[4];

    append_text(b, export);
    be16_put(tail, 1);
    be16_put(tail + 2, NBD_INFO_BLOCK_SIZE);
    g_byte_array_append(b, tail, sizeof(tail));
    return send_option(r, option, b->data, b->len, errp);
}

/* All replies to GO or INFO. *ret_type: ACK or the error. */
static bool coroutine_fn read_infos(NbdReader *r, Answer *a, uint32_t option, NbdExportInfo *info,
                                    uint32_t *ret_type, GError **errp)
{
    bool has_export = false;

    nbd_export_info_init(info);
    for (int i = 0; i < MAX_REPLIES; i++) {
        if (!read_answer(r, option, a, errp)) {
            return false;
        }
        *ret_type = a->h.type;
        if (a->h.type & NBD_REP_ERROR) {
            return true;
        }
        if (a->h.type == NBD_REP_ACK) {
            return (has_export && nbd_export_info_check(info)) ||
                   fail(errp, "NBD server did not describe the export, or not consistently");
        }
        if (a->h.type != NBD_REP_INFO) {
            return fail_unexpected(errp, a);
        }
        if (!nbd_info_parse(a->data, a->bytes, info, &has_export)) {
            return fail(errp, "NBD server sent malformed information about the export");
        }
    }
    return fail(errp, "NBD server does not come to an end of its replies");
}

/* --- LIST, EXPORT_NAME: for servers without GO --- */

typedef void ListedFn(NbdText name, NbdText description, void *opaque);

static bool coroutine_fn list_exports(NbdReader *r, Answer *a, ListedFn *fn, void *opaque,
                                      bool *ret_supported, GError **errp)
{
    if (!send_option(r, NBD_OPT_LIST, NULL, 0, errp)) {
        return false;
    }
    for (int i = 0; i < MAX_REPLIES; i++) {
        NbdText name, description;

        if (!read_answer(r, NBD_OPT_LIST, a, errp)) {
            return false;
        }
        *ret_supported = !(a->h.type & NBD_REP_ERROR);
        if (a->h.type == NBD_REP_ACK || !*ret_supported) {
            return true;
        }
        if (a->h.type != NBD_REP_SERVER ||
            !nbd_server_parse(a->data, a->bytes, &name, &description)) {
            return fail(errp, "NBD server sent a malformed list of exports");
        }
        fn(name, description, opaque);
    }
    return fail(errp, "NBD server does not come to an end of its replies");
}

typedef struct Wanted {
    const char *name;
    bool found;
} Wanted;

static void look_for(NbdText name, NbdText description, void *opaque)
{
    Wanted *w = opaque;

    w->found |= nbd_text_equals(name, w->name);
}

static bool coroutine_fn use_export_name(NbdReader *r, const Greeting *g, const char *export,
                                         NbdExportInfo *info, GError **errp)
{
    const uint8_t *p;
    size_t bytes = NBD_EXPORT_NAME_BYTES + (g->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES);
    int ret;

    nbd_export_info_init(info);
    if (!send_option(r, NBD_OPT_EXPORT_NAME, export, strlen(export), errp)) {
        return false;
    }
    ret = nbd_reader_co_need(r, bytes, &p);
    if (ret < 0) {
        return fail_io(errp, ret, "when asked for the export");
    }
    if (be64_get(p) > INT64_MAX || !(be16_get(p + 8) & NBD_FLAG_HAS_FLAGS)) {
        return fail(errp, "NBD server sent malformed information about the export");
    }
    info->size = be64_get(p);
    info->flags = be16_get(p + 8);
    nbd_reader_consume(r, bytes);
    return true;
}

/* A wrong name just ends the connection, so ask first whether it is there. */
static bool coroutine_fn go_without_go(NbdReader *r, Answer *a, const Greeting *g,
                                       const char *export, NbdExportInfo *info, GError **errp)
{
    Wanted w = {.name = export};
    bool supported = false;

    if (g->fixed) {
        if (!list_exports(r, a, look_for, &w, &supported, errp)) {
            return false;
        }
        if (supported && !w.found && *export) {
            return fail(errp, "Requested export not available");
        }
    }
    return use_export_name(r, g, export, info, errp);
}

static bool coroutine_fn go(NbdReader *r, Answer *a, const Greeting *g, const char *export,
                            NbdExportInfo *info, GError **errp)
{
    g_autofree char *text = NULL;
    uint32_t type;

    if (!send_go(r, NBD_OPT_GO, export, errp) || !read_infos(r, a, NBD_OPT_GO, info, &type, errp)) {
        return false;
    }
    if (type == NBD_REP_ACK) {
        return true;
    }
    if (type == NBD_REP_ERR_UNSUP) {
        return go_without_go(r, a, g, export, info, errp);
    }
    if (type == NBD_REP_ERR_UNKNOWN) {
        text = error_text(a);
        return fail(errp, "Requested export not available%s", text);
    }
    return fail_refused(errp, a, "NBD server refuses the export");
}

static bool coroutine_fn negotiate(NbdReader *r, Answer *a, const char *export, const char *context,
                                   bool want_instance, NbdSession *s, GError **errp)
{
    Greeting g;

    if (!greet(r, &g, errp)) {
        return false;
    }
    if (!g.fixed) {
        return go_without_go(r, a, &g, export, &s->info, errp);
    }
    if (!ask_structured(r, a, &s->structured, errp)) {
        return false;
    }
    if (s->structured && context && !ask_context(r, a, export, context, s, errp)) {
        return false;
    }
    if (want_instance && !ask_instance(r, a, export, s, errp)) {
        return false;
    }
    return go(r, a, &g, export, &s->info, errp);
}

bool coroutine_fn nbd_handshake_co_client(NbdReader *r, const char *export, const char *context,
                                          bool want_instance, NbdSession *ret, GError **errp)
{
    g_autofree Answer *a = g_new(Answer, 1);
    NbdSession s = {0};

    if (strlen(export) > NBD_MAX_STRING) {
        return fail(errp, "Export name is longer than %d bytes", NBD_MAX_STRING);
    }
    if (!negotiate(r, a, export, context, want_instance, &s, errp)) {
        return false;
    }
    *ret = s;
    return true;
}

/* --- listing --- */

void nbd_listed_free(NbdListed *l)
{
    g_free(l->name);
    g_free(l->description);
    g_strfreev(l->contexts);
    g_free(l);
}

static void add_listed(NbdText name, NbdText description, void *opaque)
{
    NbdListed *l = g_new0(NbdListed, 1);

    l->name = g_strndup(name.s, name.len);
    l->description = g_strndup(description.s, description.len);
    g_ptr_array_add(opaque, l);
}

static bool coroutine_fn list_contexts(NbdReader *r, Answer *a, NbdListed *l, GError **errp)
{
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();

    if (!send_meta(r, NBD_OPT_LIST_META_CONTEXT, l->name, NULL, errp)) {
        return false;
    }
    for (int i = 0; i < MAX_REPLIES; i++) {
        g_autofree char *s = NULL;
        uint32_t id;
        NbdText name;

        if (!read_answer(r, NBD_OPT_LIST_META_CONTEXT, a, errp)) {
            return false;
        }
        if (a->h.type & NBD_REP_ERROR) {
            return true;
        }
        if (a->h.type == NBD_REP_ACK) {
            l->contexts = g_strv_builder_end(names);
            return true;
        }
        if (a->h.type != NBD_REP_META_CONTEXT ||
            !nbd_context_parse(a->data, a->bytes, &id, &name)) {
            return fail(errp, "NBD server sent a malformed list of metadata contexts");
        }
        s = g_strndup(name.s, name.len);
        g_strv_builder_add(names, s);
    }
    return fail(errp, "NBD server does not come to an end of its replies");
}

static bool coroutine_fn
describe(NbdReader *r, Answer *a, NbdListed *l, bool structured, GError **errp)
{
    uint32_t type;

    if (!send_go(r, NBD_OPT_INFO, l->name, errp) ||
        !read_infos(r, a, NBD_OPT_INFO, &l->info, &type, errp)) {
        return false;
    }
    l->has_info = type == NBD_REP_ACK;
    return !structured || list_contexts(r, a, l, errp);
}

GPtrArray *coroutine_fn nbd_handshake_co_list(NbdReader *r, GError **errp)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)nbd_listed_free);
    g_autofree Answer *a = g_new(Answer, 1);
    bool supported, structured;
    Greeting g;

    if (!greet(r, &g, errp)) {
        return NULL;
    }
    if (!g.fixed) {
        return fail(errp, "NBD server cannot list its exports"), NULL;
    }
    if (!ask_structured(r, a, &structured, errp) ||
        !list_exports(r, a, add_listed, all, &supported, errp)) {
        return NULL;
    }
    if (!supported) {
        return fail_refused(errp, a, "NBD server does not list its exports"), NULL;
    }
    for (guint i = 0; i < all->len; i++) {
        if (!describe(r, a, all->pdata[i], structured, errp)) {
            return NULL;
        }
    }
    (void)send_option(r, NBD_OPT_ABORT, NULL, 0, NULL); /* a courtesy */
    return g_steal_pointer(&all);
}
