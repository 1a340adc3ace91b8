/* SPDX-License-Identifier: GPL-2.0-or-later */
/* socket: streams and listeners on unix and TCP sockets of this machine. */
#include <errno.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "failure.h"
#include "util/stream.h"
#include "util/sync.h"
#include "vtest.h"

static char *folder;

static void folder_make(void)
{
    folder = g_dir_make_tmp("tandem-socket-XXXXXX", NULL);
    g_assert_nonnull(folder);
}

static void folder_remove(void)
{
    g_assert_cmpint(g_rmdir(folder), ==, 0); /* empty: listeners unlinked their paths */
    g_free(folder);
}

static char *path_in_folder(void)
{
    return g_build_filename(folder, "s", NULL);
}

/* --- a server that echoes, and its address --- */

typedef struct Server {
    Listener *listener;
    StreamAddr addr;
    char *path;
    char port[16];
    int accepted;
    int open;
    CoQueue changed;
} Server;

static void coroutine_fn echo(Stream *s, void *opaque)
{
    Server *server = opaque;
    char buf[4096];
    ssize_t n;

    server->accepted++;
    server->open++;
    co_queue_wake_all(&server->changed);
    while ((n = stream_co_read(s, buf, sizeof(buf))) > 0) {
        if (stream_co_write_all(s, buf, n) < 0) {
            break;
        }
    }
    stream_close(s);
    server->open--;
    co_queue_wake_all(&server->changed);
}

static void coroutine_fn server_start(Server *s, ListenerFn *fn)
{
    g_autoptr(GError) err = NULL;

    s->listener = listener_co_new(&s->addr, 16, fn, s, &err);
    g_assert_no_error(err);
}

static void coroutine_fn server_start_unix(Server *s, ListenerFn *fn)
{
    folder_make();
    s->path = path_in_folder();
    s->addr = (StreamAddr){.kind = STREAM_ADDR_UNIX, .path = s->path};
    server_start(s, fn);
}

static void coroutine_fn server_start_tcp(Server *s, ListenerFn *fn)
{
    s->addr = (StreamAddr){.kind = STREAM_ADDR_INET, .host = "127.0.0.1", .port = "0"};
    server_start(s, fn);
    g_snprintf(s->port, sizeof(s->port), "%d", listener_port(s->listener));
    s->addr.port = s->port;
}

static void coroutine_fn server_stop(Server *s)
{
    listener_free(s->listener);
    while (s->open > 0) {
        co_queue_wait(&s->changed);
    }
    if (s->path != NULL) {
        folder_remove();
        g_free(s->path);
    }
}

static Stream *coroutine_fn client(const Server *s)
{
    g_autoptr(GError) err = NULL;
    Stream *stream = stream_co_connect(&s->addr, loop_now_ns() + 10 * NS_PER_S, &err);

    g_assert_no_error(err);
    return stream;
}

static void coroutine_fn check_echo(Stream *s, const char *text)
{
    char buf[64];

    g_assert_cmpint(stream_co_write_all(s, text, strlen(text)), ==, 0);
    g_assert_cmpint(stream_co_read_all(s, buf, strlen(text)), ==, 0);
    g_assert_cmpmem(buf, strlen(text), text, strlen(text));
}

/* It serves somebody, who calls it @name (NULL: whatever), and stops. */
static void coroutine_fn check_serves(Server *server, const char *name)
{
    Stream *s = client(server);

    check_echo(s, "hello");
    if (name) {
        g_assert_cmpstr(stream_peer_name(s), ==, name);
    }
    stream_close(s);
    server_stop(server);
}

static void coroutine_fn test_unix_echo(void)
{
    Server server = {0};
    g_autofree char *name = NULL;

    server_start_unix(&server, echo);
    name = g_strdup_printf("unix:%s", server.path);
    g_assert_cmpint(listener_port(server.listener), ==, -1);
    check_serves(&server, name);
}

static void coroutine_fn test_tcp_echo(void)
{
    Server server = {0};
    g_autofree char *name = NULL;

    server_start_tcp(&server, echo);
    name = g_strdup_printf("127.0.0.1:%s", server.port);
    check_serves(&server, name);
}

