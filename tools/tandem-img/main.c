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

static void NORETURN print_help(void)
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
    exit(EXIT_SUCCESS);
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

void img_command_help(const char *name)
{
    printf("usage: tandem-img %s %s\n", name, find_command(name)->help);
    exit(EXIT_SUCCESS);
}

static void warn_of_trace(const char *text)
{
    img_error("warning: %s", text);
}

static void take_trace(const char *arg)
{
    GError *err = NULL;

    if (trace_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    if (!trace_option(arg, warn_of_trace, &err)) {
        exit(img_report(err, "%s", ""));
    }
}

/* What comes before the command. */
static void parse(int argc, char **argv)
{
    static const CmdOption options[] = {
        OPTION_HELP,
        {"version", 'V'},
        {"trace", 'T', "PATTERN"},
        OPTION_END,
    };
    int opt;

    if (argc < 2) {
        img_usage("Not enough arguments");
    }
    while ((opt = img_next_option(argc, argv, "+", options)) != -1) {
        switch (opt) {
        case 'h':
            print_help();
        case 'V':
            printf("tandem-img version %s\n", TANDEM_VERSION);
            exit(EXIT_SUCCESS);
        case 'T':
            take_trace(optarg);
            break;
        }
    }
}

int main(int argc, char **argv)
{
    const Command *c;

    parse(argc, argv);
    argc -= optind;
    argv += optind;
    if (argc == 0) {
        img_usage("Not enough arguments");
    }
    c = find_command(argv[0]);
    if (!c) {
        img_usage("Command not found: %s", argv[0]);
    }
    if (!c->run) {
        img_error("Command '%s' is not supported", c->name);
        return EXIT_FAILURE;
    }
    trace_install_handlers();
    loop_ignore_io_signals();
    image_tell_corruption();
    optind = 0; /* the command's own options */
    return run_command(c, argc, argv);
}
