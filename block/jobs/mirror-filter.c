/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirror-top: the filter through which a copying job sees the writes to its
 * source. It holds nothing itself; see mirror.h.
 */
#include "block/driver.h"
#include "block/jobs/mirror.h"

typedef struct MirrorTop {
    Mirror *m;
} MirrorTop;

static int coroutine_fn
mirror_top_co_preadv(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    return child_co_preadv(node->file, offset, iov, flags);
}

static int coroutine_fn
mirror_top_co_pwritev(BlockNode *node, int64_t offset, IoVec iov, ReqFlags flags)
{
    MirrorTop *s = node->state;

    if (!s->m) {
        return child_co_pwritev(node->file, offset, iov, flags);
    }
    return mirror_co_write(s->m, offset, iov.bytes, &iov, false, flags);
}

static int coroutine_fn
mirror_top_co_pwrite_zeroes(BlockNode *node, int64_t offset, int64_t bytes, ReqFlags flags)
{
    MirrorTop *s = node->state;

    if (!s->m) {
        return child_co_pwrite_zeroes(node->file, offset, bytes, flags);
    }
    return mirror_co_write(s->m, offset, bytes, NULL, false, flags);
}

static int coroutine_fn
mirror_top_co_pdiscard(BlockNode *node, int64_t offset, int64_t bytes)
{
    MirrorTop *s = node->state;

    if (!s->m) {
        return child_co_pdiscard(node->file, offset, bytes);
    }
    return mirror_co_write(s->m, offset, bytes, NULL, true, 0);
}

/* The target is flushed by its job, and for the guest where only the target is durable. */
static int coroutine_fn
mirror_top_co_flush(BlockNode *node)
{
    MirrorTop *s = node->state;

    if (s->m && s->m->flush_copies) {
        return mirror_co_flush(s->m);
    }
    return node->file ? child_co_flush(node->file) : 0; /* none: closed, out of the graph */
}

/* What the job itself does needs no more than the parents; it resizes nothing. */
static PermPair
mirror_top_child_perm(BlockNode *node, const BlockChild *child, const char *name, ChildRole role,
                      PermPair parents, const NodeFlags *flags)
{
    PermPair p;

    if (!(role & CHILD_FILTERED)) {
        return (PermPair){.taken = PERM_WRITE, .shared = PERM_ALL & ~PERM_RESIZE};
    }
    p = perm_default_filter(node, child, name, role, parents, flags);
    p.taken |= PERM_CONSISTENT_READ;
    p.shared |= PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
    p.shared &= ~PERM_RESIZE;
    return p;
}

void
mirror_filter_attach(BlockNode *filter, Mirror *m)
{
    MirrorTop *s = filter->state;

    s->m = m;
}

const BlockDriver driver_mirror_top = {
    .name = "mirror_top",
    .state_size = sizeof(MirrorTop),
    .is_filter = true,
    .flush_does_children = true,
    .child_perm = mirror_top_child_perm,
    .co_preadv = mirror_top_co_preadv,
    .co_pwritev = mirror_top_co_pwritev,
    .co_pwrite_zeroes = mirror_top_co_pwrite_zeroes,
    .co_pdiscard = mirror_top_co_pdiscard,
    .co_flush = mirror_top_co_flush,
};
