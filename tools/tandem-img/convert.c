/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-img convert: one image after the other into a new one. The target's
 * cache is "unsafe" unless told otherwise: a conversion that a power cut ends
 * is repeated anyway.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/driver.h"
#include "copy.h"
#include "img.h"

#define SPARSE_DEFAULT 4096
#define SPARSE_MAX     (16 * MiB)

typedef struct Convert {
    Common common;
    const char *out_format, *cache, *src_cache, *backing, *backing_format;
    GPtrArray *texts;       /* of -o */
    char **sources;
    int n_sources;
    const char *target;
    bool no_create, target_is_zero, any_order, offload, salvage, target_image_opts, sparse_given;
    int64_t sparse, workers, rate;
} Convert;

enum {
    OPT_TARGET_IMAGE_OPTS = OPT_COMMAND,
    OPT_TARGET_IS_ZERO,
    OPT_SALVAGE,
    OPT_REFUSED,
};

static bool take_sparse(Convert *o)
{
    if (!img_size(optarg, "buffer size for sparse output", &o->sparse)) {
        return false;
    }
    if (o->sparse % 512 != 0 || o->sparse > SPARSE_MAX) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of "
                  "512 up to %d. Select 0 to disable sparse detection (fully allocates output).",
                  (int)SPARSE_MAX);
        return false;
    }
    o->sparse_given = true;
    return true;
}

static bool take_workers(Convert *o)
{
    char *end;
    gint64 n = g_ascii_strtoll(optarg, &end, 10);

    if (end == optarg || *end || n < 1 || n > COPY_WORKERS_MAX) {
        img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and %d",
                  COPY_WORKERS_MAX);
        return false;
    }
    o->workers = n;
    return true;
}

static bool take_text(Convert *o, int opt)
{
    const char **where = opt == 'O'                 ? &o->out_format
                         : opt == 't'               ? &o->cache
                         : opt == 'T'               ? &o->src_cache
                         : opt == 'b' || opt == 'B' ? &o->backing
                         : opt == 'F'               ? &o->backing_format
                                                    : NULL;

    if (where) {
        *where = optarg;
    }
    return where != NULL;
}

static bool take_switch(Convert *o, int opt)
{
    bool *where = opt == 'n'                     ? &o->no_create
                  : opt == 'W'                   ? &o->any_order
                  : opt == 'C'                   ? &o->offload
                  : opt == OPT_TARGET_IS_ZERO    ? &o->target_is_zero
                  : opt == OPT_SALVAGE           ? &o->salvage
                  : opt == OPT_TARGET_IMAGE_OPTS ? &o->target_image_opts
                                                 : NULL;

    if (where) {
        *where = true;
    }
    return where != NULL;
}

static bool take_option(Convert *o, int opt, char **argv)
{
    if (take_text(o, opt) || take_switch(o, opt)) {
        return true;
    }
    switch (opt) {
    case 'o':
        img_take_options(o->texts, optarg);
        return true;
    case 'S':
        return take_sparse(o);
    case 'm':
        return take_workers(o);
    case 'r':
        return img_size(optarg, "rate limit", &o->rate);
    case 'c':
        img_error("Option '-c' (compressed target) is not supported");
        return false;
    case 'l':
        img_error("Option '-l' (snapshot) is not supported");
        return false;
    }
    img_error("Option '%s' is not supported", argv[optind - 1]);
    return false;
}

static bool check(const Convert *o)
{
    const char *wrong = NULL;

    if (o->offload && o->sparse_given) {
        wrong = "Cannot enable copy offloading when -S is used";
    } else if (o->offload && o->salvage) {
        wrong = "Cannot use copy offloading in salvaging mode";
    } else if (o->target_is_zero && !o->no_create) {
        wrong = "--target-is-zero requires use of -n flag";
    } else if (o->target_is_zero && o->backing) {
        wrong = "Cannot use --target-is-zero when the destination image has a backing file";
    } else if (o->target_image_opts && !o->no_create) {
        wrong = "--target-image-opts requires use of -n flag";
    } else if (o->target_image_opts && o->out_format) {
        wrong = "--image-opts and --format are mutually exclusive";
    } else if (o->backing && o->n_sources > 1) {
        wrong = "Having a backing file for the target makes no sense when concatenating multiple "
                "input images";
    } else if (o->no_create && o->texts->len > 0) {
        wrong = "-o has no effect when skipping image creation";
    }
    if (wrong) {
        img_error("%s", wrong);
    }
    return !wrong;
}

