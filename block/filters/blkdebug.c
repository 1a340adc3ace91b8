/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blkdebug: a filter that lets chosen requests fail, and stops requests at
 * chosen moments of the driver above it.
 *
 * The child is called "image". What may happen is in the rules; the driver
 * above tells the moments with node_debug_event().
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "blkdebug-rules.h"
#include "block/blkdebug.h"
#include "block/driver.h"
#include "qapi/drivers.h"
#include "util/loop.h"
#include "util/sync.h"

#define CONFIG_MAX_BYTES (1 * MiB)

typedef struct Stopped Stopped;
struct Stopped { /* a request at a breakpoint; on its stack */
    const char *tag;
    Coroutine *co;
    Stopped *next;
};

typedef struct BlkdebugState {
    GPtrArray *rules;
    int64_t state;
    Stopped *stopped; /* in order of their arrival */
    CoQueue watchers; /* those who wait for a request to stop */
    BlockLimits limits;
    Perm take, unshare;
    bool listens; /* counted in debug_listeners */
} BlkdebugState;

/* --- opening --- */

typedef struct ReadCall {
    const char *filename;
    char *text;
} ReadCall;

/* The kernel tells a FIFO's or a device's length as 0; the bound is on what is read. */
static int read_on_worker(void *opaque)
{
    ReadCall *c = opaque;
    int fd = open(c->filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t done = 0;
    ssize_t n;

    if (fd < 0) {
        return -errno;
    }
    c->text = g_malloc(CONFIG_MAX_BYTES + 1);
    do {
        n = read(fd, c->text + done, CONFIG_MAX_BYTES + 1 - done);
        done += n > 0 ? n : 0;
    } while ((n > 0 && done <= CONFIG_MAX_BYTES) || (n < 0 && errno == EINTR));
    n = n < 0 ? -errno : done > CONFIG_MAX_BYTES ? -EFBIG : 0;
    close(fd);
    if (n == 0) {
        c->text[done] = '\0';
    }
    return (int)n;
}

static bool coroutine_fn read_config(GPtrArray *rules, const char *filename, GError **errp)
{
    ReadCall c = {.filename = filename};
    int r = co_run_blocking(read_on_worker, &c);
    bool ok = r == 0 ? rules_add_config(rules, c.text, filename, errp)
                     : fail_errno(errp, -r, "Could not read blkdebug config file");

    g_free(c.text);
    return ok;
}

/* @value: 0 or a multiple of @unit. */
static bool check_multiple(const char *name, int64_t value, int64_t unit, GError **errp)
{
    return value % unit == 0 ||
           fail(errp, "Cannot meet constraints with %s %lld", name, (long long)value);
}

static bool
set_limits(BlkdebugState *s, const BlockdevOptionsBlkdebug *o, uint32_t below, GError **errp)
{
    int64_t align = o->has_align && o->align > 0 ? o->align : 1;
    int64_t unit = MAX(align, (int64_t)below);

    if ((align & (align - 1)) != 0 || align > NODE_ALIGN_MAX) {
        return fail(errp, "Cannot meet constraints with align %lld", (long long)align);
    }
    s->limits = (BlockLimits){
        .request_alignment = (uint32_t)align,
        .max_transfer = o->has_max_transfer ? o->max_transfer : 0,
        .pwrite_zeroes_alignment = o->has_opt_write_zero ? o->opt_write_zero : 0,
        .max_pwrite_zeroes = o->has_max_write_zero ? o->max_write_zero : 0,
        .pdiscard_alignment = o->has_opt_discard ? o->opt_discard : 0,
        .max_pdiscard = o->has_max_discard ? o->max_discard : 0,
    };
    return check_multiple("max-transfer", s->limits.max_transfer, unit, errp) &&
           check_multiple("opt-write-zero", s->limits.pwrite_zeroes_alignment, unit, errp) &&
           check_multiple("max-write-zero", s->limits.max_pwrite_zeroes,
                          MAX((int64_t)s->limits.pwrite_zeroes_alignment, unit), errp) &&
           check_multiple("opt-discard", s->limits.pdiscard_alignment, unit, errp) &&
           check_multiple("max-discard", s->limits.max_pdiscard,
                          MAX((int64_t)s->limits.pdiscard_alignment, unit), errp);
}

static Perm perms_of(const BlockPermission *list, size_t n)
{
    static const Perm bits[BLOCK_PERMISSION__MAX] = {
        [BLOCK_PERMISSION_CONSISTENT_READ] = PERM_CONSISTENT_READ,
        [BLOCK_PERMISSION_WRITE] = PERM_WRITE,
        [BLOCK_PERMISSION_WRITE_UNCHANGED] = PERM_WRITE_UNCHANGED,
        [BLOCK_PERMISSION_RESIZE] = PERM_RESIZE,
    };
    Perm perm = 0;

    for (size_t i = 0; i < n; i++) {
        perm |= bits[list[i]];
    }
    return perm;
}

static bool coroutine_fn
blkdebug_co_open(BlockNode *node, const BlockdevOptions *opts, GError **errp)
{
    const BlockdevOptionsBlkdebug *o = &opts->u.blkdebug;
    BlkdebugState *s = node->state;

    s->rules = rules_new();
    s->state = 1;
    s->take = perms_of(o->take_child_perms, o->n_take_child_perms);
    s->unshare = perms_of(o->unshare_child_perms, o->n_unshare_child_perms);
    if ((o->config && !read_config(s->rules, o->config, errp)) ||
        !rules_add_options(s->rules, o, errp) ||
        !node_co_open_child(node, "image", o->image, CHILD_FILTERED | CHILD_PRIMARY, errp) ||
        !set_limits(s, o, node->file->node->limits.request_alignment, errp)) {
        return false;
    }
    node->supported_write_flags = node->file->node->supported_write_flags & REQ_COMPRESSED;
    node->supported_write_flags |= REQ_FUA;
    node->supported_zero_flags = REQ_FUA | REQ_MAY_UNMAP | REQ_NO_FALLBACK;
    __atomic_add_fetch(&debug_listeners, 1, __ATOMIC_RELAXED);
    s->listens = true;
    return true;
}

static void coroutine_fn blkdebug_co_close(BlockNode *node)
{
    BlkdebugState *s = node->state;

    assert(!s->stopped); /* a stopped request is in flight */
    if (s->listens) {
        __atomic_sub_fetch(&debug_listeners, 1, __ATOMIC_RELAXED);
    }
    if (s->rules) {
        g_ptr_array_unref(s->rules);
    }
}

static PermPair blkdebug_child_perm(BlockNode *node, const BlockChild *child, const char *name,
                                    ChildRole role, PermPair parents, const NodeFlags *flags)
{
    const BlkdebugState *s = node->state;
    PermPair p = perm_default_filter(node, child, name, role, parents, flags);

    p.taken |= s->take;
    p.shared &= ~s->unshare;
    return p;
}

static void blkdebug_refresh_limits(BlockNode *node)
{
    const BlkdebugState *s = node->state;
    BlockLimits *l = &node->limits;

    l->request_alignment = MAX(l->request_alignment, s->limits.request_alignment);
    l->max_transfer = s->limits.max_transfer ? s->limits.max_transfer : l->max_transfer;
    if (s->limits.pwrite_zeroes_alignment) {
        l->pwrite_zeroes_alignment = s->limits.pwrite_zeroes_alignment;
    }
    if (s->limits.max_pwrite_zeroes) {
        l->max_pwrite_zeroes = s->limits.max_pwrite_zeroes;
    }
    if (s->limits.pdiscard_alignment) {
        l->pdiscard_alignment = s->limits.pdiscard_alignment;
    }
    if (s->limits.max_pdiscard) {
        l->max_pdiscard = s->limits.max_pdiscard;
    }
}

/* --- requests --- */

static int coroutine_fn check(BlockNode *node, BlkdebugIOType iotype, int64_t offset, int64_t bytes)
{
    BlkdebugState *s = node->state;
    bool immediately = true;
    int r = rules_match(s->rules, s->state, iotype, offset, bytes, &immediately);

    if (!immediately) {
        co_reschedule();
    }
    return r;
}

static int coroutine_fn
blkdebug_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int r = check(node, BLKDEBUG_IO_TYPE_READ, offset, iov.bytes);

    return r < 0 ? r : child_co_preadv(node->file, offset, iov, flags);
}