static void coroutine_fn test_host_name_is_looked_up(void)
{
    Server server = {0};

    server_start_tcp(&server, echo);
    server.addr.host = "localhost";
    server.addr.ipv4 = true;
    check_serves(&server, NULL);
}

static void coroutine_fn test_any_host_serves_both_families(void)
{
    Server server = {.addr = {.kind = STREAM_ADDR_INET, .port = "0"}};

    server_start(&server, echo);
    g_snprintf(server.port, sizeof(server.port), "%d", listener_port(server.listener));
    server.addr = (StreamAddr){.kind = STREAM_ADDR_INET, .host = "127.0.0.1", .port = server.port};
    check_serves(&server, NULL);
}

static void coroutine_fn test_abstract_name(void)
{
    g_autofree char *name = g_strdup_printf("tandem-test-%d", getpid());
    Server server = {.addr = {.kind = STREAM_ADDR_UNIX, .path = name, .abstract = true}};

    server_start(&server, echo);
    check_serves(&server, NULL);
}

static void coroutine_fn test_200_connects(void)
{
    Server server = {0};
    Stream *streams[200];

    server_start_unix(&server, echo);
    for (int i = 0; i < 200; i++) {
        streams[i] = client(&server); /* also past the backlog of 16 */
    }
    for (int i = 0; i < 200; i++) {
        check_echo(streams[i], "x");
    }
    g_assert_cmpint(server.accepted, ==, 200);
    for (int i = 0; i < 200; i++) {
        stream_close(streams[i]);
    }
    server_stop(&server);
}

/* --- large transfers: partial writes, many vectors --- */

#define BULK_BYTES   (3 * 1024 * 1024 + 17)
#define BULK_VECTORS 300

static int coroutine_fn bulk_send(void *opaque)
{
    g_autofree uint8_t *data = g_malloc(BULK_BYTES);
    struct iovec v[BULK_VECTORS];
    size_t part = BULK_BYTES / BULK_VECTORS;

    for (size_t i = 0; i < BULK_BYTES; i++) {
        data[i] = i * 7 ^ i >> 11;
    }
    for (size_t i = 0; i < BULK_VECTORS; i++) {
        v[i].iov_base = data + i * part;
        v[i].iov_len = i < BULK_VECTORS - 1 ? part : BULK_BYTES - i * part;
    }
    return stream_co_writev_all(opaque, iov_of(v, BULK_VECTORS));
}

static void coroutine_fn check_bulk(Server *server)
{
    g_autofree uint8_t *data = g_malloc(BULK_BYTES);
    Stream *s = client(server);
    CoGroup group = {0};

    co_group_spawn(&group, bulk_send, s);
    g_assert_cmpint(stream_co_read_all(s, data, BULK_BYTES), ==, 0);
    for (size_t i = 0; i < BULK_BYTES; i++) {
        g_assert_cmpuint(data[i], ==, (uint8_t)(i * 7 ^ i >> 11));
    }
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    stream_close(s);
}

static void coroutine_fn test_bulk_through_both_kinds(void)
{
    Server unix_server = {0}, tcp_server = {0};

    server_start_unix(&unix_server, echo);
    check_bulk(&unix_server);
    server_stop(&unix_server);
    server_start_tcp(&tcp_server, echo);
    check_bulk(&tcp_server);
    server_stop(&tcp_server);
}

/* --- shutdown --- */

typedef struct Waiter {
    Stream *stream;
    int result;
    bool done;
} Waiter;

static int coroutine_fn read_entry(void *opaque)
{
    Waiter *w = opaque;
    char buf[1];

    w->result = stream_co_read(w->stream, buf, 1);
    w->done = true;
    return 0;
}

static int coroutine_fn fill_entry(void *opaque)
{
    Waiter *w = opaque;
    g_autofree char *buf = g_malloc0(64 * KiB);

    while ((w->result = stream_co_write_all(w->stream, buf, 64 * KiB)) == 0) {
        /* until it fails */
    }
    w->done = true;
    return 0;
}

