/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CopyWindow: how many pieces a copying job keeps in flight.
 *
 * Few are enough for a disk of this host, and more would only stand in the way
 * of its other users. A target behind a link needs as many as the link carries
 * in a round trip. So the window grows while pieces take hardly longer than the
 * quickest one did, which means that they wait for the link and not for each
 * other, and shrinks when they queue.
 */
#ifndef BLOCK_JOBS_WINDOW_H
#define BLOCK_JOBS_WINDOW_H

#include <stdint.h>

#define COPY_WINDOW_MIN    4
#define COPY_WINDOW_MAX    64
#define COPY_WINDOW_MEMORY 1024 /* pieces after which the quickest is looked for anew */

typedef struct CopyWindow {
    int size;            /* pieces, COPY_WINDOW_MIN to COPY_WINDOW_MAX */
    int seen;            /* pieces of this memory */
    int64_t best_ns;     /* the quickest of the last memory and this one */
    int64_t new_best_ns; /* the quickest of this one */
} CopyWindow;

void copy_window_init(CopyWindow *w);
/** copy_window_done() - a piece of full size took @took_ns */
void copy_window_done(CopyWindow *w, int64_t took_ns);

#endif
