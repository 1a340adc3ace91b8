/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The io language: reads and writes, one buffer or several, now or in the
 * background. All eight commands are one request that is parsed, carried out
 * and told; what differs is a row of a table.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "io-cmd-int.h"
#include "util/buf.h"
#include "util/loop.h"

#define FILL_DEFAULT 0xcd

typedef struct Kind {
    const char *options;
    bool write, vector, background;
} Kind;

typedef struct Request {
    IoCmd *io;
    const Kind *kind;
    /* As given. */
    bool vmstate, compressed, machine, dump, fua, no_fallback, quiet, unmap, zeroes, invalid;
    bool has_pattern, has_pattern_offset, has_pattern_length;
    int pattern;
    int64_t pattern_offset, pattern_length;
    const char *source;
    int64_t offset, bytes;
    struct iovec *v;
    int n;
    uint8_t *buf;
    /* As it went. */
    int result;
    int64_t ns;
} Request;

static void request_clear(Request *q)
{
    buf_free(q->buf, (size_t)MAX(q->bytes, 1));
    g_free(q->v);
}

/* --- the command line --- */

static int take_flag(Request *q, int opt)
{
    bool *where = opt == 'b'   ? &q->vmstate
                  : opt == 'c' ? &q->compressed
                  : opt == 'C' ? &q->machine
                  : opt == 'v' ? &q->dump
                  : opt == 'f' ? &q->fua
                  : opt == 'n' ? &q->no_fallback
                  : opt == 'q' ? &q->quiet
                  : opt == 'u' ? &q->unmap
                  : opt == 'z' ? &q->zeroes
                  : opt == 'i' ? &q->invalid
                               : NULL;

    if (where) {
        *where = true;
    }
    return where || opt == 'p' || opt == 'a' ? 0 : -EINVAL;
}

static int take_option(Request *q, int opt)
{
    switch (opt) {
    case 'P':
        q->has_pattern = true;
        q->pattern = io_byte(q->io, optarg);
        return MIN(q->pattern, 0);
    case 'l':
        q->has_pattern_length = true;
        q->pattern_length = io_length(q->io, optarg, "");
        return (int)MIN(q->pattern_length, 0);
    case 's':
        if (q->kind->write) {
            q->source = optarg;
            return 0;
        }
        q->has_pattern_offset = true;
        q->pattern_offset = io_size(q->io, optarg);
        return (int)MIN(q->pattern_offset, 0);
    }
    return take_flag(q, opt);
}

static int refuse(Request *q, const char *text)
{
    fprintf(q->io->out, "%s\n", text);
    return -EINVAL;
}

static int check_write(Request *q)
{
    if (q->vmstate && q->zeroes) {
        return refuse(q, "-b and -z cannot be specified at the same time");
    }
    if (q->fua && (q->vmstate || q->compressed)) {
        return refuse(q, "-f and -b or -c cannot be specified at the same time");
    }
    if (q->no_fallback && !q->zeroes) {
        return refuse(q, "-n requires -z to be specified");
    }
    if (q->unmap && !q->zeroes) {
        return refuse(q, "-u requires -z to be specified");
    }
    if (!q->kind->background && q->zeroes + q->has_pattern + (q->source != NULL) > 1) {
        return refuse(q, "Only one of -z, -P, and -s can be specified at the same time");
    }
    return 0;
}

static int check_read(Request *q, const char *name)
{
    if (!q->has_pattern && (q->has_pattern_offset || q->has_pattern_length)) {
        return io_cmd_usage(q->io, name);
    }
    if (!q->has_pattern_length) {
        q->pattern_length = q->bytes - q->pattern_offset;
    }
    if (q->has_pattern &&
        (q->pattern_length < 0 || q->pattern_offset > q->bytes - q->pattern_length)) {
        return refuse(q, "pattern verification range exceeds end of read data");
    }
    return 0;
}

static int take_ranges(Request *q, int n, char **texts)
{
    bool without_n = q->kind->write && !q->kind->vector && !q->no_fallback;

    q->offset = io_size(q->io, texts[0]);
    if (q->offset < 0) {
        return (int)q->offset;
    }
    q->n = n - 1;
    q->v = g_new0(struct iovec, (size_t)q->n);
    for (int i = 0; i < q->n; i++) {
        int64_t length = io_length(q->io, texts[i + 1], without_n ? " without -n" : "");

        if (length < 0) {
            return (int)length;
        }
        if (length > BLOCK_MAX_REQUEST - q->bytes) {
            return refuse(q, "The lengths add up to more than a request can have");
        }
        q->v[i].iov_len = (size_t)length;
        q->bytes += length;
    }
    return 0;
}

