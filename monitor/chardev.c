/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character devices: see monitor/chardev.h.
 *
 * A connection is a coroutine from accept to hang-up. At most one of a device
 * is being served (busy); it pauses the listener, and those accepted before the
 * pause took effect wait for their turn.
 */
#include "monitor/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "monitor/object.h"
#include "qapi/keyval.h"
#include "qapi/walk.h"
#include "util/error.h"
#include "util/sync.h"

#define BACKLOG 128

struct Chardev {
    char *id;
    Listener *listener; /* NULL: none */
    ChardevServeFn *serve;
    void *opaque;
    bool busy;
    unsigned clients; /* coroutines of connections */
    CoQueue changed;  /* whatever a coroutine of this device waits for */
};

static GQueue chardevs; /* of Chardev */
static bool stopped;

Chardev *
chardev_find(const char *id)
{
    for (GList *l = chardevs.head; l; l = l->next) {
        Chardev *c = l->data;

        if (strcmp(c->id, id) == 0) {
            return c;
        }
    }
    return NULL;
}

/* --- clients --- */

static void
set_busy(Chardev *c, bool busy)
{
    c->busy = busy;
    if (c->listener) {
        listener_pause(c->listener, busy);
    }
    co_queue_wake_all(&c->changed);
}

/* One connection; a ListenerFn. */
static void coroutine_fn
client_run(Stream *s, void *opaque)
{
    Chardev *c = opaque;

    c->clients++;
    while (c->busy && !stopped) {
        co_queue_wait(&c->changed);
    }
    set_busy(c, true);
    while (!c->serve && !stopped) {
        co_queue_wait(&c->changed);
    }
    if (stopped) {
        stream_close(s);
    } else {
        c->serve(s, c->opaque);
    }
    c->clients--;
    set_busy(c, false);
}

typedef struct Single {
    Chardev *c;
    Stream *s;
} Single;

static void coroutine_fn
single_run(void *opaque)
{
    Single single = *(Single *)opaque;

    g_free(opaque);
    client_run(single.s, single.c);
}

/* Serve the only client that there will ever be. */
static void
serve_single(Chardev *c, Stream *s)
{
    Single *single = g_new(Single, 1);

    *single = (Single){ c, s };
    co_spawn(single_run, single);
}

/* --- opening, one function a backend --- */

static bool
check_socket(const ChardevOptionsSocket *o, GError **errp)
{
    if (!!o->path + !!o->host + o->has_fd != 1) {
        return fail(errp, "chardev: socket: give one of 'path', 'host' and 'fd'");
    }
    if (o->host && !o->port) {
        return fail(errp, "chardev: socket: no port given");
    }
    if (o->port && !o->host) {
        return fail(errp, "chardev: socket: 'port' needs 'host'");
    }
    if (o->has_wait && !o->server) {
        return fail(errp, "'wait' option is incompatible with socket in client connect mode");
    }
    return true;
}

static StreamAddr
socket_addr(const ChardevOptionsSocket *o)
{
    if (o->path) {
        return (StreamAddr){ .kind = STREAM_ADDR_UNIX, .path = o->path, .abstract = o->abstract };
    }
    if (o->has_fd) {
        return (StreamAddr){ .kind = STREAM_ADDR_FD, .fd = o->fd };
    }
    return (StreamAddr){ .kind = STREAM_ADDR_INET, .host = o->host, .port = o->port,
                         .ipv4 = o->ipv4, .ipv6 = o->ipv6 };
}

static bool coroutine_fn
socket_co_listen(Chardev *c, const ChardevOptionsSocket *o, GError **errp)
{
    StreamAddr addr = socket_addr(o);

    c->listener = listener_co_new(&addr, BACKLOG, client_run, c, errp);
    if (!c->listener) {
        return false;
    }
    if (o->has_wait && !o->wait) {
        return true;
    }
    g_printerr("info: waiting for a client of chardev '%s'\n", c->id);
    while (!c->busy && !stopped) {
        co_queue_wait(&c->changed);
    }
    return stopped ? fail(errp, "chardev: no client came before the end") : true;
}

static bool coroutine_fn
socket_co_open(Chardev *c, const ChardevOptionsSocket *o, GError **errp)
{
    StreamAddr addr = socket_addr(o);
    Stream *s;

    if (!check_socket(o, errp)) {
        return false;
    }
    if (o->server) {
        return socket_co_listen(c, o, errp);
    }
    s = o->has_fd ? stream_from_fd(o->fd, errp) : stream_co_connect(&addr, 0, errp);
    if (!s) {
        return false;
    }
    serve_single(c, s);
    return true;
}

static bool
stdio_open(Chardev *c, GError **errp)
{
    static bool used;
    int in, out;

    if (used) {
        return fail(errp, "cannot use stdio by multiple character devices");
    }
    in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (in < 0 || out < 0) {
        fail_errno(errp, errno, "cannot use stdio");
        if (in >= 0) {
            close(in);
        }
        return false;
    }
    used = true;
    serve_single(c, stream_from_fds(in, out));
    return true;
}

