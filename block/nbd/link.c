/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdLink: see link.h.
 *
 * Source: NBD protocol specification, "Transmission phase". What the server
 * sends is checked against the request it claims to answer; a reply that no
 * request asked for, or that does not fit, ends the link (-EPROTO inside).
 *
 * Memory of a caller is in use until its reply is complete and its message has
 * left the sender: only then the caller is woken.
 */
#include "link.h"

#include <errno.h>

#include "util/trace.h"

#define SLOT_BITS 8 /* of a cookie; the rest counts uses */
#define MAX_ERROR (NBD_MAX_STRING + NBD_ERROR_BYTES + 8)

struct NbdLink {
    Stream *stream;
    NbdReader reader;
    NbdSender sender;
    NbdSession session;
    NbdLinkDownFn *down;
    void *opaque;

    NbdCall *slots[NBD_LINK_SLOTS];
    uint64_t free_slots; /* a bit each */
    uint64_t uses;
    unsigned calls; /* inside nbd_link_co_call() */
    CoQueue slot_free;
    CoQueue quiet; /* told when a call returns and when the receiver ends */
    int error;     /* -errno since the link failed */
    bool receiving;
    NbdCall bye; /* only its message is used */
};

G_STATIC_ASSERT(NBD_LINK_SLOTS == 64 && NBD_LINK_SLOTS <= 1 << SLOT_BITS);

/* --- slots --- */

static void take_slot(NbdLink *link, NbdCall *call)
{
    unsigned i = __builtin_ctzll(link->free_slots);

    link->free_slots &= ~(UINT64_C(1) << i);
    call->cookie = ++link->uses << SLOT_BITS | i;
    link->slots[i] = call;
}

static void give_slot(NbdLink *link, NbdCall *call)
{
    unsigned i = call->cookie & ((1u << SLOT_BITS) - 1);

    link->slots[i] = NULL;
    link->free_slots |= UINT64_C(1) << i;
    co_queue_wake_one(&link->slot_free);
}

static NbdCall *find_call(NbdLink *link, uint64_t cookie)
{
    unsigned i = cookie & ((1u << SLOT_BITS) - 1);
    NbdCall *call = i < NBD_LINK_SLOTS ? link->slots[i] : NULL;

    return call && call->cookie == cookie && !call->replied ? call : NULL;
}

/* --- the end of a call --- */

static void wake_if_over(NbdCall *call)
{
    if (call->replied && !call->on_wire && call->co) {
        co_wake(call->co);
        call->co = NULL;
    }
}

static void finish_call(NbdCall *call)
{
    call->replied = true;
    wake_if_over(call);
}

static void call_sent(NbdOut *out, void *opaque)
{
    NbdCall *call = container_of(out, NbdCall, out);

    call->on_wire = false;
    wake_if_over(call);
}

/* --- receiving --- */

static int coroutine_fn receive_simple(NbdLink *link, NbdCall *call, const NbdReply *reply)
{
    bool needs_content = call->type == NBD_CMD_BLOCK_STATUS;
    int ret = 0;

    if (call->type == NBD_CMD_READ && link->session.structured) {
        return -EPROTO;
    }
    if (reply->wire_error) {
        call->ret = -nbd_errno_from_wire(reply->wire_error);
    } else if (needs_content) {
        return -EPROTO;
    } else if (call->type == NBD_CMD_READ) {
        ret = nbd_reader_co_readv(&link->reader, call->iov);
    }
    if (ret == 0) {
        finish_call(call);
    }
    return ret;
}

static int coroutine_fn read_be64(NbdLink *link, uint64_t *ret)
{
    const uint8_t *p;
    int r = nbd_reader_co_need(&link->reader, 8, &p);

    if (r == 0) {
        *ret = be64_get(p);
        nbd_reader_consume(&link->reader, 8);
    }
    return r;
}

