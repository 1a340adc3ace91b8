/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2-cmd: do things to a qcow2 file, for the interop tests and by hand.
 *
 *   qcow2-cmd FILE create SIZE CLUSTER v2|v3 [BACKING FORMAT]
 *   qcow2-cmd FILE [OPTION=VALUE,...] COMMAND...
 *
 * Commands, in order: write OFF LEN BYTE, read OFF LEN BYTE (must match), zero
 * OFF LEN, discard OFF LEN, flush, empty, time-empty (prints how long it took),
 * truncate SIZE, check, repair, and random SEED COUNT (4 KiB writes all over
 * the disk). Exit 1 on any failure.
 */
#include <stdio.h>
#include <stdlib.h>

#include "block/backend.h"
#include "block/driver.h"
#include "block/drivers.h"
#include "qapi/types.h"
#include "util/buf.h"
#include "util/loop.h"
#include "util/prng.h"

typedef struct Session {
    char **arg; /* what is left */
    const char *file;
    BlockNode *node;
    BlockBackend *be;
    bool failed;
} Session;

static const char *next_word(Session *s)
{
    if (!*s->arg) {
        fprintf(stderr, "qcow2-cmd: an argument is missing\n");
        exit(1);
    }
    return *s->arg++;
}

static int64_t next_number(Session *s)
{
    return (int64_t)g_ascii_strtoull(next_word(s), NULL, 0);
}

static void complain(Session *s, const char *what, int r, GError *err)
{
    s->failed = true;
    fprintf(stderr, "qcow2-cmd: %s: %s\n", what, err ? err->message : strerror(-r));
    g_clear_error(&err);
}

/* --- create --- */

static BlockdevOptions *file_options(const char *filename)
{
    BlockdevOptions *o = g_new0(BlockdevOptions, 1);

    o->driver = BLOCKDEV_DRIVER_FILE;
    o->u.file.filename = g_strdup(filename);
    return o;
}

static void coroutine_fn create(Session *s)
{
    BlockdevRef ref = {.kind = BLOCKDEV_REF_DEFINITION};
    BlockdevCreateOptions o = {.driver = BLOCKDEV_DRIVER_QCOW2};
    BlockdevCreateOptionsQcow2 *q = &o.u.qcow2;
    GError *err = NULL;

    g_file_set_contents(s->file, "", 0, NULL);
    ref.u.definition = file_options(s->file);
    q->file = &ref;
    q->size = next_number(s);
    q->has_cluster_size = true;
    q->cluster_size = next_number(s);
    q->has_version = true;
    q->version = strcmp(next_word(s), "v2") ? BLOCKDEV_QCOW2_VERSION_V3 : BLOCKDEV_QCOW2_VERSION_V2;
    if (*s->arg) {
        q->backing_file = (char *)next_word(s);
        q->has_backing_fmt = true;
        q->backing_fmt = strcmp(next_word(s), "raw") ? BLOCKDEV_DRIVER_QCOW2 : BLOCKDEV_DRIVER_RAW;
    }
    if (!driver_find("qcow2")->co_create(&o, &err)) {
        complain(s, "create", 0, err);
    }
    g_free(ref.u.definition->u.file.filename);
    g_free(ref.u.definition);
}

/* --- commands on an open image --- */

static void coroutine_fn do_write(Session *s)
{
    int64_t offset = next_number(s), bytes = next_number(s);
    int byte = (int)next_number(s);
    uint8_t *buf = buf_alloc(bytes);
    int r;

    memset(buf, byte, bytes);
    r = backend_co_pwrite(s->be, offset, buf, bytes, 0);
    if (r < 0) {
        complain(s, "write", r, NULL);
    }
    buf_free(buf, bytes);
}

static void coroutine_fn do_read(Session *s)
{
    int64_t offset = next_number(s), bytes = next_number(s);
    uint8_t byte = (uint8_t)next_number(s);
    uint8_t *buf = buf_alloc(bytes);
    int r = backend_co_pread(s->be, offset, buf, bytes);

    if (r < 0) {
        complain(s, "read", r, NULL);
    }
    for (int64_t i = 0; i < bytes && r == 0; i++) {
        if (buf[i] != byte) {
            fprintf(stderr, "qcow2-cmd: read %#x at %lld, want %#x\n", buf[i],
                    (long long)(offset + i), byte);
            s->failed = true;
            break;
        }
    }
    buf_free(buf, bytes);
}

