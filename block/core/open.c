/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening nodes: from options or a file name to a node with everything below.
 *
 * Rules:
 *  O1 a node can be found when all of it is there, not before; until then only
 *     the coroutine that opens it knows it;
 *  O2 a failure leaves nothing open: the half-made node is dropped, and closes
 *     what it has got;
 *  O3 the stack is bounded whatever images say: inline definitions nest at
 *     most NODE_NEST_MAX deep, and the backing chain that headers name is
 *     followed in a loop, at most NODE_CHAIN_MAX long and never in a circle.
 */
#include "core.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "qapi/walk.h"
#include "util/error.h"
#include "util/fault.h"
#include "util/loop.h"

/* Where a node that is being opened stands. */
typedef struct Place {
    BlockNode *above;     /* the node whose options define it inline, NULL: none */
    BlockNode *preopened; /* its "file", one count of which becomes the node's; NULL: none */
    bool probed;          /* its driver was guessed */
    bool without_backing; /* who asks follows the header's chain itself */
} Place;

static void (*warn_fn)(const char *text);

void block_set_warning(void (*fn)(const char *text))
{
    warn_fn = fn;
}

void block_warn(const char *format, ...)
{
    if (warn_fn) {
        g_autofree char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = g_strdup_vprintf(format, ap);
        va_end(ap);
        warn_fn(text);
    }
}

static void (*findings_fn)(const char *line);

void block_set_findings(void (*fn)(const char *line))
{
    findings_fn = fn;
}

void block_finding(const char *fmt, ...)
{
    va_list ap;

    if (findings_fn) {
        g_autofree char *line = NULL;

        va_start(ap, fmt);
        line = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        findings_fn(line);
    }
}

/* --- one node --- */

/* What a user knows the node by; NULL if nobody gave it a name. */
static const char *
known_as(const BlockNode *node, const BlockdevOptions *opts, const json_t *options)
{
    const char *filename = json_string_value(json_object_get(options, "filename"));

    if (filename) {
        return filename;
    }
    if (node->file && node->file->node->filename) {
        return node->file->node->filename;
    }
    return opts->node_name;
}

/* What the driver said, as it said it: users compare it. A name is for who said nothing. */
static bool
name_failure(const BlockNode *node, const BlockdevOptions *opts, GError *err, GError **errp)
{
    json_t *o;
    const char *name;

    if (err) {
        return g_propagate_error(errp, err), false;
    }
    o = blockdev_options_to_json(opts);
    name = known_as(node, opts, o);
    fail(errp, "Could not open '%s'", name ? name : node->node_name);
    json_decref(o);
    return false;
}

static bool coroutine_fn call_driver(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    GError *err = NULL;

    node->p->drv_open = true;
    if (fault_hit("node-open")) {
        return fail_errno(errp, EIO, "Could not open '%s'", node->node_name);
    }
    if (!node->drv->co_open(node, opts, &err)) {
        return name_failure(node, opts, err, errp);
    }
    assert(!err);
    node->p->drv_ready = true;
    if (node->drv->co_refresh_length && !node->drv->co_refresh_length(node, &err)) {
        return name_failure(node, opts, err, errp);
    }
    node->p->driver_named = node->filename != NULL;
    return node_co_refresh_limits(node, errp);
}

static bool set_place(BlockNode *node, const Place *place, GError **errp)
{
    node->p->probed = place->probed;
    node_set_inherits(node, place->above);
    node->p->preopened = place->preopened;
    if (place->above) {
        /* A link of the chain is followed in a loop and costs no stack. */
        node->p->nest = (uint8_t)(place->above->p->nest + (place->without_backing ? 0 : 1));
    }
    if (node->p->nest > NODE_NEST_MAX) {
        return fail(errp, "Block options nest deeper than %d levels", NODE_NEST_MAX);
    }
    return true;
}

static bool coroutine_fn open_backing_chain(BlockNode *top, GError **errp);

