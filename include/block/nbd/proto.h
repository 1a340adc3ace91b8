/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD wire format: bytes <-> checked structs, both directions.
 *
 * Source: NBD protocol specification. Everything on the wire is big-endian.
 * All functions are pure: no I/O, no allocation, no state. A parser returns
 * false when the bytes break the protocol; what it returns has been checked and
 * may be used as it is. Lengths are never added before they are compared, so no
 * field a peer chose can overflow.
 */
#ifndef BLOCK_NBD_PROTO_H
#define BLOCK_NBD_PROTO_H

#include <glib.h>

#include "util/compiler.h"

#define NBD_DEFAULT_PORT "10809"

#define NBD_MAGIC              UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPTS_MAGIC         UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC     UINT64_C(0x0000420281861253)
#define NBD_OPT_REPLY_MAGIC    UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC      0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCT_REPLY_MAGIC 0x668e33efu

/* Bytes of the fixed parts. */
#define NBD_GREETING_BYTES     18 /* two magics, flags */
#define NBD_OPT_BYTES          16 /* magic, option, length */
#define NBD_OPT_REPLY_BYTES    20 /* magic, option, type, length */
#define NBD_EXPORT_NAME_BYTES  10 /* size, flags */
#define NBD_EXPORT_NAME_ZEROES 124
#define NBD_REQUEST_BYTES      28
#define NBD_SIMPLE_REPLY_BYTES 16
#define NBD_CHUNK_BYTES        20
#define NBD_DATA_HEAD_BYTES    8 /* u64 offset before the data of a chunk */
#define NBD_HOLE_BYTES         12
#define NBD_EXTENT_BYTES       8
#define NBD_ERROR_BYTES        6

#define NBD_MAX_STRING  4096 /* names, descriptions, queries */
#define NBD_MAX_PAYLOAD (32 * MiB)
#define NBD_MAX_OPTION  (32 * MiB)
#define NBD_MIN_DF_READ (64 * KiB) /* an unfragmented read of this much must work */

/* Handshake flags, of server and client alike. */
#define NBD_FLAG_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_NO_ZEROES      0x2u

typedef enum NbdOpt {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_PEEK_EXPORT = 4,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
} NbdOpt;

typedef enum NbdRep {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
} NbdRep;

#define NBD_REP_ERROR               0x80000000u
#define NBD_REP_ERR_UNSUP           (NBD_REP_ERROR | 1)
#define NBD_REP_ERR_POLICY          (NBD_REP_ERROR | 2)
#define NBD_REP_ERR_INVALID         (NBD_REP_ERROR | 3)
#define NBD_REP_ERR_PLATFORM        (NBD_REP_ERROR | 4)
#define NBD_REP_ERR_TLS_REQD        (NBD_REP_ERROR | 5)
#define NBD_REP_ERR_UNKNOWN         (NBD_REP_ERROR | 6)
#define NBD_REP_ERR_SHUTDOWN        (NBD_REP_ERROR | 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERROR | 8)
#define NBD_REP_ERR_TOO_BIG         (NBD_REP_ERROR | 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_ERROR | 10)

typedef enum NbdInfoType {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
} NbdInfoType;

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS         0x0001u
#define NBD_FLAG_READ_ONLY         0x0002u
#define NBD_FLAG_SEND_FLUSH        0x0004u
#define NBD_FLAG_SEND_FUA          0x0008u
#define NBD_FLAG_ROTATIONAL        0x0010u
#define NBD_FLAG_SEND_TRIM         0x0020u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x0040u
#define NBD_FLAG_SEND_DF           0x0080u
#define NBD_FLAG_CAN_MULTI_CONN    0x0100u
#define NBD_FLAG_SEND_CACHE        0x0400u
#define NBD_FLAG_SEND_FAST_ZERO    0x0800u

typedef enum NbdCmd {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
    NBD_CMD__MAX,
} NbdCmd;

#define NBD_CMD_FLAG_FUA       0x01u
#define NBD_CMD_FLAG_NO_HOLE   0x02u
#define NBD_CMD_FLAG_DF        0x04u
#define NBD_CMD_FLAG_REQ_ONE   0x08u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