static Stream *kept;

static void coroutine_fn keep_stream(Stream *s, void *opaque)
{
    kept = s;
}

/* Both ends read and write at once, then one shuts down: all four operations end. */
static void coroutine_fn check_shutdown(Server *server)
{
    Stream *s = client(server);
    CoGroup group = {0};
    Waiter w[4];

    while (kept == NULL) {
        co_sleep_ns(NS_PER_MS);
    }
    for (int i = 0; i < 4; i++) {
        w[i] = (Waiter){.stream = i < 2 ? s : kept};
    }
    co_group_spawn(&group, read_entry, &w[0]);
    co_group_spawn(&group, read_entry, &w[2]);
    co_sleep_ns(5 * NS_PER_MS);
    g_assert_false(w[0].done || w[2].done);
    co_group_spawn(&group, fill_entry, &w[1]);
    co_sleep_ns(5 * NS_PER_MS);
    g_assert_false(w[1].done); /* full: the other side read one byte and no more */
    stream_shutdown(s);
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    g_assert_cmpint(w[0].result, ==, -ESHUTDOWN);
    g_assert_cmpint(w[1].result, ==, -ESHUTDOWN);
    g_assert_cmpint(w[2].result, ==, 1);
    g_assert_cmpint(stream_co_read(s, &w, 1), ==, -ESHUTDOWN);
    g_assert_cmpint(stream_co_write_all(s, "x", 1), ==, -ESHUTDOWN);
    stream_close(s);
    co_group_spawn(&group, fill_entry, &w[3]); /* no SIGPIPE */
    g_assert_cmpint(co_group_wait(&group), ==, 0);
    g_assert_true(w[3].result == -EPIPE || w[3].result == -ECONNRESET);
    stream_close(kept);
    kept = NULL;
}

static void coroutine_fn test_shutdown_ends_all_operations(void)
{
    Server unix_server = {0}, tcp_server = {0};

    server_start_unix(&unix_server, keep_stream);
    check_shutdown(&unix_server);
    server_stop(&unix_server);
    server_start_tcp(&tcp_server, keep_stream);
    check_shutdown(&tcp_server);
    server_stop(&tcp_server);
}

/* --- what cannot be connected to --- */

static void coroutine_fn
expect_no_connect(const StreamAddr *addr, int64_t deadline_ns, const char *why)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(stream_co_connect(addr, deadline_ns, &err));
    g_assert_nonnull(err);
    g_test_message("%s", err->message);
    g_assert_nonnull(strstr(err->message, why));
}

static void coroutine_fn test_connect_errors_name_the_place(void)
{
    g_autofree char *longest = g_strnfill(107, 'x'), *too_long = g_strnfill(108, 'x');
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = "/nonexistent/socket"};

    expect_no_connect(&addr, 0, "Failed to connect to '/nonexistent/socket': No such file");
    addr.path = longest;
    expect_no_connect(&addr, 0, "No such file");
    addr.path = too_long;
    expect_no_connect(&addr, 0, "is too long: it must be less than 108 bytes");
    addr.path = "";
    expect_no_connect(&addr, 0, "empty");
    addr = (StreamAddr){.kind = STREAM_ADDR_INET, .host = "127.0.0.1", .port = "1"};
    expect_no_connect(&addr, 0, "Failed to connect to '127.0.0.1:1': Connection refused");
    addr.port = "no-such-service";
    expect_no_connect(&addr, 0, "address resolution failed for 127.0.0.1:no-such-service");
    addr.port = "";
    expect_no_connect(&addr, 0, "port");
    addr = (StreamAddr){.kind = STREAM_ADDR_FD, .fd = dup(0)};
    expect_no_connect(&addr, 0, "is not a socket");
    addr.fd = -1;
    expect_no_connect(&addr, 0, "is not a socket");
}

