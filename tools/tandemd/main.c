/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandemd: the daemon that owns disks, exports them and is told over QMP what
 * to do with them.
 *
 * One coroutine lives as long as the program: it applies the options in order,
 * waits for the end to be wanted, and takes everything down again.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/drivers.h"
#include "block/node.h"
#include "monitor/chardev.h"
#include "monitor/machine.h"
#include "monitor/monitor.h"
#include "tandemd.h"
#include "util/trace.h"

typedef struct Run {
    const Early *early;
    const GPtrArray *given;
    bool ok;
} Run;

static void
print_error(const GError *err)
{
    fprintf(stderr, "%s: %s\n", PROGRAM, err->message);
}

static void
print_warning(const char *text)
{
    fprintf(stderr, "%s: warning: %s\n", PROGRAM, text);
}

static void
on_signal(void *opaque)
{
    chardevs_stop(); /* a start that waits for a client waits no more */
    machine_request_shutdown(SHUTDOWN_CAUSE_HOST_SIGNAL);
}

static bool
handle_signals(GError **errp)
{
    Loop *loop = loop_current();

    loop_ignore_io_signals();
    return loop_signal_add(loop, SIGINT, on_signal, NULL, errp) &&
           loop_signal_add(loop, SIGTERM, on_signal, NULL, errp) &&
           loop_signal_add(loop, SIGHUP, on_signal, NULL, errp);
}

static bool coroutine_fn
start_co(const Run *run, GError **errp)
{
    if (!handle_signals(errp) || !options_co_apply(run->given, errp)) {
        return false;
    }
    if (run->early->pidfile && !process_write_pidfile(run->early->pidfile, errp)) {
        return false;
    }
    process_started();
    monitors_open();
    return true;
}

static void coroutine_fn
live(void *opaque)
{
    g_autoptr(GError) err = NULL;
    Run *run = opaque;

    monitors_start();
    run->ok = start_co(run, &err);
    if (run->ok) {
        (void)machine_co_wait_shutdown(); /* why is told when the exports are gone */
    } else if (machine_shutdown_cause() != SHUTDOWN_CAUSE_NONE) {
        run->ok = true; /* a signal while starting */
    } else {
        print_error(err);
    }
    if (!teardown_co()) {
        fprintf(stderr, "%s: a command does not return; leaving without it\n", PROGRAM);
        process_remove_pidfile();
        _exit(EXIT_FAILURE);
    }
    process_remove_pidfile();
}

static int
run_program(const Early *early, const GPtrArray *given)
{
    g_autoptr(GError) err = NULL;
    Run run = { .early = early, .given = given };
    Loop *loop;

    if (early->daemonize && !process_daemonize(&err)) {
        print_error(err);
        return EXIT_FAILURE;
    }
    loop = loop_new(early->poller, &err);
    if (!loop) {
        print_error(err);
        return EXIT_FAILURE;
    }
    trace_install_handlers();
    block_set_warning(print_warning);
    drivers_register();
    loop_run_coroutine(loop, live, &run);
    loop_free(loop);
    return run.ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    Early early = { .poller = LOOP_POLLER_AUTO };
    g_autoptr(GPtrArray) given = options_parse(argc, argv, &early, &err);

    if (!given) {
        print_error(err);
        return EXIT_FAILURE;
    }
    return run_program(&early, given);
}
