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
        return fail(errp, "usage: drive_add [-n] ADDRESS OPTIONS");
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
    return argc == 2 ? drive_co_del(argv[1], errp) : fail(errp, "usage: drive_del ID");
}

static const struct HmpCommand {
    const char *name;
    HmpFn *coroutine_ptr run;
} commands[] = {
    { "drive_add", hmp_drive_add },
    { "drive_del", hmp_drive_del },
    { "info", hmp_info_co },
    { "qemu-io", hmp_qemu_io_co },
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

static bool coroutine_fn
run_line(const char *line, GString *out, GError **errp)
{
    g_auto(GStrv) argv = split_line(line, errp);

    if (!argv) {
        return false;
    }
    if (!argv[0]) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, argv[0]) == 0) {
            return commands[i].run(g_strv_length(argv), argv, out, errp);
        }
    }
    return fail(errp, "unknown command: '%s'", argv[0]);
}

char *coroutine_fn
qmp_human_monitor_command(const QmpHumanMonitorCommandArgs *args, GError **errp)
{
    g_autoptr(GError) err = NULL;
    GString *out = g_string_new(NULL);

    if (!run_line(args->command_line, out, &err)) {
        g_string_append_printf(out, "Error: %s\r\n", err->message);
    }
    return g_string_free(out, FALSE);
}
