/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading compressed clusters: raw deflate, or zstd frames.
 *
 * The stored length is an upper bound, so trailing bytes are normal; success
 * means that exactly one cluster came out. The cluster inflated last is kept:
 * sequential readers ask for it piece by piece.
 */
#include "qcow2.h"

#include <zlib.h>

#include "config.h"
#if CONFIG_ZSTD
#include <zstd.h>
#endif

static bool inflate_deflate(uint8_t *dst, size_t dst_bytes, const uint8_t *src, size_t src_bytes)
{
    z_stream z = {
        .next_in = (Bytef *)src,
        .avail_in = (uInt)src_bytes,
        .next_out = dst,
        .avail_out = (uInt)dst_bytes,
    };
    int r;

    if (inflateInit2(&z, -12) != Z_OK) {
        return false;
    }
    r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0;
}

#if CONFIG_ZSTD
static bool inflate_zstd(uint8_t *dst, size_t dst_bytes, const uint8_t *src, size_t src_bytes)
{
    ZSTD_DStream *d = ZSTD_createDStream();
    ZSTD_outBuffer out = {dst, dst_bytes, 0};
    ZSTD_inBuffer in = {src, src_bytes, 0};
    size_t left = 1;

    while (d && out.pos < out.size) {
        size_t was_in = in.pos, was_out = out.pos;

        left = ZSTD_decompressStream(d, &out, &in);
        if (ZSTD_isError(left) || (in.pos == was_in && out.pos == was_out)) {
            break;
        }
    }
    ZSTD_freeDStream(d);
    return d && out.pos == out.size && !ZSTD_isError(left);
}
#endif

static bool inflate_cluster(const Qcow2 *q, uint8_t *dst, const uint8_t *src, size_t src_bytes)
{
#if CONFIG_ZSTD
    if (q->h.compression_type == 1) {
        return inflate_zstd(dst, q->cluster_size, src, src_bytes);
    }
#endif
    return q->h.compression_type == 0 && inflate_deflate(dst, q->cluster_size, src, src_bytes);
}

static int coroutine_fn read_cluster(Qcow2 *q, uint64_t entry, uint8_t *dst)
{
    uint64_t offset, bytes;
    uint8_t *src;
    int r;

    qcow2_compressed_extent(entry, q->cluster_bits, &offset, &bytes);
    src = buf_try_alloc(bytes);
    if (!src) {
        return -ENOMEM;
    }
    QCOW2_EVENT(q, "read_compressed");
    r = child_co_pread(qcow2_file(q), (int64_t)offset, src, bytes);
    if (r == 0 && !inflate_cluster(q, dst, src, bytes)) {
        r = -EIO;
    }
    buf_free(src, bytes);
    return r;
}

int coroutine_fn qcow2_co_inflate(Qcow2 *q, uint64_t entry, uint64_t offset, IoVec iov)
{
    Qcow2Inflated *keep = &q->inflated;
    uint8_t *data;
    int r;

    if (keep->entry == entry) {
        iov_copy_in(iov, keep->data + offset, iov.bytes);
        return 0;
    }
    data = buf_try_alloc(q->cluster_size);
    if (!data) {
        return -ENOMEM;
    }
    r = read_cluster(q, entry, data);
    if (r < 0) {
        buf_free(data, q->cluster_size);
        return r;
    }
    iov_copy_in(iov, data + offset, iov.bytes);
    buf_free(keep->data, q->cluster_size);
    keep->data = data;
    keep->entry = entry;
    return 0;
}
