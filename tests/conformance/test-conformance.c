/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every driver against the conformance suite: a line each. */
#include <glib.h>

#include "block/driver.h"
#include "block/drivers.h"
#include "block/export.h"
#include "block/replication.h"
#include "memdisk.h"
#include "replworld.h"
#include "suite.h"

static bool coroutine_fn make_file(const char *dir, int64_t length, GError **errp)
{
    return conformance_make_file(dir, "disk", length, errp);
}

/* A window in the middle of a longer file. */
static bool coroutine_fn make_long_file(const char *dir, int64_t length, GError **errp)
{
    return conformance_make_file(dir, "disk", length + 2048, errp);
}

static bool coroutine_fn make_file_and_log(const char *dir, int64_t length, GError **errp)
{
    return make_file(dir, length, errp) && conformance_make_file(dir, "log", 0, errp);
}

static bool coroutine_fn make_two_files(const char *dir, int64_t length, GError **errp)
{
    return make_file(dir, length, errp) && conformance_make_file(dir, "disk2", length, errp);
}

/* --- qcow2 --- */

/* @o: what differs from the defaults; size and file are filled in. */
static bool coroutine_fn
make_qcow2(const char *dir, int64_t length, BlockdevCreateOptionsQcow2 o, GError **errp)
{
    g_autofree char *path = g_build_filename(dir, "disk", NULL);
    BlockdevOptions file = {.driver = BLOCKDEV_DRIVER_FILE, .u.file.filename = path};
    BlockdevRef ref = {.kind = BLOCKDEV_REF_DEFINITION, .u.definition = &file};
    BlockdevCreateOptions create = {.driver = BLOCKDEV_DRIVER_QCOW2};

    o.file = &ref;
    o.size = (uint64_t)length;
    create.u.qcow2 = o;
    return conformance_make_file(dir, "disk", 0, errp) &&
           driver_find("qcow2")->co_create(&create, errp);
}

static bool coroutine_fn make_qcow2_default(const char *dir, int64_t length, GError **errp)
{
    return make_qcow2(dir, length, (BlockdevCreateOptionsQcow2){0}, errp);
}

static bool coroutine_fn make_qcow2_small(const char *dir, int64_t length, GError **errp)
{
    return make_qcow2(dir, length,
                      (BlockdevCreateOptionsQcow2){
                          .has_cluster_size = true,
                          .cluster_size = 512,
                          .has_refcount_bits = true,
                          .refcount_bits = 1,
                      },
                      errp);
}

static bool coroutine_fn make_qcow2_v2(const char *dir, int64_t length, GError **errp)
{
    return make_qcow2(dir, length,
                      (BlockdevCreateOptionsQcow2){
                          .has_version = true,
                          .version = BLOCKDEV_QCOW2_VERSION_V2,
                          .has_cluster_size = true,
                          .cluster_size = 4096,
                      },
                      errp);
}

/* --- disks in memory --- */

static BlockNode *coroutine_fn open_memdisk(const MemdiskOptions *o, bool read_only, GError **errp)
{
    NodeFlags flags = {.read_only = read_only, .unmap = true};
    Memdisk *d = memdisk_new(o);
    BlockNode *node = memdisk_open(d, NULL, &flags, errp);

    memdisk_free(d);
    return node;
}

static BlockNode *coroutine_fn open_slow(int64_t length, bool read_only, GError **errp)
{
    MemdiskOptions o = {.length = length, .latency_ns = 1000, .jitter_ns = 20000, .seed = 1};

    return open_memdisk(&o, read_only, errp);
}

static BlockNode *coroutine_fn open_512(int64_t length, bool read_only, GError **errp)
{
    MemdiskOptions o = {
        .length = length,
        .alignment = 512,
        .limits = {.max_transfer = 64 * KiB},
        .jitter_ns = 20000,
        .no_zeroes = true,
    };

    return open_memdisk(&o, read_only, errp);
}

/* The length is no multiple of the alignment. */
static BlockNode *coroutine_fn open_4096(int64_t length, bool read_only, GError **errp)
{
    MemdiskOptions o = {
        .length = length,
        .alignment = 4096,
        .limits = {.pwrite_zeroes_alignment = 65536,
                   .max_pwrite_zeroes = 131072,
                   .pdiscard_alignment = 16384,
                   .max_pdiscard = 32768},
        .write_flags = REQ_FUA,
    };

    return open_memdisk(&o, read_only, errp);
}

/* --- a disk that this process serves, and uses through its own socket --- */

static bool coroutine_fn make_nbd(const char *dir, int64_t length, GError **errp)
{
    g_autofree char *path = g_build_filename(dir, "disk", NULL);
    g_autofree char *socket = g_build_filename(dir, "nbd", NULL);
    SocketAddress addr = {.type = SOCKET_ADDRESS_TYPE_UNIX, .u.q_unix.path = socket};
    NbdServerOptions server = {.addr = &addr};
    BlockExportOptions export = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = (char *)"e0",
        .node_name = (char *)"served",
        .has_writable = true,
        .writable = true,
    };
    BlockNode *node;
    bool ok;

    if (!make_file(dir, length, errp)) {
        return false;
    }
    node = world_co_open("{\"driver\": \"file\", \"filename\": \"%s\", \"node-name\": \"served\","
                         " \"discard\": \"unmap\"}", path);
    ok = export_nbd_co_start(&server, errp) && export_co_add(&export, errp);
    node_co_unref(node);
    return ok;
}

static void coroutine_fn stop_nbd(void)
{
    export_co_del_all();
}

/* --- replication --- */

static void coroutine_fn start_primary(void)
{
    g_autoptr(GError) err = NULL;

    replication_co_start_all(NULL, REPLICATION_MODE_PRIMARY, &err);
    g_assert_no_error(err);
}

