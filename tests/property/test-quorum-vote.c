/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quorum with reads by vote, against a model of every child.
 *
 * The model knows what each child holds and which requests it will refuse, so
 * it knows the guest's answer, each event, and what rewrite-corrupted mends.
 * A second property lets readers meet writers and children that come and go:
 * healthy children are never taken for bad ones.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/backend.h"
#include "block/driver.h"
#include "memdisk.h"
#include "qapi/event-sink.h"
#include "replworld.h"
#include "user.h"
#include "util/sync.h"
#include "vtest.h"

#define LENGTH       (32 * KiB)
#define CHILDREN_MAX 5

typedef struct Member {
    Memdisk *disk;
    char node[16];
    char edge[16];
    uint8_t model[LENGTH];
    int read_err, write_err, flush_err; /* of its next requests; positive */
} Member;

typedef struct World {
    Choices *c;
    BlockNode *quorum;
    BlockBackend *guest;
    Member *member[CHILDREN_MAX];
    size_t n, threshold;
    bool rewrite;
    unsigned names, edges; /* used up */
    GPtrArray *heard, *expected;
} World;

/* --- events, as lines --- */

static void
hear(const char *name, json_t *data, void *opaque)
{
    World *w = opaque;
    const char *type = json_string_value(json_object_get(data, "type"));
    const char *node = json_string_value(json_object_get(data, "node-name"));
    const char *error = json_string_value(json_object_get(data, "error"));
    const char *reference = json_string_value(json_object_get(data, "reference"));

    g_ptr_array_add(w->heard,
                    g_strdup_printf("%s %s %s %s +%d %s", name, type ? type : "-",
                                    node ? node : reference,
                                    json_object_get(data, "sectors-count") ? "at" : "-",
                                    (int)json_integer_value(json_object_get(data, "sectors-count")),
                                    error ? error : "-"));
}

static int
sectors(int64_t offset, int64_t bytes)
{
    return (int)((offset + bytes + 511) / 512 - offset / 512);
}

static void
expect_bad(World *w, const char *type, const Member *m, int count, int err)
{
    g_ptr_array_add(w->expected, g_strdup_printf("QUORUM_REPORT_BAD %s %s at +%d %s", type, m->node,
                                                 count, err ? strerror(err) : "-"));
}

static void
expect_failure(World *w, int count)
{
    g_ptr_array_add(w->expected, g_strdup_printf("QUORUM_FAILURE - q at +%d -", count));
}

static int
compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
check_events(World *w)
{
    g_ptr_array_sort(w->heard, compare_lines);
    g_ptr_array_sort(w->expected, compare_lines);
    for (guint i = 0; i < MAX(w->heard->len, w->expected->len); i++) {
        const char *got = i < w->heard->len ? g_ptr_array_index(w->heard, i) : "nothing";
        const char *want = i < w->expected->len ? g_ptr_array_index(w->expected, i) : "nothing";

        g_assert_cmpstr(got, ==, want);
    }
    g_ptr_array_set_size(w->heard, 0);
    g_ptr_array_set_size(w->expected, 0);
}

/* --- the world --- */

static BlockNode *coroutine_fn
member_new(World *w, Member **ret)
{
    Member *m = g_new0(Member, 1);
    BlockNode *node;

    m->disk = memdisk_new(&(MemdiskOptions){.length = LENGTH, .seed = w->names,
                                            .jitter_ns = choose(w->c) * 2 * NS_PER_MS});
    g_snprintf(m->node, sizeof(m->node), "n%u", w->names++);
    node = memdisk_open(m->disk, m->node, NULL, NULL);
    *ret = m;
    return node;
}

static void
member_free(Member *m)
{
    memdisk_free(m->disk);
    g_free(m);
}

static void coroutine_fn
world_open(World *w)
{
    g_autoptr(GString) children = g_string_new(NULL);
    BlockNode *nodes[CHILDREN_MAX];

    w->heard = g_ptr_array_new_with_free_func(g_free);
    w->expected = g_ptr_array_new_with_free_func(g_free);
    w->n = choose_in(w->c, 1, CHILDREN_MAX);
    w->threshold = choose_in(w->c, 1, w->n);
    w->rewrite = choose(w->c);
    for (size_t i = 0; i < w->n; i++) {
        nodes[i] = member_new(w, &w->member[i]);
        g_snprintf(w->member[i]->edge, sizeof(w->member[i]->edge), "children.%u", w->edges++);
        g_string_append_printf(children, "%s\"%s\"", i ? "," : "", w->member[i]->node);
    }
    w->quorum = world_co_open("{\"driver\":\"quorum\",\"node-name\":\"q\",\"vote-threshold\":%zu,"
                              "\"rewrite-corrupted\":%s,\"discard\":\"unmap\",\"children\":[%s]}",
                              w->threshold, w->rewrite ? "true" : "false", children->str);
    for (size_t i = 0; i < w->n; i++) {
        node_co_unref(nodes[i]);
    }
    w->guest = user_co_new(NULL, w->quorum, PERM_CONSISTENT_READ | PERM_WRITE);
    event_sink_add(hear, w);
}

