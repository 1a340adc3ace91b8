/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of tandemd: one table.
 *
 * Options are applied in the order given, so what one names has to be defined
 * before it; early ones are looked at first. One dash or two make no
 * difference, as in QEMU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/blockdev.h"
#include "block/export.h"
#include "monitor/chardev.h"
#include "monitor/machine.h"
#include "monitor/monitor.h"
#include "monitor/object.h"
#include "qapi/keyval.h"
#include "qapi/walk.h"
#include "tandemd.h"
#include "util/error.h"
#include "util/trace.h"

typedef struct Option {
    const char *name; /* without dashes */
    const char *arg;  /* what the help calls its argument; NULL: it has none */
    const char *help; /* NULL: not shown, for the option is another's alias or has no effect */
    bool (*early)(Early *ret, const char *arg, GError **errp);
    bool (*coroutine_ptr apply)(const char *arg, GError **errp);
} Option;

struct Given {
    const Option *option;
    const char *spelling, *arg;
};

/* --- early ones --- */

static bool
early_help(Early *ret, const char *arg, GError **errp)
{
    ret->help = true;
    return true;
}

static bool
early_version(Early *ret, const char *arg, GError **errp)
{
    ret->version = true;
    return true;
}

static bool
early_daemonize(Early *ret, const char *arg, GError **errp)
{
    ret->daemonize = true;
    return true;
}

static bool
early_pidfile(Early *ret, const char *arg, GError **errp)
{
    ret->pidfile = arg;
    return true;
}

static bool
early_poller(Early *ret, const char *arg, GError **errp)
{
    if (!loop_poller_parse(arg, &ret->poller) || ret->poller == LOOP_POLLER_VIRTUAL) {
        return fail(errp, "there is no poller '%s'; there are auto, io_uring and epoll", arg);
    }
    return true;
}

static void
warn_of_trace(const char *text)
{
    fprintf(stderr, "%s: warning: %s\n", PROGRAM, text);
}

static bool
early_trace(Early *ret, const char *arg, GError **errp)
{
    if (trace_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    return trace_option(arg, warn_of_trace, errp);
}

/* --- monitors --- */

static bool coroutine_fn
apply_chardev(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "backend", NULL, errp);
    bool ok = opts && chardev_co_add(opts, errp);

    json_decref(opts);
    return ok;
}

/* An object of @type from key=value pairs or JSON; NULL and errp */
static void *
parse_object(const QapiType *type, const char *arg, const char *implied_key, GError **errp)
{
    QapiMode mode;
    json_t *json = keyval_or_json_parse(arg, implied_key, &mode, NULL, errp);
    void *obj;

    if (!json) {
        return NULL;
    }
    obj = qapi_from_json(type, json, mode, errp);
    json_decref(json);
    return obj;
}

static bool coroutine_fn
apply_monitor(const char *arg, GError **errp)
{
    g_autoptr(MonitorOptions) o =
        parse_object(&qapi_type_monitor_options, arg, "chardev", errp);

    return o && monitor_add(o, errp);
}

static bool coroutine_fn
add_qmp(const char *arg, bool pretty, GError **errp)
{
    static unsigned count;
    g_autofree char *id = g_strdup_printf("compat_monitor%u", count++);
    MonitorOptions o = { .chardev = id, .has_pretty = true, .pretty = pretty };
    json_t *opts = chardev_opts_from_compat(arg, id, errp);
    bool ok = opts && chardev_co_add(opts, errp) && monitor_add(&o, errp);

    json_decref(opts);
    return ok;
}

static bool coroutine_fn
apply_qmp(const char *arg, GError **errp)
{
    return add_qmp(arg, false, errp);
}

static bool coroutine_fn
apply_qmp_pretty(const char *arg, GError **errp)
{
    return add_qmp(arg, true, errp);
}

/* --- disks and exports --- */

