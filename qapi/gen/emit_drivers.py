# SPDX-License-Identifier: GPL-2.0-or-later
"""drivers.h, drivers.c: the block drivers, one for each value of BlockdevDriver.

drivers.c refers to every driver, so programs compile it.
"""

from . import names
from .cwriter import CFile


def _enum(schema):
    return schema.types.get('BlockdevDriver')


def drivers_header(schema, prefix):
    out = CFile('block drivers', f'qapi/{prefix}drivers.h')
    out.include(f'qapi/{prefix}types.h')
    if _enum(schema):
        out.add('''typedef struct BlockDriver BlockDriver;

/* What implements each driver of the schema. */
extern const BlockDriver *const block_driver_table[BLOCKDEV_DRIVER__MAX];
''')
        for value in _enum(schema).values:
            out.add(f'extern const BlockDriver driver_{names.lower(value.name)};')
    return out.text()


def drivers_source(schema, prefix):
    out = CFile('block drivers')
    out.include(f'qapi/{prefix}drivers.h')
    if _enum(schema):
        out.add('const BlockDriver *const block_driver_table[BLOCKDEV_DRIVER__MAX] = {')
        for value in _enum(schema).values:
            out.add(f'    [{_enum(schema).constant(value.name)}] = '
                    f'&driver_{names.lower(value.name)},')
        out.add('};')
    return out.text()
