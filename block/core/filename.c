/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File names of images: what users may write where a file name is wanted
 * (QEMU's command line: "path", "file:path", "json:{...}", "nbd://host/export",
 * "nbd+unix:///export?socket=path", "nbd:host:port", "null-co://",
 * "blkdebug:config:image"), and the printable name of a node.
 */
#include "core.h"

#include <string.h>
#include <sys/stat.h>

#include "qapi/walk.h"
#include "util/error.h"
#include "util/loop.h"

#define NBD_DEFAULT_PORT    "10809"
#define JSON_NAME_DEPTH_MAX 64

/* --- "PROTO:rest" --- */

/* The text before the first ':' is a protocol unless a '/' comes before it. */
static size_t protocol_length(const char *filename)
{
    size_t n = strcspn(filename, ":/");

    return filename[n] == ':' ? n : 0;
}

bool filename_has_protocol(const char *filename)
{
    return protocol_length(filename) > 0;
}

char *filename_combine(const char *base, const char *name)
{
    const char *slash;

    if (name[0] == '/' || filename_has_protocol(name)) {
        return g_strdup(name);
    }
    slash = strrchr(base, '/');
    return slash ? g_strdup_printf("%.*s%s", (int)(slash + 1 - base), base, name) : g_strdup(name);
}

/* --- nbd --- */

static json_t *nbd_options(json_t *server, const char *export)
{
    json_t *o = json_pack("{s:s, s:o}", "driver", "nbd", "server", server);

    if (o && export && *export) {
        json_object_set_new(o, "export", json_string(export));
    }
    return o;
}

static json_t *server_unix(const char *path)
{
    return json_pack("{s:s, s:s}", "type", "unix", "path", path);
}

static json_t *server_inet(const char *host, const char *port)
{
    return json_pack("{s:s, s:s, s:s}", "type", "inet", "host", host, "port", port);
}

/* The socket of "?socket=path", which must be the only parameter. */
static char *socket_of_query(const char *query, GError **errp)
{
    g_autoptr(GHashTable) params = NULL;
    const char *path;

    params = query ? g_uri_parse_params(query, -1, "&", G_URI_PARAMS_NONE, NULL) : NULL;
    path = params ? g_hash_table_lookup(params, "socket") : NULL;
    if (!path || g_hash_table_size(params) != 1) {
        fail(errp, "nbd+unix:// wants exactly one parameter: socket");
        return NULL;
    }
    return g_strdup(path);
}

static json_t *parse_nbd_uri(const char *uri, GError **errp)
{
    g_autofree char *scheme = NULL, *host = NULL, *path = NULL, *query = NULL, *fragment = NULL;
    g_autofree char *socket = NULL, *port_text = NULL;
    const char *export;
    int port = -1;

    if (!g_uri_split(uri, G_URI_FLAGS_ENCODED_QUERY, &scheme, NULL, &host, &port, &path, &query,
                     &fragment, NULL) ||
        fragment) {
        return fail(errp, "'%s' is not a valid NBD URI", uri), NULL;
    }
    export = path + (path[0] == '/');
    if (strcmp(scheme, "nbd+unix") == 0) {
        if (host && *host) {
            return fail(errp, "'%s': nbd+unix:// takes no host", uri), NULL;
        }
        socket = socket_of_query(query, errp);
        return socket ? nbd_options(server_unix(socket), export) : NULL;
    }
    if (query) {
        return fail(errp, "'%s': an NBD URI for TCP takes no parameters", uri), NULL;
    }
    if (!host || !*host || port == 0) {
        return fail(errp, "'%s' names no host to connect to", uri), NULL;
    }
    port_text = port > 0 ? g_strdup_printf("%d", port) : g_strdup(NBD_DEFAULT_PORT);
    return nbd_options(server_inet(host, port_text), export);
}

/* "host:port", "[v6]:port" or "unix:path", what nbd: had before URIs. */
static json_t *parse_nbd_legacy(const char *rest, GError **errp)
{
    const char *mark = strstr(rest, ":exportname=");
    g_autofree char *address = mark ? g_strndup(rest, (size_t)(mark - rest)) : g_strdup(rest);
    const char *export = mark ? mark + strlen(":exportname=") : NULL;
    char *host = address, *colon;
    size_t n;

    if (g_str_has_prefix(address, "unix:")) {
        if (!address[strlen("unix:")]) {
            return fail(errp, "nbd:unix: names no socket"), NULL;
        }
        return nbd_options(server_unix(address + strlen("unix:")), export);
    }
    colon = strrchr(address, ':');
    if (!colon || colon == address || !colon[1]) {
        return fail(errp, "'nbd:%s' is not nbd:host:port or nbd:unix:path", rest), NULL;
    }
    *colon = '\0';
    n = strlen(host);
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        host++;
    }
    return nbd_options(server_inet(host, colon + 1), export);
}

/* --- parsing --- */

