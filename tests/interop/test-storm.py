#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Storms (storm/blow.py) over a pair of real processes, from seeds (storm/seeds.py)."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import replhosts  # noqa: E402,F401  (finds the lab)
from storm import seeds  # noqa: E402
from lab.host import have_qemu  # noqa: E402
from storm.blow import Storm  # noqa: E402

FIXED = (2, 8)
MIXED = (('tandem', 'qemu'), ('qemu', 'tandem'))


def kinds_of(seed):
    """Every eighth seed is a pair with stock QEMU."""
    if seed % 8 or not have_qemu():
        return ('tandem', 'tandem')
    return MIXED[seed // 8 % 2]


def storm(seed, note):
    return Storm(seed, kinds_of(seed), note)


if __name__ == '__main__':
    sys.exit(seeds.main(storm, FIXED))
