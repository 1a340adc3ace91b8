/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options that every node has: what they mean together, what children inherit,
 * what a reopen may change.
 */
#include "core.h"

#include <string.h>

#include "qapi/walk.h"
#include "util/error.h"

static const char *const common_keys[] = {
    "driver",    "node-name",      "discard",     "cache",         "active",
    "read-only", "auto-read-only", "force-share", "detect-zeroes", NULL,
};

NodeFlags flags_default(void)
{
    return (NodeFlags){.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF};
}

NodeFlags flags_for_child(const NodeFlags *parent, ChildRole role)
{
    NodeFlags f = {
        .read_only = parent->read_only,
        .auto_read_only = parent->auto_read_only,
        .cache_direct = parent->cache_direct,
        .cache_no_flush = parent->cache_no_flush,
        .force_share = parent->force_share,
        .unmap = true, /* the parent has dropped what it does not want to pass */
        .detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF,
    };

    if (role & CHILD_COW) {
        f.read_only = true;
        f.auto_read_only = false;
    }
    return f;
}

static void take_options(const BlockdevOptions *o, NodeFlags *f)
{
    f->read_only = o->has_read_only ? o->read_only : f->read_only;
    f->auto_read_only = o->has_auto_read_only ? o->auto_read_only : f->auto_read_only;
    f->force_share = o->has_force_share ? o->force_share : f->force_share;
    f->unmap = o->has_discard ? o->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP : f->unmap;
    f->detect_zeroes = o->has_detect_zeroes ? o->detect_zeroes : f->detect_zeroes;
    if (o->cache) {
        f->cache_direct = o->cache->has_direct ? o->cache->direct : f->cache_direct;
        f->cache_no_flush = o->cache->has_no_flush ? o->cache->no_flush : f->cache_no_flush;
    }
}

bool flags_resolve(const BlockdevOptions *opts, const NodeFlags *inherit, NodeFlags *ret,
                   GError **errp)
{
    NodeFlags f = *inherit;

    if (opts) {
        take_options(opts, &f);
        if (opts->has_active && !opts->active) {
            return fail(errp, "Inactive nodes are not supported: 'active' cannot be off");
        }
    }
    if (f.force_share && !f.read_only) {
        return fail(errp, "force-share=on can only be used with read-only images");
    }
    if (f.detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP && !f.unmap) {
        return fail(errp, "setting detect-zeroes to unmap is not allowed without setting discard "
                          "operation to unmap");
    }
    *ret = f;
    return true;
}

const void *options_member(const BlockdevOptions *opts, const char *name)
{
    const QapiType *variant = qapi_type_blockdev_options.variants[opts->driver];

    for (uint32_t i = 0; variant && i < variant->n_members; i++) {
        const QapiMember *m = &variant->members[i];

        if (strcmp(m->name, name) == 0 && !m->is_array && qapi_is_pointer(m->type)) {
            const char *u = (const char *)opts + qapi_type_blockdev_options.u_offset;

            return *(const void *const *)(const void *)(u + m->offset);
        }
    }
    return NULL;
}

/* --- reopen --- */

static bool is_in(const char *key, const char *const *list)
{
    for (; list && *list; list++) {
        if (strcmp(key, *list) == 0) {
            return true;
        }
    }
    return false;
}

static bool names_child(const BlockNode *node, const char *edge, const json_t *value)
{
    const BlockChild *c = node_child((BlockNode *)node, edge);

    return c && json_is_string(value) && strcmp(json_string_value(value), c->node->node_name) == 0;
}

/* Equal, or the name of the node that is the child now. */
static bool
same_value(const BlockNode *node, const char *key, const json_t *before, const json_t *now)
{
    if (json_equal(before, now) || names_child(node, key, now)) {
        return true;
    }
    if (!json_is_array(now) || json_array_size(now) != json_array_size(before)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(now); i++) {
        g_autofree char *edge = g_strdup_printf("%s.%zu", key, i);
        const json_t *a = json_array_get(before, i), *b = json_array_get(now, i);

        if (!json_equal(a, b) && !names_child(node, edge, b)) {
            return false;
        }
    }
    return true;
}

static bool may_differ(const char *key, const char *const *may_change)
{
    return is_in(key, common_keys) || is_in(key, may_change) || strcmp(key, "file") == 0 ||
           strcmp(key, "backing") == 0;
}

bool reopen_only_changes(const BlockNode *node, const BlockdevOptions *opts,
                         const char *const *may_change, GError **errp)
{
    json_t *before = blockdev_options_to_json(node->p->opts);
    json_t *now = blockdev_options_to_json(opts);
    const char *key, *wrong = NULL;
    json_t *value;

    json_object_foreach(now, key, value)
    {
        if (!may_differ(key, may_change) &&
            !same_value(node, key, json_object_get(before, key), value)) {
            wrong = wrong ? wrong : key;
        }
    }
    json_object_foreach(before, key, value)
    {
        if (!may_differ(key, may_change) && !json_object_get(now, key)) {
            wrong = wrong ? wrong : key;
        }
    }
    if (wrong) {
        fail(errp, "Cannot change the option '%s' of node '%s'", wrong, node->node_name);
    }
    json_decref(before);
    json_decref(now);
    return wrong == NULL;
}
