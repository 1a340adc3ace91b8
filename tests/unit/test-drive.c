/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Drives and chains with the real drivers, on files: what documented command lines do. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "block/blockdev.h"
#include "block/driver.h"
#include "block/drivers.h"
#include "block/info.h"
#include "qapi/walk.h"
#include "util/error.h"
#include "vtest.h"

#define SIZE 1048576

static char *dir;

static void coroutine_fn create(const char *json)
{
    GError *err = NULL;
    json_t *j = json_loads(json, 0, NULL);
    g_autoptr(BlockdevCreateOptions) o = blockdev_create_options_from_json(j, &err);
    const BlockDriver *drv;

    g_assert_no_error(err);
    drv = driver_find(blockdev_driver_str(o->driver));
    drv->co_create(o, &err);
    g_assert_no_error(err);
    json_decref(j);
}

static void coroutine_fn create_image(const char *name, const char *backing)
{
    g_autofree char *file =
        g_strdup_printf("{\"driver\":\"file\",\"filename\":\"%s/%s\",\"size\":0}", dir, name);
    g_autofree char *more = backing ? g_strdup_printf(",\"backing-file\":\"%s\","
                                                      "\"backing-fmt\":\"qcow2\"",
                                                      backing)
                                    : g_strdup("");
    g_autofree char *image =
        g_strdup_printf("{\"driver\":\"qcow2\",\"size\":%d,\"file\":{\"driver\":\"file\","
                        "\"filename\":\"%s/%s\"}%s}",
                        SIZE, dir, name, more);

    create(file);
    create(image);
}

static void begin(void)
{
    drivers_register();
    dir = g_dir_make_tmp("tandem-drive-XXXXXX", NULL);
    g_assert_nonnull(dir);
}

static void end(void)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    g_assert_null(node_first());
    g_assert_null(backend_first());
    while ((name = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        g_unlink(path);
    }
    g_dir_close(d);
    g_rmdir(dir);
    g_free(dir);
}

/* A word of a command line, with '%' for the directory. */
static BlockBackend *coroutine_fn drive(const char *pattern, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(pattern, "%", -1);
    g_autofree char *text = g_strjoinv(dir, parts);
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    json_t *o = json_object();
    BlockBackend *be;

    for (char **i = items; *i; i++) {
        char *equals = strchr(*i, '=');

        *equals = '\0';
        json_object_set_new(o, *i, json_string(equals + 1));
    }
    be = drive_co_add(o, errp);
    json_decref(o);
    return be;
}

static BlockBackend *coroutine_fn must_drive(const char *pattern)
{
    GError *err = NULL;
    BlockBackend *be = drive(pattern, &err);

    g_assert_no_error(err);
    return be;
}

/* Is the byte locked by another open file description than a new one? */
static bool is_locked(const char *name, off_t byte)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, O_RDWR);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fcntl(fd, F_OFD_GETLK, &l), ==, 0);
    close(fd);
    return l.l_type != F_UNLCK;
}

/* QEMU's image locking: what is taken stands at 100 + bit, what is not shared at 200 + bit. */
static void assert_locks(const char *name, const int *bytes)
{
    for (int base = 100; base <= 200; base += 100) {
        for (int bit = 0; bit < 5; bit++) {
            bool wanted = false;

            for (const int *b = bytes; *b; b++) {
                wanted = wanted || *b == base + bit;
            }
            g_assert_cmpint(is_locked(name, base + bit), ==, wanted);
        }
    }
}

static void coroutine_fn test_secondary(void)
{
    GError *err = NULL;
    BlockBackend *top;
    BlockNode *active, *hidden;

    begin();
    create_image("secondary.qcow2", NULL);
    create_image("active.qcow2", NULL);
    create_image("hidden.qcow2", NULL);
    must_drive("if=none,id=parent0,driver=qcow2,file.filename=%/secondary.qcow2");
    must_drive("if=none,id=childs0,driver=replication,mode=secondary,top-id=colo-disk0,"
               "file.driver=qcow2,file.file.filename=%/active.qcow2,"
               "file.backing.driver=qcow2,file.backing.file.filename=%/hidden.qcow2,"
               "file.backing.backing=parent0");
    top = must_drive("if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,"
                     "children.0=childs0");
    g_assert_cmpint(backend_length(top), ==, SIZE);
    active = node_lookup("childs0", &err)->file->node;
    hidden = node_backing(active);
    g_assert_true(node_backing(hidden) == node_lookup("parent0", &err));
    g_assert_true(node_is_read_only(hidden));
    assert_locks("active.qcow2", (int[]){100, 101, 103, 201, 203, 0});
    assert_locks("hidden.qcow2", (int[]){100, 201, 203, 0});
    blockdev_co_close_all();
    assert_locks("active.qcow2", (int[]){0});
    end();
}
LOOP_TEST("/drive/secondary", test_secondary)

