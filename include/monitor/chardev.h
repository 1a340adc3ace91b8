/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices: where the clients of a monitor come from.
 *
 * A socket that listens has one client at a time; others wait in its backlog.
 * A socket that connects, and stdio, have one client in all. A file takes what
 * is written, and null neither gives nor takes anything.
 *
 * One list for the process, on the main loop's thread.
 */
#ifndef MONITOR_CHARDEV_H
#define MONITOR_CHARDEV_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "util/stream.h"

typedef struct Chardev Chardev;

/* Serves one client; a coroutine_fn that owns @s. The next is accepted when it returns. */
typedef void ChardevServeFn(Stream *s, void *opaque);

/**
 * chardev_co_add() - make one
 * @opts: flat, as qemu_opts_parse() makes it: "backend", "id" and more
 *
 * A listening socket with wait=on makes this wait for its first client, or for
 * the end of the program (false).
 */
bool coroutine_fn chardev_co_add(const json_t *opts, GError **errp);

/** chardev_help() - if @text of --chardev asks for it, tell what there is to @out: true */
bool chardev_help(const char *text, FILE *out);

/** chardev_opts_from_compat() - "unix:PATH,server=on", "tcp:HOST:PORT", "stdio", "null",
 * "file:PATH" as those options; a new reference, or NULL and errp */
json_t *chardev_opts_from_compat(const char *text, const char *id, GError **errp);

Chardev *chardev_find(const char *id);

/** chardev_attach() - have clients served; a device serves one user only */
bool chardev_attach(Chardev *c, ChardevServeFn *fn, void *opaque, GError **errp);

/** chardevs_stop() - accept nobody any more; unlinks sockets. Clients stay connected. */
void chardevs_stop(void);
/** chardevs_co_free() - once no client is served any more */
void coroutine_fn chardevs_co_free(void);

#endif
