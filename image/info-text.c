/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What only images of one driver have, for people. */
#include "image/info-text.h"

#include <glib.h>

#include "qapi/json.h"
#include "qapi/walk.h"

static void print_value(FILE *out, const char *key, const json_t *value)
{
    g_autofree char *name = g_strdelimit(g_strdup(key), "-", ' ');
    json_t *inner;
    const char *inner_key;
    size_t i;

    if (json_is_object(value)) {
        fprintf(out, "    %s:\n", name);
        json_object_foreach((json_t *)value, inner_key, inner) {
            fprintf(out, "    ");
            print_value(out, inner_key, inner);
        }
    } else if (json_is_array(value)) {
        fprintf(out, "    %s:\n", name);
        json_array_foreach(value, i, inner) {
            g_autofree char *text = json_print(inner, false);

            fprintf(out, "        [%zu]: %s\n", i, text);
        }
    } else if (json_is_string(value)) {
        fprintf(out, "    %s: %s\n", name, json_string_value(value));
    } else {
        g_autofree char *text = json_print(value, false);

        fprintf(out, "    %s: %s\n", name, text);
    }
}

/* In the order of QEMU 7.2, which users compare with; the rest follows. */
void info_print_specific(FILE *out, const ImageInfoSpecific *s)
{
    static const char *const order[] = {"compat",         "compression-type", "lazy-refcounts",
                                        "refcount-bits",  "corrupt",          "extended-l2"};
    json_t *all = image_info_specific_to_json(s), *data = json_object_get(all, "data"), *value;
    const char *key;

    if (json_object_size(data) > 0) {
        fprintf(out, "Format specific information:\n");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        value = json_object_get(data, order[i]);
        if (value) {
            print_value(out, order[i], value);
            json_object_del(data, order[i]);
        }
    }
    json_object_foreach(data, key, value) {
        print_value(out, key, value);
    }
    json_decref(all);
}
