/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range: locks against a naive model.
 *
 * The model is a list in order of arrival. A range is held exactly if no
 * earlier one in the list conflicts with it; the implementation must agree
 * after every step, and its tree must be sound.
 */
#include <glib.h>

#include "util/sync.h"
#include "vtest.h"

#define MAX_RANGES 60

typedef struct User {
    uint64_t offset, bytes;
    CoRangeMode mode;
    CoRange range;
    bool held;
    bool release;
    CoQueue told; /* to release */
} User;

typedef struct Model {
    Choices *c;
    CoRangeLock lock;
    User *users[MAX_RANGES]; /* in order of arrival */
    int n;
    User *arriving;
} Model;

static bool users_conflict(const User *a, const User *b)
{
    return a->bytes > 0 && b->bytes > 0 && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes &&
           (a->mode == CO_RANGE_EXCLUSIVE || b->mode == CO_RANGE_EXCLUSIVE);
}

static bool model_held(const Model *m, int i)
{
    for (int j = 0; j < i; j++) {
        if (users_conflict(m->users[i], m->users[j])) {
            return false;
        }
    }
    return true;
}

static void coroutine_fn user_entry(void *opaque)
{
    Model *m = opaque;
    User *u = m->arriving;

    m->arriving = NULL;
    co_range_lock(&m->lock, &u->range, u->offset, u->bytes, u->mode);
    u->held = true;
    while (!u->release) {
        co_queue_wait(&u->told);
    }
    co_range_unlock(&m->lock, &u->range);
    g_free(u);
}

static User *choose_user(Choices *c)
{
    User *u = g_new0(User, 1);

    u->offset = choose_in(c, 0, 100);
    u->bytes = choose_in(c, 0, choose(c) ? 100 : 10);
    u->mode = choose(c) ? CO_RANGE_EXCLUSIVE : CO_RANGE_SHARED;
    return u;
}

static void coroutine_fn arrive(Model *m)
{
    User *u = choose_user(m->c);
    bool conflicts = false;

    for (int i = 0; i < m->n; i++) {
        conflicts |= users_conflict(m->users[i], u);
    }
    g_assert_cmpint(co_range_conflicts(&m->lock, u->offset, u->bytes, u->mode), ==, conflicts);
    m->users[m->n++] = u;
    m->arriving = u;
    co_spawn(user_entry, m);
    while (m->arriving != NULL) {
        co_reschedule(); /* so that the order of arrival is ours */
    }
}

/* One that is held leaves; somebody always is. */
static void coroutine_fn leave(Model *m)
{
    int held[MAX_RANGES], n_held = 0, which;
    User *u;

    for (int i = 0; i < m->n; i++) {
        if (m->users[i]->held) {
            held[n_held++] = i;
        }
    }
    g_assert_cmpint(n_held, >, 0);
    which = held[choose_in(m->c, 0, n_held - 1)];
    u = m->users[which];
    m->n--;
    for (int i = which; i < m->n; i++) {
        m->users[i] = m->users[i + 1];
    }
    u->release = true;
    co_queue_wake_one(&u->told);
}

/* Order, heap, parents and ends; returns the number of nodes. */
static int check_tree(const CoRange *n, const CoRange *parent)
{
    uint64_t max_end;
    int count;

    if (n == NULL) {
        return 0;
    }
    g_assert_true(n->parent == parent);
    g_assert_true(parent == NULL || n->priority <= parent->priority);
    count = 1 + check_tree(n->left, n) + check_tree(n->right, n);
    max_end = n->end;
    if (n->left != NULL) {
        g_assert_cmpuint(n->left->start, <=, n->start);
        max_end = MAX(max_end, n->left->max_end);
    }
    if (n->right != NULL) {
        g_assert_cmpuint(n->right->start, >=, n->start);
        max_end = MAX(max_end, n->right->max_end);
    }
    g_assert_cmpuint(n->max_end, ==, max_end);
    return count;
}

static void coroutine_fn check(Model *m)
{
    int in_tree = 0;

    co_sleep_ns(1); /* everybody has run */
    for (int i = 0; i < m->n; i++) {
        g_assert_cmpint(m->users[i]->held, ==, model_held(m, i));
        in_tree += m->users[i]->bytes > 0;
    }
    g_assert_cmpint(check_tree(m->lock.root, NULL), ==, in_tree);
}

static void coroutine_fn range_body(void *opaque)
{
    Model *m = opaque;

    while (choose_more(m->c, 60)) {
        if (m->n == 0 || (m->n < MAX_RANGES && choose_in(m->c, 0, 2) > 0)) {
            arrive(m);
        } else {
            leave(m);
        }
        check(m);
    }
    while (m->n > 0) {
        leave(m);
        check(m);
    }
    g_assert_null(m->lock.root);
}

/* Ranges are held exactly when nobody who came earlier is in their way. */
static void prop_ranges_are_granted_in_order(Choices *c)
{
    Model m = {.c = c};

    vtest_run(range_body, &m, choose_in(c, 0, UINT32_MAX));
}

PROPERTY("/range/granted-in-order", prop_ranges_are_granted_in_order)
