/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of qapi/block-job.json: starting jobs.
 *
 * Names are looked up here and what this program cannot do is refused by name;
 * the rest is the jobs' affair. Nodes are counted while a start may yield.
 */
#include <string.h>

#include "block/job.h"
#include "qapi/commands.h"
#include "util/error.h"

/* Is each of the two free of other users' work that forbids the part it is to play? */
static bool
check_ops(BlockNode *source, BlockOp as_source, BlockNode *target, BlockOp as_target,
          GError **errp)
{
    return !op_blocked(source, as_source, errp) && !op_blocked(target, as_target, errp);
}

/* The source of a job that may put another node in its place: nobody has it as part of his own. */
static BlockNode *
lookup_root(const char *name, GError **errp)
{
    BlockNode *node = node_lookup(name, errp);

    for (BlockChild *e = node ? node->first_parent : NULL; e; e = e->next_parent) {
        if (e->parent) {
            return fail(errp, "Need a root block node"), NULL;
        }
    }
    return node;
}

/* What all jobs are started with; also checks it. */
static bool
job_options(const char *job_id, const char *device, int64_t speed, bool manual_finalize,
            bool manual_dismiss, JobOptions *ret, GError **errp)
{
    if (!job_id && backend_find(device)) {
        job_id = device;
    }
    if (!job_id) {
        return fail(errp, "Invalid job ID ''");
    }
    if (speed < 0) {
        return fail(errp, "Parameter 'speed' expects a non-negative value");
    }
    *ret = (JobOptions){
        .id = job_id,
        .speed = speed,
        .manual_finalize = manual_finalize,
        .manual_dismiss = manual_dismiss,
    };
    return true;
}

#define JOB_OPTIONS(args, ret, errp)                                                               \
    job_options((args)->job_id, (args)->device, (args)->speed,                                     \
                (args)->has_auto_finalize && !(args)->auto_finalize,                               \
                (args)->has_auto_dismiss && !(args)->auto_dismiss, (ret), (errp))

/* --- mirror --- */

#define MIRROR_OPTIONS(args)                                                                       \
    {                                                                                              \
        .sync = (args)->sync, .granularity = (args)->granularity,                                  \
        .write_blocking = (args)->copy_mode == MIRROR_COPY_MODE_WRITE_BLOCKING,                    \
        .filter_name = (args)->filter_node_name,                                                   \
        .on_source_error = (args)->on_source_error, .on_target_error = (args)->on_target_error,    \
    }

static bool
check_mirror(BlockNode *source, MirrorSyncMode sync, const char *replaces, GError **errp)
{
    if (sync == MIRROR_SYNC_MODE_INCREMENTAL || sync == MIRROR_SYNC_MODE_BITMAP) {
        return fail(errp, "Sync mode '%s' is not supported by mirror",
                    sync == MIRROR_SYNC_MODE_BITMAP ? "bitmap" : "incremental");
    }
    if (replaces && node_lookup(replaces, NULL) != source) {
        return fail(errp, "Parameter 'replaces' can only name the source");
    }
    return true;
}

bool coroutine_fn
qmp_blockdev_mirror(const BlockdevMirrorOptions *args, GError **errp)
{
    MirrorOptions m = MIRROR_OPTIONS(args);
    BlockNode *source = lookup_root(args->device, errp);
    BlockNode *target = source ? node_lookup(args->target, errp) : NULL;
    JobOptions o;
    bool ok;

    if (!target || !JOB_OPTIONS(args, &o, errp) ||
        !check_mirror(source, args->sync, args->replaces, errp) ||
        !check_ops(source, BLOCK_OP_MIRROR_SOURCE, target, BLOCK_OP_MIRROR_TARGET, errp)) {
        return false;
    }
    m.target_is_zero = args->target_is_zero;
    node_ref(source);
    node_ref(target);
    ok = mirror_co_start(&o, &m, source, target, errp) != NULL;
    node_co_unref(target);
    node_co_unref(source);
    return ok;
}

/* The target of drive-mirror; counted. */
static BlockNode *coroutine_fn
open_target(const DriveMirrorOptions *args, GError **errp)
{
    NodeFlags flags = { .unmap = !args->has_unmap || args->unmap };

    if (!args->has_mode || args->mode != NEW_IMAGE_MODE_EXISTING) {
        return fail(errp, "Only mode 'existing' is supported: make the image first"), NULL;
    }
    return node_co_open_filename(args->target, args->format, &flags, errp);
}

bool coroutine_fn
qmp_drive_mirror(const DriveMirrorOptions *args, GError **errp)
{
    MirrorOptions m = MIRROR_OPTIONS(args);
    BlockNode *source = lookup_root(args->device, errp);
    BlockNode *target;
    JobOptions o;
    bool ok = false;

    if (!source || !JOB_OPTIONS(args, &o, errp) ||
        !check_mirror(source, args->sync, args->replaces, errp)) {
        return false;
    }
    node_ref(source);
    target = open_target(args, errp);
    if (target) {
        ok = mirror_co_start(&o, &m, source, target, errp) != NULL;
        node_co_unref(target); /* from now on the job's */
    }
    node_co_unref(source);
    return ok;
}

