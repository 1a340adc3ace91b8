/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-load: a client that does as little as possible, so that the server is
 * what is measured.
 *
 * Usage: nbd-load SOCKET OP BYTES DEPTH SECONDS
 * OP: randread, randwrite, seqread, seqwrite. Prints "operations seconds".
 *
 * One thread, one blocking socket; replies are received in large pieces and
 * new requests leave together. Structured replies are negotiated.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "block/nbd/proto.h"
#include "util/prng.h"

#define BUFFER (4 * MiB)

static int fd;
static uint64_t disk_bytes;
static bool structured;

static void NORETURN die(const char *what)
{
    fprintf(stderr, "nbd-load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(const void *buf, size_t bytes)
{
    const char *p = buf;

    while (bytes > 0) {
        ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL);

        if (n < 0) {
            die("send");
        }
        p += n;
        bytes -= n;
    }
}

static void recv_all(void *buf, size_t bytes)
{
    if (bytes && recv(fd, buf, bytes, MSG_WAITALL) != (ssize_t)bytes) {
        die("recv");
    }
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* --- handshake --- */

static uint32_t option(uint32_t opt, const void *data, uint32_t bytes)
{
    uint8_t buf[4096];
    NbdOptReply r;
    NbdExportInfo info;
    bool has_export;

    nbd_opt_encode(buf, opt, bytes);
    if (bytes) {
        memcpy(buf + NBD_OPT_BYTES, data, bytes);
    }
    send_all(buf, NBD_OPT_BYTES + bytes);
    do {
        recv_all(buf, NBD_OPT_REPLY_BYTES);
        if (!nbd_opt_reply_parse(buf, &r) || r.length > sizeof(buf)) {
            die("option reply");
        }
        recv_all(buf, r.length);
        nbd_export_info_init(&info);
        has_export = false;
        if (r.type == NBD_REP_INFO && nbd_info_parse(buf, r.length, &info, &has_export) &&
            has_export) {
            disk_bytes = info.size;
        }
    } while (r.type == NBD_REP_INFO);
    return r.type;
}

static void handshake(void)
{
    uint8_t buf[18], flags[4], go[6] = {0};

    recv_all(buf, sizeof(buf));
    be32_put(flags, 3);
    send_all(flags, 4);
    structured = option(NBD_OPT_STRUCTURED_REPLY, NULL, 0) == NBD_REP_ACK;
    if (option(NBD_OPT_GO, go, sizeof(go)) != NBD_REP_ACK) {
        die("GO");
    }
}

/* --- load --- */

typedef struct Load {
    bool write, sequential;
    uint32_t bytes;
    uint64_t next;
    Prng prng;
    uint8_t *out; /* requests to send */
    size_t out_bytes;
} Load;

static uint64_t next_offset(Load *l)
{
    uint64_t blocks = disk_bytes / l->bytes;
    uint64_t block = l->sequential ? l->next++ % blocks : prng_below(&l->prng, blocks);

    return block * l->bytes;
}

static void add_request(Load *l)
{
    NbdRequest r = {
        .type = l->write ? NBD_CMD_WRITE : NBD_CMD_READ,
        .cookie = 1,
        .offset = next_offset(l),
        .length = l->bytes,
    };

    nbd_request_encode(l->out + l->out_bytes, &r);
    l->out_bytes += NBD_REQUEST_BYTES;
    if (l->write) {
        l->out_bytes += l->bytes; /* the payload is there already */
    }
}

/* Bytes of the reply at @p of which @have are here; 0: not even its header. */
static size_t reply_bytes(const Load *l, const uint8_t *p, size_t have, bool *done)
{
    NbdReply r;

    if (have < 4 || have < nbd_reply_bytes(p)) {
        return 0;
    }
    if (!nbd_reply_parse(p, &r) || r.wire_error || (r.type & NBD_CHUNK_IS_ERROR)) {
        die("reply");
    }
    *done = !r.structured || (r.flags & NBD_REPLY_FLAG_DONE);
    if (r.structured) {
        return NBD_CHUNK_BYTES + r.length;
    }
    return NBD_SIMPLE_REPLY_BYTES + (l->write ? 0 : l->bytes);
}

static uint64_t run(Load *l, int depth, double seconds)
{
    uint8_t *in = malloc(BUFFER);
    size_t have = 0, skip = 0;
    uint64_t ops = 0;
    int in_flight = depth;
    double end = now() + seconds;

    for (int i = 0; i < depth; i++) {
        add_request(l);
    }
    send_all(l->out, l->out_bytes);
    l->out_bytes = 0;
    while (in_flight > 0) {
        ssize_t n = recv(fd, in + have, BUFFER - have, 0);
        size_t pos = 0;
        bool more = now() < end;

        if (n <= 0) {
            die("recv");
        }
        have += n;
        while (pos < have) {
            bool done = false;
            size_t bytes;

            if (skip > 0) {
                size_t k = have - pos < skip ? have - pos : skip;

                skip -= k;
                pos += k;
                continue;
            }
            bytes = reply_bytes(l, in + pos, have - pos, &done);
            if (bytes == 0) {
                break;
            }
            skip = bytes;
            if (done) {
                ops++;
                if (more) {
                    add_request(l);
                } else {
                    in_flight--;
                }
            }
        }
        memmove(in, in + pos, have - pos);
        have -= pos;
        send_all(l->out, l->out_bytes);
        l->out_bytes = 0;
    }
    free(in);
    return ops;
}

int main(int argc, char **argv)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    Load l = {0};
    double start;
    uint64_t ops;
    int depth;

    if (argc != 6) {
        fprintf(stderr, "Usage: nbd-load SOCKET OP BYTES DEPTH SECONDS\n");
        return 2;
    }
    strncpy(un.sun_path, argv[1], sizeof(un.sun_path) - 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        die(argv[1]);
    }
    handshake();
    l.write = strstr(argv[2], "write") != NULL;
    l.sequential = strncmp(argv[2], "seq", 3) == 0;
    l.bytes = atoi(argv[3]);
    depth = atoi(argv[4]);
    prng_init(&l.prng, 1);
    l.out = malloc((size_t)depth * (NBD_REQUEST_BYTES + l.bytes));
    memset(l.out, 0x5a, (size_t)depth * (NBD_REQUEST_BYTES + l.bytes));
    start = now();
    ops = run(&l, depth, atof(argv[5]));
    printf("%" G_GUINT64_FORMAT " %.6f\n", ops, now() - start);
    return 0;
}
