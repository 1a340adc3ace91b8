/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-nbd: the command line, as qemu-nbd has it. What we lack is refused by
 * its name, never ignored.
 */
#include "tandem-nbd.h"

#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/nbd/proto.h"
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
    OPT_REFUSED,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"bind", required_argument, NULL, 'b'},
    {"port", required_argument, NULL, 'p'},
    {"socket", required_argument, NULL, 'k'},
    {"shared", required_argument, NULL, 'e'},
    {"persistent", no_argument, NULL, 't'},
    {"export-name", required_argument, NULL, 'x'},
    {"description", required_argument, NULL, 'D'},
    {"read-only", no_argument, NULL, 'r'},
    {"allocation-depth", no_argument, NULL, 'A'},
    {"format", required_argument, NULL, 'f'},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {"nocache", no_argument, NULL, 'n'},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"aio", required_argument, NULL, OPT_AIO},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"detect-zeroes", required_argument, NULL, OPT_DETECT_ZEROES},
    {"fork", no_argument, NULL, OPT_FORK},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT},
    {"verbose", no_argument, NULL, 'v'},
    {"list", no_argument, NULL, 'L'},
    {"offset", required_argument, NULL, OPT_REFUSED},
    {"snapshot", no_argument, NULL, OPT_REFUSED},
    {"load-snapshot", required_argument, NULL, OPT_REFUSED},
    {"bitmap", required_argument, NULL, OPT_REFUSED},
    {"connect", required_argument, NULL, OPT_REFUSED},
    {"disconnect", no_argument, NULL, OPT_REFUSED},
    {"object", required_argument, NULL, OPT_REFUSED},
    {"tls-creds", required_argument, NULL, OPT_REFUSED},
    {"tls-authz", required_argument, NULL, OPT_REFUSED},
    {"tls-hostname", required_argument, NULL, OPT_REFUSED},
    {"selinux-label", required_argument, NULL, OPT_REFUSED},
    {"trace", required_argument, NULL, 'T'},
    {NULL, 0, NULL, 0},
};

static const char short_options[] = ":hVb:p:k:e:tx:D:rAf:nvLT:" /* and refused: */ "o:sl:B:c:d";

static void NORETURN print_help(void)
{
    printf("Usage: tandem-nbd [OPTIONS] FILE\n"
           "  or:  tandem-nbd -L [OPTIONS]\n"
           "Serve a disk image by NBD, or list the exports of a server.\n"
           "\n"
           "  -h, --help                 print this and exit\n"
           "  -V, --version              print the version and exit\n"
           "\n"
           "Connection:\n"
           "  -p, --port=PORT            TCP port (default 10809)\n"
           "  -b, --bind=ADDRESS         address to listen at (default 0.0.0.0)\n"
           "  -k, --socket=PATH          unix socket instead\n"
           "  -e, --shared=NUM           clients at once, 0: no limit (default 1)\n"
           "  -t, --persistent           go on when the last client has left\n"
           "      --handshake-limit=N    seconds a client has to negotiate, 0: no limit\n"
           "                             (default 10)\n"
           "  -v, --verbose              say where we listen and who leaves\n"
           "  -L, --list                 list the exports of the server at that address\n"
           "\n"
           "Export:\n"
           "  -x, --export-name=NAME     (default: the empty name)\n"
           "  -D, --description=TEXT\n"
           "  -r, --read-only\n"
           "  -A, --allocation-depth     offer the context qemu:allocation-depth\n"
           "\n"
           "Image:\n"
           "  -f, --format=FORMAT        (default: probe)\n"
           "      --image-opts           FILE is a list of options\n"
           "  -n, --nocache              the same as --cache=none\n"
           "      --cache=MODE           none, writeback (default), writethrough, directsync,\n"
           "                             unsafe\n"
           "      --aio=MODE             threads, native, io_uring\n"
           "      --discard=MODE         ignore (default), unmap\n"
           "      --detect-zeroes=MODE   off (default), on, unmap\n"
           "\n"
           "Process:\n"
           "  -T, --trace=PATTERN[,file=PATH]\n"
           "                             write events as they happen; 'help' lists them\n"
           "      --fork                 go to the background once clients can connect\n"
           "      --pid-file=PATH        write the process id there\n");
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
    guint64 n;

    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &n, NULL)) {
        return fail(errp, "Invalid %s '%s'", what, text);
    }
    *ret = n;
    return true;
}

/* How the image is opened; @mode is what the option says. */
static bool take_mode(int opt, const char *mode, ImageSpec *image, GError **errp)
{
    switch (opt) {
    case OPT_AIO:
        return image_aio_parse(mode, image) || fail(errp, "Invalid aio mode '%s'", mode);
    case OPT_DISCARD:
        return image_discard_parse(mode, image) || fail(errp, "Invalid discard mode '%s'", mode);
    case OPT_DETECT_ZEROES:
        return blockdev_detect_zeroes_options_parse(mode, &image->flags.detect_zeroes) ||
               fail(errp, "Invalid detect-zeroes mode '%s'", mode);
    default:
        return image_cache_parse(mode, image) || fail(errp, "Invalid cache mode '%s'", mode);
    }
}

/* --- options --- */

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

/* The option as it was written. */
static bool refuse(int argc, char **argv, const char *why, GError **errp)
{
    const char *arg = argv[MIN(optind, argc) - 1];

    if (optopt > 0 && optopt < 256) {
        return fail(errp, "Option '-%c' %s", optopt, why);
    }
    if (optarg && arg == optarg && optind >= 2) {
        arg = argv[optind - 2];
    }
    return fail(errp, "Option '%s' %s", arg, why);
}

static void warn_of_trace(const char *text)
{
    fprintf(stderr, "tandem-nbd: warning: %s\n", text);
}

static bool take_option(int opt, int argc, char **argv, NbdToolOptions *o, GError **errp)
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
    case 'n':
        return take_mode(OPT_CACHE, "none", &o->image, errp);
    case OPT_CACHE:
    case OPT_AIO:
    case OPT_DISCARD:
    case OPT_DETECT_ZEROES:
        return take_mode(opt, optarg, &o->image, errp);
    case ':':
        return refuse(argc, argv, "needs a value", errp);
    case '?':
        return refuse(argc, argv, "is unknown", errp);
    default:
        optopt = opt < 256 ? opt : 0;
        return refuse(argc, argv, "is not supported", errp);
    }
}

static bool check(const NbdToolOptions *o, GError **errp)
{
    if (o->list) {
        return !o->image.name || fail(errp, "List mode takes no file name");
    }
    if (!o->image.name) {
        return fail(errp, "A file name is needed; see --help");
    }
    if (o->image.image_opts && o->image.format) {
        return fail(errp, "--image-opts and -f are mutually exclusive");
    }
    if (o->socket && (o->bind || o->port)) {
        return fail(errp, "The options -k and -b, -p are mutually exclusive");
    }
    return true;
}

bool options_parse(int argc, char **argv, NbdToolOptions *ret, GError **errp)
{
    NbdToolOptions o = {.shared = 1, .handshake_limit = 10};
    int opt;

    o.image.flags.detect_zeroes = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
        if (!take_option(opt, argc, argv, &o, errp)) {
            return false;
        }
    }
    if (optind < argc) {
        o.image.name = argv[optind++];
    }
    if (optind < argc) {
        return fail(errp, "Stray argument '%s'", argv[optind]);
    }
    if (!check(&o, errp)) {
        return false;
    }
    *ret = o;
    return true;
}
