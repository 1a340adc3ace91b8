#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Isolation under load, with real processes: clients write the secondary's disk as
fast as they can while others read the top. Between two checkpoints the top is
what it was, and what its own guest has written since; failover makes it the disk.

TANDEM_STRESS_SECONDS says how long (default 6), TANDEM_SEED repeats a run.
"""

import os
import random
import threading
import time
import unittest

from replhosts import KIB, SIZE, Background, Replicated

SECONDS = float(os.environ.get('TANDEM_STRESS_SECONDS', 6))
EPOCH_SECONDS = 0.25


def random_range(rng):
    length = min(rng.choice((1, 512, 700, 4 * KIB, 64 * KIB, 130 * KIB)), SIZE)
    return rng.randrange(SIZE - length + 1), length


class IsolationStress(Replicated):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get('TANDEM_SEED', random.randrange(1 << 32)))
        print(f'# {self.id()}: TANDEM_SEED={seed}', flush=True)
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.addCleanup(self.stop.set)

    def write(self, host, seed):
        """The primary: any number of requests in flight over its connections."""
        rng = random.Random(seed)
        disk = self.client(host, 'parent0', timeout=30)
        done = 0
        while not self.stop.is_set():
            offset, length = random_range(rng)
            if rng.random() < 0.8:
                disk.write(offset, rng.randbytes(length))
            else:
                disk.zero(offset, length)
            done += 1
        return done

    def read(self, host, view, seed, until):
        rng = random.Random(seed)
        disk = self.client(host, timeout=30)
        while True:  # once at least, however busy the machine is
            offset, length = random_range(rng)
            self.same(disk.read(offset, length), view[offset:offset + length],
                      f'{length} bytes at {offset}')
            if time.monotonic() >= until:
                break
        disk.close()

    def epoch(self, host, top):
        """Returns what the top shows at the end of it."""
        host.checkpoint()
        view = bytearray(top.read_all())
        for _ in range(self.random.randrange(6)):
            offset, length = random_range(self.random)
            data = self.random.randbytes(length)
            top.write(offset, data)
            view[offset:offset + length] = data
        until = time.monotonic() + EPOCH_SECONDS
        readers = [Background(self.read, host, bytes(view), self.random.random(), until)
                   for _ in range(3)]
        for r in readers:
            r.result(30)
        self.same(top.read_all(), bytes(view), 'the whole top')
        return view

    def test_the_top_stands_still(self):
        s = self.secondary()
        s.replicate(primary=False)
        top = self.client(s, timeout=30)
        writers = [Background(self.write, s, self.random.random()) for _ in range(4)]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            view = self.epoch(s, top)
        self.stop.set()
        for w in writers:
            self.assertGreater(w.result(30), 0)
        self.well(s)
        s.failover()
        self.same(top.read_all(), bytes(view), 'the top after failover')
        self.assertEqual(s.quit(), 0)
        self.same(self.content('S0.raw'), bytes(view), 'the disk after failover')


if __name__ == '__main__':
    unittest.main()
