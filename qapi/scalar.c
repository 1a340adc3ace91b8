/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scalars from text. Numbers are exact: no step goes through floating point
 * except scalar_number().
 */
#include "qapi/scalar.h"

#include <glib.h>
#include <math.h>
#include <string.h>

bool
scalar_bool(const char *text, bool *ret)
{
    static const char *const yes[] = { "on", "yes", "true", "y", NULL };
    static const char *const no[] = { "off", "no", "false", "n", NULL };

    if (g_strv_contains(yes, text)) {
        *ret = true;
    } else if (g_strv_contains(no, text)) {
        *ret = false;
    } else {
        return false;
    }
    return true;
}

/* Digits of @base from *@text on, at least one; *@text is then behind them. */
static bool
take_digits(const char **text, unsigned base, uint64_t *ret)
{
    const char *p = *text;
    uint64_t value = 0;

    for (; g_ascii_isxdigit(*p); p++) {
        unsigned digit = g_ascii_xdigit_value(*p);
        if (digit >= base) {
            break;
        }
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    if (p == *text) {
        return false;
    }
    *text = p;
    *ret = value;
    return true;
}

static bool
is_hex(const char *text)
{
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

bool
scalar_uint(const char *text, uint64_t *ret)
{
    const char *p = is_hex(text) ? text + 2 : text;
    uint64_t value;

    if (!take_digits(&p, p == text ? 10 : 16, &value) || *p) {
        return false;
    }
    *ret = value;
    return true;
}

bool
scalar_int(const char *text, int64_t *ret)
{
    bool negative = *text == '-';
    uint64_t limit = (uint64_t)INT64_MAX + negative;
    uint64_t value;

    if (!scalar_uint(text + negative, &value) || value > limit) {
        return false;
    }
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool
scalar_number(const char *text, double *ret)
{
    char *end;
    double value;

    if (!g_ascii_isdigit(text[0]) && !(text[0] == '-' && g_ascii_isdigit(text[1]))) {
        return false;
    }
    value = g_ascii_strtod(text, &end);
    if (*end || !isfinite(value)) {
        return false;
    }
    *ret = value;
    return true;
}

/* The unit's factor as a power of two, or -1. */
static int
unit_shift(char unit)
{
    static const char units[] = "BKMGTPE";
    const char *p = unit ? strchr(units, g_ascii_toupper(unit)) : NULL;

    return p ? 10 * (int)(p - units) : -1;
}

/* Decimals behind the point, as a fraction of 10^18; more digits do not count. */
static bool
take_fraction(const char **text, uint64_t *ret)
{
    const uint64_t one = UINT64_C(1000000000000000000);
    uint64_t value = 0, scale = one;
    const char *p = *text;

    for (; g_ascii_isdigit(*p); p++) {
        scale /= 10;
        value += scale * g_ascii_digit_value(*p);
    }
    if (p == *text) {
        return false;
    }
    *text = p;
    *ret = value;
    return true;
}

bool
scalar_size_unit(const char *text, char unit, uint64_t *ret)
{
    const char *p = text;
    uint64_t whole, fraction = 0;
    unsigned __int128 bytes;
    bool has_fraction;
    int shift;

    if (is_hex(text)) {
        return scalar_uint(text, ret);
    }
    if (!take_digits(&p, 10, &whole)) {
        return false;
    }
    has_fraction = *p == '.';
    if (has_fraction) {
        p++;
        if (!take_fraction(&p, &fraction)) {
            return false;
        }
    }
    shift = unit_shift(*p ? *p : unit);
    if (shift < 0 || (*p && p[1]) || (has_fraction && shift == 0)) {
        return false;
    }
    bytes = ((unsigned __int128)whole << shift) +
            ((unsigned __int128)fraction << shift) / UINT64_C(1000000000000000000);
    if (bytes > UINT64_MAX) {
        return false;
    }
    *ret = (uint64_t)bytes;
    return true;
}

bool
scalar_size(const char *text, uint64_t *ret)
{
    return scalar_size_unit(text, 'B', ret);
}
