/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A main() for a fuzz target without libFuzzer: feeds it each file of the folders
 * given, and the empty input. It prints TAP, one case an input.
 */
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
replay(gconstpointer path)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    size_t size = 0;

    g_file_get_contents(path, &data, &size, &err);
    g_assert_no_error(err);
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
}

static void
replay_nothing(void)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
}

/* A folder that does not exist is an empty corpus. */
static void
add_folder(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *test = g_strconcat("/corpus/", name, NULL);

        g_test_add_data_func_full(test, g_build_filename(folder, name, NULL),
                                  replay, g_free);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/corpus/empty-input", replay_nothing);
    for (int i = 1; i < argc; i++) {
        add_folder(argv[i]);
    }
    return g_test_run();
}
