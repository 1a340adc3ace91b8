/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd: a node that is an export of an NBD server.
 *
 * Each request of the core is one request on the wire: zeroes, discards and
 * flushes go as what they are, and bytes exactly as they were asked for.
 */
#include "block/driver.h"

#include <errno.h>

#include "block/backend.h"
#include "block/nbd-client.h"
#include "block/sockaddr.h"

#include "client.h"

#define MAX_EFFECT (1 * GiB) /* of one zero write, discard or status; lengths have 32 bits */

typedef struct NbdState {
    NbdClient *client;
    NbdLinkFn *link_fn;
    void *link_opaque;
} NbdState;

extern const BlockDriver driver_nbd;

/* --- life --- */

static void link_changed(bool up, int err, void *opaque)
{
    BlockNode *node = opaque;
    NbdState *s = node->state;

    if (s->link_fn) {
        s->link_fn(node, up ? NBD_LINK_UP : NBD_LINK_DOWN, err, s->link_opaque);
    }
}

static void writes_lost(int err, void *opaque)
{
    BlockNode *node = opaque;
    NbdState *s = node->state;

    if (s->link_fn) {
        s->link_fn(node, NBD_LINK_WRITES_LOST, err, s->link_opaque);
    }
}

/* A drain that is under way looks again. */
static void link_waiting(void *opaque)
{
    drain_progress();
}

static bool refuse_unsupported(const BlockdevOptionsNbd *o, GError **errp)
{
    const struct {
        const char *name;
        const char *value;
    } refused[] = {
        {"tls-creds", o->tls_creds},
        {"tls-hostname", o->tls_hostname},
        {"x-dirty-bitmap", o->x_dirty_bitmap},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        if (refused[i].value) {
            return fail(errp, "Parameter '%s' of driver nbd is not supported", refused[i].name);
        }
    }
    if (o->export && strlen(o->export) > NBD_MAX_STRING) {
        return fail(errp, "export name too long to send to server");
    }
    return true;
}

static char *print_name(const StreamAddr *addr, const char *export)
{
    g_autofree char *e = g_uri_escape_string(export, "/", true);

    switch (addr->kind) {
    case STREAM_ADDR_UNIX: {
        g_autofree char *path = g_uri_escape_string(addr->path, "/", true);

        return g_strdup_printf("nbd+unix://%s%s?socket=%s", *e ? "/" : "", e, path);
    }
    case STREAM_ADDR_INET:
        return g_strdup_printf(strchr(addr->host, ':') ? "nbd://[%s]:%s%s%s" : "nbd://%s:%s%s%s",
                               addr->host, addr->port, *e ? "/" : "", e);
    default:
        return g_strdup_printf("nbd+fd:///%s", e);
    }
}

static bool take_read_only(BlockNode *node, const NbdSession *session, GError **errp)
{
    if (!(session->info.flags & NBD_FLAG_READ_ONLY) || node->flags.read_only) {
        return true;
    }
    if (!node->flags.auto_read_only) {
        return fail(errp, "request on write denied without write permission");
    }
    node->flags.read_only = true;
    return true;
}

static void take_session(BlockNode *node, const NbdSession *session)
{
    uint16_t flags = session->info.flags;

    node->length = session->info.size;
    node->supported_write_flags = flags & NBD_FLAG_SEND_FUA ? REQ_FUA : 0;
    if (flags & NBD_FLAG_SEND_WRITE_ZEROES) {
        node->supported_zero_flags = REQ_MAY_UNMAP | (flags & NBD_FLAG_SEND_FUA ? REQ_FUA : 0) |
                                     (flags & NBD_FLAG_SEND_FAST_ZERO ? REQ_NO_FALLBACK : 0);
    }
}

static bool coroutine_fn
connect_node(BlockNode *node, const BlockdevOptionsNbd *o, const StreamAddr *addr, GError **errp)
{
    NbdState *s = node->state;
    NbdClientOptions co = {
        .addr = addr,
        .export = o->export ? o->export : "",
        .context = NBD_CONTEXT_BASE_ALLOCATION,
        .reconnect_delay_ns = o->has_reconnect_delay ? o->reconnect_delay * NS_PER_S : 0,
        .open_timeout_ns = o->has_open_timeout ? o->open_timeout * NS_PER_S : 0,
        .link_changed = link_changed,
        .writes_lost = writes_lost,
        .waiting = link_waiting,
        .opaque = node,
    };

    s->client = nbd_client_co_open(&co, errp);
    return s->client != NULL;
}

