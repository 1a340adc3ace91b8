/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace ring: the last few thousand things a thread did, printed to stderr
 * when an assertion fails or a fatal signal arrives.
 *
 * trace("event", a, b) stores a pointer, two words and a time: no formatting,
 * no I/O, no lock. @event is a string literal.
 */
#ifndef UTIL_TRACE_H
#define UTIL_TRACE_H

#include "util/compiler.h"

void trace(const char *event, uint64_t a, uint64_t b);
/** trace_dump() - the ring of this thread, oldest first; async-signal-safe */
void trace_dump(int fd);
/** trace_install_handlers() - dump on SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL */
void trace_install_handlers(void);

#endif
