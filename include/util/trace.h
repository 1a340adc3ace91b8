/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace ring: the last few thousand things a thread did, printed to stderr
 * when an assertion fails or a fatal signal arrives.
 *
 * trace("event", a, b) stores a pointer, two words and a time: no formatting,
 * no I/O, no lock. @event is a string literal of the list in trace-select.c.
 * Events that the user has selected are written when they happen too.
 */
#ifndef UTIL_TRACE_H
#define UTIL_TRACE_H

#include <glib.h>
#include <stdio.h>

#include "util/compiler.h"

void trace(const char *event, uint64_t a, uint64_t b);
/** trace_dump() - the ring of this thread, oldest first; async-signal-safe */
void trace_dump(int fd);
/**
 * trace_option() - "[enable=]PATTERN[,events=FILE][,file=FILE]": the programs' option -T
 * @warn: is told of patterns that no event matches
 *
 * Each use adds; a pattern that begins with '-' takes away. Before other threads exist.
 */
bool trace_option(const char *arg, void (*warn)(const char *text), GError **errp);
/** trace_help() - if @arg of -T asks for it, list the events to @out and return true */
bool trace_help(const char *arg, FILE *out);
bool trace_is_selected(const char *event);
/** trace_write_to() - @fd gets selected events from now on; it is ours then, but for stderr's */
void trace_write_to(int fd);
/** trace_install_handlers() - dump on SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL */
void trace_install_handlers(void);

#endif
