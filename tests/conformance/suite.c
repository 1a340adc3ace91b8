/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The conformance suite: see suite.h. */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "block/backend.h"
#include "block/graph.h"
#include "user.h"
#include "util/loop.h"
#include "util/prng.h"
#include "vtest.h"

#define DISK_BYTES (3 * MiB + 5 * 512)

/* --- a disk under test --- */

typedef struct Disk {
    const Subject *s;
    char *dir;
    BlockBackend *be;
    uint8_t *model;
    int64_t length;
} Disk;

static const PermPair all_rights = {
    .taken = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
    .shared = PERM_ALL,
};

bool conformance_make_file(const char *dir, const char *name, int64_t length, GError **errp)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && ftruncate(fd, length) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return ok || fail_errno(errp, errno, "Could not make '%s'", path);
}

static json_t *options_of(const Disk *d, bool read_only)
{
    g_auto(GStrv) parts = g_strsplit(d->s->options, "@DIR@", -1);
    g_autofree char *with_dir = g_strjoinv(d->dir, parts);
    g_auto(GStrv) ro_parts = g_strsplit(with_dir, "@RO@", -1);
    g_autofree char *text = g_strjoinv(read_only ? "true" : "false", ro_parts);
    json_error_t err;
    json_t *json;

    g_strdelimit(text, "'", '"'); /* the tables write single quotes */
    json = json_loads(text, 0, &err);

    if (!json) {
        g_error("%s: %s", text, err.text);
    }
    return json;
}

static void coroutine_fn disk_attach(Disk *d, bool read_only)
{
    g_autoptr(GError) err = NULL;
    Perm taken = all_rights.taken;
    BlockNode *node;

    if (d->s->options) {
        json_t *json = options_of(d, read_only);

        node = node_co_open_json(json, NULL, &err);
        json_decref(json);
    } else {
        node = d->s->open(d->length, read_only, &err);
    }
    g_assert_no_error(err);
    if (read_only) {
        taken = PERM_CONSISTENT_READ;
    } else if (d->s->traits & SUBJECT_NO_RESIZE) {
        taken &= ~PERM_RESIZE;
    }
    d->be = user_co_new(NULL, node, taken);
    node_co_unref(node);
    g_assert_cmpint(backend_length(d->be), ==, d->length);
    if (d->s->begin) {
        d->s->begin();
    }
}

static void coroutine_fn disk_detach(Disk *d)
{
    backend_co_free(d->be);
    d->be = NULL;
}

static Disk *coroutine_fn disk_new(const Subject *s)
{
    Disk *d = g_new0(Disk, 1);
    g_autoptr(GError) err = NULL;

    d->s = s;
    d->length = DISK_BYTES;
    d->dir = g_dir_make_tmp("conformance-XXXXXX", &err);
    g_assert_no_error(err);
    if (s->create) {
        s->create(d->dir, d->length, &err);
        g_assert_no_error(err);
    }
    d->model = g_malloc0(d->length);
    disk_attach(d, false);
    return d;
}

static void remove_dir(const char *dir)
{
    GDir *g = g_dir_open(dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(g))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        g_unlink(path);
    }
    g_dir_close(g);
    g_rmdir(dir);
}

static void coroutine_fn disk_free(Disk *d)
{
    disk_detach(d);
    if (d->s->end) {
        d->s->end();
    }
    remove_dir(d->dir);
    g_free(d->dir);
    g_free(d->model);
    g_free(d);
}

/* --- requests, on the disk and on the model --- */

/* @pieces vectors with lengths that do not fit anything. */
static IoVec scatter(struct iovec *v, int pieces, uint8_t *buf, size_t bytes, Prng *p)
{
    int n = 0;

    while (n < pieces - 1 && bytes > 1) {
        size_t part = 1 + prng_below(p, bytes - 1);

        v[n++] = (struct iovec){buf, part};
        buf += part;
        bytes -= part;
    }
    v[n++] = (struct iovec){buf, bytes};
    return iov_of(v, n);
}

