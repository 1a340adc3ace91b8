/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HMP's "info": what the queries of QMP tell, for people. */
#include <inttypes.h>
#include <string.h>

#include "hmp.h"
#include "monitor/machine.h"
#include "qapi/commands.h"
#include "qapi/walk.h"
#include "util/error.h"

static bool coroutine_fn
info_block(GString *out, GError **errp)
{
    g_autoptr(BlockInfoArray) drives = qmp_query_block(errp);

    for (size_t i = 0; drives && i < drives->n; i++) {
        const BlockInfo *drive = drives->items[i];
        const BlockDeviceInfo *node = drive->inserted;

        if (node) {
            g_string_append_printf(out, "%s (%s): %s (%s%s)\r\n", drive->device, node->node_name,
                                   node->file, node->drv, node->ro ? ", read-only" : "");
        } else {
            g_string_append_printf(out, "%s: [not inserted]\r\n", drive->device);
        }
    }
    return drives != NULL;
}

static bool coroutine_fn
info_jobs(GString *out, GError **errp)
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
info_status(GString *out, GError **errp)
{
    g_string_append_printf(out, "VM status: %s\r\n", machine_is_running() ? "running" : "paused");
    return true;
}

static bool coroutine_fn
info_version(GString *out, GError **errp)
{
    g_autoptr(VersionInfo) v = version_info();

    g_string_append_printf(out, "%" PRId64 ".%" PRId64 ".%" PRId64 " (%s)\r\n", v->qemu->major,
                           v->qemu->minor, v->qemu->micro, v->package);
    return true;
}

static const struct Info {
    const char *name;
    bool (*coroutine_ptr print)(GString *out, GError **errp);
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
    for (size_t i = 0; argc == 2 && i < G_N_ELEMENTS(infos); i++) {
        if (strcmp(infos[i].name, argv[1]) == 0) {
            return infos[i].print(out, errp);
        }
    }
    return fail(errp, "usage: info block|block-jobs|jobs|status|version");
}
