/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qcow2 image is a disk, through requests in parallel, emptying, reopening
 * and power cuts.
 *
 * The model keeps, for each sector, what it reads as and what a power cut may
 * leave there. Each write has a byte of its own. Sound means: what is read is
 * allowed, and the checker finds no corruption; leaks only after a cut.
 */
#include "qcow2-disk.h"
#include "util/sync.h"
#include "vtest.h"

#define SECTOR      512
#define MAX_SECTORS 512
#define BELOW       250 /* content of the backing file */

typedef struct World {
    Choices *c;
    Memdisk *disk, *below;
    Qcow2Disk base, img;
    char *options; /* of the image, as JSON members */
    uint64_t sectors, below_sectors;
    unsigned cluster_bits;
    bool v2, scratch, leaks_allowed;
    int64_t refcount_bits; /* 0: the default */
    uint64_t filler;       /* guest bytes behind the sectors */
    uint8_t next_tag;
    uint8_t now[MAX_SECTORS];
    uint8_t allowed[MAX_SECTORS][32]; /* bit per byte value */
} World;

/* --- the model --- */

static void model_allow(World *w, uint64_t s, uint8_t tag)
{
    w->allowed[s][tag / 8] |= 1 << (tag % 8);
}

static bool model_is_allowed(const World *w, uint64_t s, uint8_t tag)
{
    return w->allowed[s][tag / 8] & (1 << (tag % 8));
}

static void model_settle(World *w)
{
    for (uint64_t s = 0; s < w->sectors; s++) {
        memset(w->allowed[s], 0, 32);
        model_allow(w, s, w->now[s]);
    }
}

static uint8_t model_initial(const World *w, uint64_t s)
{
    return s < w->below_sectors ? BELOW : 0;
}

static void model_write(World *w, uint64_t s, uint64_t n, uint8_t tag)
{
    for (uint64_t i = s; i < s + n; i++) {
        model_allow(w, i, tag);
        w->now[i] = tag;
    }
}

static void model_empty(World *w)
{
    for (uint64_t s = 0; s < w->sectors; s++) {
        model_allow(w, s, model_initial(w, s));
        w->now[s] = model_initial(w, s);
    }
}

/* --- the image --- */

static void coroutine_fn open_image(World *w)
{
    w->img = qcow2_disk_open(w->disk, "img", w->options);
}

/* Every sector holds one of the values that are allowed there; that is what it holds now. */
static void coroutine_fn read_back(World *w, bool exact)
{
    size_t bytes = w->sectors * SECTOR;
    uint8_t *buf = g_malloc(bytes);

    g_assert_cmpint(backend_co_pread(w->img.be, 0, buf, bytes), ==, 0);
    for (uint64_t s = 0; s < w->sectors; s++) {
        uint8_t tag = buf[s * SECTOR];

        for (int i = 1; i < SECTOR; i++) {
            g_assert_cmphex(buf[s * SECTOR + i], ==, tag);
        }
        if (exact) {
            g_assert_cmphex(tag, ==, w->now[s]);
        }
        g_assert_true(model_is_allowed(w, s, tag));
        w->now[s] = tag;
    }
    g_free(buf);
}

static void coroutine_fn check_image(World *w)
{
    ImageCheck check = {0};

    if (w->img.node->drv->co_check && !w->scratch) {
        check = qcow2_disk_check(&w->img);
        g_assert_cmpint(check.check_errors, ==, 0);
        g_assert_cmpint(check.corruptions, ==, 0);
        g_assert_true(w->leaks_allowed || check.leaks == 0);
    }
}

