/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov: slices of scatter lists.
 *
 * Everything walks through iov_take(), which alone knows how a slice maps to
 * its vectors. Empty vectors may stand anywhere; the walk steps over them.
 */
#include "util/iov.h"

#include "util/buf.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Step over vectors that hold nothing, so that v[0] holds the first byte. */
static void iov_settle(IoVec *iov)
{
    if (iov->bytes == 0) {
        return;
    }
    while (iov->skip >= iov->v->iov_len) {
        assert(iov->n > 1);
        iov->skip -= iov->v->iov_len;
        iov->v++;
        iov->n--;
    }
}

/* Cut up to @max bytes that lie together off the front; the slice is not empty. */
static size_t iov_take(IoVec *iov, size_t max, uint8_t **ret)
{
    size_t len = min_size(min_size(iov->v->iov_len - iov->skip, iov->bytes), max);

    *ret = (uint8_t *)iov->v->iov_base + iov->skip;
    iov->skip += len;
    iov->bytes -= len;
    iov_settle(iov);
    return len;
}

IoVec iov_of(const struct iovec *v, int n)
{
    IoVec iov = {.v = v, .n = n};

    for (int i = 0; i < n; i++) {
        iov.bytes += v[i].iov_len;
    }
    iov_settle(&iov);
    return iov;
}

IoVec iov_slice(IoVec iov, size_t offset, size_t bytes)
{
    assert(offset <= iov.bytes && bytes <= iov.bytes - offset);
    iov.skip += offset;
    iov.bytes = bytes;
    iov_settle(&iov);
    return iov;
}

size_t iov_copy_out(IoVec iov, void *buf, size_t bytes)
{
    uint8_t *out = buf, *part;
    size_t left = min_size(bytes, iov.bytes);

    while (left > 0) {
        size_t len = iov_take(&iov, left, &part);

        memcpy(out, part, len);
        out += len;
        left -= len;
    }
    return out - (uint8_t *)buf;
}

size_t iov_copy_in(IoVec iov, const void *buf, size_t bytes)
{
    const uint8_t *in = buf;
    size_t left = min_size(bytes, iov.bytes);
    uint8_t *part;

    while (left > 0) {
        size_t len = iov_take(&iov, left, &part);

        memcpy(part, in, len);
        in += len;
        left -= len;
    }
    return in - (const uint8_t *)buf;
}

void iov_copy(IoVec dst, IoVec src)
{
    uint8_t *from;

    assert(dst.bytes == src.bytes);
    while (src.bytes > 0) {
        size_t len = iov_take(&src, src.bytes, &from);

        iov_copy_in(dst, from, len);
        dst = iov_slice(dst, len, dst.bytes - len);
    }
}

void iov_fill(IoVec iov, uint8_t byte)
{
    uint8_t *part;

    while (iov.bytes > 0) {
        size_t len = iov_take(&iov, iov.bytes, &part);

        memset(part, byte, len);
    }
}

bool iov_is_zero(IoVec iov)
{
    uint8_t *part;

    while (iov.bytes > 0) {
        size_t len = iov_take(&iov, iov.bytes, &part);

        if (!buf_is_zero(part, len)) {
            return false;
        }
    }
    return true;
}

int iov_to_sys(IoVec iov, struct iovec *out, int max)
{
    int n = 0;
    uint8_t *part;

    while (iov.bytes > 0 && n < max) {
        out[n].iov_len = iov_take(&iov, iov.bytes, &part);
        out[n].iov_base = part;
        n++;
    }
    return n;
}

bool iov_is_aligned(IoVec iov, size_t align)
{
    uint8_t *part;

    while (iov.bytes > 0) {
        size_t len = iov_take(&iov, iov.bytes, &part);

        if (!IS_ALIGNED((uintptr_t)part | len, align)) {
            return false;
        }
    }
    return true;
}
