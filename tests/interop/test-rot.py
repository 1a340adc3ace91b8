#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs on rotten images (storm/rot.py), from seeds (storm/seeds.py)."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import replhosts  # noqa: E402,F401  (finds the lab)
from storm import seeds  # noqa: E402
from storm.rot import Rot  # noqa: E402

FIXED = (1, 2, 5, 7)

if __name__ == '__main__':
    sys.exit(seeds.main(Rot, FIXED))