#define NBD_REPLY_FLAG_DONE 0x1u

typedef enum NbdChunkType {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_OFFSET_DATA = 1,
    NBD_CHUNK_OFFSET_HOLE = 2,
    NBD_CHUNK_BLOCK_STATUS = 5,
    NBD_CHUNK_ERROR = 0x8001,
    NBD_CHUNK_ERROR_OFFSET = 0x8002,
} NbdChunkType;
#define NBD_CHUNK_IS_ERROR 0x8000u

/* States of base:allocation. */
#define NBD_STATE_HOLE 0x1u
#define NBD_STATE_ZERO 0x2u

#define NBD_CONTEXT_BASE_ALLOCATION "base:allocation"
#define NBD_CONTEXT_QEMU_DEPTH      "qemu:allocation-depth"

/*
 * Ours: never selected, only listed when asked for, with NBD_INSTANCE_BYTES of
 * text behind it that are new with each export. A client that comes back and
 * finds the same has found all that it had been promised.
 */
#define NBD_CONTEXT_INSTANCE "x-tandem:instance:"
#define NBD_INSTANCE_BYTES   36

/* --- big-endian fields --- */

static inline void be16_put(uint8_t *p, uint16_t v)
{
    v = GUINT16_TO_BE(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void be64_put(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline uint16_t be16_get(const uint8_t *p)
{
    uint16_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return GUINT16_FROM_BE(v);
}

static inline uint32_t be32_get(const uint8_t *p)
{
    uint32_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return GUINT32_FROM_BE(v);
}

static inline uint64_t be64_get(const uint8_t *p)
{
    uint64_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return GUINT64_FROM_BE(v);
}

/* --- text inside a message: not NUL-terminated, lives in the message --- */
typedef struct NbdText {
    const char *s;
    uint32_t len;
} NbdText;

/** nbd_text_valid() - UTF-8 without NUL, at most NBD_MAX_STRING bytes */
bool nbd_text_valid(NbdText t);
bool nbd_text_equals(NbdText t, const char *s);

/* --- handshake: fixed parts --- */

typedef struct NbdOptHeader {
    uint32_t option; /* any */
    uint32_t length; /* <= NBD_MAX_OPTION */
} NbdOptHeader;

void nbd_greeting_encode(uint8_t out[NBD_GREETING_BYTES], uint16_t flags);
bool nbd_opt_parse(const uint8_t in[NBD_OPT_BYTES], NbdOptHeader *ret);
void nbd_opt_encode(uint8_t out[NBD_OPT_BYTES], uint32_t option, uint32_t length);

typedef struct NbdOptReply {
    uint32_t option;
    uint32_t type;
    uint32_t length; /* <= NBD_MAX_OPTION */
} NbdOptReply;

bool nbd_opt_reply_parse(const uint8_t in[NBD_OPT_REPLY_BYTES], NbdOptReply *ret);
void nbd_opt_reply_encode(uint8_t out[NBD_OPT_REPLY_BYTES], uint32_t option, uint32_t type,
                          uint32_t length);

/* --- handshake: option data. @in is the whole data; the text results point into it. --- */

/* INFO and GO. */
typedef struct NbdGoData {
    NbdText name;
    bool wants_name, wants_description, wants_block_size; /* others are ignored */
} NbdGoData;

bool nbd_go_parse(const uint8_t *in, size_t bytes, NbdGoData *ret);

/* LIST_META_CONTEXT and SET_META_CONTEXT: the queries follow one by one. */
typedef struct NbdMetaData {
    NbdText name;
    uint32_t n_queries;
    const uint8_t *queries; /* checked: n_queries well-formed ones and nothing after them */
    size_t queries_bytes;
} NbdMetaData;

bool nbd_meta_parse(const uint8_t *in, size_t bytes, NbdMetaData *ret);
/** nbd_meta_next() - the next query of a checked message; false after the last.
 * Queries longer than NBD_MAX_STRING are skipped. */
bool nbd_meta_next(NbdMetaData *m, NbdText *ret);

/* Server's answers to INFO and GO, as the client reads them. */
typedef struct NbdExportInfo {
    uint64_t size;        /* <= INT64_MAX */
    uint16_t flags;       /* NBD_FLAG_HAS_FLAGS is set */
    uint32_t min_block;   /* power of two, <= 64 KiB; 1 if the server did not say */
    uint32_t preferred;   /* power of two >= min_block; 4096 if it did not say */
    uint32_t max_payload; /* >= preferred; 32 MiB if it did not say */
    bool has_block_size;
} NbdExportInfo;

void nbd_export_info_init(NbdExportInfo *info);
/** nbd_info_parse() - one INFO reply into @info; unknown types are ignored (true).
 * @has_export is set when it was NBD_INFO_EXPORT. */
bool nbd_info_parse(const uint8_t *in, size_t bytes, NbdExportInfo *info, bool *has_export);
/** nbd_export_info_check() - do the parts fit each other? */
bool nbd_export_info_check(const NbdExportInfo *info);
void nbd_info_export_encode(uint8_t out[12], uint64_t size, uint16_t flags);
void nbd_info_block_size_encode(uint8_t out[14], uint32_t min, uint32_t preferred, uint32_t max);

/** nbd_server_parse() - one SERVER reply of LIST */
bool nbd_server_parse(const uint8_t *in, size_t bytes, NbdText *ret_name, NbdText *ret_description);
/** nbd_context_parse() - one META_CONTEXT reply */
bool nbd_context_parse(const uint8_t *in, size_t bytes, uint32_t *ret_id, NbdText *ret_name);

/* --- transmission --- */

typedef struct NbdRequest {
    uint16_t flags;
    uint16_t type; /* any */
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
} NbdRequest;

/** nbd_request_parse() - false: wrong magic, the connection cannot go on */
bool nbd_request_parse(const uint8_t in[NBD_REQUEST_BYTES], NbdRequest *ret);
void nbd_request_encode(uint8_t out[NBD_REQUEST_BYTES], const NbdRequest *req);

void nbd_simple_reply_encode(uint8_t out[NBD_SIMPLE_REPLY_BYTES], uint32_t wire_error,
                             uint64_t cookie);
void nbd_chunk_encode(uint8_t out[NBD_CHUNK_BYTES], uint16_t flags, uint16_t type, uint64_t cookie,
                      uint32_t length);

/* Header of a reply as the client reads it: 16 bytes tell which kind, a chunk has 4 more. */
typedef struct NbdReply {
    bool structured;
    uint64_t cookie;
    uint32_t wire_error;  /* simple */
    uint16_t flags, type; /* structured */
    uint32_t length;      /* structured: payload */
} NbdReply;

/** nbd_reply_bytes() - how long the header is, from its magic; 0: neither magic */
size_t nbd_reply_bytes(const uint8_t in[4]);
/** nbd_reply_parse() - nbd_reply_bytes() of header. False: breaks a rule that holds for
 * every request (unknown non-error type, NONE with payload or without DONE, lengths). */
bool nbd_reply_parse(const uint8_t *in, NbdReply *ret);

/** nbd_error_parse() - payload of an error chunk; false if malformed */
bool nbd_error_parse(uint16_t type, const uint8_t *in, size_t bytes, uint32_t *ret_wire_error,
                     NbdText *ret_text);

typedef struct NbdExtent {
    uint32_t length; /* > 0 */
    uint32_t flags;
} NbdExtent;

/** nbd_extent_get() - the @i-th of a BLOCK_STATUS payload; false when its length is 0 */
bool nbd_extent_get(const uint8_t *extents, size_t i, NbdExtent *ret);

/* --- errors --- */

/** nbd_errno_to_wire() - @err > 0 */
uint32_t nbd_errno_to_wire(int err);
/** nbd_errno_from_wire() - a positive errno; unknown ones are EINVAL */
int nbd_errno_from_wire(uint32_t wire);

/* --- names, for messages --- */
const char *nbd_opt_name(uint32_t option);
const char *nbd_rep_error_name(uint32_t type);

#endif