static void coroutine_fn test_primary(void)
{
    begin();
    create_image("primary.qcow2", NULL);
    must_drive("if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,"
               "children.0.file.filename=%/primary.qcow2,children.0.driver=qcow2");
    assert_locks("primary.qcow2", (int[]){100, 101, 103, 201, 203, 0});
    blockdev_co_close_all();
    end();
}
LOOP_TEST("/drive/primary", test_primary)

static void coroutine_fn test_probe_and_chain(void)
{
    GError *err = NULL;
    BlockBackend *be;
    BlockInfo *info;
    char byte = 'x', back = 0;
    PermPair rw = {PERM_CONSISTENT_READ | PERM_WRITE, PERM_ALL};

    begin();
    create_image("base.qcow2", NULL);
    create_image("top.qcow2", "base.qcow2");
    be = must_drive("if=none,id=d,file=%/top.qcow2,cache=unsafe");
    g_assert_cmpstr(backend_node(be)->drv->name, ==, "qcow2");
    g_assert_true(node_is_probed(backend_node(be)));
    info = info_co_drive(be, &err);
    g_assert_no_error(err);
    g_assert_cmpint(info->inserted->backing_file_depth, ==, 1);
    g_assert_cmpint(info->inserted->image->virtual_size, ==, SIZE);
    block_info_free(info);

    g_assert_true(backend_co_set_perm(be, rw, &err));
    g_assert_cmpint(backend_co_pwrite(be, 70000, &byte, 1, 0), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 70000, &back, 1), ==, 0);
    g_assert_cmpint(back, ==, 'x');
    /* The backing image is in use: another writer is kept out, another reader is not. */
    g_assert_null(drive("if=none,id=e,driver=qcow2,file.filename=%/top.qcow2", &err));
    g_assert_nonnull(strstr(err->message, "lock"));
    g_clear_error(&err);
    blockdev_co_close_all();
    end();
}
LOOP_TEST("/drive/probed-chain", test_probe_and_chain)

static void coroutine_fn test_resize(void)
{
    GError *err = NULL;
    BlockBackend *be;
    OpBlocker *b;

    begin();
    create_image("a.qcow2", NULL);
    be = must_drive("if=none,id=d,driver=qcow2,file.filename=%/a.qcow2");
    g_assert_true(block_co_resize(backend_node(be), 2 * SIZE, &err));
    g_assert_cmpint(backend_length(be), ==, 2 * SIZE);
    g_assert_false(block_co_resize(backend_node(be), -1, &err));
    g_assert_cmpstr(err->message, ==, "Parameter 'size' expects a >0 size");
    g_clear_error(&err);
    b = op_blocker_new(backend_node(be), 1u << BLOCK_OP_RESIZE, "replication is running");
    g_assert_false(block_co_resize(backend_node(be), SIZE, &err));
    g_assert_nonnull(strstr(err->message, "is busy: replication is running"));
    g_clear_error(&err);
    op_blocker_free(b);
    blockdev_co_close_all();
    end();
}
LOOP_TEST("/drive/resize", test_resize)

static void coroutine_fn assert_drive_fails(const char *pattern, const char *words)
{
    GError *err = NULL;

    g_assert_null(drive(pattern, &err));
    g_assert_nonnull(err);
    g_test_message("%s", err->message);
    g_assert_nonnull(strstr(err->message, words));
    g_clear_error(&err);
}

/* The keys of nbd that only -drive knows: no server answers, but the address is understood. */
static void coroutine_fn test_old_nbd_keys(void)
{
    begin();
    assert_drive_fails("driver=raw,file.driver=nbd,file.host=h,file.path=/p",
                       "path and host may not be used at the same time");
    assert_drive_fails("driver=raw,file.driver=nbd,file.port=1",
                       "port may not be used without host");
    assert_drive_fails("driver=raw,file.driver=nbd,file.host=h,file.server.type=inet",
                       "cannot be used at the same time");
    assert_drive_fails("driver=raw,file.driver=nbd,file.path=%/none", "No such file or directory");
    assert_drive_fails("format=raw,file=nbd:unix:%/none", "No such file or directory");
    assert_drive_fails("format=raw,file=nbd+unix:///x?socket=%/none", "No such file or directory");
    end();
}
LOOP_TEST("/drive/old-nbd-keys", test_old_nbd_keys)

/* --- backing by blockdev-reopen --- */

static BlockdevOptions *options_in_dir(const char *pattern)
{
    g_auto(GStrv) parts = g_strsplit(pattern, "%", -1);
    g_autofree char *text = g_strjoinv(dir, parts);
    json_t *j = json_loads(text, 0, NULL);
    GError *err = NULL;
    BlockdevOptions *o = blockdev_options_from_json(j, &err);

    g_assert_no_error(err);
    json_decref(j);
    return o;
}

