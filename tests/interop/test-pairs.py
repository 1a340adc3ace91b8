#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The documented recipe with every pair of {tandem, stock QEMU}: random writes
from both guests, checkpoints, death of the primary, failover. The secondary's
view is compared with a model all the time, its disk at the end.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'scripts'))

from lab.host import Host, have_qemu  # noqa: E402

MIB = 1 << 20
SIZE = 4 * MIB
BUILD = os.environ.get('TANDEM_BUILD', os.path.join(HERE, '..', '..', 'build'))
TANDEMD = os.path.join(BUILD, 'tools', 'tandemd')


class Pair(unittest.TestCase):
    kinds = None

    def setUp(self):
        seed = int(os.environ.get('TANDEM_SEED', random.randrange(1 << 32)))
        print(f'# {self.id()}: TANDEM_SEED={seed}', flush=True)
        self.random = random.Random(seed)
        self.work = tempfile.mkdtemp(prefix='tandem-pair-')
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.primary_model = bytearray(self.random.randbytes(SIZE))
        self.view_model = bytearray(self.primary_model)

    def path(self, name):
        return os.path.join(self.work, name)

    def host(self, kind, name):
        host = Host(kind, name, self.work, TANDEMD)
        self.addCleanup(host.end)
        return host

    def secondary(self, kind, name, content):
        with open(self.path(name + '.raw'), 'wb') as f:
            f.write(content)
        for overlay in ('active', 'hidden'):
            subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2',
                            self.path(f'{name}-{overlay}.qcow2'), str(SIZE)], check=True)
        host = self.host(kind, name)
        host.start_secondary(self.path(name + '.raw'), self.path(name + '-active.qcow2'),
                             self.path(name + '-hidden.qcow2'))
        host.serve('parent0', 'colo-disk0')
        return host

    def start_pair(self):
        with open(self.path('P.raw'), 'wb') as f:
            f.write(self.primary_model)
        p = self.host(self.kinds[0], 'P').start_primary(self.path('P.raw'))
        p.serve('colo-disk0')
        s = self.secondary(self.kinds[1], 'S', self.primary_model)
        p.attach_primary_filter(s.port)
        s.replicate(primary=False)
        p.replicate(primary=True)
        return p, s

    def random_range(self, kind):
        """Stock QEMU spoils what is no whole sector, so there only whole ones are used."""
        unit = 512 if kind == 'qemu' or self.random.random() < 0.5 else 1
        length = self.random.choice((1, 7, 8, 128, 200)) * 512 // (1 if unit == 512 else 3)
        offset = self.random.randrange(0, (SIZE - length) // unit + 1) * unit
        return offset, length

    def request(self, disk, kind, model):
        offset, length = self.random_range(kind)
        what = self.random.random()
        if what < 0.7:
            data = self.random.randbytes(length)
            disk.write(offset, data)
        elif what < 0.85 or kind == 'qemu':
            data = bytes(length)
            disk.zero(offset, length)
        else:
            # What a discarded range reads as is the disk's choice, but both ends' alike.
            disk.trim(offset, length)
            data = disk.read(offset, length)
        model[offset:offset + length] = data

    def check(self, disk, model, what):
        got = disk.read_all()
        if got != bytes(model):
            at = next(i for i in range(SIZE) if got[i] != model[i])
            self.fail(f'{what}: byte {at} is {got[at]:#x}, want {model[at]:#x}')

    def epochs(self, p, s, count, requests):
        guest, standby = p.nbd('colo-disk0'), s.nbd('colo-disk0')
        for _ in range(count):
            for _ in range(requests):
                self.request(guest, self.kinds[0], self.primary_model)
                if self.random.random() < 0.3:
                    self.request(standby, 'qemu', self.view_model)
            self.check(standby, self.view_model, 'view within an epoch')
            self.assertEqual(p.status(), {'error': False})
            self.assertEqual(s.status(), {'error': False})
            p.checkpoint()
            s.checkpoint()
            self.view_model = bytearray(self.primary_model)
            self.check(standby, self.view_model, 'view after a checkpoint')
            self.check(guest, self.primary_model, 'disk of the primary')
        for _ in range(requests):
            self.request(guest, self.kinds[0], self.primary_model)
            self.request(standby, 'qemu', self.view_model)
        return standby

    def test_recipe(self):
        p, s = self.start_pair()
        standby = self.epochs(p, s, count=4, requests=40)
        p.kill()
        standby.close()
        s.qmp.cmd('nbd-server-stop')
        s.failover()
        s.serve('colo-disk0')
        view = s.nbd('colo-disk0')
        self.check(view, self.view_model, 'view after failover')
        self.request(view, 'qemu', self.view_model)
        self.check(view, self.view_model, 'view after a write of the survivor')
        view.close()
        self.assertEqual(s.quit(), 0)
        with open(self.path('S.raw'), 'rb') as f:
            self.assertEqual(f.read(), bytes(self.view_model))

    def test_primary_failover(self):
        """The secondary dies: the guest does not notice, the manager does."""
        p, s = self.start_pair()
        guest = p.nbd('colo-disk0')
        self.request(guest, 'qemu', self.primary_model)
        s.kill()
        for _ in range(5):
            self.request(guest, 'qemu', self.primary_model)
        self.assertTrue(p.status()['error'])
        p.qmp.cmd('x-blockdev-change', parent='colo-disk0', child='children.1')
        self.assertEqual(p.qmp.hmp('drive_del replication0'), '')
        p.qmp.cmd('xen-set-replication', enable=False, primary=True, failover=True)
        self.request(guest, 'qemu', self.primary_model)
        self.check(guest, self.primary_model, 'disk of the primary')
        guest.close()
        self.assertEqual(p.quit(), 0)
        with open(self.path('P.raw'), 'rb') as f:
            self.assertEqual(f.read(), bytes(self.primary_model))

    def test_continuous(self):
        """Failover, then the survivor leads with a fresh secondary after a resync."""
        p, s = self.start_pair()
        self.epochs(p, s, count=1, requests=20).close()
        p.kill()
        s.qmp.cmd('nbd-server-stop')
        s.failover()
        s.serve('colo-disk0')
        t = self.secondary(self.kinds[0], 'T', bytes(SIZE))
        guest = s.nbd('colo-disk0')
        s.qmp.cmd('drive-mirror', device='colo-disk0', job_id='resync',
                  target=f'nbd://127.0.0.1:{t.port}/parent0', mode='existing', format='raw',
                  sync='full')
        self.request(guest, 'qemu', self.view_model)
        s.qmp.wait_event('BLOCK_JOB_READY')
        s.qmp.cmd('block-job-cancel', device='resync')
        s.qmp.wait_event('BLOCK_JOB_COMPLETED')
        self.wait_no_job(s)
        t.replicate(primary=False)
        s.attach_primary_filter(t.port)
        s.replicate(primary=True)
        standby = t.nbd('colo-disk0')
        self.check(standby, self.view_model, 'the fresh secondary')
        frozen = bytearray(self.view_model)
        self.request(guest, 'qemu', self.view_model)
        self.check(standby, frozen, 'view within an epoch')
        s.checkpoint()
        t.checkpoint()
        self.check(standby, self.view_model, 'view after a checkpoint')

    def wait_no_job(self, host):
        end = time.monotonic() + 10
        while host.qmp.cmd('query-block-jobs') and time.monotonic() < end:
            time.sleep(0.02)


def pair(primary, secondary):
    return type(f'{primary}_{secondary}', (Pair,), {'kinds': (primary, secondary)})


def load_tests(loader, standard, pattern):
    kinds = ['tandem', 'qemu'] if have_qemu() else ['tandem']
    suite = unittest.TestSuite()
    for p in kinds:
        for s in kinds:
            suite.addTests(loader.loadTestsFromTestCase(pair(p, s)))
    return suite


if __name__ == '__main__':
    unittest.main(verbosity=2, warnings='ignore')
