/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command lines: see util/cmdline.h. */
#include "util/cmdline.h"

#include <getopt.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define HELP_COLUMN 29

static bool is_end(const CmdOption *o)
{
    return !o->name && !o->letter && !o->help;
}

int cmdline_next(int argc, char **argv, const char *mode, const CmdOption *options)
{
    g_autoptr(GString) letters = g_string_new(mode);
    g_autoptr(GArray) names = g_array_new(TRUE, TRUE, sizeof(struct option));

    for (const CmdOption *o = options; !is_end(o); o++) {
        int has_arg = o->arg ? required_argument : no_argument;

        if (o->letter) {
            g_string_append_printf(letters, "%c%s", o->letter, o->arg ? ":" : "");
        }
        if (o->name) {
            struct option row = {o->name, has_arg, NULL, o->letter ? o->letter : o->code};

            g_array_append_val(names, row);
        }
    }
    return getopt_long(argc, argv, letters->str, (const struct option *)names->data, NULL);
}

/* "  -p, --port=PORT" */
static char *spelling(const CmdOption *o)
{
    GString *s = g_string_new("  ");

    if (o->letter) {
        g_string_append_printf(s, "-%c%s", o->letter, o->name ? ", " : "");
    } else {
        g_string_append(s, "    ");
    }
    if (o->name) {
        g_string_append_printf(s, "--%s", o->name);
    }
    if (o->arg) {
        g_string_append_printf(s, "%c%s", o->name ? '=' : ' ', o->arg);
    }
    return g_string_free(s, FALSE);
}

static void print_option(FILE *out, const CmdOption *o)
{
    g_autofree char *left = spelling(o);
    g_auto(GStrv) lines = g_strsplit(o->help, "\n", -1);
    bool beside = strlen(left) < HELP_COLUMN - 1;

    fprintf(out, "%-*s%s", beside ? HELP_COLUMN : 0, left, beside ? "" : "\n");
    for (char **l = lines; *l; l++) {
        fprintf(out, "%*s%s\n", beside && l == lines ? 0 : HELP_COLUMN, "", *l);
    }
}

void cmdline_print_help(FILE *out, const CmdOption *options)
{
    for (const CmdOption *o = options; !is_end(o); o++) {
        if (!o->name && !o->letter) {
            fprintf(out, "\n%s\n", o->help);
        } else if (o->help) {
            print_option(out, o);
        }
    }
}