static int parse(Request *q, int argc, char **argv)
{
    int opt, r;

    while ((opt = getopt(argc, argv, q->kind->options)) != -1) {
        if (opt == '?') {
            return io_cmd_usage(q->io, argv[0]);
        }
        r = take_option(q, opt);
        if (r < 0) {
            return r;
        }
    }
    if (argc - optind < 2 || (!q->kind->vector && argc - optind != 2)) {
        return io_cmd_usage(q->io, argv[0]);
    }
    r = q->kind->write ? check_write(q) : 0;
    if (r == 0 && q->zeroes && argc - optind != 2) {
        return refuse(q, "-z supports only a single length parameter");
    }
    r = r < 0 ? r : take_ranges(q, argc - optind, argv + optind);
    return r == 0 && !q->kind->write ? check_read(q, argv[0]) : r;
}

/* --- buffers --- */

/* The bytes of a file, again and again. */
static int fill_from_file(Request *q)
{
    g_autofree char *data = NULL;
    gsize n;
    FILE *f = fopen(q->source, "rb");

    if (!f) {
        fprintf(q->io->err, "%s: %s\n", q->source, strerror(errno));
        return -EINVAL;
    }
    data = g_malloc((gsize)MAX(q->bytes, 1));
    n = fread(data, 1, (size_t)q->bytes, f);
    if (ferror(f) || n == 0) {
        fprintf(q->io->err, "%s: %s\n", q->source, ferror(f) ? strerror(errno) : "file is empty");
        fclose(f);
        return -EINVAL;
    }
    fclose(f);
    for (int64_t i = 0; i < q->bytes; i += (int64_t)n) {
        memcpy(q->buf + i, data, (size_t)MIN((int64_t)n, q->bytes - i));
    }
    return 0;
}

static int make_buffer(Request *q)
{
    uint8_t *at;

    if (q->zeroes) {
        return 0;
    }
    q->buf = buf_try_alloc((size_t)MAX(q->bytes, 1));
    if (!q->buf) {
        return refuse(q, "Out of memory for the buffer");
    }
    at = q->buf;
    for (int i = 0; i < q->n; i++) {
        q->v[i].iov_base = at;
        at += q->v[i].iov_len;
    }
    if (q->source) {
        return fill_from_file(q);
    }
    memset(q->buf, q->kind->write ? (q->has_pattern ? q->pattern : FILL_DEFAULT) : 0xab,
           (size_t)q->bytes);
    return 0;
}

/* --- doing and telling --- */

static ReqFlags flags_of(const Request *q)
{
    return (q->fua ? REQ_FUA : 0) | (q->unmap ? REQ_MAY_UNMAP : 0) |
           (q->no_fallback ? REQ_NO_FALLBACK : 0) | (q->compressed ? REQ_COMPRESSED : 0);
}

static int coroutine_fn submit(Request *q)
{
    if (q->vmstate) {
        return -ENOTSUP; /* no driver stores machine state */
    }
    if (q->zeroes) {
        return backend_co_pwrite_zeroes(q->io->be, q->offset, q->bytes, flags_of(q));
    }
    return q->kind->write
               ? backend_co_pwritev(q->io->be, q->offset, iov_of(q->v, q->n), flags_of(q))
               : backend_co_preadv(q->io->be, q->offset, iov_of(q->v, q->n), 0);
}

static bool verify(Request *q)
{
    const uint8_t *p = q->buf + q->pattern_offset;

    for (int64_t i = 0; i < q->pattern_length; i++) {
        if (p[i] != q->pattern) {
            fprintf(q->io->out,
                    "Pattern verification failed at offset %" PRId64 ", %" PRId64 " bytes\n",
                    q->offset + q->pattern_offset, q->pattern_length);
            return false;
        }
    }
    return true;
}

static const char *failing_name(const Request *q)
{
    if (q->kind->background) {
        return q->kind->write ? "aio_write" : "readv";
    }
    return q->kind->vector ? (q->kind->write ? "writev" : "readv")
                           : (q->kind->write ? "write" : "read");
}

static int tell(Request *q)
{
    IoReport report = {
        .verb = q->kind->write ? "wrote" : "read",
        .offset = q->offset,
        .total = q->bytes,
        .count = q->bytes,
        .ops = 1,
        .ns = q->ns,
        .machine = q->machine,
    };
    int r = 0;

    if (q->result < 0) {
        fprintf(q->io->out, "%s failed: %s\n", failing_name(q), strerror(-q->result));
        return q->result;
    }
    if (!q->kind->write && q->has_pattern && !verify(q)) {
        r = -EINVAL;
    }
    if (q->quiet) {
        return r;
    }
    if (q->dump && !q->kind->write) {
        io_dump(q->io, q->buf, q->offset, q->bytes);
    }
    io_report(q->io, &report);
    return r;
}

static void coroutine_fn carry_out(Request *q)
{
    int64_t start = loop_now_ns();

    q->result = submit(q);
    q->ns = loop_now_ns() - start;
}

static int coroutine_fn run_now(IoCmd *io, const Kind *kind, int argc, char **argv)
{
    Request q = {.io = io, .kind = kind};
    int r = parse(&q, argc, argv);

    if (r == 0) {
        r = make_buffer(&q);
    }
    if (r == 0) {
        carry_out(&q);
        r = tell(&q);
    }
    request_clear(&q);
    return r;
}

