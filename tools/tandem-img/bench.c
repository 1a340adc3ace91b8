/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img bench: so many requests, so many at once, how long. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "img.h"
#include "qapi/scalar.h"
#include "util/buf.h"
#include "util/loop.h"
#include "util/sync.h"

typedef struct Bench {
    Common common;
    const char *filename;
    ImageSpec mode; /* cache and aio only */
    int64_t count, depth, offset, size, step, pattern, interval;
    bool write, no_drain;
    /* While it runs. */
    BlockBackend *be;
    int64_t length, issued, at;
    unsigned in_flight;
    bool paused;
    CoQueue resume;
    int result;
} Bench;

enum {
    OPT_PATTERN = OPT_COMMAND,
    OPT_FLUSH_INTERVAL,
    OPT_NO_DRAIN,
};

static bool take_mode(Bench *o, int opt)
{
    switch (opt) {
    case 'n':
        return image_aio_parse("native", &o->mode);
    case 'i':
        if (!image_aio_parse(optarg, &o->mode)) {
            img_error("Invalid aio option: %s", optarg);
            return false;
        }
        return true;
    case 't':
        if (!image_cache_parse(optarg, &o->mode)) {
            img_error("Invalid cache mode");
            return false;
        }
        return true;
    case 'w':
        o->write = true;
        return true;
    case OPT_NO_DRAIN:
        o->no_drain = true;
        return true;
    }
    return false;
}

/* As img_number(), in the words of this command. */
static bool take_number(const char *what, int64_t max, int64_t *ret)
{
    uint64_t n;

    if (!scalar_uint(optarg, &n) || n > (uint64_t)max) {
        img_error("Invalid %s specified", what);
        return false;
    }
    *ret = (int64_t)n;
    return true;
}

static bool take_option(Bench *o, int opt)
{
    switch (opt) {
    case 'c':
        return take_number("request count", INT32_MAX, &o->count);
    case 'd':
        return take_number("queue depth", INT32_MAX, &o->depth);
    case 'o':
        return img_size(optarg, "offset", &o->offset);
    case 's':
        return img_number(optarg, "buffer size", 1, BLOCK_MAX_REQUEST, &o->size);
    case 'S':
        return img_number(optarg, "step_size", 0, INT64_MAX, &o->step);
    case OPT_PATTERN:
        return take_number("pattern byte", UINT8_MAX, &o->pattern);
    case OPT_FLUSH_INTERVAL:
        return take_number("flush interval", INT32_MAX, &o->interval);
    }
    return take_mode(o, opt);
}

static bool check(const Bench *o)
{
    if (o->depth < 1) {
        img_error("Invalid queue depth specified");
        return false;
    }
    if (!o->write && o->interval) {
        img_error("--flush-interval is only available in write tests");
        return false;
    }
    if (o->interval && o->interval < o->depth) {
        img_error("Flush interval can't be smaller than depth");
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, Bench *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        OPTION_QUIET,
        {"count", 'c', "N"},
        {"depth", 'd', "N"},
        {"offset", 'o', "OFFSET"},
        {"buffer-size", 's', "SIZE"},
        {"step-size", 'S', "SIZE"},
        {"write", 'w'},
        {"native", 'n'},
        {"aio", 'i', "MODE"},
        {"cache", 't', "MODE"},
        {"pattern", 0, "BYTE", .code = OPT_PATTERN},
        {"flush-interval", 0, "N", .code = OPT_FLUSH_INTERVAL},
        {"no-drain", .code = OPT_NO_DRAIN},
        OPTION_END,
    };
    int opt;

    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        if (!take_option(o, opt)) {
            return false;
        }
    }
    if (optind + 1 != argc) {
        img_usage("Expecting one image file name");
    }
    o->filename = argv[optind];
    o->step = o->step ? o->step : o->size;
    return check(o);
}

