/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telling users what there is: nodes, images, drives, counters, edges.
 */
#include "block/info.h"

#include "acct.h"
#include "core.h"
#include "qapi/walk.h"
#include "util/error.h"
#include "util/loop.h"

#define MAX_IOV 1024 /* what the kernel takes in one call */

/* --- one image --- */

/* ImageInfo and BlockGraphInfo begin with the members of their base, in its order. */
#define ASSERT_BASE(type, member)                                                                  \
    _Static_assert(offsetof(type, member) == offsetof(BlockNodeInfo, member), "base comes first")
ASSERT_BASE(ImageInfo, filename);
ASSERT_BASE(ImageInfo, snapshots);
ASSERT_BASE(ImageInfo, format_specific);
ASSERT_BASE(BlockGraphInfo, filename);
ASSERT_BASE(BlockGraphInfo, snapshots);
ASSERT_BASE(BlockGraphInfo, format_specific);

static uint32_t to_u32(int64_t n)
{
    return (uint32_t)MIN(n, (int64_t)UINT32_MAX);
}

static BlockLimitsInfo *limits_info(const BlockNode *node)
{
    const BlockLimits *l = &node->limits;
    BlockLimitsInfo *i = g_new0(BlockLimitsInfo, 1);

    i->request_alignment = l->request_alignment;
    i->min_mem_alignment = l->min_mem_alignment;
    i->opt_mem_alignment = l->opt_mem_alignment;
    i->max_iov = MAX_IOV;
    i->has_max_transfer = l->max_transfer > 0;
    i->max_transfer = to_u32(l->max_transfer);
    i->has_opt_transfer = l->opt_transfer > 0;
    i->opt_transfer = to_u32(l->opt_transfer);
    i->has_max_discard = l->max_pdiscard > 0;
    i->max_discard = (uint64_t)l->max_pdiscard;
    i->has_discard_alignment = l->pdiscard_alignment > 0;
    i->discard_alignment = l->pdiscard_alignment;
    i->has_max_write_zeroes = l->max_pwrite_zeroes > 0;
    i->max_write_zeroes = (uint64_t)l->max_pwrite_zeroes;
    i->has_write_zeroes_alignment = l->pwrite_zeroes_alignment > 0;
    i->write_zeroes_alignment = l->pwrite_zeroes_alignment;
    return i;
}

/* Bytes on the host: the driver's answer, or the sum over what it stores in. */
static int64_t coroutine_fn allocated_size(BlockNode *node)
{
    int64_t sum = 0;
    bool any = false;

    if (node->drv->co_allocated_size) {
        return node->drv->co_allocated_size(node);
    }
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        int64_t n;

        if (!(c->role & (CHILD_DATA | CHILD_METADATA | CHILD_FILTERED))) {
            continue;
        }
        n = allocated_size(c->node);
        if (n < 0) {
            return n;
        }
        sum += n;
        any = true;
    }
    return any ? sum : -ENOTSUP;
}

static void backing_names(const BlockNode *node, BlockNodeInfo *i)
{
    if (!node->header_backing_file) {
        return;
    }
    i->backing_filename = g_strdup(node->header_backing_file);
    i->backing_filename_format = g_strdup(node->header_backing_format);
    if (node->backing) {
        i->full_backing_filename = g_strdup(node->backing->node->filename);
    } else if (node->file) {
        i->full_backing_filename =
            filename_combine(node->file->node->filename, node->header_backing_file);
    }
}

/* Is there, below filters, a driver that can say more of its disk than how long it is? */
static bool knows_itself(const BlockNode *node)
{
    while (node->file && (!node->drv->is_format || strcmp(node->drv->name, "raw") == 0)) {
        node = node->file->node;
    }
    return node->drv->is_format || strcmp(node->drv->name, "file") == 0 ||
           strcmp(node->drv->name, "host_device") == 0;
}

static bool coroutine_fn fill(BlockNode *node, BlockNodeInfo *i, bool limits, GError **errp)
{
    BlockInfoData data;
    GError *err = NULL;

    i->filename = g_strdup(node->filename);
    i->format = g_strdup(node->drv->name);
    i->virtual_size = node_length(node);
    i->actual_size = allocated_size(node);
    i->has_actual_size = i->actual_size >= 0;
    node_get_info(node, &data);
    i->has_cluster_size = data.cluster_size > 0;
    i->cluster_size = data.cluster_size;
    i->has_dirty_flag = knows_itself(node);
    i->dirty_flag = data.is_dirty;
    i->limits = limits ? limits_info(node) : NULL;
    backing_names(node, i);
    if (node->drv->co_specific_info) {
        i->format_specific = node->drv->co_specific_info(node, &err);
    }
    if (err) {
        g_propagate_error(errp, err);
        return false;
    }
    return true;
}

