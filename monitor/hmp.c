/* SPDX-License-Identifier: GPL-2.0-or-later */
/* human-monitor-command: cut a line into words, find the command, print its error. */
#include "hmp.h"

#include <string.h>

#include "block/blockdev.h"
#include "qapi/commands.h"
#include "qapi/keyval.h"
#include "util/error.h"

/* --- commands --- */

/* drive_add [-n] ADDRESS OPTIONS; where the drive would be plugged in is of no meaning */
static bool coroutine_fn
hmp_drive_add(int argc, char **argv, GString *out, GError **errp)
{
    bool node_only = argc > 1 && strcmp(argv[1], "-n") == 0;
    json_t *opts;
    bool ok;

    if (argc != 3 + node_only) {
        return false;
    }
    opts = qemu_opts_parse(argv[argc - 1], "file", NULL, errp);
    if (!opts) {
        return false;
    }
    if (node_only) {
        ok = blockdev_co_add_json(opts, errp);
    } else {
        ok = drive_co_add(opts, errp) != NULL;
        g_string_append(out, ok ? "OK\r\n" : "");
    }
    json_decref(opts);
    return ok;
}

static bool coroutine_fn
hmp_drive_del(int argc, char **argv, GString *out, GError **errp)
{
    return argc == 2 && drive_co_del(argv[1], errp);
}

/* Old commands tell an error as it is, younger ones after "Error: ". */
static const struct HmpCommand {
    const char *name;
    HmpFn *coroutine_ptr run;
    bool marks_errors;
    const char *args[2]; /* what its words are called */
} commands[] = {
    { "drive_add", hmp_drive_add, false, { "string", "string" } },
    { "drive_del", hmp_drive_del, false, { "block device name" } },
    { "info", hmp_info_co, true, { "string" } },
    { "qemu-io", hmp_qemu_io_co, true, { "block device name", "string" } },
};

/* --- words --- */

/* One word at *text, which moves behind it; NULL: a quote is open. */
static char *
take_word(const char **text)
{
    GString *word = g_string_new(NULL);
    const char *p = *text;
    bool quoted = *p == '"';

    for (p += quoted; *p && (quoted ? *p != '"' : *p != ' '); p++) {
        if (quoted && *p == '\\' && p[1]) {
            p++;
        }
        g_string_append_c(word, *p);
    }
    if (quoted && *p++ != '"') {
        g_string_free(word, TRUE);
        return NULL;
    }
    *text = p;
    return g_string_free(word, FALSE);
}

static GStrv
split_line(const char *line, GError **errp)
{
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();

    for (;;) {
        g_autofree char *word = NULL;

        line += strspn(line, " \t\r\n");
        if (!*line) {
            return g_strv_builder_end(words);
        }
        word = take_word(&line);
        if (!word) {
            return fail(errp, "unterminated string"), NULL;
        }
        g_strv_builder_add(words, word);
    }
}

void
hmp_print_lines(GString *out, const char *prefix, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    g_string_append(out, prefix);
    for (char **line = lines; *line; line++) {
        g_string_append_printf(out, "%s\r\n", *line);
    }
}

static void
print_usage(const struct HmpCommand *c, int argc, GString *out)
{
    const char *missing = argc > 1 && c->args[1] ? c->args[1] : c->args[0];

    g_string_append_printf(out, "%s: %s expected\r\nTry \"help %s\" for more information\r\n",
                           c->name, missing, c->name);
}

static void coroutine_fn
run_command(const struct HmpCommand *c, int argc, char **argv, GString *out)
{
    g_autoptr(GError) err = NULL;

    if (c->run(argc, argv, out, &err)) {
        return;
    }
    if (err) {
        hmp_print_lines(out, c->marks_errors ? "Error: " : "", err->message);
    } else {
        print_usage(c, argc, out);
    }
}

static void coroutine_fn
run_line(const char *line, GString *out)
{
    g_autoptr(GError) err = NULL;
    g_auto(GStrv) argv = split_line(line, &err);

    if (!argv) {
        hmp_print_lines(out, "", err->message);
        return;
    }
    if (!argv[0]) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, argv[0]) == 0) {
            run_command(&commands[i], g_strv_length(argv), argv, out);
            return;
        }
    }
    g_string_append_printf(out, "unknown command: '%s'\r\n", argv[0]);
}

char *coroutine_fn
qmp_human_monitor_command(const QmpHumanMonitorCommandArgs *args, GError **errp)
{
    GString *out = g_string_new(NULL);

    run_line(args->command_line, out);
    return g_string_free(out, FALSE);
}