static bool coroutine_fn
open_into(BlockNode *node, const BlockdevOptions *opts, const Place *place, GError **errp)
{
    bool ok = set_place(node, place, errp) && call_driver(node, opts, errp);

    node_co_unref(node->p->preopened); /* if the driver has not taken it */
    node->p->preopened = NULL;
    if (!ok) {
        return false;
    }
    node->p->opts = blockdev_options_copy(opts);
    filename_refresh(node);
    return place->without_backing || open_backing_chain(node, errp);
}

static BlockNode *coroutine_fn
open_node(const BlockdevOptions *opts, const NodeFlags *inherit, const Place *place, GError **errp)
{
    const char *name = blockdev_driver_str(opts->driver);
    const BlockDriver *drv = driver_find(name);
    NodeFlags flags;
    BlockNode *node;

    if (!drv || !drv->co_open) {
        fail(errp, "Unknown driver '%s'", name);
        node_co_unref(place->preopened);
        return NULL;
    }
    if (!flags_resolve(opts, inherit, &flags, errp) ||
        !(node = node_new(drv, opts->node_name, &flags, errp))) {
        node_co_unref(place->preopened);
        return NULL;
    }
    if (!open_into(node, opts, place, errp)) {
        node_co_unref(node);
        return NULL;
    }
    node->p->open = true;
    return node;
}

BlockNode *coroutine_fn
node_co_open(const BlockdevOptions *opts, const NodeFlags *inherit, GError **errp)
{
    static const Place top;
    NodeFlags flags = inherit ? *inherit : flags_default();

    return open_node(opts, &flags, &top, errp);
}

/* --- children --- */

/* A parent that may fall back to read-only does so over a child that has. */
static void follow_read_only(BlockNode *node, const BlockNode *child, ChildRole role)
{
    if (child->flags.read_only && node->flags.auto_read_only && !(role & CHILD_COW)) {
        node->flags.read_only = true;
    }
}

static BlockNode *coroutine_fn
open_child_node(BlockNode *node, const char *name, const BlockdevRef *ref, ChildRole role,
                GError **errp)
{
    Place place = {.above = node};
    NodeFlags inherit = flags_for_child(&node->flags, role);
    BlockNode *child;

    if (node->p->preopened && strcmp(name, "file") == 0) {
        child = node->p->preopened;
        node->p->preopened = NULL;
        node_set_inherits(child, node);
        return child;
    }
    if (ref->kind == BLOCKDEV_REF_DEFINITION) {
        return open_node(ref->u.definition, &inherit, &place, errp);
    }
    child = node_lookup(ref->u.reference, errp);
    return child ? node_ref(child) : NULL;
}

static bool coroutine_fn
attach(BlockNode *node, const char *name, BlockNode *child, ChildRole role, GError **errp)
{
    GraphTx *tx = graph_tx_new();

    graph_tx_attach(tx, node, name, child, role);
    return graph_tx_co_commit(tx, errp);
}

bool coroutine_fn node_co_open_child(BlockNode *node, const char *name, const BlockdevRef *ref,
                                     ChildRole role, GError **errp)
{
    BlockNode *child;
    bool ok;

    if (!ref) {
        return fail(errp, "A block device must be specified for \"%s\"", name);
    }
    child = open_child_node(node, name, ref, role, errp);
    if (!child) {
        return false;
    }
    follow_read_only(node, child, role);
    ok = attach(node, name, child, role, errp);
    node_co_unref(child); /* the edge has its own count */
    return ok;
}

/* --- backing images that headers name --- */

typedef struct RealPath {
    const char *path;
    char *result;
} RealPath;

static int call_realpath(void *opaque)
{
    RealPath *r = opaque;

    r->result = realpath(r->path, NULL);
    return 0;
}

/* What tells one image file from another; links do not fool it. Caller frees. */
static char *coroutine_fn identity_of(const char *filename)
{
    RealPath r = {.path = filename};

    if (g_str_has_prefix(filename, "json:")) {
        return g_strdup(filename);
    }
    (void)co_run_blocking(call_realpath, &r);
    if (r.result) {
        char *copy = g_strdup(r.result);

        free(r.result);
        return copy;
    }
    return g_strdup(filename);
}

