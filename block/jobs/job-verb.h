/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame's own parts for each other: verbs for the monitor, and the events. */
#ifndef BLOCK_JOBS_JOB_VERB_H
#define BLOCK_JOBS_JOB_VERB_H

#include "block/jobs/job-int.h"

Job *job_first(void);
bool job_is_ready(const Job *job);

/* job-event.c: nothing is told of internal jobs */
void job_tell_status(Job *job);
void job_tell_ready(Job *job);
void job_tell_pending(Job *job);
void job_tell_end(Job *job);
/** job_error_text() - of a job that failed or was cancelled; NULL: it did not */
const char *job_error_text(const Job *job);

#endif
