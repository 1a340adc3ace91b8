/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conformance suite: what every driver that stores a disk must do, checked
 * against a model in memory. A driver joins by a line in a table of Subject.
 */
#ifndef TESTS_CONFORMANCE_SUITE_H
#define TESTS_CONFORMANCE_SUITE_H

#include "block/node.h"
#include "util/error.h"

/* What a subject is not asked to do. */
#define SUBJECT_NO_RESIZE 1u
#define SUBJECT_NO_REOPEN 2u /* neither read-only nor back */
#define SUBJECT_FORGETS   4u /* the content does not outlive the node */

typedef struct Subject {
    const char *name;
    /* Make what the options need in @dir, a disk of @length zeroes. NULL: nothing to make. */
    bool (*coroutine_ptr create)(const char *dir, int64_t length, GError **errp);
    /* Options of the top node in JSON; @DIR@ stands for the directory, @RO@ for true or false.
     * NULL: @open makes the node. */
    const char *options;
    BlockNode *(*coroutine_ptr open)(int64_t length, bool read_only, GError **errp);
    unsigned traits;
    /* Each time the top node has been opened; before the directory goes. NULL: nothing to do. */
    void (*coroutine_ptr begin)(void);
    void (*coroutine_ptr end)(void);
} Subject;

/** conformance_add() - register the suite for @s, which stays valid */
void conformance_add(const Subject *s);

/** conformance_make_file() - a sparse file of zeroes, for create callbacks */
bool conformance_make_file(const char *dir, const char *name, int64_t length, GError **errp);

#endif
