/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives: QEMU's -drive. Its own keys are read here; what is left goes to the
 * block layer as for blockdev-add, but untyped.
 */
#include "block/blockdev.h"

#include <string.h>

#include "acct.h"
#include "qapi/scalar.h"
#include "util/error.h"

/* A drive is a backend that we made; the mark is its ops. */
static const BackendOps drive_ops;

static bool is_drive(const BlockBackend *be)
{
    return be->ops == &drive_ops;
}

/* --- reading keys --- */

/* Take @key out of @o: its text, valid as long as @original. NULL: not there. */
static bool
take(json_t *o, const json_t *original, const char *key, const char **ret, GError **errp)
{
    const json_t *value = json_object_get(original, key);

    *ret = NULL;
    if (!value) {
        return true;
    }
    if (!json_is_string(value)) {
        return fail(errp, "Parameter '%s' expects a string", key);
    }
    *ret = json_string_value(value);
    json_object_del(o, key);
    return true;
}

static bool take_bool(json_t *o, const json_t *original, const char *key, bool *ret, GError **errp)
{
    const char *text;

    if (!take(o, original, key, &text, errp)) {
        return false;
    }
    if (text && !scalar_bool(text, ret)) {
        return fail(errp, "Parameter '%s' expects 'on' or 'off'", key);
    }
    return true;
}

/* A number that nobody here needs. */
static bool take_number(json_t *o, const json_t *original, const char *key, bool *ret_given,
                        GError **errp)
{
    const char *text;
    uint64_t unused;

    if (!take(o, original, key, &text, errp)) {
        return false;
    }
    *ret_given = text != NULL;
    return !text || scalar_uint(text, &unused) ||
           fail(errp, "Parameter '%s' expects a number", key);
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(text, *list) == 0) {
            return true;
        }
    }
    return false;
}

/* --- keys with a meaning of their own --- */

typedef struct DriveKeys {
    const char *id, *interface, *file, *format, *aio;
    bool read_only;
    bool writeback;
    bool account_failed, account_invalid;
    uint32_t intervals[ACCT_INTERVALS_MAX]; /* seconds */
    unsigned n_intervals;
} DriveKeys;

static bool refuse_throttling(const json_t *o, GError **errp)
{
    static const char *const keys[] = {"bps",     "bps_rd",  "bps_wr",    "iops",
                                       "iops_rd", "iops_wr", "iops_size", "group"};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)o, key, value)
    {
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
            size_t n = strlen(keys[i]);

            if (strncmp(key, keys[i], n) == 0 &&
                (!key[n] || strcmp(key + n, "_max") == 0 || strcmp(key + n, "_max_length") == 0)) {
                return fail(errp, "Parameter '%s' is not supported: drives are not throttled", key);
            }
        }
        if (g_str_has_prefix(key, "throttling.")) {
            return fail(errp, "Parameter '%s' is not supported: drives are not throttled", key);
        }
    }
    return true;
}

/* Where the drive would sit in a machine: checked, then of no further use here. */
static bool take_place(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    static const char *const interfaces[] = {"none", "ide", "scsi",   "floppy", "pflash",
                                             "mtd",  "sd",  "virtio", "xen",    NULL};
    bool bus, unit, index;
    const char *media;

    if (!take(o, original, "if", &k->interface, errp) ||
        !take_number(o, original, "bus", &bus, errp) ||
        !take_number(o, original, "unit", &unit, errp) ||
        !take_number(o, original, "index", &index, errp) ||
        !take(o, original, "media", &media, errp)) {
        return false;
    }
    k->interface = k->interface ? k->interface : "none";
    if (!is_one_of(k->interface, interfaces)) {
        return fail(errp, "unsupported bus type '%s'", k->interface);
    }
    if (index && (bus || unit)) {
        return fail(errp, "index cannot be used with bus and unit");
    }
    if (media && strcmp(media, "cdrom") == 0) {
        k->read_only = true;
    } else if (media && strcmp(media, "disk") != 0) {
        return fail(errp, "'%s' invalid media", media);
    }
    return true;
}

