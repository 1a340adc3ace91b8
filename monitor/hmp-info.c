/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP's "info": what the queries of QMP tell, for people. */
#include <inttypes.h>
#include <string.h>

#include "hmp.h"
#include "monitor/machine.h"
#include "qapi/commands.h"
#include "qapi/walk.h"
#include "util/error.h"

/* --- info block [-n] [-v] [NAME] --- */

static void
print_medium(GString *out, const BlockDeviceInfo *node)
{
    g_string_append_printf(out, ": %s (%s%s%s)\r\n", node->file, node->drv,
                           node->ro ? ", read-only" : "", node->encrypted ? ", encrypted" : "");
}

static void
print_medium_details(GString *out, const BlockDeviceInfo *node)
{
    g_string_append_printf(out, "    Cache mode:       %s%s%s\r\n",
                           node->cache->writeback ? "writeback" : "writethrough",
                           node->cache->direct ? ", direct" : "",
                           node->cache->no_flush ? ", ignore flushes" : "");
    if (node->backing_file) {
        g_string_append_printf(out, "    Backing file:     %s (chain depth: %" PRId64 ")\r\n",
                               node->backing_file, node->backing_file_depth);
    }
    if (node->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        g_string_append_printf(out, "    Detect zeroes:    %s\r\n",
                               qapi_enum_str(&qapi_type_blockdev_detect_zeroes_options,
                                             (int)node->detect_zeroes));
    }
}

static void
print_drive(GString *out, const BlockInfo *drive)
{
    const BlockDeviceInfo *node = drive->inserted;

    g_string_append(out, drive->device);
    if (node) {
        g_string_append_printf(out, " (%s)", node->node_name);
        print_medium(out, node);
    } else {
        g_string_append(out, ": [not inserted]\r\n");
    }
    if (drive->removable) {
        g_string_append_printf(out, "    Removable device: %slocked, tray %s\r\n",
                               drive->locked ? "" : "not ", drive->tray_open ? "open" : "closed");
    }
    if (node) {
        print_medium_details(out, node);
    }
}

static bool coroutine_fn
info_drives(const char *name, GString *out, GError **errp)
{
    g_autoptr(BlockInfoArray) drives = qmp_query_block(errp);
    bool first = true;

    for (size_t i = 0; drives && i < drives->n; i++) {
        if (!name || strcmp(name, drives->items[i]->device) == 0) {
            g_string_append(out, first ? "" : "\r\n");
            print_drive(out, drives->items[i]);
            first = false;
        }
    }
    return drives != NULL;
}

/* All of them, or the one called @name, or none. */
static bool coroutine_fn
info_nodes(const char *name, GString *out, GError **errp)
{
    const QmpQueryNamedBlockNodesArgs deep = { .flat = false };
    g_autoptr(BlockDeviceInfoArray) nodes = qmp_query_named_block_nodes(&deep, errp);
    bool first = !name;

    for (size_t i = 0; nodes && i < nodes->n; i++) {
        const BlockDeviceInfo *node = nodes->items[i];

        if (!name || strcmp(name, node->node_name) == 0) {
            g_string_append_printf(out, "%s%s", first ? "" : "\r\n", node->node_name);
            print_medium(out, node);
            print_medium_details(out, node);
            first = false;
        }
    }
    return nodes != NULL;
}

static bool coroutine_fn
info_block(int argc, char **argv, GString *out, GError **errp)
{
    const char *name = NULL;
    bool nodes = false;
    gsize before = out->len;

    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0) {
            nodes = true;
        } else if (strcmp(argv[i], "-v") != 0) { /* there is no more to be said */
            name = argv[i];
        }
    }
    if (nodes) {
        return info_nodes(NULL, out, errp);
    }
    return info_drives(name, out, errp) &&
           (!name || out->len > before || info_nodes(name, out, errp));
}

static bool coroutine_fn
info_jobs(int argc, char **argv, GString *out, GError **errp)
{
    g_autoptr(JobInfoArray) jobs = qmp_query_jobs(errp);

    for (size_t i = 0; jobs && i < jobs->n; i++) {
        const JobInfo *job = jobs->items[i];

        g_string_append_printf(out, "%s: %s, %s, %" PRId64 " of %" PRId64 "%s%s\r\n", job->id,
                               qapi_enum_str(&qapi_type_job_type, job->type),
                               qapi_enum_str(&qapi_type_job_status, job->status),
                               job->current_progress, job->total_progress,
                               job->error ? ", " : "", job->error ? job->error : "");
    }
    if (jobs && !jobs->n) {
        g_string_append(out, "No active jobs\r\n");
    }
    return jobs != NULL;
}

static bool coroutine_fn
info_status(int argc, char **argv, GString *out, GError **errp)
{
    g_string_append_printf(out, "VM status: %s\r\n", machine_is_running() ? "running" : "paused");
    return true;
}

static bool coroutine_fn
info_version(int argc, char **argv, GString *out, GError **errp)
{
    g_autoptr(VersionInfo) v = version_info();

    g_string_append_printf(out, "%" PRId64 ".%" PRId64 ".%" PRId64 " (%s)\r\n", v->qemu->major,
                           v->qemu->minor, v->qemu->micro, v->package);
    return true;
}

static const struct Info {
    const char *name;
    HmpFn *coroutine_ptr print;
} infos[] = {
    { "block", info_block },
    { "block-jobs", info_jobs },
    { "jobs", info_jobs },
    { "status", info_status },
    { "version", info_version },
};

bool coroutine_fn
hmp_info_co(int argc, char **argv, GString *out, GError **errp)
{
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(infos); i++) {
        if (strcmp(infos[i].name, argv[1]) == 0) {
            return infos[i].print(argc, argv, out, errp);
        }
    }
    if (argc > 1) {
        g_string_append_printf(out, "unknown command: 'info %s'\r\n", argv[1]);
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(infos); i++) {
        g_string_append_printf(out, "info %s\r\n", infos[i].name);
    }
    return true;
}
