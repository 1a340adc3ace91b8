/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One command of QMP, as the generated table has it.
 */
#ifndef QAPI_COMMAND_H
#define QAPI_COMMAND_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "qapi/walker.h"
#include "util/compiler.h"

typedef struct QmpCommand {
    const char *name;
    bool allow_oob; /* may be run out of band */
    /*
     * Check @arguments (an object or NULL), run the handler, return its result:
     * a new reference, or NULL with errp set. Call it through qmp_command_run().
     */
    json_t *(*coroutine_ptr run)(const json_t *arguments, GError **errp);
} QmpCommand;

/** qmp_command_in() - the command called @name of a table, or NULL */
const QmpCommand *qmp_command_in(const QmpCommand *table, const char *name);

/** qmp_command_run() - run it; yields as its handler does */
json_t *coroutine_fn qmp_command_run(const QmpCommand *command, const json_t *arguments,
                                     GError **errp);

/* For generated code. */
void *qmp_arguments(const QapiType *type, const json_t *arguments, GError **errp);
bool qmp_no_arguments(const json_t *arguments, GError **errp);
json_t *qmp_string(const char *text);

#endif