/* Two that nobody accepts fill a backlog of 1; the third waits until its deadline. */
static void coroutine_fn test_connect_gives_up_at_the_deadline(void)
{
    Server server = {0};
    int64_t start_ns;

    folder_make();
    server.path = path_in_folder();
    server.addr = (StreamAddr){.kind = STREAM_ADDR_UNIX, .path = server.path};
    server.listener = listener_co_new(&server.addr, 1, keep_stream, NULL, NULL);
    listener_pause(server.listener, true);
    Stream *s1 = client(&server), *s2 = client(&server);

    start_ns = loop_now_ns();
    expect_no_connect(&server.addr, start_ns + 50 * NS_PER_MS, "timed out");
    g_assert_cmpint(loop_now_ns(), <, start_ns + 5 * NS_PER_S);
    expect_no_connect(&server.addr, start_ns, "timed out"); /* over before it began */
    stream_close(s1);
    stream_close(s2);
    server_stop(&server);
}

/* The same where the kernel does the waiting: TCP drops what does not fit its backlog. */
static void coroutine_fn test_tcp_connect_gives_up_at_the_deadline(void)
{
    Server server = {.addr = {.kind = STREAM_ADDR_INET, .host = "127.0.0.1", .port = "0"}};
    Stream *streams[16];
    int n = 0;
    int64_t start_ns = loop_now_ns();

    server.listener = listener_co_new(&server.addr, 1, keep_stream, NULL, NULL);
    g_snprintf(server.port, sizeof(server.port), "%d", listener_port(server.listener));
    server.addr.port = server.port;
    listener_pause(server.listener, true);
    while (n < 16) {
        g_autoptr(GError) err = NULL;

        streams[n] = stream_co_connect(&server.addr, loop_now_ns() + 50 * NS_PER_MS, &err);
        if (streams[n] == NULL) {
            g_assert_nonnull(strstr(err->message, "timed out"));
            break;
        }
        n++;
    }
    g_assert_cmpint(n, <, 16);
    g_assert_cmpint(loop_now_ns(), <, start_ns + 5 * NS_PER_S);
    while (n > 0) {
        stream_close(streams[--n]);
    }
    server_stop(&server);
}

/* --- who may have the address --- */

static void coroutine_fn test_served_socket_is_not_replaced(void)
{
    g_autoptr(GError) err = NULL;
    Server server = {0};
    Stream *s;

    server_start_unix(&server, echo);
    g_assert_null(listener_co_new(&server.addr, 1, echo, NULL, &err));
    g_assert_nonnull(strstr(err->message, "Address already in use"));
    s = client(&server);
    check_echo(s, "still there");
    stream_close(s);
    server_stop(&server);
}

static void coroutine_fn test_stale_socket_is_replaced(void)
{
    Server server = {0}, other = {0};
    g_autofree char *moved = NULL;
    Stream *s;

    server_start_unix(&server, echo);
    /* Its owner no longer finds it under this name, so it stays behind. */
    moved = g_strconcat(server.path, ".moved", NULL);
    g_assert_cmpint(g_rename(server.path, moved), ==, 0);
    listener_free(server.listener);
    g_assert_cmpint(g_rename(moved, server.path), ==, 0);

    other.addr = server.addr;
    server_start(&other, echo);
    s = client(&other);
    check_echo(s, "new");
    stream_close(s);
    server.listener = other.listener;
    server.open = 0;
    while (other.open > 0) {
        co_queue_wait(&other.changed);
    }
    server_stop(&server);
}

static void coroutine_fn test_file_is_not_replaced(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *path = NULL;
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX};

    folder_make();
    addr.path = path = path_in_folder();
    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    g_assert_null(listener_co_new(&addr, 1, echo, NULL, &err));
    g_assert_nonnull(strstr(err->message, "Address already in use"));
    g_assert_cmpint(g_unlink(path), ==, 0);
    folder_remove();
}

/* Somebody moved ours away and made one of his own: it is not ours to remove. */
static void coroutine_fn test_foreign_path_is_not_unlinked(void)
{
    Server server = {0};
    g_autofree char *path = NULL;

    server_start_unix(&server, echo);
    path = g_strdup(server.path);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_true(g_file_set_contents(path, "his", -1, NULL));
    listener_free(server.listener);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_free(server.path);
    folder_remove();
}

