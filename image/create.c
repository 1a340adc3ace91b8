/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making images. Options are one table: what -o takes, how it is shown, and
 * what the schema calls it. A format's image is made on a file that is made
 * first; a place that exists already (a device, another protocol) is only
 * written over.
 */
#include "image/create.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/driver.h"
#include "image/open.h"
#include "qapi/keyval.h"
#include "qapi/scalar.h"
#include "qapi/walk.h"
#include "util/error.h"

#define SECTOR 512

typedef enum OptionType {
    OPTION_TEXT,
    OPTION_SIZE,
    OPTION_NUMBER,
    OPTION_BOOL,
} OptionType;

#define FOR_FILE  1u
#define FOR_QCOW2 2u

/* In the order in which they are shown. */
typedef struct Option {
    const char *key;
    OptionType type;
    unsigned formats;
    const char *fallback; /* shown if not given; of qcow2 */
    const char *member;   /* of the schema */
    const char *help;
} Option;

static const Option options[] = {
    {"encryption", OPTION_BOOL, FOR_QCOW2, NULL, NULL, "Not supported"},
    {"encrypt.format", OPTION_TEXT, FOR_QCOW2, NULL, NULL, "Not supported"},
    {"encrypt.key-secret", OPTION_TEXT, FOR_QCOW2, NULL, NULL, "Not supported"},
    {"cluster_size", OPTION_SIZE, FOR_QCOW2, "65536", "cluster-size", "qcow2 cluster size"},
    {"extended_l2", OPTION_BOOL, FOR_QCOW2, "off", "extended-l2", "Extended L2 tables"},
    {"preallocation", OPTION_TEXT, FOR_QCOW2, NULL, "preallocation",
     "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"compression_type", OPTION_TEXT, FOR_QCOW2, "zlib", "compression-type",
     "Compression method used for image cluster compression"},
    {"size", OPTION_SIZE, FOR_QCOW2 | FOR_FILE, NULL, "size", "Virtual disk size"},
    {"compat", OPTION_TEXT, FOR_QCOW2, NULL, "version",
     "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"data_file", OPTION_TEXT, FOR_QCOW2, NULL, "data-file", "Not supported"},
    {"data_file_raw", OPTION_BOOL, FOR_QCOW2, NULL, "data-file-raw", "Not supported"},
    {"backing_file", OPTION_TEXT, FOR_QCOW2, NULL, "backing-file", "File name of a base image"},
    {"backing_fmt", OPTION_TEXT, FOR_QCOW2, NULL, "backing-fmt", "Image format of the base image"},
    {"lazy_refcounts", OPTION_BOOL, FOR_QCOW2, "off", "lazy-refcounts",
     "Postpone refcount updates"},
    {"refcount_bits", OPTION_NUMBER, FOR_QCOW2, "16", "refcount-bits",
     "Width of a reference count entry in bits"},
    {"nocow", OPTION_BOOL, FOR_QCOW2 | FOR_FILE, NULL, "nocow",
     "Turn off copy-on-write (valid only on btrfs)"},
    {"preallocation", OPTION_TEXT, FOR_FILE, NULL, "preallocation",
     "Preallocation mode (allowed values: off, falloc, full)"},
    {"extent_size_hint", OPTION_SIZE, FOR_QCOW2 | FOR_FILE, NULL, "extent-size-hint",
     "Extent size hint for the image file, 0 to disable"},
};
#define N_OPTIONS G_N_ELEMENTS(options)

struct ImageCreate {
    char *format;
    unsigned mask;
    char *values[N_OPTIONS];
};

ImageCreate *image_create_new(const char *format, GError **errp)
{
    const BlockDriver *drv = driver_find(format);
    ImageCreate *c;

    if (!drv) {
        return fail(errp, "Unknown file format '%s'", format), NULL;
    }
    if (!drv->co_create && strcmp(format, "raw") != 0) {
        return fail(errp, "Format driver '%s' does not support image creation", format), NULL;
    }
    c = g_new0(ImageCreate, 1);
    c->format = g_strdup(format);
    c->mask = strcmp(format, "qcow2") == 0 ? FOR_QCOW2 : FOR_FILE;
    return c;
}

void image_create_free(ImageCreate *c)
{
    for (size_t i = 0; c && i < N_OPTIONS; i++) {
        g_free(c->values[i]);
    }
    if (c) {
        g_free(c->format);
    }
    g_free(c);
}

/* --- values --- */

static ssize_t find(const ImageCreate *c, const char *key)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if ((options[i].formats & c->mask) && strcmp(options[i].key, key) == 0) {
            return (ssize_t)i;
        }
    }
    return -1;
}

bool image_create_has_option(const ImageCreate *c, const char *key)
{
    return find(c, key) >= 0;
}

const char *image_create_get(const ImageCreate *c, const char *key)
{
    ssize_t i = find(c, key);

    return i >= 0 ? c->values[i] : NULL;
}

