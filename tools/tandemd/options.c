/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of tandemd: two tables, for it comes in two syntaxes.
 *
 * Options of the storage daemon are read by getopt_long(). QEMU's are words
 * after one dash or two, whole, with the argument in the next word. A word that
 * both could be is QEMU's if it has one dash.
 *
 * Options are applied in the order given, so what one names has to be defined
 * before it; early ones are looked at first.
 */
#include <getopt.h> /* optarg, optind */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor/chardev.h"
#include "monitor/machine.h"
#include "monitor/object.h"
#include "tandemd.h"
#include "util/cmdline.h"
#include "util/error.h"
#include "util/trace.h"

typedef struct Option {
    CmdOption cmd;
    bool (*early)(Early *ret, const char *arg, GError **errp);
    bool (*coroutine_ptr apply)(const char *arg, GError **errp);
} Option;

struct Given {
    const Option *option; /* NULL: a word that is no option */
    const char *arg;
    char *text; /* as it was given, for messages */
};

/* --- early ones --- */

static void NORETURN print_help(void);

static bool
early_help(Early *ret, const char *arg, GError **errp)
{
    print_help();
}

static bool
early_version(Early *ret, const char *arg, GError **errp)
{
    g_autoptr(VersionInfo) v = version_info();

    printf("%s version %" PRId64 ".%" PRId64 ".%" PRId64 " (%s)\n", PROGRAM, v->qemu->major,
           v->qemu->minor, v->qemu->micro, v->package);
    exit(EXIT_SUCCESS);
}

static bool
early_daemonize(Early *ret, const char *arg, GError **errp)
{
    ret->daemonize = true;
    return true;
}

static bool
early_pidfile(Early *ret, const char *arg, GError **errp)
{
    ret->pidfile = arg;
    return true;
}

static bool
early_poller(Early *ret, const char *arg, GError **errp)
{
    if (!loop_poller_parse(arg, &ret->poller) || ret->poller == LOOP_POLLER_VIRTUAL) {
        return fail(errp, "there is no poller '%s'; there are auto, io_uring and epoll", arg);
    }
    return true;
}

static const char *reading; /* the option that is being looked at, as it was given */

static void
warn_of_trace(const char *text)
{
    fprintf(stderr, "%s: %s: warning: %s\n", PROGRAM, reading, text);
}