/* --- commit --- */

/* Does a node below @top go by this node name or file name? */
static bool
is_called(const BlockNode *node, const char *node_name, const char *filename)
{
    if (node_name) {
        return strcmp(node->node_name, node_name) == 0;
    }
    return filename && node->filename && strcmp(node->filename, filename) == 0;
}

static BlockNode *
find_base(const BlockCommitOptions *args, const BlockNode *top, GError **errp)
{
    BlockNode *base = NULL;
    bool named = args->base_node || args->base;

    for (BlockNode *n = node_backing(top); n; n = node_backing(n)) {
        base = n;
        if (is_called(n, args->base_node, args->base)) {
            return n;
        }
    }
    if (named) {
        const char *name = args->base_node ? args->base_node : args->base;

        return args->base_node && !node_find(name)
                   ? (fail(errp, "Cannot find device='' nor node-name='%s'", name), NULL)
                   : (fail(errp, "'%s' is not in this backing file chain", name), NULL);
    }
    if (!base) {
        fail(errp, "cannot commit an image into itself");
    }
    return base;
}

static bool
check_commit(const BlockCommitOptions *args, BlockNode *top, GError **errp)
{
    const BlockNode *image = node_skip_filters(top);

    if (args->base_node && args->base) {
        return fail(errp, "'base-node' and 'base' are mutually exclusive");
    }
    if (args->top_node && args->top) {
        return fail(errp, "'top-node' and 'top' are mutually exclusive");
    }
    if ((args->top_node || args->top) && !is_called(top, args->top_node, args->top) &&
        !is_called(image, args->top_node, args->top)) {
        return fail(errp, "Only the active layer '%s' can be committed, not '%s'", top->node_name,
                    args->top_node ? args->top_node : args->top);
    }
    if (args->backing_file) {
        return fail(errp, "Parameter 'backing-file' cannot be used when the top is the active "
                          "layer");
    }
    return true;
}

bool coroutine_fn
qmp_block_commit(const BlockCommitOptions *args, GError **errp)
{
    CommitOptions c = { .filter_name = args->filter_node_name, .on_error = args->on_error };
    BlockNode *top, *base;
    JobOptions o;
    bool ok;

    if (!node_lookup(args->device, NULL)) {
        return fail_class(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found",
                          args->device);
    }
    top = lookup_root(args->device, errp);
    if (!top || !JOB_OPTIONS(args, &o, errp) || !check_commit(args, top, errp)) {
        return false;
    }
    base = find_base(args, top, errp);
    if (!base || !check_ops(top, BLOCK_OP_COMMIT_SOURCE, base, BLOCK_OP_COMMIT_TARGET, errp)) {
        return false;
    }
    node_ref(top);
    node_ref(base);
    ok = commit_co_start(&o, &c, top, base, errp) != NULL;
    node_co_unref(base);
    node_co_unref(top);
    return ok;
}

/* --- backup and create --- */

static bool
check_backup(BlockNode *source, BlockNode *target, GError **errp)
{
    if (source == target) {
        return fail(errp, "Source and target cannot be the same");
    }
    if (node_length(source) != node_length(target)) {
        return fail(errp, "Source and target image have different sizes");
    }
    return check_ops(source, BLOCK_OP_BACKUP_SOURCE, target, BLOCK_OP_BACKUP_TARGET, errp);
}

bool coroutine_fn
qmp_blockdev_backup(const BlockdevBackupOptions *args, GError **errp)
{
    BlockNode *source = node_lookup(args->device, errp);
    BlockNode *target = source ? node_lookup(args->target, errp) : NULL;
    JobOptions o;
    bool ok;

    if (!target || !JOB_OPTIONS(args, &o, errp)) {
        return false;
    }
    if (args->sync != MIRROR_SYNC_MODE_NONE) {
        return fail(errp, "Only sync mode 'none' is supported by backup");
    }
    if (!check_backup(source, target, errp)) {
        return false;
    }
    if (args->on_source_error != BLOCKDEV_ON_ERROR_REPORT ||
        args->on_target_error != BLOCKDEV_ON_ERROR_REPORT) {
        return fail(errp, "Only 'report' is supported for errors of a backup");
    }
    node_ref(source);
    node_ref(target);
    ok = backup_none_co_start(&o, source, target, args->filter_node_name, errp) != NULL;
    node_co_unref(target);
    node_co_unref(source);
    return ok;
}

bool coroutine_fn
qmp_blockdev_create(const QmpBlockdevCreateArgs *args, GError **errp)
{
    JobOptions o = { .id = args->job_id, .manual_dismiss = true };

    return create_job_start(&o, args->options, errp) != NULL;
}