/* The header's name as seen from here: relative ones start at the directory of our file. */
static char *backing_name(const BlockNode *node, GError **errp)
{
    const BlockNode *storage = node;
    const char *name = node->header_backing_file;

    if (name[0] == '/' || filename_has_protocol(name)) {
        return g_strdup(name);
    }
    while (storage->file) {
        storage = storage->file->node;
    }
    if (!storage->filename || filename_has_protocol(storage->filename)) {
        return fail(errp, "Cannot generate a base directory for %s nodes", storage->drv->name),
               NULL;
    }
    return filename_combine(storage->filename, name);
}

static BlockNode *coroutine_fn open_name(const char *filename, const char *format,
                                         const NodeFlags *flags, Place *place, GError **errp);

/* Open what the header of @node names, without its own backing image. */
static BlockNode *coroutine_fn open_header_backing(BlockNode *node, GHashTable *seen, GError **errp)
{
    Place place = {.above = node, .without_backing = true};
    NodeFlags inherit = flags_for_child(&node->flags, CHILD_COW);
    g_autofree char *name = backing_name(node, errp);
    char *id;

    if (!name) {
        return NULL;
    }
    id = identity_of(name);
    if (!g_hash_table_add(seen, id)) {
        return fail(errp, "Backing file '%s' creates an infinite loop", name), NULL;
    }
    if (g_hash_table_size(seen) > NODE_CHAIN_MAX) {
        return fail(errp, "The backing chain is longer than %d images", NODE_CHAIN_MAX), NULL;
    }
    return open_name(name, node->header_backing_format, &inherit, &place, errp);
}

static bool fail_backing(GError *err, GError **errp)
{
    g_propagate_prefixed_error(errp, err, "Could not open backing file: ");
    return false;
}

/* The "backing" that the options name. *ret_done: they decide, whatever the header says. */
static bool coroutine_fn open_given_backing(BlockNode *node, bool *ret_done, GError **errp)
{
    const BlockdevRefOrNull *given = options_member(node->p->opts, "backing");
    BlockdevRef ref = {.kind = BLOCKDEV_REF_REFERENCE};

    *ret_done = given != NULL;
    if (!given || given->kind == BLOCKDEV_REF_OR_NULL_NULL ||
        (given->kind == BLOCKDEV_REF_OR_NULL_REFERENCE && !*given->u.reference)) {
        return true;
    }
    if (given->kind == BLOCKDEV_REF_OR_NULL_DEFINITION) {
        ref.kind = BLOCKDEV_REF_DEFINITION;
        ref.u.definition = given->u.definition;
    } else {
        ref.u.reference = given->u.reference;
    }
    return node_co_open_child(node, "backing", &ref, CHILD_COW, errp);
}

/* One link: *@ret is the next node whose header is to be followed, NULL at the end. */
static bool coroutine_fn
open_link(BlockNode *node, GHashTable *seen, BlockNode **ret, GError **errp)
{
    BlockNode *backing;
    bool done, ok;

    *ret = NULL;
    if (!node->drv->supports_backing) {
        return true;
    }
    if (!open_given_backing(node, &done, errp)) {
        return false;
    }
    if (!done && node->header_backing_file) {
        backing = open_header_backing(node, seen, errp);
        if (!backing) {
            return false;
        }
        ok = attach(node, "backing", backing, CHILD_COW, errp);
        node_co_unref(backing);
        *ret = ok ? backing : NULL;
        return ok;
    }
    return true;
}

static bool coroutine_fn open_backing_chain(BlockNode *top, GError **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    BlockNode *node = top;

    g_hash_table_add(seen, identity_of(top->filename));
    while (node) {
        GError *err = NULL;
        BlockNode *next;

        if (!open_link(node, seen, &next, &err)) {
            return fail_backing(err, errp);
        }
        if (node != top) {
            filename_refresh(node);
        }
        node = next;
    }
    filename_refresh(top);
    return true;
}

