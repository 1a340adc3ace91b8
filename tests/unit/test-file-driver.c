/* SPDX-License-Identifier: GPL-2.0-or-later */
/* file, raw, blkdebug and blklogwrites: what the conformance suite does not ask. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/backend.h"
#include "block/blkdebug.h"
#include "block/driver.h"
#include "block/drivers.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"


static char *temp_dir;

static char *temp_path(const char *name)
{
    return g_build_filename(temp_dir, name, NULL);
}

static void make_file(const char *path, int64_t length)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, length), ==, 0);
    close(fd);
}

/* @format: JSON with single quotes and one %s for the path */
static BlockNode *coroutine_fn PRINTF(2, 3) open_node(GError **errp, const char *format, ...)
{
    g_autofree char *text = NULL;
    BlockNode *node;
    json_t *json;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_strdelimit(text, "'", '"');
    json = json_loads(text, 0, NULL);
    g_assert_nonnull(json);
    node = node_co_open_json(json, NULL, errp);
    json_decref(json);
    return node;
}

static BlockBackend *coroutine_fn use_node(BlockNode *node)
{
    BlockBackend *be = user_co_new(NULL, node, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);

    node_co_unref(node);
    return be;
}

static void coroutine_fn check_open_fails(const char *driver, const char *path, const char *want)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(open_node(&err, "{'driver': '%s', 'filename': '%s'}", driver, path));
    g_assert_nonnull(err);
    if (!strstr(err->message, want)) {
        g_error("'%s' does not say '%s'", err->message, want);
    }
}

/* --- file --- */

static void coroutine_fn test_open_errors(void)
{
    g_autofree char *missing = temp_path("missing");
    g_autofree char *fifo = temp_path("fifo");
    g_autofree char *dir = temp_path("");

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    check_open_fails("file", missing, "Could not open '");
    check_open_fails("file", missing, "': No such file or directory");
    check_open_fails("file", dir, "Is a directory");
    check_open_fails("file", fifo, "'file' driver requires '");
    check_open_fails("host_device", fifo, "to be either a character or block device");
    g_unlink(fifo);
}
LOOP_TEST("/file/open-errors", test_open_errors)

static void coroutine_fn test_shrunken_file_reads_as_zeroes(void)
{
    g_autofree char *path = temp_path("shrunk");
    g_autoptr(GError) err = NULL;
    uint8_t buf[4096];
    BlockBackend *be;

    make_file(path, 65536);
    be = use_node(open_node(&err, "{'driver': 'file', 'filename': '%s'}", path));
    memset(buf, 1, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(be, 32768, buf, sizeof(buf), 0), ==, 0);
    g_assert_cmpint(truncate(path, 1000), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 32768, buf, sizeof(buf)), ==, 0);
    for (size_t i = 0; i < sizeof(buf); i++) {
        g_assert_cmpint(buf[i], ==, 0);
    }
    backend_co_free(be);
    g_unlink(path);
}
LOOP_TEST("/file/shrunken", test_shrunken_file_reads_as_zeroes)

