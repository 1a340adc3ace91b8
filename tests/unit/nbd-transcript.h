/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-transcript: a test that is one end of an NBD connection, and what it says
 * and hears there: hexadecimal, with spaces where the fields end and 'text'.
 */
#ifndef TESTS_NBD_TRANSCRIPT_H
#define TESTS_NBD_TRANSCRIPT_H

#include <string.h>

#include "util/stream.h"
#include "vtest.h"

#define MAGIC  "4e42444d41474943 49484156454f5054 0003"
#define OPT    "49484156454f5054"
#define REP    "0003e889045565a9"
#define SIZE   "0000000000100000"
#define ACK    "00000001 00000000"
#define UNSUP  "80000001 00000000"
#define REQ    "25609513"
#define SIMPLE "67446698"
#define CHUNK  "668e33ef"

#define TRANSCRIPT_MAX 2048

static Stream *wire; /* our end of the newest connection */

static inline size_t unhex(const char *text, uint8_t out[static TRANSCRIPT_MAX])
{
    size_t n = 0;

    g_assert_cmpuint(strlen(text), <=, TRANSCRIPT_MAX);
    for (const char *p = text; *p;) {
        if (*p == ' ') {
            p++;
        } else if (*p == '\'') {
            for (p++; *p != '\''; p++) {
                out[n++] = *p;
            }
            p++;
        } else {
            out[n++] = g_ascii_xdigit_value(p[0]) << 4 | g_ascii_xdigit_value(p[1]);
            p += 2;
        }
    }
    return n;
}

static inline void coroutine_fn say(const char *hex)
{
    uint8_t bytes[TRANSCRIPT_MAX];

    g_assert_cmpint(stream_co_write_all(wire, bytes, unhex(hex, bytes)), ==, 0);
}

static inline void coroutine_fn hear(const char *hex)
{
    uint8_t want[TRANSCRIPT_MAX], got[TRANSCRIPT_MAX];
    size_t n = unhex(hex, want);

    g_assert_cmpint(stream_co_read_all(wire, got, n), ==, 0);
    for (size_t i = 0; i < n; i++) {
        if (got[i] != want[i]) {
            g_error("byte %zu of '%s' is %02x", i, hex, got[i]);
        }
    }
}

#endif
