/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main: of every test program that brings none. */
#include "test.h"
#include "util/trace.h"

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    trace_install_handlers();
    test_register_all();
    return g_test_run();
}