static void coroutine_fn test_odd_length(void)
{
    g_autofree char *path = temp_path("odd");
    g_autoptr(GError) err = NULL;
    uint8_t buf[1000], back[1000];
    BlockBackend *be;

    make_file(path, sizeof(buf));
    be = use_node(
        open_node(&err, "{'driver': 'file', 'filename': '%s', 'cache': {'direct': true}}", path));
    g_assert_cmpint(backend_length(be), ==, 1024); /* to the end of the last sector */
    memset(buf, 7, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(be, 0, buf, sizeof(buf), 0), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 0, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(back, sizeof(back), buf, sizeof(buf));
    g_assert_cmpint(backend_co_pread(be, 999, back, 25), ==, 0);
    g_assert_cmpint(back[0], ==, 7);
    for (size_t i = 1; i < 25; i++) {
        g_assert_cmpint(back[i], ==, 0);
    }
    g_assert_cmpint(backend_co_pread(be, 1023, back, 2), ==, -EIO);
    backend_co_free(be);
    g_unlink(path);
}
LOOP_TEST("/file/odd-length-direct", test_odd_length)

static void coroutine_fn test_holes(void)
{
    g_autofree char *path = temp_path("holes");
    g_autoptr(GError) err = NULL;
    g_autofree uint8_t *buf = g_malloc(65536);
    BlockBackend *be;
    BlockStatus st;

    make_file(path, 1 * MiB);
    be =
        use_node(open_node(&err, "{'driver': 'file', 'filename': '%s', 'discard': 'unmap'}", path));
    memset(buf, 1, 65536);
    g_assert_cmpint(backend_co_pwrite(be, 0, buf, 65536, 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite(be, 65536, buf, 65536, 0), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(be, 65536, 65536), ==, 0);
    g_assert_cmpint(backend_co_block_status_above(be, NULL, true, 0, 1 * MiB, &st, NULL), ==, 0);
    g_assert_cmpint(st.bytes, ==, 65536);
    g_assert_cmphex(st.flags, ==, STATUS_DATA | STATUS_OFFSET_VALID | STATUS_ALLOCATED);
    g_assert_cmpint(
        backend_co_block_status_above(be, NULL, true, 65536, 1 * MiB - 65536, &st, NULL), ==, 0);
    g_assert_cmpint(st.bytes, ==, 1 * MiB - 65536);
    g_assert_cmphex(st.flags, ==,
                    STATUS_ZERO | STATUS_OFFSET_VALID | STATUS_ALLOCATED | STATUS_EOF);
    backend_co_free(be);
    g_unlink(path);
}
LOOP_TEST("/file/holes", test_holes)

static void coroutine_fn test_create_with_preallocation(void)
{
    static const PreallocMode modes[] = {PREALLOC_MODE_OFF, PREALLOC_MODE_FALLOC,
                                         PREALLOC_MODE_FULL};
    g_autofree char *path = temp_path("created");

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        BlockdevCreateOptions o = {.driver = BLOCKDEV_DRIVER_FILE};
        g_autoptr(GError) err = NULL;
        struct stat st;

        make_file(path, 12345); /* what was there is gone */
        o.u.file = (BlockdevCreateOptionsFile){
            .filename = path,
            .size = 3 * MiB + 512,
            .has_preallocation = true,
            .preallocation = modes[i],
        };
        driver_find("file")->co_create(&o, &err);
        g_assert_no_error(err);
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpint(st.st_size, ==, 3 * MiB + 512);
        g_assert_true((st.st_blocks * 512 >= 3 * MiB) == (modes[i] != PREALLOC_MODE_OFF));
        g_unlink(path);
    }
}
LOOP_TEST("/file/create", test_create_with_preallocation)

static void coroutine_fn test_lock_conflict_in_one_process(void)
{
    g_autofree char *path = temp_path("locked");
    g_autoptr(GError) err = NULL;
    static const char *alone =
        "{'driver': 'blkdebug', 'take-child-perms': ['write'],"
        " 'unshare-child-perms': ['write'], 'image': {'driver': 'file', 'filename': '%s'}}";
    BlockNode *first;

    make_file(path, 65536);
    first = open_node(&err, alone, path);
    g_assert_no_error(err);
    g_assert_null(open_node(&err, alone, path));
    g_assert_nonnull(strstr(err->message, "Failed to get \"write\" lock"));
    node_co_unref(first);
    g_clear_error(&err);
    first = open_node(&err, alone, path);
    g_assert_no_error(err);
    node_co_unref(first);
    g_unlink(path);
}
LOOP_TEST("/file/lock-conflict", test_lock_conflict_in_one_process)

/* --- host_device --- */

/* The name of a loop device over @path; NULL where there are none. */
static char *loop_device_new(const char *path)
{
    const char *argv[] = {"losetup", "--find", "--show", path, NULL};
    char *out = NULL;
    int status;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL,
                      NULL, NULL, &out, NULL, &status, NULL) ||
        status != 0) {
        g_free(out);
        return NULL;
    }
    return g_strstrip(out);
}

static void loop_device_free(const char *device)
{
    const char *argv[] = {"losetup", "--detach", device, NULL};

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                               NULL, NULL, NULL));
}