static void print_plan(const Bench *o)
{
    printf("Sending %" PRId64 " %s requests, %" PRId64 " bytes each, %" PRId64
           " in parallel (starting at offset %" PRId64 ", step size %" PRId64 ")\n",
           o->count, o->write ? "write" : "read", o->size, o->depth, o->offset, o->step);
    if (o->interval) {
        printf("Sending flush every %" PRId64 " requests\n", o->interval);
    }
    fflush(stdout);
}

static int64_t take_offset(Bench *o)
{
    int64_t at = o->at, range = o->length - o->size;

    o->at = range <= 0 ? 0 : (o->at + o->step % range) % range;
    return at;
}

static int coroutine_fn flush(Bench *o)
{
    int r = backend_co_flush(o->be);

    if (r < 0 && o->result == 0) {
        img_error("Failed flush: %s", strerror(-r));
        o->result = r;
    }
    return r;
}

/* All requests so far have to be done before the flush; the last of them makes it. */
static void coroutine_fn drained_flush(Bench *o)
{
    if (o->paused && o->in_flight == 0) {
        flush(o);
        o->paused = false;
        co_queue_wake_all(&o->resume);
    }
}

static void coroutine_fn one(Bench *o, uint8_t *buf)
{
    int64_t at = take_offset(o);
    bool due = o->interval && ++o->issued % o->interval == 0;
    int r;

    o->issued += o->interval ? 0 : 1;
    o->paused = due && !o->no_drain;
    o->in_flight++;
    r = o->write ? backend_co_pwrite(o->be, at, buf, (size_t)o->size, 0)
                 : backend_co_pread(o->be, at, buf, (size_t)o->size);
    o->in_flight--;
    if (r < 0 && o->result == 0) {
        img_error("Failed request: %s", strerror(-r));
        o->result = r;
    }
    if (due && o->no_drain) {
        flush(o);
    }
    drained_flush(o);
}

static int coroutine_fn worker(void *opaque)
{
    Bench *o = opaque;
    uint8_t *buf = buf_try_alloc((size_t)o->size);

    if (!buf) {
        img_error("Out of memory for the buffers");
        o->result = -ENOMEM;
        return 0;
    }
    memset(buf, o->write ? (int)o->pattern : 0, (size_t)o->size);
    while (o->result == 0 && o->issued < o->count) {
        if (o->paused) {
            co_queue_wait(&o->resume);
        } else {
            one(o, buf);
        }
    }
    buf_free(buf, (size_t)o->size);
    return 0;
}

static int coroutine_fn bench(Bench *o)
{
    CoGroup group = {0};
    int64_t start, workers = MIN(o->depth, o->count);

    o->length = backend_length(o->be);
    o->at = o->offset;
    print_plan(o);
    start = loop_now_ns();
    for (int64_t i = 0; i < workers; i++) {
        co_group_spawn(&group, worker, o);
    }
    (void)co_group_wait(&group);
    if (o->result < 0) {
        return EXIT_FAILURE;
    }
    printf("Run completed in %3.3f seconds.\n",
           (double)(loop_now_ns() - start) / (double)NS_PER_S);
    return EXIT_SUCCESS;
}

int coroutine_fn img_co_bench(int argc, char **argv)
{
    Bench o = {.count = 75000, .depth = 64, .size = 4096};
    ImageSpec spec;
    int status;

    if (!parse(argc, argv, &o)) {
        return EXIT_FAILURE;
    }
    spec = img_spec(&o.common, o.filename, o.write);
    spec.aio = o.mode.aio;
    spec.writethrough = o.mode.writethrough;
    spec.flags.cache_direct = o.mode.flags.cache_direct;
    spec.flags.cache_no_flush = o.mode.flags.cache_no_flush;
    o.be = img_co_open(&spec);
    if (!o.be) {
        return EXIT_FAILURE;
    }
    status = bench(&o);
    backend_co_free(o.be);
    return status;
}