static void coroutine_fn test_tcp_port_in_use(void)
{
    g_autoptr(GError) err = NULL;
    Server server = {0};

    server_start_tcp(&server, echo);
    g_assert_null(listener_co_new(&server.addr, 1, echo, NULL, &err));
    g_assert_nonnull(strstr(err->message, "Address already in use"));
    server_stop(&server);
}

/* --- a listener that may not or cannot accept --- */

static void coroutine_fn test_paused_listener_leaves_them_in_the_backlog(void)
{
    Server server = {0};
    Stream *s;

    server_start_unix(&server, echo);
    listener_pause(server.listener, true);
    s = client(&server);
    co_sleep_ns(20 * NS_PER_MS);
    g_assert_cmpint(server.accepted, ==, 0);
    listener_pause(server.listener, false);
    check_echo(s, "now");
    stream_close(s);
    server_stop(&server);
}

static void coroutine_fn test_paused_listener_can_be_freed(void)
{
    Server server = {0};

    server_start_unix(&server, echo);
    listener_pause(server.listener, true);
    co_sleep_ns(NS_PER_MS);
    server_stop(&server);
}

static int64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* Out of descriptors: no spinning, and it goes on as soon as there are some. */
static void coroutine_fn test_descriptors_run_out(void)
{
    Server server = {0};
    struct rlimit old, low;
    Stream *s;
    int64_t used_ns;

    server_start_unix(&server, echo);
    s = client(&server);
    check_echo(s, "first");
    stream_close(s);
    listener_pause(server.listener, true);
    s = client(&server);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    low = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &low), ==, 0);
    listener_pause(server.listener, false);

    used_ns = cpu_ns();
    co_sleep_ns(300 * NS_PER_MS);
    used_ns = cpu_ns() - used_ns;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    g_assert_cmpint(server.accepted, ==, 1);
    g_assert_cmpint(used_ns, <, 100 * NS_PER_MS);

    check_echo(s, "second");
    g_assert_cmpint(server.accepted, ==, 2);
    stream_close(s);
    server_stop(&server);
}

static void coroutine_fn test_inherited_descriptors(void)
{
    int pair[2];
    Stream *a, *b;
    char buf[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    a = stream_from_fd(pair[0], NULL);
    b = stream_from_fd(pair[1], NULL);
    g_assert_cmpint(stream_try_read(b, buf, 2), ==, -EAGAIN);
    g_assert_cmpint(stream_co_write_all(a, "hi", 2), ==, 0);
    g_assert_cmpint(stream_try_read(b, buf, 2), ==, 2);
    stream_close(a);
    g_assert_cmpint(stream_co_read(b, buf, 2), ==, 0);
    stream_close(b);
}

static void coroutine_fn test_virtual_loop_has_no_sockets(void)
{
    g_autoptr(GError) err = NULL;
    StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = "/s"};

    expect_no_connect(&addr, 0, "virtual");
    g_assert_null(listener_co_new(&addr, 1, echo, NULL, &err));
    g_assert_nonnull(err);
}

/* Whatever fails on the way to an answer, nothing is left behind. */
static void coroutine_fn test_each_failure_is_clean(void)
{
    folder_make();
    for_each_failure(i)
    {
        g_autofree char *path = path_in_folder();
        StreamAddr addr = {.kind = STREAM_ADDR_UNIX, .path = path};
        g_autoptr(GError) err = NULL;
        Server server = {0};
        char buf[2];
        bool ok = false;

        server.listener = listener_co_new(&addr, 1, echo, &server, &err);
        if (server.listener != NULL) {
            Stream *s = stream_co_connect(&addr, 0, &err);

            ok = s != NULL && stream_co_write_all(s, "hi", 2) == 0 &&
                 stream_co_read_all(s, buf, 2) == 0;
            if (s != NULL) {
                stream_close(s);
            }
            server_stop(&server);
        }
        g_assert_true(ok || fault_fired()); /* the server may fail after its answer */
        g_assert_cmpint(access(path, F_OK), ==, -1);
    }
    folder_remove();
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t len = sizeof(value);

    g_assert_cmpint(getsockopt(fd, level, option, &value, &len), ==, 0);
    return value;
}

