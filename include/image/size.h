/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes and times as text, in the forms that QEMU's tools print. */
#ifndef IMAGE_SIZE_H
#define IMAGE_SIZE_H

#include <stdint.h>

/** size_text() - "64 MiB", "196 KiB", "512 B": three digits; the caller frees it */
char *size_text(uint64_t bytes);
/** size_text_exact() - "64 MiB", "1.125 MiB", "32 bytes": three decimals where there are any */
char *size_text_exact(double bytes);

/**
 * size_parse() - a size as tools take it: blanks and '+' in front, an optional unit
 *
 * Return: 0; -EINVAL if it is none; -ERANGE if it is one above INT64_MAX. *ret is left alone then.
 */
int size_parse(const char *text, int64_t *ret);

#endif
