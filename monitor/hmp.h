/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The language for people, as far as recipes for replication need it. It is
 * spoken through human-monitor-command only.
 */
#ifndef MONITOR_HMP_H
#define MONITOR_HMP_H

#include <glib.h>
#include <stdbool.h>

#include "util/coroutine.h"

/* A command: @argv[0] is its name, @out takes what it prints. False and errp is printed too;
 * without an error it is told that a word of the command line is missing. */
typedef bool HmpFn(int argc, char **argv, GString *out, GError **errp);

/** hmp_print_lines() - @prefix and the lines of @text, which end as they do on a terminal */
void hmp_print_lines(GString *out, const char *prefix, const char *text);

/** hmp_info_co() - "info WHAT" */
bool coroutine_fn hmp_info_co(int argc, char **argv, GString *out, GError **errp);
/** hmp_qemu_io_co() - "qemu-io DEVICE COMMAND" */
bool coroutine_fn hmp_qemu_io_co(int argc, char **argv, GString *out, GError **errp);

#endif
