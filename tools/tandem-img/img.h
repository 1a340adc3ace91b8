/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the commands of tandem-img share: the command line's common options,
 * messages, and opening.
 *
 * Each command is a coroutine that takes its own arguments (argv[0] is its
 * name) and returns the exit status.
 */
#ifndef TOOLS_TANDEM_IMG_H
#define TOOLS_TANDEM_IMG_H

#include <getopt.h> /* optarg, optind */
#include <glib.h>
#include <stdlib.h>

#include "image/create.h"
#include "image/open.h"
#include "util/cmdline.h"
#include "util/error.h"

int coroutine_fn img_co_bench(int argc, char **argv);
int coroutine_fn img_co_check(int argc, char **argv);
int coroutine_fn img_co_compare(int argc, char **argv);
int coroutine_fn img_co_convert(int argc, char **argv);
int coroutine_fn img_co_create(int argc, char **argv);
int coroutine_fn img_co_dd(int argc, char **argv);
int coroutine_fn img_co_info(int argc, char **argv);
int coroutine_fn img_co_map(int argc, char **argv);
int coroutine_fn img_co_resize(int argc, char **argv);

/* --- the command line --- */

enum {
    OPT_OBJECT = 256,
    OPT_IMAGE_OPTS,
    OPT_OUTPUT,
    OPT_COMMAND, /* first of a command's own */
};

/* Of the options that several commands have; each takes those it wants. */
typedef struct Common {
    const char *format;
    bool image_opts, force_share, quiet, progress, json;
    int failure; /* exit status for what contradicts itself; 0: 1 */
} Common;

/* Their rows in a command's table. */
#define OPTION_HELP        {"help", 'h'}
#define OPTION_OBJECT      {"object", 0, "TYPE,...", .code = OPT_OBJECT}
#define OPTION_FORMAT      {"format", 'f', "FMT"}
#define OPTION_FORCE_SHARE {"force-share", 'U'}
#define OPTION_IMAGE_OPTS  {"image-opts", .code = OPT_IMAGE_OPTS}
#define OPTION_OUTPUT      {"output", 0, "human|json", .code = OPT_OUTPUT}
#define OPTION_PROGRESS    {"progress", 'p'}
#define OPTION_QUIET       {"quiet", 'q'}
#define OPTION_END         {NULL}

/**
 * common_next() - the next option that is the command's own, -1 at the end
 *
 * Takes the common ones, and reports (and exits) what is wrong.
 */
int common_next(int argc, char **argv, const CmdOption *options, Common *c);
/**
 * img_next_option() - cmdline_next(), with errors told in this program's words (and exits)
 * @mode: before ':'
 */
int img_next_option(int argc, char **argv, const char *mode, const CmdOption *options);
/** img_command_help() - print how the command is used, and exit */
void NORETURN img_command_help(const char *name);
/** common_output() - "human" or "json"; exits if it is neither */
void common_output(Common *c, const char *text);

/**
 * img_spec() - open @name as the common options say, read-only or not
 *
 * Options that contradict each other are reported and exit.
 */
ImageSpec img_spec(const Common *c, const char *name, bool writable);
/** img_spec_cache() - false, reported, if @mode is unknown; NULL leaves it */
bool img_spec_cache(ImageSpec *spec, const char *mode, const char *what);

/** img_co_open() - "Could not open 'x': ..." is reported; NULL then */
BlockBackend *coroutine_fn img_co_open(const ImageSpec *spec);
BlockNode *coroutine_fn img_co_open_node(const ImageSpec *spec);

/** img_size() - a number with an optional unit; false and reported if it is none */
bool img_size(const char *text, const char *what, int64_t *ret);
bool img_number(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret);

/* --- messages --- */

void img_error(const char *fmt, ...) PRINTF(1, 2);
/** img_report() - "tandem-img: PREFIX: message"; frees @err; returns 1 */
int img_report(GError *err, const char *prefix_fmt, ...) PRINTF(2, 3);
void NORETURN img_usage(const char *fmt, ...) PRINTF(1, 2);

/** img_take_options() - the text of one -o; exits if it cannot be one */
void img_take_options(GPtrArray *texts, char *text);
/** img_asks_for_options() - is "help" or "?" among the texts of -o? */
bool img_asks_for_options(const GPtrArray *texts);
/** img_print_options() - what -o takes for images of @format, with @filename also for its file */
int img_print_options(const char *format, const char *filename);

/* --- progress --- */
void progress_start(bool on, int64_t total);
void progress_add(int64_t done);
/** progress_end() - end the line; @complete: at 100 % whatever was added */
void progress_end(bool complete);

#endif
