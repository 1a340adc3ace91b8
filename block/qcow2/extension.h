/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Header extensions: reading, keeping, writing. For header.c. */
#ifndef BLOCK_QCOW2_EXTENSION_H
#define BLOCK_QCOW2_EXTENSION_H

#include "format.h"

/** qcow2_check_incompatible() - refuse unknown incompatible features by the names that the
 * image's own feature table gives them; @end: of the area that may hold it */
bool qcow2_check_incompatible(const Qcow2Header *h, const uint8_t *raw, uint64_t end,
                              GError **errp);
/** qcow2_extensions_read() - @area_end: where the extensions' area ends; may lie past @bytes */
bool qcow2_extensions_read(const uint8_t *raw, size_t bytes, uint64_t area_end, Qcow2Header *h,
                           GError **errp);
/** qcow2_extensions_emit() - write all at *@at and move it behind the end mark */
bool qcow2_extensions_emit(const Qcow2Header *h, uint8_t *cluster, size_t *at, GError **errp);

#endif