static void coroutine_fn create_disks(World *w)
{
    w->disk = memdisk_new(&(MemdiskOptions){
        .latency_ns = NS_PER_MS,
        .jitter_ns = NS_PER_MS,
        .zero_flags = choose(w->c) ? REQ_MAY_UNMAP | REQ_NO_FALLBACK : 0,
    });
    qcow2_disk_create(w->disk,
                      (BlockdevCreateOptionsQcow2){.size = w->sectors * SECTOR + w->filler,
                                                   .has_refcount_bits = w->refcount_bits > 0,
                                                   .refcount_bits = w->refcount_bits,
                                                   .has_cluster_size = true,
                                                   .cluster_size = UINT64_C(1) << w->cluster_bits,
                                                   .has_version = w->v2,
                                                   .version = BLOCKDEV_QCOW2_VERSION_V2});
    if (w->below_sectors) {
        w->below = memdisk_new(&(MemdiskOptions){});
        qcow2_disk_create(w->below,
                          (BlockdevCreateOptionsQcow2){.size = w->below_sectors * SECTOR});
        w->base = qcow2_disk_open(w->below, "base", "");
        for (uint64_t s = 0; s < w->below_sectors; s++) {
            uint8_t buf[SECTOR];

            memset(buf, BELOW, SECTOR);
            g_assert_cmpint(backend_co_pwrite(w->base.be, s * SECTOR, buf, SECTOR, 0), ==, 0);
        }
    }
}

static char *choose_options(World *w)
{
    GString *s = g_string_new(",\"discard\":\"unmap\"");

    if (w->scratch) {
        g_string_append(s, ",\"metadata-policy\":\"scratch\"");
    }
    if (w->below_sectors) {
        g_string_append(s, ",\"backing\":\"base\"");
    }
    if (!w->v2 && choose(w->c)) {
        g_string_append(s, ",\"lazy-refcounts\":true");
    }
    if (!w->v2 && choose_in(w->c, 0, 3) == 0) {
        g_string_append(s, ",\"discard-no-unref\":true");
    }
    if (choose_in(w->c, 0, 3) == 0) {
        g_string_append(s, ",\"pass-discard-other\":true,\"l2-cache-entry-size\":512");
    }
    return g_string_free(s, FALSE);
}

static void coroutine_fn world_begin(World *w, Choices *c, bool scratch)
{
    *w = (World){.c = c, .scratch = scratch};
    w->cluster_bits = choose_in(c, 9, 14);
    w->sectors = choose_in(c, 1, MAX_SECTORS);
    w->v2 = choose(c);
    w->below_sectors = choose(c) ? choose_in(c, 1, MAX_SECTORS) : 0;
    w->options = choose_options(w);
    for (uint64_t s = 0; s < w->sectors; s++) {
        w->now[s] = model_initial(w, s);
    }
    model_settle(w);
    create_disks(w);
    open_image(w);
}

static void coroutine_fn world_end(World *w)
{
    qcow2_disk_close(&w->img);
    if (w->below) {
        qcow2_disk_close(&w->base);
        memdisk_free(w->below);
    }
    memdisk_free(w->disk);
    g_free(w->options);
}

/* --- operations --- */

static void choose_range(World *w, uint64_t *s, uint64_t *n)
{
    *s = choose_in(w->c, 0, w->sectors - 1);
    *n = choose_in(w->c, 1, w->sectors - *s);
}

typedef struct Write {
    World *w;
    uint64_t s, n;
    uint8_t tag;
    int r;
    CoGroup *group;
} Write;

static int coroutine_fn do_write(void *opaque)
{
    Write *wr = opaque;
    size_t bytes = wr->n * SECTOR;
    uint8_t *buf = g_malloc(bytes);

    memset(buf, wr->tag, bytes);
    wr->r = backend_co_pwrite(wr->w->img.be, wr->s * SECTOR, buf, bytes, 0);
    g_free(buf);
    return 0;
}

static uint8_t new_tag(World *w)
{
    w->next_tag = w->next_tag % 200 + 1;
    return w->next_tag;
}

