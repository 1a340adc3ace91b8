/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slow-link: a wire with a delay and a rate between two sockets.
 *
 * Usage: slow-link LISTEN CONNECT DELAY_US MBIT_S
 *   LISTEN, CONNECT  a path (a unix socket) or a number (a TCP port of 127.0.0.1)
 *   DELAY_US         each byte is that late, in each direction
 *   MBIT_S           of each direction of each connection; 0: as fast as it goes
 *
 * Bytes leave the sender no faster than the rate lets them onto the wire, and
 * what is on the wire arrives a delay later. A receiver that does not read stops
 * the sender, as it does on a real wire. Prints "ready" when it listens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  1000000000LL
#define PIECE     (128u << 10) /* read at most that much at once */
#define QUEUE_NS  300000       /* of sending time that may wait in front of the wire */
#define ROOM_MIN  (1u << 20)
#define MAX_LINKS 64

typedef struct Piece {
    uint64_t end; /* in bytes of this direction */
    int64_t due_ns;
} Piece;

/* One direction: a ring of bytes, and when which of them arrive. */
typedef struct Wire {
    int from, to;
    uint8_t *ring;
    size_t room; /* a power of two */
    uint64_t in, out;
    Piece *pieces; /* a ring as well */
    size_t piece_room, first, n;
    int64_t free_ns; /* when the last byte has left the sender */
    bool may_read, may_write;
    bool eof, done;
} Wire;

typedef struct Link {
    Wire wire[2];
} Link;

static Link *links[MAX_LINKS];
static int64_t delay_ns, ns_per_mib;
static int poller;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* --- sockets --- */

static int new_socket(const char *name, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    char *end;
    unsigned long port = strtoul(name, &end, 10);
    int fd;

    memset(ret, 0, sizeof(*ret));
    if (*name && !*end) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret;

        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        *ret_len = sizeof(*in);
    } else {
        struct sockaddr_un *un = (struct sockaddr_un *)ret;

        un->sun_family = AF_UNIX;
        if (strlen(name) >= sizeof(un->sun_path)) {
            fprintf(stderr, "slow-link: '%s' is longer than a unix socket's name\n", name);
            exit(1);
        }
        memcpy(un->sun_path, name, strlen(name) + 1);
        *ret_len = sizeof(*un);
    }
    fd = socket(ret->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        die("socket");
    }
    return fd;
}

static void watch(int fd, Wire *reads, Wire *writes)
{
    int on = 1;
    struct epoll_event in = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = reads};
    struct epoll_event out = {.events = EPOLLOUT | EPOLLET, .data.ptr = writes};
    int twin = dup(fd); /* so that each direction has events of its own */

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* unix: has none */
    if (twin < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &in) < 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, twin, &out) < 0) {
        die("watch");
    }
    reads->from = fd;
    writes->to = twin;
}

/* --- a wire --- */

static void wire_init(Wire *w)
{
    size_t need = ROOM_MIN;

    if (ns_per_mib) {
        need += (delay_ns + QUEUE_NS) / ns_per_mib * (1 << 20);
    } else {
        need += 16 << 20;
    }
    *w = (Wire){.room = ROOM_MIN, .may_read = true, .may_write = true};
    while (w->room < need) {
        w->room *= 2;
    }
    w->piece_room = 4096;
    w->ring = malloc(w->room);
    w->pieces = calloc(w->piece_room, sizeof(*w->pieces));
    if (!w->ring || !w->pieces) {
        die("malloc");
    }
}

/* The part of the ring from @at on, at most @bytes, as one or two pieces. */
static int ring_vector(Wire *w, uint64_t at, size_t bytes, struct iovec v[2])
{
    size_t start = at & (w->room - 1), first = w->room - start;

    if (first >= bytes) {
        v[0] = (struct iovec){w->ring + start, bytes};
        return 1;
    }
    v[0] = (struct iovec){w->ring + start, first};
    v[1] = (struct iovec){w->ring, bytes - first};
    return 2;
}

static bool take_piece(Wire *w, int64_t now)
{
    size_t bytes = w->room - (w->in - w->out);
    struct iovec v[2];
    ssize_t got;

    if (!w->may_read || w->eof || bytes == 0 || w->n == w->piece_room ||
        w->free_ns > now + QUEUE_NS) {
        return false;
    }
    got = readv(w->from, v, ring_vector(w, w->in, bytes < PIECE ? bytes : PIECE, v));
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        w->may_read = errno == EINTR;
        return w->may_read;
    }
    if (got <= 0) {
        w->eof = true;
        return false;
    }
    w->in += got;
    if (w->free_ns < now) {
        w->free_ns = now;
    }
    w->free_ns += got * ns_per_mib / (1 << 20);
    w->pieces[(w->first + w->n++) % w->piece_room] = (Piece){w->in, w->free_ns + delay_ns};
    return true;
}