static bool
file_open(Chardev *c, const ChardevOptionsFile *o, GError **errp)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | (o->append ? O_APPEND : O_TRUNC);
    int fd = open(o->path, flags, 0666);

    if (fd < 0) {
        return fail_errno(errp, errno, "Unable to open file %s", o->path);
    }
    serve_single(c, stream_from_fds(-1, fd));
    return true;
}

static bool coroutine_fn
chardev_co_open(Chardev *c, const ChardevOptions *o, GError **errp)
{
    switch (o->backend) {
    case CHARDEV_BACKEND_KIND_FILE:
        return file_open(c, &o->u.file, errp);
    case CHARDEV_BACKEND_KIND_NULL:
        return true;
    case CHARDEV_BACKEND_KIND_SOCKET:
        return socket_co_open(c, &o->u.socket, errp);
    case CHARDEV_BACKEND_KIND_STDIO:
        return stdio_open(c, errp);
    default:
        g_assert_not_reached();
    }
}

/* --- life --- */

bool
chardev_help(const char *text, FILE *out)
{
    bool help = false;
    json_t *o = qemu_opts_parse(text, "backend", &help, NULL);

    json_decref(o);
    if (!help) {
        return false;
    }
    fprintf(out, "Available chardev backend types: \n");
    for (uint32_t i = 0; i < qapi_type_chardev_backend_kind.n_values; i++) {
        fprintf(out, "  %s\n", qapi_enum_str(&qapi_type_chardev_backend_kind, (int)i));
    }
    return true;
}

/* What QEMU says before it looks at anything else. */
static bool
check_id_and_backend(const json_t *opts, GError **errp)
{
    const char *id = json_string_value(json_object_get(opts, "id"));
    const char *backend = json_string_value(json_object_get(opts, "backend"));

    if (!id) {
        return fail(errp, "chardev: no id specified");
    }
    if (!object_is_id(id)) {
        return fail(errp, "Parameter 'id' expects an identifier");
    }
    if (!backend) {
        return fail(errp, "chardev: \"%s\" missing backend", id);
    }
    if (qapi_enum_parse(&qapi_type_chardev_backend_kind, backend) < 0) {
        return fail(errp, "'%s' is not a valid char driver name", backend);
    }
    return true;
}

bool coroutine_fn
chardev_co_add(const json_t *opts, GError **errp)
{
    g_autoptr(ChardevOptions) o = NULL;
    Chardev *c;

    if (!check_id_and_backend(opts, errp)) {
        return false;
    }
    o = chardev_options_from_lenient(opts, errp);
    if (!o) {
        return false;
    }
    if (chardev_find(o->id)) {
        return fail(errp, "Duplicate ID '%s' for chardev", o->id);
    }
    c = g_new0(Chardev, 1);
    c->id = g_strdup(o->id);
    g_queue_push_tail(&chardevs, c); /* a failure ends the program, which frees it */
    return chardev_co_open(c, o, errp);
}

bool
chardev_attach(Chardev *c, ChardevServeFn *fn, void *opaque, GError **errp)
{
    if (c->serve) {
        return fail(errp, "Device '%s' is in use", c->id);
    }
    c->serve = fn;
    c->opaque = opaque;
    co_queue_wake_all(&c->changed);
    return true;
}

void
chardevs_stop(void)
{
    stopped = true;
    for (GList *l = chardevs.head; l; l = l->next) {
        Chardev *c = l->data;

        g_clear_pointer(&c->listener, listener_free);
        co_queue_wake_all(&c->changed);
    }
}

void coroutine_fn
chardevs_co_free(void)
{
    Chardev *c;

    assert(stopped);
    co_reschedule(); /* those accepted before the stop enter client_run() */
    while ((c = g_queue_pop_head(&chardevs))) {
        while (c->clients) {
            co_queue_wait(&c->changed);
        }
        g_free(c->id);
        g_free(c);
    }
}

/* --- the short forms of -qmp --- */

json_t *
chardev_opts_from_compat(const char *text, const char *id, GError **errp)
{
    g_autofree char *opts = NULL;
    const char *rest = strchr(text, ':');
    size_t kind = rest ? (size_t)(rest - text) : strlen(text);

    if (!rest && (strcmp(text, "stdio") == 0 || strcmp(text, "null") == 0)) {
        opts = g_strdup_printf("%s,id=%s", text, id);
    } else if (rest && strncmp(text, "unix:", kind + 1) == 0) {
        opts = g_strdup_printf("socket,id=%s,path=%s", id, rest + 1);
    } else if (rest && strncmp(text, "file:", kind + 1) == 0) {
        opts = g_strdup_printf("file,id=%s,path=%s", id, rest + 1);
    } else if (rest && strncmp(text, "tcp:", kind + 1) == 0) {
        size_t host_end = strcspn(rest + 1, ",");
        g_autofree char *address = g_strndup(rest + 1, host_end);
        char *port = strrchr(address, ':');

        if (!port) {
            fail(errp, "'%s' is not a valid char driver: HOST:PORT expected", text);
            return NULL;
        }
        *port++ = '\0';
        opts = g_strdup_printf("socket,id=%s,host=%s,port=%s%s", id, address, port,
                               rest + 1 + host_end);
    } else {
        fail(errp, "'%s' is not a valid char driver", text);
        return NULL;
    }
    return qemu_opts_parse(opts, "backend", NULL, errp);
}
