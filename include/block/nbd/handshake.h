/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake of an NBD connection, client side.
 *
 * Asks for structured replies, one metadata context and GO with block sizes;
 * falls back, step by step, to what older servers understand.
 */
#ifndef BLOCK_NBD_HANDSHAKE_H
#define BLOCK_NBD_HANDSHAKE_H

#include "block/nbd/proto.h"
#include "block/nbd/reader.h"
#include "util/error.h"

typedef struct NbdSession {
    NbdExportInfo info;
    bool structured;
    bool has_context;
    uint32_t context_id;
    char instance[NBD_INSTANCE_BYTES + 1]; /* of the export; empty: unknown */
} NbdSession;

/**
 * nbd_handshake_co_client() - until transmission
 * @export: name, at most NBD_MAX_STRING bytes
 * @context: metadata context wanted; NULL: none
 * @want_instance: ask for that too, one round trip
 *
 * The caller limits the time by shutting the stream. False: the stream is of no
 * further use.
 */
bool coroutine_fn nbd_handshake_co_client(NbdReader *r, const char *export, const char *context,
                                          bool want_instance, NbdSession *ret, GError **errp);

/* What a server tells about one export. */
typedef struct NbdListed {
    char *name;
    char *description; /* "" if none */
    NbdExportInfo info;
    bool has_info;   /* false: the server knows no INFO */
    char **contexts; /* NULL-terminated; NULL if the server knows none */
} NbdListed;

void nbd_listed_free(NbdListed *l);

/** nbd_handshake_co_list() - all exports (NbdListed), then say goodbye; NULL and @errp */
GPtrArray *coroutine_fn nbd_handshake_co_list(NbdReader *r, GError **errp);

#endif
