/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandem-img map */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "img.h"

/* A run of the disk about which one thing can be said. */
typedef struct Run {
    int64_t start, length, offset;
    int depth;
    bool present, zero, data, compressed, has_offset;
    BlockNode *file; /* borrowed */
} Run;

typedef struct Map {
    Common common;
    const char *filename;
    int64_t start, length; /* -1: to the end */
    BlockBackend *be;
    bool printed;
} Map;

static int parse(int argc, char **argv, Map *o)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        OPTION_OBJECT,
        OPTION_FORMAT,
        OPTION_FORCE_SHARE,
        OPTION_IMAGE_OPTS,
        OPTION_OUTPUT,
        {"start-offset", 's', "OFFSET"},
        {"offset", 0, "OFFSET", .code = 's'},
        {"max-length", 'l', "LENGTH"},
        {"length", 0, "LENGTH", .code = 'l'},
        OPTION_END,
    };
    int opt;

    while ((opt = common_next(argc, argv, options, &o->common)) != -1) {
        if (opt == 's' && !img_size(optarg, "start offset", &o->start)) {
            return EXIT_FAILURE;
        }
        if (opt == 'l' && !img_size(optarg, "max length", &o->length)) {
            return EXIT_FAILURE;
        }
    }
    if (optind + 1 != argc) {
        img_usage("Expecting one image file name");
    }
    o->filename = argv[optind];
    return EXIT_SUCCESS;
}

static void print_json_run(Map *o, const Run *r)
{
    printf("%s{ \"start\": %" PRId64 ", \"length\": %" PRId64
           ", \"depth\": %d, \"present\": %s, \"zero\": %s, \"data\": %s, \"compressed\": %s",
           o->printed ? ",\n" : "", r->start, r->length, r->depth, r->present ? "true" : "false",
           r->zero ? "true" : "false", r->data ? "true" : "false",
           r->compressed ? "true" : "false");
    if (r->has_offset) {
        printf(", \"offset\": %" PRId64, r->offset);
    }
    printf("}");
    o->printed = true;
}

static bool print_run(Map *o, const Run *r)
{
    if (o->common.json) {
        print_json_run(o, r);
        return true;
    }
    if (!r->data || r->zero) {
        return true;
    }
    if (!r->has_offset || r->compressed || !r->file) {
        img_error("File contains external, encrypted or compressed clusters.");
        return false;
    }
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", (uint64_t)r->start,
           (uint64_t)r->length, (uint64_t)r->offset, r->file->filename);
    return true;
}

/* Zeroes behind the end of a layer that is too short. They are nowhere, and so is it there: the
 * image above it is the one that shows them. */
static bool is_past_a_layer(const BlockStatus *s, int64_t at)
{
    return s->flags & STATUS_ZERO && s->file && !(s->flags & STATUS_OFFSET_VALID) &&
           at >= node_length(s->file);
}

static int coroutine_fn ask(BlockBackend *be, int64_t at, int64_t bytes, Run *ret)
{
    BlockStatus s;
    int depth = 0, r = backend_co_block_status_above(be, NULL, true, at, bytes, &s, &depth);

    if (r < 0) {
        return r;
    }
    if (is_past_a_layer(&s, at)) {
        s.flags &= ~(unsigned)STATUS_ALLOCATED;
    }
    if (!(s.flags & STATUS_ALLOCATED)) { /* in no image, so nowhere */
        s.flags &= ~(unsigned)STATUS_OFFSET_VALID;
    }
    if (!(s.flags & STATUS_ALLOCATED) && depth > 0) {
        depth--; /* passed all images: what is in none counts as the bottom's */
    }
    *ret = (Run){
        .start = at,
        .length = MIN(s.bytes, bytes),
        .depth = depth,
        .present = s.flags & STATUS_ALLOCATED,
        .zero = s.flags & STATUS_ZERO,
        .data = s.flags & STATUS_DATA,
        .compressed = s.flags & STATUS_COMPRESSED,
        .has_offset = (s.flags & STATUS_OFFSET_VALID) != 0,
        .offset = s.map,
        .file = s.flags & STATUS_OFFSET_VALID ? s.file : NULL,
    };
    return 0;
}

static bool goes_on(const Run *a, const Run *b)
{
    return a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
           a->data == b->data && a->compressed == b->compressed &&
           a->has_offset == b->has_offset && a->file == b->file &&
           (!a->has_offset || a->offset + a->length == b->offset);
}

static int coroutine_fn map(Map *o)
{
    int64_t end = backend_length(o->be);
    Run last = {0}, next;
    int r;

    if (o->length >= 0 && o->length < end - o->start) {
        end = o->start + o->length;
    }
    if (o->start >= end && o->common.json) {
        return print_run(o, &(Run){.start = o->start}) ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    for (int64_t at = o->start; at < end; at = next.start + next.length) {
        r = ask(o->be, at, end - at, &next);
        if (r < 0) {
            img_error("Failed to read image metadata: %s", strerror(-r));
            return EXIT_FAILURE;
        }
        if (last.length && goes_on(&last, &next)) {
            last.length += next.length;
            continue;
        }
        if (last.length && !print_run(o, &last)) {
            return EXIT_FAILURE;
        }
        last = next;
    }
    return last.length && !print_run(o, &last) ? EXIT_FAILURE : EXIT_SUCCESS;
}

int coroutine_fn img_co_map(int argc, char **argv)
{
    Map o = {.length = -1};
    int status = parse(argc, argv, &o);
    ImageSpec spec = img_spec(&o.common, o.filename, false);

    if (status != EXIT_SUCCESS) {
        return status;
    }
    o.be = img_co_open(&spec);
    if (!o.be) {
        return EXIT_FAILURE;
    }
    if (o.common.json) {
        printf("[");
    } else {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    status = map(&o);
    if (o.common.json) {
        printf("]\n");
    }
    backend_co_free(o.be);
    return status;
}