static void coroutine_fn do_random(Session *s)
{
    uint64_t blocks = backend_length(s->be) / 4096;
    uint8_t *buf = buf_alloc(4096);
    int64_t count;
    Prng prng;
    int r = 0;

    prng_init(&prng, next_number(s));
    for (count = next_number(s); count > 0 && r == 0; count--) {
        uint64_t block = prng_below(&prng, blocks);

        prng_fill(&prng, buf, 4096);
        r = backend_co_pwrite(s->be, block * 4096, buf, 4096, 0);
    }
    if (r < 0) {
        complain(s, "random", r, NULL);
    }
    buf_free(buf, 4096);
}

static void coroutine_fn do_check(Session *s, bool fix)
{
    ImageCheck check = {0};
    GError *err = NULL;

    if (!s->node->drv->co_check(s->node, &check, fix, fix, &err)) {
        complain(s, "check", 0, err);
        return;
    }
    printf("check: %lld corruptions, %lld leaks, %lld fixed\n", (long long)check.corruptions,
           (long long)check.leaks, (long long)(check.corruptions_fixed + check.leaks_fixed));
    s->failed |= check.check_errors || check.corruptions || check.leaks;
}

static int coroutine_fn one_command(Session *s, const char *word)
{
    if (strcmp(word, "write") == 0) {
        do_write(s);
    } else if (strcmp(word, "read") == 0) {
        do_read(s);
    } else if (strcmp(word, "random") == 0) {
        do_random(s);
    } else if (strcmp(word, "check") == 0) {
        do_check(s, false);
    } else if (strcmp(word, "repair") == 0) {
        do_check(s, true);
    } else if (strcmp(word, "zero") == 0) {
        int64_t offset = next_number(s);

        return backend_co_pwrite_zeroes(s->be, offset, next_number(s), REQ_MAY_UNMAP);
    } else if (strcmp(word, "discard") == 0) {
        int64_t offset = next_number(s);

        return backend_co_pdiscard(s->be, offset, next_number(s));
    } else if (strcmp(word, "flush") == 0) {
        return backend_co_flush(s->be);
    } else if (strcmp(word, "empty") == 0) {
        return backend_co_make_empty(s->be);
    } else if (strcmp(word, "time-empty") == 0) {
        int64_t start = loop_now_ns();
        int r = backend_co_make_empty(s->be);

        printf("%.1f us\n", (double)(loop_now_ns() - start) / 1000);
        return r;
    } else if (strcmp(word, "truncate") == 0) {
        return backend_co_truncate(s->be, next_number(s), true, BLOCK_PREALLOC_OFF, 0, NULL) ? 0
                                                                                             : -EIO;
    } else {
        fprintf(stderr, "qcow2-cmd: unknown command '%s'\n", word);
        s->failed = true;
    }
    return 0;
}

static bool coroutine_fn open_image(Session *s)
{
    PermPair perm = {PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE, PERM_ALL};
    json_t *opts = json_pack("{s:s, s:s, s:s}", "driver", "qcow2", "file.driver", "file",
                             "file.filename", s->file);
    GError *err = NULL;

    json_object_set_new(opts, "discard", json_string("unmap"));
    while (*s->arg && strchr(*s->arg, '=')) {
        g_auto(GStrv) kv = g_strsplit(*s->arg++, "=", 2);

        json_object_set_new(opts, kv[0], json_string(kv[1]));
        if (strcmp(kv[0], "read-only") == 0) {
            perm.taken = PERM_CONSISTENT_READ;
        }
    }
    s->node = node_co_open_json(opts, NULL, &err);
    json_decref(opts);
    if (s->node) {
        s->be = backend_new(NULL, perm, NULL, NULL, &err);
    }
    if (!s->node || !backend_co_insert(s->be, s->node, &err)) {
        complain(s, "open", 0, err);
        return false;
    }
    return true;
}

static void coroutine_fn run(void *opaque)
{
    Session *s = opaque;

    if (*s->arg && strcmp(*s->arg, "create") == 0) {
        s->arg++;
        create(s);
        return;
    }
    if (open_image(s)) {
        while (*s->arg) {
            const char *word = next_word(s);
            int r = one_command(s, word);

            if (r < 0) {
                complain(s, word, r, NULL);
            }
        }
    }
    if (s->be) {
        backend_co_free(s->be);
    }
    node_co_unref(s->node);
}

int main(int argc, char **argv)
{
    Session s = {.file = argv[1], .arg = argv + 2};
    GError *err = NULL;
    Loop *loop;

    if (argc < 2) {
        fprintf(stderr, "usage: qcow2-cmd FILE COMMAND...\n");
        return 1;
    }
    drivers_register();
    loop = loop_new(LOOP_POLLER_AUTO, &err);
    if (!loop) {
        fprintf(stderr, "qcow2-cmd: %s\n", err->message);
        return 1;
    }
    loop_run_coroutine(loop, run, &s);
    loop_free(loop);
    return s.failed;
}
