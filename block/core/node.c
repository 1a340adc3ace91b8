/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes: their names, their counts, their end.
 *
 * Invariants:
 *  N1 a node name is taken from node_new() until the node is freed, but the
 *     node can be found only while p->open: nobody meets one half made;
 *  N2 node names and drive ids share one name space;
 *  N3 a node ends where its last count is dropped, in that coroutine: nothing
 *     is closed from a plain function. The work list below keeps the stack
 *     flat however long the chain that ends with it.
 */
#include "core.h"

#include <inttypes.h>
#include <string.h>

#include "util/error.h"
#include "util/fault.h"

static BlockNode *nodes_first, *nodes_last;
static GHashTable *nodes_by_name; /* made with the first node, freed with the last */
static uint64_t name_counter, order_counter;

/* --- names --- */

bool name_is_well_formed(const char *name)
{
    if (!g_ascii_isalpha(name[0])) {
        return false;
    }
    for (const char *c = name + 1; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr("-._", *c)) {
            return false;
        }
    }
    return true;
}

BlockNode *node_find_any(const char *name)
{
    return nodes_by_name ? g_hash_table_lookup(nodes_by_name, name) : NULL;
}

static bool check_name(const char *name, GError **errp)
{
    if (strlen(name) > NODE_NAME_MAX) {
        return fail(errp, "Node name too long");
    }
    if (!name_is_well_formed(name)) {
        return fail(errp, "Invalid node-name: '%s'", name);
    }
    if (backend_find(name)) {
        return fail(errp, "node-name=%s is conflicting with a device id", name);
    }
    if (node_find_any(name)) {
        return fail(errp, "Duplicate nodes with node-name='%s'", name);
    }
    return true;
}

/* No user can choose a name with '#', so it never collides. */
static char *generate_name(void)
{
    uint64_t n = name_counter++;

    return g_strdup_printf("#block%" PRIu64 "%02u", n, (unsigned)((n * 61 + 17) % 100));
}

/* --- making --- */

BlockNode *node_new(const BlockDriver *drv, const char *name, const NodeFlags *flags, GError **errp)
{
    BlockNode *node;

    if (name && !check_name(name, errp)) {
        return NULL;
    }
    if (fault_hit("node-new")) {
        return fail_errno(errp, ENOMEM, "Could not make a node"), NULL;
    }
    node = g_new0(BlockNode, 1);
    node->p = g_new0(struct BlockNodePriv, 1);
    node->p->refs = 1;
    node->p->perm.shared = PERM_ALL;
    node->drv = drv;
    node->state = drv->state_size ? g_malloc0(drv->state_size) : NULL;
    node->flags = *flags;
    node->order_writes = drv->order_writes;
    node->node_name = name ? g_strdup(name) : generate_name();

    node->p->order = order_counter++;
    if (!nodes_by_name) {
        nodes_by_name = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_insert(nodes_by_name, node->node_name, node);
    node->p->prev = nodes_last;
    if (nodes_last) {
        nodes_last->p->next = node;
    } else {
        nodes_first = node;
    }
    nodes_last = node;
    limits_refresh(node);
    return node;
}

BlockNode *node_new_internal(const BlockDriver *drv, const char *node_name, const NodeFlags *flags,
                             GError **errp)
{
    static const NodeFlags none;
    BlockNode *node = node_new(drv, node_name, flags ? flags : &none, errp);

    if (node) {
        node->p->open = true;
        node->p->drv_open = node->p->drv_ready = true;
        node->filename = g_strdup("");
    }
    return node;
}

void node_set_inherits(BlockNode *node, BlockNode *from)
{
    struct BlockNodePriv *p = node->p;

    if (p->inherits) {
        *p->pprev_heir = p->next_heir;
        if (p->next_heir) {
            p->next_heir->p->pprev_heir = p->pprev_heir;
        }
    }
    p->inherits = from;
    if (from) {
        p->next_heir = from->p->heirs;
        p->pprev_heir = &from->p->heirs;
        if (p->next_heir) {
            p->next_heir->p->pprev_heir = &p->next_heir;
        }
        from->p->heirs = node;
    }
}

static void node_free(BlockNode *node)
{
    struct BlockNodePriv *p = node->p;

    assert(!node->first_child && !node->first_parent);
    assert(p->refs == 0 && p->drain == 0 && node->in_flight == 0);
    if (p->prev) {
        p->prev->p->next = p->next;
    } else {
        nodes_first = p->next;
    }
    if (p->next) {
        p->next->p->prev = p->prev;
    } else {
        nodes_last = p->prev;
    }
    g_hash_table_remove(nodes_by_name, node->node_name);
    if (!nodes_first) {
        g_clear_pointer(&nodes_by_name, g_hash_table_destroy);
    }
    node_set_inherits(node, NULL);
    while (p->heirs) {
        node_set_inherits(p->heirs, NULL);
    }
    blockdev_options_free(p->opts);
    g_free(node->state);
    g_free(node->node_name);
    g_free(node->filename);
    g_free(node->header_backing_file);
    g_free(node->header_backing_format);
    g_free(p);
    g_free(node);
}

/* --- counts and the end --- */

BlockNode *node_ref(BlockNode *node)
{
    assert(node->p->refs > 0);
    node->p->refs++;
    return node;
}

/* Drop one count; a node that has none left is put on @dead. */
static void unref_to(BlockNode *node, BlockNode **dead)
{
    assert(node->p->refs > 0);
    if (--node->p->refs == 0) {
        assert(!node->first_parent);
        op_blockers_drop(node);
        node->p->open = false;
        node->p->next_dead = *dead;
        *dead = node;
    }
}

static void coroutine_fn close_one(BlockNode *node, BlockNode **dead)
{
    BlockNode **children;
    size_t n = 0;

    if (node->p->drv_ready && !node->drv->closes_unflushed) {
        /* Whoever needs the data on disk has flushed; this is for the driver's own caches. */
        (void)node_co_flush(node);
    }
    if (node->p->drv_open && node->drv->co_close) {
        node->drv->co_close(node);
    }
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        n++;
    }
    children = g_new(BlockNode *, n);
    n = 0;
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        children[n++] = node_ref(c->node);
    }
    graph_co_detach_all(node); /* drops the edges' own counts, never the last ones */
    node_free(node);
    for (size_t i = 0; i < n; i++) {
        unref_to(children[i], dead);
    }
    g_free(children);
}