static bool give_piece(Wire *w, int64_t now)
{
    uint64_t end = w->out;
    struct iovec v[2];
    ssize_t sent;

    for (size_t i = 0; i < w->n; i++) {
        const Piece *p = &w->pieces[(w->first + i) % w->piece_room];

        if (p->due_ns > now) {
            break;
        }
        end = p->end;
    }
    if (!w->may_write || end == w->out) {
        return false;
    }
    sent = writev(w->to, v, ring_vector(w, w->out, end - w->out, v));
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        w->may_write = errno == EINTR;
        return w->may_write;
    }
    if (sent < 0) {
        w->eof = w->done = true;
        (void)shutdown(w->from, SHUT_RDWR); /* nobody takes what it sends */
        return false;
    }
    w->out += sent;
    while (w->n > 0 && w->pieces[w->first].end <= w->out) {
        w->first = (w->first + 1) % w->piece_room;
        w->n--;
    }
    return true;
}

/* When there is something to do without an event; INT64_MAX: never. */
static int64_t wire_next_ns(const Wire *w)
{
    int64_t next = INT64_MAX;

    if (w->n > 0 && w->may_write) {
        next = w->pieces[w->first].due_ns;
    }
    if (w->may_read && !w->eof && w->free_ns - QUEUE_NS / 2 < next) {
        next = w->free_ns - QUEUE_NS / 2;
    }
    return next;
}

static void wire_run(Wire *w)
{
    while (give_piece(w, now_ns()) || take_piece(w, now_ns())) {
    }
    if (w->eof && w->n == 0 && !w->done) {
        w->done = true;
        (void)shutdown(w->to, SHUT_WR); /* it may be gone already */
    }
}

/* --- links --- */

static void link_new(int client, const char *to)
{
    struct sockaddr_storage sa;
    socklen_t len;
    int server = new_socket(to, &sa, &len), i = 0;
    Link *l;

    while (i < MAX_LINKS && links[i]) {
        i++;
    }
    if (i == MAX_LINKS || connect(server, (struct sockaddr *)&sa, len) < 0) {
        close(server);
        close(client);
        return;
    }
    l = links[i] = calloc(1, sizeof(*l));
    if (!l) {
        die("calloc");
    }
    wire_init(&l->wire[0]);
    wire_init(&l->wire[1]);
    watch(client, &l->wire[0], &l->wire[1]);
    watch(server, &l->wire[1], &l->wire[0]);
}

static void link_free(Link *l)
{
    for (int i = 0; i < 2; i++) {
        close(l->wire[i].from);
        close(l->wire[i].to);
        free(l->wire[i].ring);
        free(l->wire[i].pieces);
    }
    free(l);
}

static int64_t run_links(void)
{
    int64_t next = INT64_MAX;

    for (int i = 0; i < MAX_LINKS; i++) {
        Link *l = links[i];

        if (!l) {
            continue;
        }
        for (int d = 0; d < 2; d++) {
            int64_t t;

            wire_run(&l->wire[d]);
            t = wire_next_ns(&l->wire[d]);
            next = t < next ? t : next;
        }
        if (l->wire[0].done && l->wire[1].done) {
            link_free(l);
            links[i] = NULL;
        }
    }
    return next;
}

/* --- all --- */

static int listen_at(const char *name)
{
    struct sockaddr_storage sa;
    socklen_t len;
    int on = 1, fd = new_socket(name, &sa, &len);
    struct epoll_event e = {.events = EPOLLIN};

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* unix: has no use */
    if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 16) < 0) {
        die(name);
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0) {
        die("epoll_ctl");
    }
    return fd;
}

static bool is_wire(const void *p)
{
    for (int i = 0; i < MAX_LINKS; i++) {
        if (links[i] && (p == &links[i]->wire[0] || p == &links[i]->wire[1])) {
            return true;
        }
    }
    return false;
}

static void wait_until(int64_t next, int listener, const char *to)
{
    int64_t left = next == INT64_MAX ? NS_PER_S : next - now_ns();
    struct timespec ts = {0};
    struct epoll_event ev[16];
    int n;

    if (left > 0) {
        ts = (struct timespec){left / NS_PER_S, left % NS_PER_S};
    }
    n = epoll_pwait2(poller, ev, 16, &ts, NULL);
    for (int i = 0; i < n; i++) {
        Wire *w = ev[i].data.ptr;

        if (!w) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0) {
                link_new(fd, to);
            }
        } else if (is_wire(w)) {
            w->may_read |= (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            w->may_write |= (ev[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
        }
    }
}

int main(int argc, char **argv)
{
    double mbit_s;
    int listener;

    if (argc != 5) {
        fprintf(stderr, "Usage: slow-link LISTEN CONNECT DELAY_US MBIT_S\n");
        return 2;
    }
    delay_ns = atoll(argv[3]) * 1000;
    mbit_s = atof(argv[4]);
    ns_per_mib = mbit_s > 0 ? (int64_t)((1 << 20) * 8 * 1000.0 / mbit_s) : 0;
    (void)signal(SIGPIPE, SIG_IGN); /* write() tells */
    (void)prctl(PR_SET_TIMERSLACK, 1); /* else a delay is 50 us longer */
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) {
        die("epoll_create1");
    }
    listener = listen_at(argv[1]);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        wait_until(run_links(), listener, argv[2]);
    }
}
