/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drivers for tests of the graph: small disks in memory under the names of
 * real drivers, so that options reach them through the schema.
 *
 * "file": one of the disks made with disk_new(). "raw": a format that stores
 * nothing of its own, except that a disk which begins with "BACKING:name\n"
 * names a backing image. "quorum" shares only reading. An internal filter and
 * an internal leaf complete the set.
 */
#ifndef TESTS_GRAPH_DRIVERS_H
#define TESTS_GRAPH_DRIVERS_H

#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/graph.h"
#include "block/io.h"
#include "block/node.h"
#include "failure.h"
#include "qapi/walk.h"
#include "util/error.h"
#include "vtest.h"

#define DISK_BYTES 8192
#define DISKS_MAX  512

typedef struct Disk {
    char name[64];
    uint8_t data[DISK_BYTES];
    int open;          /* nodes that have it open */
    bool write_denied; /* opening or reopening read-write fails with EACCES */
    bool lock_denied;  /* co_check_perm fails */
    int64_t delay_ns;  /* of each request and of co_check_perm */
    PermPair perm;     /* as the driver was told */
    int checks, aborts;
} Disk;

static Disk disks[DISKS_MAX];
static int n_disks;

static inline Disk *disk_find(const char *name)
{
    for (int i = 0; i < n_disks; i++) {
        if (strcmp(disks[i].name, name) == 0) {
            return &disks[i];
        }
    }
    return NULL;
}

static inline Disk *disk_new(const char *name, const char *head)
{
    Disk *d = &disks[n_disks++];

    g_assert_cmpint(n_disks, <=, DISKS_MAX);
    memset(d, 0, sizeof(*d));
    g_strlcpy(d->name, name, sizeof(d->name));
    memcpy(d->data, head, strlen(head));
    d->perm.shared = PERM_ALL;
    return d;
}

/* --- file --- */

typedef struct FileState {
    Disk *disk;
    bool open;
} FileState;

static bool coroutine_fn file_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    FileState *s = node->state;
    Disk *d = disk_find(opts->u.file.filename);

    if (!d) {
        return fail_errno(errp, ENOENT, "Could not open '%s'", opts->u.file.filename);
    }
    if (d->write_denied && !node->flags.read_only && !node->flags.auto_read_only) {
        return fail_errno(errp, EACCES, "Could not open '%s'", opts->u.file.filename);
    }
    if (d->write_denied) {
        node->flags.read_only = true;
    }
    s->disk = d;
    s->open = true;
    d->open++;
    node->length = DISK_BYTES;
    return true;
}

static void coroutine_fn file_co_close(BlockNode *node)
{
    FileState *s = node->state;

    if (s->open) {
        s->disk->open--;
    }
}

static int coroutine_fn file_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    FileState *s = node->state;

    if (s->disk->delay_ns) {
        co_sleep_ns(s->disk->delay_ns);
    }
    iov_copy_in(iov, s->disk->data + offset, iov.bytes);
    return 0;
}

static int coroutine_fn file_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    FileState *s = node->state;

    if (s->disk->delay_ns) {
        co_sleep_ns(s->disk->delay_ns);
    }
    iov_copy_out(iov, s->disk->data + offset, iov.bytes);
    return 0;
}

static bool coroutine_fn file_co_check_perm(BlockNode *node, PermPair perm, GError **errp)
{
    FileState *s = node->state;

    if (s->disk->delay_ns) {
        co_sleep_ns(s->disk->delay_ns);
    }
    if (s->disk->lock_denied) {
        return fail(errp, "Failed to get \"write\" lock");
    }
    s->disk->checks++;
    return true;
}

static void file_set_perm(BlockNode *node, PermPair perm)
{
    FileState *s = node->state;

    if (s->disk) {
        s->disk->perm = perm;
    }
}

static void file_abort_perm(BlockNode *node)
{
    FileState *s = node->state;

    s->disk->aborts++;
}

static bool coroutine_fn file_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    FileState *s = node->state;

    if (rs->opts && !reopen_only_changes(node, rs->opts, NULL, errp)) {
        return false;
    }
    if (!rs->flags.read_only && s->disk->write_denied) {
        return fail_errno(errp, EACCES, "Could not reopen file");
    }
    rs->driver_private = s;
    return true;
}

static void file_reopen_end(BlockNode *node, ReopenState *rs)
{
    g_assert_true(rs->driver_private == node->state);
}

static const BlockDriver driver_test_file = {
    .name = "file",
    .state_size = sizeof(FileState),
    .is_protocol = true,
    .co_open = file_co_open,
    .co_close = file_co_close,
    .co_reopen_prepare = file_co_reopen_prepare,
    .reopen_commit = file_reopen_end,
    .reopen_abort = file_reopen_end,
    .co_check_perm = file_co_check_perm,
    .set_perm = file_set_perm,
    .abort_perm = file_abort_perm,
    .co_preadv = file_co_preadv,
    .co_pwritev = file_co_pwritev,
};

/* --- raw: the format --- */

