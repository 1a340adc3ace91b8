/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-img dd: bs, count and skip mean what they mean to POSIX dd: skip that
 * many blocks of the input, then copy at most count blocks.
 */
#include <string.h>

#include "block/driver.h"
#include "copy.h"
#include "img.h"

#define SPARSE 4096

typedef struct Dd {
    Common common;
    const char *in, *out, *out_format;
    int64_t block, count, skip; /* count -1: all */
} Dd;

static bool take_operand(Dd *o, const char *text)
{
    const char *value = strchr(text, '=');
    g_autofree char *key = value ? g_strndup(text, (gsize)(value++ - text)) : NULL;

    if (g_strcmp0(key, "if") == 0) {
        o->in = value;
    } else if (g_strcmp0(key, "of") == 0) {
        o->out = value;
    } else if (g_strcmp0(key, "bs") == 0) {
        return img_number(value, "bs", 1, INT32_MAX, &o->block);
    } else if (g_strcmp0(key, "count") == 0) {
        return img_size(value, "count", &o->count);
    } else if (g_strcmp0(key, "skip") == 0) {
        return img_size(value, "skip", &o->skip);
    } else {
        img_error("unrecognized operand %s", key ? key : text);
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, Dd *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        {"output-format", 'O', "FMT"},
        OPTION_END,
    };

    while (common_next(argc, argv, options, &o->common) == 'O') {
        o->out_format = optarg;
    }
    for (; optind < argc; optind++) {
        if (!take_operand(o, argv[optind])) {
            return false;
        }
    }
    if (!o->in || !o->out) {
        img_error("Must specify both input and output files");
        return false;
    }
    return true;
}

/* @a * @b, at most @max. */
static int64_t product(int64_t a, int64_t b, int64_t max)
{
    return b > 0 && a > max / b ? max : MIN(a * b, max);
}

static BlockBackend *coroutine_fn make_output(const Dd *o, int64_t bytes)
{
    GError *err = NULL;
    g_autoptr(ImageCreate) c = image_create_new(o->out_format, &err);
    ImageSpec spec = {.name = o->out, .format = o->out_format, .flags.unmap = true};

    if (!c) {
        img_report(err, "%s", "");
        return NULL;
    }
    (void)image_create_set_size(c, (uint64_t)bytes, NULL); /* every format has it */
    if (!image_co_create(c, o->out, &err)) {
        img_report(err, "%s: error while creating output image", o->out);
        return NULL;
    }
    return img_co_open(&spec);
}

static int coroutine_fn dd(const Dd *o, BlockBackend *in)
{
    int64_t length = backend_length(in), skip = product(o->block, o->skip, length);
    Copy copy = {
        .src = in,
        .src_offset = skip,
        .bytes = o->count < 0 ? length - skip : product(o->block, o->count, length - skip),
        .sparse = SPARSE,
        .dst_is_zero = true,
        .workers = 8,
    };
    int r;

    if (o->skip > 0 && o->skip > length / o->block) {
        img_error("%s: cannot skip to specified offset", o->in);
    }
    copy.dst = make_output(o, copy.bytes);
    if (!copy.dst) {
        return EXIT_FAILURE;
    }
    r = copy_co_run(&copy);
    if (r == 0 && (r = backend_co_flush(copy.dst)) < 0) {
        img_error("error while writing to output image file: %s", strerror(-r));
    }
    backend_co_free(copy.dst);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int coroutine_fn img_co_dd(int argc, char **argv)
{
    Dd o = {.out_format = "raw", .block = 512, .count = -1};
    ImageSpec spec;
    BlockBackend *in;
    int status;

    if (!parse(argc, argv, &o)) {
        return EXIT_FAILURE;
    }
    spec = img_spec(&o.common, o.in, false);
    in = img_co_open(&spec);
    if (!in) {
        return EXIT_FAILURE;
    }
    status = dd(&o, in);
    backend_co_free(in);
    return status;
}