static void coroutine_fn test_vanished_peer_is_noticed(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    Stream *s = stream_from_fd(fd, NULL);

    g_assert_nonnull(s);
    g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_NODELAY), !=, 0);
    g_assert_cmpint(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), !=, 0);
    g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) +
                        option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) *
                            option_of(fd, IPPROTO_TCP, TCP_KEEPCNT),
                    ==, 120);
    g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), ==, 120 * 1000);
    stream_close(s);
}

LOOP_TEST("/socket/vanished-peer", test_vanished_peer_is_noticed)

/* --- the end of what a peer says --- */

static void coroutine_fn say_and_go(void *opaque)
{
    int *fd = opaque;

    g_assert_cmpint(write(*fd, "bye", 3), ==, 3);
    close(*fd);
}

/* The last data and the end make one edge: a reader that got less than it asked for must not wait
 * for another, whether it slept before or not. */
static void coroutine_fn test_end_comes_with_the_last_data(void)
{
    for (int sleeps = 0; sleeps < 2; sleeps++) {
        g_autoptr(GError) err = NULL;
        char buf[100];
        int pair[2];
        Stream *s;

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
        s = stream_from_fd(pair[0], &err);
        g_assert_no_error(err);
        if (sleeps) {
            co_spawn(say_and_go, &pair[1]); /* runs when we wait */
        } else {
            say_and_go(&pair[1]);
        }
        g_assert_cmpint(stream_co_read(s, buf, sizeof(buf)), ==, 3);
        g_assert_cmpint(stream_co_read(s, buf, sizeof(buf)), ==, 0);
        stream_close(s);
    }
}

LOOP_TEST("/socket/end-comes-with-the-last-data", test_end_comes_with_the_last_data)
LOOP_TEST("/socket/each-failure-is-clean", test_each_failure_is_clean)
LOOP_TEST("/socket/unix-echo", test_unix_echo)
LOOP_TEST("/socket/tcp-echo", test_tcp_echo)
LOOP_TEST("/socket/host-name-is-looked-up", test_host_name_is_looked_up)
LOOP_TEST("/socket/any-host", test_any_host_serves_both_families)
LOOP_TEST("/socket/abstract-name", test_abstract_name)
LOOP_TEST("/socket/200-connects", test_200_connects)
LOOP_TEST("/socket/bulk", test_bulk_through_both_kinds)
LOOP_TEST("/socket/shutdown-ends-all-operations", test_shutdown_ends_all_operations)
LOOP_TEST("/socket/connect-errors", test_connect_errors_name_the_place)
LOOP_TEST("/socket/connect-deadline", test_connect_gives_up_at_the_deadline)
LOOP_TEST("/socket/tcp-connect-deadline", test_tcp_connect_gives_up_at_the_deadline)
LOOP_TEST("/socket/inherited-descriptors", test_inherited_descriptors)
VTEST("/socket/virtual-loop-has-none", test_virtual_loop_has_no_sockets)
LOOP_TEST("/listener/served-is-not-replaced", test_served_socket_is_not_replaced)
LOOP_TEST("/listener/stale-is-replaced", test_stale_socket_is_replaced)
LOOP_TEST("/listener/file-is-not-replaced", test_file_is_not_replaced)
LOOP_TEST("/listener/foreign-path-is-not-unlinked", test_foreign_path_is_not_unlinked)
LOOP_TEST("/listener/tcp-port-in-use", test_tcp_port_in_use)
LOOP_TEST("/listener/paused-leaves-backlog", test_paused_listener_leaves_them_in_the_backlog)
LOOP_TEST("/listener/paused-can-be-freed", test_paused_listener_can_be_freed)
LOOP_TEST("/listener/descriptors-run-out", test_descriptors_run_out)