static ImageInfo *coroutine_fn one_image(BlockNode *node, bool limits, GError **errp)
{
    ImageInfo *i = g_new0(ImageInfo, 1);

    if (!fill(node, (BlockNodeInfo *)(void *)i, limits, errp)) {
        image_info_free(i);
        return NULL;
    }
    return i;
}

ImageInfo *coroutine_fn info_co_image(BlockNode *node, bool flat, bool limits, GError **errp)
{
    ImageInfo *top = NULL, **into = &top;

    for (node = node_skip_filters(node); node; node = flat ? NULL : node_backing(node)) {
        *into = one_image(node_skip_filters(node), limits, errp);
        if (!*into) {
            image_info_free(top);
            return NULL;
        }
        into = &(*into)->backing_image;
    }
    return top;
}

static BlockGraphInfo *coroutine_fn graph_info(BlockNode *node, bool limits, GError **errp);

static bool coroutine_fn
add_children(BlockNode *node, BlockGraphInfo *i, bool limits, GError **errp)
{
    size_t n = 0;

    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        n++;
    }
    i->children = g_new0(BlockChildInfo *, n);
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        BlockChildInfo *child = g_new0(BlockChildInfo, 1);

        i->children[i->n_children++] = child;
        child->name = g_strdup(c->name);
        child->info = graph_info(c->node, limits, errp);
        if (!child->info) {
            return false;
        }
    }
    return true;
}

static BlockGraphInfo *coroutine_fn graph_info(BlockNode *node, bool limits, GError **errp)
{
    BlockGraphInfo *i = g_new0(BlockGraphInfo, 1);

    if (!fill(node, (BlockNodeInfo *)(void *)i, limits, errp) ||
        !add_children(node, i, limits, errp)) {
        block_graph_info_free(i);
        return NULL;
    }
    return i;
}

BlockGraphInfo *coroutine_fn info_co_graph(BlockNode *node, bool limits, GError **errp)
{
    return graph_info(node, limits, errp);
}

/* --- nodes and drives --- */

static void list_children(const BlockNode *node, BlockDeviceInfo *i)
{
    for (const BlockChild *c = node->first_child; c; c = c->next_sibling) {
        i->n_children++;
    }
    i->children = g_new0(BlockdevChild *, i->n_children);
    i->n_children = 0;
    for (const BlockChild *c = node->first_child; c; c = c->next_sibling) {
        BlockdevChild *child = g_new0(BlockdevChild, 1);

        child->child = g_strdup(c->name);
        child->node_name = g_strdup(c->node->node_name);
        i->children[i->n_children++] = child;
    }
}

static int64_t backing_depth(BlockNode *node)
{
    int64_t depth = 0;

    while ((node = node_backing(node))) {
        depth++;
    }
    return depth;
}

BlockDeviceInfo *coroutine_fn
info_co_node(BlockNode *node, const BlockBackend *be, bool flat, GError **errp)
{
    BlockDeviceInfo *i = g_new0(BlockDeviceInfo, 1);

    filename_refresh_tree(node); /* the graph may have changed since it was opened */
    i->file = g_strdup(node->filename);
    i->node_name = g_strdup(node->node_name);
    i->ro = node_is_read_only(node);
    i->drv = g_strdup(node->drv->name);
    i->backing_file = node->backing ? g_strdup(node->backing->node->filename) : NULL;
    i->backing_file_depth = flat ? 0 : backing_depth(node);
    i->active = true;
    i->detect_zeroes = node->flags.detect_zeroes;
    list_children(node, i);
    i->cache = g_new0(BlockdevCacheInfo, 1);
    i->cache->writeback = !be || be->write_cache;
    i->cache->direct = node->flags.cache_direct;
    i->cache->no_flush = node->flags.cache_no_flush;
    i->image = info_co_image(node, flat, true, errp);
    if (!i->image) {
        block_device_info_free(i);
        return NULL;
    }
    return i;
}

BlockInfo *coroutine_fn info_co_drive(BlockBackend *be, GError **errp)
{
    BlockInfo *i = g_new0(BlockInfo, 1);

    i->device = g_strdup(backend_name(be));
    i->type = g_strdup("unknown");
    i->removable = true; /* no device holds it */
    if (be->root) {
        i->inserted = info_co_node(be->root->node, be, false, errp);
        if (!i->inserted) {
            block_info_free(i);
            return NULL;
        }
    }
    return i;
}

/* --- counters --- */