static bool coroutine_fn
apply_blockdev(const char *arg, GError **errp)
{
    g_autoptr(BlockdevOptions) o = parse_object(&qapi_type_blockdev_options, arg, "driver", errp);

    return o && blockdev_co_add(o, errp);
}

static bool coroutine_fn
apply_drive(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "file", NULL, errp);
    bool ok = opts && drive_co_add(opts, errp);

    json_decref(opts);
    return ok;
}

static bool coroutine_fn
apply_nbd_server(const char *arg, GError **errp)
{
    g_autoptr(NbdServerOptions) o = parse_object(&qapi_type_nbd_server_options, arg, NULL, errp);

    return o && export_nbd_co_start(o, errp);
}

static bool coroutine_fn
apply_export(const char *arg, GError **errp)
{
    g_autoptr(BlockExportOptions) o =
        parse_object(&qapi_type_block_export_options, arg, "type", errp);

    return o && export_co_add(o, errp);
}

static bool coroutine_fn
apply_object(const char *arg, GError **errp)
{
    g_autoptr(ObjectOptions) o = parse_object(&qapi_type_object_options, arg, "qom-type", errp);

    return o && object_co_add(o, errp);
}

/* --- what a machine would have --- */

static bool coroutine_fn
apply_stopped(const char *arg, GError **errp)
{
    machine_set_running(false);
    return true;
}

static bool coroutine_fn
apply_name(const char *arg, GError **errp)
{
    json_t *opts = qemu_opts_parse(arg, "guest", NULL, errp);
    const char *name = json_string_value(json_object_get(opts, "guest"));
    bool ok = opts && ((name && json_object_size(opts) == 1) ||
                       fail(errp, "a name is all that can be given"));

    if (ok) {
        machine_set_name(name);
    }
    json_decref(opts);
    return ok;
}

static bool coroutine_fn
apply_nothing(const char *arg, GError **errp)
{
    return true;
}

static bool coroutine_fn
apply_none(const char *arg, GError **errp)
{
    return strcmp(arg, "none") == 0 || fail(errp, "there is no machine: only 'none' is possible");
}

/* --- the table, in the order of the help --- */

static const Option options[] = {
    { "help", NULL, "show this help", .early = early_help },
    { "h", NULL, NULL, .early = early_help },
    { "version", NULL, "show the version", .early = early_version },
    { "V", NULL, NULL, .early = early_version },
    { "blockdev", "[driver=]DRIVER,node-name=NAME[,...]|{JSON}",
      "open a node, as blockdev-add does", .apply = apply_blockdev },
    { "drive", "id=ID[,file=NAME][,if=none][,...]", "open a node and name it, as QEMU's -drive",
      .apply = apply_drive },
    { "nbd-server", "addr.type=unix,addr.path=PATH|addr.type=inet,addr.host=H,addr.port=P[,...]",
      "start the NBD server", .apply = apply_nbd_server },
    { "export", "[type=]nbd,id=ID,node-name=NAME[,name=NAME][,writable=on][,...]",
      "export a node, as block-export-add does", .apply = apply_export },
    { "object", "[qom-type=]iothread|secret,id=ID[,...]", "make an object, as object-add does",
      .apply = apply_object },
    { "chardev", "BACKEND,id=ID[,...]", "a character device: socket, stdio, file or null",
      .apply = apply_chardev },
    { "monitor", "[chardev=]ID[,mode=control][,pretty=on][,id=ID]",
      "QMP on a character device (also -mon)", .apply = apply_monitor },
    { "mon", "", NULL, .apply = apply_monitor },
    { "qmp", "unix:PATH|tcp:HOST:PORT|stdio|null[,server=on][,wait=off]",
      "both in one", .apply = apply_qmp },
    { "qmp-pretty", "", NULL, .apply = apply_qmp_pretty },
    { "name", "NAME", "what query-name answers", .apply = apply_name },
    { "S", NULL, "query-status says 'paused' until cont", .apply = apply_stopped },
    { "trace", "PATTERN[,file=PATH]", "write events as they happen; 'help' lists them",
      .early = early_trace },
    { "T", "PATTERN", NULL, .early = early_trace },
    { "pidfile", "PATH", "write and lock a file with the process number",
      .early = early_pidfile },
    { "daemonize", NULL, "go to the background once everything above is done",
      .early = early_daemonize },
    { "poller", "auto|io_uring|epoll",
      "how to wait for I/O (default: $TANDEM_POLLER, or auto)", .early = early_poller },
    { "nodefaults", NULL, NULL, .apply = apply_nothing },
    { "no-user-config", NULL, NULL, .apply = apply_nothing },
    { "nographic", NULL, NULL, .apply = apply_nothing },
    { "display", "", NULL, .apply = apply_none },
    { "machine", "", NULL, .apply = apply_none },
    { "M", "", NULL, .apply = apply_none },
};

