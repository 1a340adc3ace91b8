/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The io language: what is neither a read nor a write. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "block/blkdebug.h"
#include "block/driver.h"
#include "block/graph.h"
#include "block/info.h"
#include "image/info-text.h"
#include "image/open.h"
#include "image/size.h"
#include "io-cmd-int.h"
#include "qapi/keyval.h"
#include "qapi/scalar.h"
#include "qapi/walk.h"
#include "util/loop.h"

/* --- the whole --- */

static int coroutine_fn flush_co(IoCmd *io, int argc, char **argv)
{
    return backend_co_flush(io->be);
}

static int coroutine_fn length_co(IoCmd *io, int argc, char **argv)
{
    g_autofree char *text = size_text_exact((double)backend_length(io->be));

    fprintf(io->out, "%s\n", text);
    return 0;
}

/* The disk's address space goes on behind its end with the machine's state. */
static int64_t vmstate_offset(BlockNode *node, int64_t cluster_size)
{
    int64_t unit = cluster_size * (cluster_size / 8); /* what one L2 table maps */

    return strcmp(node->drv->name, "qcow2") == 0 ? ALIGN_UP(node_length(node), unit) : 0;
}

static int coroutine_fn info_co(IoCmd *io, int argc, char **argv)
{
    BlockNode *node = backend_node(io->be);
    g_autoptr(ImageInfo) i = NULL;
    GError *err = NULL;
    BlockInfoData data;
    g_autofree char *cluster = NULL, *vmstate = NULL;

    i = info_co_image(node, true, false, &err);
    if (!i) {
        io_cmd_report(io, err);
        return -EIO;
    }
    node_get_info(node, &data);
    cluster = size_text_exact((double)data.cluster_size);
    vmstate = size_text_exact((double)vmstate_offset(node, data.cluster_size));
    fprintf(io->out, "format name: %s\ncluster size: %s\nvm state offset: %s\n", node->drv->name,
            cluster, vmstate);
    if (i->format_specific) {
        info_print_specific(io->out, i->format_specific);
    }
    return 0;
}

static int coroutine_fn truncate_co(IoCmd *io, int argc, char **argv)
{
    PreallocMode mode = PREALLOC_MODE_OFF;
    GError *err = NULL;
    int64_t length;
    int opt;

    while ((opt = getopt(argc, argv, "m:")) != -1) {
        if (opt != 'm') {
            return io_cmd_usage(io, argv[0]);
        }
        if (!prealloc_mode_parse(optarg, &mode)) {
            fail(&err, "Invalid preallocation mode '%s'", optarg);
            io_cmd_report(io, err);
            return -EINVAL;
        }
    }
    if (optind >= argc) {
        return io_cmd_usage(io, argv[0]);
    }
    length = io_size(io, argv[optind]);
    if (length < 0) {
        return (int)length;
    }
    if (!backend_co_truncate(io->be, length, false, (BlockPreallocMode)mode, 0, &err)) {
        io_cmd_report(io, err);
        return -EIO;
    }
    return 0;
}

/* --- ranges --- */

static int coroutine_fn discard_co(IoCmd *io, int argc, char **argv)
{
    IoReport report = {.verb = "discard", .ops = 1};
    bool quiet = false;
    int64_t start;
    int opt, r;

    while ((opt = getopt(argc, argv, "Cq")) != -1) {
        switch (opt) {
        case 'C':
            report.machine = true;
            break;
        case 'q':
            quiet = true;
            break;
        default:
            return io_cmd_usage(io, argv[0]);
        }
    }
    if (argc - optind != 2) {
        return io_cmd_usage(io, argv[0]);
    }
    report.offset = io_size(io, argv[optind]);
    report.total = report.count = report.offset < 0 ? 0 : io_length(io, argv[optind + 1], "");
    if (report.offset < 0 || report.count < 0) {
        return -EINVAL;
    }
    start = loop_now_ns();
    r = backend_co_pdiscard(io->be, report.offset, report.count);
    report.ns = loop_now_ns() - start;
    if (r < 0) {
        fprintf(io->out, "discard failed: %s\n", strerror(-r));
        return r;
    }
    if (!quiet) {
        io_report(io, &report);
    }
    return 0;
}

