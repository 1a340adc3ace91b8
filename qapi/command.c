/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the generated commands share.
 */
#include "qapi/command.h"

#include <string.h>

#include "util/error.h"

const QmpCommand *
qmp_command_in(const QmpCommand *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

json_t *coroutine_fn
qmp_command_run(const QmpCommand *command, const json_t *arguments, GError **errp)
{
    return command->run(arguments, errp);
}

void *
qmp_arguments(const QapiType *type, const json_t *arguments, GError **errp)
{
    json_t *none = json_object();
    void *args = qapi_from_json(type, arguments ? arguments : none, QAPI_STRICT, errp);

    json_decref(none);
    return args;
}

bool
qmp_no_arguments(const json_t *arguments, GError **errp)
{
    const char *key;

    if (!arguments || json_object_size(arguments) == 0) {
        return true;
    }
    key = json_object_iter_key(json_object_iter((json_t *)arguments));
    return fail(errp, "Parameter '%s' is unexpected", key);
}

json_t *
qmp_string(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    return json_string(valid);
}
