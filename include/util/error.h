/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors with a text, for the control path: GError in one domain whose codes
 * are the error classes of QMP.
 *
 * The data path uses 0 or -errno and no text. Both fail functions return false
 * so that a caller can `return fail(errp, ...)`; cast or compare where a NULL
 * is wanted: `return fail(...), NULL`.
 */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include <glib.h>

#include "util/compiler.h"

/* QMP's error classes (QMP specification, "Error responses"). */
typedef enum ErrorClass {
    ERROR_CLASS_GENERIC,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
    ERROR_CLASS_KVM_MISSING_CAP,
} ErrorClass;

#define TANDEM_ERROR (tandem_error_quark())
GQuark tandem_error_quark(void);

/** error_class_name() - the class as QMP spells it; "GenericError" for foreign domains */
const char *error_class_name(const GError *err);

/** fail() - set a GenericError; returns false. @errp may be NULL. */
bool fail(GError **errp, const char *fmt, ...) PRINTF(2, 3);

/** fail_errno() - as fail(), with ": " and the text of @err (positive errno) appended */
bool fail_errno(GError **errp, int err, const char *fmt, ...) PRINTF(3, 4);

/** fail_class() - as fail(), with a class of its own */
bool fail_class(GError **errp, ErrorClass class, const char *fmt, ...) PRINTF(3, 4);

#endif
