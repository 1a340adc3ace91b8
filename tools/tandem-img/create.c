/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img create */
#include <stdio.h>
#include <string.h>

#include "img.h"
#include "block/driver.h"

typedef struct Create {
    Common common;
    const char *filename, *size;
    const char *backing, *backing_format;
    bool unsafe; /* do not look at the backing file */
    GPtrArray *texts;
} Create;

static void parse(int argc, char **argv, Create *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_QUIET,
        {"backing", 'b', "FILE"},
        {"backing-format", 'B', "FMT"},
        {NULL, 'F', "FMT"},
        {"backing-unsafe", 'u'},
        {"options", 'o', "OPTIONS"},
        OPTION_END,
    };
    int opt;

    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        switch (opt) {
        case 'F':
        case 'B':
            o->backing_format = optarg;
            break;
        case 'b':
            o->backing = optarg;
            break;
        case 'o':
            img_take_options(o->texts, optarg);
            break;
        case 'u':
            o->unsafe = true;
            break;
        }
    }
    o->filename = optind < argc ? argv[optind++] : NULL;
    o->size = optind < argc ? argv[optind++] : NULL;
    if (optind < argc) {
        img_usage("Unexpected argument: %s", argv[optind]);
    }
}

static bool take_options(const Create *o, ImageCreate *c, GError **errp)
{
    for (guint i = 0; i < o->texts->len; i++) {
        if (!image_create_add(c, o->texts->pdata[i], errp)) {
            return false;
        }
    }
    if ((o->backing || o->backing_format) && !image_create_has_option(c, "backing_file")) {
        return fail(errp, "Backing file %snot supported for file format '%s'",
                    o->backing ? "" : "format ", o->common.format);
    }
    return (!o->backing || image_create_set(c, "backing_file", o->backing, errp)) &&
           (!o->backing_format || image_create_set(c, "backing_fmt", o->backing_format, errp));
}

/* A name inside an image is relative to the image. */
static char *beside(const char *image, const char *name)
{
    const char *path = image_path(image), *slash = path ? strrchr(path, '/') : NULL;

    if (!slash || *name == '/' || image_path(name) != name) {
        return g_strdup(name);
    }
    return g_strdup_printf("%.*s%s", (int)(slash + 1 - path), path, name);
}

static bool coroutine_fn look_at_backing(const Create *o, ImageCreate *c, GError **errp)
{
    const char *backing = image_create_get(c, "backing_file");
    g_autofree char *name = beside(o->filename, backing);
    ImageSpec spec = {.name = name, .format = image_create_get(c, "backing_fmt")};
    GError *err = NULL;
    BlockNode *node;
    uint64_t size;
    bool ok = true;

    spec.flags.read_only = true;
    node = image_co_open_node(&spec, &err);
    if (!node) {
        ok = fail(errp, "%s\nCould not open backing image.", err->message);
        g_error_free(err);
        return ok;
    }
    if (!image_create_get(c, "backing_fmt")) {
        ok = fail(errp, "Backing file specified without backing format\nDetected format of %s.",
                  node->drv->name);
    } else if (!image_create_size(c, &size)) {
        ok = image_create_set_size(c, (uint64_t)node_length(node), errp);
    }
    node_co_unref(node);
    return ok;
}

static bool coroutine_fn check_backing(const Create *o, ImageCreate *c, GError **errp)
{
    const char *backing = image_create_get(c, "backing_file");
    const char *format = image_create_get(c, "backing_fmt");

    if (!backing) {
        return true;
    }
    if (!*backing) {
        return fail(errp, "Expected backing file name, got empty string");
    }
    if (strcmp(backing, o->filename) == 0) {
        return fail(errp,
                    "Error: Trying to create an image with the same filename as the backing file");
    }
    if (format && !driver_find(format)) {
        return fail(errp, "Unknown driver '%s'\nCould not open backing image.", format);
    }
    if (o->unsafe && !format) {
        return fail(errp, "Backing file specified without backing format");
    }
    return o->unsafe || look_at_backing(o, c, errp);
}

static bool coroutine_fn create(const Create *o, GError **errp)
{
    g_autoptr(ImageCreate) c = image_create_new(o->common.format, errp);
    uint64_t size;

    if (!c || !image_create_check_name(o->filename, errp) || !take_options(o, c, errp)) {
        return false;
    }
    if (o->size && image_create_size(c, &size)) {
        return fail(errp, "The image size must be specified only once");
    }
    if (o->size) {
        int64_t n;

        if (!img_size(o->size, "image size", &n)) {
            exit(EXIT_FAILURE);
        }
        (void)image_create_set_size(c, (uint64_t)n, NULL); /* every format has it */
    }
    if (!check_backing(o, c, errp)) {
        return false;
    }
    if (!image_create_size(c, &size)) {
        return fail(errp, "Image creation needs a size parameter");
    }
    if (!o->common.quiet) {
        g_autofree char *text = image_create_text(c);

        printf("Formatting '%s', %s\n", o->filename, text);
        fflush(stdout);
    }
    return image_co_create(c, o->filename, errp);
}

int coroutine_fn img_co_create(int argc, char **argv)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Create o = {.texts = texts, .common.format = "raw"};
    GError *err = NULL;

    parse(argc, argv, &o);
    if (img_asks_for_options(texts)) {
        return img_print_options(o.common.format, o.filename);
    }
    if (!o.filename) {
        img_usage("Expecting image file name");
    }
    return create(&o, &err) ? EXIT_SUCCESS : img_report(err, "%s", o.filename);
}
