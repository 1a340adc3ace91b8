/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img compare: 0 same, 1 different, 2 cannot be opened, 3 no status, 4 cannot be read. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "img.h"
#include "util/buf.h"

#define CHUNK (2 * MiB)

enum {
    SAME,
    DIFFERENT,
    OPEN_FAILED,
    STATUS_FAILED,
    READ_FAILED,
};

typedef struct Side {
    const char *name;
    BlockBackend *be;
    uint8_t *buf;
} Side;

typedef struct Compare {
    Common common;
    const char *format2, *cache;
    bool strict;
    Side side[2];
} Compare;

static void parse(int argc, char **argv, Compare *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        OPTION_PROGRESS,
        OPTION_QUIET,
        {NULL, 'F', "FMT"},
        {NULL, 'T', "CACHE"},
        {"strict", 's'},
        OPTION_END,
    };
    int opt;

    o->common.failure = OPEN_FAILED;
    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        switch (opt) {
        case 'F':
            o->format2 = optarg;
            break;
        case 'T':
            o->cache = optarg;
            break;
        case 's':
            o->strict = true;
            break;
        }
    }
    if (optind + 2 != argc) {
        img_usage("Expecting two image file names");
    }
    o->side[0].name = argv[optind];
    o->side[1].name = argv[optind + 1];
}

static void PRINTF(2, 3) say(const Compare *o, const char *fmt, ...)
{
    va_list ap;

    if (!o->common.quiet) {
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
    }
}

static int coroutine_fn read_chunk(const Side *s, int64_t at, int64_t bytes)
{
    int r = backend_co_pread(s->be, at, s->buf, (size_t)bytes);

    if (r < 0) {
        img_error("Error while reading offset %" PRId64 " of %s: %s", at, s->name, strerror(-r));
        return READ_FAILED;
    }
    return SAME;
}

static int mismatch(const Compare *o, int64_t at)
{
    say(o, "Content mismatch at offset %" PRId64 "!\n", at);
    return DIFFERENT;
}

/* QEMU names the sector: the first 512 bytes that differ. */
static int compare_buffers(const Compare *o, int64_t at, int64_t bytes)
{
    const uint8_t *a = o->side[0].buf, *b = o->side[1].buf;

    if (memcmp(a, b, (size_t)bytes) == 0) {
        return SAME;
    }
    for (int64_t i = 0; i < bytes; i += 512) {
        if (memcmp(a + i, b + i, (size_t)MIN(bytes - i, 512)) != 0) {
            return mismatch(o, at + i);
        }
    }
    return SAME;
}

static int coroutine_fn check_zero(const Compare *o, const Side *s, int64_t at, int64_t bytes)
{
    int status = SAME;

    for (int64_t n; bytes > 0 && status == SAME; at += n, bytes -= n) {
        n = MIN(bytes, CHUNK);
        status = read_chunk(s, at, n);
        for (int64_t i = 0; status == SAME && i < n; i += 512) {
            if (!buf_is_zero(s->buf + i, (size_t)MIN(n - i, 512))) {
                return mismatch(o, at + i);
            }
        }
    }
    return status;
}

static int coroutine_fn ask(const Side *s, int64_t at, int64_t bytes, BlockStatus *ret)
{
    int r = backend_co_block_status_above(s->be, NULL, true, at, bytes, ret, NULL);

    if (r < 0) {
        img_error("Sector allocation test failed for %s", s->name);
        return STATUS_FAILED;
    }
    return SAME;
}

static bool reads_zero(const BlockStatus *s)
{
    return (s->flags & STATUS_ZERO) || !(s->flags & STATUS_ALLOCATED);
}

static int coroutine_fn compare_data(const Compare *o, int64_t at, int64_t bytes, int64_t *ret_done)
{
    int status;

    *ret_done = MIN(bytes, CHUNK);
    status = read_chunk(&o->side[0], at, *ret_done);
    if (status == SAME) {
        status = read_chunk(&o->side[1], at, *ret_done);
    }
    return status == SAME ? compare_buffers(o, at, *ret_done) : status;
}

/* The next run of which both sides can say something; *ret_done: its length. */
static int coroutine_fn compare_run(const Compare *o, int64_t at, int64_t bytes, int64_t *ret_done)
{
    const uint32_t kinds = STATUS_DATA | STATUS_ZERO | STATUS_ALLOCATED;
    BlockStatus a, b;
    int status = ask(&o->side[0], at, bytes, &a);

    if (status == SAME) {
        status = ask(&o->side[1], at, bytes, &b);
    }
    if (status != SAME) {
        return status;
    }
    if (o->strict && ((a.flags ^ b.flags) & kinds)) {
        say(o, "Strict mode: Offset %" PRId64 " block status mismatch!\n", at);
        return DIFFERENT;
    }
    *ret_done = MIN(bytes, MIN(a.bytes, b.bytes));
    if (reads_zero(&a) && reads_zero(&b)) {
        return SAME;
    }
    if (reads_zero(&a) || reads_zero(&b)) {
        return check_zero(o, &o->side[reads_zero(&a) ? 1 : 0], at, *ret_done);
    }
    return compare_data(o, at, *ret_done, ret_done);
}

/* What the longer one has more must be zero. */
static int coroutine_fn compare_tail(const Compare *o, const Side *longer, int64_t at)
{
    int64_t end = backend_length(longer->be);
    int status = SAME;
    BlockStatus s;

    say(o, "Warning: Image size mismatch!\n");
    while (at < end && status == SAME) {
        int64_t n;

        status = ask(longer, at, end - at, &s);
        if (status != SAME) {
            break;
        }
        n = MIN(s.bytes, end - at);
        if (!reads_zero(&s)) {
            status = check_zero(o, longer, at, n);
        }
        progress_add(status == SAME ? n : 0);
        at += n;
    }
    return status;
}

static int coroutine_fn compare(const Compare *o)
{
    int64_t a = backend_length(o->side[0].be), b = backend_length(o->side[1].be), done;
    int status = SAME;

    if (o->strict && a != b) {
        say(o, "Strict mode: Image size mismatch!\n");
        return DIFFERENT;
    }
    progress_start(o->common.progress && !o->common.quiet, MAX(a, b));
    for (int64_t at = 0; at < MIN(a, b) && status == SAME; at += done) {
        done = 0;
        status = compare_run(o, at, MIN(a, b) - at, &done);
        progress_add(status == SAME ? done : 0);
    }
    if (status == SAME && a != b) {
        status = compare_tail(o, &o->side[a > b ? 0 : 1], MIN(a, b));
    }
    if (status == SAME) {
        say(o, "Images are identical.\n");
    }
    return status;
}

static bool coroutine_fn open_side(const Compare *o, Side *s, const char *format)
{
    ImageSpec spec = img_spec(&o->common, s->name, false);

    spec.format = format;
    if (!img_spec_cache(&spec, o->cache, "source cache")) {
        return false;
    }
    s->be = img_co_open(&spec);
    s->buf = buf_alloc(CHUNK);
    return s->be != NULL;
}

int coroutine_fn img_co_compare(int argc, char **argv)
{
    Compare o = {0};
    int status = OPEN_FAILED;

    parse(argc, argv, &o);
    if (open_side(&o, &o.side[0], o.common.format) && open_side(&o, &o.side[1], o.format2)) {
        status = compare(&o);
        progress_end(false);
    }
    for (size_t i = 0; i < 2; i++) {
        if (o.side[i].be) {
            backend_co_free(o.side[i].be);
        }
        buf_free(o.side[i].buf, CHUNK);
    }
    return status;
}