static int coroutine_fn
blkdebug_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    int r = check(node, BLKDEBUG_IO_TYPE_WRITE, offset, iov.bytes);

    return r < 0 ? r : child_co_pwritev(node->file, offset, iov, flags);
}

static int coroutine_fn
blkdebug_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    int r = check(node, BLKDEBUG_IO_TYPE_WRITE_ZEROES, offset, bytes);

    return r < 0 ? r : child_co_pwrite_zeroes(node->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    int r = check(node, BLKDEBUG_IO_TYPE_DISCARD, offset, bytes);

    return r < 0 ? r : child_co_pdiscard(node->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush(BlockNode *node)
{
    return check(node, BLKDEBUG_IO_TYPE_FLUSH, 0, 0);
}

static int coroutine_fn blkdebug_co_block_status(BlockNode *node, bool want_zero, int64_t offset,
                                                 int64_t bytes, BlockStatus *ret)
{
    int r = check(node, BLKDEBUG_IO_TYPE_BLOCK_STATUS, offset, bytes);

    *ret = (BlockStatus){
        .flags = STATUS_RAW | STATUS_OFFSET_VALID,
        .bytes = bytes,
        .map = offset,
        .file = node->file->node,
    };
    return r;
}

/* --- events and breakpoints --- */

static void (*notice)(const char *what, const char *tag);

void blkdebug_set_notice(void (*fn)(const char *what, const char *tag))
{
    notice = fn;
}

static void tell(const char *what, const char *tag)
{
    if (notice) {
        notice(what, tag);
    }
}

/* The tag outlives the stop: a rule that was hit is gone, its tag is ours. */
static void coroutine_fn stop_here(BlkdebugState *s, const char *tag)
{
    Stopped me = {.tag = tag, .co = co_self()};
    Stopped **at = &s->stopped;

    while (*at) {
        at = &(*at)->next;
    }
    *at = &me;
    tell("Suspended", tag);
    co_queue_wake_all(&s->watchers);
    co_yield (); /* whoever resumes takes us off the list */
}

static void coroutine_fn blkdebug_co_debug_event(BlockNode *node, const char *name)
{
    BlkdebugState *s = node->state;
    BlkdebugEvent event;
    Rule *hit;

    if (!blkdebug_event_parse(name, &event)) {
        return;
    }
    hit = rules_event(s->rules, event, &s->state);
    if (hit) {
        stop_here(s, hit->tag);
        rule_free(hit);
    }
}

static BlkdebugState *find(BlockNode *node, GError **errp)
{
    while (node && node->drv != &driver_blkdebug) {
        node = node->file ? node->file->node : NULL;
    }
    if (!node) {
        return fail(errp, "Operation not supported"), NULL;
    }
    return node->state;
}

bool blkdebug_break(BlockNode *node, const char *event, const char *tag, GError **errp)
{
    BlkdebugState *s = find(node, errp);
    BlkdebugEvent e;

    if (!s) {
        return false;
    }
    if (!blkdebug_event_parse(event, &e)) {
        return fail(errp, "No such file or directory");
    }
    rules_add_break(s->rules, e, tag);
    return true;
}

static bool resume_first(BlkdebugState *s, const char *tag)
{
    for (Stopped **at = &s->stopped; *at; at = &(*at)->next) {
        Stopped *found = *at;

        if (strcmp(found->tag, tag) == 0) {
            *at = found->next;
            tell("Resuming", tag);
            co_wake(found->co);
            return true;
        }
    }
    return false;
}

bool blkdebug_resume(BlockNode *node, const char *tag, GError **errp)
{
    BlkdebugState *s = find(node, errp);

    return s && (resume_first(s, tag) || fail(errp, "No such file or directory"));
}

bool blkdebug_remove_break(BlockNode *node, const char *tag, GError **errp)
{
    BlkdebugState *s = find(node, errp);
    bool found = false;

    if (!s) {
        return false;
    }
    for (guint i = s->rules->len; i-- > 0;) {
        const Rule *r = s->rules->pdata[i];

        if (r->kind == RULE_BREAK && strcmp(r->tag, tag) == 0) {
            g_ptr_array_remove_index(s->rules, i);
            found = true;
        }
    }
    while (resume_first(s, tag)) {
        found = true;
    }
    return found || fail(errp, "No such file or directory");
}

static bool is_stopped(const BlkdebugState *s, const char *tag)
{
    for (const Stopped *st = s->stopped; st; st = st->next) {
        if (strcmp(st->tag, tag) == 0) {
            return true;
        }
    }
    return false;
}

bool coroutine_fn blkdebug_co_wait_break(BlockNode *node, const char *tag, GError **errp)
{
    BlkdebugState *s = find(node, errp);

    if (!s) {
        return false;
    }
    while (!is_stopped(s, tag)) {
        co_queue_wait(&s->watchers);
    }
    return true;
}

bool blkdebug_is_stopped(BlockNode *node, const char *tag)
{
    const BlkdebugState *s = find(node, NULL);

    return s && is_stopped(s, tag);
}

const BlockDriver driver_blkdebug = {
    .name = "blkdebug",
    .state_size = sizeof(BlkdebugState),
    .is_filter = true,
    .co_open = blkdebug_co_open,
    .co_close = blkdebug_co_close,
    .child_perm = blkdebug_child_perm,
    .refresh_limits = blkdebug_refresh_limits,
    .co_preadv = blkdebug_co_preadv,
    .co_pwritev = blkdebug_co_pwritev,
    .co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .co_pdiscard = blkdebug_co_pdiscard,
    .co_flush = blkdebug_co_flush,
    .co_block_status = blkdebug_co_block_status,
    .co_debug_event = blkdebug_co_debug_event,
};
