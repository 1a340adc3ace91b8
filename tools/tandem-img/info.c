/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img info */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/info.h"
#include "image/info-text.h"
#include "image/size.h"
#include "img.h"
#include "qapi/json.h"
#include "qapi/walk.h"

typedef struct Info {
    Common common;
    bool chain;
    const char *filename;
} Info;

enum {
    OPT_CHAIN = OPT_COMMAND,
};

static void parse(int argc, char **argv, Info *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        OPTION_OUTPUT,
        {"backing-chain", .code = OPT_CHAIN},
        OPTION_END,
    };

    while (common_next(argc, argv, options, &o->common) == OPT_CHAIN) {
        o->chain = true;
    }
    if (optind + 1 != argc) {
        img_usage("Expecting one image file name");
    }
    o->filename = argv[optind];
}

/* --- human --- */

static void print_snapshots(const ImageInfo *i)
{
    if (i->n_snapshots == 0) {
        return;
    }
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (size_t n = 0; n < i->n_snapshots; n++) {
        const SnapshotInfo *s = i->snapshots[n];
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(s->date_sec);
        g_autofree char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : NULL;
        g_autofree char *size = size_text((uint64_t)s->vm_state_size);
        g_autofree char *clock = g_strdup_printf(
            "%02" PRId64 ":%02" PRId64 ":%02" PRId64 ".%03" PRId64, s->vm_clock_sec / 3600,
            s->vm_clock_sec / 60 % 60, s->vm_clock_sec % 60, s->vm_clock_nsec / 1000000);
        g_autofree char *icount = g_strdup_printf("%" PRId64, s->icount);

        printf("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, size, when ? when : "", clock,
               s->has_icount ? icount : "");
    }
}

static void print_backing(const ImageInfo *i)
{
    if (!i->backing_filename) {
        return;
    }
    printf("backing file: %s", i->backing_filename);
    if (i->full_backing_filename && strcmp(i->full_backing_filename, i->backing_filename) != 0) {
        printf(" (actual path: %s)", i->full_backing_filename);
    }
    printf("\n");
    if (i->backing_filename_format) {
        printf("backing file format: %s\n", i->backing_filename_format);
    }
}

static void print_human(const ImageInfo *i)
{
    g_autofree char *size = size_text((uint64_t)i->virtual_size);
    g_autofree char *disk = i->has_actual_size ? size_text((uint64_t)i->actual_size) : NULL;

    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRId64 " bytes)\ndisk size: %s\n",
           i->filename, i->format, size, i->virtual_size, disk ? disk : "unavailable");
    if (i->has_encrypted && i->encrypted) {
        printf("encrypted: yes\n");
    }
    if (i->has_cluster_size) {
        printf("cluster_size: %" PRId64 "\n", i->cluster_size);
    }
    if (i->has_dirty_flag && i->dirty_flag) {
        printf("cleanly shut down: no\n");
    }
    print_backing(i);
    print_snapshots(i);
    if (i->format_specific) {
        info_print_specific(stdout, i->format_specific);
    }
}

/* --- json --- */

static json_t *to_json(const ImageInfo *i)
{
    json_t *o = image_info_to_json(i);

    json_object_del(o, "backing-image");
    return o;
}

static void print_json(json_t *json)
{
    g_autofree char *text = json_print(json, true);

    printf("%s", text);
    if (text[0] && text[strlen(text) - 1] != '\n') {
        printf("\n");
    }
    json_decref(json);
}

static void print_all(const Info *o, const GPtrArray *chain)
{
    json_t *list = json_array();

    for (guint n = 0; n < chain->len; n++) {
        const ImageInfo *i = chain->pdata[n];

        if (o->common.json) {
            json_array_append_new(list, to_json(i));
            continue;
        }
        if (n > 0) {
            printf("\n");
        }
        print_human(i);
    }
    if (o->common.json && o->chain) {
        print_json(json_incref(list));
    } else if (o->common.json) {
        print_json(json_incref(json_array_get(list, 0)));
    }
    json_decref(list);
}

/* --- the chain --- */

/* Each image is opened alone, so that what is wrong is told of the file that it is wrong with. */
static ImageInfo *coroutine_fn info_of(ImageSpec *spec)
{
    GError *err = NULL;
    BlockNode *node;
    ImageInfo *i;

    spec->no_backing = true;
    node = img_co_open_node(spec);
    if (!node) {
        return NULL;
    }
    i = info_co_image(node, true, false, &err);
    node_co_unref(node);
    if (!i) {
        img_report(err, "%s", spec->name);
    }
    return i;
}

static bool coroutine_fn collect(const Info *o, GPtrArray *chain)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    ImageSpec spec = img_spec(&o->common, o->filename, false);

    do {
        ImageInfo *i;

        if (!g_hash_table_add(seen, (char *)spec.name)) {
            img_error("Backing file '%s' creates an infinite loop.", spec.name);
            return false;
        }
        i = info_of(&spec);
        if (!i) {
            return false;
        }
        g_ptr_array_add(chain, i);
        spec.name = i->full_backing_filename; /* whose format is known, if only as "probe" */
        spec.format = i->backing_filename_format;
        spec.image_opts = false;
    } while (o->chain && spec.name);
    return true;
}

static void free_info(gpointer info)
{
    image_info_free(info);
}

int coroutine_fn img_co_info(int argc, char **argv)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func(free_info);
    Info o = {0};

    parse(argc, argv, &o);
    if (!collect(&o, chain)) {
        return EXIT_FAILURE;
    }
    print_all(&o, chain);
    return EXIT_SUCCESS;
}
