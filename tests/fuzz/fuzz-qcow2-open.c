/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a qcow2 image: open it, read, check; then, on the same bytes
 * anew, write, discard, zero, empty, repair. Nothing may crash or hang, and
 * nothing may be written far behind the end of the file.
 */
#include "qcow2-disk.h"
#include "user.h"
#include "vtest.h"

#define INPUT_MAX (256 * KiB)
#define PIECE     5000

typedef struct Input {
    const uint8_t *data;
    size_t bytes;
} Input;

static Memdisk *disk_of(const Input *in)
{
    Memdisk *disk = memdisk_new(&(MemdiskOptions){.length = (int64_t)in->bytes});

    memcpy(memdisk_data(disk), in->data, in->bytes);
    return disk;
}

static bool coroutine_fn open_input(Memdisk *disk, const char *more, Qcow2Disk *ret)
{
    Perm taken = PERM_CONSISTENT_READ;
    GError *err = NULL;

    *ret = (Qcow2Disk){.disk = disk, .node = qcow2_disk_try_open(disk, "img", more, &err)};
    if (!ret->node) {
        g_assert_nonnull(err);
        g_clear_error(&err);
        return false;
    }
    if (!ret->node->flags.read_only) {
        taken |= PERM_WRITE | PERM_RESIZE;
    }
    ret->be = user_co_new(NULL, ret->node, taken);
    return true;
}

/* Places worth a visit: the start, the end, and around powers of two between. */
static void coroutine_fn everywhere(Qcow2Disk *d, bool write)
{
    int64_t length = backend_length(d->be);
    uint8_t *buf = g_malloc0(PIECE);

    for (int64_t at = 0; at < length; at = at ? at * 4 : 300) {
        size_t n = MIN(PIECE, length - at);

        (void)(write ? backend_co_pwrite(d->be, at, buf, n, 0)
                     : backend_co_pread(d->be, at, buf, n));
    }
    if (length >= PIECE) {
        (void)(write ? backend_co_pwrite(d->be, length - PIECE, buf, PIECE, 0)
                     : backend_co_pread(d->be, length - PIECE, buf, PIECE));
    }
    g_free(buf);
}

static void coroutine_fn check(Qcow2Disk *d, bool fix)
{
    ImageCheck c = {0};

    (void)d->node->drv->co_check(d->node, &c, fix, fix, NULL);
}

static void coroutine_fn look(const Input *in)
{
    Memdisk *disk = disk_of(in);
    Qcow2Disk d;

    if (open_input(disk, ",\"read-only\":true,\"backing\":null", &d)) {
        BlockStatus st;

        everywhere(&d, false);
        check(&d, false);
        (void)node_co_block_status(d.node, true, 0, backend_length(d.be), &st);
        qcow2_disk_close(&d);
    }
    memdisk_free(disk);
}

static void coroutine_fn use(const Input *in)
{
    Memdisk *disk = disk_of(in);
    Qcow2Disk d;

    if (open_input(disk, ",\"discard\":\"unmap\",\"backing\":null", &d)) {
        int64_t some = MIN(backend_length(d.be), MiB);

        everywhere(&d, true);
        (void)backend_co_pdiscard(d.be, 0, some / 2);
        (void)backend_co_pwrite_zeroes(d.be, some / 4, some / 2, 0);
        (void)backend_co_flush(d.be);
        everywhere(&d, false);
        (void)backend_co_make_empty(d.be);
        everywhere(&d, true);
        check(&d, true);
        qcow2_disk_close(&d);
    }
    memdisk_free(disk);
}

static void coroutine_fn run(void *opaque)
{
    look(opaque);
    use(opaque);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Input in = {data, MIN(bytes, INPUT_MAX)};

    vtest_run(run, &in, 0);
    return 0;
}
