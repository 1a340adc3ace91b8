/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The drivers that programs have: those that the schema's driver enum names. */
#include "block/drivers.h"

#include "block/driver.h"
#include "qapi/drivers.h"

void
drivers_register(void)
{
    driver_table_set(block_driver_table, G_N_ELEMENTS(block_driver_table));
}
