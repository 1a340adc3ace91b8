/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request of QMP: check the envelope, find the command, run it, wrap what
 * it returns.
 *
 * Source: QMP specification, "Server Greeting", "Issuing Commands",
 * "Commands Responses".
 */
#include <string.h>

#include "monitor/machine.h"
#include "qapi/commands.h"
#include "qapi/walk.h"
#include "qmp-session.h"
#include "util/error.h"

/* What is behind the first line is a hint for people at a terminal. */
json_t *
qmp_error_reply(const GError *err)
{
    g_autofree char *desc = g_strndup(err->message, strcspn(err->message, "\n"));
    json_t *error = json_object();
    json_t *reply = json_object();

    json_object_set_new(error, "class", json_string(error_class_name(err)));
    json_object_set_new(error, "desc", qmp_string(desc));
    json_object_set_new(reply, "error", error);
    return reply;
}

json_t *
qmp_greeting(void)
{
    g_autoptr(VersionInfo) version = version_info();
    json_t *capabilities = json_array();
    json_t *qmp = json_object();
    json_t *greeting = json_object();

    json_object_set_new(qmp, "version", version_info_to_json(version));
    json_array_append_new(capabilities, json_string(qmp_capability_str(QMP_CAPABILITY_OOB)));
    json_object_set_new(qmp, "capabilities", capabilities);
    json_object_set_new(greeting, "QMP", qmp);
    return greeting;
}

bool
qmp_is_oob(const json_t *request, const QmpAgreed *agreed)
{
    return agreed->oob && json_object_get(request, "exec-oob");
}

/* Members of a request, with nothing that does not belong there. */
static bool
check_envelope(const json_t *request, const QmpAgreed *agreed, GError **errp)
{
    bool oob = qmp_is_oob(request, agreed);
    const char *key;
    json_t *value;

    if (oob && json_object_get(request, "execute")) {
        return fail(errp, "QMP input member 'execute' clashes with 'exec-oob'");
    }
    json_object_foreach((json_t *)request, key, value) {
        if (strcmp(key, "execute") == 0 || (oob && strcmp(key, "exec-oob") == 0)) {
            if (!json_is_string(value)) {
                return fail(errp, "QMP input member '%s' must be a string", key);
            }
        } else if (strcmp(key, "arguments") == 0) {
            if (!json_is_object(value)) {
                return fail(errp, "QMP input member 'arguments' must be an object");
            }
        } else if (strcmp(key, "id") != 0) {
            return fail(errp, "QMP input member '%s' is unexpected", key);
        }
    }
    if (!oob && !json_object_get(request, "execute")) {
        return fail(errp, "QMP input lacks member 'execute'");
    }
    return true;
}

/* qmp_capabilities as the first command. */
static json_t *
negotiate(const char *name, const json_t *arguments, QmpAgreed *agreed, GError **errp)
{
    g_autoptr(QmpQmpCapabilitiesArgs) args = NULL;

    if (strcmp(name, "qmp_capabilities") != 0) {
        fail_class(errp, ERROR_CLASS_COMMAND_NOT_FOUND,
                   "Expecting capabilities negotiation with 'qmp_capabilities'");
        return NULL;
    }
    args = qmp_arguments(&qapi_type_qmp_qmp_capabilities_args, arguments, errp);
    if (!args) {
        return NULL;
    }
    agreed->done = true;
    agreed->oob = args->n_enable > 0; /* there is no other */
    return json_object();
}

static json_t *coroutine_fn
execute_co(const json_t *request, QmpAgreed *agreed, GError **errp)
{
    const json_t *arguments = json_object_get(request, "arguments");
    bool oob = qmp_is_oob(request, agreed);
    const QmpCommand *command;
    const char *name;

    if (!check_envelope(request, agreed, errp)) {
        return NULL;
    }
    name = json_string_value(json_object_get(request, oob ? "exec-oob" : "execute"));
    if (!agreed->done) {
        return negotiate(name, arguments, agreed, errp);
    }
    command = qmp_command_find(name);
    if (!command) {
        fail_class(errp, ERROR_CLASS_COMMAND_NOT_FOUND, "The command %s has not been found", name);
        return NULL;
    }
    if (oob && !command->allow_oob) {
        fail(errp, "The command %s does not support OOB", name);
        return NULL;
    }
    return qmp_command_run(command, arguments, errp);
}

json_t *coroutine_fn
qmp_dispatch_co(const json_t *request, QmpAgreed *agreed)
{
    g_autoptr(GError) err = NULL;
    json_t *id, *result, *reply;

    if (!json_is_object(request)) {
        fail(&err, "QMP input must be a JSON object");
        return qmp_error_reply(err);
    }
    result = execute_co(request, agreed, &err);
    assert(!result == (err != NULL));
    if (result) {
        reply = json_object();
        json_object_set_new(reply, "return", result);
    } else {
        reply = qmp_error_reply(err);
    }
    id = json_object_get(request, "id");
    if (id) {
        json_object_set(reply, "id", id);
    }
    return reply;
}
