/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that commands share, and how they speak. */
#include "img.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "image/size.h"

#define PROGRAM "tandem-img"

/* --- messages --- */

void img_error(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, PROGRAM ": %s\n", text);
}

int img_report(GError *err, const char *prefix_fmt, ...)
{
    g_autofree char *prefix = NULL;
    va_list ap;

    va_start(ap, prefix_fmt);
    prefix = g_strdup_vprintf(prefix_fmt, ap);
    va_end(ap);
    img_error("%s%s%s", prefix, *prefix ? ": " : "", err->message);
    g_error_free(err);
    return EXIT_FAILURE;
}

void img_usage(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, PROGRAM ": %s\nTry '" PROGRAM " --help' for more information\n", text);
    exit(EXIT_FAILURE);
}

/* --- options --- */

void common_output(Common *c, const char *text)
{
    c->json = strcmp(text, "json") == 0;
    if (!c->json && strcmp(text, "human") != 0) {
        img_error("--output must be used with human or json as argument.");
        exit(EXIT_FAILURE);
    }
}

static void take_object(const char *text, int failure)
{
    GError *err = NULL;

    if (image_object_help(text, stdout)) {
        exit(EXIT_SUCCESS);
    }
    if (!image_object_take(text, &err)) {
        img_report(err, "%s", "");
        exit(failure);
    }
}

static int failure(const Common *c)
{
    return c->failure ? c->failure : EXIT_FAILURE;
}

static bool take_common(int opt, Common *c)
{
    switch (opt) {
    case OPT_OBJECT:
        take_object(optarg, failure(c));
        return true;
    case OPT_IMAGE_OPTS:
        c->image_opts = true;
        return true;
    case OPT_OUTPUT:
        common_output(c, optarg);
        return true;
    case 'U':
        c->force_share = true;
        return true;
    case 'q':
        c->quiet = true;
        return true;
    case 'p':
        c->progress = true;
        return true;
    case 'f':
        c->format = optarg;
        return true;
    }
    return false;
}

int img_next_option(int argc, char **argv, const char *mode, const CmdOption *options)
{
    g_autofree char *silent = g_strconcat(mode, ":", NULL);
    int opt = cmdline_next(argc, argv, silent, options);

    if (opt == ':') {
        img_usage("missing argument for option '%s'", argv[optind - 1]);
    }
    if (opt == '?') {
        img_usage("unrecognized option '%s'", argv[optind - 1]);
    }
    return opt;
}

int common_next(int argc, char **argv, const CmdOption *options, Common *c)
{
    int opt;

    while ((opt = img_next_option(argc, argv, "", options)) != -1) {
        if (opt == 'h') {
            img_command_help(argv[0]);
        }
        if (!take_common(opt, c)) {
            return opt;
        }
    }
    return -1;
}

ImageSpec img_spec(const Common *c, const char *name, bool writable)
{
    ImageSpec spec = {
        .name = name,
        .format = c->format,
        .image_opts = c->image_opts,
    };

    if (c->image_opts && c->format) {
        img_error("--image-opts and --format are mutually exclusive");
        exit(failure(c));
    }
    spec.flags.read_only = !writable;
    spec.flags.force_share = c->force_share;
    return spec;
}

bool img_spec_cache(ImageSpec *spec, const char *mode, const char *what)
{
    if (mode && !image_cache_parse(mode, spec)) {
        img_error("Invalid %s option: %s", what, mode);
        return false;
    }
    return true;
}

bool img_number(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret)
{
    int64_t n;
    int r = size_parse(text, &n);

    if (r == -EINVAL) {
        img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
        return false;
    }
    if (r == -ERANGE || n < min || n > max) {
        img_error("Invalid %s specified. Must be between %" G_GINT64_FORMAT
                  " and %" G_GINT64_FORMAT ".",
                  what, (gint64)min, (gint64)max);
        return false;
    }
    *ret = n;
    return true;
}

bool img_size(const char *text, const char *what, int64_t *ret)
{
    return img_number(text, what, 0, INT64_MAX, ret);
}

BlockNode *coroutine_fn img_co_open_node(const ImageSpec *spec)
{
    GError *err = NULL;
    BlockNode *node = image_co_open_node(spec, &err);

    if (!node) {
        img_report(err, "Could not open '%s'", spec->name);
    }
    return node;
}

BlockBackend *coroutine_fn img_co_open(const ImageSpec *spec)
{
    GError *err = NULL;
    BlockBackend *be = image_co_open(spec, &err);

    if (!be) {
        img_report(err, "Could not open '%s'", spec->name);
    }
    return be;
}

/* --- progress --- */

static struct {
    bool on;
    int64_t total, done;
    double shown;
} progress;

static void show(double percent)
{
    printf("    (%3.2f/100%%)\r", percent);
    fflush(stdout);
    progress.shown = percent;
}

void progress_start(bool on, int64_t total)
{
    progress.on = on;
    progress.total = total;
    progress.done = 0;
    if (on) {
        show(0);
    }
}

void progress_add(int64_t done)
{
    double percent;

    progress.done += done;
    if (!progress.on || progress.total <= 0) {
        return;
    }
    percent = MIN(100.0, 100.0 * (double)progress.done / (double)progress.total);
    if (percent >= progress.shown + 1) {
        show(percent);
    }
}

void progress_end(bool complete)
{
    if (progress.on) {
        printf("%s\n", complete ? "    (100.00/100%)\r" : "");
    }
    progress.on = false;
}

/* --- options of images --- */

void img_take_options(GPtrArray *texts, char *text)
{
    if (!image_create_is_list(text)) {
        img_error("Invalid option list: %s", text);
        exit(EXIT_FAILURE);
    }
    g_ptr_array_add(texts, text);
}

bool img_asks_for_options(const GPtrArray *texts)
{
    for (guint i = 0; i < texts->len; i++) {
        g_auto(GStrv) items = g_strsplit(texts->pdata[i], ",", -1);
        const char *const *list = (const char *const *)items;

        if (g_strv_contains(list, "help") || g_strv_contains(list, "?")) {
            return true;
        }
    }
    return false;
}

int img_print_options(const char *format, const char *filename)
{
    GError *err = NULL;
    g_autoptr(ImageCreate) c = image_create_new(format, &err);
    g_autofree char *text = NULL;

    if (!c) {
        return img_report(err, "%s", "");
    }
    text = image_create_help(c, filename != NULL);
    if (filename) {
        printf("Supported options:\n%s\n", text);
    } else {
        printf("Supported %s options:\n%s\n\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n", format, text);
    }
    return EXIT_SUCCESS;
}