/* Is [@offset, @offset + @bytes) inside the read and new? */
static bool accept_content(NbdCall *call, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0 || offset < call->offset || offset - call->offset > call->length ||
        bytes > call->length - (offset - call->offset)) {
        return false;
    }
    return nbd_cover_add(&call->cover, offset, bytes);
}

static int coroutine_fn receive_data(NbdLink *link, NbdCall *call, const NbdReply *reply)
{
    uint64_t bytes = reply->length - NBD_DATA_HEAD_BYTES, offset = 0;
    int ret;

    if (call->type != NBD_CMD_READ) {
        return -EPROTO;
    }
    ret = read_be64(link, &offset);
    if (ret < 0) {
        return ret;
    }
    if (!accept_content(call, offset, bytes)) {
        return -EPROTO;
    }
    return nbd_reader_co_readv(&link->reader, iov_slice(call->iov, offset - call->offset, bytes));
}

static int coroutine_fn receive_hole(NbdLink *link, NbdCall *call)
{
    const uint8_t *p;
    uint64_t offset;
    uint32_t bytes;
    int ret;

    if (call->type != NBD_CMD_READ) {
        return -EPROTO;
    }
    ret = nbd_reader_co_need(&link->reader, NBD_HOLE_BYTES, &p);
    if (ret < 0) {
        return ret;
    }
    offset = be64_get(p);
    bytes = be32_get(p + 8);
    nbd_reader_consume(&link->reader, NBD_HOLE_BYTES);
    if (!accept_content(call, offset, bytes)) {
        return -EPROTO;
    }
    iov_fill(iov_slice(call->iov, offset - call->offset, bytes), 0);
    return 0;
}

/*
 * Keep the first state, joined with what equals it. A length that is no multiple
 * of the block size, which some servers send for the tail of an image, is
 * rounded; what is left over of less than a block counts as data.
 */
static void keep_extent(NbdCall *call, NbdExtent x, uint32_t min_block, bool *more)
{
    uint32_t room = call->length - call->extent.length;

    if (call->has_extent && x.flags != call->extent.flags) {
        *more = false;
        return;
    }
    call->has_extent = true;
    call->extent.flags = x.flags;
    call->extent.length += MIN(x.length, room);
    if (call->extent.length % min_block) {
        call->extent.length = ALIGN_DOWN(call->extent.length, min_block);
        *more = false;
        if (call->extent.length == 0) {
            call->extent = (NbdExtent){.length = MIN(min_block, call->length)};
        }
    }
    if (call->extent.length == call->length) {
        *more = false;
    }
}

static int coroutine_fn receive_extents(NbdLink *link, NbdCall *call, const NbdReply *reply)
{
    uint32_t n = (reply->length - 4) / NBD_EXTENT_BYTES;
    bool more = true;
    const uint8_t *p;
    int ret;

    if (call->type != NBD_CMD_BLOCK_STATUS || call->has_extent ||
        reply->length > NBD_MAX_PAYLOAD + 4) {
        return -EPROTO;
    }
    ret = nbd_reader_co_need(&link->reader, 4, &p);
    if (ret < 0) {
        return ret;
    }
    if (be32_get(p) != link->session.context_id) {
        return -EPROTO;
    }
    nbd_reader_consume(&link->reader, 4);
    for (uint32_t i = 0; i < n; i++) {
        NbdExtent x;

        ret = nbd_reader_co_need(&link->reader, NBD_EXTENT_BYTES, &p);
        if (ret < 0) {
            return ret;
        }
        if (!nbd_extent_get(p, 0, &x)) {
            return -EPROTO;
        }
        nbd_reader_consume(&link->reader, NBD_EXTENT_BYTES);
        if (more) {
            keep_extent(call, x, link->session.info.min_block, &more);
        }
    }
    return 0;
}