static void coroutine_fn background_entry(void *opaque)
{
    Request *q = opaque;
    IoCmd *io = q->io;

    carry_out(q);
    (void)tell(q); /* the command has succeeded long ago */
    fflush(io->out);
    request_clear(q);
    g_free(q);
    if (--io->in_flight == 0) {
        co_queue_wake_all(&io->idle);
    }
}

static int coroutine_fn run_background(IoCmd *io, const Kind *kind, int argc, char **argv)
{
    Request *q = g_new0(Request, 1);
    int r;

    q->io = io;
    q->kind = kind;
    r = parse(q, argc, argv);
    if (r == 0 && !q->invalid) {
        r = make_buffer(q);
    }
    if (r == 0 && q->invalid) {
        fprintf(io->out, "injecting invalid %s request\n", kind->write ? "write" : "read");
    }
    if (r < 0 || q->invalid) {
        request_clear(q);
        g_free(q);
        return r;
    }
    io->in_flight++;
    co_spawn(background_entry, q);
    co_reschedule(); /* it has begun when the next command runs */
    return 0;
}

/* --- the commands --- */

static int coroutine_fn read_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {.options = "abCl:pP:qs:v"};

    return run_now(io, &kind, argc, argv);
}

static int coroutine_fn readv_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {.options = "CP:qv", .vector = true};

    return run_now(io, &kind, argc, argv);
}

static int coroutine_fn write_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {.options = "bcCfnpP:qs:uz", .write = true};

    return run_now(io, &kind, argc, argv);
}

static int coroutine_fn writev_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {.options = "CfqP:", .write = true, .vector = true};

    return run_now(io, &kind, argc, argv);
}

static int coroutine_fn aio_read_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {.options = "CP:iqv", .vector = true, .background = true};

    return run_background(io, &kind, argc, argv);
}

static int coroutine_fn aio_write_co(IoCmd *io, int argc, char **argv)
{
    static const Kind kind = {
        .options = "CfiP:quz", .write = true, .vector = true, .background = true};

    return run_background(io, &kind, argc, argv);
}

static int coroutine_fn aio_flush_co(IoCmd *io, int argc, char **argv)
{
    io_co_wait_idle(io);
    return 0;
}

#define HELP_COMMON                                                                                \
    " -C, -- report statistics in a machine parsable format\n"                                     \
    " -P, -- a byte: what is read must be that, what is written is that\n"                         \
    " -q, -- do not show statistics\n"
#define HELP_READ  " -v, -- show the bytes\n"
#define HELP_AIO                                                                                   \
    " -i, -- count the request as invalid\n"                                                       \
    " The command succeeds once the request has begun; aio_flush waits for the end.\n"

const IoCommand io_rw_commands[] = {
    {"read", "r", read_co, 2, -1, false, PERM_CONSISTENT_READ,
     "[-abCqv] [-P pattern [-s off] [-l len]] off len",
     "reads a number of bytes at a specified offset",
     HELP_COMMON HELP_READ
     " -s, -l, -- verify only so many bytes from there on (with -P)\n"
     " -b, -- the machine's state instead of the disk\n"},
    {"readv", NULL, readv_co, 2, -1, false, PERM_CONSISTENT_READ,
     "[-Cqv] [-P pattern] off len [len..]",
     "reads a number of bytes at a specified offset", HELP_COMMON HELP_READ},
    {"write", "w", write_co, 2, -1, false, PERM_WRITE,
     "[-bcCfnquz] [-P pattern | -s source_file] off len",
     "writes a number of bytes at a specified offset",
     HELP_COMMON " -s, -- write what a file holds, again and again\n"
                 " -f, -- on the disk before it is done\n"
                 " -z, -- write zeroes without data\n"
                 " -n, -- with -z: fail rather than write data\n"
                 " -u, -- with -z: may unmap\n"
                 " -c, -- compressed\n"
                 " -b, -- the machine's state instead of the disk\n"},
    {"writev", NULL, writev_co, 2, -1, false, PERM_WRITE, "[-Cfq] [-P pattern] off len [len..]",
     "writes a number of bytes at a specified offset",
     HELP_COMMON " -f, -- on the disk before it is done\n"},
    {"aio_read", NULL, aio_read_co, 2, -1, false, PERM_CONSISTENT_READ,
     "[-Ciqv] [-P pattern] off len [len..]",
     "asynchronously reads a number of bytes", HELP_COMMON HELP_READ HELP_AIO},
    {"aio_write", NULL, aio_write_co, 2, -1, false, PERM_WRITE,
     "[-Cfiquz] [-P pattern] off len [len..]", "asynchronously writes a number of bytes",
     HELP_COMMON " -f, -- on the disk before it is done\n"
                 " -z, -- write zeroes without data\n"
                 " -u, -- with -z: may unmap\n" HELP_AIO},
    {"aio_flush", NULL, aio_flush_co, 0, 0, false, 0, NULL,
     "completes all outstanding aio requests", NULL},
};
const size_t n_io_rw_commands = G_N_ELEMENTS(io_rw_commands);
