/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command lines: one table says which options a program takes and what its
 * help tells of them.
 *
 * getopt_long() of the C library reads the words. So abbreviations, clusters of
 * letters, "--" and the words of its errors are those of every GNU program, and
 * with that those of QEMU's tools.
 */
#ifndef UTIL_CMDLINE_H
#define UTIL_CMDLINE_H

#include <stdio.h>

/* A table ends with a row of nothing. A row with a help text alone is a heading of the help. */
typedef struct CmdOption {
    const char *name; /* long spelling, without dashes; NULL: none */
    char letter;      /* short spelling; 0: none */
    const char *arg;  /* what the help calls its argument; NULL: it takes none */
    const char *help; /* lines; NULL: the help does not show it */
    int code;         /* what cmdline_next() returns for a row without letter */
} CmdOption;

/**
 * cmdline_next() - the letter or code of the next option; -1 behind the last
 * @mode: what stands at the beginning of getopt()'s list of letters; "" or of
 *        '+' (the first word that is no option ends them), '-' (such a word is
 *        option 1), and last ':' (print no errors)
 *
 * As getopt_long() it uses optarg and optind, moves words that are no options
 * to the end, and returns '?' after an error, which it has printed, or with ':'
 * in @mode ':' for a missing argument. 0 in optind starts over.
 */
int cmdline_next(int argc, char **argv, const char *mode, const CmdOption *options);

/** cmdline_print_help() - an option a line, its text beside it */
void cmdline_print_help(FILE *out, const CmdOption *options);

#endif