static int coroutine_fn receive_error(NbdLink *link, NbdCall *call, const NbdReply *reply)
{
    g_autofree uint8_t *data = NULL;
    uint32_t wire;
    NbdText text;
    int ret;

    if (reply->type != NBD_CHUNK_ERROR && reply->type != NBD_CHUNK_ERROR_OFFSET) {
        call->ret = call->ret ? call->ret : -EIO; /* some error of a later time */
        return reply->length > NBD_MAX_PAYLOAD ? -EPROTO
                                               : nbd_reader_co_skip(&link->reader, reply->length);
    }
    if (reply->length > MAX_ERROR) {
        return -EPROTO;
    }
    data = g_malloc(reply->length);
    ret = nbd_reader_co_read(&link->reader, data, reply->length);
    if (ret < 0) {
        return ret;
    }
    if (!nbd_error_parse(reply->type, data, reply->length, &wire, &text)) {
        return -EPROTO;
    }
    call->ret = call->ret ? call->ret : -nbd_errno_from_wire(wire);
    return 0;
}

/* The last chunk was here: is the answer complete? */
static int end_of_chunks(NbdCall *call)
{
    if (call->ret == 0) {
        if (call->type == NBD_CMD_READ && call->cover.bytes != call->length) {
            return -EPROTO;
        }
        if (call->type == NBD_CMD_BLOCK_STATUS && !call->has_extent) {
            return -EPROTO;
        }
    }
    finish_call(call);
    return 0;
}

static int coroutine_fn receive_chunk(NbdLink *link, NbdCall *call, const NbdReply *reply)
{
    int ret;

    switch (reply->type) {
    case NBD_CHUNK_NONE:
        ret = 0;
        break;
    case NBD_CHUNK_OFFSET_DATA:
        ret = receive_data(link, call, reply);
        break;
    case NBD_CHUNK_OFFSET_HOLE:
        ret = receive_hole(link, call);
        break;
    case NBD_CHUNK_BLOCK_STATUS:
        ret = receive_extents(link, call, reply);
        break;
    default:
        ret = receive_error(link, call, reply);
        break;
    }
    if (ret == 0 && (reply->flags & NBD_REPLY_FLAG_DONE)) {
        ret = end_of_chunks(call);
    }
    return ret;
}

static int coroutine_fn receive_header(NbdLink *link, NbdReply *ret)
{
    const uint8_t *p;
    size_t bytes;
    int r = nbd_reader_co_need(&link->reader, 4, &p);

    if (r < 0) {
        return r;
    }
    bytes = nbd_reply_bytes(p);
    if (bytes == 0) {
        return -EPROTO;
    }
    r = nbd_reader_co_need(&link->reader, bytes, &p);
    if (r < 0) {
        return r;
    }
    if (!nbd_reply_parse(p, ret)) {
        return -EPROTO;
    }
    nbd_reader_consume(&link->reader, bytes);
    return 0;
}

static int coroutine_fn receive_reply(NbdLink *link)
{
    NbdReply reply;
    NbdCall *call;
    int ret = receive_header(link, &reply);

    if (ret < 0) {
        return ret;
    }
    call = find_call(link, reply.cookie);
    if (!call || (reply.structured && !link->session.structured)) {
        return -EPROTO;
    }
    return reply.structured ? receive_chunk(link, call, &reply)
                            : receive_simple(link, call, &reply);
}

/* From here on no memory of a caller is in use: the receiver is out, the sender done. */
static void fail_all(NbdLink *link)
{
    for (unsigned i = 0; i < NBD_LINK_SLOTS; i++) {
        NbdCall *call = link->slots[i];

        if (call && !call->replied) {
            call->ret = -EIO;
            call->link_failed = true;
            finish_call(call);
        }
    }
    co_queue_wake_all(&link->slot_free);
}

