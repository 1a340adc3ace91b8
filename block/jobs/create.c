/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The job of blockdev-create: a driver makes an image, which may take long. */
#include <errno.h>

#include <string.h>

#include "block/driver.h"
#include "block/jobs/job-int.h"
#include "qapi/walk.h"

typedef struct CreateState {
    const BlockDriver *drv;
    BlockdevCreateOptions *opts;
} CreateState;

bool
job_is_block_job(const Job *job)
{
    return job->drv->type != JOB_TYPE_CREATE && job->drv->type != JOB_TYPE_AMEND;
}

static int coroutine_fn
create_co_run(Job *job)
{
    CreateState *s = job->state;
    g_autoptr(GError) err = NULL;
    bool ok;

    job->progress.total = 1;
    ok = s->drv->co_create(s->opts, &err);
    job->progress.current = 1; /* however it went */
    if (!ok) {
        /* Behind the first line are hints for people at a terminal. */
        job_set_error(job, g_strndup(err->message, strcspn(err->message, "\n")));
        return -EIO;
    }
    return 0;
}

static int coroutine_fn
create_co_finish(Job *job, int ret)
{
    CreateState *s = job->state;

    g_clear_pointer(&s->opts, blockdev_create_options_free);
    return ret;
}

static const JobDriver create_driver = {
    .type = JOB_TYPE_CREATE,
    .state_size = sizeof(CreateState),
    .co_run = create_co_run,
    .co_finish = create_co_finish,
};

Job *
create_job_start(const JobOptions *o, const BlockdevCreateOptions *opts, GError **errp)
{
    const char *name = qapi_enum_str(&qapi_type_blockdev_driver, opts->driver);
    const BlockDriver *drv = driver_find(name);
    JobOptions kept = *o;
    CreateState *s;
    Job *job;

    if (!drv || !drv->co_create) {
        return fail(errp, "Driver does not support blockdev-create"), NULL;
    }
    kept.manual_dismiss = true;
    job = job_new(&create_driver, &kept, errp);
    if (job) {
        s = job->state;
        s->drv = drv;
        s->opts = blockdev_create_options_copy(opts);
        job_start(job);
    }
    return job;
}
