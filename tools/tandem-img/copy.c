/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying. A worker takes the next range of one kind (data, zeroes, left to
 * the backing file), reads it, waits for its turn and writes it. After the
 * first error nobody takes or writes anything more.
 */
#include "copy.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "img.h"
#include "util/buf.h"
#include "util/loop.h"

#define CHUNK      (2 * MiB)
#define ZERO_CHUNK (1 * GiB) /* most zeroes in one go, so that progress shows */

enum {
    KIND_DATA,
    KIND_ZERO,
    KIND_BACKING,
};

typedef struct Chunk {
    int64_t at, bytes; /* from the start of the copy */
    uint32_t kind;
} Chunk;

static int told(Copy *c, int r, const char *what, int64_t offset)
{
    if (c->result == 0) {
        c->result = r;
        img_error("error while %s at byte %" PRId64 ": %s", what, offset, strerror(-r));
    }
    return r;
}

/* --- taking --- */

static uint32_t kind_of(const Copy *c, uint32_t flags)
{
    if (flags & STATUS_ZERO) {
        return KIND_ZERO;
    }
    if (flags & STATUS_ALLOCATED) {
        return KIND_DATA;
    }
    return c->dst_has_backing ? KIND_BACKING : KIND_ZERO;
}

static int coroutine_fn ask(Copy *c)
{
    BlockNode *base = c->dst_has_backing ? node_backing(backend_node(c->src)) : NULL;
    int64_t offset = c->src_offset + c->next;
    BlockStatus s;
    int r = backend_co_block_status_above(c->src, base, true, offset, c->bytes - c->next, &s, NULL);

    if (r < 0 && !c->salvage) {
        return told(c, r, "reading block status", offset);
    }
    c->kind = r < 0 ? KIND_DATA : kind_of(c, s.flags);
    c->kind_end = c->next + (r < 0 ? MIN(CHUNK, c->bytes - c->next) : s.bytes);
    return 0;
}

/* Under the lock, because asking may wait. False at the end. */
static bool coroutine_fn take(Copy *c, Chunk *ret)
{
    CO_LOCK_GUARD(&c->taking);

    if (c->result < 0 || c->next >= c->bytes) {
        return false;
    }
    if (c->next >= c->kind_end && ask(c) < 0) {
        return false;
    }
    ret->at = c->next;
    ret->kind = c->kind;
    ret->bytes = MIN(c->kind_end, c->bytes) - c->next;
    /* Full chunks start at multiples of their size, whatever came before. */
    ret->bytes = MIN(ret->bytes, c->kind == KIND_DATA || c->sparse == 0
                                     ? CHUNK - (c->src_offset + c->next) % CHUNK
                                     : ZERO_CHUNK);
    c->next += ret->bytes;
    return true;
}

/* --- reading --- */

/* Sector by sector, zeroes where it cannot be read. */
static void coroutine_fn salvage(Copy *c, const Chunk *k, uint8_t *buf)
{
    for (int64_t i = 0; i < k->bytes; i += 512) {
        size_t n = (size_t)MIN(k->bytes - i, 512);
        int64_t offset = c->src_offset + k->at + i;
        int r = backend_co_pread(c->src, offset, buf + i, n);

        if (r < 0) {
            memset(buf + i, 0, n);
            if (!c->quiet) {
                img_error("warning: error while reading offset %" PRId64 ": %s", offset,
                          strerror(-r));
            }
        }
    }
}

static int coroutine_fn read_chunk(Copy *c, const Chunk *k, uint8_t *buf)
{
    int64_t offset = c->src_offset + k->at;
    int r;

    if (k->kind == KIND_ZERO && c->sparse == 0) {
        memset(buf, 0, (size_t)k->bytes);
        return 0;
    }
    if (k->kind != KIND_DATA) {
        return 0;
    }
    r = backend_co_pread(c->src, offset, buf, (size_t)k->bytes);
    if (r < 0 && c->salvage) {
        salvage(c, k, buf);
        r = 0;
    }
    return r < 0 ? told(c, r, "reading", offset) : 0;
}

/* --- writing --- */

static int coroutine_fn write_zeroes(Copy *c, int64_t at, int64_t bytes)
{
    if (c->dst_is_zero) {
        return 0;
    }
    return backend_co_pwrite_zeroes(c->dst, c->dst_offset + at, bytes, REQ_MAY_UNMAP);
}

