/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handlers of qapi/control.json and qapi/introspect.json: the monitor itself. */
#include "monitor/chardev.h"
#include "monitor/machine.h"
#include "qapi/commands.h"
#include "qapi/introspect.h"
#include "qapi/json.h"
#include "qapi/walk.h"
#include "tandem-version.h"
#include "util/error.h"

VersionInfo *
version_info(void)
{
    VersionInfo *v = g_new0(VersionInfo, 1);

    v->qemu = g_new0(VersionTriple, 1);
    v->qemu->major = TANDEM_VERSION_MAJOR;
    v->qemu->minor = TANDEM_VERSION_MINOR;
    v->qemu->micro = TANDEM_VERSION_MICRO;
    v->package = g_strdup("tandem-" TANDEM_VERSION);
    return v;
}

/* The session answers the first one; this is a second. */
bool coroutine_fn
qmp_qmp_capabilities(const QmpQmpCapabilitiesArgs *args, GError **errp)
{
    return fail_class(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                      "Capabilities negotiation is already complete, command ignored");
}

VersionInfo *coroutine_fn
qmp_query_version(GError **errp)
{
    return version_info();
}

CommandInfoArray *coroutine_fn
qmp_query_commands(GError **errp)
{
    CommandInfoArray *ret = g_new0(CommandInfoArray, 1);

    while (qmp_commands[ret->n].name) {
        ret->n++;
    }
    ret->items = g_new0(CommandInfo *, ret->n);
    for (size_t i = 0; i < ret->n; i++) {
        ret->items[i] = g_new0(CommandInfo, 1);
        ret->items[i]->name = g_strdup(qmp_commands[i].name);
    }
    return ret;
}

SchemaInfoArray *coroutine_fn
qmp_query_qmp_schema(GError **errp)
{
    json_t *all = json_array();
    SchemaInfoArray *ret;

    for (unsigned i = 0; i < qapi_introspection_lines; i++) {
        json_t *line = json_parse(qapi_introspection[i], errp);

        assert(line);
        json_array_append_new(all, line);
    }
    ret = schema_info_array_from_json(all, errp);
    json_decref(all);
    return ret;
}

bool coroutine_fn
qmp_quit(GError **errp)
{
    chardevs_stop();
    machine_co_quit(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
    return true;
}

StatusInfo *coroutine_fn
qmp_query_status(GError **errp)
{
    StatusInfo *info = g_new0(StatusInfo, 1);

    info->running = machine_is_running();
    info->status = machine_run_state();
    return info;
}

bool coroutine_fn
qmp_stop(GError **errp)
{
    machine_set_running(false);
    return true;
}

bool coroutine_fn
qmp_cont(GError **errp)
{
    machine_set_running(true);
    return true;
}

NameInfo *coroutine_fn
qmp_query_name(GError **errp)
{
    NameInfo *info = g_new0(NameInfo, 1);

    info->name = g_strdup(machine_name());
    return info;
}