static BlockLatencyHistogramInfo *histogram_info(const AcctHistogram *h)
{
    BlockLatencyHistogramInfo *i;

    if (!h) {
        return NULL;
    }
    i = g_new0(BlockLatencyHistogramInfo, 1);
    i->n_boundaries = h->n;
    i->boundaries = g_memdup2(h->boundaries, (h->n + 1) * sizeof(*h->boundaries));
    i->n_bins = h->n + 1;
    i->bins = g_new0(uint64_t, h->n + 2);
    for (size_t k = 0; k <= h->n; k++) {
        i->bins[k] = h->bins[k];
    }
    return i;
}

static int64_t average_ns(const AcctSum *sum)
{
    return sum->count ? sum->total_ns / (int64_t)sum->count : 0;
}

static BlockDeviceTimedStats *interval_info(const AcctInterval *interval)
{
    BlockDeviceTimedStats *t = g_new0(BlockDeviceTimedStats, 1);
    AcctSum sum[ACCT__MAX];
    double elapsed_ns = (double)acct_interval_sum(interval, loop_now_ns(), sum);

    t->interval_length = interval->length_s;
    t->min_rd_latency_ns = sum[ACCT_READ].min_ns;
    t->max_rd_latency_ns = sum[ACCT_READ].max_ns;
    t->avg_rd_latency_ns = average_ns(&sum[ACCT_READ]);
    t->min_wr_latency_ns = sum[ACCT_WRITE].min_ns;
    t->max_wr_latency_ns = sum[ACCT_WRITE].max_ns;
    t->avg_wr_latency_ns = average_ns(&sum[ACCT_WRITE]);
    t->min_zone_append_latency_ns = sum[ACCT_ZONE_APPEND].min_ns;
    t->max_zone_append_latency_ns = sum[ACCT_ZONE_APPEND].max_ns;
    t->avg_zone_append_latency_ns = average_ns(&sum[ACCT_ZONE_APPEND]);
    t->min_flush_latency_ns = sum[ACCT_FLUSH].min_ns;
    t->max_flush_latency_ns = sum[ACCT_FLUSH].max_ns;
    t->avg_flush_latency_ns = average_ns(&sum[ACCT_FLUSH]);
    t->avg_rd_queue_depth = (double)sum[ACCT_READ].total_ns / elapsed_ns;
    t->avg_wr_queue_depth = (double)sum[ACCT_WRITE].total_ns / elapsed_ns;
    t->avg_zone_append_queue_depth = (double)sum[ACCT_ZONE_APPEND].total_ns / elapsed_ns;
    return t;
}

static void add_details(BlockDeviceStats *d, const AcctStats *a)
{
    d->rd_latency_histogram = histogram_info(a->histogram[ACCT_READ]);
    d->wr_latency_histogram = histogram_info(a->histogram[ACCT_WRITE]);
    d->zone_append_latency_histogram = histogram_info(a->histogram[ACCT_ZONE_APPEND]);
    d->flush_latency_histogram = histogram_info(a->histogram[ACCT_FLUSH]);
    d->timed_stats = g_new0(BlockDeviceTimedStats *, a->n_intervals + 1);
    for (size_t i = 0; i < a->n_intervals; i++) {
        d->timed_stats[d->n_timed_stats++] = interval_info(&a->intervals[i]);
    }
}

static void add_counters(BlockDeviceStats *d, const AcctStats *a)
{
    d->rd_bytes = (int64_t)a->bytes[ACCT_READ];
    d->wr_bytes = (int64_t)a->bytes[ACCT_WRITE];
    d->unmap_bytes = (int64_t)a->bytes[ACCT_UNMAP];
    d->rd_operations = (int64_t)a->ops[ACCT_READ];
    d->wr_operations = (int64_t)a->ops[ACCT_WRITE];
    d->flush_operations = (int64_t)a->ops[ACCT_FLUSH];
    d->unmap_operations = (int64_t)a->ops[ACCT_UNMAP];
    d->failed_rd_operations = (int64_t)a->failed[ACCT_READ];
    d->failed_wr_operations = (int64_t)a->failed[ACCT_WRITE];
    d->failed_flush_operations = (int64_t)a->failed[ACCT_FLUSH];
    d->failed_unmap_operations = (int64_t)a->failed[ACCT_UNMAP];
    d->invalid_rd_operations = (int64_t)a->invalid[ACCT_READ];
    d->invalid_wr_operations = (int64_t)a->invalid[ACCT_WRITE];
    d->invalid_flush_operations = (int64_t)a->invalid[ACCT_FLUSH];
    d->invalid_unmap_operations = (int64_t)a->invalid[ACCT_UNMAP];
    d->rd_total_time_ns = a->time_ns[ACCT_READ];
    d->wr_total_time_ns = a->time_ns[ACCT_WRITE];
    d->flush_total_time_ns = a->time_ns[ACCT_FLUSH];
    d->unmap_total_time_ns = a->time_ns[ACCT_UNMAP];
    d->has_idle_time_ns = a->last_access_ns > 0;
    d->idle_time_ns = d->has_idle_time_ns ? loop_now_ns() - a->last_access_ns : 0;
    d->account_invalid = a->account_invalid;
    d->account_failed = a->account_failed;
    add_details(d, a);
}

