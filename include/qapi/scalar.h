/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scalars from text, as on command lines. All return false, and leave *ret
 * alone, if the text is anything else; none accepts blanks.
 */
#ifndef QAPI_SCALAR_H
#define QAPI_SCALAR_H

#include <stdbool.h>
#include <stdint.h>

/** scalar_bool() - on, yes, true, y; off, no, false, n; lower case */
bool scalar_bool(const char *text, bool *ret);
/** scalar_int() - decimal or 0x, with an optional '-' */
bool scalar_int(const char *text, int64_t *ret);
/** scalar_uint() - decimal or 0x */
bool scalar_uint(const char *text, uint64_t *ret);
/** scalar_number() - a finite decimal number */
bool scalar_number(const char *text, double *ret);

/**
 * scalar_size() - bytes, with an optional unit B K M G T P E (either case, powers of 1024)
 *
 * With a unit above B the number may have decimals ("1.5G"), rounded down to a
 * byte. 0x takes no unit.
 */
bool scalar_size(const char *text, uint64_t *ret);
/** scalar_size_unit() - as scalar_size(), where a number without unit is in units of @unit,
 * one of the letters above */
bool scalar_size_unit(const char *text, char unit, uint64_t *ret);

#endif
