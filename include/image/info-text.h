/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "Format specific information" as text. */
#ifndef IMAGE_INFO_TEXT_H
#define IMAGE_INFO_TEXT_H

#include <stdio.h>

#include "qapi/types.h"

void info_print_specific(FILE *out, const ImageInfoSpecific *s);

#endif