static void coroutine_fn receive_co(void *opaque)
{
    NbdLink *link = opaque;
    NbdLinkDownFn *down;
    int ret = 0;

    while (ret == 0) {
        ret = receive_reply(link);
    }
    if (ret == -ENODATA) {
        ret = -ECONNRESET;
    }
    if (ret == -EPROTO) {
        trace("nbd-protocol-violation", (uintptr_t)link, 0);
    }
    link->error = ret;
    stream_shutdown(link->stream);
    nbd_sender_co_join(&link->sender);
    fail_all(link);
    link->receiving = false;
    co_queue_wake_all(&link->quiet);
    down = link->down;
    link->down = NULL;
    if (down) {
        down(link, -ret, ret == -EPROTO, link->opaque);
    }
}

/* --- the outside --- */

NbdLink *nbd_link_new(Stream *stream, NbdReader *r, const NbdSession *session, NbdLinkDownFn *down,
                      void *opaque)
{
    NbdLink *link = g_new0(NbdLink, 1);

    link->stream = stream;
    link->session = *session;
    link->down = down;
    link->opaque = opaque;
    nbd_reader_init(&link->reader, stream);
    nbd_reader_move(&link->reader, r);
    nbd_sender_init(&link->sender, stream, call_sent, link);
    link->free_slots = UINT64_MAX;
    link->receiving = true;
    co_spawn(receive_co, link);
    return link;
}

static void start_call(NbdLink *link, NbdCall *call)
{
    NbdRequest r = {
        .flags = call->flags,
        .type = call->type,
        .offset = call->offset,
        .length = call->length,
    };

    take_slot(link, call);
    r.cookie = call->cookie;
    nbd_request_encode(call->head, &r);
    call->out.head = (struct iovec){call->head, sizeof(call->head)};
    call->out.body = call->type == NBD_CMD_WRITE ? call->iov : (IoVec){0};
    call->on_wire = true;
    nbd_sender_push(&link->sender, &call->out);
}

static int fail_call(NbdCall *call)
{
    call->link_failed = true;
    call->ret = -EIO;
    return call->ret;
}

static int coroutine_fn run_call(NbdLink *link, NbdCall *call)
{
    while (!link->error && link->free_slots == 0) {
        co_queue_wait(&link->slot_free);
    }
    if (link->error) {
        while (link->receiving) {
            co_queue_wait(&link->quiet); /* until @down has been told */
        }
        return fail_call(call);
    }
    start_call(link, call);
    call->co = co_self();
    co_yield ();
    give_slot(link, call);
    nbd_cover_destroy(&call->cover);
    return call->ret;
}

int coroutine_fn nbd_link_co_call(NbdLink *link, NbdCall *call)
{
    int ret;

    call->ret = 0;
    call->link_failed = false;
    call->replied = call->on_wire = call->has_extent = false;
    call->co = NULL;
    call->extent = (NbdExtent){0};
    nbd_cover_init(&call->cover);
    link->calls++;
    ret = run_call(link, call);
    link->calls--;
    co_queue_wake_all(&link->quiet);
    return ret;
}

void nbd_link_shutdown(NbdLink *link)
{
    stream_shutdown(link->stream);
}

static bool is_idle(const NbdLink *link)
{
    return link->calls == 0 && !link->sender.running && !link->error;
}

/* A polite end. If the socket takes it only later, the end of the stream must do. */
static void coroutine_fn say_goodbye(NbdLink *link)
{
    NbdRequest r = {.type = NBD_CMD_DISC};

    nbd_request_encode(link->bye.head, &r);
    link->bye.out.head = (struct iovec){link->bye.head, sizeof(link->bye.head)};
    nbd_sender_push(&link->sender, &link->bye.out);
    co_reschedule();
}

void coroutine_fn nbd_link_co_free(NbdLink *link)
{
    link->down = NULL;
    if (is_idle(link)) {
        say_goodbye(link);
    }
    stream_shutdown(link->stream);
    while (link->receiving || link->calls > 0) {
        co_queue_wait(&link->quiet);
    }
    nbd_reader_destroy(&link->reader);
    stream_close(link->stream);
    g_free(link);
}
