/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual poller: no descriptors, and a clock that moves only when nothing
 * else can: to wait is to jump to the next timer.
 */
#include <errno.h>

#include "loop-internal.h"

static void virtual_poll(Loop *loop, int64_t timeout_ns)
{
    if (timeout_ns > 0) {
        loop->virtual_ns += timeout_ns;
    }
}

static int virtual_add(Loop *loop, LoopSource *src, uint32_t events)
{
    return -ENOTSUP;
}

static void virtual_change(Loop *loop, LoopSource *src, uint32_t events)
{
    g_assert_not_reached();
}

static void virtual_del(Loop *loop, LoopSource *src)
{
    g_assert_not_reached();
}

/* A virtual loop never sleeps: it looks for posts in each turn. */
static void virtual_kick(Loop *loop)
{
}

static int64_t virtual_now_ns(Loop *loop)
{
    return loop->virtual_ns;
}

static void virtual_free(Loop *loop)
{
}

static const PollerOps virtual_ops = {
    .poll = virtual_poll,
    .add = virtual_add,
    .change = virtual_change,
    .del = virtual_del,
    .kick = virtual_kick,
    .now_ns = virtual_now_ns,
    .wall_ns = virtual_now_ns,
    .free = virtual_free,
};

void poller_virtual_init(Loop *loop)
{
    loop->ops = &virtual_ops;
    loop->virtual_ns = NS_PER_S;
}