static const CmdOption options[] = {
    OPTION_HELP,
    OPTION_OBJECT,
    OPTION_FORMAT,
    OPTION_FORCE_SHARE,
    OPTION_IMAGE_OPTS,
    OPTION_PROGRESS,
    OPTION_QUIET,
    {NULL, 'O', "FMT"},
    {NULL, 'b', "FILE"},
    {NULL, 'B', "FILE"},
    {NULL, 'F', "FMT"},
    {NULL, 'o', "OPTIONS"},
    {NULL, 't', "CACHE"},
    {NULL, 'T', "CACHE"},
    {NULL, 'm', "N"},
    {NULL, 'r', "RATE"},
    {NULL, 'S', "SIZE"},
    {NULL, 'n'},
    {NULL, 'W'},
    {NULL, 'C'},
    {"target-image-opts", .code = OPT_TARGET_IMAGE_OPTS},
    {"target-is-zero", .code = OPT_TARGET_IS_ZERO},
    {"salvage", .code = OPT_SALVAGE},
    {NULL, 'c'},
    {NULL, 'l', "SNAPSHOT"},
    {"bitmaps", .code = OPT_REFUSED},
    {"skip-broken-bitmaps", .code = OPT_REFUSED},
    OPTION_END,
};

static bool parse(int argc, char **argv, Convert *o)
{
    int opt;

    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        if (!take_option(o, opt, argv)) {
            return false;
        }
    }
    o->n_sources = argc - optind - 1;
    if (!check(o)) {
        return false;
    }
    if (img_asks_for_options(o->texts)) {
        o->target = optind < argc ? argv[argc - 1] : NULL;
        return true;
    }
    if (argc - optind < 2) {
        img_error("Must specify image file name");
        return false;
    }
    o->sources = argv + optind;
    o->target = argv[argc - 1];
    return true;
}

/* --- the target --- */

static bool take_create_options(const Convert *o, ImageCreate *c, GError **errp)
{
    for (guint i = 0; i < o->texts->len; i++) {
        if (!image_create_add(c, o->texts->pdata[i], errp)) {
            return false;
        }
    }
    if (o->backing && !image_create_has_option(c, "backing_file")) {
        return fail(errp, "Backing file not supported for file format '%s'",
                    o->out_format ? o->out_format : "raw");
    }
    if ((o->backing || image_create_get(c, "backing_file")) && !o->backing_format &&
        !image_create_get(c, "backing_fmt")) {
        return fail(errp, "Use of backing file requires explicit backing format");
    }
    return (!o->backing || image_create_set(c, "backing_file", o->backing, errp)) &&
           (!o->backing_format || image_create_set(c, "backing_fmt", o->backing_format, errp));
}

/* *ret_backed: the new image has a backing file. */
static bool coroutine_fn create(const Convert *o, int64_t bytes, bool *ret_backed)
{
    const char *format = o->out_format ? o->out_format : "raw";
    GError *err = NULL;
    g_autoptr(ImageCreate) c = image_create_new(format, &err);

    if (!c || !image_create_check_name(o->target, &err) || !take_create_options(o, c, &err) ||
        !image_create_set_size(c, (uint64_t)bytes, &err)) {
        img_report(err, "%s", "");
        return false;
    }
    *ret_backed = image_create_get(c, "backing_file") != NULL;
    if (!image_co_create(c, o->target, &err)) {
        img_report(err, "%s: error while converting %s", o->target, format);
        return false;
    }
    return true;
}