/* Bytes from the start of @buf that are all zeroes, or all to be written, in units. */
static int64_t run_length(const uint8_t *buf, int64_t bytes, int64_t unit, bool *ret_zero)
{
    int64_t n = MIN(unit, bytes);
    bool zero = buf_is_zero(buf, (size_t)n);

    while (n < bytes && buf_is_zero(buf + n, (size_t)MIN(unit, bytes - n)) == zero) {
        n += MIN(unit, bytes - n);
    }
    *ret_zero = zero;
    return n;
}

static int coroutine_fn write_data(Copy *c, const Chunk *k, uint8_t *buf)
{
    int64_t n = k->bytes;
    int r = 0;

    for (int64_t i = 0; i < k->bytes && r == 0; i += n) {
        bool zero = false;

        n = k->bytes - i;
        if (c->sparse > 0) {
            n = run_length(buf + i, n, c->sparse, &zero);
        }
        r = zero ? write_zeroes(c, k->at + i, n)
                 : backend_co_pwrite(c->dst, c->dst_offset + k->at + i, buf + i, (size_t)n, 0);
    }
    return r;
}

static int coroutine_fn offload(Copy *c, const Chunk *k)
{
    BackendReq from, to;
    int r;

    backend_co_enter(c->src, &from);
    backend_co_enter(c->dst, &to);
    r = child_co_copy_range(backend_root(c->src), c->src_offset + k->at, backend_root(c->dst),
                            c->dst_offset + k->at, k->bytes, 0);
    backend_exit(c->dst, &to);
    backend_exit(c->src, &from);
    return r;
}

static int coroutine_fn write_chunk(Copy *c, const Chunk *k, uint8_t *buf)
{
    if (k->kind == KIND_BACKING) {
        return 0;
    }
    if (k->kind == KIND_ZERO && c->sparse > 0) {
        return write_zeroes(c, k->at, k->bytes);
    }
    return write_data(c, k, buf);
}

static void coroutine_fn wait_turn(Copy *c, const Chunk *k)
{
    while (!c->any_order && c->result == 0 && c->turn_at != k->at) {
        co_queue_wait(&c->turn);
    }
}

static void pass_turn(Copy *c, const Chunk *k)
{
    c->turn_at = k->at + k->bytes;
    co_queue_wake_all(&c->turn);
}

static void coroutine_fn spend(Copy *c, const Chunk *k)
{
    int64_t ns = c->rate && k->kind == KIND_DATA
                     ? rate_limit_delay_ns(c->rate, (uint64_t)k->bytes)
                     : 0;

    if (ns > 0) {
        co_sleep_ns(ns);
    }
}

static void coroutine_fn copy_chunk(Copy *c, const Chunk *k, uint8_t *buf)
{
    bool offloaded = false, passed = false;
    int r;

    spend(c, k);
    if (c->offload && k->kind == KIND_DATA) {
        wait_turn(c, k);
        offloaded = offload(c, k) == 0;
        c->offload = c->offload && offloaded; /* refused once, refused always */
    }
    if (!offloaded && read_chunk(c, k, buf) == 0) {
        wait_turn(c, k);
        if (!c->dst_allocates) {
            pass_turn(c, k); /* the next may be on its way too: a target may be far */
            passed = true;
        }
        r = c->result < 0 ? 0 : write_chunk(c, k, buf);
        if (r < 0) {
            told(c, r, "writing", c->dst_offset + k->at);
        }
    }
    if (c->result == 0) {
        progress_add(k->bytes);
    }
    if (!passed) {
        pass_turn(c, k);
    }
}

static int coroutine_fn worker(void *opaque)
{
    Copy *c = opaque;
    uint8_t *buf = buf_alloc(CHUNK);
    Chunk k;

    while (take(c, &k)) {
        copy_chunk(c, &k, buf);
    }
    buf_free(buf, CHUNK);
    return 0;
}

int coroutine_fn copy_co_run(Copy *c)
{
    CoGroup group = {0};
    BlockInfoData info;

    node_get_info(backend_node(c->dst), &info);
    c->dst_allocates = info.cluster_size > 0;
    for (int i = 0; i < c->workers; i++) {
        co_group_spawn(&group, worker, c);
    }
    (void)co_group_wait(&group);
    return c->result;
}
