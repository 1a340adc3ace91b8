#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A secondary that ends at a bad moment, and what is on its disks then.

Killed (the process, not the machine: what it has written is there): active and
hidden are worthless by design, but they are valid images, empty ones; the disk
has each byte from before or from after. What a guest was promised by a flush
during the failover is there, all of it. Everything opens again.

Told to quit, or closed: when the failover is not through, active and hidden hold
what the disk lacks, and the chain reads as the view did.
"""

import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from replhosts import (  # noqa: E402
    KIB, SIZE, TANDEM_IMG, Background, Replicated, patched, pattern)
from lab.nbd import WRITE, WRITE_ZEROES  # noqa: E402

EIO = 5
OWN = ((4 * KIB, b'\xa1' * 4 * KIB), (200 * KIB, b'\xa2' * 70 * KIB),
       (SIZE - 5 * KIB, b'\xa3' * 5 * KIB))
PEER = ((0, b'\xb1' * 64 * KIB), (100 * KIB, b'\xb2' * 4 * KIB), (240 * KIB, b'\xb3' * 130 * KIB),
        (700 * KIB, b'\xb4' * 512))


class Crash(Replicated):
    def disks(self, name='D'):
        """Where a secondary's images lie."""
        self.disk = self.nbd_disk(f'{name}-disk', pattern(SIZE))
        self.hidden, self.active = (self.nbd_qcow2(f'{name}-{n}') for n in ('hidden', 'active'))

    def start(self, name='S'):
        s = self.secondary(name=name, disk=self.disk, hidden=self.hidden, active=self.active)
        s.replicate(primary=False)
        return s

    def in_epoch(self, name='S', before=pattern(SIZE)):
        """A running one: the view, and a disk that differs from it by all of PEER."""
        s = self.start(name)
        self.top = self.client(s, timeout=30)
        self.same(self.top.read_all(), before, 'view after a start')
        peer = self.client(s, 'parent0')
        for offset, data in OWN:
            self.top.write(offset, data)
        for offset, data in PEER:
            peer.write(offset, data)
        self.view, self.mixed = patched(before, *OWN), patched(before, *PEER)
        self.same(self.disk.data, self.mixed, 'disk in an epoch')
        return s

    def kill(self, s, waiting=None):
        s.process.kill()
        s.process.wait()
        if waiting:  # it must not read from whoever gets the number of its socket
            waiting.join(20)
        s.qmp.close()
        for d in (self.disk, self.hidden, self.active):
            d.forget()

    # --- what is there afterwards ---

    def dumped(self, disk, name):
        if os.path.exists(self.path(name)):
            os.unlink(self.path(name))  # writing over it would wait for the disk
        with open(self.path(name), 'wb') as f:
            f.write(disk.data)
        return self.path(name)

    def image_is_sane(self, disk, name):
        """Both checkers: at worst leaks; one that says it is dirty may have to be repaired."""
        path = self.dumped(disk, f'{name}.check')
        if disk.data[79] & 1:
            subprocess.run(['qemu-img', 'check', '-q', '-T', 'unsafe', '-f', 'qcow2', '-r', 'all',
                            path], capture_output=True, check=True, timeout=30)
        for tool in ('qemu-img', TANDEM_IMG):
            run = subprocess.run([tool, 'check', '-f', 'qcow2', path], capture_output=True,
                                 text=True, timeout=30, check=False)
            self.assertIn(run.returncode, (0, 3), f'{tool} on {name}: {run.stdout}{run.stderr}')

    def chain_copies(self):
        return [self.dumped(disk, f'{name}.chain') for disk, name in (
            (self.active, 'active'), (self.hidden, 'hidden'), (self.disk, 'disk'))]

    def chain_options(self):
        """Active over hidden over disk, as words of --image-opts, on copies."""
        a, h, d = self.chain_copies()
        return ('driver=qcow2,file.driver=file,file.filename=' + a +
                ',backing.driver=qcow2,backing.file.driver=file,backing.file.filename=' + h +
                ',backing.backing.driver=raw,backing.backing.file.driver=file,'
                'backing.backing.file.filename=' + d)

    def chain_reads(self, want, what, tools=('qemu-img', TANDEM_IMG)):
        """Stock QEMU and we read that in the chain."""
        for tool in tools:
            out = f'{os.path.basename(tool)}.raw'
            if os.path.exists(self.path(out)):
                os.unlink(self.path(out))
            subprocess.run([tool, 'convert', '-t', 'unsafe', '--image-opts', self.chain_options(),
                            '-O', 'raw', self.path(out)], check=True, timeout=30)
            self.same(self.content(out), want, f'{what}, {tool}')

    def images_are_empty(self):
        for disk, name in ((self.active, 'active'), (self.hidden, 'hidden')):
            self.image_is_sane(disk, name)
        self.chain_reads(self.disk.data, 'chain of empty images', (TANDEM_IMG,))

    def of_both(self, got, *either):
        """Each byte is one of those."""
        for at, (byte, *may) in enumerate(zip(got, *either)):
            if byte not in may:
                self.fail(f'byte {at:#x} is {byte:#x}, not one of {may}')

    def works_again(self, name):
        """The same images after a resync, which here is no more than to be equal."""
        s = self.in_epoch(name, bytes(self.disk.data))
        s.failover()
        self.same(self.top.read_all(), self.view, 'view after failover')
        self.assertEqual(s.quit(), 0)
        self.same(self.disk.data, self.view, 'disk after failover')
        self.images_are_empty()

    # --- told to go ---

    def failing_disk(self, part):
        """It refuses writes after so many."""
        left = [part]

        def fail(kind, *_):
            left[0] -= kind in (WRITE, WRITE_ZEROES)
            return EIO if left[0] < 0 and kind in (WRITE, WRITE_ZEROES) else 0
        self.disk.fail = fail

    def chain_is_the_view(self, what):
        for disk, name in ((self.active, 'active'), (self.hidden, 'hidden')):
            self.image_is_sane(disk, name)
        self.chain_reads(self.view, what)

    def merged_by_hand(self):
        """With nothing but QEMU's tool: name the backing files, commit twice."""
        a, h, d = self.chain_copies()
        for args in (['rebase', '-t', 'unsafe', '-u', '-f', 'qcow2', '-F', 'raw', '-b', d, h],
                     ['rebase', '-t', 'unsafe', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', h, a],
                     ['commit', '-q', '-t', 'unsafe', a], ['commit', '-q', '-t', 'unsafe', h]):
            subprocess.run(['qemu-img', *args], check=True, timeout=30)
        self.same(self.content('disk.chain'), self.view, 'disk after qemu-img commit')

    def merged_by_block_commit(self, name):
        host = self.host(name).start([
            f'if=none,id=d,node-name=disk,driver=raw,{self.disk.drive("file")}',
            f'if=none,id=top,driver=qcow2,{self.active.drive("file")},backing.driver=qcow2,'
            f'{self.hidden.drive("backing.file")},backing.backing=disk'])
        host.serve('top')
        self.same(self.client(host, 'top').read_all(), self.view, 'chain in a new process')
        self.prompt(host, 'block-commit', device='top', job_id='merge', base_node='disk')
        host.qmp.wait_event('BLOCK_JOB_READY', 20)
        self.prompt(host, 'block-job-complete', device='merge')
        host.qmp.wait_event('BLOCK_JOB_COMPLETED', 20, lambda d: 'error' not in d)
        self.assertEqual(host.quit(), 0)
        self.same(self.disk.data, self.view, 'disk after block-commit')

    def test_what_a_failed_failover_has_not_merged_outlives_the_process(self):
        for part in (0, 3):
            with self.subTest(part=part):
                self.disks(f'D{part}')
                s = self.in_epoch(f'F{part}')
                self.failing_disk(part)
                self.start_failover(s)
                self.wait_stage(s, 'failover-failed')
                self.top.write(600 * KIB, b'\xcc' * 9 * KIB)
                self.view = patched(self.view, (600 * KIB, b'\xcc' * 9 * KIB))
                self.same(self.top.read_all(), self.view, 'view after a failed failover')
                self.assertEqual(s.quit(), 0)
                self.disk.fail = {}
                self.chain_is_the_view('chain after a failed failover and quit')
                self.merged_by_hand()
                self.merged_by_block_commit(f'M{part}')

    def test_quit_in_a_merge_keeps_the_view(self):
        """Whether what is left of it can be done or not."""
        for fails in (False, True):
            with self.subTest(fails=fails):
                self.disks(f'D{fails}')
                s = self.in_epoch(f'S{fails}')
                self.disk.hold_after(4)
                self.start_failover(s)
                self.assertTrue(self.disk.held.wait(20))
                going = Background(s.quit)
                if fails:
                    self.failing_disk(0)
                self.disk.left = None
                self.disk.go.set()
                self.assertEqual(going.result(), 0)
                self.chain_is_the_view('chain after quit in a merge')

    def test_a_cancelled_merge_leaves_the_disk_connected(self):
        """With nobody there who flushes, quit gives the merge up; the rest still needs the disk."""
        self.disks()
        s = self.in_epoch()
        self.prompt(s, 'nbd-server-stop')
        self.disk.hold_after(4)
        self.start_failover(s)
        self.assertTrue(self.disk.held.wait(20))
        self.prompt(s, 'quit')
        time.sleep(.4)  # if this is too short nothing is proved, but nothing fails
        self.disk.left = None
        self.disk.go.set()
        self.assertEqual(s.process.wait(20), 0)
        s.qmp.close()
        self.assertEqual(s.log_text(), '')
        self.chain_is_the_view('chain after a merge that was given up')

    def test_a_slow_disk_gets_all_of_it(self):
        """The end has patience with who answers, however long it takes altogether."""
        self.disks()
        s = self.in_epoch()
        self.failing_disk(0)
        self.start_failover(s)
        self.wait_stage(s, 'failover-failed')

        def slow(*_):
            time.sleep(.1)
            return 0
        self.hidden.fail = self.active.fail = slow
        begin = time.monotonic()
        self.assertEqual(s.quit(60), 0)
        self.assertGreater(time.monotonic() - begin, 2.5)
        self.chain_is_the_view('chain after a slow end')

    def test_what_cannot_be_kept_is_told(self):
        self.disks()
        s = self.in_epoch()
        self.failing_disk(0)
        self.start_failover(s)
        self.wait_stage(s, 'failover-failed')
        self.hidden.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        self.assertEqual(s.quit(), 0)
        self.assertRegex(s.log_text(), 'warning: node .* cannot be stored')
        self.image_is_sane(self.active, 'active')
        self.image_is_sane(self.hidden, 'hidden')

    # --- killed ---

    def killed_in_merge(self, k):
        """After k requests to the disk; False if the merge needs no more."""
        s = self.in_epoch(f'K{k}')
        self.disk.hold_after(k)
        self.start_failover(s)
        if k > 2 and self.stage_comes(s, 'done', self.disk.held):
            return False
        self.assertTrue(self.disk.held.wait(20))
        self.kill(s)
        self.of_both(self.disk.data, self.view, self.mixed)
        self.images_are_empty()
        return True

    def stage_comes(self, s, stage, or_else):
        """True if the stage comes before that is set."""
        while not or_else.wait(.01):
            if self.stage(s) == stage:
                return not or_else.is_set()
        return False

    def test_killed_anywhere_in_a_merge(self):
        k = 0
        while True:
            self.disks(f'D{k}')
            if not self.killed_in_merge(k):
                break
            k += 1
        self.assertGreater(k, 4)
        self.disks('again')
        self.killed_in_merge(k // 2)
        self.works_again('again')

    def test_killed_after_a_flush_of_the_guest_in_a_merge(self):
        """What it acknowledged is on the disk, and so is all else that the view showed."""
        self.disks()
        s = self.in_epoch()
        self.disk.hold_after(1)
        self.start_failover(s)
        self.assertTrue(self.disk.held.wait(20))
        self.top.send(WRITE, 300 * KIB, 5 * KIB, b'\xcc' * 5 * KIB)
        flushed = Background(lambda: (self.top.reply(), self.top.flush()))
        self.disk.left = None
        self.disk.go.set()
        flushed.result()
        self.kill(s)
        self.view = patched(self.view, (300 * KIB, b'\xcc' * 5 * KIB))
        self.same(self.disk.data, self.view, 'disk after a flush and kill -9')
        self.images_are_empty()

    def test_killed_anywhere_in_a_start(self):
        """Over images that a clean end, or another kill, has left."""
        self.disks()
        for layer in ('hidden', 'active'):
            k = 0
            while True:
                s = self.secondary(name=f'{layer}{k}', disk=self.disk, hidden=self.hidden,
                                   active=self.active)
                held = getattr(self, layer)
                held.hold_after(k)
                starting = Background(s.replicate, False)
                while starting.is_alive() and not held.held.wait(.01):
                    pass
                done = not held.held.is_set()
                self.kill(s, starting)
                self.same(self.disk.data, pattern(SIZE), 'disk after a start')
                self.images_are_empty()
                if done:
                    break
                k += 1
            self.assertGreater(k, 3)
        self.works_again('again')


if __name__ == '__main__':
    if not shutil.which('qemu-img'):
        sys.exit(77)
    unittest.main()
