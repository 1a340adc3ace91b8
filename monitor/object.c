/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects: see monitor/object.h. */
#include "monitor/object.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "qapi/keyval.h"
#include "qapi/walk.h"
#include "util/error.h"
#include "util/loop.h"

#define SECRET_BYTES_MAX ((size_t)(64 * KiB))

typedef struct Object {
    ObjectOptions *options;
    GBytes *secret; /* of a secret */
} Object;

static GQueue objects; /* of Object, oldest first */

static Object *
find(const char *id)
{
    for (GList *l = objects.head; l; l = l->next) {
        Object *obj = l->data;

        if (strcmp(obj->options->id, id) == 0) {
            return obj;
        }
    }
    return NULL;
}

static void
wipe(void *data)
{
    GString *text = data;

    explicit_bzero(text->str, text->allocated_len);
    g_string_free(text, TRUE);
}

static void
object_free(Object *obj)
{
    if (obj->options->qom_type == OBJECT_TYPE_SECRET && obj->options->u.secret.data) {
        explicit_bzero(obj->options->u.secret.data, strlen(obj->options->u.secret.data));
    }
    g_clear_pointer(&obj->secret, g_bytes_unref);
    object_options_free(obj->options);
    g_free(obj);
}

/* --- secrets --- */

typedef struct ReadFile {
    const char *name;
    GString *text;
} ReadFile;

/* In a worker thread: 0 or -errno. */
static int
read_file_blocking(void *opaque)
{
    ReadFile *rf = opaque;
    int fd = open(rf->name, O_RDONLY | O_CLOEXEC);
    char *buf = rf->text->str;
    ssize_t n = 0;

    if (fd < 0) {
        return -errno;
    }
    while (rf->text->len <= SECRET_BYTES_MAX) {
        n = read(fd, buf + rf->text->len, SECRET_BYTES_MAX + 1 - rf->text->len);
        if (n <= 0) {
            break;
        }
        rf->text->len += n;
    }
    n = n < 0 ? -errno : 0;
    close(fd);
    return n;
}

static GString *coroutine_fn
read_secret_file(const char *name, GError **errp)
{
    ReadFile rf = { .name = name, .text = g_string_sized_new(SECRET_BYTES_MAX + 1) };
    int r = co_run_blocking(read_file_blocking, &rf);

    rf.text->str[MIN(rf.text->len, SECRET_BYTES_MAX)] = '\0';
    if (r < 0) {
        fail_errno(errp, -r, "Unable to read %s", name);
    } else if (rf.text->len > SECRET_BYTES_MAX) {
        fail(errp, "Unable to read %s: it is larger than %zu bytes", name, SECRET_BYTES_MAX);
    } else {
        return rf.text;
    }
    wipe(rf.text);
    return NULL;
}

static bool
decode_base64(GString *text, GError **errp)
{
    size_t len = strlen(g_strchomp(text->str)); /* files end with a line break */

    if (len % 4 || len == 0 ||
        strspn(text->str, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") !=
            len) {
        return fail(errp, "Base64 data is not valid");
    }
    g_base64_decode_inplace(text->str, &text->len);
    return true;
}

static GBytes *coroutine_fn
secret_co_load(const SecretProperties *o, GError **errp)
{
    GString *text;

    if (o->keyid || o->iv) {
        return fail(errp, "Encrypted secrets ('keyid', 'iv') are not supported"), NULL;
    }
    if (!o->data && !o->file) {
        return fail(errp, "Either 'file' or 'data' must be provided"), NULL;
    }
    if (o->data && o->file) {
        return fail(errp, "'file' and 'data' are mutually exclusive"), NULL;
    }
    text = o->data ? g_string_new(o->data) : read_secret_file(o->file, errp);
    if (!text) {
        return NULL;
    }
    if (o->has_format && o->format == Q_CRYPTO_SECRET_FORMAT_BASE64 && !decode_base64(text, errp)) {
        wipe(text);
        return NULL;
    }
    return g_bytes_new_with_free_func(text->str, text->len, wipe, text);
}

/* --- all kinds --- */

bool
object_is_id(const char *id)
{
    size_t len = strlen(id);

    return g_ascii_isalpha(id[0]) &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._") == len;
}

static bool
is_supported(ObjectType type)
{
    return type == OBJECT_TYPE_IOTHREAD || type == OBJECT_TYPE_SECRET;
}

bool
object_help(const char *text, FILE *out)
{
    bool help = false;
    json_t *o = keyval_parse(text, "qom-type", &help, NULL);

    json_decref(o);
    if (!help) {
        return false;
    }
    fprintf(out, "List of user creatable objects:\n");
    for (uint32_t i = 0; i < qapi_type_object_type.n_values; i++) {
        if (is_supported((ObjectType)i)) {
            fprintf(out, "  %s\n", qapi_enum_str(&qapi_type_object_type, (int)i));
        }
    }
    return true;
}

bool coroutine_fn
object_co_add(const ObjectOptions *o, GError **errp)
{
    GBytes *secret = NULL;
    Object *obj;

    if (!object_is_id(o->id)) {
        return fail(errp, "Parameter 'id' expects an identifier");
    }
    if (!is_supported(o->qom_type)) {
        return fail(errp, "Objects of type '%s' are not supported",
                    qapi_enum_str(&qapi_type_object_type, o->qom_type));
    }
    if (o->qom_type == OBJECT_TYPE_SECRET) {
        secret = secret_co_load(&o->u.secret, errp);
        if (!secret) {
            return false;
        }
    }
    if (find(o->id)) { /* only now: reading a file takes time */
        g_clear_pointer(&secret, g_bytes_unref);
        return fail(errp, "attempt to add duplicate property '%s' to object (type 'container')",
                    o->id);
    }
    obj = g_new(Object, 1);
    *obj = (Object){ object_options_copy(o), secret };
    g_queue_push_tail(&objects, obj);
    return true;
}

bool
object_del(const char *id, GError **errp)
{
    Object *obj = find(id);

    if (!obj) {
        return fail(errp, "object '%s' not found", id);
    }
    g_queue_remove(&objects, obj);
    object_free(obj);
    return true;
}

const ObjectOptions *
object_find(const char *id)
{
    Object *obj = find(id);

    return obj ? obj->options : NULL;
}

GBytes *
object_secret(const char *id, GError **errp)
{
    Object *obj = find(id);

    if (!obj || !obj->secret) {
        return fail(errp, "No secret with id '%s'", id), NULL;
    }
    return g_bytes_ref(obj->secret);
}

ObjectPropertyInfoArray *
object_query(void)
{
    ObjectPropertyInfoArray *rows = g_new0(ObjectPropertyInfoArray, 1);

    rows->items = g_new0(ObjectPropertyInfo *, g_queue_get_length(&objects) + 1);
    rows->items[rows->n] = g_new0(ObjectPropertyInfo, 1); /* which the container has itself */
    rows->items[rows->n]->name = g_strdup("type");
    rows->items[rows->n++]->type = g_strdup("string");
    for (GList *l = objects.head; l; l = l->next) {
        const Object *obj = l->data;
        ObjectPropertyInfo *row = g_new0(ObjectPropertyInfo, 1);

        row->name = g_strdup(obj->options->id);
        row->type = g_strdup_printf(
            "child<%s>", qapi_enum_str(&qapi_type_object_type, obj->options->qom_type));
        rows->items[rows->n++] = row;
    }
    return rows;
}

void
objects_free(void)
{
    Object *obj;

    while ((obj = g_queue_pop_head(&objects))) {
        object_free(obj);
    }
}
