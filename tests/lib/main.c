/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main: of every test program that brings none. */
#include "test.h"

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    test_register_all();
    return g_test_run();
}