/* Does the top image decide the start of the range? 1, 0 or -errno. */
static int coroutine_fn is_allocated(IoCmd *io, int64_t offset, int64_t bytes, int64_t *ret_bytes)
{
    BlockNode *node = backend_node(io->be);
    BackendReq req;
    int r;

    backend_co_enter(io->be, &req);
    r = node_co_is_allocated_above(node, node_skip_filters(node), true, offset, bytes, ret_bytes);
    backend_exit(io->be, &req);
    return r;
}

static int coroutine_fn alloc_co(IoCmd *io, int argc, char **argv)
{
    int64_t offset = io_size(io, argv[1]), count = 512, sum = 0, length = backend_length(io->be);
    g_autofree char *where = NULL;

    if (offset < 0) {
        return (int)offset;
    }
    if (argc > 2 && (count = io_size(io, argv[2])) < 0) {
        return (int)count;
    }
    count = MIN(count, MAX(length - offset, 0));
    for (int64_t at = 0; at < count;) {
        int64_t n = 0;
        int r = is_allocated(io, offset + at, count - at, &n);

        if (r < 0) {
            fprintf(io->out, "is_allocated failed: %s\n", strerror(-r));
            return r;
        }
        sum += r ? n : 0;
        at += n;
    }
    where = size_text_exact((double)offset);
    fprintf(io->out, "%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, count, where);
    return 0;
}

/* How far what is true at @offset goes on. */
static int coroutine_fn run_from(IoCmd *io, int64_t offset, int64_t end, int64_t *ret_bytes)
{
    int64_t n, sum = 0;
    int first = is_allocated(io, offset, end - offset, &n), r = first;

    while (first >= 0 && r == first) {
        sum += n;
        if (offset + sum >= end) {
            break;
        }
        r = is_allocated(io, offset + sum, end - offset - sum, &n);
    }
    *ret_bytes = sum;
    return r < 0 ? r : first;
}

static int coroutine_fn map_co(IoCmd *io, int argc, char **argv)
{
    int64_t length = backend_length(io->be), n;

    for (int64_t at = 0; at < length; at += n) {
        int r = run_from(io, at, length, &n);
        g_autofree char *size = NULL, *where = NULL;

        if (r < 0) {
            GError *err = NULL;

            fail_errno(&err, -r, "Failed to get allocation status");
            io_cmd_report(io, err);
            return r;
        }
        size = size_text_exact((double)n);
        where = size_text_exact((double)at);
        fprintf(io->out, "%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n", size,
                (uint64_t)n, r ? "    allocated" : "not allocated", where, (uint64_t)at);
    }
    return 0;
}

/* --- reopening --- */

typedef struct Reopen {
    ImageSpec spec;
    bool read_only, read_write, cache;
    const char *options;
} Reopen;

static int reopen_fail(IoCmd *io, GError *err)
{
    io_cmd_report(io, err);
    return -EINVAL;
}

static int reopen_parse(IoCmd *io, int argc, char **argv, Reopen *o)
{
    GError *err = NULL;
    int opt;

    while ((opt = getopt(argc, argv, "c:o:rw")) != -1) {
        switch (opt) {
        case 'c':
            o->cache = true;
            if (!image_cache_parse(optarg, &o->spec)) {
                fail(&err, "Invalid cache option: %s", optarg);
                return reopen_fail(io, err);
            }
            break;
        case 'o':
            o->options = optarg;
            break;
        case 'r':
        case 'w':
            if (o->read_only || o->read_write) {
                fail(&err, "Only one -r/-w option may be given");
                return reopen_fail(io, err);
            }
            *(opt == 'r' ? &o->read_only : &o->read_write) = true;
            break;
        default:
            return io_cmd_usage(io, argv[0]);
        }
    }
    return optind == argc ? 0 : io_cmd_usage(io, argv[0]);
}

/* What only one of the switches and "-o" may say. */
static bool check_given(const Reopen *o, json_t *given, GError **errp)
{
    if ((o->read_only || o->read_write) && json_object_get(given, "read-only")) {
        return fail(errp, "Cannot set both -r/-w and 'read-only'");
    }
    if (o->cache && (json_object_get(given, "cache.direct") ||
                     json_object_get(given, "cache.no-flush"))) {
        return fail(errp, "Cannot set both -c and the cache options");
    }
    return true;
}

/* Options that a node keeps for as long as it is open. */
static bool check_fixed(const BlockNode *node, json_t *given, GError **errp)
{
    const char *driver = json_string_value(json_object_get(given, "driver"));
    const char *name = json_string_value(json_object_get(given, "node-name"));

    if (driver && strcmp(driver, node->drv->name) != 0) {
        return fail(errp, "Cannot change the option 'driver'");
    }
    if (name && strcmp(name, node->node_name) != 0) {
        return fail(errp, "Cannot change the option 'node-name'");
    }
    return true;
}

/* An option that the driver does not have cannot be changed either. */
static void name_unknown(json_t *given, GError *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(given, key, value)
    {
        g_autofree char *text = g_strdup_printf("Parameter '%s' is unexpected", key);

        if (strcmp(err->message, text) == 0) {
            g_free(err->message);
            err->message = g_strdup_printf("Cannot change the option '%s'", key);
            return;
        }
    }
}

/* What was opened, changed by "key=value,...". */
static BlockdevOptions *changed_options(const BlockNode *node, const Reopen *r, GError **errp)
{
    json_t *given = qemu_opts_parse(r->options, NULL, NULL, errp), *nested = NULL, *o;
    BlockdevOptions *opts = NULL;
    GError *err = NULL;

    if (given && check_given(r, given, errp) && check_fixed(node, given, errp)) {
        nested = json_crumple(given, errp);
    }
    if (nested) {
        o = blockdev_options_to_json(node_options(node));
        json_object_update(o, nested);
        opts = blockdev_options_from_lenient(o, &err);
        json_decref(o);
    }
    if (err) {
        name_unknown(given, err);
        g_propagate_error(errp, err);
    }
    json_decref(nested);
    json_decref(given);
    return opts;
}

/* The flags of @node and of the files below that were opened with it. */
static void change_flags(GraphTx *tx, BlockNode *node, const Reopen *o)
{
    for (; node; node = node->file ? node->file->node : NULL) {
        NodeFlags flags = node->flags;

        if (o->read_only || o->read_write) {
            flags.read_only = o->read_only;
        }
        if (o->cache) {
            flags.cache_direct = o->spec.flags.cache_direct;
            flags.cache_no_flush = o->spec.flags.cache_no_flush;
        }
        graph_tx_set_flags(tx, node, &flags);
    }
}

static bool coroutine_fn drop_write(IoCmd *io, GError **errp)
{
    PermPair perm = backend_root(io->be)->perm;

    perm.taken &= ~(PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE);
    return backend_co_set_perm(io->be, perm, errp);
}

static int coroutine_fn reopen_co(IoCmd *io, int argc, char **argv)
{
    Reopen o = {0};
    BlockNode *node = backend_node(io->be);
    GError *err = NULL;
    GraphTx *tx;
    int r = reopen_parse(io, argc, argv, &o);

    if (r < 0) {
        return r;
    }
    io_co_wait_idle(io);
    if (o.read_only && !drop_write(io, &err)) {
        return reopen_fail(io, err);
    }
    tx = graph_tx_new();
    if (o.options) {
        g_autoptr(BlockdevOptions) opts = changed_options(node, &o, &err);

        if (!opts) {
            graph_tx_co_drop(tx);
            return reopen_fail(io, err);
        }
        graph_tx_reopen(tx, node, opts);
        return graph_tx_co_commit(tx, &err) ? 0 : reopen_fail(io, err);
    }
    change_flags(tx, node, &o);
    if (!graph_tx_co_commit(tx, &err)) {
        return reopen_fail(io, err);
    }
    if (o.cache) {
        backend_set_write_cache(io->be, !o.spec.writethrough);
    }
    return 0;
}

/* --- breakpoints --- */

static int tell_break(IoCmd *io, const char *what, GError *err)
{
    fprintf(io->out, "Could not %s: %s\n", what, err->message);
    g_error_free(err);
    return -EINVAL;
}

static int coroutine_fn break_co(IoCmd *io, int argc, char **argv)
{
    GError *err = NULL;

    return blkdebug_break(backend_node(io->be), argv[1], argv[2], &err)
               ? 0
               : tell_break(io, "set breakpoint", err);
}

static int coroutine_fn remove_break_co(IoCmd *io, int argc, char **argv)
{
    g_autofree char *what = g_strdup_printf("remove breakpoint %s", argv[1]);
    GError *err = NULL;

    return blkdebug_remove_break(backend_node(io->be), argv[1], &err) ? 0
                                                                      : tell_break(io, what, err);
}

static int coroutine_fn resume_co(IoCmd *io, int argc, char **argv)
{
    GError *err = NULL;

    if (!blkdebug_resume(backend_node(io->be), argv[1], &err)) {
        return tell_break(io, "resume request", err);
    }
    co_reschedule();
    return 0;
}

static int coroutine_fn wait_break_co(IoCmd *io, int argc, char **argv)
{
    GError *err = NULL;

    return blkdebug_co_wait_break(backend_node(io->be), argv[1], &err)
               ? 0
               : tell_break(io, "wait for breakpoint", err);
}

/* --- the process --- */

static int coroutine_fn sleep_co(IoCmd *io, int argc, char **argv)
{
    int64_t ms;

    if (!scalar_int(argv[1], &ms) || ms < 0 || ms > INT64_MAX / NS_PER_MS) {
        fprintf(io->out, "%s is not a valid number\n", argv[1]);
        return -EINVAL;
    }
    co_sleep_ns(ms * NS_PER_MS);
    return 0;
}

static int coroutine_fn sigraise_co(IoCmd *io, int argc, char **argv)
{
    int64_t sig = io_size(io, argv[1]);

    if (sig < 0) {
        return (int)sig;
    }
    if (sig > NSIG) {
        fprintf(io->out, "signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -EINVAL;
    }
    fflush(io->out);
    return raise((int)sig) == 0 ? 0 : -EINVAL;
}

static int coroutine_fn abort_co(IoCmd *io, int argc, char **argv)
{
    fflush(io->out);
    abort();
}

const IoCommand io_misc_commands[] = {
    {"abort", NULL, abort_co, 0, 0, true, 0, NULL, "simulate a program crash using abort(3)", NULL},
    {"alloc", "a", alloc_co, 1, 2, false, 0, "offset [count]",
     "checks if offset is allocated in the file", NULL},
    {"break", NULL, break_co, 2, 2, false, 0, "event tag",
     "sets a breakpoint on event and tags the stopped request as tag", NULL},
    {"discard", "d", discard_co, 2, -1, false, PERM_WRITE, "[-Cq] off len",
     "discards a number of bytes at a specified offset",
     " -C, -- report statistics in a machine parsable format\n"
     " -q, -- do not show statistics\n"},
    {"flush", "f", flush_co, 0, 0, false, 0, NULL, "flush all in-core file state to disk", NULL},
    {"info", "i", info_co, 0, 0, false, 0, NULL, "prints information about the current file", NULL},
    {"length", "l", length_co, 0, 0, false, 0, NULL, "gets the length of the current file", NULL},
    {"map", NULL, map_co, 0, 0, false, 0, "", "prints the allocated areas of a file", NULL},
    {"remove_break", NULL, remove_break_co, 1, 1, false, 0, "tag", "remove a breakpoint by tag",
     NULL},
    {"reopen", NULL, reopen_co, 0, -1, false, 0, "[(-r|-w)] [-c cache] [-o options]",
     "reopens an image with new options",
     " -r, -w, -- read-only, read-write\n"
     " -c, -- with another cache mode\n"
     " -o, -- with other options of its driver\n"},
    {"resume", NULL, resume_co, 1, 1, false, 0, "tag", "resumes the request tagged as tag", NULL},
    {"sigraise", NULL, sigraise_co, 1, 1, true, 0, "signal", "raises a signal", NULL},
    {"sleep", NULL, sleep_co, 1, 1, true, 0, NULL, "waits for the given value in milliseconds",
     NULL},
    {"truncate", "t", truncate_co, 1, 3, false, PERM_WRITE | PERM_RESIZE,
     "[-m prealloc_mode] off", "truncates the current file at the given offset", NULL},
    {"wait_break", NULL, wait_break_co, 1, 1, false, 0, "tag",
     "waits for the suspension of a request", NULL},
};
const size_t n_io_misc_commands = G_N_ELEMENTS(io_misc_commands);