static void coroutine_fn do_write(Disk *d, Prng *p, int64_t offset, size_t bytes, ReqFlags flags)
{
    g_autofree uint8_t *buf = g_malloc(bytes + 1);
    struct iovec v[5];
    int r;

    prng_fill(p, buf, bytes);
    r = backend_co_pwritev(d->be, offset, scatter(v, 5, buf, bytes, p), flags);
    g_assert_cmpint(r, ==, 0);
    memcpy(d->model + offset, buf, bytes);
}

static void coroutine_fn do_zero(Disk *d, int64_t offset, int64_t bytes, ReqFlags flags)
{
    int r = backend_co_pwrite_zeroes(d->be, offset, bytes, flags);

    if (r == -ENOTSUP && (flags & REQ_NO_FALLBACK)) {
        return; /* and nothing has changed: later reads check it */
    }
    g_assert_cmpint(r, ==, 0);
    memset(d->model + offset, 0, bytes);
}

static void coroutine_fn check_read(Disk *d, Prng *p, int64_t offset, size_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes + 1);
    struct iovec v[5];
    int r = backend_co_preadv(d->be, offset, scatter(v, 5, buf, bytes, p), 0);

    g_assert_cmpint(r, ==, 0);
    g_assert_cmpmem(buf, bytes, d->model + offset, bytes);
}

/* Discarded bytes read as before or as zeroes, for ever the same: the model learns which. */
static void coroutine_fn do_discard(Disk *d, int64_t offset, int64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes + 1);
    int r = backend_co_pdiscard(d->be, offset, bytes);

    g_assert_cmpint(r, ==, 0);
    r = backend_co_pread(d->be, offset, buf, bytes);
    g_assert_cmpint(r, ==, 0);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_true(buf[i] == 0 || buf[i] == d->model[offset + i]);
    }
    memcpy(d->model + offset, buf, bytes);
}

/* What block status calls zero reads as zero; the runs cover the disk without a gap. */
static void coroutine_fn check_status(Disk *d, int64_t offset, int64_t bytes)
{
    int64_t end = offset + bytes;

    while (offset < end) {
        BlockStatus st;
        int r = backend_co_block_status_above(d->be, NULL, true, offset, end - offset, &st, NULL);

        g_assert_cmpint(r, ==, 0);
        g_assert_cmpint(st.bytes, >, 0);
        g_assert_cmpint(st.bytes, <=, end - offset);
        g_assert_false(st.flags & (STATUS_RAW | STATUS_RECURSE));
        if (st.flags & STATUS_ZERO) {
            for (int64_t i = 0; i < st.bytes; i++) {
                g_assert_cmpint(d->model[offset + i], ==, 0);
            }
        }
        g_assert_true(!(st.flags & STATUS_EOF) || offset + st.bytes == d->length);
        offset += st.bytes;
    }
}

/* A range: mostly small and unaligned, now and then aligned or large. */
static void random_range(Prng *p, int64_t length, int64_t *offset, int64_t *bytes)
{
    static const int64_t sizes[] = {1, 511, 512, 4096, 5000, 65536, 200000};
    int64_t unit = prng_below(p, 3) == 0 ? 512 : 1;

    *bytes = 1 + (int64_t)prng_below(p, sizes[prng_below(p, G_N_ELEMENTS(sizes))]);
    *bytes = MIN(ALIGN_UP(*bytes, unit), length);
    *offset = ALIGN_DOWN((int64_t)prng_below(p, length - *bytes + 1), unit);
}

/* --- the tests --- */

static void coroutine_fn test_model(Disk *d)
{
    Prng p;

    prng_init(&p, 1);
    for (int i = 0; i < 400; i++) {
        int64_t offset, bytes;

        random_range(&p, d->length, &offset, &bytes);
        switch (prng_below(&p, 9)) {
        case 0:
        case 1:
            do_write(d, &p, offset, bytes, 0);
            break;
        case 2:
            do_write(d, &p, offset, bytes, REQ_FUA);
            break;
        case 3:
            do_zero(d, offset, bytes, 0);
            break;
        case 4:
            do_zero(d, offset, bytes, REQ_MAY_UNMAP);
            break;
        case 5:
            do_zero(d, offset, bytes, REQ_NO_FALLBACK);
            break;
        case 6:
            do_discard(d, offset, bytes);
            break;
        case 7:
            check_status(d, offset, bytes);
            break;
        default:
            g_assert_cmpint(backend_co_flush(d->be), ==, 0);
        }
        random_range(&p, d->length, &offset, &bytes);
        check_read(d, &p, offset, bytes);
    }
    check_read(d, &p, 0, d->length);
    check_status(d, 0, d->length);
}