/* "config:image", where no config is needed and the image is a file name itself. */
static json_t *coroutine_fn parse_blkdebug(const char *rest, GError **errp)
{
    const char *colon = strchr(rest, ':');
    bool is_json;
    json_t *image, *o;

    if (!colon) {
        return fail(errp, "blkdebug requires both config file and image path"), NULL;
    }
    image = filename_co_parse(colon + 1, &is_json, errp);
    if (!image) {
        return NULL;
    }
    o = json_pack("{s:s, s:o}", "driver", "blkdebug", "image", image);
    if (colon > rest) {
        json_object_set_new(o, "config", json_stringn(rest, (size_t)(colon - rest)));
    }
    return o;
}

/* The JSON parser calls itself for each level, and we are on a coroutine's stack. */
static bool nests_too_deep(const char *text)
{
    bool in_string = false;
    int depth = 0;

    for (; *text; text++) {
        if (in_string && *text == '\\' && text[1]) {
            text++;
        } else if (*text == '"') {
            in_string = !in_string;
        } else if (!in_string && (*text == '{' || *text == '[')) {
            depth++;
        } else if (!in_string && (*text == '}' || *text == ']')) {
            depth--;
        }
        if (depth > JSON_NAME_DEPTH_MAX) {
            return true;
        }
    }
    return false;
}

static json_t *parse_json_name(const char *text, GError **errp)
{
    json_error_t e;
    json_t *o;

    if (nests_too_deep(text)) {
        fail(errp, "Could not parse the JSON options: they nest deeper than %d levels",
             JSON_NAME_DEPTH_MAX);
        return NULL;
    }
    o = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    if (!o) {
        fail(errp, "Could not parse the JSON options: %s", e.text);
        return NULL;
    }
    if (!json_is_object(o)) {
        json_decref(o);
        fail(errp, "Could not parse the JSON options: expected a JSON object");
        return NULL;
    }
    return o;
}

typedef struct StatCall {
    const char *path;
    struct stat st;
} StatCall;

static int call_stat(void *opaque)
{
    StatCall *c = opaque;

    return stat(c->path, &c->st);
}

static json_t *coroutine_fn parse_path(const char *path, GError **errp)
{
    StatCall c = {.path = path};
    bool device;

    if (!*path) {
        return fail(errp, "The 'file' block driver requires a file name"), NULL;
    }
    device = co_run_blocking(call_stat, &c) == 0 && S_ISBLK(c.st.st_mode);
    return json_pack("{s:s, s:s}", "driver", device ? "host_device" : "file", "filename", path);
}

json_t *coroutine_fn filename_co_parse(const char *filename, bool *ret_json, GError **errp)
{
    size_t n = protocol_length(filename);
    g_autofree char *proto = g_strndup(filename, n);

    if (ret_json) {
        *ret_json = false;
    }
    if (!g_utf8_validate(filename, -1, NULL)) {
        return fail(errp, "File name is not valid UTF-8"), NULL;
    }
    if (n == 0) {
        return parse_path(filename, errp);
    }
    if (strcmp(proto, "file") == 0) {
        return parse_path(filename + n + 1, errp);
    }
    if (strcmp(proto, "json") == 0 && ret_json) {
        *ret_json = true;
        return parse_json_name(filename + n + 1, errp);
    }
    if (strcmp(proto, "nbd") == 0 && !g_str_has_prefix(filename, "nbd://")) {
        return parse_nbd_legacy(filename + n + 1, errp);
    }
    if (strcmp(proto, "nbd") == 0 || strcmp(proto, "nbd+tcp") == 0 ||
        strcmp(proto, "nbd+unix") == 0) {
        return parse_nbd_uri(filename, errp);
    }
    if (strcmp(filename + n, "://") == 0 &&
        (strcmp(proto, "null-co") == 0 || strcmp(proto, "null-aio") == 0)) {
        return json_pack("{s:s}", "driver", proto);
    }
    if (strcmp(proto, "blkdebug") == 0) {
        return parse_blkdebug(filename + n + 1, errp);
    }
    return fail(errp, "Unknown protocol '%s'", proto), NULL;
}

/* --- the printable name of a node --- */

static json_t *full_options(const BlockNode *node);

/* A filter that a job has put there is no part of what users have described. */
static const BlockNode *skip_undescribed(const BlockNode *node)
{
    while (!node->p->opts && node->drv->is_filter && node->file) {
        node = node->file->node;
    }
    return node;
}

/* What is there now, with its own options: one named by reference, or that has come later. */
static void expand_child(json_t *options, const BlockChild *c)
{
    const BlockNode *node = skip_undescribed(c->node);
    json_t *shown = node->p->opts ? full_options(node) : json_string(node->node_name);

    if (json_object_get(options, c->name)) {
        json_object_set(options, c->name, shown);
    } else if (g_str_has_prefix(c->name, "children.")) {
        json_array_append(json_object_get(options, "children"), shown);
    }
    json_decref(shown);
}