static void coroutine_fn
world_close(World *w)
{
    event_sink_remove(hear, w);
    backend_co_free(w->guest);
    node_co_unref(w->quorum);
    for (size_t i = 0; i < w->n; i++) {
        member_free(w->member[i]);
    }
    g_ptr_array_unref(w->heard);
    g_ptr_array_unref(w->expected);
}

/* --- what the model answers --- */

/* Is @r the errno of as many as any other in @errs? */
static bool
is_majority(const int *errs, size_t n, int r)
{
    size_t best = 0, ours = 0;

    for (size_t i = 0; i < n; i++) {
        size_t votes = 0;

        for (size_t j = 0; errs[i] && j < n; j++) {
            votes += errs[j] == errs[i];
        }
        best = MAX(best, votes);
        ours = errs[i] == -r ? votes : ours;
    }
    return ours > 0 && ours == best;
}

static void
check_change(World *w, const char *type, int count, const int *errs, int r)
{
    size_t good = 0;

    for (size_t i = 0; i < w->n; i++) {
        good += errs[i] == 0;
        if (errs[i]) {
            expect_bad(w, type, w->member[i], count, errs[i]);
        }
    }
    if (good >= w->threshold) {
        g_assert_cmpint(r, ==, 0);
    } else {
        expect_failure(w, count);
        g_assert_true(is_majority(errs, w->n, r));
    }
    check_events(w);
}

static size_t
votes_for(const World *w, const int *errs, int64_t offset, const uint8_t *data, int64_t bytes)
{
    size_t votes = 0;

    for (size_t i = 0; i < w->n; i++) {
        votes += !errs[i] && memcmp(w->member[i]->model + offset, data, bytes) == 0;
    }
    return votes;
}

static void
check_read(World *w, int64_t offset, const uint8_t *got, int64_t bytes, const int *errs, int r)
{
    int count = sectors(offset, bytes);
    size_t good = 0, best = 0;

    for (size_t i = 0; i < w->n; i++) {
        if (errs[i]) {
            expect_bad(w, "read", w->member[i], count, errs[i]);
            continue;
        }
        good++;
        best = MAX(best, votes_for(w, errs, offset, w->member[i]->model + offset, bytes));
    }
    if (good < w->threshold) {
        expect_failure(w, count);
        g_assert_true(is_majority(errs, w->n, r));
    } else if (best < w->threshold) {
        expect_failure(w, count);
        g_assert_cmpint(r, ==, -EIO);
    } else {
        g_assert_cmpint(r, ==, 0);
        g_assert_cmpuint(votes_for(w, errs, offset, got, bytes), ==, best);
        for (size_t i = 0; i < w->n; i++) {
            Member *m = w->member[i];

            if (!errs[i] && memcmp(m->model + offset, got, bytes) != 0) {
                expect_bad(w, "read", m, count, 0);
                if (w->rewrite && !m->write_err) {
                    memcpy(m->model + offset, got, bytes);
                }
            }
        }
    }
    check_events(w);
    for (size_t i = 0; i < w->n; i++) {
        g_assert_cmpmem(memdisk_data(w->member[i]->disk), LENGTH, w->member[i]->model, LENGTH);
    }
}

/* --- one request after the other --- */

static void
arm(World *w)
{
    static const int errors[] = {0, 0, 0, EIO, ENOSPC, ENXIO};

    for (size_t i = 0; i < w->n; i++) {
        Member *m = w->member[i];

        m->read_err = errors[choose_in(w->c, 0, 5)];
        m->write_err = errors[choose_in(w->c, 0, 5)];
        m->flush_err = errors[choose_in(w->c, 0, 5)];
        memdisk_heal(m->disk);
        if (m->read_err) {
            memdisk_fail_range(m->disk, MEMDISK_READ, 0, LENGTH, m->read_err);
        }
        if (m->write_err) {
            memdisk_fail_range(m->disk, MEMDISK_WRITE | MEMDISK_ZERO, 0, LENGTH, m->write_err);
        }
    }
}

static void coroutine_fn
guest_read(World *w, int64_t offset, int64_t bytes)
{
    uint8_t buf[LENGTH];
    int errs[CHILDREN_MAX];
    int r = backend_co_pread(w->guest, offset, buf, bytes);

    for (size_t i = 0; i < w->n; i++) {
        errs[i] = w->member[i]->read_err;
    }
    check_read(w, offset, buf, bytes, errs, r);
}

static void coroutine_fn
guest_write(World *w, int64_t offset, int64_t bytes)
{
    uint8_t buf[LENGTH];
    uint8_t value = choose_in(w->c, 0, 3);
    int errs[CHILDREN_MAX];
    int r;

    memset(buf, value, bytes);
    r = value ? backend_co_pwrite(w->guest, offset, buf, bytes, 0)
              : backend_co_pwrite_zeroes(w->guest, offset, bytes, 0);
    for (size_t i = 0; i < w->n; i++) {
        errs[i] = w->member[i]->write_err;
        if (!errs[i]) {
            memcpy(w->member[i]->model + offset, buf, bytes);
        }
    }
    check_change(w, "write", sectors(offset, bytes), errs, r);
}