static bool take_error_action(json_t *o, const json_t *original, const DriveKeys *k,
                              const char *key, GError **errp)
{
    static const char *const actions[] = {"ignore", "stop", "report", "enospc", NULL};
    static const char *const interfaces[] = {"none", "ide", "scsi", "virtio", NULL};
    bool is_read = strcmp(key, "rerror") == 0;
    const char *action;

    if (!take(o, original, key, &action, errp)) {
        return false;
    }
    if (!action) {
        return true;
    }
    if (!is_one_of(k->interface, interfaces)) {
        return fail(errp, "%s is not supported by this bus type", key);
    }
    if (!is_one_of(action, actions) || (is_read && strcmp(action, "enospc") == 0)) {
        return fail(errp, "'%s' invalid %s error action", action, is_read ? "read" : "write");
    }
    return true;
}

/* What this program does not do is refused by name when it is switched on. */
static bool take_refused(json_t *o, const json_t *original, const DriveKeys *k, GError **errp)
{
    bool snapshot = false, copy_on_read = false;

    if (!take_bool(o, original, "snapshot", &snapshot, errp) ||
        !take_bool(o, original, "copy-on-read", &copy_on_read, errp) ||
        !refuse_throttling(o, errp)) {
        return false;
    }
    if (snapshot) {
        return fail(errp, "Parameter 'snapshot' is not supported: make an overlay instead");
    }
    if (copy_on_read && !k->read_only) {
        return fail(errp, "Parameter 'copy-on-read' is not supported");
    }
    return true;
}

/* --- statistics --- */

/* "stats-intervals.0" and on, without gaps: seconds. */
static bool take_intervals(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    static const char prefix[] = "stats-intervals.";
    const char *key, *text;
    json_t *value;

    for (;;) {
        g_autofree char *next = g_strdup_printf("%s%u", prefix, k->n_intervals);
        uint64_t seconds;

        if (!take(o, original, next, &text, errp)) {
            return false;
        }
        if (!text) {
            break;
        }
        if (!g_ascii_string_to_unsigned(text, 10, 1, UINT32_MAX, &seconds, NULL)) {
            return fail(errp, "Invalid interval length: %s", text);
        }
        if (k->n_intervals == ACCT_INTERVALS_MAX) {
            return fail(errp, "A drive has at most %u stats-intervals", ACCT_INTERVALS_MAX);
        }
        k->intervals[k->n_intervals++] = (uint32_t)seconds;
    }
    json_object_foreach(o, key, value)
    {
        if (g_str_has_prefix(key, prefix)) {
            return fail(errp, "Invalid option %s", key);
        }
    }
    return true;
}

static bool take_stats(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    k->account_invalid = k->account_failed = true;
    return take_bool(o, original, "stats-account-invalid", &k->account_invalid, errp) &&
           take_bool(o, original, "stats-account-failed", &k->account_failed, errp) &&
           take_intervals(o, original, k, errp);
}

/* --- cache --- */

typedef struct CacheMode {
    const char *name;
    bool direct, no_flush, writethrough;
} CacheMode;

static const CacheMode *find_cache_mode(const char *name)
{
    static const CacheMode modes[] = {
        {"writeback", false, false, false}, {"none", true, false, false},
        {"off", true, false, false},        {"writethrough", false, false, true},
        {"directsync", true, false, true},  {"unsafe", false, true, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(name, modes[i].name) == 0) {
            return &modes[i];
        }
    }
    return NULL;
}

static void set_default(json_t *o, const char *key, const char *text)
{
    if (!json_object_get(o, key)) {
        json_object_set_new(o, key, json_string(text));
    }
}

static bool take_cache(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    const CacheMode *mode = NULL;
    const char *name;

    if (!take(o, original, "cache", &name, errp)) {
        return false;
    }
    if (name) {
        mode = find_cache_mode(name);
        if (!mode) {
            return fail(errp, "invalid cache option");
        }
        set_default(o, "cache.direct", mode->direct ? "on" : "off");
        set_default(o, "cache.no-flush", mode->no_flush ? "on" : "off");
    }
    k->writeback = !mode || !mode->writethrough;
    return take_bool(o, original, "cache.writeback", &k->writeback, errp);
}

