/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handlers of qapi/job.json. */
#include "block/job.h"
#include "qapi/commands.h"

JobInfoArray *coroutine_fn
qmp_query_jobs(GError **errp)
{
    return job_query();
}

BlockJobInfoArray *coroutine_fn
qmp_query_block_jobs(GError **errp)
{
    return job_query_block();
}