/* @value as it is shown and stored; NULL and @errp if it is none of @type. */
static char *normalise(const Option *o, const char *value, GError **errp)
{
    bool on, negative;
    uint64_t n;

    switch (o->type) {
    case OPTION_SIZE:
        if (!scalar_size(value, &n)) {
            fail(errp,
                 "Parameter '%s' expects a non-negative number below 2^64\n"
                 "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                 "and exabytes, respectively.",
                 o->key);
            return NULL;
        }
        return g_strdup_printf("%" PRIu64, n);
    case OPTION_NUMBER:
        negative = value[0] == '-';
        if (!scalar_uint(value + negative, &n)) {
            return fail(errp, "Parameter '%s' expects a number", o->key), NULL;
        }
        return g_strdup_printf("%" PRId64, negative ? (int64_t)-n : (int64_t)n);
    case OPTION_BOOL:
        if (!scalar_bool(value, &on)) {
            return fail(errp, "Parameter '%s' expects 'on' or 'off'", o->key), NULL;
        }
        return g_strdup(value);
    case OPTION_TEXT:
        break;
    }
    return g_strdup(value);
}

/* What cannot be had may be declined. */
static bool is_off(const Option *o, const char *value)
{
    bool on;

    return o->type == OPTION_BOOL && scalar_bool(value, &on) && !on;
}

bool image_create_set(ImageCreate *c, const char *key, const char *value, GError **errp)
{
    ssize_t i = find(c, key);
    char *text;

    if (i < 0) {
        return fail(errp, "Invalid parameter '%s'", key);
    }
    text = normalise(&options[i], value, errp);
    if (!text) {
        return false;
    }
    if (!options[i].member && !is_off(&options[i], text)) {
        g_free(text);
        return fail(errp, "Option '%s' is not supported", key);
    }
    g_free(c->values[i]);
    c->values[i] = text;
    return true;
}

bool image_create_set_size(ImageCreate *c, uint64_t bytes, GError **errp)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, bytes);

    return image_create_set(c, "size", text, errp);
}

bool image_create_size(const ImageCreate *c, uint64_t *ret)
{
    const char *text = image_create_get(c, "size");

    return text && scalar_size(text, ret);
}

bool image_create_is_list(const char *text)
{
    size_t n = strlen(text), commas = 0;

    while (commas < n && text[n - 1 - commas] == ',') {
        commas++;
    }
    return n > 0 && commas % 2 == 0 && (text[0] != ',' || text[1] == ',');
}

bool image_create_add(ImageCreate *c, const char *text, GError **errp)
{
    json_t *all = qemu_opts_parse(text, NULL, NULL, errp), *value;
    const char *key;
    bool ok = all != NULL;

    json_object_foreach(all, key, value) {
        ok = ok && image_create_set(c, key, json_string_value(value), errp);
    }
    json_decref(all);
    return ok;
}

/* --- shown --- */

char *image_create_text(const ImageCreate *c)
{
    GString *text = g_string_new(NULL);

    g_string_printf(text, "fmt=%s", c->format);
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const char *fallback = c->mask == FOR_QCOW2 ? options[i].fallback : NULL;
        const char *value = c->values[i] ? c->values[i] : fallback;

        if (value && (options[i].formats & c->mask)) {
            g_auto(GStrv) parts = g_strsplit(value, ",", -1);
            g_autofree char *escaped = g_strjoinv(",,", parts);

            g_string_append_printf(text, " %s=%s", options[i].key, escaped);
        }
    }
    return g_string_free(text, FALSE);
}

static int compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* An option of the file in which an image of a format is stored. */
static bool of_file(const Option *o)
{
    return strcmp(o->key, "nocow") == 0 || strcmp(o->key, "extent_size_hint") == 0 ||
           !(o->formats & FOR_QCOW2);
}

char *image_create_help(const ImageCreate *c, bool with_file)
{
    static const char *const types[] = {"<str>", "<size>", "<num>", "<bool (on/off)>"};
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (size_t i = 0; i < N_OPTIONS; i++) {
        g_autofree char *head = g_strdup_printf("%s=%s", options[i].key, types[options[i].type]);

        if (options[i].member && (options[i].formats & c->mask) &&
            (with_file || !of_file(&options[i])) &&
            strcmp(options[i].help, "Not supported") != 0) {
            g_ptr_array_add(lines, g_strdup_printf("  %-22s - %s", head, options[i].help));
        }
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

/* --- made --- */

static bool coroutine_fn run_create(const char *driver, json_t *o, GError **errp)
{
    g_autoptr(BlockdevCreateOptions) opts = NULL;

    json_object_set_new(o, "driver", json_string(driver));
    opts = blockdev_create_options_from_lenient(o, errp);
    json_decref(o);
    return opts && driver_find(driver)->co_create(opts, errp);
}

/* What was given of @mask's options that not all formats have. */
static void add_given(const ImageCreate *c, json_t *o, bool file_level)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (c->values[i] && options[i].member && of_file(&options[i]) == file_level &&
            strcmp(options[i].key, "size") != 0) {
            json_object_set_new(o, options[i].member, json_string(c->values[i]));
        }
    }
}

