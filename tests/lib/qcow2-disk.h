/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images on disks in memory, for tests: create, open with a backend,
 * check. Every step fails the test if it fails.
 */
#ifndef TESTS_LIB_QCOW2_DISK_H
#define TESTS_LIB_QCOW2_DISK_H

#include "block/backend.h"
#include "block/driver.h"
#include "memdisk.h"
#include "qapi/drivers.h"
#include "user.h"

extern const BlockDriver driver_qcow2;

static const BlockDriver *const qcow2_test_drivers[] = {&driver_qcow2};

typedef struct Qcow2Disk {
    Memdisk *disk;
    BlockNode *node;  /* the qcow2 node while open */
    BlockBackend *be; /* on it */
} Qcow2Disk;

static inline void coroutine_fn
qcow2_disk_create(Memdisk *disk, BlockdevCreateOptionsQcow2 options)
{
    GError *err = NULL;
    BlockNode *file = memdisk_open(disk, "new-file", &(NodeFlags){0}, &err);
    BlockdevRef ref = {.kind = BLOCKDEV_REF_REFERENCE, .u.reference = (char *)"new-file"};
    BlockdevCreateOptions opts = {.driver = BLOCKDEV_DRIVER_QCOW2, .u.qcow2 = options};

    g_assert_no_error(err);
    opts.u.qcow2.file = &ref;
    (void)driver_qcow2.co_create(&opts, &err);
    g_assert_no_error(err);
    node_co_unref(file);
}

/* "file" is the node name of an open disk; more is further members or "". */
static inline BlockNode *coroutine_fn
qcow2_disk_try_open(Memdisk *disk, const char *name, const char *more, GError **errp)
{
    g_autofree char *file_name = g_strdup_printf("%s-file", name);
    g_autofree char *text = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"file\":\"%s\"%s}", name, file_name, more);
    bool read_only = strstr(more, "\"read-only\":true") != NULL;
    json_t *json = json_loads(text, 0, NULL);
    BlockNode *file, *node;

    g_assert_nonnull(json);
    driver_table_set(qcow2_test_drivers, G_N_ELEMENTS(qcow2_test_drivers));
    file = memdisk_open(disk, file_name, &(NodeFlags){.read_only = read_only, .unmap = true}, errp);
    g_assert_nonnull(file);
    node = node_co_open_json(json, NULL, errp);
    node_co_unref(file); /* the edge holds it */
    json_decref(json);
    return node;
}

static inline Qcow2Disk coroutine_fn
qcow2_disk_open(Memdisk *disk, const char *name, const char *more)
{
    Perm taken = PERM_CONSISTENT_READ;
    Qcow2Disk d = {.disk = disk};
    GError *err = NULL;

    d.node = qcow2_disk_try_open(disk, name, more, &err);
    g_assert_no_error(err);
    if (!d.node->flags.read_only) {
        taken |= PERM_WRITE | PERM_RESIZE;
    }
    d.be = user_co_new(NULL, d.node, taken);
    return d;
}

static inline void coroutine_fn qcow2_disk_close(Qcow2Disk *d)
{
    backend_co_free(d->be);
    node_co_unref(d->node);
    d->be = NULL;
    d->node = NULL;
}

static inline ImageCheck coroutine_fn qcow2_disk_check(Qcow2Disk *d)
{
    ImageCheck check = {0};
    GError *err = NULL;

    d->node->drv->co_check(d->node, &check, false, false, &err);
    g_assert_no_error(err);
    return check;
}

static inline void coroutine_fn qcow2_disk_assert_clean(Qcow2Disk *d)
{
    ImageCheck check = qcow2_disk_check(d);

    g_assert_cmpint(check.check_errors, ==, 0);
    g_assert_cmpint(check.corruptions, ==, 0);
    g_assert_cmpint(check.leaks, ==, 0);
}

#endif