static bool
early_trace(Early *ret, const char *arg, GError **errp)
{
    if (trace_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    return trace_option(arg, warn_of_trace, errp);
}

static bool
early_chardev(Early *ret, const char *arg, GError **errp)
{
    if (chardev_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    return true;
}

static bool
early_object(Early *ret, const char *arg, GError **errp)
{
    if (object_help(arg, stdout)) {
        exit(EXIT_SUCCESS);
    }
    return true;
}

/* --- the tables, in the order of the help --- */

static const Option storage[] = {
    { { "help", 'h', .help = "show this help" }, .early = early_help },
    { { "version", 'V', .help = "show the version" }, .early = early_version },
    { { "blockdev", 0, "[driver=]DRIVER,node-name=NAME[,...]|{JSON}",
        "open a node, as blockdev-add does" }, .apply = apply_blockdev },
    { { "nbd-server", 0,
        "addr.type=unix,addr.path=PATH|addr.type=inet,addr.host=H,addr.port=P[,...]",
        "start the NBD server" }, .apply = apply_nbd_server },
    { { "export", 0, "[type=]nbd,id=ID,node-name=NAME[,name=NAME][,writable=on][,...]",
        "export a node, as block-export-add does" }, .apply = apply_export },
    { { "object", 0, "[qom-type=]iothread|secret,id=ID[,...]",
        "make an object, as object-add does" }, .early = early_object, .apply = apply_object },
    { { "chardev", 0, "BACKEND,id=ID[,...]", "a character device: socket, stdio, file or null" },
      .early = early_chardev, .apply = apply_chardev },
    { { "monitor", 0, "[chardev=]ID[,mode=control][,pretty=on][,id=ID]",
        "QMP on a character device" }, .apply = apply_monitor },
    { { "trace", 'T', "PATTERN[,file=PATH]", "write events as they happen; 'help' lists them" },
      .early = early_trace },
    { { "pidfile", 0, "PATH", "write and lock a file with the process number" },
      .early = early_pidfile },
    { { "daemonize", .help = "go to the background once everything above is done" },
      .early = early_daemonize },
};

static const Option words[] = {
    { { "drive", 0, "id=ID[,file=NAME][,if=none][,...]", "open a node and name it" },
      .apply = apply_drive },
    { { "qmp", 0, "unix:PATH|tcp:HOST:PORT|stdio|null[,server=on][,wait=off]",
        "a character device and QMP on it, in one" }, .apply = apply_qmp },
    { { "qmp-pretty", 0, "DEVICE", "the same, indented" }, .apply = apply_qmp_pretty },
    { { "mon", 0, "[chardev=]ID[,...]", "the same as --monitor" }, .apply = apply_monitor },
    { { "name", 0, "NAME[,process=NAME]", "what query-name answers" }, .apply = apply_name },
    { { "S", .help = "query-status says 'paused' until cont" }, .apply = apply_stopped },
    { { "poller", 0, "auto|io_uring|epoll",
        "how to wait for I/O (default: $TANDEM_POLLER, or auto)" }, .early = early_poller },
    /* What says that there is no machine. */
    { { "nodefaults" }, .apply = apply_nothing },
    { { "no-user-config" }, .apply = apply_nothing },
    { { "nographic" }, .apply = apply_nothing },
    { { "machine", 0, "none" }, .apply = apply_machine },
    { { "M", 0, "none" }, .apply = apply_machine },
    { { "no-shutdown" }, .apply = apply_nothing },
    { { "no-reboot" }, .apply = apply_nothing },
    { { "monitor", 0, "none" }, .apply = apply_words_monitor },
    { { "display", 0, "none" }, .apply = apply_none },
    { { "vnc", 0, "none" }, .apply = apply_none },
    { { "serial", 0, "none" }, .apply = apply_none },
    { { "parallel", 0, "none" }, .apply = apply_none },
    { { "net", 0, "none" }, .apply = apply_none },
    { { "nic", 0, "none" }, .apply = apply_none },
};

#define LONG_CODE 256 /* of the first row of a table, where it has no letter */

/* The spellings of a table alone, with an end. */
static CmdOption *
spellings(const Option *table, size_t n)
{
    CmdOption *rows = g_new0(CmdOption, n + 1);

    for (size_t i = 0; i < n; i++) {
        rows[i] = table[i].cmd;
        rows[i].code = LONG_CODE + (int)i;
    }
    return rows;
}

static void NORETURN
print_help(void)
{
    g_autofree CmdOption *daemon = spellings(storage, G_N_ELEMENTS(storage));
    g_autofree CmdOption *emulator = spellings(words, G_N_ELEMENTS(words));

    printf("Usage: %s [OPTION]...\n\n"
           "Own block nodes, jobs, exports and replication, as QMP says.\n"
           "Options are applied in the order given.\n\n", PROGRAM);
    cmdline_print_help(stdout, daemon);
    printf("\nAs QEMU has them, with one dash or two and the argument in the next word:\n\n");
    cmdline_print_help(stdout, emulator);
    exit(EXIT_SUCCESS);
}

/* --- reading --- */

static const Option *
find_name(const Option *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].cmd.name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* QEMU's option that is @word; NULL if getopt_long() is to read it. */
static const Option *
find_word(const char *word)
{
    size_t dashes = strspn(word, "-");
    const char *name = word + dashes;
    const Option *mine = find_name(storage, G_N_ELEMENTS(storage), name);
    const Option *qemus = find_name(words, G_N_ELEMENTS(words), name);

    switch (dashes) {
    case 1:
        return qemus ? qemus : mine;
    case 2:
        return mine ? NULL : qemus;
    default:
        return NULL;
    }
}

static bool
is_letter(char c)
{
    for (size_t i = 0; i < G_N_ELEMENTS(storage); i++) {
        if (storage[i].cmd.letter == c) {
            return true;
        }
    }
    return false;
}

/* "-foo" is no cluster of letters that anybody meant. */
static bool
is_unknown_word(const char *word)
{
    return word[0] == '-' && word[1] && word[1] != '-' && word[2] && !is_letter(word[1]);
}

static bool
read_word(int argc, char **argv, Given *g, GError **errp)
{
    const char *word = argv[optind++];

    if (!g->option->cmd.arg) {
        return true;
    }
    if (optind == argc) {
        return fail(errp, "%s: requires an argument", word);
    }
    g->arg = argv[optind++];
    return true;
}

/* What is behind "--" is no option. */
static void
read_getopt(int argc, char **argv, Given *g)
{
    g_autofree CmdOption *rows = spellings(storage, G_N_ELEMENTS(storage));
    int code = cmdline_next(argc, argv, "-", rows);

    if (code == '?') {
        exit(EXIT_FAILURE); /* it is told */
    }
    for (size_t i = 0; i < G_N_ELEMENTS(storage); i++) {
        if (code == rows[i].code || (rows[i].letter && code == rows[i].letter)) {
            g->option = &storage[i];
        }
    }
    g->arg = optarg;
}

/* The words from @start to where getopt() stands */
static char *
words_from(char **argv, int start)
{
    GString *s = g_string_new(argv[start]);

    for (int i = start + 1; i < optind; i++) {
        g_string_append_printf(s, " %s", argv[i]);
    }
    return g_string_free(s, FALSE);
}

/* The option or word at optind; false: errp */
static bool
read_one(int argc, char **argv, Given *g, GError **errp)
{
    int start = optind;

    g->option = find_word(argv[start]);
    if (g->option) {
        if (!read_word(argc, argv, g, errp)) {
            return false;
        }
    } else if (is_unknown_word(argv[start])) {
        return fail(errp, "%s: invalid option", argv[start]);
    } else {
        read_getopt(argc, argv, g);
    }
    g->text = words_from(argv, start);
    return true;
}

static void
given_free(void *data)
{
    Given *g = data;

    g_free(g->text);
    g_free(g);
}

static Given *
add_given(GPtrArray *all)
{
    Given *g = g_new0(Given, 1);

    g_ptr_array_add(all, g);
    return g;
}

GPtrArray *
options_parse(int argc, char **argv, Early *ret, GError **errp)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(given_free);

    while (optind < argc && strcmp(argv[optind], "--") != 0) {
        Given *g = add_given(all);

        if (!read_one(argc, argv, g, errp)) {
            return NULL;
        }
        reading = g->text;
        if (g->option && g->option->early && !g->option->early(ret, g->arg, errp)) {
            g_prefix_error(errp, "%s: ", g->text);
            return NULL;
        }
    }
    for (int i = optind + 1; i < argc; i++) {
        add_given(all)->text = g_strdup(argv[i]);
    }
    return g_steal_pointer(&all);
}

static bool coroutine_fn
apply_one(const Given *g, GError **errp)
{
    if (!g->option) {
        return fail(errp, "Unexpected argument");
    }
    return !g->option->apply || g->option->apply(g->arg, errp);
}

bool coroutine_fn
options_co_apply(const GPtrArray *given, GError **errp)
{
    for (guint i = 0; i < given->len; i++) {
        const Given *g = given->pdata[i];

        if (machine_shutdown_cause() != SHUTDOWN_CAUSE_NONE) {
            return true;
        }
        if (!apply_one(g, errp)) {
            g_prefix_error(errp, "%s: ", g->text);
            return false;
        }
    }
    return true;
}