static void coroutine_fn use_device(const char *device)
{
    g_autoptr(GError) err = NULL;
    BlockBackend *be = use_node(open_node(&err,
                                          "{'driver': 'host_device', 'filename': '%s',"
                                          " 'cache': {'direct': true}, 'discard': 'unmap'}",
                                          device));
    uint8_t buf[3000], back[3000];

    g_assert_cmpint(backend_length(be), ==, 1 * MiB);
    memset(buf, 9, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(be, 100, buf, sizeof(buf), REQ_FUA), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 100, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(back, sizeof(back), buf, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite_zeroes(be, 0, 65536, REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(be, 65536, 65536), ==, 0);
    g_assert_cmpint(backend_co_pread(be, 100, back, sizeof(back)), ==, 0);
    memset(buf, 0, sizeof(buf));
    g_assert_cmpmem(back, sizeof(back), buf, sizeof(buf));
    g_assert_cmpint(backend_co_flush(be), ==, 0);
    g_assert_false(backend_co_truncate(be, 2 * MiB, true, BLOCK_PREALLOC_OFF, 0, &err));
    g_assert_cmpstr(err->message, ==, "Cannot resize device files");
    backend_co_free(be);
    check_open_fails("file", device, "'file' driver requires '");
}

static void coroutine_fn test_host_device(void)
{
    g_autofree char *path = temp_path("device");
    g_autofree char *device = NULL;

    make_file(path, 1 * MiB);
    device = loop_device_new(path);
    if (device) {
        use_device(device);
        loop_device_free(device);
    } else {
        g_test_skip("there are no loop devices");
    }
    g_unlink(path);
}
LOOP_TEST("/host_device/loop", test_host_device)

/* --- raw --- */

static void coroutine_fn check_window_fails(const char *path, const char *window, const char *want)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(open_node(
        &err, "{'driver': 'raw', %s, 'file': {'driver': 'file', 'filename': '%s'}}", window, path));
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(err->message, want));
}

static void coroutine_fn test_raw_window_errors(void)
{
    g_autofree char *path = temp_path("window");

    make_file(path, 65536);
    check_window_fails(path, "'offset': 65537", "cannot be greater than size");
    check_window_fails(path, "'offset': 512, 'size': 65536", "has to be smaller or equal");
    check_window_fails(path, "'size': 1000", "not multiple of 512");
    g_unlink(path);
}
LOOP_TEST("/raw/window-errors", test_raw_window_errors)

/* --- blkdebug --- */

static BlockBackend *coroutine_fn open_blkdebug(const char *rules)
{
    g_autoptr(GError) err = NULL;
    BlockNode *node = open_node(
        &err, "{'driver': 'blkdebug', %s, 'image': {'driver': 'null-co', 'read-zeroes': true}}",
        rules);

    g_assert_no_error(err);
    return use_node(node);
}

