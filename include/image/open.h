/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images as the command lines of programs name them: a file name or a list of
 * options, a format, a cache mode.
 */
#ifndef IMAGE_OPEN_H
#define IMAGE_OPEN_H

#include <glib.h>
#include <stdio.h>

#include "block/backend.h"
#include "block/node.h"

typedef struct ImageSpec {
    const char *name;   /* file name; with @image_opts a list of options */
    const char *format; /* NULL: probe */
    const char *aio;    /* threads, native, io_uring; NULL: default */
    bool image_opts;
    bool writethrough;
    bool no_backing; /* leave the backing file out, unless options name it */
    bool no_share;   /* nobody else may write to it meanwhile */
    NodeFlags flags;
} ImageSpec;

/** image_cache_parse() - none, off, writeback, writethrough, directsync, unsafe; false if other */
bool image_cache_parse(const char *mode, ImageSpec *ret);
/** image_discard_parse() - ignore, off, unmap, on */
bool image_discard_parse(const char *mode, ImageSpec *ret);
/** image_aio_parse() - @mode is borrowed */
bool image_aio_parse(const char *mode, ImageSpec *ret);

/** image_co_open_node() - a counted node; @errp need not name the image */
BlockNode *coroutine_fn image_co_open_node(const ImageSpec *spec, GError **errp);

/**
 * image_co_open() - a backend of its own on the image: reads, and writes and
 * resizes unless the flags say read-only; shares everything unless @no_share
 *
 * The backend holds the node alone: backend_co_free() closes the image.
 */
BlockBackend *coroutine_fn image_co_open(const ImageSpec *spec, GError **errp);

/** image_path() - the path that @name is, "file:" taken off; NULL if another protocol */
const char *image_path(const char *name);

/**
 * image_object_take() - an object definition of --object: "secret,id=...,data=..."
 *
 * Only secrets: a tool has no use for the others. NULL and @errp if it is none.
 */
bool image_object_take(const char *text, GError **errp);
/** image_object_help() - if @text of --object asks for it, tell what there is to @out: true */
bool image_object_help(const char *text, FILE *out);

#endif
