/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-img: make, look at and change disk images, with the commands, outputs
 * and exit statuses of qemu-img.
 *
 * One loop, one coroutine that runs the one command.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "block/drivers.h"
#include "image/corruption.h"
#include "img.h"
#include "util/loop.h"
#include "util/trace.h"

typedef struct Command {
    const char *name;
    int (*coroutine_ptr run)(int argc, char **argv); /* NULL: refused by name */
    const char *help;
} Command;

static const Command commands[] = {
    {"amend", NULL, NULL},
    {"bench", img_co_bench,
     "[-c COUNT] [-d DEPTH] [-f FMT] [--flush-interval N] [-i AIO] [-n] [--no-drain] [-o OFFSET]\n"
     "        [--pattern BYTE] [-q] [-s SIZE] [-S STEP] [-t CACHE] [-w] [-U] FILE"},
    {"bitmap", NULL, NULL},
    {"check", img_co_check,
     "[-f FMT] [--image-opts] [--output human|json] [-q] [-r leaks|all] [-T CACHE] [-U] FILE"},
    {"commit", NULL, NULL},
    {"compare", img_co_compare,
     "[-f FMT] [-F FMT2] [--image-opts] [-T CACHE] [-p] [-q] [-s] [-U] FILE1 FILE2"},
    {"convert", img_co_convert,
     "[-f FMT] [-O FMT] [-o OPTIONS] [-n] [--target-is-zero] [-S SIZE] [-b BACKING [-F FMT]]\n"
     "        [-m N] [-W] [-C] [-r RATE] [-t CACHE] [-T CACHE] [--image-opts]\n"
     "        [--target-image-opts] [-p] [-q] [-U] FILE... TARGET"},
    {"create", img_co_create,
     "[-f FMT] [-b BACKING [-F FMT]] [-u] [-o OPTIONS] [-q] FILE [SIZE]"},
    {"dd", img_co_dd,
     "[-f FMT] [-O FMT] [--image-opts] [-U] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE"},
    {"info", img_co_info,
     "[-f FMT] [--image-opts] [--output human|json] [--backing-chain] [-U] FILE"},
    {"map", img_co_map,
     "[-f FMT] [--image-opts] [--output human|json] [-s OFFSET] [-l LENGTH] [-U] FILE"},
    {"measure", NULL, NULL},
    {"rebase", NULL, NULL},
    {"resize", img_co_resize,
     "[-f FMT] [--image-opts] [--preallocation MODE] [--shrink] [-q] FILE [+|-]SIZE"},
    {"snapshot", NULL, NULL},
};

typedef struct Run {
    const Command *command;
    int argc;
    char **argv;
    int status;
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;

    r->status = r->command->run(r->argc, r->argv);
}

static void warn(const char *text)
{
    fflush(stdout);
    fprintf(stderr, "WARNING: %s\n", text);
}

static int run_command(const Command *c, int argc, char **argv)
{
    GError *err = NULL;
    Run r = {.command = c, .argc = argc, .argv = argv, .status = EXIT_FAILURE};
    Loop *loop = loop_new(LOOP_POLLER_AUTO, &err);

    if (!loop) {
        return img_report(err, "%s", "");
    }
    block_set_warning(warn);
    drivers_register();
    loop_run_coroutine(loop, run_entry, &r);
    loop_free(loop);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        img_error("Could not write to standard output");
        return EXIT_FAILURE;
    }
    return r.status;
}

static int print_help(void)
{
    printf("tandem-img version %s\n"
           "usage: tandem-img [-h|-V] [-T PATTERN[,file=PATH]] command [command options]\n"
           "Disk image utility\n\nCommands:\n",
           TANDEM_VERSION);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].run) {
            printf("  %s %s\n", commands[i].name, commands[i].help);
        }
    }
    printf("\nAll take --object secret,... and --help. SIZE is a number with an optional unit\n"
           "(k, M, G, T, P or E). CACHE is none, writeback, writethrough, directsync or unsafe.\n"
           "'create -f FMT -o help' lists the options of a format.\n");
    return EXIT_SUCCESS;
}

static int print_command_help(const Command *c)
{
    printf("usage: tandem-img %s %s\n", c->name, c->help);
    return EXIT_SUCCESS;
}

static const Command *find_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

static void warn_of_trace(const char *text)
{
    img_error("warning: %s", text);
}

/* "-T PATTERN", "--trace PATTERN" or "--trace=PATTERN" before the command; how many words. */
static int take_trace(char **argv)
{
    GError *err = NULL;
    const char *arg = argv[1];
    int words = 2;

    if (g_str_has_prefix(argv[0], "--trace=")) {
        arg = argv[0] + strlen("--trace=");
        words = 1;
    } else if (strcmp(argv[0], "-T") != 0 && strcmp(argv[0], "--trace") != 0) {
        return 0;
    }
    if (!arg) {
        img_usage("option '%s' requires an argument", argv[0]);
    }
    if (trace_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    if (!trace_option(arg, warn_of_trace, &err)) {
        exit(img_report(err, "%s", ""));
    }
    return words;
}

int main(int argc, char **argv)
{
    const char *first;
    const Command *c;

    for (int n; argc > 1 && (n = take_trace(argv + 1)) > 0;) {
        argc -= n;
        argv += n;
    }
    first = argc > 1 ? argv[1] : NULL;
    if (!first) {
        img_usage("Not enough arguments");
    }
    if (strcmp(first, "-h") == 0 || strcmp(first, "--help") == 0) {
        return print_help();
    }
    if (strcmp(first, "-V") == 0 || strcmp(first, "--version") == 0) {
        printf("tandem-img version %s\n", TANDEM_VERSION);
        return EXIT_SUCCESS;
    }
    if (first[0] == '-') {
        img_usage("unrecognized option '%s'", first);
    }
    c = find_command(first);
    if (!c) {
        img_usage("Command not found: %s", first);
    }
    if (!c->run) {
        img_error("Command '%s' is not supported", first);
        return EXIT_FAILURE;
    }
    if (asks_for_help(argc - 1, argv + 1)) {
        return print_command_help(c);
    }
    trace_install_handlers();
    loop_ignore_io_signals();
    image_tell_corruption();
    return run_command(c, argc - 1, argv + 1);
}
