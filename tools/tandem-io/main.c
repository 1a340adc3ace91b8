/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-io: requests to a disk image by hand, with the commands, outputs and
 * exit statuses of qemu-io.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blkdebug.h"
#include "block/drivers.h"
#include "image/corruption.h"
#include "image/io-cmd.h"
#include "image/open.h"
#include "util/cmdline.h"
#include "util/error.h"
#include "util/loop.h"
#include "util/trace.h"

#define PROGRAM "tandem-io"

typedef struct Tool {
    ImageSpec spec;       /* as the command line says */
    GPtrArray *commands;  /* of -c */
    bool quit;
} Tool;

static void NORETURN die(const char *fmt, const char *arg)
{
    fflush(stdout);
    fprintf(stderr, PROGRAM ": ");
    fprintf(stderr, fmt, arg);
    fprintf(stderr, "\n");
    exit(EXIT_FAILURE);
}

/* --- opening and closing --- */

/* @device: what a failure names; NULL if there are options only. */
static bool coroutine_fn open_image(IoCmd *io, const ImageSpec *spec, const char *device)
{
    GError *err = NULL;
    BlockBackend *be;

    if (io_cmd_backend(io)) {
        fail(&err, "file open already, try 'help close'");
        io_cmd_report(io, err);
        return false;
    }
    be = image_co_open(spec, &err);
    if (!be) {
        g_prefix_error(&err, "can't open%s%s: ", device ? " device " : "", device ? device : "");
        io_cmd_report(io, err);
        return false;
    }
    io_cmd_co_set_backend(io, be);
    return true;
}

static void coroutine_fn close_image(IoCmd *io)
{
    BlockBackend *be = io_cmd_backend(io);

    if (be) {
        /* Not every node flushes when it closes; an error has been told or belongs to nobody. */
        (void)backend_co_flush(be);
        io_cmd_co_set_backend(io, NULL);
        backend_co_free(be);
    }
}

static int coroutine_fn close_co(IoCmd *io, int argc, char **argv)
{
    close_image(io);
    return 0;
}

static int coroutine_fn quit_co(IoCmd *io, int argc, char **argv)
{
    Tool *t = io_cmd_opaque(io);

    t->quit = true;
    return 0;
}

/* A command's write is on the disk when it is told, so that a crash after it loses nothing. */
static ImageSpec default_spec(void)
{
    return (ImageSpec){.flags.unmap = true, .writethrough = true};
}

static bool take_mode(ImageSpec *spec, int opt, const char *arg, GError **errp)
{
    switch (opt) {
    case 'r':
        spec->flags.read_only = true;
        return true;
    case 'U':
        spec->flags.force_share = true;
        return true;
    case 'n':
        return image_cache_parse("none", spec);
    case 'k':
        return image_aio_parse("native", spec);
    case 't':
        return image_cache_parse(arg, spec) || fail(errp, "Invalid cache option: %s", arg);
    case 'd':
        return image_discard_parse(arg, spec) || fail(errp, "Invalid discard option: %s", arg);
    case 'i':
        return image_aio_parse(arg, spec) || fail(errp, "Invalid aio option: %s", arg);
    case 'm':
        return true; /* requests may be misaligned whatever the cache mode */
    case 's':
        return fail(errp, "Option '-s' (snapshot) is not supported");
    case 'C':
        return fail(errp, "Option '-C' (copy-on-read) is not supported");
    }
    return fail(errp, "Option '-%c' is not supported", opt);
}

/* "open -o driver=raw,... [path]": options, to which the path is added. */
static char *with_path(const char *options, const char *path)
{
    g_auto(GStrv) parts = path ? g_strsplit(path, ",", -1) : NULL;
    g_autofree char *escaped = parts ? g_strjoinv(",,", parts) : NULL;

    return escaped ? g_strdup_printf("%s,file.filename=%s", options, escaped) : g_strdup(options);
}