static bool coroutine_fn reopen(const char *pattern, GError **errp)
{
    g_autoptr(BlockdevOptions) o = options_in_dir(pattern);

    return blockdev_co_reopen(&o, 1, errp);
}

static void coroutine_fn must_add(const char *pattern)
{
    g_autoptr(BlockdevOptions) o = options_in_dir(pattern);
    GError *err = NULL;

    blockdev_co_add(o, &err);
    g_assert_no_error(err);
}

#define TOP "{\"driver\":\"qcow2\",\"node-name\":\"top\",\"file\":\"file\""

static void coroutine_fn test_reopen_backing(void)
{
    GError *err = NULL;
    BlockNode *top;

    begin();
    create_image("base.qcow2", NULL);
    create_image("top.qcow2", NULL);
    must_add("{\"driver\":\"file\",\"node-name\":\"file\",\"filename\":\"%/top.qcow2\"}");
    must_add("{\"driver\":\"qcow2\",\"node-name\":\"base\",\"read-only\":true,"
             "\"file\":{\"driver\":\"file\",\"filename\":\"%/base.qcow2\"}}");
    must_add(TOP "}");
    top = node_find("top");

    g_assert_true(reopen(TOP ",\"backing\":\"base\"}", &err));
    g_assert_true(node_backing(top) == node_find("base"));
    g_assert_false(reopen(TOP "}", &err));
    g_assert_cmpstr(err->message, ==, "backing is missing for 'top'");
    g_clear_error(&err);
    g_assert_false(reopen(TOP ",\"backing\":\"top\"}", &err));
    g_assert_nonnull(strstr(err->message, "would create a cycle"));
    g_clear_error(&err);
    g_assert_true(node_backing(top) == node_find("base"));
    g_assert_false(blockdev_co_del("base", &err));
    g_assert_cmpstr(err->message, ==, "Node 'base' is busy: node is used as backing hd of 'top'");
    g_clear_error(&err);
    g_assert_true(reopen(TOP ",\"backing\":null}", &err));
    g_assert_null(node_backing(top));
    g_assert_true(blockdev_co_del("base", &err));
    blockdev_co_close_all();
    end();
}
LOOP_TEST("/reopen/backing", test_reopen_backing)

/* --- statistics --- */

static BlockDeviceStats *coroutine_fn counters(BlockBackend *be)
{
    return info_backend_counters(be);
}

static int coroutine_fn read_for(BlockBackend *be)
{
    char buf[512];

    return backend_co_pread(be, 0, buf, sizeof(buf));
}

/* Virtual time: a request takes exactly what the node says. */
static void coroutine_fn test_intervals(void)
{
    BlockBackend *be;
    BlockDeviceTimedStats *t;

    begin();
    be = must_drive("driver=null-co,latency-ns=2000000,stats-intervals.0=8,stats-intervals.1=80");
    for (int i = 0; i < 16; i++) {
        g_assert_cmpint(read_for(be), ==, 0);
        co_sleep_ns(NS_PER_S - 2 * NS_PER_MS);
    }
    g_autoptr(BlockDeviceStats) s = counters(be);
    g_assert_cmpuint(s->n_timed_stats, ==, 2);
    t = s->timed_stats[0];
    g_assert_cmpint(t->interval_length, ==, 8);
    g_assert_cmpint(t->min_rd_latency_ns, ==, 2 * NS_PER_MS);
    g_assert_cmpint(t->max_rd_latency_ns, ==, 2 * NS_PER_MS);
    g_assert_cmpint(t->avg_rd_latency_ns, ==, 2 * NS_PER_MS);
    /* One request of 2 ms a second: 0.002, but for what is at the edges of the interval. */
    g_assert_cmpfloat(t->avg_rd_queue_depth, >, 0.0015);
    g_assert_cmpfloat(t->avg_rd_queue_depth, <, 0.0025);
    g_assert_cmpint(t->min_wr_latency_ns, ==, 0);
    g_assert_cmpfloat(t->avg_wr_queue_depth, ==, 0);
    t = s->timed_stats[1];
    g_assert_cmpint(t->interval_length, ==, 80);
    g_assert_cmpfloat(t->avg_rd_queue_depth, >, 0.0019);
    g_assert_cmpfloat(t->avg_rd_queue_depth, <, 0.0021);

    /* What happened before the interval counts no more. */
    co_sleep_ns(9 * NS_PER_S);
    g_autoptr(BlockDeviceStats) later = counters(be);
    g_assert_cmpint(later->timed_stats[0]->max_rd_latency_ns, ==, 0);
    g_assert_cmpint(later->timed_stats[1]->max_rd_latency_ns, ==, 2 * NS_PER_MS);
    g_assert_cmpint(later->rd_operations, ==, 16);
    backend_co_free(be);
    end();
}
VTEST("/drive/stats-intervals", test_intervals)

