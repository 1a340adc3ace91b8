/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handlers of qapi/object.json. */
#include <string.h>

#include "monitor/object.h"
#include "qapi/commands.h"
#include "util/error.h"

bool coroutine_fn
qmp_object_add(const ObjectOptions *args, GError **errp)
{
    return object_co_add(args, errp);
}

bool coroutine_fn
qmp_object_del(const QmpObjectDelArgs *args, GError **errp)
{
    return object_del(args->id, errp);
}

ObjectPropertyInfoArray *coroutine_fn
qmp_qom_list(const QmpQomListArgs *args, GError **errp)
{
    if (strcmp(args->path, "/objects") != 0) {
        return fail(errp, "Device '%s' not found: there is only '/objects'", args->path), NULL;
    }
    return object_query();
}