/* --- from text --- */

static json_t *common_options(const json_t *o)
{
    static const char *const keys[] = {"discard",        "cache",       "active",       "read-only",
                                       "auto-read-only", "force-share", "detect-zeroes"};
    json_t *r = json_object();

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        json_t *value = json_object_get(o, keys[i]);

        if (value) {
            json_object_set(r, keys[i], value);
        }
    }
    return r;
}

/* The flags that a node with the common options of @o will have, whatever its driver. */
static bool
flags_of_untyped(const json_t *o, const NodeFlags *inherit, NodeFlags *ret, GError **errp)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    json_t *common = common_options(o);

    json_object_set_new(common, "driver", json_string("raw"));
    json_object_set_new(common, "file", json_string("placeholder"));
    opts = blockdev_options_from_lenient(common, errp);
    json_decref(common);
    return opts && flags_resolve(opts, inherit, ret, errp);
}

/* "file" of options without a driver: a counted node; *ret_inline: made for this. */
static BlockNode *coroutine_fn open_to_probe(const json_t *o, const NodeFlags *flags,
                                             const Place *place, bool *ret_inline, GError **errp)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    const json_t *file = json_object_get(o, "file");
    NodeFlags inherit = flags_for_child(flags, CHILD_IMAGE);
    Place below = {.above = place->above};
    BlockNode *node;

    *ret_inline = json_is_object(file);
    if (json_is_string(file)) {
        node = node_lookup(json_string_value(file), errp);
        return node ? node_ref(node) : NULL;
    }
    if (!file) {
        return fail(errp, "Must specify either driver or file"), NULL;
    }
    opts = blockdev_options_from_lenient(file, errp);
    return opts ? open_node(opts, &inherit, &below, errp) : NULL;
}

/* Bytes read from the start, or -errno. */
static int coroutine_fn read_head(BlockNode *node, uint8_t *head, GError **errp)
{
    PermPair perm = {.taken = PERM_CONSISTENT_READ, .shared = PERM_ALL};
    BlockBackend *be = backend_new(NULL, perm, NULL, NULL, errp);
    int n = (int)MIN(PROBE_BYTES, node_length(node)), r = -1;

    if (!be) {
        return -1;
    }
    if (backend_co_insert(be, node, errp)) {
        r = n > 0 ? backend_co_pread(be, 0, head, (size_t)n) : 0;
        if (r < 0) {
            fail_errno(errp, -r, "Could not read '%s' for determining its format", node->filename);
        }
    }
    backend_co_free(be);
    return r < 0 ? -1 : n;
}

static void warn_raw(const char *filename)
{
    g_autofree char *text = g_strdup_printf(
        "Image format was not specified for '%s' and probing guessed raw.\n"
        "         Automatically detecting the format is dangerous for raw images, write "
        "operations on block 0 will be restricted.\n"
        "         Specify the 'raw' format explicitly to remove the restrictions.",
        filename);

    block_warn("%s", text);
}

/* Put the guessed driver into @o. */
static bool coroutine_fn probe_into(json_t *o, BlockNode *file, bool writable, GError **errp)
{
    uint8_t head[PROBE_BYTES] = {0};
    int n = read_head(file, head, errp);
    const BlockDriver *drv;

    if (n < 0) {
        return false;
    }
    drv = probe_format(head, (size_t)n, file->filename);
    if (!drv) {
        return fail(errp, "Could not determine the image format of '%s'", file->filename);
    }
    json_object_set_new(o, "driver", json_string(drv->name));
    if (strcmp(drv->name, "raw") == 0 && writable) {
        warn_raw(file->filename);
    }
    return true;
}

static BlockNode *coroutine_fn
open_typed(const json_t *o, const NodeFlags *flags, const Place *place, GError **errp)
{
    GError *err = NULL;
    g_autoptr(BlockdevOptions) opts = blockdev_options_from_lenient(o, &err);

    if (!opts) {
        untyped_reword(o, err);
        g_propagate_error(errp, err);
        node_co_unref(place->preopened);
        return NULL;
    }
    return open_node(opts, flags, place, errp);
}

