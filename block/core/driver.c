/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of drivers. The core links none of them: main() hands the table in.
 */
#include "core.h"

#include <string.h>

static const BlockDriver *const *drivers;
static size_t n_drivers;

void driver_table_set(const BlockDriver *const *table, size_t n)
{
    drivers = table;
    n_drivers = n;
}

const BlockDriver *driver_at(size_t i)
{
    for (size_t at = 0; at < n_drivers; at++) {
        if (drivers[at] && i-- == 0) {
            return drivers[at];
        }
    }
    return NULL;
}

const BlockDriver *driver_find(const char *name)
{
    for (size_t i = 0; i < n_drivers; i++) {
        if (drivers[i] && strcmp(drivers[i]->name, name) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}