static void coroutine_fn test_blkdebug_fits(void)
{
    BlockBackend *be = open_blkdebug("'inject-error': [{'event': 'none', 'iotype': 'write',"
                                     " 'sector': 2, 'errno': 28}]");
    uint8_t buf[512] = {0};

    g_assert_cmpint(backend_co_pwrite(be, 512, buf, 512, 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite(be, 1024, buf, 512, 0), ==, -ENOSPC);
    g_assert_cmpint(backend_co_pwrite(be, 1023, buf, 2, 0), ==, -ENOSPC);
    g_assert_cmpint(backend_co_pread(be, 1024, buf, 512), ==, 0);
    g_assert_cmpint(backend_co_pwrite(be, 1536, buf, 512, 0), ==, 0);
    g_assert_cmpint(backend_co_flush(be), ==, 0);
    backend_co_free(be);
}
LOOP_TEST("/blkdebug/fits", test_blkdebug_fits)

static void coroutine_fn test_blkdebug_once(void)
{
    BlockBackend *be =
        open_blkdebug("'inject-error': [{'event': 'none', 'iotype': 'flush', 'once': true}]");

    g_assert_cmpint(backend_co_flush(be), ==, -EIO);
    g_assert_cmpint(backend_co_flush(be), ==, 0);
    backend_co_free(be);
}
LOOP_TEST("/blkdebug/once", test_blkdebug_once)

/* The write itself passes the event pwritev. */
static void coroutine_fn test_blkdebug_states(void)
{
    BlockBackend *be =
        open_blkdebug("'set-state': [{'event': 'pwritev', 'state': 1, 'new_state': 2},"
                      "              {'event': 'pwritev', 'state': 2, 'new_state': 3}],"
                      "'inject-error': [{'event': 'pwritev', 'state': 2, 'iotype': 'write'}]");
    uint8_t buf[512] = {0};

    g_assert_cmpint(backend_co_pwrite(be, 0, buf, 512, 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite(be, 0, buf, 512, 0), ==, -EIO);
    g_assert_cmpint(backend_co_pread(be, 0, buf, 512), ==, 0);
    backend_co_free(be);
}
LOOP_TEST("/blkdebug/states", test_blkdebug_states)

/* The largest unit works; the next is refused, not asserted. */
static void coroutine_fn test_blkdebug_align(void)
{
    BlockBackend *be = open_blkdebug("'align': 536870912");
    g_autoptr(GError) err = NULL;
    json_t *json = json_pack("{s:s, s:I, s:{s:s}}", "driver", "blkdebug", "align",
                             (json_int_t)GiB, "image", "driver", "null-co");

    g_assert_cmpuint(backend_node(be)->limits.request_alignment, ==, 512 * MiB);
    backend_co_free(be);
    g_assert_null(node_co_open_json(json, NULL, &err));
    g_assert_cmpstr(err->message, ==, "Cannot meet constraints with align 1073741824");
    json_decref(json);
}
LOOP_TEST("/blkdebug/align", test_blkdebug_align)

static int coroutine_fn write_one(void *opaque)
{
    uint8_t buf[512] = {0};

    return backend_co_pwrite(opaque, 0, buf, 512, 0);
}

static void coroutine_fn test_blkdebug_break(void)
{
    BlockBackend *be = open_blkdebug("'align': 512");
    BlockNode *node = backend_node(be);
    g_autoptr(GError) err = NULL;
    CoGroup g = {0};

    g_assert_true(blkdebug_break(node, "pwritev", "A", &err));
    co_group_spawn(&g, write_one, be);
    g_assert_true(blkdebug_co_wait_break(node, "A", &err));
    g_assert_true(blkdebug_is_stopped(node, "A"));
    g_assert_cmpuint(backend_in_flight(be), ==, 1);
    g_assert_true(blkdebug_resume(node, "A", &err));
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_false(blkdebug_resume(node, "A", &err));
    backend_co_free(be);
}
LOOP_TEST("/blkdebug/break", test_blkdebug_break)

static void coroutine_fn test_blkdebug_config(void)
{
    g_autofree char *path = temp_path("config");
    g_autofree char *option = g_strdup_printf("'config': '%s'", path);
    BlockBackend *be;
    uint8_t buf[512];

    g_file_set_contents(path,
                        "# comment\n[inject-error]\nevent = \"none\"\niotype = \"read\"\n"
                        "errno = \"5\"\nonce = \"on\"\n\n[set-state]\nevent = \"l2_load\"\n"
                        "new_state = \"3\"\n",
                        -1, NULL);
    be = open_blkdebug(option);
    g_assert_cmpint(backend_co_pread(be, 0, buf, 512), ==, -EIO);
    g_assert_cmpint(backend_co_pread(be, 0, buf, 512), ==, 0);
    backend_co_free(be);
    g_unlink(path);
}
LOOP_TEST("/blkdebug/config", test_blkdebug_config)

static void coroutine_fn check_config_fails(const char *text, const char *want)
{
    g_autofree char *path = temp_path("config");
    g_autoptr(GError) err = NULL;

    g_file_set_contents(path, text, -1, NULL);
    g_assert_null(open_node(
        &err, "{'driver': 'blkdebug', 'config': '%s', 'image': {'driver': 'null-co'}}", path));
    g_assert_nonnull(err);
    if (!strstr(err->message, want)) {
        g_error("'%s' does not say '%s'", err->message, want);
    }
    g_unlink(path);
}

static void coroutine_fn test_blkdebug_config_errors(void)
{
    check_config_fails("[inject-error]\nerrno = \"5\"\n", "Missing event name");
    check_config_fails("[inject-error]\nevent = \"nonsense\"\n", "Invalid event name");
    check_config_fails("[nonsense]\n", "config:1: unknown section");
    check_config_fails("event = \"none\"\n", "parse error");
    check_config_fails("[inject-error]\nevent = \"none\"\nerrno = \"0\"\n", "errno is 0");
    check_config_fails("[set-state]\nevent = \"none\"\nerrno = \"1\"\n", "Invalid parameter");
}
LOOP_TEST("/blkdebug/config-errors", test_blkdebug_config_errors)

/* --- blklogwrites --- */

static uint64_t le64_at(const char *data, size_t at)
{
    uint64_t v;

    memcpy(&v, data + at, sizeof(v));
    return GUINT64_FROM_LE(v);
}

static void coroutine_fn log_some_writes(const char *disk, const char *log, const char *more)
{
    g_autoptr(GError) err = NULL;
    uint8_t buf[1024];
    BlockBackend *be = use_node(open_node(&err,
                                          "{'driver': 'blklogwrites', 'discard': 'unmap', %s"
                                          " 'file': {'driver': 'file', 'filename': '%s'},"
                                          " 'log': {'driver': 'file', 'filename': '%s'}}",
                                          more, disk, log));

    memset(buf, 0x11, sizeof(buf));
    g_assert_cmpint(backend_co_pwrite(be, 4096, buf, 1024, 0), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(be, 8192, 4096), ==, 0);
    g_assert_cmpint(backend_co_flush(be), ==, 0);
    backend_co_free(be);
}

static void coroutine_fn test_log_format(void)
{
    g_autofree char *disk = temp_path("disk");
    g_autofree char *log = temp_path("log");
    g_autofree char *data = NULL;
    gsize bytes;

    make_file(disk, 65536);
    make_file(log, 0);
    log_some_writes(disk, log, "");
    log_some_writes(disk, log, "'log-append': true,");
    g_assert_true(g_file_get_contents(log, &data, &bytes, NULL));
    g_assert_cmphex(le64_at(data, 0), ==, UINT64_C(0x6a736677736872));
    g_assert_cmpuint(le64_at(data, 8), ==, 1);
    g_assert_cmpuint(le64_at(data, 16), ==, 8);
    /* twice: a write of two sectors at 8 with its data, a discard, a flush, and the close's flush
     */
    for (size_t at = 512; at <= 512 * 7; at += 512 * 6) {
        g_assert_cmpuint(le64_at(data, at), ==, 8);
        g_assert_cmpuint(le64_at(data, at + 8), ==, 2);
        g_assert_cmpuint(le64_at(data, at + 16), ==, 0);
        g_assert_cmpint(data[at + 512], ==, 0x11);
        g_assert_cmpint(data[at + 512 + 1023], ==, 0x11);
        g_assert_cmpuint(le64_at(data, at + 512 * 3), ==, 16);
        g_assert_cmpuint(le64_at(data, at + 512 * 3 + 8), ==, 8);
        g_assert_cmpuint(le64_at(data, at + 512 * 3 + 16), ==, 4);
        g_assert_cmpuint(le64_at(data, at + 512 * 4 + 16), ==, 1);
        g_assert_cmpuint(le64_at(data, at + 512 * 5 + 16), ==, 1);
    }
    g_unlink(disk);
    g_unlink(log);
}
LOOP_TEST("/blklogwrites/format", test_log_format)

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    drivers_register();
    temp_dir = g_dir_make_tmp("file-driver-XXXXXX", NULL);
    g_assert_nonnull(temp_dir);
    test_register_all();
    status = g_test_run();
    g_rmdir(temp_dir);
    g_free(temp_dir);
    return status;
}