static bool coroutine_fn nbd_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsNbd *o = &opts->u.nbd;
    const char *export = o->export ? o->export : "";
    NbdState *s = node->state;
    StreamAddr addr;

    if (!refuse_unsupported(o, errp) || !sockaddr_to_stream(o->server, &addr, errp) ||
        !connect_node(node, o, &addr, errp) ||
        !take_read_only(node, nbd_client_session(s->client), errp)) {
        return false;
    }
    take_session(node, nbd_client_session(s->client));
    g_free(node->filename);
    node->filename = print_name(&addr, export);
    return true;
}

static void coroutine_fn nbd_co_close(BlockNode *node)
{
    NbdState *s = node->state;

    if (s->client) {
        nbd_client_co_close(s->client); /* what it waits for can be cancelled */
        s->client = NULL;
    }
}

static bool coroutine_fn nbd_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    NbdState *s = node->state;
    bool server_ro = nbd_client_session(s->client)->info.flags & NBD_FLAG_READ_ONLY;

    if (rs->opts) {
        return fail(errp, "Options of driver nbd cannot be changed");
    }
    if (server_ro && !rs->flags.read_only) {
        return fail(errp, "Can't reopen read-only NBD mount as read/write");
    }
    return true;
}

static void nbd_refresh_limits(BlockNode *node)
{
    NbdState *s = node->state;
    BlockLimits *l = &node->limits;
    const NbdExportInfo *info;
    int64_t max_payload;

    if (!s->client) {
        return; /* asked before the node is open */
    }
    info = &nbd_client_session(s->client)->info;
    max_payload = MIN((int64_t)info->max_payload, NBD_MAX_PAYLOAD);
    l->request_alignment = info->min_block;
    l->max_transfer = ALIGN_DOWN(max_payload, (int64_t)info->min_block);
    if (info->has_block_size && info->preferred > info->min_block) {
        l->opt_transfer = info->preferred;
    }
    l->max_pdiscard = MAX_EFFECT;
    l->pdiscard_alignment = info->min_block;
    l->max_pwrite_zeroes = MAX_EFFECT;
    l->pwrite_zeroes_alignment = info->min_block;
}

/* --- requests --- */

static uint16_t server_flags(const BlockNode *node)
{
    const NbdState *s = node->state;

    return nbd_client_session(s->client)->info.flags;
}

static int coroutine_fn nbd_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    NbdState *s = node->state;
    int64_t inside = MIN((int64_t)iov.bytes, MAX(node->length - offset, 0));
    NbdCall call = {
        .type = NBD_CMD_READ,
        .offset = offset,
        .length = inside,
        .iov = iov_slice(iov, 0, inside),
    };

    /* The size need not be a multiple of what the core aligns to. */
    iov_fill(iov_slice(iov, inside, iov.bytes - inside), 0);
    return inside > 0 ? nbd_client_co_call(s->client, &call) : 0;
}

static int coroutine_fn nbd_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    NbdState *s = node->state;
    NbdCall call = {
        .type = NBD_CMD_WRITE,
        .flags = flags & REQ_FUA ? NBD_CMD_FLAG_FUA : 0,
        .offset = offset,
        .length = iov.bytes,
        .iov = iov,
    };

    return nbd_client_co_call(s->client, &call);
}

static int coroutine_fn
nbd_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    NbdState *s = node->state;
    NbdCall call = {.type = NBD_CMD_WRITE_ZEROES, .offset = offset, .length = bytes};

    if (!(server_flags(node) & NBD_FLAG_SEND_WRITE_ZEROES)) {
        return -ENOTSUP;
    }
    call.flags |= flags & REQ_FUA ? NBD_CMD_FLAG_FUA : 0;
    call.flags |= flags & REQ_MAY_UNMAP ? 0 : NBD_CMD_FLAG_NO_HOLE;
    call.flags |= flags & REQ_NO_FALLBACK ? NBD_CMD_FLAG_FAST_ZERO : 0;
    return nbd_client_co_call(s->client, &call);
}

