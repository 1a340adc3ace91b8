/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which events are written when they happen: what the programs' -T asks for.
 *
 * The selection is made once, before the program has another thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "util/error.h"
#include "util/trace.h"

/* Every name that trace() is called with. */
static const char *const names[] = {
    "drain-all-begin",
    "drain-all-end",
    "drain-begin",
    "drain-end",
    "graph-commit",
    "listener-accept-failed",
    "listener-dropped",
    "nbd-bad-request-magic",
    "nbd-client-state",
    "nbd-cut-stuck",
    "nbd-protocol-violation",
};
static bool selected[G_N_ELEMENTS(names)];

bool trace_help(const char *arg, FILE *out)
{
    if (strcmp(arg, "help") != 0 && strcmp(arg, "?") != 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        fprintf(out, "%s\n", names[i]);
    }
    return true;
}

bool trace_is_selected(const char *event)
{
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(names[i], event) == 0) {
            return selected[i];
        }
    }
    return false;
}

/* A pattern with '*' and '?'; a leading '-' takes away. */
static void select_pattern(const char *pattern, void (*warn)(const char *text))
{
    bool on = *pattern != '-', any = false;
    const char *glob = on ? pattern : pattern + 1;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_pattern_match_simple(glob, names[i])) {
            selected[i] = on;
            any = true;
        }
    }
    if (!any) {
        g_autofree char *text = g_strdup_printf("trace event '%s' does not exist", glob);

        warn(text);
    }
}

static bool select_lines(const char *path, void (*warn)(const char *text), GError **errp)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, errp)) {
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        const char *pattern = g_strstrip(*l);

        if (*pattern && *pattern != '#') {
            select_pattern(pattern, warn);
        }
    }
    return true;
}

static bool set_file(const char *path, GError **errp)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);

    if (fd < 0) {
        return fail_errno(errp, errno, "Could not open trace file '%s'", path);
    }
    trace_write_to(fd);
    return true;
}

bool trace_option(const char *arg, void (*warn)(const char *text), GError **errp)
{
    g_auto(GStrv) items = g_strsplit(arg, ",", -1);
    const char *file = NULL;

    for (char **i = items; *i; i++) {
        char *equals = strchr(*i, '=');
        const char *value = equals ? equals + 1 : *i;

        if (equals) {
            *equals = '\0';
        }
        if (equals ? strcmp(*i, "enable") == 0 : i == items) {
            select_pattern(value, warn);
        } else if (equals && strcmp(*i, "events") == 0) {
            if (!select_lines(value, warn, errp)) {
                return false;
            }
        } else if (equals && strcmp(*i, "file") == 0) {
            file = value;
        } else {
            return fail(errp, "Invalid parameter '%s'", *i);
        }
    }
    if (file) {
        return set_file(file, errp);
    }
    trace_write_to(STDERR_FILENO);
    return true;
}
