/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IoVec: a slice of a caller's scatter list, passed by value.
 *
 * It owns nothing: the iovec array and the memory live with whoever made it,
 * at least until the request that carries it ends. Slicing copies four words.
 */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

#include <string.h>
#include <sys/uio.h>

#include "util/compiler.h"

typedef struct IoVec {
    const struct iovec *v; /* first vector that holds a byte of the slice */
    int n;                 /* vectors from @v that may be looked at */
    size_t skip;           /* bytes of v[0] before the slice; < v[0].iov_len unless bytes is 0 */
    size_t bytes;          /* length of the slice */
} IoVec;

/** iov_of() - all of @n vectors */
IoVec iov_of(const struct iovec *v, int n);

/** iov_one() - one buffer; @v is storage that the caller keeps as long as the slice */
static inline IoVec iov_one(struct iovec *v, void *buf, size_t bytes)
{
    v->iov_base = buf;
    v->iov_len = bytes;
    return (IoVec){.v = v, .n = 1, .skip = 0, .bytes = bytes};
}

/** iov_slice() - @bytes from @offset of @iov; the range lies inside it (asserted) */
IoVec iov_slice(IoVec iov, size_t offset, size_t bytes);

/** iov_copy_out() - memory of @iov to @buf; returns bytes copied: min(iov.bytes, @bytes) */
size_t iov_copy_out(IoVec iov, void *buf, size_t bytes);

/** iov_copy_in() - @buf into the memory of @iov; returns bytes copied */
size_t iov_copy_in(IoVec iov, const void *buf, size_t bytes);

/** iov_copy() - memory of @src into memory of @dst; the lengths are equal (asserted) */
void iov_copy(IoVec dst, IoVec src);

void iov_fill(IoVec iov, uint8_t byte);
bool iov_is_zero(IoVec iov);

/**
 * iov_to_sys() - iovecs for a system call
 * @out, @max: room for the result
 *
 * Return: vectors written. They cover all of @iov only if the sum of their
 * lengths says so: with a small @max they cover a prefix.
 */
int iov_to_sys(IoVec iov, struct iovec *out, int max);

/** iov_is_aligned() - address and length of each part are multiples of @align */
bool iov_is_aligned(IoVec iov, size_t align);

#endif