static void coroutine_fn test_bounds(Disk *d)
{
    uint8_t buf[1024] = {0};
    int64_t end = d->length;

    g_assert_cmpint(backend_co_pread(d->be, end - 512, buf, 512), ==, 0);
    g_assert_cmpint(backend_co_pread(d->be, end, buf, 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite(d->be, 0, buf, 0, 0), ==, 0);
    g_assert_cmpint(backend_co_pwrite_zeroes(d->be, 0, 0, 0), ==, 0);
    g_assert_cmpint(backend_co_pdiscard(d->be, end, 0), ==, 0);

    g_assert_cmpint(backend_co_pread(d->be, end - 512, buf, 513), ==, -EIO);
    g_assert_cmpint(backend_co_pread(d->be, -1, buf, 1), ==, -EIO);
    g_assert_cmpint(backend_co_pread(d->be, INT64_MAX, buf, 1), ==, -EIO);
    g_assert_cmpint(backend_co_pwrite(d->be, end - 512, buf, 513, 0), ==, -EIO);
    g_assert_cmpint(backend_co_pwrite(d->be, end, buf, 1, 0), ==, -EIO);
    g_assert_cmpint(backend_co_pwrite_zeroes(d->be, end - 1, 2, 0), ==, -EIO);
    g_assert_cmpint(backend_co_pwrite_zeroes(d->be, 0, -1, 0), ==, -EIO);
    g_assert_cmpint(backend_co_pdiscard(d->be, end - 1, 2), ==, -EIO);
    g_assert_cmpint(backend_length(d->be), ==, end);
}

static void coroutine_fn test_whole_disk_at_once(Disk *d)
{
    Prng p;

    prng_init(&p, 2);
    do_write(d, &p, 0, d->length, 0);
    check_read(d, &p, 0, d->length);
    do_write(d, &p, 1, d->length - 2, 0);
    check_read(d, &p, 0, d->length);
    do_zero(d, 3, d->length - 5, 0);
    check_read(d, &p, 0, d->length);
    do_discard(d, 0, d->length);
    check_read(d, &p, 0, d->length);
}

/* Unaligned neighbours written at once do not lose each other's bytes. */

typedef struct Writer {
    Disk *d;
    int64_t offset;
    size_t bytes;
    uint8_t byte;
    int loops;
} Writer;

static int coroutine_fn writer_run(void *opaque)
{
    Writer *w = opaque;
    g_autofree uint8_t *buf = g_malloc(w->bytes);

    memset(buf, w->byte, w->bytes);
    for (int i = 0; i < w->loops; i++) {
        int r = backend_co_pwrite(w->d->be, w->offset, buf, w->bytes, 0);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void coroutine_fn test_concurrent_neighbours(Disk *d)
{
    Writer w[64];
    CoGroup g = {0};
    Prng p;

    prng_init(&p, 3);
    do_write(d, &p, 0, 64 * 1024, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
        w[i] = (Writer){d, 7 + (int64_t)i * 100, 100, (uint8_t)(i + 1), 5};
        memset(d->model + w[i].offset, w[i].byte, w[i].bytes);
        co_group_spawn(&g, writer_run, &w[i]);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    check_read(d, &p, 0, 64 * 1024);
}

/* Overlapping writes: each byte comes from one of them, the rest is untouched. */
static void coroutine_fn test_concurrent_overlaps(Disk *d)
{
    uint8_t buf[16384];
    Writer w[32];
    CoGroup g = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
        w[i] = (Writer){d, 1000 + (int64_t)i * 200, 3000, (uint8_t)(i + 1), 3};
        co_group_spawn(&g, writer_run, &w[i]);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    g_assert_cmpint(backend_co_pread(d->be, 0, buf, sizeof(buf)), ==, 0);
    for (int64_t at = 0; at < (int64_t)sizeof(buf); at++) {
        bool found = false, covered = false;

        for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
            if (at >= w[i].offset && at < w[i].offset + (int64_t)w[i].bytes) {
                covered = true;
                found |= buf[at] == w[i].byte;
            }
        }
        g_assert_true(covered ? found : buf[at] == 0);
    }
}

/* While a node is drained nothing is in flight and nothing starts. */
static void coroutine_fn test_drain_while_busy(Disk *d)
{
    BlockNode *node = backend_node(d->be);
    CoGroup g = {0};
    Writer w[16];

    for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
        w[i] = (Writer){d, (int64_t)i * 8192 + 3, 4096, (uint8_t)(i + 1), 4};
        memset(d->model + w[i].offset, w[i].byte, w[i].bytes);
        co_group_spawn(&g, writer_run, &w[i]);
    }
    co_reschedule();
    drain_co_begin(node);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpuint(backend_in_flight(d->be), ==, 0);
        co_reschedule();
    }
    drain_end(node);
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    {
        Prng p;

        prng_init(&p, 4);
        check_read(d, &p, 0, 256 * 1024);
    }
}

static void coroutine_fn test_cancel_in_flight(Disk *d)
{
    CoGroup g = {0};
    Writer w[8];

    for (size_t i = 0; i < G_N_ELEMENTS(w); i++) {
        w[i] = (Writer){d, (int64_t)i * 8192, 4096, 1, 2};
        co_group_spawn(&g, writer_run, &w[i]);
    }
    co_reschedule();
    node_cancel_in_flight(backend_node(d->be));
    (void)co_group_wait(&g); /* each has ended, well or not */
    g_assert_cmpuint(backend_in_flight(d->be), ==, 0);
}

static void coroutine_fn test_fence(Disk *d)
{
    uint8_t buf[512] = {1};
    Prng p;

    prng_init(&p, 5);
    do_write(d, &p, 0, 4096, 0);
    backend_fence(d->be, EACCES);
    g_assert_cmpint(backend_co_pwrite(d->be, 0, buf, sizeof(buf), 0), ==, -EACCES);
    g_assert_cmpint(backend_co_pwrite_zeroes(d->be, 0, 512, 0), ==, -EACCES);
    g_assert_cmpint(backend_co_pdiscard(d->be, 0, 512), ==, -EACCES);
    check_read(d, &p, 0, 4096);
    backend_fence(d->be, 0);
    do_write(d, &p, 100, 512, 0);
    check_read(d, &p, 0, 4096);
}

static void coroutine_fn test_writethrough(Disk *d)
{
    Prng p;

    prng_init(&p, 6);
    backend_set_write_cache(d->be, false);
    do_write(d, &p, 100, 5000, 0);
    do_zero(d, 200, 300, 0);
    check_read(d, &p, 0, 8192);
}

static void coroutine_fn test_content_outlives_the_node(Disk *d)
{
    Prng p;

    prng_init(&p, 7);
    do_write(d, &p, 12345, 100000, 0);
    do_zero(d, 20000, 30000, REQ_MAY_UNMAP);
    disk_detach(d);
    disk_attach(d, false);
    check_read(d, &p, 0, d->length);
}

static void coroutine_fn test_read_only(Disk *d)
{
    uint8_t buf[512] = {1};
    Prng p;

    prng_init(&p, 8);
    do_write(d, &p, 100, 5000, 0);
    disk_detach(d);
    disk_attach(d, true);
    g_assert_cmpint(backend_co_pwrite(d->be, 0, buf, sizeof(buf), 0), ==, -EPERM);
    g_assert_cmpint(backend_co_pwrite_zeroes(d->be, 0, 512, 0), ==, -EPERM);
    g_assert_cmpint(backend_co_pdiscard(d->be, 0, 512), ==, -EPERM);
    g_assert_cmpint(backend_co_flush(d->be), ==, 0);
    check_read(d, &p, 0, d->length);
}

static void coroutine_fn set_read_only(Disk *d, bool read_only)
{
    BlockNode *node = backend_node(d->be);
    NodeFlags flags = node->flags;
    g_autoptr(GError) err = NULL;
    PermPair perm = all_rights;
    GraphTx *tx;

    if (read_only) {
        perm.taken = PERM_CONSISTENT_READ;
        backend_co_set_perm(d->be, perm, &err);
        g_assert_no_error(err);
    }
    flags.read_only = read_only;
    tx = graph_tx_new();
    graph_tx_set_flags(tx, node, &flags);
    graph_tx_co_commit(tx, &err);
    g_assert_no_error(err);
    if (!read_only) {
        backend_co_set_perm(d->be, perm, &err);
        g_assert_no_error(err);
    }
}

static void coroutine_fn test_reopen(Disk *d)
{
    uint8_t buf[512] = {1};
    Prng p;

    prng_init(&p, 9);
    do_write(d, &p, 100, 5000, 0);
    set_read_only(d, true);
    g_assert_cmpint(backend_co_pwrite(d->be, 0, buf, sizeof(buf), 0), ==, -EPERM);
    check_read(d, &p, 0, d->length);
    set_read_only(d, false);
    do_write(d, &p, 4000, 5000, 0);
    check_read(d, &p, 0, d->length);
}

static void coroutine_fn resize(Disk *d, int64_t length)
{
    g_autoptr(GError) err = NULL;

    backend_co_truncate(d->be, length, true, BLOCK_PREALLOC_OFF, 0, &err);
    g_assert_no_error(err);
    g_assert_cmpint(backend_length(d->be), ==, length);
    d->model = g_realloc(d->model, length);
    if (length > d->length) {
        memset(d->model + d->length, 0, length - d->length);
    }
    d->length = length;
}

static void coroutine_fn test_resize(Disk *d)
{
    Prng p;

    prng_init(&p, 10);
    do_write(d, &p, 0, d->length, 0);
    resize(d, d->length + 1 * MiB);
    check_read(d, &p, 0, d->length);
    do_write(d, &p, d->length - 600, 600, 0);
    resize(d, 1 * MiB);
    check_read(d, &p, 0, d->length);
    resize(d, 2 * MiB);
    check_read(d, &p, 0, d->length); /* what was cut off does not come back */
    check_status(d, 0, d->length);
}

/* --- registering --- */

typedef void DiskTestFn(Disk *d);

static const struct {
    const char *name;
    DiskTestFn *fn;
    unsigned not_for;
} tests[] = {
    {"model", test_model, 0},
    {"bounds", test_bounds, 0},
    {"whole-disk-at-once", test_whole_disk_at_once, 0},
    {"concurrent-neighbours", test_concurrent_neighbours, 0},
    {"concurrent-overlaps", test_concurrent_overlaps, 0},
    {"drain-while-busy", test_drain_while_busy, 0},
    {"cancel-in-flight", test_cancel_in_flight, 0},
    {"fence", test_fence, 0},
    {"writethrough", test_writethrough, 0},
    {"outlives-the-node", test_content_outlives_the_node, SUBJECT_FORGETS},
    {"read-only", test_read_only, SUBJECT_FORGETS},
    {"reopen", test_reopen, SUBJECT_NO_REOPEN},
    {"resize", test_resize, SUBJECT_NO_RESIZE},
};

typedef struct Case {
    const Subject *s;
    DiskTestFn *fn;
} Case;

static void coroutine_fn run_case(void *opaque)
{
    const Case *c = opaque;
    Disk *d = disk_new(c->s);

    c->fn(d);
    disk_free(d);
    g_assert_null(node_first());
}

static void run_on_loop(gconstpointer opaque)
{
    g_autoptr(GError) err = NULL;
    Loop *loop = loop_new(LOOP_POLLER_AUTO, &err);

    g_assert_no_error(err);
    loop_run_coroutine(loop, run_case, (void *)opaque);
    while (loop_step(loop, false)) {
        /* what the case closed gets to end */
    }
    loop_free(loop);
}

void conformance_add(const Subject *s)
{
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/conformance/%s/%s", s->name, tests[i].name);
        Case *c = g_new(Case, 1);

        *c = (Case){s, tests[i].fn};
        if (tests[i].not_for & s->traits) {
            g_free(c);
        } else {
            g_test_add_data_func_full(path, c, run_on_loop, g_free);
        }
    }
}