static BlockBackend *coroutine_fn open_target(const Convert *o, int64_t bytes)
{
    ImageSpec spec = {
        .name = o->target,
        .format = o->target_image_opts || (o->no_create && !o->out_format) ? NULL
                  : o->out_format                                          ? o->out_format
                                                                           : "raw",
        .image_opts = o->target_image_opts,
        .flags.unmap = o->sparse > 0,
    };
    BlockBackend *be;

    spec.aio = COPY_AIO;
    if (!o->target_image_opts && !spec.format) {
        spec.format = "raw";
    }
    if (!img_spec_cache(&spec, o->cache ? o->cache : "unsafe", "cache")) {
        return NULL;
    }
    be = img_co_open(&spec);
    if (be && backend_length(be) < bytes) {
        img_error("output file is smaller than input file");
        backend_co_free(be);
        be = NULL;
    }
    return be;
}

/* --- the sources --- */

static void coroutine_fn close_all(BlockBackend **sources, int n)
{
    for (int i = 0; i < n; i++) {
        if (sources[i]) {
            backend_co_free(sources[i]);
        }
    }
}

/* -1 and told on failure; else the sum of their sizes. */
static int64_t coroutine_fn open_all(const Convert *o, BlockBackend **sources)
{
    int64_t sum = 0;

    for (int i = 0; i < o->n_sources; i++) {
        ImageSpec spec = img_spec(&o->common, o->sources[i], false);

        spec.aio = COPY_AIO;
        spec.no_share = true;
        if (!img_spec_cache(&spec, o->src_cache, "source cache")) {
            return -1;
        }
        sources[i] = img_co_open(&spec);
        if (!sources[i]) {
            return -1;
        }
        if (backend_length(sources[i]) > BLOCK_MAX_LENGTH - sum) {
            img_error("The image size is too large");
            return -1;
        }
        sum += backend_length(sources[i]);
    }
    return sum;
}

/* --- both --- */

static int coroutine_fn
copy_all(const Convert *o, BlockBackend **sources, BlockBackend *target, bool backed)
{
    RateLimit rate = {0};
    int64_t at = 0;
    int r = 0;

    rate_limit_set(&rate, (uint64_t)o->rate);
    for (int i = 0; i < o->n_sources && r == 0; i++) {
        Copy copy = {
            .src = sources[i],
            .dst = target,
            .dst_offset = at,
            .bytes = backend_length(sources[i]),
            .sparse = o->sparse,
            .dst_is_zero = (o->no_create ? o->target_is_zero : !backed) && o->sparse > 0,
            .dst_has_backing = backed,
            .any_order = o->any_order,
            .offload = o->offload,
            .salvage = o->salvage,
            .quiet = o->common.quiet,
            .workers = (int)o->workers,
            .rate = o->rate ? &rate : NULL,
        };

        r = copy_co_run(&copy);
        at += copy.bytes;
    }
    if (r == 0 && (r = backend_co_flush(target)) < 0) {
        img_error("error while writing to output image file: %s", strerror(-r));
    }
    return r;
}

static int coroutine_fn convert(const Convert *o, BlockBackend **sources)
{
    int64_t bytes = open_all(o, sources);
    bool backed = false;
    BlockBackend *target;
    int r;

    if (bytes < 0 || (!o->no_create && !create(o, bytes, &backed))) {
        return EXIT_FAILURE;
    }
    target = open_target(o, bytes);
    if (!target) {
        return EXIT_FAILURE;
    }
    progress_start(o->common.progress && !o->common.quiet, bytes);
    r = copy_all(o, sources, target, backed);
    progress_end(r == 0);
    backend_co_free(target);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int coroutine_fn img_co_convert(int argc, char **argv)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Convert o = {.texts = texts, .sparse = SPARSE_DEFAULT, .workers = 8};
    g_autofree BlockBackend **sources = NULL;
    int status;

    if (!parse(argc, argv, &o)) {
        return EXIT_FAILURE;
    }
    if (img_asks_for_options(texts)) {
        return img_print_options(o.out_format ? o.out_format : "raw", o.target);
    }
    sources = g_new0(BlockBackend *, (size_t)o.n_sources);
    status = convert(&o, sources);
    close_all(sources, o.n_sources);
    return status;
}