static const Option *
option_find(const char *name, size_t len)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* One option at argv[*i]; *i moves to its last word. */
static Given *
parse_one(int argc, char **argv, int *i, GError **errp)
{
    const char *word = argv[*i];
    const char *name = word + strspn(word, "-");
    size_t len = strcspn(name, "=");
    const Option *option = option_find(name, len);
    const char *arg = name[len] ? name + len + 1 : NULL;
    Given *given;

    if (word[0] != '-') {
        fail(errp, "unexpected argument '%s'", word);
        return NULL;
    }
    if (!option || name - word > 2) {
        fail(errp, "%s: invalid option", word);
        return NULL;
    }
    if (!option->arg && arg) {
        fail(errp, "%s: no argument is allowed", word);
        return NULL;
    }
    if (option->arg && !arg && *i + 1 < argc) {
        arg = argv[++*i];
    }
    if (option->arg && !arg) {
        fail(errp, "%s: requires an argument", word);
        return NULL;
    }
    given = g_new(Given, 1);
    *given = (Given){ option, word, arg };
    return given;
}

/* "--blockdev x: text" */
static void
prefix_error(GError **errp, const Given *g)
{
    size_t len = strlen(g->option->name);
    size_t dashes = strspn(g->spelling, "-");

    g_prefix_error(errp, "%.*s%s%s: ", (int)(dashes + len), g->spelling, g->arg ? " " : "",
                   g->arg ? g->arg : "");
}

GPtrArray *
options_parse(int argc, char **argv, Early *ret, GError **errp)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);

    for (int i = 1; i < argc; i++) {
        Given *g = parse_one(argc, argv, &i, errp);

        if (!g) {
            return NULL;
        }
        g_ptr_array_add(all, g);
        if (g->option->early && !g->option->early(ret, g->arg, errp)) {
            prefix_error(errp, g);
            return NULL;
        }
    }
    return g_steal_pointer(&all);
}

bool coroutine_fn
options_co_apply(const GPtrArray *given, GError **errp)
{
    for (guint i = 0; i < given->len; i++) {
        const Given *g = given->pdata[i];

        if (machine_shutdown_cause() != SHUTDOWN_CAUSE_NONE) {
            return true;
        }
        if (g->option->apply && !g->option->apply(g->arg, errp)) {
            prefix_error(errp, g);
            return false;
        }
    }
    return true;
}

void
options_print_help(void)
{
    printf("Usage: %s [OPTION]...\n\n"
           "Own block nodes, jobs, exports and replication, as QMP says.\n"
           "Options are applied in the order given; one dash or two are the same.\n\n", PROGRAM);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        const Option *o = &options[i];

        if (o->help) {
            const char *dash = strlen(o->name) == 1 ? "-" : "--";

            printf("  %s%s%s%s\n        %s\n", dash, o->name, o->arg ? " " : "",
                   o->arg ? o->arg : "", o->help);
        }
    }
}