/* --- what goes on to the block layer --- */

static bool take_names(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    const char *driver = json_string_value(json_object_get(original, "driver"));

    if (!take(o, original, "id", &k->id, errp) || !take(o, original, "file", &k->file, errp) ||
        !take(o, original, "format", &k->format, errp)) {
        return false;
    }
    if (k->format && driver) {
        return fail(errp, "Cannot specify both 'driver' and 'format'");
    }
    if (k->format) {
        json_object_set_new(o, "driver", json_string(k->format));
    }
    return true;
}

static bool take_flags(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    bool cdrom = k->read_only;

    if (json_object_get(original, "readonly") && json_object_get(original, "read-only")) {
        return fail(errp, "'read-only' and its alias 'readonly' can't be used at the same time");
    }
    if (!take_bool(o, original, "readonly", &k->read_only, errp) ||
        !take_bool(o, original, "read-only", &k->read_only, errp)) {
        return false;
    }
    k->read_only |= cdrom;
    json_object_set_new(o, "read-only", json_string(k->read_only ? "on" : "off"));
    set_default(o, "auto-read-only", "on");
    return true;
}

/*
 * -drive knows two spellings of each. Unmapping what it detects is a wish for it: without
 * discard, zeroes are only written as such.
 */
static bool take_discard(json_t *o, const json_t *original, GError **errp)
{
    const char *zeroes = json_string_value(json_object_get(original, "detect-zeroes"));
    const char *text;

    if (!take(o, original, "discard", &text, errp)) {
        return false;
    }
    text = text ? text : "ignore";
    if (strcmp(text, "on") == 0 || strcmp(text, "unmap") == 0) {
        text = "unmap";
    } else if (strcmp(text, "off") == 0 || strcmp(text, "ignore") == 0) {
        text = "ignore";
    } else {
        return fail(errp, "Invalid discard option");
    }
    if (strcmp(text, "ignore") == 0 && g_strcmp0(zeroes, "unmap") == 0) {
        json_object_set_new(o, "detect-zeroes", json_string("on"));
    }
    json_object_set_new(o, "discard", json_string(text));
    return true;
}

static bool take_aio(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    static const char *const engines[] = {"threads", "native", "io_uring", NULL};

    if (!take(o, original, "aio", &k->aio, errp)) {
        return false;
    }
    if (k->aio && !is_one_of(k->aio, engines)) {
        return fail(errp, "invalid aio option");
    }
    return true;
}

static bool take_keys(json_t *o, const json_t *original, DriveKeys *k, GError **errp)
{
    return take_place(o, original, k, errp) && take_names(o, original, k, errp) &&
           take_flags(o, original, k, errp) && take_cache(o, original, k, errp) &&
           take_aio(o, original, k, errp) && take_discard(o, original, errp) &&
           take_error_action(o, original, k, "werror", errp) &&
           take_error_action(o, original, k, "rerror", errp) &&
           take_stats(o, original, k, errp) && take_refused(o, original, k, errp);
}

/* The file name is that of the protocol below, or of the whole if it is "json:...". */
static bool coroutine_fn add_file_name(json_t *o, const char *name, GError **errp)
{
    bool is_json;
    json_t *parsed = filename_co_parse(name, &is_json, errp);
    const char *driver = json_string_value(json_object_get(o, "driver"));
    const BlockDriver *drv = driver ? driver_find(driver) : NULL;

    if (!parsed) {
        return false;
    }
    if (is_json || (drv && drv->is_protocol)) {
        json_object_update_missing(o, parsed);
        json_decref(parsed);
    } else {
        json_object_set_new(o, "file", parsed);
    }
    return true;
}

/* aio is the file's business, whatever stands above it. */
static void add_aio(json_t *o, const char *aio)
{
    json_t *file = json_object_get(o, "file"), *at = json_is_object(file) ? file : o;
    const char *driver = json_string_value(json_object_get(at, "driver"));

    if (driver && (strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0)) {
        set_default(at, "aio", aio);
    }
}

