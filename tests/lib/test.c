/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test: the list that the registering macros fill before main(). */
#include "test.h"

#include "property.h"

typedef struct TestEntry {
    const char *path;
    TestFn *fn;
    Property property; /* used if fn is NULL */
} TestEntry;

static GPtrArray *entries; /* lives as long as the process: g_test keeps pointers */

static TestEntry *entry_add(const char *path)
{
    TestEntry *e = g_new0(TestEntry, 1);

    if (entries == NULL) {
        entries = g_ptr_array_new();
    }
    e->path = path;
    g_ptr_array_add(entries, e);
    return e;
}

void test_add(const char *path, TestFn *fn)
{
    entry_add(path)->fn = fn;
}

void property_add(const char *path, PropertyFn *fn, PropertyKind kind)
{
    TestEntry *e = entry_add(path);

    e->property = (Property){.path = path, .fn = fn, .kind = kind};
}

unsigned property_count(void)
{
    unsigned count = 0;

    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const TestEntry *e = g_ptr_array_index(entries, i);

        count += e->fn == NULL;
    }
    return count;
}

static void run_entry(gconstpointer opaque)
{
    const TestEntry *e = opaque;

    if (e->fn != NULL) {
        e->fn();
    } else {
        property_run(&e->property);
    }
}

void test_register_all(void)
{
    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        TestEntry *e = g_ptr_array_index(entries, i);

        g_test_add_data_func(e->path, e, run_entry);
    }
}
