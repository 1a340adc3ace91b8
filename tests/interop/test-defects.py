#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What has been seen going wrong in block replication elsewhere, each provoked
against real processes: one test a defect, named after what is right.
"""

import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from replhosts import (  # noqa: E402
    BUILD, KIB, MIB, SIZE, TANDEM_IMG, Background, Replicated, patched, pattern)
from nbddisk import Client  # noqa: E402
from lab.nbd import FLUSH, NbdError, READ, TRIM, WRITE, WRITE_ZEROES  # noqa: E402

EIO, EPERM, ENOSPC = 5, 1, 28


class Defects(Replicated):
    def test_01_bytes_that_are_no_sector_arrive_exactly(self):
        p, s = self.pair()
        want = pattern(SIZE)
        with_p = self.client(p)
        for offset, length in ((1000, 50), (511, 2), (4095, 4098), (SIZE - 7, 7)):
            data = bytes([0xee]) * length
            with_p.write(offset, data)
            want = patched(want, (offset, data))
        self.same(self.client(s, 'parent0').read_all(), want, 'disk of the secondary')
        self.same(with_p.read_all(), want, 'disk of the primary')
        self.well(p)

    def test_02_start_refused_for_a_bad_top_id_works_once_cured(self):
        s = self.host('S').start(self.chain(top='later')[:2])
        s.serve('parent0')
        for _ in range(3):
            self.refused(s, 'xen-set-replication', enable=True, primary=False)
            self.assertEqual(self.stage(s), 'none')
        s.qmp.cmd('blockdev-add', driver='quorum', node_name='later', vote_threshold=1,
                  read_pattern='fifo', children=['childs0'])
        s.replicate(primary=False)
        self.assertEqual(self.stage(s), 'running')
        self.well(s)

    def failing_over(self):
        """A secondary whose disk waits: its failover goes on until disk.go is set."""
        disk = self.nbd_disk('disk', pattern(SIZE))
        s = self.secondary(disk=disk)
        s.replicate(primary=False)
        top, peer = self.client(s), self.client(s, 'parent0')
        top.write(0, b'\xaa' * 64 * KIB)
        peer.write(128 * KIB, b'\xbb' * 64 * KIB)
        disk.seen.clear()
        disk.go.clear()
        self.start_failover(s)
        disk.wait_for(WRITE)
        return s, disk, top, peer, patched(pattern(SIZE), (0, b'\xaa' * 64 * KIB))

    def test_03_status_is_fine_during_a_healthy_failover(self):
        s, disk, top, _, view = self.failing_over()
        for _ in range(5):
            self.well(s)
            info = self.prompt(s, 'query-replication')[0]
            self.assertEqual(info['stage'], 'failover')
            self.assertNotIn('error', info)
            self.assertLess(info['failover']['current'], info['failover']['total'])
        disk.go.set()
        self.wait_stage(s, 'done')
        self.well(s)
        self.same(top.read_all(), view, 'view')
        self.same(disk.data, view, 'disk')

    def test_04_a_read_error_is_a_reply(self):
        local = self.nbd_disk('local', pattern(SIZE))
        p = self.primary(local=local.drive('children.0.file'))
        client = self.client(p)
        local.fail = lambda kind, offset, length: (
            EIO if kind == READ and offset < 64 * KIB + 512 and offset + length > 64 * KIB else 0)
        for offset, length in ((64 * KIB, 512), (0, 256 * KIB)):
            with self.assertRaises(NbdError) as caught:
                client.read(offset, length)
            self.assertEqual(caught.exception.errno, EIO)
        self.same(client.read(512 * KIB, 4096), pattern(SIZE)[512 * KIB:][:4096], 'another place')

    def test_05_reads_do_not_wait_for_a_silent_secondary(self):
        p, s = self.pair()
        writer, reader = self.client(p, timeout=30), self.client(p)
        self.freeze(s)
        writer.send(WRITE, 0, 4096, b'w' * 4096)
        self.same(reader.read(64 * KIB, SIZE - 64 * KIB), pattern(SIZE)[64 * KIB:], 'read')
        self.assertEqual(sum(e[0] for e in reader.status(64 * KIB, 128 * KIB)), 128 * KIB)
        for command in ('query-block', 'query-named-block-nodes', 'query-replication',
                        'query-xen-replication-status', 'query-block-exports'):
            self.prompt(p, command)
        self.thaw(s)
        writer.reply()
        self.well(p)

    def test_06_a_connection_to_the_own_server_gets_an_answer(self):
        p = self.primary()
        server = {'type': 'inet', 'host': '127.0.0.1', 'port': str(p.port)}
        self.refused(p, 'blockdev-add', driver='nbd', node_name='self', server=server,
                     export='nobody')
        self.prompt(p, 'blockdev-add', driver='nbd', node_name='self', server=server,
                    export='colo-disk0')
        self.prompt(p, 'blockdev-del', node_name='self')

    def test_07_status_and_event_tell_why_a_checkpoint_fails(self):
        hidden = self.nbd_qcow2('hidden')
        s = self.secondary(hidden=hidden)
        s.replicate(primary=False)
        peer, top = self.client(s, 'parent0'), self.client(s)
        hidden.fail = {WRITE: EIO, WRITE_ZEROES: EIO, TRIM: EIO, FLUSH: EIO}
        with self.assertRaises(NbdError):
            peer.write(0, b'x' * 4096)
        ev = self.error_event(s, 'copy')
        self.assertEqual((ev['errno'], ev['offset']), (EIO, 0))
        self.in_trouble(s)
        self.same(top.read_all(), pattern(SIZE), 'view')

    def test_07b_emptying_needs_no_disk(self):
        """A checkpoint while nothing below can be written succeeds, and is one."""
        hidden, active = self.nbd_qcow2('hidden'), self.nbd_qcow2('active')
        s = self.secondary(hidden=hidden, active=active)
        s.replicate(primary=False)
        peer, top = self.client(s, 'parent0'), self.client(s)
        peer.write(0, b'x' * 4096)
        top.write(8192, b'y' * 4096)
        broken = {WRITE: EIO, WRITE_ZEROES: EIO, TRIM: EIO, FLUSH: EIO}
        hidden.fail = active.fail = broken
        s.checkpoint()
        self.well(s)
        self.same(top.read_all(), patched(pattern(SIZE), (0, b'x' * 4096)), 'view')
        self.assertEqual(self.prompt(s, 'query-replication')[0]['epoch'], 2)

    def test_08_a_failed_checkpoint_leaves_the_old_epoch_on_every_disk(self):
        hidden = self.nbd_qcow2('hidden')
        lines = self.chain(0) + self.chain(1, hidden=hidden)
        s = self.host('S').start(lines)
        s.serve('parent0', 'parent1', 'colo-disk0', 'colo-disk1')
        s.replicate(primary=False)
        peers = [self.client(s, f'parent{n}') for n in (0, 1)]
        tops = [self.client(s, f'colo-disk{n}') for n in (0, 1)]
        for peer, top in zip(peers, tops):
            peer.write(0, b'x' * 4096)
            top.write(64 * KIB, b'y' * 4096)
        view = patched(pattern(SIZE), (64 * KIB, b'y' * 4096))
        hidden.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        with self.assertRaises(NbdError):
            peers[1].write(256 * KIB, b'x' * 4096)
        for _ in range(2):
            self.refused(s, 'xen-colo-do-checkpoint')
        self.assertEqual({r['epoch'] for r in self.prompt(s, 'query-replication')}, {1})
        peers[0].write(0, b'z' * 128 * KIB)  # the copies of the old epoch still count
        for top in tops:
            self.same(top.read_all(), view, 'view after a refused checkpoint')
        hidden.fail = {}
        self.start_failover(s)
        for n in (0, 1):
            s.qmp.wait_event('REPLICATION_STAGE_CHANGE', 20, lambda d: d['stage'] == 'done')
        for top in tops:
            self.same(top.read_all(), view, 'view after failover')
        self.assertEqual(s.quit(), 0)
        for name in ('S0.raw', 'S1.raw'):
            self.same(self.content(name), view, name)

    def test_09_failover_works_once_the_cause_of_its_failure_is_cured(self):
        disk = self.nbd_disk('disk', pattern(SIZE))
        s = self.secondary(disk=disk)
        s.replicate(primary=False)
        top, peer = self.client(s), self.client(s, 'parent0')
        top.write(4096, b'y' * 8192)
        peer.write(0, b'x' * 64 * KIB)
        view = patched(pattern(SIZE), (4096, b'y' * 8192))
        disk.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        for _ in range(2):
            self.start_failover(s)
            self.wait_stage(s, 'failover-failed')
            self.error_event(s, 'failover')
            self.assertTrue(s.status()['error'])
            self.same(top.read_all(), view, 'view after a failed failover')
        disk.fail = {}
        top.write(512 * KIB, b'q' * 4096)
        view = patched(view, (512 * KIB, b'q' * 4096))
        self.start_failover(s)
        self.wait_stage(s, 'done')
        self.well(s)
        self.same(top.read_all(), view, 'view after failover')
        self.same(disk.data, view, 'disk')

    def test_10_the_guest_sees_errors_of_the_primarys_disk(self):
        """Class 1: neither writes nor reads are masked by the copy."""
        local = self.nbd_disk('local', pattern(SIZE))
        p, _ = self.pair(primary=self.primary(local=local.drive('children.0.file')))
        client = self.client(p)
        local.fail = {WRITE: EIO, WRITE_ZEROES: ENOSPC, FLUSH: EIO}
        for kind, err in ((WRITE, EIO), (WRITE_ZEROES, ENOSPC), (FLUSH, EIO)):
            with self.assertRaises(NbdError) as caught:
                client.request(kind, 0, 0 if kind == FLUSH else 4096,
                               b'x' * 4096 if kind == WRITE else b'')
            self.assertEqual(caught.exception.errno, err)
        p.qmp.wait_event('QUORUM_REPORT_BAD', 5, lambda d: d['type'] == 'write')
        local.fail = {READ: EIO}
        with self.assertRaises(NbdError):
            client.read(0, 4096)
        local.fail = {}
        self.same(client.read(0, 4096), pattern(SIZE)[:4096], 'read')

    def test_11_dd_copies_what_skip_and_count_say(self):
        usage = subprocess.run([TANDEM_IMG, '--help'], stdout=subprocess.PIPE, timeout=20,
                               check=True).stdout
        if b'\n  dd ' not in usage:
            self.skipTest('tandem-img has no dd')
        self.raw('in')
        for args in (['bs=4096', 'skip=3', 'count=5'], ['bs=1000', 'skip=7', 'count=9'],
                     ['bs=512', 'skip=2000', 'count=99'], ['bs=65536', 'skip=15']):
            subprocess.run(['dd', *args, f'if={self.path("in")}', f'of={self.path("want")}',
                            'status=none'], check=True, timeout=20)
            subprocess.run([TANDEM_IMG, 'dd', '-f', 'raw', '-O', 'raw', *args,
                            f'if={self.path("in")}', f'of={self.path("out")}'], check=True,
                           timeout=20, stdout=subprocess.DEVNULL)
            want = self.content('want')
            got = self.content('out')
            self.same(got[:len(want)], want, ' '.join(args))
            self.assertLess(len(got) - len(want), 512)
            self.assertFalse(any(got[len(want):]))

    def test_12_a_trim_leaves_the_unaligned_rest_alone(self):
        image, sock = self.raw('image'), self.path('nbd')
        server = subprocess.Popen(
            [os.path.join(BUILD, 'tools', 'tandem-nbd'), '-k', sock, '-t', '-e', '0', '-f', 'raw',
             '--discard=unmap', image], stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait, 20)
        self.addCleanup(server.kill)
        end = time.monotonic() + 10
        while not os.path.exists(sock) and time.monotonic() < end:
            time.sleep(0.01)
        self.trim_unaligned(self.socket_client(sock))
        p = self.primary()
        self.trim_unaligned(self.client(p))

    def socket_client(self, path):
        client = Client(path, '')
        self.addCleanup(client.sock.close)
        return client

    def trim_unaligned(self, client):
        want = pattern(SIZE)
        for offset, length in ((100, 100), (1000, 100001), (300 * KIB - 1, 64 * KIB + 3),
                               (SIZE - 10001, 10001)):
            client.trim(offset, length)
            got = client.read_all()
            want = patched(want, (offset, got[offset:offset + length]))
            self.same(got, want, f'around a trim of {length} bytes at {offset}')

    def test_13_failover_fences_the_old_primary_first(self):
        s, disk, top, peer, view = self.failing_over()
        for _ in range(2):
            for kind in (WRITE, WRITE_ZEROES, TRIM):
                with self.assertRaises(NbdError) as caught:
                    peer.request(kind, 0, 4096, b'o' * 4096 if kind == WRITE else b'')
                self.assertEqual(caught.exception.errno, EPERM)
            disk.go.set()
            self.wait_stage(s, 'done')
            self.same(top.read_all(), view, 'view')
        self.same(disk.data, view, 'disk')

    def test_14_a_checkpoint_is_a_point_between_requests(self):
        s = self.secondary()
        s.replicate(primary=False)
        quarter = SIZE // 4
        self.client(s, 'parent0').write(0, bytes([1]) * 2 * quarter)
        s.checkpoint()
        stop = threading.Event()

        def write(export, offset):
            client = self.client(s, export, timeout=30)
            for n in itertools.count(1):
                if stop.is_set():
                    return n
                client.write(offset, bytes([n % 255 + 1]) * quarter)

        writers = [Background(write, 'parent0', 0), Background(write, 'parent0', quarter),
                   Background(write, 'colo-disk0', 2 * quarter),
                   Background(write, 'colo-disk0', 3 * quarter)]
        top = self.client(s)
        try:
            for _ in range(40):
                s.checkpoint()
                first = top.read(0, 2 * quarter)
                for half in (first[:quarter], first[quarter:]):
                    self.assertEqual(half.count(half[0]), quarter, 'half of a request')
                self.same(top.read(0, 2 * quarter), first, 'the same epoch read again')
        finally:
            stop.set()
        for w in writers:
            self.assertGreater(w.result(), 3)
        self.well(s)

    def silent_with_a_write(self):
        p, s = self.pair()
        guest = self.client(p, timeout=30)
        self.freeze(s)
        guest.send(WRITE, 4096, 4096, b'g' * 4096)
        time.sleep(0.1)
        return p, s, guest

    def test_15_a_silent_copy_is_removed_at_once(self):
        p, _, guest = self.silent_with_a_write()
        self.prompt(p, 'x-blockdev-change', parent='colo-disk0', child='children.1')
        guest.reply()
        self.assertTrue(p.status()['error'])
        self.assertIn('error', self.prompt(p, 'query-replication')[0])
        self.assertEqual(self.prompt(p, 'human-monitor-command',
                                     command_line='drive_del replication0'), '')
        self.prompt(p, 'xen-set-replication', enable=False, primary=True, failover=True)
        self.same(guest.read_all(), patched(pattern(SIZE), (4096, b'g' * 4096)), 'disk')
        self.assertEqual(p.quit(), 0)

    def test_15b_stop_does_not_wait_for_a_silent_copy(self):
        for command, args in (('xen-set-replication', {'enable': False, 'primary': True}),
                              ('x-colo-lost-heartbeat', {})):
            p, s, guest = self.silent_with_a_write()
            self.prompt(p, command, **args)
            guest.reply()
            self.assertEqual(self.stage(p), 'done')
            guest.flush()       # of the own disk alone: nothing is forwarded any more
            self.prompt(p, 'x-blockdev-change', parent='colo-disk0', child='children.1')
            self.assertEqual(self.prompt(p, 'human-monitor-command',
                                         command_line='drive_del replication0'), '')
            guest.write(0, b'h' * 4096)
            self.assertEqual(p.quit(), 0)
            s.kill()

    def test_15c_a_copy_whose_disk_is_silent_is_removed_at_once(self):
        """Its server answers, and takes the connection that comes after the one given up."""
        for stop in (False, True):
            disk = self.nbd_disk(f'disk{stop}', pattern(SIZE))
            p, s = self.pair(primary=self.primary(name=f'P{stop}'), name=f'S{stop}', disk=disk)
            guest = self.client(p)
            disk.go.clear()
            guest.send(WRITE, 0, 4096, b'g' * 4096)
            time.sleep(.1)
            if stop:
                self.prompt(p, 'xen-set-replication', enable=False, primary=True)
                guest.reply()
                for _ in range(3):
                    with contextlib.suppress(NbdError):
                        guest.write(8192, b'i' * 4096)
                    time.sleep(.3)
                    guest.flush()   # nothing is forwarded any more
            self.prompt(p, 'x-blockdev-change', parent='colo-disk0', child='children.1')
            if not stop:
                guest.reply()
            time.sleep(1)
            self.assertEqual(self.prompt(p, 'human-monitor-command',
                                         command_line='drive_del replication0'), '')
            guest.write(0, b'h' * 4096)
            self.assertEqual(p.quit(), 0)
            s.kill()

    def test_16_quit_does_not_wait_for_a_silent_secondary(self):
        p, _, _ = self.silent_with_a_write()
        self.assertEqual(p.quit(15), 0)

    def test_17_stop_without_failover_keeps_what_the_primary_wrote(self):
        s = self.secondary()
        s.replicate(primary=False)
        peer, top = self.client(s, 'parent0'), self.client(s)
        peer.write(0, b'x' * 70000)
        top.write(4096, b'y' * 4096)
        want = patched(pattern(SIZE), (0, b'x' * 70000))
        self.prompt(s, 'xen-set-replication', enable=False, primary=False)
        self.assertEqual(self.stage(s), 'done')
        self.well(s)
        self.same(top.read_all(), want, 'top after stop')
        top.write(8192, b'z' * 4096)
        want = patched(want, (8192, b'z' * 4096))
        self.assertEqual(s.quit(), 0)
        self.same(self.content('S0.raw'), want, 'disk')

    def test_18_overlapping_writes_end_alike_on_both_sides(self):
        p, s = self.pair()
        seed = random.randrange(1 << 32)
        print(f'# {self.id()}: seed {seed}', flush=True)

        def write(byte):
            rnd, client = random.Random(seed + byte), self.client(p, timeout=30)
            for n in range(150):
                offset, length = rnd.randrange(64 * KIB), rnd.choice((1, 512, 4096, 40000))
                if rnd.random() < 0.8:
                    client.write(offset, bytes([byte * 32 + n % 32]) * length)
                else:
                    client.zero(offset, length)

        for w in [Background(write, n) for n in range(1, 7)]:
            w.result(60)
        self.same(self.client(s, 'parent0').read_all(), self.client(p).read_all(),
                  'secondary against primary')
        self.well(p)

    def test_18b_a_write_waits_for_the_one_it_overlaps(self):
        """... on both sides, whichever of them is slow."""
        local = self.nbd_disk('local', pattern(SIZE))
        copy = self.nbd_disk('copy', pattern(SIZE))
        p, first = self.filter_on(copy, self.primary(local=local.drive('children.0.file')))
        second = self.client(p)
        for slow, fast in ((local, copy), (copy, local)):
            slow.seen.clear()
            fast.seen.clear()
            slow.go.clear()
            first.send(WRITE, 0, data=b'1' * 8192)
            slow.wait_for(WRITE)
            fast.wait_for(WRITE)
            second.send(WRITE, 4096, data=b'2' * 8192)
            time.sleep(0.2)
            self.assertEqual((len(slow.seen), len(fast.seen)), (1, 1), 'both in flight')
            slow.go.set()
            first.reply()
            second.reply()
            self.same(copy.data[:16 * KIB], local.data[:16 * KIB], 'copy against disk')
            self.same(local.data[:12 * KIB], b'1' * 4096 + b'2' * 8192, 'disk')

    def test_19_failover_works_from_what_is_readable(self):
        hidden = self.nbd_qcow2('hidden')
        s = self.secondary(hidden=hidden)
        s.replicate(primary=False)
        peer, top = self.client(s, 'parent0'), self.client(s)
        peer.write(0, b'x' * 4096)
        top.write(64 * KIB, b'y' * 4096)
        view = patched(pattern(SIZE), (64 * KIB, b'y' * 4096))
        hidden.fail = {k: EIO for k in (READ, WRITE, WRITE_ZEROES, TRIM, FLUSH)}
        with self.assertRaises(NbdError):
            peer.write(256 * KIB, b'x' * 4096)
        self.start_failover(s)
        self.wait_stage(s, 'failover-failed')
        self.error_event(s, 'copy')
        self.error_event(s, 'failover')
        self.same(top.read(64 * KIB, 512 * KIB), view[64 * KIB:][:512 * KIB], 'what is readable')
        hidden.fail = {k: EIO for k in (WRITE, WRITE_ZEROES, TRIM, FLUSH)}
        self.start_failover(s)
        self.wait_stage(s, 'done')
        self.same(top.read_all(), view, 'view')
        self.assertEqual(s.quit(), 0)
        self.same(self.content('S0.raw'), view, 'disk')

    def test_20_all_disks_start_or_none(self):
        for bad, good in ((0, 1), (1, 0)):  # one is tried first, one last
            drives = {bad: self.chain(bad, f'B{bad}-', top=f'later{bad}')[:2],
                      good: self.chain(good, f'B{bad}-')}
            s = self.host(f'S{bad}').start(drives[0] + drives[1])
            s.serve('parent0', 'parent1', f'colo-disk{good}')
            for _ in range(2):
                self.refused(s, 'xen-set-replication', enable=True, primary=False)
                self.assertEqual(set(self.stages(s).values()), {'none'})
            s.qmp.cmd('blockdev-add', driver='quorum', node_name=f'later{bad}', vote_threshold=1,
                      read_pattern='fifo', children=[f'childs{bad}'])
            s.replicate(primary=False)
            self.assertEqual(set(self.stages(s).values()), {'running'})
            top, peer = self.client(s, f'colo-disk{good}'), self.client(s, f'parent{good}')
            peer.write(0, b'x' * 4096)
            self.same(top.read_all(), pattern(SIZE), 'view')
            s.checkpoint()
            self.same(top.read(0, 4096), b'x' * 4096, 'view')
            self.assertEqual(s.quit(), 0)

    def test_21_a_dead_server_is_told_at_once(self):
        p, s = self.pair()
        s.kill()
        ev = self.error_event(p, 'link')
        self.assertEqual((ev['mode'], ev['epoch'], ev['node-name']),
                         ('primary', 1, 'replication0'))
        self.in_trouble(p)
        guest = self.client(p)
        guest.write(0, b'x' * 4096)
        guest.flush()
        self.in_trouble(p)
        self.assertEqual(self.prompt(p, 'query-replication')[0]['error']['missed-bytes'], 4096)
        self.same(guest.read_all(), patched(pattern(SIZE), (0, b'x' * 4096)), 'disk')

    def test_22_a_zero_write_crosses_the_wire_as_one(self):
        disk = self.nbd_disk('copy', pattern(SIZE))
        _, guest = self.filter_on(disk)
        guest.zero(0, SIZE)
        self.assertEqual([seen[:3] for seen in disk.seen], [(WRITE_ZEROES, 0, SIZE)])
        self.same(disk.data, bytes(SIZE), 'copy')

    def test_22b_64_mib_of_zeroes_are_few_bytes(self):
        size = 64 * MIB
        local = f'children.0.file.driver=file,children.0.file.filename={self.path("big")}'
        for name in ('big', 'big2'):
            with open(self.path(name), 'wb') as f:
                f.truncate(size)
        port, count = self.counting_proxy()
        p = self.primary(local=local)
        s = self.host('S').start([
            f'if=none,id=parent0,driver=raw,file.driver=file,file.filename={self.path("big2")}'])
        s.serve('parent0')
        count['to'] = s.port
        p.attach_primary_filter(port)
        p.replicate(primary=True)
        self.client(p).zero(0, size)
        self.well(p)
        self.assertGreater(count['bytes'], 0)
        self.assertLess(count['bytes'], 100 * KIB)

    def counting_proxy(self):
        """A port whose connections go to count['to']; counts the bytes that way."""
        count = {'bytes': 0, 'to': None}
        listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(listener.close)

        def pump(a, b, way):
            try:
                while data := a.recv(1 << 20):
                    count['bytes'] += way * len(data)
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def accept():
            try:
                while True:
                    a, _ = listener.accept()
                    b = socket.create_connection(('127.0.0.1', count['to']))
                    for args in ((a, b, 1), (b, a, 0)):
                        threading.Thread(target=pump, args=args, daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1], count

    def test_23_a_discard_is_passed_on(self):
        disk = self.nbd_disk('copy', pattern(SIZE))
        _, guest = self.filter_on(disk)
        guest.trim(64 * KIB, 128 * KIB)
        self.assertEqual([seen[:3] for seen in disk.seen], [(TRIM, 64 * KIB, 128 * KIB)])

    def test_24_resize_under_replication_is_refused(self):
        p, s = self.pair()
        for host in (p, s):
            nodes = [n['node-name'] for n in self.prompt(host, 'query-named-block-nodes')]
            for node in nodes:
                for size in (SIZE // 2, 2 * SIZE):
                    self.refused(host, 'block_resize', node_name=node, size=size)
        for host, device in ((p, 'colo-disk0'), (s, 'colo-disk0'), (s, 'parent0')):
            self.refused(host, 'block_resize', device=device, size=2 * SIZE)
        guest = self.client(p)
        self.assertEqual(guest.size, SIZE)
        guest.write(SIZE - 512, b'e' * 512)
        self.well(p)
        self.well(s)

    def test_25_a_running_secondary_closes_in_any_order(self):
        for order in itertools.permutations(('colo-disk0', 'childs0', 'parent0')):
            s = self.secondary()
            s.replicate(primary=False)
            self.client(s, 'parent0').write(0, b'x' * 4096)
            self.prompt(s, 'nbd-server-stop')
            for name in order:
                self.prompt(s, 'human-monitor-command', command_line=f'drive_del {name}')
                self.prompt(s, 'query-named-block-nodes')
            self.assertEqual(s.quit(), 0, order)

    def test_25b_nodes_of_a_running_secondary_close_in_any_order(self):
        def file(path):
            return {'driver': 'file', 'filename': path}

        for order in itertools.permutations(('top', 'repl', 'sec')):
            s = self.host('S').start([])
            s.qmp.cmd('blockdev-add', driver='raw', node_name='sec', file=file(self.raw('sec')))
            s.serve('sec')
            s.qmp.cmd('blockdev-add', driver='replication', node_name='repl', mode='secondary',
                      top_id='top', file={
                          'driver': 'qcow2', 'file': file(self.qcow2('active')), 'backing': {
                              'driver': 'qcow2', 'file': file(self.qcow2('hidden')),
                              'backing': 'sec'}})
            s.qmp.cmd('blockdev-add', driver='quorum', node_name='top', vote_threshold=1,
                      read_pattern='fifo', children=['repl'])
            s.replicate(primary=False)
            self.client(s, 'sec').write(0, b'x' * 4096)
            for name in order:
                self.refused(s, 'blockdev-del', node_name=name)
            self.well(s)
            self.assertEqual(s.quit(), 0, order)


class Classes(Replicated):
    """The classes of failure that no row above covers."""

    def test_2_a_write_or_flush_that_is_lost_is_latched_and_told(self):
        for kind, operation in ((WRITE, 'write'), (FLUSH, 'flush'), (TRIM, 'discard'),
                                (WRITE_ZEROES, 'write')):
            disk = self.nbd_disk(f'copy-{kind}', pattern(SIZE))
            p, guest = self.filter_on(disk, self.primary(name=f'P{kind}'))
            guest.write(0, b'a' * 512)  # something to flush
            disk.fail = {kind: EIO}
            guest.request(kind, 0, 0 if kind == FLUSH else 4096,
                                   b'x' * 4096 if kind == WRITE else b'')
            self.error_event(p, operation)
            self.in_trouble(p)
            p.kill()

    def test_3_a_copy_that_fails_is_latched_on_both_sides(self):
        hidden = self.nbd_qcow2('hidden')
        p, s = self.pair(hidden=hidden)
        hidden.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        guest = self.client(p)
        guest.write(0, b'x' * 4096)
        self.error_event(s, 'copy')
        self.error_event(p, 'write')
        self.in_trouble(s)
        self.in_trouble(p)
        self.same(self.client(s).read_all(), pattern(SIZE), 'view')

    def test_4_a_disk_of_the_secondary_that_fails_is_told(self):
        disk = self.nbd_disk('disk', pattern(SIZE))
        p, s = self.pair(disk=disk)
        disk.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        self.client(p).write(0, b'x' * 4096)
        self.error_event(p, 'write')
        self.in_trouble(p)
        self.error_event(s, 'disk')
        self.in_trouble(s)

    def test_5_the_secondarys_guest_sees_errors_of_the_active_disk(self):
        active = self.nbd_qcow2('active')
        s = self.secondary(active=active)
        s.replicate(primary=False)
        top = self.client(s)
        active.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        with self.assertRaises(NbdError) as caught:
            top.write(0, b'x' * 4096)
        self.assertEqual(caught.exception.errno, EIO)
        self.same(top.read_all(), pattern(SIZE), 'view')
        self.well(s)
        active.fail = {}
        top.write(0, b'x' * 4096)

    def test_a_full_hidden_disk_is_told_at_once(self):
        hidden = self.nbd_qcow2('hidden')
        s = self.secondary(hidden=hidden)
        s.replicate(primary=False)
        self.well(s)
        hidden.fail = {WRITE: ENOSPC, WRITE_ZEROES: ENOSPC}
        with self.assertRaises(NbdError) as caught:
            self.client(s, 'parent0').write(0, b'x' * 4096)
        self.assertEqual(caught.exception.errno, ENOSPC)
        self.in_trouble(s)
        self.assertEqual(self.error_event(s, 'copy')['errno'], ENOSPC)


class Events(Replicated):
    def moves(self, host):
        """The stage changes told so far; the reply to a command comes behind them."""
        self.prompt(host, 'query-replication')
        return [(e['data']['previous'], e['data']['stage']) for e in host.qmp.events
                if e['event'] == 'REPLICATION_STAGE_CHANGE']

    def test_every_move_of_a_secondary_is_an_event(self):
        disk = self.nbd_disk('disk', pattern(SIZE))
        s = self.secondary(disk=disk)
        s.replicate(primary=False)
        self.client(s).write(0, b'y' * 4096)
        disk.fail = {WRITE: EIO, WRITE_ZEROES: EIO}
        self.start_failover(s)
        self.wait_stage(s, 'failover-failed')
        disk.fail = {}
        self.start_failover(s)
        self.wait_stage(s, 'done')
        self.assertEqual(self.moves(s), [('none', 'running'), ('running', 'failover'),
                                         ('failover', 'failover-failed'),
                                         ('failover-failed', 'failover'), ('failover', 'done')])

    def test_every_move_of_a_primary_and_of_a_stop_is_an_event(self):
        p, s = self.pair()
        for host, primary in ((p, True), (s, False)):
            self.prompt(host, 'xen-set-replication', enable=False, primary=primary)
            self.assertEqual(self.moves(host), [('none', 'running'), ('running', 'done')])


if __name__ == '__main__':
    unittest.main(verbosity=2, warnings='ignore')
