/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The io language: finding and running a command, help, and how results are told. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "image/size.h"
#include "io-cmd-int.h"
#include "qapi/scalar.h"
#include "util/loop.h"

static int help_co(IoCmd *io, int argc, char **argv);

static const IoCommand help_command = {
    .name = "help", .alias = "?", .run = help_co, .min_args = 0, .max_args = 1,
    .any_time = true, .args = "[command]", .summary = "help for one or all commands",
};

IoCmd *io_cmd_new(const char *program, FILE *out, FILE *err, const IoCommand *extra,
                  size_t n_extra, void *opaque)
{
    IoCmd *io = g_new0(IoCmd, 1);

    io->program = program;
    io->out = out;
    io->err = err;
    io->extra = extra;
    io->n_extra = n_extra;
    io->opaque = opaque;
    return io;
}

void io_cmd_set_reports(IoCmd *io, FILE *reports)
{
    io->program = NULL;
    io->reports = reports;
}

void coroutine_fn io_co_wait_idle(IoCmd *io)
{
    while (io->in_flight > 0) {
        co_queue_wait(&io->idle);
    }
}

void coroutine_fn io_cmd_co_free(IoCmd *io)
{
    io_co_wait_idle(io);
    g_free(io);
}

void coroutine_fn io_cmd_co_set_backend(IoCmd *io, BlockBackend *be)
{
    io_co_wait_idle(io);
    io->be = be;
}

BlockBackend *io_cmd_backend(const IoCmd *io)
{
    return io->be;
}

void *io_cmd_opaque(const IoCmd *io)
{
    return io->opaque;
}

/* --- finding --- */

static const IoCommand *find_in(const IoCommand *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].name, name) == 0 || g_strcmp0(table[i].alias, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static const IoCommand *find(const IoCmd *io, const char *name)
{
    const IoCommand *c = find_in(&help_command, 1, name);

    c = c ? c : find_in(io->extra, io->n_extra, name);
    c = c ? c : find_in(io_rw_commands, n_io_rw_commands, name);
    return c ? c : find_in(io_misc_commands, n_io_misc_commands, name);
}

static void print_summary(IoCmd *io, const IoCommand *c)
{
    fprintf(io->out, "%s %s%s-- %s\n", c->name, c->args ? c->args : "", c->args ? " " : "",
            c->summary);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    const IoCommand *x = *(const IoCommand *const *)a, *y = *(const IoCommand *const *)b;

    return strcmp(x->name, y->name);
}

static void add_all(GPtrArray *all, const IoCommand *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_ptr_array_add(all, (void *)&table[i]);
    }
}

static void print_all(IoCmd *io)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();

    add_all(all, &help_command, 1);
    add_all(all, io->extra, io->n_extra);
    add_all(all, io_rw_commands, n_io_rw_commands);
    add_all(all, io_misc_commands, n_io_misc_commands);
    g_ptr_array_sort(all, compare_names);
    for (guint i = 0; i < all->len; i++) {
        print_summary(io, all->pdata[i]);
    }
    fprintf(io->out, "\nUse 'help commandname' for extended help.\n");
}

static int help_co(IoCmd *io, int argc, char **argv)
{
    const IoCommand *c;

    if (argc < 2) {
        print_all(io);
        return 0;
    }
    c = find(io, argv[1]);
    if (!c) {
        fprintf(io->out, "command %s not found\n", argv[1]);
        return -EINVAL;
    }
    print_summary(io, c);
    if (c->help) {
        fprintf(io->out, "\n%s\n", c->help);
    }
    return 0;
}

/* --- running --- */

void io_cmd_report(IoCmd *io, GError *error)
{
    fflush(io->out);
    if (io->program) {
        fprintf(io->err, "%s: %s\n", io->program, error->message);
    } else {
        fprintf(io->reports, "%s\n", error->message);
    }
    g_error_free(error);
}

int io_cmd_usage(IoCmd *io, const char *name)
{
    print_summary(io, find(io, name));
    return -EINVAL;
}

static bool check_count(IoCmd *io, const IoCommand *c, const char *name, int n)
{
    if (n >= c->min_args && (c->max_args < 0 || n <= c->max_args)) {
        return true;
    }
    if (c->max_args < 0) {
        fprintf(io->err, "bad argument count %d to %s, expected at least %d arguments\n", n, name,
                c->min_args);
    } else if (c->min_args == c->max_args) {
        fprintf(io->err, "bad argument count %d to %s, expected %d arguments\n", n, name,
                c->min_args);
    } else {
        fprintf(io->err, "bad argument count %d to %s, expected between %d and %d arguments\n", n,
                name, c->min_args, c->max_args);
    }
    return false;
}

