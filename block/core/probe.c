/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guessing a format from the first 512 bytes: each driver gives a score, the
 * highest wins, and nothing matching is raw. Whoever may write a raw image can
 * write another format's header, so a guess of raw comes with a guard.
 */
#include "core.h"

static const BlockDriver *best_match(const uint8_t *head, size_t bytes, const char *filename)
{
    const BlockDriver *best = NULL, *drv;
    int best_score = 0;

    for (size_t i = 0; (drv = driver_at(i)); i++) {
        int score = drv->probe ? drv->probe(head, bytes, filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = drv;
        }
    }
    return best;
}

const BlockDriver *probe_format(const uint8_t *head, size_t bytes, const char *filename)
{
    const BlockDriver *drv = best_match(head, bytes, filename);

    return drv ? drv : driver_find("raw");
}

bool probe_refuses_write(const uint8_t *head, size_t bytes)
{
    const BlockDriver *drv = best_match(head, bytes, "");

    return drv && drv != driver_find("raw");
}
