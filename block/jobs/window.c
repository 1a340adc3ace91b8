/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CopyWindow: see window.h. */
#include "block/jobs/window.h"

#include <glib.h>

void
copy_window_init(CopyWindow *w)
{
    *w = (CopyWindow){
        .size = COPY_WINDOW_MIN,
        .best_ns = INT64_MAX,
        .new_best_ns = INT64_MAX,
    };
}

/* A way that has become longer is believed after a while. */
static void
remember(CopyWindow *w, int64_t took_ns)
{
    w->new_best_ns = MIN(w->new_best_ns, took_ns);
    w->best_ns = MIN(w->best_ns, took_ns);
    if (++w->seen == COPY_WINDOW_MEMORY) {
        w->best_ns = w->new_best_ns;
        w->new_best_ns = INT64_MAX;
        w->seen = 0;
    }
}

void
copy_window_done(CopyWindow *w, int64_t took_ns)
{
    remember(w, took_ns);
    w->size += took_ns / 2 < w->best_ns ? 1 : -1;
    w->size = CLAMP(w->size, COPY_WINDOW_MIN, COPY_WINDOW_MAX);
}
