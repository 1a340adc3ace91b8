/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range: locks on byte ranges, in an interval treap of held and wanted ranges.
 *
 * The tree is ordered by (start, ticket), a heap by random priority, and each
 * node knows the largest end of its subtree, so the ranges that overlap a given
 * one are found without looking at the others.
 *
 * Invariant: r->blockers is the number of ranges in the tree that overlap r,
 * conflict with its mode and have a smaller ticket. A range with none is held.
 * Since every such pair is counted when the later one arrives and uncounted
 * when the earlier one leaves, grants follow the order of arrival and no walk
 * ever retries.
 *
 * An empty range is held without being in the tree; end == start says so.
 */
#include "util/sync.h"

static bool modes_conflict(CoRangeMode a, CoRangeMode b)
{
    return a == CO_RANGE_EXCLUSIVE || b == CO_RANGE_EXCLUSIVE;
}

/* --- the treap --- */

static bool node_before(const CoRange *a, const CoRange *b)
{
    return a->start != b->start ? a->start < b->start : a->ticket < b->ticket;
}

static void node_update(CoRange *n)
{
    n->max_end = n->end;
    if (n->left != NULL && n->left->max_end > n->max_end) {
        n->max_end = n->left->max_end;
    }
    if (n->right != NULL && n->right->max_end > n->max_end) {
        n->max_end = n->right->max_end;
    }
}

/* The pointer that holds @n. */
static CoRange **node_slot(CoRangeLock *l, CoRange *n)
{
    if (n->parent == NULL) {
        return &l->root;
    }
    return n->parent->left == n ? &n->parent->left : &n->parent->right;
}

/* Put @n in the place of its parent, which becomes its child. */
static void node_rotate_up(CoRangeLock *l, CoRange *n)
{
    CoRange *p = n->parent;
    bool was_left = p->left == n;
    CoRange *moved = was_left ? n->right : n->left;

    *node_slot(l, p) = n;
    n->parent = p->parent;
    p->parent = n;
    *(was_left ? &p->left : &p->right) = moved;
    *(was_left ? &n->right : &n->left) = p;
    if (moved != NULL) {
        moved->parent = p;
    }
    node_update(p);
    node_update(n);
}

/* xorshift32: the shape of the tree is nobody's choice but need not be secret. */
static uint32_t next_priority(CoRangeLock *l)
{
    uint32_t x = l->seed != 0 ? l->seed : 0x9e3779b9;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return l->seed = x;
}

static void tree_insert(CoRangeLock *l, CoRange *n)
{
    CoRange **slot = &l->root;

    n->left = n->right = n->parent = NULL;
    n->max_end = n->end;
    n->priority = next_priority(l);
    while (*slot != NULL) {
        n->parent = *slot;
        if (n->parent->max_end < n->end) {
            n->parent->max_end = n->end;
        }
        slot = node_before(n, n->parent) ? &n->parent->left : &n->parent->right;
    }
    *slot = n;
    while (n->parent != NULL && n->parent->priority < n->priority) {
        node_rotate_up(l, n);
    }
}

static void tree_remove(CoRangeLock *l, CoRange *n)
{
    CoRange *child;

    while (n->left != NULL && n->right != NULL) {
        node_rotate_up(l, n->left->priority > n->right->priority ? n->left : n->right);
    }
    child = n->left != NULL ? n->left : n->right;
    *node_slot(l, n) = child;
    if (child != NULL) {
        child->parent = n->parent;
    }
    for (CoRange *p = n->parent; p != NULL; p = p->parent) {
        node_update(p);
    }
}

/* --- walks over the ranges that overlap @r and conflict with it --- */

/* Stops early at @limit. The depth of recursion is that of the treap. */
static int count_conflicts(const CoRange *n, const CoRange *r, int limit)
{
    int count = 0;

    while (n != NULL && n->max_end > r->start && count < limit) {
        count += count_conflicts(n->left, r, limit - count);
        if (n->start >= r->end) {
            break;
        }
        if (n->end > r->start && modes_conflict(n->mode, r->mode)) {
            count++;
        }
        n = n->right;
    }
    return count;
}

/*
 * @r has left: those who wait for it have one blocker less. It was held, so all
 * that conflict with it came later. Waking runs nobody.
 */
static void release_later(CoRange *n, const CoRange *r)
{
    while (n != NULL && n->max_end > r->start) {
        release_later(n->left, r);
        if (n->start >= r->end) {
            break;
        }
        if (n->end > r->start && modes_conflict(n->mode, r->mode)) {
            assert(n->ticket > r->ticket && n->blockers > 0);
            if (--n->blockers == 0) {
                co_wake(n->co);
            }
        }
        n = n->right;
    }
}

/* --- the lock --- */

static CoRange range_of(uint64_t offset, uint64_t bytes, CoRangeMode mode)
{
    assert(bytes <= UINT64_MAX - offset);
    return (CoRange){.start = offset, .end = offset + bytes, .mode = mode};
}

static void range_enter(CoRangeLock *l, CoRange *r)
{
    r->ticket = l->next_ticket++;
    if (r->end > r->start) {
        tree_insert(l, r);
    }
}

void coroutine_fn
co_range_lock(CoRangeLock *l, CoRange *r, uint64_t offset, uint64_t bytes, CoRangeMode mode)
{
    *r = range_of(offset, bytes, mode);
    if (bytes > 0) {
        r->blockers = count_conflicts(l->root, r, INT_MAX);
    }
    range_enter(l, r);
    if (r->blockers > 0) {
        r->co = co_self();
        assert(r->co != NULL);
        co_yield ();
        assert(r->blockers == 0);
    }
}

bool co_range_trylock(CoRangeLock *l, CoRange *r, uint64_t offset, uint64_t bytes, CoRangeMode mode)
{
    if (co_range_conflicts(l, offset, bytes, mode)) {
        return false;
    }
    *r = range_of(offset, bytes, mode);
    range_enter(l, r);
    return true;
}

void co_range_unlock(CoRangeLock *l, CoRange *r)
{
    assert(r->blockers == 0);
    if (r->end > r->start) {
        tree_remove(l, r);
        release_later(l->root, r);
    }
}

bool co_range_conflicts(const CoRangeLock *l, uint64_t offset, uint64_t bytes, CoRangeMode mode)
{
    CoRange r = range_of(offset, bytes, mode);

    return bytes > 0 && count_conflicts(l->root, &r, 1) > 0;
}