static int coroutine_fn open_co(IoCmd *io, int argc, char **argv)
{
    ImageSpec spec = default_spec();
    const char *options = NULL, *path;
    g_autofree char *text = NULL;
    GError *err = NULL;
    int opt;

    while ((opt = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
        if (opt == '?') {
            return io_cmd_usage(io, "open");
        }
        if (opt == 'o') {
            options = optarg;
        } else if (!take_mode(&spec, opt, optarg, &err)) {
            io_cmd_report(io, err);
            return -EINVAL;
        }
    }
    path = optind < argc ? argv[optind++] : NULL;
    if (io_cmd_backend(io)) {
        return open_image(io, &spec, path) ? 0 : -EINVAL; /* refused */
    }
    if (optind < argc || (!path && !options)) {
        return io_cmd_usage(io, "open");
    }
    text = options ? with_path(options, path) : g_strdup(path);
    spec.name = text;
    spec.image_opts = options != NULL;
    return open_image(io, &spec, path) ? 0 : -EINVAL;
}

static const IoCommand tool_commands[] = {
    {"close", "c", close_co, 0, 0, false, 0, NULL, "close the current open file", NULL},
    {"open", "o", open_co, 1, -1, true, 0,
     "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]", "open the file specified by path",
     " -r, -- open file read-only\n"
     " -n, -- short for -t none\n"
     " -U, -- leave out what keeps others away\n"
     " -k, -- short for -i native\n"
     " -i, -- engine: threads, native, io_uring\n"
     " -t, -- cache mode\n"
     " -d, -- discard mode: ignore, unmap\n"
     " -o, -- options of the driver\n"},
    {"quit", "q", quit_co, 0, -1, true, 0, NULL, "exit the program", NULL},
};

/* --- lines --- */

typedef struct ReadLine {
    char *line;
    size_t room;
    ssize_t n;
} ReadLine;

static int call_getline(void *opaque)
{
    ReadLine *r = opaque;

    r->n = getline(&r->line, &r->room, stdin);
    return 0;
}

/* Requests in the background go on while a worker waits for the user. */
static int coroutine_fn run_lines(Tool *t, IoCmd *io)
{
    ReadLine r = {0};
    int status = 0;

    while (!t->quit) {
        printf(PROGRAM "> ");
        fflush(stdout);
        (void)co_run_blocking(call_getline, &r);
        if (r.n < 0) {
            printf("%s", isatty(STDIN_FILENO) ? "\n" : "");
            break;
        }
        if (io_cmd_co_run(io, g_strchomp(r.line)) < 0) {
            status = -1;
        }
    }
    free(r.line);
    return status;
}

static int coroutine_fn run_commands(Tool *t, IoCmd *io)
{
    int status = 0;

    for (guint i = 0; i < t->commands->len && !t->quit; i++) {
        if (io_cmd_co_run(io, t->commands->pdata[i]) < 0) {
            status = -1;
        }
    }
    return status;
}

typedef struct Run {
    Tool *tool;
    int status;
} Run;

static void coroutine_fn run_entry(void *opaque)
{
    Run *r = opaque;
    Tool *t = r->tool;
    IoCmd *io = io_cmd_new(PROGRAM, stdout, stderr, tool_commands, G_N_ELEMENTS(tool_commands), t);

    r->status = EXIT_FAILURE;
    if (!t->spec.name || open_image(io, &t->spec, t->spec.image_opts ? NULL : t->spec.name)) {
        r->status = (t->commands->len > 0 ? run_commands(t, io) : run_lines(t, io)) < 0
                        ? EXIT_FAILURE
                        : EXIT_SUCCESS;
        close_image(io);
    }
    io_cmd_co_free(io);
}

/* --- the command line --- */

enum {
    OPT_OBJECT = 256,
    OPT_IMAGE_OPTS,
};

static const CmdOption options[] = {
    {"image-opts", .help = "FILE is a list of options", .code = OPT_IMAGE_OPTS},
    {"object", 0, "secret,...", "a secret for the image", .code = OPT_OBJECT},
    {"cmd", 'c', "STRING", "run a command; may be given again"},
    {"format", 'f', "FMT", "(default: probe)"},
    {"read-only", 'r', .help = "open it read-only"},
    {"snapshot", 's'},     /* refused */
    {"copy-on-read", 'C'}, /* refused */
    {"misalign", 'm'},
    {"nocache", 'n', .help = "short for -t none"},
    {"native-aio", 'k', .help = "short for -i native"},
    {"aio", 'i', "MODE", "threads, native, io_uring"},
    {"cache", 't', "MODE", "none, writeback, writethrough (default), directsync,\nunsafe"},
    {"discard", 'd', "MODE", "ignore, unmap (default)"},
    {"trace", 'T', "PATTERN", "write events as they happen; 'help' lists them"},
    {"force-share", 'U', .help = "leave out what keeps others away"},
    {"help", 'h', .help = "print this and exit"},
    {"version", 'V', .help = "print the version and exit"},
    {NULL},
};

static void NORETURN print_help(int status)
{
    printf("Usage: " PROGRAM " [OPTIONS]... [-c STRING]... [file]\nDisk exerciser\n\n");
    cmdline_print_help(stdout, options);
    printf("\nSee '" PROGRAM " -c help' for the commands.\n");
    exit(status);
}

static void warn_of_trace(const char *text)
{
    fprintf(stderr, PROGRAM ": warning: %s\n", text);
}

static void take_option(Tool *t, int opt)
{
    GError *err = NULL;

    switch (opt) {
    case 'h':
        print_help(EXIT_SUCCESS);
    case 'V':
        printf(PROGRAM " version %s\n", TANDEM_VERSION);
        exit(EXIT_SUCCESS);
    case 'c':
        g_ptr_array_add(t->commands, optarg);
        return;
    case 'f':
        t->spec.format = optarg;
        return;
    case OPT_IMAGE_OPTS:
        t->spec.image_opts = true;
        return;
    case 'T':
        if (trace_help(optarg, stdout)) {
            exit(EXIT_SUCCESS);
        }
        if (!trace_option(optarg, warn_of_trace, &err)) {
            die("%s", err->message);
        }
        return;
    case OPT_OBJECT:
        if (image_object_help(optarg, stdout)) {
            exit(EXIT_SUCCESS);
        }
        if (!image_object_take(optarg, &err)) {
            die("%s", err->message);
        }
        return;
    case '?':
        print_help(EXIT_FAILURE);
    }
    if (!take_mode(&t->spec, opt, optarg, &err)) {
        die("%s", err->message);
    }
}

static void parse(int argc, char **argv, Tool *t)
{
    int opt;

    while ((opt = cmdline_next(argc, argv, "", options)) != -1) {
        take_option(t, opt);
    }
    if (argc - optind > 1) {
        print_help(EXIT_FAILURE);
    }
    if (t->spec.format && t->spec.image_opts) {
        die("%s", "--image-opts and -f are mutually exclusive");
    }
    t->spec.name = optind < argc ? argv[optind] : NULL;
}

static void tell_stop(const char *what, const char *tag)
{
    printf("blkdebug: %s request '%s'\n", what, tag);
}

static void warn(const char *text)
{
    fflush(stdout);
    fprintf(stderr, "WARNING: %s\n", text);
}

int main(int argc, char **argv)
{
    Tool tool = {.commands = g_ptr_array_new(), .spec = default_spec()};
    Run run = {.tool = &tool};
    GError *err = NULL;
    Loop *loop;

    parse(argc, argv, &tool);
    trace_install_handlers();
    loop_ignore_io_signals();
    image_tell_corruption();
    blkdebug_set_notice(tell_stop);
    loop = loop_new(LOOP_POLLER_AUTO, &err);
    if (!loop) {
        die("%s", err->message);
    }
    block_set_warning(warn);
    drivers_register();
    loop_run_coroutine(loop, run_entry, &run);
    loop_free(loop);
    g_ptr_array_free(tool.commands, TRUE);
    return run.status;
}
