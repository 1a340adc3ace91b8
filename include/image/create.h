/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making images from the options of a command line ("cluster_size=4k").
 */
#ifndef IMAGE_CREATE_H
#define IMAGE_CREATE_H

#include <glib.h>
#include <jansson.h>

#include "util/compiler.h"

typedef struct ImageCreate ImageCreate;

/** image_create_new() - for a format ("raw", "qcow2", "file"); NULL and @errp if there is none */
ImageCreate *image_create_new(const char *format, GError **errp);
void image_create_free(ImageCreate *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageCreate, image_create_free)

/** image_create_is_list() - may @text stand after -o? Not if it is empty or ends in a comma */
bool image_create_is_list(const char *text);
/** image_create_add() - options as after -o: "key=value,..."; later ones win */
bool image_create_add(ImageCreate *c, const char *text, GError **errp);
bool image_create_set(ImageCreate *c, const char *key, const char *value, GError **errp);
bool image_create_set_size(ImageCreate *c, uint64_t bytes, GError **errp);
/** image_create_get() - borrowed; NULL if not given */
const char *image_create_get(const ImageCreate *c, const char *key);
bool image_create_has_option(const ImageCreate *c, const char *key);
/** image_create_size() - false if no size was given */
bool image_create_size(const ImageCreate *c, uint64_t *ret);

/** image_create_text() - "fmt=qcow2 cluster_size=65536 ..."; the caller frees it */
char *image_create_text(const ImageCreate *c);
/** image_create_help() - what -o takes, one option a line, @with_file also those of the file below;
 * the caller frees it */
char *image_create_help(const ImageCreate *c, bool with_file);
/** image_create_check_name() - can images be made there at all? */
bool image_create_check_name(const char *filename, GError **errp);

/** image_co_create() - make @filename; what was there is lost */
bool coroutine_fn image_co_create(const ImageCreate *c, const char *filename, GError **errp);

#endif
