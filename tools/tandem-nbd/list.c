/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tandem-nbd -L: the exports of a server, printed as qemu-nbd prints them.
 */
#include "tandem-nbd.h"

#include <inttypes.h>
#include <stdio.h>

#include "block/nbd/handshake.h"

#define LIST_NS (30 * NS_PER_S)

static void print_flags(uint16_t flags)
{
    static const struct {
        uint16_t bit;
        const char *name;
    } names[] = {
        {NBD_FLAG_READ_ONLY, "readonly"}, {NBD_FLAG_SEND_FLUSH, "flush"},
        {NBD_FLAG_SEND_FUA, "fua"},       {NBD_FLAG_ROTATIONAL, "rotational"},
        {NBD_FLAG_SEND_TRIM, "trim"},     {NBD_FLAG_SEND_WRITE_ZEROES, "zeroes"},
        {NBD_FLAG_SEND_DF, "df"},         {NBD_FLAG_CAN_MULTI_CONN, "multi"},
        {NBD_FLAG_SEND_CACHE, "cache"},   {NBD_FLAG_SEND_FAST_ZERO, "fast-zero"},
    };

    printf("  flags: 0x%x (", flags);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (flags & names[i].bit) {
            printf(" %s", names[i].name);
        }
    }
    printf(" )\n");
}

/* A server's text, made fit for a terminal. */
static char *printable(const char *text)
{
    char *s = g_utf8_make_valid(text, -1);

    for (char *p = s; *p; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = '?';
        }
    }
    return s;
}

static void print_export(const NbdListed *l)
{
    g_autofree char *name = printable(l->name);
    g_autofree char *description = printable(l->description);

    printf(" export: '%s'\n", name);
    if (*description) {
        printf("  description: %s\n", description);
    }
    if (l->has_info) {
        printf("  size:  %" PRIu64 "\n", l->info.size);
        print_flags(l->info.flags);
    }
    if (l->has_info && l->info.has_block_size) {
        printf("  min block: %" PRIu32 "\n", l->info.min_block);
        printf("  opt block: %" PRIu32 "\n", l->info.preferred);
        printf("  max block: %" PRIu32 "\n", l->info.max_payload);
    }
    if (l->contexts) {
        printf("  available meta contexts: %u\n", g_strv_length(l->contexts));
        for (char **c = l->contexts; *c; c++) {
            g_autofree char *context = printable(*c);

            printf("   %s\n", context);
        }
    }
}

static void timeout(void *opaque)
{
    stream_shutdown(opaque);
}

static GPtrArray *coroutine_fn fetch(Stream *s, GError **errp)
{
    NbdReader reader;
    LoopTimer timer;
    GPtrArray *all;

    nbd_reader_init(&reader, s);
    timer_init(&timer, timeout, s);
    timer_arm(&timer, loop_now_ns() + LIST_NS);
    all = nbd_handshake_co_list(&reader, errp);
    timer_cancel(&timer);
    nbd_reader_destroy(&reader);
    return all;
}

bool coroutine_fn list_co_run(const NbdToolOptions *o, GError **errp)
{
    StreamAddr addr = {
        .kind = o->socket ? STREAM_ADDR_UNIX : STREAM_ADDR_INET,
        .path = o->socket,
        .host = o->bind ? o->bind : "localhost",
        .port = o->port ? o->port : NBD_DEFAULT_PORT,
    };
    Stream *s = stream_co_connect(&addr, loop_now_ns() + LIST_NS, errp);
    g_autoptr(GPtrArray) all = NULL;

    if (!s) {
        return false;
    }
    all = fetch(s, errp);
    stream_close(s);
    if (!all) {
        return false;
    }
    printf("exports available: %u\n", all->len);
    for (guint i = 0; i < all->len; i++) {
        print_export(all->pdata[i]);
    }
    return true;
}
