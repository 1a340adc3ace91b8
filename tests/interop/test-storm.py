#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Storms (storm.py) over a pair of real processes: a few fixed seeds, or new ones
for TANDEM_SOAK_SECONDS. TANDEM_SEED=N runs one again; a failure names its seed
and tells what was done.
"""

import os
import random
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import replhosts  # noqa: E402,F401  (finds the lab)
from lab.host import have_qemu  # noqa: E402
from storm import Storm  # noqa: E402

FIXED = (2, 5, 8, 12, 16, 39)
MIXED = (('tandem', 'qemu'), ('qemu', 'tandem'))


def kinds_of(seed):
    """Every eighth seed is a pair with stock QEMU."""
    if seed % 8 or not have_qemu():
        return ('tandem', 'tandem')
    return MIXED[seed // 8 % 2]


def run(seed, generations):
    lines = []
    loud = os.environ.get('TANDEM_SEED')

    def note(line):
        lines.append(line)
        if loud:
            print('#', line, flush=True)
    try:
        Storm(seed, kinds_of(seed), note).run(generations)
    except Exception:  # noqa: BLE001
        print('\n'.join(lines if not loud else []))
        traceback.print_exc()
        print(f'not ok: TANDEM_SEED={seed} fails', flush=True)
        return False
    return True


def main():
    seconds = float(os.environ.get('TANDEM_SOAK_SECONDS', 0))
    if 'TANDEM_SEED' in os.environ:
        seeds = [int(os.environ['TANDEM_SEED'])]
    elif seconds:
        seeds = iter(lambda: random.randrange(1 << 32), None)
    else:
        seeds = FIXED
    end, count = time.monotonic() + seconds, 0
    for seed in seeds:
        if not run(seed, 4 if seconds or 'TANDEM_SEED' in os.environ else 2):
            return 1
        count += 1
        if seconds and time.monotonic() > end:
            break
    print(f'ok: {count} storms')
    return 0


if __name__ == '__main__':
    sys.exit(main())
