/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdReader: the receiving side of a connection, buffered.
 *
 * One system call brings many headers. While a payload is received straight
 * into its destination, what follows it lands behind it in a large buffer,
 * which is given back as soon as it is empty: a connection that waits holds
 * only the small one.
 */
#ifndef BLOCK_NBD_READER_H
#define BLOCK_NBD_READER_H

#include "util/stream.h"

#define NBD_READER_SMALL (8 * KiB) /* a write of 4 KiB with its header */
#define NBD_READER_BIG   (64 * KiB)

typedef struct NbdReader {
    Stream *stream;
    uint8_t *buf; /* @small or @big; unread bytes are [pos, len) */
    size_t size, pos, len;
    uint8_t *big; /* NULL while not needed */
    uint8_t small[NBD_READER_SMALL];
} NbdReader;

void nbd_reader_init(NbdReader *r, Stream *stream);
void nbd_reader_destroy(NbdReader *r);
/** nbd_reader_move() - unread bytes of @from become those of @to, which has none; destroys @from */
void nbd_reader_move(NbdReader *to, NbdReader *from);

static inline size_t nbd_reader_buffered(const NbdReader *r)
{
    return r->len - r->pos;
}

/**
 * nbd_reader_co_need() - have @bytes (at most NBD_READER_SMALL) in one piece
 *
 * Return: 0 and *ret points at them, valid until the next call, not consumed;
 * -ENODATA at an end of stream before the first byte; -ECONNRESET at one
 * inside; -errno of the stream.
 */
int coroutine_fn MUST_USE nbd_reader_co_need(NbdReader *r, size_t bytes, const uint8_t **ret);

/** nbd_reader_consume() - @bytes of what nbd_reader_co_need() showed */
static inline void nbd_reader_consume(NbdReader *r, size_t bytes)
{
    assert(bytes <= nbd_reader_buffered(r));
    r->pos += bytes;
}

/** nbd_reader_co_readv() - fill @iov; -ECONNRESET at end of stream */
int coroutine_fn MUST_USE nbd_reader_co_readv(NbdReader *r, IoVec iov);
int coroutine_fn MUST_USE nbd_reader_co_read(NbdReader *r, void *buf, size_t bytes);
/** nbd_reader_co_skip() - drop @bytes */
int coroutine_fn MUST_USE nbd_reader_co_skip(NbdReader *r, uint64_t bytes);

#endif
