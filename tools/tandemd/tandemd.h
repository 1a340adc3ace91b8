/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tandemd: what its files share. */
#ifndef TANDEMD_H
#define TANDEMD_H

#include <glib.h>
#include <stdbool.h>

#include "util/coroutine.h"
#include "util/loop.h"

#define PROGRAM "tandemd"

/* --- options.c --- */

/* What is looked at before anything is done. */
typedef struct Early {
    bool daemonize;
    const char *pidfile; /* NULL: none */
    LoopPoller poller;
} Early;

typedef struct Given Given; /* an option with its argument, or another word */

/**
 * options_parse() - split the command line; a GPtrArray of Given, or NULL and errp
 *
 * Exits where help or the version is asked for, and after errors that getopt_long() tells.
 */
GPtrArray *options_parse(int argc, char **argv, Early *ret, GError **errp);
/** options_co_apply() - do what they say, in order, until one fails or the end is wanted */
bool coroutine_fn options_co_apply(const GPtrArray *given, GError **errp);

/* --- apply.c: what an option does --- */

bool coroutine_fn apply_blockdev(const char *arg, GError **errp);
bool coroutine_fn apply_chardev(const char *arg, GError **errp);
bool coroutine_fn apply_drive(const char *arg, GError **errp);
bool coroutine_fn apply_export(const char *arg, GError **errp);
bool coroutine_fn apply_machine(const char *arg, GError **errp);
bool coroutine_fn apply_monitor(const char *arg, GError **errp);
bool coroutine_fn apply_name(const char *arg, GError **errp);
bool coroutine_fn apply_nbd_server(const char *arg, GError **errp);
bool coroutine_fn apply_none(const char *arg, GError **errp);
bool coroutine_fn apply_nothing(const char *arg, GError **errp);
bool coroutine_fn apply_object(const char *arg, GError **errp);
bool coroutine_fn apply_qmp(const char *arg, GError **errp);
bool coroutine_fn apply_qmp_pretty(const char *arg, GError **errp);
bool coroutine_fn apply_stopped(const char *arg, GError **errp);
bool coroutine_fn apply_words_monitor(const char *arg, GError **errp);

/* --- process.c --- */

/** process_daemonize() - go on in a child without terminal; the parent exits with what
 * process_started() says. Before there is any thread. */
bool process_daemonize(GError **errp);
/** process_is_daemon() - after process_daemonize() and before process_started() */
bool process_is_daemon(void);
/** process_write_pidfile() - write and lock @path; another process that has it is an error */
bool process_write_pidfile(const char *path, GError **errp);
/** process_started() - let the parent exit 0 and give up stdin, stdout and stderr. Without effect
 * in a process that is no daemon. */
void process_started(void);
void process_remove_pidfile(void);

/* --- teardown.c --- */

/** teardown_co() - undo everything, cleanly and without waiting for silent peers; false if a
 * command did not come back */
bool coroutine_fn teardown_co(void);

#endif