static BlockNode *coroutine_fn
open_probed(json_t *o, const NodeFlags *inherit, Place *place, GError **errp)
{
    NodeFlags flags;
    BlockNode *file;
    bool is_inline;

    if (!flags_of_untyped(o, inherit, &flags, errp)) {
        return NULL;
    }
    file = open_to_probe(o, &flags, place, &is_inline, errp);
    if (!file) {
        return NULL;
    }
    if (!probe_into(o, file, !flags.read_only && !file->flags.read_only, errp)) {
        node_co_unref(file);
        return NULL;
    }
    place->probed = true;
    if (is_inline) {
        place->preopened = file;
        return open_typed(o, inherit, place, errp);
    } else {
        BlockNode *node = open_typed(o, inherit, place, errp);

        node_co_unref(file);
        return node;
    }
}

static BlockNode *coroutine_fn
open_untyped(const json_t *opts, const NodeFlags *flags, Place *place, GError **errp)
{
    json_t *o = untyped_co_normalise(opts, errp);
    BlockNode *node = NULL;

    if (o) {
        node = json_object_get(o, "driver") ? open_typed(o, flags, place, errp)
                                            : open_probed(o, flags, place, errp);
        json_decref(o);
    }
    return node;
}

BlockNode *coroutine_fn
node_co_open_json(const json_t *opts, const NodeFlags *inherit, GError **errp)
{
    NodeFlags flags = inherit ? *inherit : flags_default();
    Place place = {0};

    return open_untyped(opts, &flags, &place, errp);
}

BlockNode *coroutine_fn
node_co_open_json_top(const json_t *opts, const NodeFlags *inherit, GError **errp)
{
    NodeFlags flags = inherit ? *inherit : flags_default();
    Place place = {.without_backing = true};

    return open_untyped(opts, &flags, &place, errp);
}

/* --- from a file name --- */

/* @parsed (consumed) is what a name says; @format what the user says. */
static json_t *with_format(json_t *parsed, bool is_json, const char *format, GError **errp)
{
    const BlockDriver *drv = format ? driver_find(format) : NULL;

    if (format && !drv) {
        fail(errp, "Unknown driver '%s'", format);
        json_decref(parsed);
        return NULL;
    }
    if (is_json) {
        if (format && !json_object_get(parsed, "driver")) {
            json_object_set_new(parsed, "driver", json_string(format));
        } else if (format &&
                   g_strcmp0(json_string_value(json_object_get(parsed, "driver")), format)) {
            fail(errp, "Driver specified twice");
            json_decref(parsed);
            return NULL;
        }
        return parsed;
    }
    if (drv && drv->is_protocol) {
        json_object_set_new(parsed, "driver", json_string(format));
        return parsed;
    }
    return format ? json_pack("{s:s, s:o}", "driver", format, "file", parsed)
                  : json_pack("{s:o}", "file", parsed);
}

static BlockNode *coroutine_fn open_name(const char *filename, const char *format,
                                         const NodeFlags *flags, Place *place, GError **errp)
{
    bool is_json;
    json_t *o = filename_co_parse(filename, &is_json, errp);
    BlockNode *node;

    o = o ? with_format(o, is_json, format, errp) : NULL;
    if (!o) {
        return NULL;
    }
    node = open_untyped(o, flags, place, errp);
    json_decref(o);
    return node;
}

BlockNode *coroutine_fn node_co_open_filename(const char *filename, const char *format,
                                              const NodeFlags *flags, GError **errp)
{
    NodeFlags f = flags ? *flags : flags_default();
    Place place = {0};

    return open_name(filename, format, &f, &place, errp);
}

BlockNode *coroutine_fn
node_co_open_top(const char *filename, const char *format, const NodeFlags *flags, GError **errp)
{
    NodeFlags f = flags ? *flags : flags_default();
    Place place = {.without_backing = true};

    return open_name(filename, format, &f, &place, errp);
}