/* Anything but what a drive without medium has? */
static bool names_a_node(const json_t *o)
{
    static const char *const of_any[] = {"read-only",       "auto-read-only", "cache.direct",
                                         "cache.no-flush", "detect-zeroes",  "discard", NULL};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)o, key, value)
    {
        if (!is_one_of(key, of_any)) {
            return true;
        }
    }
    return false;
}

static json_t *coroutine_fn node_options_of(json_t *o, const DriveKeys *k, GError **errp)
{
    json_t *normal;

    if (k->file && *k->file && !add_file_name(o, k->file, errp)) {
        return NULL;
    }
    normal = untyped_co_normalise(o, errp);
    if (normal && k->aio) {
        add_aio(normal, k->aio);
    }
    return normal;
}

/* --- drives --- */

static char *generate_id(const char *interface)
{
    for (unsigned i = 0;; i++) {
        g_autofree char *id = g_strdup_printf("%s%u", interface, i);

        if (!backend_find(id) && !node_find_any(id)) {
            return g_steal_pointer(&id);
        }
    }
}

/*
 * No machine stands behind a drive, so it makes no requests and asks for no
 * permission. Taking write at once would forbid what replication's command
 * lines do: name a drive as child of a quorum, which shares no writing.
 */
static BlockBackend *coroutine_fn make_drive(const DriveKeys *k, BlockNode *node, GError **errp)
{
    g_autofree char *id = k->id ? g_strdup(k->id) : generate_id(k->interface);
    const PermPair perm = {.taken = 0, .shared = PERM_ALL};
    BlockBackend *be = backend_new(id, perm, &drive_ops, NULL, errp);

    if (!be) {
        return NULL;
    }
    backend_set_write_cache(be, k->writeback);
    be->stats->account_failed = k->account_failed;
    be->stats->account_invalid = k->account_invalid;
    for (unsigned i = 0; i < k->n_intervals; i++) {
        acct_add_interval(be->stats, k->intervals[i]);
    }
    if (node && !backend_co_insert(be, node, errp)) {
        backend_co_free(be);
        return NULL;
    }
    return be;
}

static BlockBackend *coroutine_fn add_drive(json_t *o, const json_t *original, GError **errp)
{
    DriveKeys k = {0};
    BlockNode *node;
    BlockBackend *be;
    json_t *normal;

    if (!take_keys(o, original, &k, errp)) {
        return NULL;
    }
    if (k.id && backend_find(k.id)) {
        fail(errp, "Duplicate ID '%s' for drive", k.id);
        return NULL;
    }
    if (!(k.file && *k.file) && !names_a_node(o)) {
        return make_drive(&k, NULL, errp);
    }
    normal = node_options_of(o, &k, errp);
    if (!normal) {
        return NULL;
    }
    node = node_co_open_json(normal, NULL, errp);
    json_decref(normal);
    if (!node) {
        return NULL;
    }
    be = make_drive(&k, node, errp);
    node_co_unref(node); /* the drive's edge has its own count */
    return be;
}

BlockBackend *coroutine_fn drive_co_add(const json_t *opts, GError **errp)
{
    json_t *o;
    BlockBackend *be;

    if (!json_is_object(opts)) {
        fail(errp, "Drive options must be an object");
        return NULL;
    }
    o = json_copy((json_t *)opts);
    be = add_drive(o, opts, errp);
    json_decref(o);
    return be;
}

bool coroutine_fn drive_co_del(const char *id, GError **errp)
{
    BlockBackend *be = backend_find(id);

    if (!be && node_find(id)) {
        return blockdev_co_del(id, errp);
    }
    if (!be || !is_drive(be)) {
        return fail_class(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", id);
    }
    if (be->root && op_blocked(be->root->node, BLOCK_OP_DRIVE_DEL, errp)) {
        return false;
    }
    backend_co_free(be);
    return true;
}

static BlockBackend *newest_drive(void)
{
    BlockBackend *be = backend_last();

    while (be && !is_drive(be)) {
        be = be->prev;
    }
    return be;
}

void coroutine_fn drive_co_del_all(void)
{
    BlockBackend *be;

    while ((be = newest_drive())) {
        backend_co_free(be);
    }
}
