/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NbdCover: see cover.h. Since nothing is counted twice, a read is complete
 * when the number of covered bytes is its length.
 */
#include "cover.h"

#include <glib.h>
#include <string.h>

/* Index of the first run that starts after @start. */
static size_t run_after(const NbdCover *c, uint64_t start)
{
    size_t lo = 0, hi = c->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (c->runs[mid].start > start) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

static bool insert_run(NbdCover *c, size_t at, NbdCoverRun run)
{
    if (c->n == NBD_COVER_MAX_RUNS) {
        return false;
    }
    if (c->n == c->room) {
        c->room = MAX(16, c->room * 2);
        c->runs = g_renew(NbdCoverRun, c->runs, c->room);
    }
    memmove(c->runs + at + 1, c->runs + at, (c->n - at) * sizeof(run));
    c->runs[at] = run;
    c->n++;
    return true;
}

static bool add_among_many(NbdCover *c, uint64_t start, uint64_t end)
{
    size_t i = run_after(c, start);
    NbdCoverRun *before = i > 0 ? &c->runs[i - 1] : NULL;
    NbdCoverRun *after = i < c->n ? &c->runs[i] : NULL;

    if ((before && before->end > start) || (after && after->start < end)) {
        return false;
    }
    if (before && before->end == start) {
        before->end = end;
        if (after && after->start == end) {
            before->end = after->end;
            memmove(after, after + 1, (c->n - i - 1) * sizeof(*after));
            c->n--;
        }
        return true;
    }
    if (after && after->start == end) {
        after->start = start;
        return true;
    }
    return insert_run(c, i, (NbdCoverRun){start, end});
}

bool nbd_cover_add(NbdCover *c, uint64_t start, uint64_t bytes)
{
    uint64_t end = start + bytes;

    assert(bytes > 0 && end > start);
    if (!c->runs) {
        if (c->bytes == 0) {
            c->only = (NbdCoverRun){start, end};
            c->bytes = bytes;
            return true;
        }
        if (start == c->only.end) {
            c->only.end = end;
            c->bytes += bytes;
            return true;
        }
        insert_run(c, 0, c->only);
    }
    if (!add_among_many(c, start, end)) {
        return false;
    }
    c->bytes += bytes;
    return true;
}

void nbd_cover_destroy(NbdCover *c)
{
    g_free(c->runs);
    nbd_cover_init(c);
}