static json_t *full_options(const BlockNode *node)
{
    /* How a node is used, not which disk it is. */
    static const char *const loose[] = {"node-name", "read-only", "auto-read-only", "force-share",
                                        "cache",     "discard",   "detect-zeroes",  "active"};
    json_t *o = blockdev_options_to_json(node->p->opts);

    for (size_t i = 0; i < G_N_ELEMENTS(loose); i++) {
        json_object_del(o, loose[i]);
    }
    json_array_clear(json_object_get(o, "children"));
    for (const BlockChild *c = node->first_child; c; c = c->next_sibling) {
        expand_child(o, c);
    }
    return o;
}

static char *json_name(const BlockNode *node)
{
    json_t *o = full_options(node);
    char *text = json_dumps(o, JSON_ENSURE_ASCII);
    char *name = g_strdup_printf("json:%s", text);

    free(text);
    json_decref(o);
    return name;
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static char *nbd_name(const json_t *o)
{
    const json_t *server = json_object_get(o, "server");
    const char *export = text_of(o, "export"), *type = text_of(server, "type");
    g_autofree char *path = g_uri_escape_string(export ? export : "", "/", FALSE);

    if (g_strcmp0(type, "unix") == 0) {
        g_autofree char *socket = g_uri_escape_string(text_of(server, "path"), "/", FALSE);

        return g_strdup_printf("nbd+unix://%s%s?socket=%s", *path ? "/" : "", path, socket);
    }
    if (g_strcmp0(type, "inet") == 0) {
        const char *host = text_of(server, "host"), *port = text_of(server, "port");
        const char *left = strchr(host, ':') ? "[" : "", *right = *left ? "]" : "";

        return g_strdup_printf("nbd://%s%s%s:%s%s%s", left, host, right, port, *path ? "/" : "",
                               path);
    }
    return NULL;
}

static char *protocol_name(const BlockNode *node)
{
    json_t *o = blockdev_options_to_json(node->p->opts);
    const char *filename = text_of(o, "filename"), *driver = text_of(o, "driver");
    char *name = NULL;

    if (filename) {
        name = g_strdup(filename);
    } else if (strcmp(driver, "nbd") == 0) {
        name = nbd_name(o);
    } else if (g_str_has_prefix(driver, "null-") && !json_object_get(o, "size")) {
        name = g_strdup_printf("%s://", driver);
    }
    json_decref(o);
    return name;
}

/* "blkdebug:config:image", if the options say no more than that; NULL if they do. */
static char *blkdebug_name(const BlockNode *node)
{
    const char *image = node->file ? node->file->node->filename : "json:", *config;
    json_t *o = full_options(node);
    char *name = NULL;

    config = text_of(o, "config");
    if (json_object_size(o) == (config ? 3 : 2) && !g_str_has_prefix(image, "json:")) {
        name = g_strdup_printf("blkdebug:%s:%s", config ? config : "", image);
    }
    json_decref(o);
    return name;
}

/* Is the backing image another one than the header says? */
static bool backing_overridden(const BlockNode *node)
{
    g_autofree char *header = NULL;

    if (!options_member(node->p->opts, "backing")) {
        return false;
    }
    if (!node->backing || !node->header_backing_file) {
        return node->backing || node->header_backing_file;
    }
    header = filename_combine(node->file->node->filename, node->header_backing_file);
    return strcmp(header, node->backing->node->filename) != 0;
}

/* Does the name of the file below say all there is to say about @node? */
static bool is_named_by_file(const BlockNode *node)
{
    static const char *const telling[] = {"offset", "size", "data-file"};
    bool result = node->file && (node->drv->is_format || strcmp(node->drv->name, "raw") == 0) &&
                  !g_str_has_prefix(node->file->node->filename, "json:");
    json_t *o;

    if (!result || backing_overridden(node)) {
        return false;
    }
    o = blockdev_options_to_json(node->p->opts);
    for (size_t i = 0; i < G_N_ELEMENTS(telling); i++) {
        result = result && !json_object_get(o, telling[i]);
    }
    json_decref(o);
    return result;
}

void filename_refresh(BlockNode *node)
{
    const BlockNode *described = skip_undescribed(node);
    char *name = NULL;

    if (node->p->driver_named || !described->p->opts) {
        return;
    }
    if (described != node) {
        name = g_strdup(described->filename);
    } else if (node->drv->is_protocol) {
        name = protocol_name(node);
    } else if (is_named_by_file(node)) {
        name = g_strdup(node->file->node->filename);
    } else if (strcmp(node->drv->name, "blkdebug") == 0) {
        name = blkdebug_name(node);
    }
    g_free(node->filename);
    node->filename = name ? name : json_name(node);
}

void filename_refresh_tree(BlockNode *node)
{
    for (BlockChild *c = node->first_child; c; c = c->next_sibling) {
        filename_refresh_tree(c->node);
    }
    filename_refresh(node);
}