static int coroutine_fn nbd_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    NbdState *s = node->state;
    NbdCall call = {.type = NBD_CMD_TRIM, .offset = offset, .length = bytes};

    if (!(server_flags(node) & NBD_FLAG_SEND_TRIM)) {
        return -ENOTSUP;
    }
    return nbd_client_co_call(s->client, &call);
}

static int coroutine_fn nbd_co_flush(BlockNode *node)
{
    NbdState *s = node->state;

    return server_flags(node) & NBD_FLAG_SEND_FLUSH ? nbd_client_co_flush(s->client) : 0;
}

static int coroutine_fn nbd_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                            int64_t bytes, BlockStatus *ret)
{
    NbdState *s = node->state;
    NbdCall call = {
        .type = NBD_CMD_BLOCK_STATUS,
        .flags = NBD_CMD_FLAG_REQ_ONE,
        .offset = offset,
        .length = MIN(bytes, MAX_EFFECT),
    };
    int r;

    *ret = (BlockStatus){
        .flags = STATUS_DATA | STATUS_OFFSET_VALID,
        .bytes = bytes,
        .map = offset,
        .file = node,
    };
    if (!nbd_client_session(s->client)->has_context) {
        return 0;
    }
    r = nbd_client_co_call(s->client, &call);
    if (r < 0) {
        return r;
    }
    ret->bytes = call.extent.length;
    ret->flags = STATUS_OFFSET_VALID;
    ret->flags |= call.extent.flags & NBD_STATE_HOLE ? 0 : STATUS_DATA;
    ret->flags |= call.extent.flags & NBD_STATE_ZERO ? STATUS_ZERO : 0;
    return 0;
}

static void nbd_cancel_in_flight(BlockNode *node)
{
    NbdState *s = node->state;

    if (s->client) {
        nbd_client_give_up(s->client);
    } else {
        nbd_client_cancel_open(node);
    }
}

/* Who has not opened yet has had an answer to nothing. */
static bool nbd_peer_is_silent(BlockNode *node)
{
    NbdState *s = node->state;

    return !s->client || nbd_client_is_silent(s->client);
}

/* --- for other parts --- */

bool nbd_client_is(const BlockNode *node)
{
    return node->drv == &driver_nbd;
}

bool nbd_client_is_connected(const BlockNode *node)
{
    const NbdState *s = node->state;

    return nbd_client_state(s->client) == NBD_CLIENT_CONNECTED;
}

void nbd_client_fail_waiting(BlockNode *node)
{
    NbdState *s = node->state;

    if (s->client) {
        nbd_client_stop_waiting(s->client);
    }
}

void nbd_client_set_link_callback(BlockNode *node, NbdLinkFn *fn, void *opaque)
{
    NbdState *s = node->state;

    s->link_fn = fn;
    s->link_opaque = opaque;
}

/* The protocol cannot change a length; who does not need it exactly may ask for less. */
static bool coroutine_fn nbd_co_truncate(BlockNode *node, int64_t length, bool exact,
                                         BlockPreallocMode prealloc, ReqFlags flags, GError **errp)
{
    if (exact && length != node->length) {
        return fail(errp, "Cannot resize NBD nodes");
    }
    return length <= node->length || fail(errp, "Cannot grow NBD nodes");
}

const BlockDriver driver_nbd = {
    .name = "nbd",
    .state_size = sizeof(NbdState),
    .is_protocol = true,
    .closes_unflushed = true,
    .co_open = nbd_co_open,
    .co_close = nbd_co_close,
    .co_reopen_prepare = nbd_co_reopen_prepare,
    .co_preadv = nbd_co_preadv,
    .co_pwritev = nbd_co_pwritev,
    .co_pwrite_zeroes = nbd_co_pwrite_zeroes,
    .co_pdiscard = nbd_co_pdiscard,
    .co_flush = nbd_co_flush,
    .co_truncate = nbd_co_truncate,
    .co_block_status = nbd_co_block_status,
    .cancel_in_flight = nbd_cancel_in_flight,
    .peer_is_silent = nbd_peer_is_silent,
    .cancel_lost = nbd_client_fail_waiting,
    .refresh_limits = nbd_refresh_limits,
};