static bool coroutine_fn
create_file(const ImageCreate *c, const char *path, uint64_t size, GError **errp)
{
    json_t *o = json_pack("{s:s, s:I}", "filename", path, "size", (json_int_t)size);

    if (!o) {
        return fail(errp, "File name is not valid UTF-8");
    }
    add_given(c, o, true);
    return run_create("file", o, errp);
}

/* A name as a node on which an image can be made; a device stays as long as it is. */
static BlockNode *coroutine_fn open_place(const char *filename, GError **errp)
{
    ImageSpec spec = {.name = filename, .format = "raw"};
    GError *err = NULL;
    BlockNode *node = image_co_open_node(&spec, &err);

    if (!node && g_str_has_prefix(filename, "nbd")) {
        g_prefix_error(&err, "Protocol driver 'nbd' does not support image creation, and opening "
                             "the image failed: ");
    }
    if (!node) {
        g_propagate_error(errp, err);
    }
    return node;
}

static bool coroutine_fn
create_raw(const ImageCreate *c, const char *filename, bool regular, uint64_t size, GError **errp)
{
    BlockNode *node;
    int64_t there;

    if (regular) {
        const char *prealloc = image_create_get(c, "preallocation");
        PreallocMode mode;

        if (prealloc && !prealloc_mode_parse(prealloc, &mode)) {
            return fail(errp, "invalid parameter value: %s", prealloc);
        }
        return create_file(c, image_path(filename), size, errp);
    }
    node = open_place(filename, errp);
    if (!node) {
        return false;
    }
    there = node_length(node);
    node_co_unref(node);
    return there >= (int64_t)size ||
           fail(errp, "'%s' has %" PRId64 " bytes, less than the image size", filename, there);
}

static const char *version_of(const char *compat)
{
    return strcmp(compat, "0.10") == 0 ? "v2" : strcmp(compat, "1.1") == 0 ? "v3" : compat;
}

static bool coroutine_fn create_qcow2(const ImageCreate *c, const char *filename, bool regular,
                                      uint64_t size, GError **errp)
{
    const char *compat = image_create_get(c, "compat");
    BlockNode *place;
    json_t *o;
    bool ok;

    if (regular && !create_file(c, image_path(filename), 0, errp)) {
        return false;
    }
    place = open_place(filename, errp);
    if (!place) {
        return false;
    }
    o = json_pack("{s:s, s:I}", "file", place->node_name, "size", (json_int_t)size);
    add_given(c, o, false);
    if (compat) {
        json_object_set_new(o, "version", json_string(version_of(compat)));
    }
    ok = run_create("qcow2", o, errp);
    node_co_unref(place);
    if (!ok && regular) {
        (void)unlink(image_path(filename)); /* emptied above: nothing of use is left in it */
    }
    return ok;
}

/* The words for what a format, or the disk below, has no room for. */
static void name_too_large(const ImageCreate *c, GError *err)
{
    bool clusters = c->mask == FOR_QCOW2;

    if (g_str_has_suffix(err->message, g_strerror(EFBIG)) ||
        g_str_has_prefix(err->message, "The image size is too large")) {
        g_free(err->message);
        err->message = g_strdup_printf("The image size is too large for file format '%s'%s",
                                       c->format,
                                       clusters ? " (try using a larger cluster size)" : "");
    }
}

bool image_create_check_name(const char *filename, GError **errp)
{
    const char *path = image_path(filename), *colon = strchr(filename, ':');
    g_autofree char *proto = NULL;

    if (path || g_str_has_prefix(filename, "nbd")) {
        return true;
    }
    proto = g_strndup(filename, (gsize)(colon - filename));
    if (strcmp(proto, "json") == 0 || !driver_find(proto)) {
        return fail(errp, "Unknown protocol '%s'", proto);
    }
    return fail(errp, "Protocol driver '%s' does not support image creation", proto);
}

bool coroutine_fn image_co_create(const ImageCreate *c, const char *filename, GError **errp)
{
    const char *path = image_path(filename);
    bool regular = path && !(g_file_test(path, G_FILE_TEST_EXISTS) &&
                             !g_file_test(path, G_FILE_TEST_IS_REGULAR | G_FILE_TEST_IS_DIR));
    GError *err = NULL;
    uint64_t size;
    bool ok;

    if (!image_create_check_name(filename, errp)) {
        return false;
    }
    if (!image_create_size(c, &size)) {
        return fail(errp, "Image creation needs a size parameter");
    }
    if (size > (uint64_t)BLOCK_MAX_LENGTH) {
        ok = fail(&err, "The image size is too large");
    } else {
        size = ALIGN_UP(size, SECTOR);
        ok = c->mask == FOR_QCOW2 ? create_qcow2(c, filename, regular, size, &err)
                                  : create_raw(c, filename, regular, size, &err);
    }
    if (!ok) {
        name_too_large(c, err);
        g_propagate_error(errp, err);
    }
    return ok;
}