void coroutine_fn node_co_unref(BlockNode *node)
{
    BlockNode *dead = NULL;

    if (!node) {
        return;
    }
    unref_to(node, &dead);
    while (dead) {
        BlockNode *next = dead;

        dead = next->p->next_dead;
        close_one(next, &dead);
    }
}

/* --- finding --- */

static BlockNode *skip_hidden(BlockNode *node)
{
    while (node && !node->p->open) {
        node = node->p->next;
    }
    return node;
}

BlockNode *node_first(void)
{
    return skip_hidden(nodes_first);
}

BlockNode *node_next(BlockNode *node)
{
    return skip_hidden(node->p->next);
}

BlockNode *node_last_any(void)
{
    return nodes_last;
}

BlockNode *node_first_any(void)
{
    return nodes_first;
}

BlockNode *node_find(const char *node_name)
{
    BlockNode *node = node_find_any(node_name);

    return node && node->p->open ? node : NULL;
}

BlockNode *node_lookup(const char *device_or_node, GError **errp)
{
    BlockBackend *be = backend_find(device_or_node);
    BlockNode *node;

    if (be) {
        if (!backend_node(be)) {
            return fail(errp, "Device '%s' has no medium", device_or_node), NULL;
        }
        return backend_node(be);
    }
    node = node_find(device_or_node);
    if (!node) {
        fail(errp, "Cannot find device='%s' nor node-name='%s'", device_or_node, device_or_node);
    }
    return node;
}

/* Is @below in the sub-graph of @above? Marks what has been seen, so diamonds cost nothing. */
static bool reaches(BlockNode *above, BlockNode *below, unsigned mark)
{
    if (above == below) {
        return true;
    }
    if (above->p->mark == mark) {
        return false;
    }
    above->p->mark = mark;
    for (BlockChild *c = above->first_child; c; c = c->next_sibling) {
        if (reaches(c->node, below, mark)) {
            return true;
        }
    }
    return false;
}

unsigned graph_walk_begin(void)
{
    static unsigned last;

    if (++last == 0) {
        for (BlockNode *n = nodes_first; n; n = n->p->next) {
            n->p->mark = 0;
        }
        last = 1;
    }
    return last;
}

bool node_is_ancestor(BlockNode *above, BlockNode *below)
{
    return reaches(above, below, graph_walk_begin());
}

/* --- properties --- */

int64_t node_length(const BlockNode *node)
{
    while (node->drv->is_filter && !node->drv->own_length && node->file) {
        node = node->file->node;
    }
    return node->length;
}

bool node_is_read_only(const BlockNode *node)
{
    return node->flags.read_only;
}

bool node_is_probed(const BlockNode *node)
{
    return node->p->probed;
}

BlockNode *node_skip_filters(BlockNode *node)
{
    while (node->drv->is_filter && node->file) {
        node = node->file->node;
    }
    return node;
}

BlockNode *node_backing(const BlockNode *node)
{
    while (node->drv->is_filter && node->file) {
        node = node->file->node;
    }
    return node->backing ? node->backing->node : NULL;
}

BlockChild *node_child(BlockNode *node, const char *name)
{
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

const BlockdevOptions *node_options(const BlockNode *node)
{
    return node->p->opts;
}

/* Filters answer for what they filter, unless they have a word of their own. */
void node_get_info(BlockNode *node, BlockInfoData *ret)
{
    *ret = (BlockInfoData){.store_granularity = 1};
    while (node->drv->is_filter && !node->drv->get_info && node->file) {
        node = node->file->node;
    }
    if (node->drv->get_info) {
        node->drv->get_info(node, ret);
    }
}