static ReplWorld *secondary;

/* What its guest sees is the disk as it was, whatever the primary has written since. */
static BlockNode *coroutine_fn open_secondary(int64_t length, bool read_only, GError **errp)
{
    secondary = world_co_new("s", length, 0);
    world_co_start(secondary);
    world_co_peer_write(secondary, 0, length / 2, 0xaa);
    return node_ref(secondary->repl);
}

static void coroutine_fn end_secondary(void)
{
    g_autoptr(GError) err = NULL;

    replication_co_stop_all(NULL, false, &err);
    g_assert_no_error(err);
    world_co_free(secondary);
}

#define FILE_NODE "{'driver': 'file', 'filename': '@DIR@/disk'}"
#define COMMON    "'read-only': @RO@, 'discard': 'unmap'"

#define QCOW2 "{'driver': 'qcow2', 'file': " FILE_NODE ", " COMMON "}"

static const Subject subjects[] = {
    {"memdisk", NULL, NULL, open_slow, SUBJECT_FORGETS | SUBJECT_NO_REOPEN},
    {"memdisk-512", NULL, NULL, open_512, SUBJECT_FORGETS | SUBJECT_NO_REOPEN},
    {"memdisk-4096", NULL, NULL, open_4096, SUBJECT_FORGETS | SUBJECT_NO_REOPEN},
    {"file", make_file, "{'driver': 'file', 'filename': '@DIR@/disk', " COMMON "}", NULL, 0},
    {"file-threads", make_file,
     "{'driver': 'file', 'filename': '@DIR@/disk', 'aio': 'threads', " COMMON "}", NULL, 0},
    {"file-direct", make_file,
     "{'driver': 'file', 'filename': '@DIR@/disk', 'cache': {'direct': true}, " COMMON "}", NULL,
     0},
    {"file-native", make_file,
     "{'driver': 'file', 'filename': '@DIR@/disk', 'cache': {'direct': true},"
     " 'aio': 'native', " COMMON "}",
     NULL, 0},
    {"file-auto-read-only", make_file,
     "{'driver': 'file', 'filename': '@DIR@/disk', 'auto-read-only': true, " COMMON "}", NULL,
     SUBJECT_NO_REOPEN},
    {"file-detect-zeroes", make_file,
     "{'driver': 'file', 'filename': '@DIR@/disk', 'detect-zeroes': 'unmap', " COMMON "}", NULL, 0},
    {"raw", make_file, "{'driver': 'raw', 'file': " FILE_NODE ", " COMMON "}", NULL, 0},
    {"raw-window", make_long_file,
     "{'driver': 'raw', 'offset': 1024, 'size': 3148288, 'file': " FILE_NODE ", " COMMON "}", NULL,
     SUBJECT_NO_RESIZE},
    {"blkdebug", make_file,
     "{'driver': 'blkdebug', 'align': 1024, 'max-transfer': 8192, 'image': " FILE_NODE ", " COMMON
     "}",
     NULL, SUBJECT_NO_REOPEN},
    {"blklogwrites", make_file_and_log,
     "{'driver': 'blklogwrites', 'file': " FILE_NODE ","
     " 'log': {'driver': 'file', 'filename': '@DIR@/log'}, " COMMON "}",
     NULL, SUBJECT_NO_REOPEN | SUBJECT_NO_RESIZE},
    {"qcow2", make_qcow2_default, QCOW2, NULL, 0},
    {"qcow2-512", make_qcow2_small, QCOW2, NULL, 0},
    {"qcow2-v2", make_qcow2_v2, QCOW2, NULL, 0},
    {"qcow2-direct", make_qcow2_default,
     "{'driver': 'qcow2', 'cache': {'direct': true}, 'file': " FILE_NODE ", " COMMON "}", NULL, 0},
    {"quorum", make_two_files,
     "{'driver': 'quorum', 'vote-threshold': 2, 'children': [" FILE_NODE ","
     " {'driver': 'file', 'filename': '@DIR@/disk2'}], " COMMON "}",
     NULL, SUBJECT_NO_REOPEN | SUBJECT_NO_RESIZE},
    {"nbd", make_nbd,
     "{'driver': 'nbd', 'server': {'type': 'unix', 'path': '@DIR@/nbd'}, 'export': 'served',"
     " 'reconnect-delay': 10, " COMMON "}",
     NULL, SUBJECT_NO_RESIZE, NULL, stop_nbd},
    {"copy-before-write", make_two_files,
     "{'driver': 'copy-before-write', 'file': " FILE_NODE ","
     " 'target': {'driver': 'file', 'filename': '@DIR@/disk2', 'discard': 'unmap',"
     " 'read-only': false}, " COMMON "}",
     NULL, SUBJECT_NO_REOPEN | SUBJECT_NO_RESIZE},
    {"replication-primary", make_two_files,
     "{'driver': 'quorum', 'read-pattern': 'fifo', 'vote-threshold': 1, 'children': [" FILE_NODE
     ", {'driver': 'replication', 'mode': 'primary', 'file':"
     " {'driver': 'file', 'filename': '@DIR@/disk2'}}], " COMMON "}",
     NULL, SUBJECT_NO_REOPEN | SUBJECT_NO_RESIZE, start_primary},
    {"replication-secondary", NULL, NULL, open_secondary,
     SUBJECT_FORGETS | SUBJECT_NO_REOPEN | SUBJECT_NO_RESIZE, NULL, end_secondary},
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    drivers_register();
    for (size_t i = 0; i < G_N_ELEMENTS(subjects); i++) {
        conformance_add(&subjects[i]);
    }
    return g_test_run();
}
