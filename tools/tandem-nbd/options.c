/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-nbd: the command line, as qemu-nbd has it. What we lack is refused by
 * its name, never ignored.
 */
#include "tandem-nbd.h"

#include "config.h"

#include <errno.h>
#include <getopt.h> /* optarg, optind */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/nbd/proto.h"
#include "qapi/scalar.h"
#include "util/cmdline.h"
#include "util/error.h"
#include "util/trace.h"

enum {
    OPT_CACHE = 256,
    OPT_AIO,
    OPT_DISCARD,
    OPT_DETECT_ZEROES,
    OPT_FORK,
    OPT_PID_FILE,
    OPT_IMAGE_OPTS,
    OPT_HANDSHAKE_LIMIT,
    OPT_OBJECT,
    /* Refused: */
    OPT_TLS_CREDS,
    OPT_TLS_AUTHZ,
    OPT_TLS_HOSTNAME,
    OPT_SELINUX_LABEL,
};

static const CmdOption options[] = {
    {"help", 'h', .help = "print this and exit"},
    {"version", 'V', .help = "print the version and exit"},

    {.help = "Connection:"},
    {"port", 'p', "PORT", "TCP port (default 10809)"},
    {"bind", 'b', "ADDRESS", "address to listen at (default 0.0.0.0)"},
    {"socket", 'k', "PATH", "unix socket instead"},
    {"shared", 'e', "NUM", "clients at once, 0: no limit (default 1)"},
    {"persistent", 't', .help = "go on when the last client has left"},
    {"handshake-limit", 0, "N", "seconds a client has to negotiate, 0: no limit\n(default 10)",
     OPT_HANDSHAKE_LIMIT},
    {"verbose", 'v', .help = "say where we listen and who leaves"},
    {"list", 'L', .help = "list the exports of the server at that address"},

    {.help = "Export:"},
    {"export-name", 'x', "NAME", "(default: the empty name)"},
    {"description", 'D', "TEXT", "what a client is told of the export"},
    {"read-only", 'r', .help = "refuse writes"},
    {"allocation-depth", 'A', .help = "offer the context qemu:allocation-depth"},
    {"offset", 'o', "BYTES", "where in the image the export begins (default 0)"},

    {.help = "Image:"},
    {"format", 'f', "FORMAT", "(default: probe)"},
    {"image-opts", .help = "FILE is a list of options", .code = OPT_IMAGE_OPTS},
    {"object", 0, "secret,...", "a secret for the image", OPT_OBJECT},
    {"nocache", 'n', .help = "the same as --cache=none"},
    {"cache", 0, "MODE", "none, writeback (default), writethrough, directsync,\nunsafe", OPT_CACHE},
    {"aio", 0, "MODE", "threads, native, io_uring", OPT_AIO},
    {"discard", 0, "MODE", "ignore (default), unmap", OPT_DISCARD},
    {"detect-zeroes", 0, "MODE", "off (default), on, unmap", OPT_DETECT_ZEROES},

    {.help = "Process:"},
    {"trace", 'T', "PATTERN[,file=PATH]", "write events as they happen; 'help' lists them"},
    {"fork", .help = "go to the background once clients can connect", .code = OPT_FORK},
    {"pid-file", 0, "PATH", "write the process id there", OPT_PID_FILE},

    /* Refused. */
    {"snapshot", 's'},
    {"load-snapshot", 'l', "SNAPSHOT"},
    {"bitmap", 'B', "NAME"},
    {"connect", 'c', "DEVICE"},
    {"disconnect", 'd'},
    {"tls-creds", 0, "ID", .code = OPT_TLS_CREDS},
    {"tls-authz", 0, "ID", .code = OPT_TLS_AUTHZ},
    {"tls-hostname", 0, "NAME", .code = OPT_TLS_HOSTNAME},
    {"selinux-label", 0, "LABEL", .code = OPT_SELINUX_LABEL},
    {NULL},
};

static void NORETURN print_help(void)
{
    printf("Usage: tandem-nbd [OPTIONS] FILE\n"
           "  or:  tandem-nbd -L [OPTIONS]\n"
           "Serve a disk image by NBD, or list the exports of a server.\n\n");
    cmdline_print_help(stdout, options);
    exit(EXIT_SUCCESS);
}

static void NORETURN print_version(void)
{
    printf("tandem-nbd %s\n", TANDEM_VERSION);
    exit(EXIT_SUCCESS);
}

/* --- values --- */

static bool take_number(const char *text, const char *what, unsigned *ret, GError **errp)
{
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, 0);
    if (end == text || *end || errno || n < 0 || n > INT_MAX) {
        return fail(errp, "Invalid %s '%s'", what, text);
    }
    *ret = (unsigned)n;
    return true;
}

/* One below 0 is refused when the image is open, like any other that is too large. */
static bool take_offset(const char *text, uint64_t *ret, GError **errp)
{
    bool negative = text[0] == '-';

    if (!scalar_uint(text + negative, ret)) {
        return fail(errp, "Invalid offset '%s'", text);
    }
    *ret = negative ? -*ret : *ret;
    return true;
}

/* How the image is opened; @mode is what the option says. Of two such options none would count. */
static bool take_mode(int opt, const char *mode, NbdToolOptions *o, GError **errp)
{
    static const char *const names[] = {"-n and --cache", "--aio", "--discard"};
    static bool given[G_N_ELEMENTS(names)];
    size_t which = (size_t)(opt - OPT_CACHE);

    if (given[which]) {
        return fail(errp, "%s can only be specified once", names[which]);
    }
    given[which] = true;
    switch (opt) {
    case OPT_AIO:
        return image_aio_parse(mode, &o->image) || fail(errp, "Invalid aio mode '%s'", mode);
    case OPT_DISCARD:
        return image_discard_parse(mode, &o->image) ||
               fail(errp, "Invalid discard mode `%s'", mode);
    default:
        return image_cache_parse(mode, &o->image) || fail(errp, "Invalid cache mode `%s'", mode);
    }
}

