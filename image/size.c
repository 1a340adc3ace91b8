/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/size.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "qapi/scalar.h"

static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};

char *size_text(uint64_t bytes)
{
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%0.3g %sB", value, units[unit]);
}

char *size_text_exact(double bytes)
{
    size_t unit = 0;
    char *text, *dot;

    while (bytes >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    text = unit > 0 ? g_strdup_printf("%.3f", bytes) : g_strdup_printf("%f", bytes);
    dot = strchr(text, '.');
    if (dot && strspn(dot + 1, "0") == strlen(dot + 1)) {
        *dot = '\0';
    }
    dot = unit > 0 ? g_strdup_printf("%s %sB", text, units[unit])
                   : g_strdup_printf("%s bytes", text);
    g_free(text);
    return dot;
}

/* Digits, perhaps with decimals, perhaps with a unit: a number, if maybe a large one. */
static bool looks_like_size(const char *text)
{
    size_t n = strspn(text, "0123456789");

    if (n == 0) {
        return false;
    }
    text += n;
    if (*text == '.') {
        n = strspn(text + 1, "0123456789");
        text += n > 0 ? n + 1 : 0;
    }
    return !*text || (strchr("bBkKmMgGtTpPeE", *text) && !text[1]);
}

int size_parse(const char *text, int64_t *ret)
{
    uint64_t n;

    while (g_ascii_isspace(*text)) {
        text++;
    }
    text += *text == '+' ? 1 : 0;
    if (!scalar_size(text, &n)) {
        return looks_like_size(text) ? -ERANGE : -EINVAL;
    }
    if (n > INT64_MAX) {
        return -ERANGE;
    }
    *ret = (int64_t)n;
    return 0;
}