/* Several writes at once; they do not overlap, so their order does not matter. */
static void coroutine_fn op_writes(World *w, bool cut)
{
    Write writes[8];
    CoGroup group = {0};
    uint64_t at = 0;
    unsigned n = 0;

    while (n < 8 && at < w->sectors) {
        Write *wr = &writes[n];

        wr->w = w;
        wr->s = choose_in(w->c, at, w->sectors - 1);
        wr->n = choose_in(w->c, 1, MIN(w->sectors - wr->s, UINT64_C(96)));
        wr->tag = new_tag(w);
        at = wr->s + wr->n;
        n++;
        if (!choose(w->c)) {
            break;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        model_write(w, writes[i].s, writes[i].n, writes[i].tag);
        co_group_spawn(&group, do_write, &writes[i]);
    }
    if (cut) {
        co_sleep_ns((int64_t)choose_in(w->c, 0, 12 * NS_PER_MS));
        memdisk_crash(w->disk, w->c);
    }
    co_group_wait(&group);
    for (unsigned i = 0; i < n && !cut; i++) {
        g_assert_cmpint(writes[i].r, ==, 0);
    }
}

static void coroutine_fn op_zero(World *w)
{
    uint64_t s, n;

    choose_range(w, &s, &n);
    model_write(w, s, n, 0);
    g_assert_cmpint(backend_co_pwrite_zeroes(w->img.be, s * SECTOR, n * SECTOR,
                                             choose(w->c) ? REQ_MAY_UNMAP : 0),
                    ==, 0);
}

/* Advisory: each sector is as before or zero afterwards. */
static void coroutine_fn op_discard(World *w)
{
    uint64_t s, n;

    choose_range(w, &s, &n);
    for (uint64_t i = s; i < s + n; i++) {
        model_allow(w, i, 0);
    }
    g_assert_cmpint(backend_co_pdiscard(w->img.be, s * SECTOR, n * SECTOR), ==, 0);
    read_back(w, false);
}

static void coroutine_fn op_empty(World *w)
{
    model_empty(w);
    g_assert_cmpint(backend_co_make_empty(w->img.be), ==, 0);
    if (!w->scratch) {
        model_settle(w);
    }
}

static void coroutine_fn op_flush(World *w)
{
    g_assert_cmpint(backend_co_flush(w->img.be), ==, 0);
    if (!w->scratch) {
        model_settle(w);
    }
}

/*
 * What is on disk after a cut is sound before anything repairs it, unless it
 * says it is dirty; after a clean close it is not dirty and nothing leaks.
 */
static void coroutine_fn look_at_closed(World *w, bool cut)
{
    g_autofree char *options = g_strdup_printf("%s,\"read-only\":true", w->options);
    Qcow2Disk d = qcow2_disk_open(w->disk, "closed", options);
    BlockInfoData info = {0};

    node_get_info(d.node, &info);
    g_assert_true(cut || !info.is_dirty);
    if (!info.is_dirty) {
        ImageCheck check = qcow2_disk_check(&d);

        g_assert_cmpint(check.check_errors, ==, 0);
        g_assert_cmpint(check.corruptions, ==, 0);
        g_assert_true(cut || w->leaks_allowed || check.leaks == 0);
    }
    qcow2_disk_close(&d);
}

static void coroutine_fn op_reopen(World *w)
{
    qcow2_disk_close(&w->img);
    look_at_closed(w, false);
    open_image(w);
    model_settle(w);
    if (w->scratch) {
        read_back(w, true); /* a clean close keeps the content ... */
        op_empty(w);        /* ... and the policy waits until it is gone */
    }
}

static void coroutine_fn after_cut(World *w)
{
    if (w->img.node) {
        qcow2_disk_close(&w->img);
    }
    look_at_closed(w, true);
    open_image(w);
    w->leaks_allowed = true;
    if (w->scratch) {
        model_empty(w); /* worthless means: empty */
        model_settle(w);
    }
    read_back(w, w->scratch);
    model_settle(w);
}

typedef struct Late {
    World *w;
    bool empty;
} Late;

static int coroutine_fn flush_or_empty(void *opaque)
{
    Late *l = opaque;

    return l->empty ? backend_co_make_empty(l->w->img.be) : backend_co_flush(l->w->img.be);
}

/* The power fails while tables are on their way. */
static void coroutine_fn op_cut_during(World *w, bool empty)
{
    Late l = {w, empty};
    CoGroup group = {0};

    if (empty) {
        uint8_t before[MAX_SECTORS];

        memcpy(before, w->now, sizeof(before));
        model_empty(w);
        memcpy(w->now, before, sizeof(before));
    }
    co_group_spawn(&group, flush_or_empty, &l);
    co_sleep_ns((int64_t)choose_in(w->c, 0, 25 * NS_PER_MS));
    memdisk_crash(w->disk, w->c);
    (void)co_group_wait(&group);
    after_cut(w);
}

static void coroutine_fn apply(World *w)
{
    static const unsigned weights[] = {10, 3, 2, 1, 3, 2, 2, 1, 3, 1};

    switch (choose_weighted(w->c, weights, G_N_ELEMENTS(weights))) {
    case 0:
        op_writes(w, false);
        break;
    case 1:
        op_zero(w);
        break;
    case 2:
        op_discard(w);
        break;
    case 3:
        op_empty(w);
        break;
    case 4:
        op_flush(w);
        break;
    case 5:
        op_reopen(w);
        break;
    case 6:
        op_writes(w, true);
        after_cut(w);
        break;
    case 7:
        memdisk_crash(w->disk, w->c);
        after_cut(w);
        break;
    case 8:
        op_cut_during(w, false);
        break;
    case 9:
        op_cut_during(w, true);
        break;
    }
}

static void coroutine_fn run_world(void *opaque, bool scratch)
{
    World *w = g_new(World, 1);

    world_begin(w, opaque, scratch);
    while (choose_more(w->c, 12)) {
        apply(w);
        read_back(w, true);
        if (choose_in(w->c, 0, 3) == 0) {
            check_image(w); /* writes everything back first, so not each time */
        }
    }
    op_reopen(w);
    read_back(w, true);
    world_end(w);
    g_free(w);
}

static void coroutine_fn run_ordered(void *opaque)
{
    run_world(opaque, false);
}

static void coroutine_fn run_scratch(void *opaque)
{
    run_world(opaque, true);
}

static void prop_is_a_disk(Choices *c)
{
    vtest_run(run_ordered, c, 0);
}
PROPERTY("/qcow2/is-a-disk", prop_is_a_disk)

static void prop_scratch_is_a_disk(Choices *c)
{
    vtest_run(run_scratch, c, 0);
}
PROPERTY("/qcow2/scratch-is-a-disk", prop_scratch_is_a_disk)

/*
 * --- every short history, cut at every moment ---
 *
 * Of what no flush covers a cut leaves a random part (histories of three), or
 * only the newest change (pairs, in several kinds of images): that shows each
 * flush that an order needs and that is not there.
 */

typedef enum Kind {
    PART_OF_CLUSTER,
    ACROSS_CLUSTERS,
    ACROSS_TABLES,
    ZERO,
    DISCARD,
    FLUSH,
    EMPTY,
    ZERO_ELSEWHERE, /* over a backing file: a new table and no data */
    GROW,           /* a new L1 table */
    REOPEN,         /* whatever closing writes */
    DISCARD_DURING_FLUSH,
    KINDS
} Kind;

/* Clusters of one sector; something to lose, and free clusters full of old bytes. */
typedef struct Variant {
    const char *options;
    bool backing;
    bool moved;    /* the L1 table is not where emptying puts it, and there is data */
    bool counted;  /* the refcount table is nearly full */
} Variant;

typedef struct Script {
    World w;
    const Variant *variant;
    Kind kinds[3];
    unsigned n;
    int64_t cut; /* requests of the disk before the power fails; -1: never */
    bool newest; /* what the cut leaves */
    bool done, has_cut;
    bool safe; /* not now: what runs cannot stand it */
} Script;

static void coroutine_fn scripted_write(World *w, uint64_t s, uint64_t n)
{
    uint8_t *buf = g_malloc(n * SECTOR);
    uint8_t tag = new_tag(w);

    memset(buf, tag, n * SECTOR);
    model_write(w, s, n, tag);
    (void)!backend_co_pwrite(w->img.be, s * SECTOR, buf, n * SECTOR, 0);
    g_free(buf);
}

static void coroutine_fn scripted_zero(World *w, uint64_t s, uint64_t n)
{
    model_write(w, s, n, 0);
    (void)!backend_co_pwrite_zeroes(w->img.be, s * SECTOR, n * SECTOR, 0);
}

static void coroutine_fn scripted_discard(World *w, uint64_t s, uint64_t n)
{
    for (uint64_t i = s; i < s + n; i++) {
        model_allow(w, i, 0);
    }
    if (backend_co_pdiscard(w->img.be, s * SECTOR, n * SECTOR) == 0) {
        memset(w->now + s, 0, n);
    }
}

static void coroutine_fn scripted(Script *s, Kind kind)
{
    World *w = &s->w;
    CoGroup group = {0};

    switch (kind) {
    case PART_OF_CLUSTER:
        scripted_write(w, 0, 1);
        break;
    case ACROSS_CLUSTERS:
        scripted_write(w, 1, 2);
        break;
    case ACROSS_TABLES:
        scripted_write(w, 40, 260);
        break;
    case ZERO:
        scripted_zero(w, 0, 4);
        break;
    case DISCARD:
        scripted_discard(w, 1, 64);
        break;
    case FLUSH:
        if (backend_co_flush(w->img.be) == 0) {
            model_settle(w);
        }
        break;
    case EMPTY:
        model_empty(w);
        if (backend_co_make_empty(w->img.be) == 0) {
            model_settle(w);
        }
        break;
    case ZERO_ELSEWHERE:
        scripted_zero(w, 448, 4);
        break;
    case GROW:
        (void)!backend_co_truncate(w->img.be, node_length(w->img.node) + 64 * SECTOR, true,
                                   BLOCK_PREALLOC_OFF, 0, NULL);
        break;
    case REOPEN:
        qcow2_disk_close(&w->img);
        if (!s->has_cut) {
            s->safe = true;
            look_at_closed(w, false);
            model_settle(w);
            open_image(w);
            s->safe = false;
        }
        break;
    case DISCARD_DURING_FLUSH:
        co_group_spawn(&group, flush_or_empty, &(Late){w, false});
        co_sleep_ns(3 * NS_PER_MS); /* what it writes has been copied */
        scripted_discard(w, 1, 64);
        (void)co_group_wait(&group);
        break;
    case KINDS:
        g_assert_not_reached();
    }
}

static void coroutine_fn play(void *opaque)
{
    Script *s = opaque;

    for (unsigned i = 0; i < s->n && !s->has_cut; i++) {
        scripted(s, s->kinds[i]);
    }
    s->done = true;
}

static void coroutine_fn must_write(World *w, int64_t offset, size_t bytes, uint8_t byte)
{
    uint8_t *buf = g_malloc(bytes);

    memset(buf, byte, bytes);
    g_assert_cmpint(backend_co_pwrite(w->img.be, offset, buf, bytes, 0), ==, 0);
    g_free(buf);
}

static void coroutine_fn must_flush(World *w)
{
    g_assert_cmpint(backend_co_flush(w->img.be), ==, 0);
}

/* Refcounts of 64 bits: a table of one cluster stands for 2 MiB. */
static void coroutine_fn use_up_counts(World *w)
{
    int64_t at = w->sectors * SECTOR;

    for (; memdisk_length(w->disk) < 2 * MiB - 48 * SECTOR; at += 16 * SECTOR) {
        must_write(w, at, 16 * SECTOR, 9);
    }
    g_assert_cmpint(at, <, (int64_t)(w->sectors * SECTOR + w->filler));
    must_flush(w);
}

static void coroutine_fn script_begin(Script *s)
{
    const Variant *v = s->variant;
    World *w = &s->w;

    *w = (World){
        .cluster_bits = 9,
        .sectors = MAX_SECTORS,
        .below_sectors = v->backing ? MAX_SECTORS : 0,
        .refcount_bits = v->counted ? 64 : 0,
        .filler = v->counted ? 2 * MiB : 0,
        .options = g_strdup_printf(
            ",\"discard\":\"unmap\",\"pass-discard-request\":false%s%s", v->options,
            v->backing ? ",\"backing\":\"base\"" : ""),
    };
    w->c = choices_of_seed((uint64_t)s->cut + 1);
    create_disks(w);
    open_image(w);
    for (uint64_t i = 0; i < w->sectors; i++) {
        w->now[i] = model_initial(w, i);
    }
    if (v->moved) {
        GError *err = NULL;

        g_assert_true(backend_co_truncate(w->img.be, w->sectors * SECTOR + 64 * SECTOR, true,
                                          BLOCK_PREALLOC_OFF, 0, &err));
        must_flush(w);
        must_flush(w);
    }
    must_write(w, 0, 32 * SECTOR, 201);
    memset(w->now, 201, 16);
    must_flush(w);
    g_assert_cmpint(backend_co_pdiscard(w->img.be, 16 * SECTOR, 16 * SECTOR), ==, 0);
    memset(w->now + 16, 0, 16);
    must_flush(w);
    must_flush(w);
    if (v->counted) {
        use_up_counts(w);
    }
    model_settle(w);
    memdisk_log_clear(w->disk);
}

static void cut_power(Script *s)
{
    if (s->newest) {
        memdisk_crash_newest(s->w.disk);
    } else {
        memdisk_crash(s->w.disk, s->w.c);
    }
    s->has_cut = true;
}

/* How many requests the disk saw. */
static int64_t coroutine_fn play_and_cut(Script *s)
{
    size_t n;

    script_begin(s);
    co_spawn(play, s);
    while (!s->done) {
        co_sleep_ns(NS_PER_MS / 4);
        (void)memdisk_log(s->w.disk, &n);
        if (!s->has_cut && !s->safe && s->cut >= 0 && (int64_t)n > s->cut) {
            cut_power(s);
        }
    }
    (void)memdisk_log(s->w.disk, &n);
    if (!s->has_cut) {
        cut_power(s);
    }
    after_cut(&s->w);
    choices_free(s->w.c);
    world_end(&s->w);
    return (int64_t)n;
}

static void coroutine_fn
play_every_cut(const Variant *v, const Kind *kinds, unsigned n, bool newest)
{
    int64_t last = 0;

    for (int64_t cut = -1; cut < last; cut++) {
        Script *s = g_new0(Script, 1);
        int64_t seen;

        s->variant = v;
        memcpy(s->kinds, kinds, n * sizeof(*kinds));
        s->n = n;
        s->cut = cut;
        s->newest = newest;
        seen = play_and_cut(s);
        last = cut < 0 ? seen : last;
        g_free(s);
    }
}

static const Variant plain = {""};

static void coroutine_fn test_short_histories(void)
{
    for (Kind a = 0; a < ZERO_ELSEWHERE; a++) {
        for (Kind b = 0; b < ZERO_ELSEWHERE; b++) {
            for (Kind c = 0; c < ZERO_ELSEWHERE; c++) {
                play_every_cut(&plain, (Kind[]){a, b, c}, 3, false);
            }
        }
    }
}
VTEST("/qcow2/short-histories-cut-everywhere", test_short_histories)

static void coroutine_fn test_pairs(void)
{
    static const Variant variants[] = {
        {""},
        {"", .backing = true},
        {"", .moved = true},
        {",\"lazy-refcounts\":true"},
        {",\"lazy-refcounts\":true,\"discard-no-unref\":true", .backing = true, .moved = true},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
        for (Kind a = 0; a < KINDS; a++) {
            for (Kind b = 0; b < KINDS; b++) {
                play_every_cut(&variants[i], (Kind[]){a, b}, 2, true);
            }
        }
    }
}
VTEST("/qcow2/pairs-cut-everywhere", test_pairs)

/* A count goes down only when a later flush has made the discard durable. */
static void coroutine_fn test_discard_during_flush(void)
{
    for (Kind a = 0; a < ZERO; a++) {
        play_every_cut(&plain, (Kind[]){a, DISCARD_DURING_FLUSH, FLUSH}, 3, true);
        play_every_cut(&plain, (Kind[]){a, DISCARD_DURING_FLUSH, a}, 3, true);
    }
}
VTEST("/qcow2/discard-during-flush-cut-everywhere", test_discard_during_flush)

static void coroutine_fn test_refcount_table_grows(void)
{
    static const Variant counted = {"", .counted = true};

    play_every_cut(&counted, (Kind[]){ACROSS_TABLES, FLUSH}, 2, false);
    play_every_cut(&counted, (Kind[]){ACROSS_TABLES, FLUSH}, 2, true);
    play_every_cut(&counted, (Kind[]){ACROSS_TABLES, GROW, REOPEN}, 3, true);
}
VTEST("/qcow2/refcount-table-grows-cut-everywhere", test_refcount_table_grows)
