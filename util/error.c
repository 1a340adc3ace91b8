/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors with a text: how a GError of our domain is made and named.
 *
 * A text is made only if the caller wants it (@errp is not NULL), and an error
 * is set once: g_set_error() complains about a second one.
 */
#include "util/error.h"

G_DEFINE_QUARK(tandem-error-quark, tandem_error)

const char *
error_class_name(const GError *err)
{
    if (err->domain != TANDEM_ERROR) {
        return "GenericError";
    }
    switch ((ErrorClass)err->code) {
    case ERROR_CLASS_GENERIC:
        return "GenericError";
    case ERROR_CLASS_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case ERROR_CLASS_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case ERROR_CLASS_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    case ERROR_CLASS_KVM_MISSING_CAP:
        return "KVMMissingCap";
    }
    g_assert_not_reached();
}

/* @err is a positive errno whose text is appended, or 0. */
static void PRINTF(4, 0)
set_error(GError **errp, ErrorClass class, int err, const char *fmt, va_list ap)
{
    g_autofree char *text = NULL;

    if (!errp) {
        return;
    }
    text = g_strdup_vprintf(fmt, ap);
    if (err) {
        g_set_error(errp, TANDEM_ERROR, (int)class, "%s: %s", text, g_strerror(err));
    } else {
        g_set_error_literal(errp, TANDEM_ERROR, (int)class, text);
    }
}

bool
fail(GError **errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_error(errp, ERROR_CLASS_GENERIC, 0, fmt, ap);
    va_end(ap);
    return false;
}

bool
fail_errno(GError **errp, int err, const char *fmt, ...)
{
    va_list ap;

    assert(err > 0);
    va_start(ap, fmt);
    set_error(errp, ERROR_CLASS_GENERIC, err, fmt, ap);
    va_end(ap);
    return false;
}

bool
fail_class(GError **errp, ErrorClass class, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    set_error(errp, class, 0, fmt, ap);
    va_end(ap);
    return false;
}
