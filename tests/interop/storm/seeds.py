# SPDX-License-Identifier: GPL-2.0-or-later
"""
Storms from seeds: a few fixed ones, or new ones for TANDEM_SOAK_SECONDS.
TANDEM_SEED=N runs one again; a failure names its seed and tells what was done.
"""

import os
import random
import shutil
import time
import traceback


def run(make, seed, generations):
    """make(seed, note): a storm."""
    lines = []
    loud = os.environ.get('TANDEM_SEED')

    def note(line):
        lines.append(line)
        if loud:
            print('#', line, flush=True)
    try:
        make(seed, note).run(generations)
    except Exception:  # noqa: BLE001
        print('\n'.join(lines if not loud else []))
        traceback.print_exc()
        print(f'not ok: TANDEM_SEED={seed} fails', flush=True)
        return False
    return True


def main(make, fixed):
    """The exit status of a program that is nothing else; 77: what it needs is not there."""
    if not shutil.which('qemu-img'):
        print('skip: no qemu-img')
        return 77
    seconds = float(os.environ.get('TANDEM_SOAK_SECONDS', 0))
    if 'TANDEM_SEED' in os.environ:
        seeds = [int(os.environ['TANDEM_SEED'])]
    elif seconds:
        seeds = iter(lambda: random.randrange(1 << 32), None)
    else:
        seeds = fixed
    end, count = time.monotonic() + seconds, 0
    for seed in seeds:
        if not run(make, seed, 4 if seconds or 'TANDEM_SEED' in os.environ else 2):
            return 1
        count += 1
        if seconds and time.monotonic() > end:
            break
    print(f'ok: {count} storms')
    return 0
