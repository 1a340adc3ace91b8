/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img resize */
#include <stdio.h>
#include <string.h>

#include "img.h"
#include "qapi/scalar.h"
#include "qapi/types.h"

typedef struct Resize {
    Common common;
    const char *filename, *size;
    int64_t number;
    bool shrink;
    PreallocMode prealloc;
} Resize;

enum {
    OPT_SHRINK = OPT_COMMAND,
    OPT_PREALLOCATION,
};

/* The size comes last and may begin with '-': it is taken off before getopt sees it. */
static void parse(int argc, char **argv, Resize *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_IMAGE_OPTS,
        OPTION_QUIET,
        {"shrink", .code = OPT_SHRINK},
        {"preallocation", 0, "MODE", .code = OPT_PREALLOCATION},
        OPTION_END,
    };
    int opt;

    if (argc > 2) {
        o->size = argv[--argc];
    }
    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        if (opt == OPT_SHRINK) {
            o->shrink = true;
        } else if (!prealloc_mode_parse(optarg, &o->prealloc)) {
            img_error("Invalid preallocation mode '%s'", optarg);
            exit(EXIT_FAILURE);
        }
    }
    if (!o->size) {
        img_usage("Not enough arguments");
    }
    if (optind + 1 != argc) {
        img_usage("Expecting image file name and size");
    }
    o->filename = argv[optind];
}

/* The number in "N", "+N" or "-N". */
static bool take_number(Resize *o)
{
    uint64_t n;

    if (!scalar_size(o->size + (o->size[0] == '+' || o->size[0] == '-'), &n)) {
        img_error("Parameter 'size' expects a non-negative number below 2^64");
        fprintf(stderr, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                        "peta-\nand exabytes, respectively.\n");
        return false;
    }
    o->number = (int64_t)MIN(n, (uint64_t)INT64_MAX);
    return true;
}

/* The new size; false and told if there can be none. */
static bool target_size(const Resize *o, int64_t old, int64_t *ret)
{
    bool plus = o->size[0] == '+', minus = o->size[0] == '-';
    int64_t n = o->number;

    if (n > INT64_MAX - old) {
        *ret = 0; /* what does not fit comes out below zero elsewhere */
    } else {
        *ret = plus ? old + n : minus ? old - n : n;
    }
    if (*ret <= 0) {
        img_error("New image size must be positive");
        return false;
    }
    return true;
}

static int coroutine_fn resize(const Resize *o, BlockBackend *be)
{
    int64_t old = backend_length(be), size;
    GError *err = NULL;

    if (!target_size(o, old, &size)) {
        return EXIT_FAILURE;
    }
    if (size <= old && o->prealloc != PREALLOC_MODE_OFF) {
        img_error("Preallocation can only be used for growing images");
        return EXIT_FAILURE;
    }
    if (size < old && !o->shrink) {
        img_error("Use the --shrink option to perform a shrink operation.");
        fprintf(stderr,
                "tandem-img: warning: Shrinking an image will delete all data beyond the shrunken "
                "image's end. Before performing such an operation, make sure there is no "
                "important data there.\n");
        return EXIT_FAILURE;
    }
    if (!backend_co_truncate(be, size, true, (BlockPreallocMode)o->prealloc, 0, &err)) {
        return img_report(err, "%s", "");
    }
    if (!o->common.quiet) {
        printf("Image resized.\n");
    }
    return EXIT_SUCCESS;
}

int coroutine_fn img_co_resize(int argc, char **argv)
{
    Resize o = {.prealloc = PREALLOC_MODE_OFF};
    ImageSpec spec;
    BlockBackend *be;
    int status;

    parse(argc, argv, &o);
    if (!take_number(&o)) {
        return EXIT_FAILURE;
    }
    spec = img_spec(&o.common, o.filename, true);
    be = img_co_open(&spec);
    if (!be) {
        return EXIT_FAILURE;
    }
    status = resize(&o, be);
    backend_co_free(be);
    return status;
}
