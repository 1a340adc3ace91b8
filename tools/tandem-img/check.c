/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img check: 0 clean, 1 could not be checked, 2 corrupt, 3 leaks only, 63 no check. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/driver.h"
#include "img.h"
#include "qapi/json.h"
#include "qapi/walk.h"

enum {
    CHECK_FAILED = 1,
    CHECK_CORRUPT = 2,
    CHECK_LEAKS = 3,
    CHECK_NONE = 63,
};

typedef struct Check {
    Common common;
    const char *filename, *cache;
    bool fix_leaks, fix_all;
} Check;

static void parse(int argc, char **argv, Check *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        OPTION_OUTPUT,
        OPTION_QUIET,
        {"repair", 'r', "leaks|all"},
        {NULL, 'T', "CACHE"},
        OPTION_END,
    };
    int opt;

    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        if (opt == 'T') {
            o->cache = optarg;
            continue;
        }
        o->fix_all = strcmp(optarg, "all") == 0;
        o->fix_leaks = o->fix_all || strcmp(optarg, "leaks") == 0;
        if (!o->fix_leaks) {
            img_usage("Unknown option value for -r (expecting 'leaks' or 'all'): %s", optarg);
        }
    }
    if (optind + 1 != argc) {
        img_usage("Expecting one image file name");
    }
    o->filename = argv[optind];
}

static void print_human(ImageCheck *c)
{
    if (!c->corruptions && !c->leaks && !c->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (c->corruptions) {
        printf("\n%" PRId64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               c->corruptions);
    }
    if (c->leaks) {
        printf("\n%" PRId64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               c->leaks);
    }
    if (c->check_errors) {
        printf("\n%" PRId64 " internal errors have occurred during the check.\n", c->check_errors);
    }
    if (c->total_clusters && c->allocated_clusters) {
        double allocated = (double)c->allocated_clusters;

        printf("%" PRId64 "/%" PRId64 " = %0.2f%% allocated, %0.2f%% fragmented, "
               "%0.2f%% compressed clusters\n",
               c->allocated_clusters, c->total_clusters,
               100 * allocated / (double)c->total_clusters,
               100 * (double)c->fragmented_clusters / allocated,
               100 * (double)c->compressed_clusters / allocated);
    }
    if (c->image_end_offset > 0) {
        printf("Image end offset: %" PRId64 "\n", c->image_end_offset);
    }
}

static void print_json(ImageCheck *c)
{
    json_t *json;
    g_autofree char *text = NULL;

    c->has_corruptions = c->corruptions != 0;
    c->has_leaks = c->leaks != 0;
    c->has_corruptions_fixed = c->corruptions_fixed != 0;
    c->has_leaks_fixed = c->leaks_fixed != 0;
    c->has_image_end_offset = c->image_end_offset != 0;
    c->has_total_clusters = c->total_clusters != 0;
    c->has_allocated_clusters = c->allocated_clusters != 0;
    c->has_fragmented_clusters = c->fragmented_clusters != 0;
    c->has_compressed_clusters = c->compressed_clusters != 0;
    json = image_check_to_json(c);
    text = json_print(json, true);
    printf("%s%s", text, g_str_has_suffix(text, "\n") ? "" : "\n");
    json_decref(json);
}

static ImageCheck *coroutine_fn
check(const Check *o, BlockNode *node, bool fix_leaks, bool fix_all, GError **errp)
{
    ImageCheck *c = g_new0(ImageCheck, 1);

    c->filename = g_strdup(o->filename);
    c->format = g_strdup(node->drv->name);
    if (!node->drv->co_check(node, c, fix_leaks, fix_all, errp)) {
        image_check_free(c);
        return NULL;
    }
    return c;
}

/* What was repaired is told, and then looked at once more. */
static ImageCheck *coroutine_fn check_again(const Check *o, BlockNode *node, ImageCheck *first,
                                            GError **errp)
{
    int64_t leaks = first->leaks_fixed, corruptions = first->corruptions_fixed;
    ImageCheck *c;

    if (!o->common.json && !o->common.quiet) {
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRId64 " leaked clusters\n    %" PRId64 " corruptions\n\n"
               "Double checking the fixed image now...\n",
               leaks, corruptions);
    }
    image_check_free(first);
    c = check(o, node, false, false, errp);
    if (c) {
        c->leaks_fixed = leaks;
        c->corruptions_fixed = corruptions;
    }
    return c;
}

static int coroutine_fn check_node(const Check *o, BlockNode *node)
{
    GError *err = NULL;
    ImageCheck *c;
    int status;

    if (!node->drv->co_check) {
        img_error("This image format does not support checks");
        return CHECK_NONE;
    }
    c = check(o, node, o->fix_leaks, o->fix_all, &err);
    if (c && (c->leaks_fixed || c->corruptions_fixed)) {
        c = check_again(o, node, c, &err);
    }
    if (!c) {
        img_report(err, "%s", "Check failed");
        return CHECK_FAILED;
    }
    status = c->check_errors  ? CHECK_FAILED
             : c->corruptions ? CHECK_CORRUPT
             : c->leaks       ? CHECK_LEAKS
                              : EXIT_SUCCESS;
    if (!o->common.quiet) {
        (o->common.json ? print_json : print_human)(c);
    }
    image_check_free(c);
    return status;
}

int coroutine_fn img_co_check(int argc, char **argv)
{
    Check o = {0};
    ImageSpec spec;
    BlockBackend *be;
    int status;

    parse(argc, argv, &o);
    spec = img_spec(&o.common, o.filename, o.fix_leaks);
    spec.flags.repair = o.fix_leaks;
    if (!img_spec_cache(&spec, o.cache, "source cache")) {
        return EXIT_FAILURE;
    }
    be = img_co_open(&spec);
    if (!be) {
        return EXIT_FAILURE;
    }
    status = check_node(&o, backend_node(be));
    backend_co_free(be);
    return status;
}