static bool take_object(const char *text, GError **errp)
{
    if (image_object_help(text, stdout)) {
        exit(EXIT_SUCCESS);
    }
    return image_object_take(text, errp);
}

/* --- options --- */

static int try_help(const char *prefix)
{
    fprintf(stderr, "%sTry `tandem-nbd --help' for more information.\n", prefix);
    return EXIT_FAILURE;
}

static bool take_text_option(int opt, NbdToolOptions *o)
{
    char **where = opt == 'b'            ? &o->bind
                   : opt == 'p'          ? &o->port
                   : opt == 'k'          ? &o->socket
                   : opt == 'x'          ? &o->name
                   : opt == 'D'          ? &o->description
                   : opt == OPT_PID_FILE ? &o->pid_file
                                         : NULL;

    if (where) {
        g_free(*where);
        *where = g_strdup(optarg);
    }
    return where != NULL;
}

static bool take_switch(int opt, NbdToolOptions *o)
{
    bool *where = opt == 't'              ? &o->persistent
                  : opt == 'r'            ? &o->image.flags.read_only
                  : opt == 'A'            ? &o->allocation_depth
                  : opt == 'v'            ? &o->verbose
                  : opt == 'L'            ? &o->list
                  : opt == OPT_FORK       ? &o->fork
                  : opt == OPT_IMAGE_OPTS ? &o->image.image_opts
                                          : NULL;

    if (where) {
        *where = true;
    }
    return where != NULL;
}

static bool refuse(int opt, GError **errp)
{
    const CmdOption *o = options;

    while (o->letter ? o->letter != opt : o->code != opt) {
        o++;
    }
    return o->letter ? fail(errp, "Option '-%c, --%s' is not supported", o->letter, o->name)
                     : fail(errp, "Option '--%s' is not supported", o->name);
}

static void warn_of_trace(const char *text)
{
    fprintf(stderr, "tandem-nbd: warning: %s\n", text);
}

static bool take_option(int opt, NbdToolOptions *o, GError **errp)
{
    if (take_text_option(opt, o) || take_switch(opt, o)) {
        return true;
    }
    switch (opt) {
    case 'f':
        o->image.format = optarg;
        return true;
    case 'h':
        print_help();
    case 'V':
        print_version();
    case 'T':
        if (trace_help(optarg, stdout)) {
            exit(EXIT_SUCCESS);
        }
        return trace_option(optarg, warn_of_trace, errp);
    case 'e':
        return take_number(optarg, "shared device number", &o->shared, errp);
    case OPT_HANDSHAKE_LIMIT:
        return take_number(optarg, "handshake limit", &o->handshake_limit, errp);
    case 'o':
        return take_offset(optarg, &o->offset, errp);
    case 'n':
        return take_mode(OPT_CACHE, "none", o, errp);
    case OPT_CACHE:
    case OPT_AIO:
    case OPT_DISCARD:
        return take_mode(opt, optarg, o, errp);
    case OPT_DETECT_ZEROES:
        return blockdev_detect_zeroes_options_parse(optarg, &o->image.flags.detect_zeroes) ||
               fail(errp, "Failed to parse detect_zeroes mode: invalid parameter value: %s",
                    optarg);
    case OPT_OBJECT:
        return take_object(optarg, errp);
    case '?':
        exit(try_help("tandem-nbd: "));
    default:
        return refuse(opt, errp);
    }
}

/* What a list of a server's exports has nothing to do with. */
static bool is_of_device(int opt)
{
    return (opt < 256 && strchr("xDAfnoBlcd", opt)) || opt == OPT_CACHE || opt == OPT_AIO ||
           opt == OPT_DISCARD;
}

static bool check(const NbdToolOptions *o, bool of_device, GError **errp)
{
    const NodeFlags *flags = &o->image.flags;

    if (o->list && o->image.name) {
        return fail(errp, "List mode is incompatible with a file name");
    }
    if (o->list && of_device) {
        return fail(errp, "List mode is incompatible with per-device settings");
    }
    if (o->list && o->fork) {
        return fail(errp, "List mode is incompatible with forking");
    }
    if (o->image.image_opts && o->image.format) {
        return fail(errp, "--image-opts and -f are mutually exclusive");
    }
    if (flags->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP && !flags->unmap) {
        return fail(errp, "setting detect-zeroes to unmap is not allowed without setting discard "
                          "operation to unmap");
    }
    return true;
}

bool options_parse(int argc, char **argv, NbdToolOptions *o, GError **errp)
{
    bool of_device = false;
    int opt;

    *o = (NbdToolOptions){.shared = 1, .handshake_limit = 10};
    o->image.flags.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    while ((opt = cmdline_next(argc, argv, "", options)) != -1) {
        of_device |= is_of_device(opt);
        if (!take_option(opt, o, errp)) {
            return false;
        }
    }
    o->image.name = argv[optind]; /* or NULL */
    if (!check(o, of_device, errp)) {
        return false;
    }
    if (!o->list && argc - optind != 1) {
        fprintf(stderr, "tandem-nbd: Invalid number of arguments\n");
        exit(try_help(""));
    }
    return true;
}