static void coroutine_fn test_histogram(void)
{
    static const uint64_t bounds[] = {1 * NS_PER_MS, 2 * NS_PER_MS, 3 * NS_PER_MS};
    BlockBackend *be;

    begin();
    be = must_drive("driver=null-co,latency-ns=2000000");
    g_assert_cmpint(read_for(be), ==, 0);
    for (size_t n = 0; n <= 3; n++) {
        backend_set_histogram(be, ACCT_READ, bounds, n);
        g_assert_cmpint(read_for(be), ==, 0);
        g_autoptr(BlockDeviceStats) s = counters(be);
        g_assert_cmpuint(s->rd_latency_histogram->n_boundaries, ==, n);
        g_assert_cmpuint(s->rd_latency_histogram->n_bins, ==, n + 1);
        for (size_t k = 0; k <= n; k++) {
            /* 2 ms belong to the bin that begins there. */
            g_assert_cmpuint(s->rd_latency_histogram->bins[k], ==, k == MIN(n, 2));
        }
        g_assert_null(s->wr_latency_histogram);
    }
    backend_set_histogram(be, ACCT_READ, NULL, 0);
    g_autoptr(BlockDeviceStats) none = counters(be);
    g_assert_null(none->rd_latency_histogram);
    backend_co_free(be);
    end();
}
VTEST("/drive/latency-histogram", test_histogram)

/* Failed and refused requests count in times, or not. */
static void coroutine_fn test_account(void)
{
    static const char opts[] =
        "driver=blkdebug,image.driver=null-co,image.latency-ns=1000,"
        "inject-error.0.event=none,inject-error.0.iotype=read,stats-intervals.0=8";
    char buf[512];

    begin();
    for (int on = 0; on <= 1; on++) {
        g_autofree char *all = g_strdup_printf(
            "%s,stats-account-failed=%s,stats-account-invalid=%s", opts, on ? "on" : "off",
            on ? "on" : "off");
        BlockBackend *be = must_drive(all);

        co_sleep_ns(NS_PER_S);
        g_assert_cmpint(backend_co_pread(be, INT64_C(1) << 40, buf, 512), ==, -EIO);
        g_autoptr(BlockDeviceStats) refused = counters(be);
        g_assert_cmpint(refused->invalid_rd_operations, ==, 1);
        g_assert_cmpint(refused->has_idle_time_ns, ==, on);
        backend_set_histogram(be, ACCT_READ, (const uint64_t[]){1}, 1);
        g_assert_cmpint(backend_co_pread(be, 0, buf, 512), ==, -EIO);
        g_autoptr(BlockDeviceStats) s = counters(be);
        g_assert_cmpint(s->failed_rd_operations, ==, 1);
        g_assert_cmpint(s->rd_operations, ==, 0);
        g_assert_cmpint(s->has_idle_time_ns, ==, on);
        g_assert_cmpint(s->account_failed, ==, on);
        g_assert_cmpint(s->account_invalid, ==, on);
        /* The histogram shows every request that was made. */
        g_assert_cmpuint(s->rd_latency_histogram->bins[0] + s->rd_latency_histogram->bins[1], ==,
                         1);
        backend_co_free(be);
    }
    end();
}
VTEST("/drive/stats-account", test_account)

static void coroutine_fn test_interval_errors(void)
{
    static const struct {
        const char *opts, *error;
    } cases[] = {
        {"stats-intervals.0=0", "Invalid interval length: 0"},
        {"stats-intervals.0=x", "Invalid interval length: x"},
        {"stats-intervals.0=-1", "Invalid interval length: -1"},
        {"stats-intervals.0=1.5", "Invalid interval length: 1.5"},
        {"stats-intervals.0=", "Invalid interval length: "},
        {"stats-intervals.0=4294967296", "Invalid interval length: 4294967296"},
        {"stats-intervals.1=10", "Invalid option stats-intervals.1"},
        {"stats-intervals.x=10", "Invalid option stats-intervals.x"},
        {"stats-account-failed=maybe",
         "Parameter 'stats-account-failed' expects 'on' or 'off'"},
    };

    begin();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *opts = g_strdup_printf("driver=null-co,%s", cases[i].opts);
        GError *err = NULL;

        g_assert_null(drive(opts, &err));
        g_assert_cmpstr(err->message, ==, cases[i].error);
        g_clear_error(&err);
    }
    end();
}
VTEST("/drive/stats-interval-errors", test_interval_errors)