static bool coroutine_fn raw_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    char head[64];
    char *end;
    int r;

    if (!node_co_open_child(node, "file", opts->u.raw.file, CHILD_IMAGE, errp)) {
        return false;
    }
    r = child_co_pread(node->file, 0, head, sizeof(head));
    if (r < 0) {
        return fail_errno(errp, -r, "Could not read the header");
    }
    if (memcmp(head, "BROKEN", 6) == 0) {
        return fail(errp, "Image is not in the right format");
    }
    if (memcmp(head, "BACKING:", 8) == 0) {
        end = memchr(head, '\n', sizeof(head));
        g_assert_nonnull(end);
        node->header_backing_file = g_strndup(head + 8, (size_t)(end - head - 8));
    }
    node->length = node_length(node->file->node);
    return true;
}

static bool coroutine_fn raw_co_reopen_prepare(BlockNode *node, ReopenState *rs, GError **errp)
{
    return !rs->opts || reopen_only_changes(node, rs->opts, NULL, errp);
}

static int coroutine_fn raw_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return child_co_preadv(node->file, offset, iov, flags);
}

static int coroutine_fn raw_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return child_co_pwritev(node->file, offset, iov, flags);
}

static const BlockDriver driver_test_raw = {
    .name = "raw",
    .is_format = true,
    .supports_backing = true,
    .co_open = raw_co_open,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
};

/* --- quorum: all children, sharing only reads --- */

static bool coroutine_fn quorum_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    for (size_t i = 0; i < opts->u.quorum.n_children; i++) {
        g_autofree char *name = g_strdup_printf("children.%zu", i);

        if (!node_co_open_child(node, name, opts->u.quorum.children[i], CHILD_DATA, errp)) {
            return false;
        }
    }
    node->length = DISK_BYTES;
    return true;
}

static PermPair quorum_child_perm(BlockNode *node, const BlockChild *child, const char *name,
                                  ChildRole role, PermPair parents, const NodeFlags *flags)
{
    return (PermPair){.taken = parents.taken,
                      .shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED};
}

static const BlockDriver driver_test_quorum = {
    .name = "quorum",
    .co_open = quorum_co_open,
    .child_perm = quorum_child_perm,
};

/* --- internal ones --- */

static const BlockDriver driver_test_filter = {
    .name = "test-filter",
    .is_filter = true,
};

static void leaf_refresh_limits(BlockNode *node)
{
    node->limits.request_alignment = 512;
}

static const BlockDriver driver_test_leaf = {
    .name = "test-leaf",
    .is_protocol = true,
    .refresh_limits = leaf_refresh_limits,
};

/* --- the world --- */

static const BlockDriver *const test_table[] = {&driver_test_file, &driver_test_raw,
                                                &driver_test_quorum};

static inline void graph_world_begin(void)
{
    n_disks = 0;
    driver_table_set(test_table, G_N_ELEMENTS(test_table));
    g_assert_null(node_first());
    g_assert_null(backend_first());
}

static inline void graph_world_end(void)
{
    g_assert_null(node_first());
    g_assert_null(backend_first());
    for (int i = 0; i < n_disks; i++) {
        g_assert_cmpint(disks[i].open, ==, 0);
        g_assert_cmpuint(disks[i].perm.taken, ==, 0);
        g_assert_cmpuint(disks[i].perm.shared, ==, PERM_ALL);
    }
}

static inline BlockdevOptions *options_of(const char *json)
{
    GError *err = NULL;
    json_t *j = json_loads(json, 0, NULL);
    BlockdevOptions *o = blockdev_options_from_json(j, &err);

    json_decref(j);
    g_assert_no_error(err);
    return o;
}

static inline BlockNode *coroutine_fn open_json(const char *json, GError **errp)
{
    g_autoptr(BlockdevOptions) o = options_of(json);

    return node_co_open(o, NULL, errp);
}

static inline BlockNode *coroutine_fn must_open(const char *json)
{
    GError *err = NULL;
    BlockNode *node = open_json(json, &err);

    g_assert_no_error(err);
    g_assert_nonnull(node);
    return node;
}

static inline void assert_fails(bool failed, GError **err, const char *words)
{
    g_assert_true(failed);
    g_assert_nonnull(*err);
    if (!strstr((*err)->message, words)) {
        g_test_message("message: %s", (*err)->message);
    }
    g_assert_nonnull(strstr((*err)->message, words));
    g_clear_error(err);
}

/* Everything that can be seen of the graph, as text. */
static inline char *graph_dump(void)
{
    GString *s = g_string_new(NULL);

    for (BlockNode *n = node_first(); n; n = node_next(n)) {
        g_string_append_printf(
            s, "%s ro=%d no-flush=%d len=%" G_GINT64_FORMAT " align=%u file=%s\n", n->node_name,
            n->flags.read_only, n->flags.cache_no_flush, n->length, n->limits.request_alignment,
            n->file ? n->file->node->node_name : "-");
        for (BlockChild *c = n->first_child; c; c = c->next_sibling) {
            g_string_append_printf(s, "  %s -> %s role=%d perm=%x/%x\n", c->name,
                                   c->node->node_name, c->role, c->perm.taken, c->perm.shared);
        }
    }
    for (BlockBackend *be = backend_first(); be; be = backend_next(be)) {
        BlockNode *n = backend_node(be);

        g_string_append_printf(s, "backend %s -> %s\n", backend_name(be), n ? n->node_name : "-");
    }
    for (int i = 0; i < n_disks; i++) {
        g_string_append_printf(s, "disk %s open=%d perm=%x/%x\n", disks[i].name, disks[i].open,
                               disks[i].perm.taken, disks[i].perm.shared);
    }
    return g_string_free(s, FALSE);
}

#endif
