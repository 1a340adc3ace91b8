/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz-main: stands in for libFuzzer's main() and runs each file of a corpus once. */
#include <glib.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        g_autofree char *data = NULL;
        g_autoptr(GError) err = NULL;
        gsize bytes;

        if (!g_file_get_contents(argv[i], &data, &bytes, &err)) {
            fprintf(stderr, "%s\n", err->message);
            return 1;
        }
        fprintf(stderr, "%s\n", argv[i]);
        LLVMFuzzerTestOneInput((const uint8_t *)data, bytes);
    }
    return 0;
}