BlockDeviceStats *info_backend_counters(const BlockBackend *be)
{
    BlockDeviceStats *d = g_new0(BlockDeviceStats, 1);

    add_counters(d, be->stats);
    return d;
}

BlockStats *info_node_stats(const BlockNode *node)
{
    BlockStats *s = g_new0(BlockStats, 1);

    s->node_name = g_strdup(node->node_name);
    s->stats = g_new0(BlockDeviceStats, 1);
    s->stats->wr_highest_offset = (int64_t)node->p->wr_highest_offset;
    s->stats->account_invalid = s->stats->account_failed = true;
    if (node->file) {
        s->parent = info_node_stats(node->file->node);
    }
    if (node->backing) {
        s->backing = info_node_stats(node->backing->node);
    }
    return s;
}

BlockStats *info_drive_stats(const BlockBackend *be)
{
    BlockNode *node = backend_node(be);
    BlockStats *s;

    if (node) {
        s = info_node_stats(node);
    } else {
        s = g_new0(BlockStats, 1);
        s->stats = g_new0(BlockDeviceStats, 1);
    }
    s->device = g_strdup(backend_name(be));
    add_counters(s->stats, be->stats);
    return s;
}

/* --- the graph --- */

static json_t *perm_list(Perm perms)
{
    static const char *const names[] = {"consistent-read", "write", "write-unchanged", "resize"};
    json_t *list = json_array();

    for (size_t i = G_N_ELEMENTS(names); i-- > 0;) { /* in QEMU's order */
        if (perms & (1u << i)) {
            json_array_append_new(list, json_string(names[i]));
        }
    }
    return list;
}

/* Ids are numbers that this answer alone gives: its edges refer to its nodes. */
static json_int_t id_of(GHashTable *ids, const void *what)
{
    void *id = g_hash_table_lookup(ids, what);

    if (!id) {
        id = GUINT_TO_POINTER(g_hash_table_size(ids) + 1);
        g_hash_table_insert(ids, (void *)what, id);
    }
    return GPOINTER_TO_UINT(id);
}

static void
add_vertex(json_t *nodes, GHashTable *ids, const void *what, const char *type, const char *name)
{
    json_array_append_new(
        nodes, json_pack("{s:I, s:s, s:s}", "id", id_of(ids, what), "type", type, "name", name));
}

/* All backends of a job are one vertex. */
static bool is_of_job(const BlockBackend *be)
{
    return be->ops && be->ops->job_id;
}

static const void *vertex_of(const BlockBackend *be)
{
    return is_of_job(be) ? be->opaque : be;
}

static void add_user(json_t *nodes, GHashTable *ids, BlockBackend *be)
{
    if (!is_of_job(be)) {
        g_autofree char *name = be->name ? g_strdup(be->name) : backend_describe(be);

        add_vertex(nodes, ids, be, "block-backend", name);
    } else if (!g_hash_table_contains(ids, be->opaque)) {
        add_vertex(nodes, ids, be->opaque, "block-job", be->ops->job_id(be->opaque));
    }
}

static void add_edge(json_t *edges, GHashTable *ids, const BlockChild *c)
{
    const void *parent = c->parent ? (const void *)c->parent : vertex_of(c->parent_backend);

    json_array_append_new(edges, json_pack("{s:I, s:I, s:s, s:o, s:o}", "parent",
                                           id_of(ids, parent), "child", id_of(ids, c->node), "name",
                                           c->name, "perm", perm_list(c->perm.taken), "shared-perm",
                                           perm_list(c->perm.shared)));
}

json_t *info_graph_edges(void)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(NULL, NULL);
    json_t *nodes = json_array(), *edges = json_array();

    for (BlockBackend *be = backend_first(); be; be = backend_next(be)) {
        add_user(nodes, ids, be);
        if (be->root) {
            add_edge(edges, ids, be->root);
        }
    }
    for (BlockNode *n = node_first(); n; n = node_next(n)) {
        add_vertex(nodes, ids, n, "block-driver", n->node_name);
        for (const BlockChild *c = n->first_child; c; c = c->next_sibling) {
            add_edge(edges, ids, c);
        }
    }
    return json_pack("{s:o, s:o}", "nodes", nodes, "edges", edges);
}
