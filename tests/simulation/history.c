/* SPDX-License-Identifier: GPL-2.0-or-later */
/* history: see history.h. */
#include "history.h"

#include <string.h>

#define IN_FLIGHT UINT64_MAX

struct HistoryOp {
    int64_t offset, bytes;
    uint8_t value;
    uint8_t *data;       /* instead of value: of the whole disk */
    uint64_t start, end; /* ticks */
    bool certain;
};

struct History {
    const char *name;
    int64_t length;
    uint8_t *base;
    GPtrArray *ops;
    uint64_t tick;
};

static void
op_free(void *opaque)
{
    HistoryOp *op = opaque;

    g_free(op->data);
    g_free(op);
}

History *
history_new(const char *name, const uint8_t *base, int64_t length)
{
    History *h = g_new0(History, 1);

    h->name = g_intern_string(name);
    h->length = length;
    h->base = g_memdup2(base, length);
    h->ops = g_ptr_array_new_with_free_func(op_free);
    return h;
}

void
history_free(History *h)
{
    g_ptr_array_unref(h->ops);
    g_free(h->base);
    g_free(h);
}

HistoryOp *
history_begin(History *h, int64_t offset, int64_t bytes, uint8_t value)
{
    HistoryOp *op = g_new0(HistoryOp, 1);

    op->offset = offset;
    op->bytes = bytes;
    op->value = value;
    op->start = ++h->tick;
    op->end = IN_FLIGHT;
    g_ptr_array_add(h->ops, op);
    return op;
}

HistoryOp *
history_jump_begin(History *h, const uint8_t *data)
{
    HistoryOp *op = history_begin(h, 0, h->length, 0);

    op->data = g_memdup2(data, h->length);
    return op;
}

void
history_end(History *h, HistoryOp *op, bool certain)
{
    g_assert_true(op->end == IN_FLIGHT);
    op->end = ++h->tick;
    op->certain = certain;
}

uint64_t
history_now(History *h)
{
    return ++h->tick;
}

const uint8_t *
history_content(const History *h)
{
    return h->base;
}

/* --- checking --- */

static bool
covers(const HistoryOp *op, int64_t at)
{
    return op->offset <= at && at < op->offset + op->bytes;
}

/* Has everything until tick @end been overwritten at @at before tick @began? */
static bool
is_overwritten(const History *h, uint64_t end, uint64_t began, int64_t at)
{
    for (guint i = 0; i < h->ops->len; i++) {
        const HistoryOp *op = g_ptr_array_index(h->ops, i);

        if (covers(op, at) && op->certain && op->start > end && op->end < began) {
            return true;
        }
    }
    return false;
}

/* The writes that may be seen at @at; with NULL for the content of the beginning. */
static GPtrArray *
candidates_at(const History *h, uint64_t began, int64_t at)
{
    GPtrArray *a = g_ptr_array_new();

    if (!is_overwritten(h, 0, began, at)) {
        g_ptr_array_add(a, NULL);
    }
    for (guint i = 0; i < h->ops->len; i++) {
        HistoryOp *op = g_ptr_array_index(h->ops, i);

        if (covers(op, at) && (op->end == IN_FLIGHT || !is_overwritten(h, op->end, began, at))) {
            g_ptr_array_add(a, op);
        }
    }
    return a;
}

static uint8_t
candidate_byte(const History *h, const HistoryOp *op, int64_t at)
{
    return !op ? h->base[at] : op->data ? op->data[at] : op->value;
}

static NORETURN void
complain(const History *h, uint64_t began, int64_t at, uint8_t got, const GPtrArray *candidates)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < candidates->len; i++) {
        const HistoryOp *op = g_ptr_array_index(candidates, i);

        g_string_append_printf(s, " 0x%02x", candidate_byte(h, op, at));
    }
    g_string_append(s, "; written there:");
    for (guint i = 0; i < h->ops->len; i++) {
        const HistoryOp *op = g_ptr_array_index(h->ops, i);

        if (covers(op, at)) {
            g_string_append_printf(s, " [%" G_GUINT64_FORMAT "-%" G_GINT64_FORMAT " 0x%02x%s]",
                                   op->start, (int64_t)op->end, candidate_byte(h, op, at),
                                   op->certain ? "" : "?");
        }
    }
    g_error("%s: byte %" G_GINT64_FORMAT " reads 0x%02x at tick %" G_GUINT64_FORMAT
            ", may be%s; was 0x%02x",
            h->name, at, got, began, s->str, h->base[at]);
}

/* Where the set of writes that cover a byte changes, from @at on. */
static int64_t
next_boundary(const History *h, int64_t at, int64_t end)
{
    for (guint i = 0; i < h->ops->len; i++) {
        const HistoryOp *op = g_ptr_array_index(h->ops, i);

        if (op->offset > at) {
            end = MIN(end, op->offset);
        } else if (op->offset + op->bytes > at) {
            end = MIN(end, op->offset + op->bytes);
        }
    }
    return end;
}

static bool
may_be(const History *h, const GPtrArray *candidates, int64_t at, uint8_t byte)
{
    for (guint i = 0; i < candidates->len; i++) {
        if (candidate_byte(h, g_ptr_array_index(candidates, i), at) == byte) {
            return true;
        }
    }
    return false;
}

void
history_check(const History *h, uint64_t began, int64_t offset, const uint8_t *buf, int64_t bytes)
{
    int64_t end = offset + bytes;

    for (int64_t at = offset, next; at < end; at = next) {
        g_autoptr(GPtrArray) candidates = candidates_at(h, began, at);

        next = next_boundary(h, at, end);
        if (candidates->len == 1 && !candidates->pdata[0] &&
            memcmp(h->base + at, buf + at - offset, next - at) == 0) {
            continue;
        }
        for (int64_t i = at; i < next; i++) {
            if (!may_be(h, candidates, i, buf[i - offset])) {
                complain(h, began, i, buf[i - offset], candidates);
            }
        }
    }
}

void
history_adopt(History *h, const uint8_t *disk)
{
    for (guint i = 0; i < h->ops->len; i++) {
        g_assert_true(((HistoryOp *)g_ptr_array_index(h->ops, i))->end != IN_FLIGHT);
    }
    history_check(h, ++h->tick, 0, disk, h->length);
    memcpy(h->base, disk, h->length);
    g_ptr_array_set_size(h->ops, 0);
}
