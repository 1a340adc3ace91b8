/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: what the fail functions set, and how QMP names the classes.
 */
#include "util/error.h"

#include <errno.h>

static void
test_fail_sets_a_generic_error(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_false(fail(&err, "cluster_bits is %u, want 9 to 21", 8u));

    g_assert_error(err, TANDEM_ERROR, ERROR_CLASS_GENERIC);
    g_assert_cmpstr(err->message, ==, "cluster_bits is 8, want 9 to 21");
    g_assert_cmpstr(error_class_name(err), ==, "GenericError");
}

static void
test_fail_takes_no_place_for_the_error(void)
{
    g_assert_false(fail(NULL, "nobody reads %s", "this"));
    g_assert_false(fail_errno(NULL, EIO, "nobody reads %s", "this"));
    g_assert_false(fail_class(NULL, ERROR_CLASS_GENERIC, "nobody reads %s", "this"));
}

static void
test_fail_errno_appends_the_text_of_the_errno(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *want = g_strdup_printf("Could not open 'disk': %s", g_strerror(ENOENT));

    g_assert_false(fail_errno(&err, ENOENT, "Could not open '%s'", "disk"));

    g_assert_error(err, TANDEM_ERROR, ERROR_CLASS_GENERIC);
    g_assert_cmpstr(err->message, ==, want);
}

static void
test_fail_class_keeps_the_class(void)
{
    static const struct {
        ErrorClass class;
        const char *name;
    } classes[] = {
        {ERROR_CLASS_GENERIC, "GenericError"},
        {ERROR_CLASS_COMMAND_NOT_FOUND, "CommandNotFound"},
        {ERROR_CLASS_DEVICE_NOT_ACTIVE, "DeviceNotActive"},
        {ERROR_CLASS_DEVICE_NOT_FOUND, "DeviceNotFound"},
        {ERROR_CLASS_KVM_MISSING_CAP, "KVMMissingCap"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        g_autoptr(GError) err = NULL;

        g_assert_false(fail_class(&err, classes[i].class, "Device '%s' not found", "d0"));
        g_assert_error(err, TANDEM_ERROR, (int)classes[i].class);
        g_assert_cmpstr(err->message, ==, "Device 'd0' not found");
        g_assert_cmpstr(error_class_name(err), ==, classes[i].name);
    }
}

static void
test_foreign_domains_are_generic(void)
{
    g_autoptr(GError) err =
        g_error_new_literal(G_FILE_ERROR, ERROR_CLASS_DEVICE_NOT_FOUND, "from a library");

    g_assert_cmpstr(error_class_name(err), ==, "GenericError");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/fail", test_fail_sets_a_generic_error);
    g_test_add_func("/error/no-place", test_fail_takes_no_place_for_the_error);
    g_test_add_func("/error/errno", test_fail_errno_appends_the_text_of_the_errno);
    g_test_add_func("/error/class", test_fail_class_keeps_the_class);
    g_test_add_func("/error/foreign", test_foreign_domains_are_generic);
    return g_test_run();
}
