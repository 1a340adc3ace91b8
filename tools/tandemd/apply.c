/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the options of tandemd do, one function each.
 *
 * Those that tandemd has so that QEMU's command lines work, and that would say
 * what machine to build, take what means "none".
 */
#include <string.h>
#include <sys/prctl.h>

#include "block/blockdev.h"
#include "block/export.h"
#include "monitor/chardev.h"
#include "monitor/machine.h"
#include "monitor/monitor.h"
#include "monitor/object.h"
#include "qapi/keyval.h"
#include "qapi/scalar.h"
#include "qapi/walk.h"
#include "tandemd.h"
#include "util/error.h"

/* --- monitors --- */

bool coroutine_fn
apply_chardev(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "backend", NULL, errp);
    const char *backend = json_string_value(json_object_get(opts, "backend"));
    bool ok = opts &&
              ((g_strcmp0(backend, "stdio") != 0 || !process_is_daemon()) ||
               fail(errp, "cannot use stdio with -daemonize")) &&
              chardev_co_add(opts, errp);

    json_decref(opts);
    return ok;
}

/* An object of @type from key=value pairs or JSON; NULL and errp */
static void *
parse_object(const QapiType *type, const char *arg, const char *implied_key, GError **errp)
{
    QapiMode mode;
    bool help;
    json_t *json = keyval_or_json_parse(arg, implied_key, &mode, &help, errp);
    void *obj;

    if (!json) {
        return NULL;
    }
    if (help) {
        json_decref(json);
        return fail(errp, "Help is not available for this option"), NULL;
    }
    obj = qapi_from_json(type, json, mode, errp);
    json_decref(json);
    return obj;
}

bool coroutine_fn
apply_monitor(const char *arg, GError **errp)
{
    g_autoptr(MonitorOptions) o =
        parse_object(&qapi_type_monitor_options, arg, "chardev", errp);

    return o && monitor_add(o, errp);
}

/* "chardev:ID", or a character device in short, made here */
static bool coroutine_fn
add_qmp(const char *arg, bool pretty, GError **errp)
{
    static unsigned count;
    g_autofree char *id = g_strdup_printf("compat_monitor%u", count++);
    MonitorOptions o = { .chardev = id, .has_pretty = true, .pretty = pretty };
    json_t *opts;
    bool ok;

    if (g_str_has_prefix(arg, "chardev:")) {
        o.chardev = (char *)arg + strlen("chardev:");
        return monitor_add(&o, errp);
    }
    opts = chardev_opts_from_compat(arg, id, errp);
    ok = opts && chardev_co_add(opts, errp) && monitor_add(&o, errp);
    json_decref(opts);
    return ok;
}

bool coroutine_fn
apply_qmp(const char *arg, GError **errp)
{
    return add_qmp(arg, false, errp);
}

bool coroutine_fn
apply_qmp_pretty(const char *arg, GError **errp)
{
    return add_qmp(arg, true, errp);
}

/* --- disks and exports --- */

bool coroutine_fn
apply_blockdev(const char *arg, GError **errp)
{
    g_autoptr(BlockdevOptions) o = parse_object(&qapi_type_blockdev_options, arg, "driver", errp);

    return o && blockdev_co_add(o, errp);
}

bool coroutine_fn
apply_drive(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, NULL, NULL, errp);
    bool ok = opts && drive_co_add(opts, errp);

    json_decref(opts);
    return ok;
}

bool coroutine_fn
apply_nbd_server(const char *arg, GError **errp)
{
    g_autoptr(NbdServerOptions) o = parse_object(&qapi_type_nbd_server_options, arg, NULL, errp);

    return o && export_nbd_co_start(o, errp);
}

bool coroutine_fn
apply_export(const char *arg, GError **errp)
{
    g_autoptr(BlockExportOptions) o =
        parse_object(&qapi_type_block_export_options, arg, "type", errp);

    return o && export_co_add(o, errp);
}

bool coroutine_fn
apply_object(const char *arg, GError **errp)
{
    g_autoptr(ObjectOptions) o = parse_object(&qapi_type_object_options, arg, "qom-type", errp);

    return o && object_co_add(o, errp);
}

/* --- what a machine would have --- */

bool coroutine_fn
apply_stopped(const char *arg, GError **errp)
{
    machine_wait_for_cont();
    return true;
}

/* The value of @key, taken out of @opts; NULL: it is not there. Free it. */
static char *
take(json_t *opts, const char *key)
{
    char *value = g_strdup(json_string_value(json_object_get(opts, key)));

    json_object_del(opts, key);
    return value;
}

/* What is left is nothing that the option knows. */
static bool
check_empty(const json_t *opts, GError **errp)
{
    const char *key = json_object_iter_key(json_object_iter((json_t *)opts));

    return !key || fail(errp, "Invalid parameter '%s'", key);
}

bool coroutine_fn
apply_name(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "guest", NULL, errp);
    g_autofree char *guest = take(opts, "guest");
    g_autofree char *process = take(opts, "process");
    g_autofree char *threads = take(opts, "debug-threads");
    bool ignored; /* our threads have no names */
    bool ok = opts && check_empty(opts, errp) &&
              (!threads || scalar_bool(threads, &ignored) ||
               fail(errp, "Parameter 'debug-threads' expects 'on' or 'off'"));

    json_decref(opts);
    if (ok && guest) {
        machine_set_name(guest);
    }
    if (ok && process) {
        (void)prctl(PR_SET_NAME, process); /* cannot fail */
    }
    return ok;
}

bool coroutine_fn
apply_none(const char *arg, GError **errp)
{
    return strcmp(arg, "none") == 0 || fail(errp, "there is no machine: only 'none' is possible");
}

/* One for people there is none of. */
bool coroutine_fn
apply_words_monitor(const char *arg, GError **errp)
{
    return strcmp(arg, "none") == 0 || strcmp(arg, "null") == 0 || apply_monitor(arg, errp);
}

bool coroutine_fn
apply_machine(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "type", NULL, errp);
    g_autofree char *type = take(opts, "type");
    g_autofree char *accel = take(opts, "accel"); /* nothing is run, however fast */
    bool ok = opts && (!type || apply_none(type, errp)) && check_empty(opts, errp);

    json_decref(opts);
    return ok;
}

bool coroutine_fn
apply_nothing(const char *arg, GError **errp)
{
    return true;
}