/* A child forgets, without a word. */
static void
corrupt(World *w, int64_t offset, int64_t bytes)
{
    Member *m = w->member[choose_in(w->c, 0, w->n - 1)];

    memset(m->model + offset, choose_in(w->c, 1, 3), bytes);
    memcpy(memdisk_data(m->disk) + offset, m->model + offset, bytes);
}

static void coroutine_fn
add_child(World *w)
{
    Member *m;
    BlockNode *node;
    GError *err = NULL;

    if (w->n == CHILDREN_MAX) {
        return;
    }
    node = member_new(w, &m);
    w->quorum->drv->co_add_child(w->quorum, node, &err);
    g_assert_no_error(err);
    node_co_unref(node);
    g_snprintf(m->edge, sizeof(m->edge), "children.%u", w->edges++);
    g_assert_nonnull(node_child(w->quorum, m->edge));
    w->member[w->n++] = m;
}

static void coroutine_fn
del_child(World *w)
{
    size_t i = choose_in(w->c, 0, w->n - 1);
    Member *m = w->member[i];
    BlockChild *child = node_child(w->quorum, m->edge);
    g_autoptr(GError) err = NULL;

    g_assert_nonnull(child);
    if (w->n == w->threshold) {
        g_assert_false(w->quorum->drv->co_del_child(w->quorum, child, &err));
        g_assert_nonnull(strstr(err->message, "vote threshold"));
        return;
    }
    g_assert_true(w->quorum->drv->co_del_child(w->quorum, child, NULL));
    g_assert_null(node_child(w->quorum, m->edge));
    if (g_ascii_strtoull(m->edge + strlen("children."), NULL, 10) == w->edges - 1) {
        w->edges--;
    }
    w->n--;
    memmove(&w->member[i], &w->member[i + 1], (w->n - i) * sizeof(Member *));
    member_free(m);
}

static void coroutine_fn
vote_co_entry(void *opaque)
{
    World *w = opaque;

    world_open(w);
    while (choose_more(w->c, 15)) {
        int64_t offset = choose_in(w->c, 0, 7) * 4096 + choose_in(w->c, 0, 1) * 100;
        int64_t bytes = choose_in(w->c, 1, MIN(LENGTH - offset, 8000));

        if (choose(w->c)) {
            arm(w);
        }
        switch (choose_in(w->c, 0, 6)) {
        case 0:
            guest_write(w, offset, bytes);
            break;
        case 1:
            corrupt(w, offset, bytes);
            break;
        case 2:
            add_child(w);
            break;
        case 3:
            del_child(w);
            break;
        default:
            guest_read(w, offset, bytes);
        }
    }
    world_close(w);
}

static void
prop_vote(Choices *c)
{
    World w = {.c = c};

    vtest_run(vote_co_entry, &w, choose_in(c, 0, 100));
}

/* --- readers, writers and changes of children at once --- */

static int coroutine_fn
reader_co_entry(void *opaque)
{
    World *w = opaque;

    for (unsigned n = choose_in(w->c, 1, 6); n > 0; n--) {
        uint8_t buf[8192];
        int64_t offset = choose_in(w->c, 0, LENGTH - sizeof(buf));

        g_assert_cmpint(backend_co_pread(w->guest, offset, buf, sizeof(buf)), ==, 0);
    }
    return 0;
}

static int coroutine_fn
writer_co_entry(void *opaque)
{
    World *w = opaque;

    for (unsigned n = choose_in(w->c, 1, 6); n > 0; n--) {
        uint8_t buf[8192];
        int64_t offset = choose_in(w->c, 0, LENGTH - sizeof(buf));

        memset(buf, choose_in(w->c, 1, 255), sizeof(buf));
        g_assert_cmpint(backend_co_pwrite(w->guest, offset, buf, sizeof(buf), 0), ==, 0);
    }
    return 0;
}

static int coroutine_fn
remover_co_entry(void *opaque)
{
    World *w = opaque;

    co_sleep_ns(choose_in(w->c, 0, 5) * NS_PER_MS);
    if (w->n > w->threshold) {
        del_child(w);
    }
    return 0;
}

static void coroutine_fn
meet_co_entry(void *opaque)
{
    World *w = opaque;
    CoGroup g = {0};

    world_open(w);
    co_group_spawn(&g, remover_co_entry, w);
    for (unsigned n = choose_in(w->c, 1, 6); n > 0; n--) {
        co_group_spawn(&g, choose(w->c) ? reader_co_entry : writer_co_entry, w);
    }
    g_assert_cmpint(co_group_wait(&g), ==, 0);
    check_events(w); /* none */
    for (size_t i = 1; i < w->n; i++) {
        g_assert_cmpmem(memdisk_data(w->member[i]->disk), LENGTH, memdisk_data(w->member[0]->disk),
                        LENGTH);
    }
    world_close(w);
}

static void
prop_healthy_children(Choices *c)
{
    World w = {.c = c};

    vtest_run(meet_co_entry, &w, choose_in(c, 0, 100));
}

PROPERTY("/quorum/vote", prop_vote)
PROPERTY("/quorum/healthy-children-are-not-bad", prop_healthy_children)
