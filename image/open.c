/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening what a command line names. */
#include "image/open.h"

#include <string.h>

#include "qapi/keyval.h"
#include "qapi/walk.h"
#include "util/error.h"

bool image_cache_parse(const char *mode, ImageSpec *ret)
{
    static const struct {
        const char *name;
        bool direct, no_flush, writethrough;
    } modes[] = {
        {"none", true, false, false},       {"off", true, false, false},
        {"writeback", false, false, false}, {"writethrough", false, false, true},
        {"directsync", true, false, true},  {"unsafe", false, true, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(mode, modes[i].name) == 0) {
            ret->flags.cache_direct = modes[i].direct;
            ret->flags.cache_no_flush = modes[i].no_flush;
            ret->writethrough = modes[i].writethrough;
            return true;
        }
    }
    return false;
}

bool image_discard_parse(const char *mode, ImageSpec *ret)
{
    bool unmap = strcmp(mode, "unmap") == 0 || strcmp(mode, "on") == 0;

    if (!unmap && strcmp(mode, "ignore") != 0 && strcmp(mode, "off") != 0) {
        return false;
    }
    ret->flags.unmap = unmap;
    return true;
}

bool image_aio_parse(const char *mode, ImageSpec *ret)
{
    BlockdevAioOptions unused;

    if (!blockdev_aio_options_parse(mode, &unused)) {
        return false;
    }
    ret->aio = mode;
    return true;
}

const char *image_path(const char *name)
{
    size_t n = strcspn(name, ":/");

    if (name[n] != ':') {
        return name;
    }
    return g_str_has_prefix(name, "file:") ? name + strlen("file:") : NULL;
}

/* "backing", or a member of it? */
static bool names_backing(const json_t *opts)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)opts, key, value)
    {
        if (strcmp(key, "backing") == 0 || g_str_has_prefix(key, "backing.")) {
            return true;
        }
    }
    return false;
}

static BlockNode *coroutine_fn open_opts(const ImageSpec *spec, GError **errp)
{
    json_t *opts = qemu_opts_parse(spec->name, NULL, NULL, errp);
    BlockNode *node;

    if (!opts) {
        return NULL;
    }
    if (spec->aio && json_object_get(opts, "file.filename") &&
        !json_object_get(opts, "file.aio")) {
        json_object_set_new(opts, "file.aio", json_string(spec->aio));
    }
    node = spec->no_backing && !names_backing(opts)
               ? node_co_open_json_top(opts, &spec->flags, errp)
               : node_co_open_json(opts, &spec->flags, errp);
    json_decref(opts);
    return node;
}

/* The engine is an option of the protocol below, so the name becomes options. */
static BlockNode *coroutine_fn open_path(const ImageSpec *spec, const char *path, GError **errp)
{
    bool device = g_file_test(path, G_FILE_TEST_EXISTS) &&
                  !g_file_test(path, G_FILE_TEST_IS_REGULAR | G_FILE_TEST_IS_DIR);
    json_t *opts = json_pack("{s:{s:s, s:s, s:s}}", "file", "driver",
                             device ? "host_device" : "file", "filename", path, "aio", spec->aio);
    BlockNode *node;

    if (!opts) {
        return fail(errp, "File name is not valid UTF-8"), NULL;
    }
    if (spec->format) {
        json_object_set_new(opts, "driver", json_string(spec->format));
    }
    node = node_co_open_json(opts, &spec->flags, errp);
    json_decref(opts);
    return node;
}

BlockNode *coroutine_fn image_co_open_node(const ImageSpec *spec, GError **errp)
{
    const char *path;

    if (spec->image_opts) {
        return open_opts(spec, errp);
    }
    path = image_path(spec->name);
    if (spec->aio && path) {
        return open_path(spec, path, errp);
    }
    if (spec->no_backing) {
        return node_co_open_top(spec->name, spec->format, &spec->flags, errp);
    }
    return node_co_open_filename(spec->name, spec->format, &spec->flags, errp);
}

BlockBackend *coroutine_fn image_co_open(const ImageSpec *spec, GError **errp)
{
    Perm change = spec->flags.read_only ? 0 : PERM_WRITE | PERM_RESIZE;
    PermPair perm = {.taken = PERM_CONSISTENT_READ | change, .shared = PERM_ALL};
    BlockNode *node = image_co_open_node(spec, errp);
    BlockBackend *be;

    if (!node) {
        return NULL;
    }
    if (spec->no_share && !spec->flags.force_share) {
        perm.shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
    }
    be = backend_new(NULL, perm, NULL, NULL, errp);
    if (be && !backend_co_insert(be, node, errp)) {
        backend_co_free(be);
        be = NULL;
    }
    node_co_unref(node);
    if (be) {
        backend_set_write_cache(be, !spec->writethrough);
    }
    return be;
}

bool image_object_help(const char *text, FILE *out)
{
    bool help = false;
    json_t *o = keyval_parse(text, "qom-type", &help, NULL);

    json_decref(o);
    if (help) {
        fprintf(out, "List of user creatable objects:\n  secret\n");
    }
    return help;
}

bool image_object_take(const char *text, GError **errp)
{
    g_autoptr(ObjectOptions) object = NULL;
    const char *type;
    QapiMode mode;
    json_t *o = keyval_or_json_parse(text, "qom-type", &mode, NULL, errp);
    bool ok = o != NULL;

    if (!ok) {
        return false;
    }
    type = json_string_value(json_object_get(o, "qom-type"));
    if (!type || !*type) {
        ok = fail(errp, "Parameter 'qom-type' is missing");
    } else {
        object = mode == QAPI_TEXT ? object_options_from_text(o, errp)
                                   : object_options_from_json(o, errp);
        ok = object != NULL;
    }
    json_decref(o);
    if (ok && object->qom_type != OBJECT_TYPE_SECRET) {
        return fail(errp, "invalid object type: %s",
                    qapi_enum_str(&qapi_type_object_type, (int)object->qom_type));
    }
    if (ok && !object->u.secret.data && !object->u.secret.file) {
        return fail(errp, "Either 'file' or 'data' must be provided");
    }
    return ok;
}