/* Take what the command needs and the backend lacks. */
static bool coroutine_fn raise_perm(IoCmd *io, Perm perm)
{
    GError *err = NULL;
    PermPair want = backend_root(io->be)->perm;

    if ((want.taken & perm) == perm) {
        return true;
    }
    if ((perm & PERM_WRITE) && node_is_read_only(backend_node(io->be))) {
        fail(&err, "Block node is read-only");
        io_cmd_report(io, err);
        return false;
    }
    want.taken |= perm;
    if (!backend_co_set_perm(io->be, want, &err)) {
        io_cmd_report(io, err);
        return false;
    }
    return true;
}

static int coroutine_fn run(IoCmd *io, int argc, char **argv)
{
    const IoCommand *c = find(io, argv[0]);
    int r;

    if (!c) {
        fprintf(io->err, "command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (!c->any_time && (!io->be || !backend_node(io->be))) {
        fprintf(io->err, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    if (!check_count(io, c, argv[0], argc - 1)) {
        return -EINVAL;
    }
    if (c->perm && !raise_perm(io, c->perm)) {
        return -EINVAL;
    }
    optind = 0; /* getopt begins anew */
    r = c->run(io, argc, argv);
    fflush(io->out);
    return r;
}

int coroutine_fn io_cmd_co_run(IoCmd *io, const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \n", -1);
    g_autofree char **argv = g_new0(char *, g_strv_length(words) + 1);
    int argc = 0;

    for (char **w = words; *w; w++) {
        if (**w) {
            argv[argc++] = *w;
        }
    }
    return argc > 0 ? run(io, argc, argv) : 0;
}

/* --- numbers --- */

int64_t io_size(IoCmd *io, const char *text)
{
    int64_t n;
    int r = size_parse(text, &n);

    if (r == 0) {
        return n;
    }
    if (r == -ERANGE) {
        fprintf(io->out, "Parsing error: argument too large -- %s\n", text);
        return -ERANGE;
    }
    fprintf(io->out,
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n",
            text);
    return -EINVAL;
}

int64_t io_length(IoCmd *io, const char *text, const char *but)
{
    int64_t n = io_size(io, text);

    if (n > BLOCK_MAX_REQUEST) {
        fprintf(io->out, "length cannot exceed %" PRId64 "%s, given %s\n", BLOCK_MAX_REQUEST, but,
                text);
        return -EINVAL;
    }
    return n;
}

int io_byte(IoCmd *io, const char *text)
{
    uint64_t n;

    if (!scalar_uint(text, &n) || n > UINT8_MAX) {
        fprintf(io->out, "%s is not a valid pattern byte\n", text);
        return -EINVAL;
    }
    return (int)n;
}

/* --- results --- */

static char *time_text(int64_t ns, bool fixed)
{
    unsigned hundredths = (unsigned)(ns / (NS_PER_S / 100) % 100);
    unsigned s = (unsigned)(ns / NS_PER_S % 60), m = (unsigned)(ns / NS_PER_S / 60 % 60);
    unsigned h = (unsigned)(ns / NS_PER_S / 3600);

    if (h > 0 || fixed) {
        return g_strdup_printf("%u:%02u:%02u.%02u", h, m, s, hundredths);
    }
    if (m > 0) {
        return g_strdup_printf("%02u:%02u.%02u", m, s, hundredths);
    }
    return g_strdup_printf("%02u.%02u sec", s, hundredths);
}

void io_report(IoCmd *io, const IoReport *r)
{
    g_autofree char *took = time_text(r->ns, r->machine);
    double seconds = (double)MAX(r->ns, 1) / NS_PER_S;
    g_autofree char *total = size_text_exact((double)r->total);
    g_autofree char *speed = size_text_exact((double)r->total / seconds);

    if (r->machine) {
        fprintf(io->out, "%" PRId64 ",%d,%s,%.3f,%.3f\n", r->total, r->ops, took,
                (double)r->total / seconds, r->ops / seconds);
        return;
    }
    fprintf(io->out, "%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n", r->verb, r->total,
            r->count, r->offset);
    fprintf(io->out, "%s, %d ops; %s (%s/sec and %.4f ops/sec)\n", total, r->ops, took, speed,
            r->ops / seconds);
}

void io_dump(IoCmd *io, const uint8_t *buf, int64_t offset, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 16) {
        int64_t n = MIN(bytes - i, 16);

        fprintf(io->out, "%08" PRIx64 ":  ", (uint64_t)(offset + i));
        for (int64_t j = 0; j < n; j++) {
            fprintf(io->out, "%02x ", buf[i + j]);
        }
        fputc(' ', io->out);
        for (int64_t j = 0; j < n; j++) {
            fputc(g_ascii_isalnum(buf[i + j]) ? buf[i + j] : '.', io->out);
        }
        fputc('\n', io->out);
    }
}
