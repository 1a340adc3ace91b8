#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 against stock QEMU: each reads what the other has written, and its
checker agrees with ours."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ['TANDEM_BUILD']
IO = os.path.join(BUILD, 'tools/tandem-io')
CMD = os.path.join(BUILD, 'tests/interop/qcow2-cmd')
SIZES = [1 << bits for bits in range(9, 22)]
EVENTS = '''l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load
    l2_update l2_alloc_cow_read l2_alloc_write read_aio write_aio cow_read cow_write reftable_load
    reftable_grow reftable_update refblock_load refblock_update_part refblock_alloc
    refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks
    refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_free flush_to_os
    flush_to_disk pwritev pwritev_zero pwritev_done'''.split()
FEW = [512, 4096, 65536, 2097152]


def run(*args, ok=True):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=60)
    if ok and p.returncode != 0:
        raise AssertionError(f'{args}: exit {p.returncode}\n{p.stdout}{p.stderr}')
    return p


def ours(image, *args, ok=True):
    return run(CMD, image, *args, ok=ok)


def img(*args, ok=True):
    return run('qemu-img', *args, ok=ok)


def qio(image, *commands):
    args = []
    for c in commands:
        args += ['-c', c]
    p = run('qemu-io', '-f', 'qcow2', *args, image)
    assert 'failed' not in p.stdout, p.stdout


class Qcow2(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='tandem-qcow2-')
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def both_check(self, image):
        img('check', '-q', image)
        ours(image, 'check')

    def test_ours_is_read_by_qemu(self):
        for size in SIZES:
            for version in ('v2', 'v3') if size in FEW else ('v3',):
                a = self.path('a')
                ours(a, 'create', 10 << 20, size, version)
                ours(a, 'write', 100, 5000, 17, 'write', 3000000, 2000000, 34,
                     'discard', 3 << 20, 1 << 20)
                self.both_check(a)
                qio(a, 'read -P 17 100 5000', 'read -P 34 3000000 100000', 'read -P 0 0 100')
                qio(a, 'write -P 51 8000000 700000', 'discard 0 1M')
                ours(a, 'read', 8000000, 700000, 51, 'check')
                self.both_check(a)

    def test_qemus_is_read_by_us(self):
        for size in FEW:
            for options in ('compat=0.10', 'compat=1.1', 'refcount_bits=1', 'refcount_bits=64',
                            'preallocation=metadata', 'lazy_refcounts=on'):
                a = self.path('a')
                img('create', '-q', '-f', 'qcow2', '-o', f'cluster_size={size},{options}', a, '6M')
                qio(a, 'write -P 7 12345 1000000', 'write -z 2M 1M', 'write -P 9 5M 1M')
                ours(a, 'read', 12345, 1000000, 7, 'read', 2 << 20, 1 << 20, 0,
                     'read', 5 << 20, 1 << 20, 9, 'write', 1, 3000000, 11,
                     'discard', 1 << 20, 65536)
                qio(a, 'read -P 11 1 1000000', 'read -P 9 5M 1M')
                self.both_check(a)

    def test_compressed(self):
        raw, a = self.path('raw'), self.path('a')
        rng = random.Random(1)
        with open(raw, 'wb') as f:
            for _ in range(64):
                f.write(rng.randbytes(8192) + bytes(57344) + b'text ' * 13107 + b'x')
        for kind in ('zlib', 'zstd'):
            for size in (4096, 65536, 2097152):
                p = img('convert', '-c', '-O', 'qcow2', '-o',
                        f'cluster_size={size},compression_type={kind}', raw, a, ok=False)
                if p.returncode:
                    continue  # a QEMU without zstd
                ours(a, 'write', 1000, 100, 0xee, 'check')
                with open(raw, 'r+b') as f:
                    f.seek(1000)
                    f.write(b'\xee' * 100)
                img('compare', '-q', '-f', 'raw', '-F', 'qcow2', raw, a)
                ours(a, 'random', 5, 50)
                self.both_check(a)

    def test_chains(self):
        for depth in (1, 2, 3, 4):
            names = [self.path(f'{depth}-{i}') for i in range(depth + 1)]
            img('create', '-q', '-f', 'qcow2', names[0], '4M')
            qio(names[0], 'write -P 1 0 4M')
            for i in range(1, depth + 1):
                if i % 2:
                    ours(names[i], 'create', 4 << 20, 4096 << i, 'v3', names[i - 1], 'qcow2')
                else:
                    img('create', '-q', '-f', 'qcow2', '-b', names[i - 1], '-F', 'qcow2', names[i])
                ours(names[i], 'write', i * 300001, 200000, 10 + i, 'zero', 3 << 20, 65536)
            flat = self.path('flat')
            img('convert', '-O', 'qcow2', names[-1], flat)
            ours(flat, 'read', 3 << 20, 65536, 0)
            for i in range(1, depth + 1):
                ours(names[-1], 'read', i * 300001, 200000, 10 + i)
            img('compare', '-q', names[-1], flat)
            self.both_check(names[-1])

    def test_random_writes_agree(self):
        a, b = self.path('a'), self.path('b')
        for size in (512, 4096, 65536):
            ours(a, 'create', 64 << 20, size, 'v3')
            ours(a, 'random', 3, 2000, 'flush', 'random', 4, 100)
            img('convert', '-O', 'raw', a, b)
            img('compare', '-q', '-f', 'qcow2', '-F', 'raw', a, b)
            self.both_check(a)

    def test_scratch_becomes_an_image(self):
        base, a = self.path('base'), self.path('a')
        img('create', '-q', '-f', 'qcow2', base, '64M')
        qio(base, 'write -P 5 0 64M')
        for size in (512, 65536, 2097152):
            for version in ('v2', 'v3'):
                ours(a, 'create', 64 << 20, size, version, base, 'qcow2')
                ours(a, 'metadata-policy=scratch', 'random', 9, 100, 'empty',
                     'read', 0, 64 << 20, 5,
                     'write', 777, 5000, 99, 'zero', 1 << 20, 1 << 20)
                self.both_check(a)
                qio(a, 'read -P 99 777 5000', 'read -P 5 0 777', 'read -P 0 1M 1M',
                    'read -P 5 2M 62M')

    def test_our_empty_is_qemus_empty(self):
        a = self.path('a')
        for options in ('cluster_size=512', 'cluster_size=65536', 'compat=0.10'):
            img('create', '-q', '-f', 'qcow2', '-o', options, a, '32M')
            qio(a, 'write -P 5 0 20M')
            ours(a, 'empty')
            self.both_check(a)
            self.assertLess(os.stat(a).st_size, 1 << 20)
            qio(a, 'read -P 0 0 32M', 'write -P 1 0 4M')
            self.both_check(a)

    def test_resize(self):
        a = self.path('a')
        ours(a, 'create', 1 << 20, 512, 'v3')
        ours(a, 'write', 0, 1 << 20, 3, 'truncate', 40 << 20, 'write', 39 << 20, 1 << 20, 4)
        qio(a, 'read -P 3 0 1M', 'read -P 0 1M 38M', 'read -P 4 39M 1M')
        self.both_check(a)
        ours(a, 'truncate', 1 << 20)
        self.both_check(a)
        img('resize', '-q', a, '2M')
        ours(a, 'read', 0, 1 << 20, 3, 'read', 1 << 20, 1 << 20, 0)

    def test_repairs_what_qemu_left_dirty(self):
        a = self.path('a')
        img('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', a, '16M')
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 6 0 4M', '-c', 'flush',
                        '-c', 'sigraise 9', a], capture_output=True, timeout=60)
        self.assertEqual(img('check', '-q', a, ok=False).returncode, 2)
        ours(a, 'read', 0, 4 << 20, 6, 'check')
        self.both_check(a)

    def test_an_error_at_any_event_leaves_no_corruption(self):
        """blkdebug:CONFIG:IMAGE, one error at each event; both checkers find leaks at most."""
        a, config = self.path('a'), self.path('config')
        failures = 0
        for event in EVENTS:
            ours(a, 'create', 4 << 20, 512, 'v3')
            with open(config, 'w', encoding='ascii') as f:
                f.write(f'[inject-error]\nevent = "{event}"\nonce = "on"\n')
            work = ['write -P 1 0 1M', 'flush', 'write -P 2 100 1000', 'write -z 1M 64k', 'flush',
                    'discard 0 256k', 'flush', 'flush', 'truncate 8M', 'write -P 3 6M 1M', 'flush']
            p = run(IO, *[x for c in work for x in ('-c', c)], f'blkdebug:{config}:{a}', ok=False)
            failures += p.returncode != 0
            self.assertIn(img('check', '-q', a, ok=False).returncode, (0, 3), event)
            run(BUILD + '/tools/tandem-img', 'check', '-q', '-r', 'leaks', a)
            self.both_check(a)
        self.assertGreater(failures, 15)

    def test_tells_corruption(self):
        """A line on stderr, once: as QEMU's tools for what both name alike."""
        a, l2_at = self.path('a'), 4 << 16
        img('create', '-q', '-f', 'qcow2', a, '16M')
        qio(a, 'write -P 6 0 64k')

        def told(tool, entry, *args):
            with open(a, 'r+b') as f:
                f.seek(72)
                f.write(bytes(8))
                f.seek(l2_at)
                f.write((1 << 63 | entry).to_bytes(8, 'big'))
            p = run(*tool, *args, a, ok=False)
            self.assertEqual(p.returncode, 1)
            return p.stderr

        commands = '-c', 'write 0 4k', '-c', 'write 4k 4k'
        theirs, ours_said = [told([tool], l2_at, *commands) for tool in ('qemu-io', IO)]
        self.assertEqual(ours_said, theirs)
        self.assertIn('Marking image as corrupt', theirs)
        for tool in ('qemu-io', IO):
            said = told([tool], l2_at | 512, '-r', '-c', 'read 0 4k', '-c', 'read 4k 4k')
            self.assertRegex(said, '^qcow2: Image is corrupt: .*; further non-fatal corruption '
                             'events will be suppressed\n$')
        for tool in ('qemu-img', BUILD + '/tools/tandem-img'):
            said = told([tool], l2_at | 512, 'bench', '-f', 'qcow2', '-w', '-c', '1')
            self.assertRegex(said, 'qcow2: Marking image as corrupt: .*; further corruption '
                             'events will be suppressed\n')

    def test_repairs_what_is_marked_corrupt(self):
        """Refused for writing, mended by check -r, and then written: by both."""
        a = self.path('a')
        for tool in ('qemu', BUILD + '/tools/tandem'):
            for bits, repair, left in ((2, 'all', 0), (3, 'all', 0), (2, 'leaks', 0)):
                img('create', '-q', '-f', 'qcow2', a, '16M')
                qio(a, 'write -P 6 0 64k')
                with open(a, 'r+b') as f:
                    f.seek(72)
                    f.write(bits.to_bytes(8, 'big'))
                p = run(tool + '-io', '-c', 'write 0 4k', a, ok=False)
                self.assertIn('Image is corrupt; cannot be opened read/write', p.stderr)
                run(tool + '-img', 'check', '-q', '-r', repair, a)
                with open(a, 'rb') as f:
                    f.seek(72)
                    self.assertEqual(int.from_bytes(f.read(8), 'big'), left, (tool, repair))
                self.both_check(a)

    def test_refuses_by_name(self):
        a = self.path('a')
        for options, word in (('extended_l2=on', 'xtended L2'),
                              (f'data_file={self.path("d")}', 'external data file')):
            img('create', '-q', '-f', 'qcow2', '-o', options, a, '1M')
            p = ours(a, 'check', ok=False)
            self.assertIn(word, p.stderr)
        img('create', '-q', '-f', 'qcow2', a, '1M')
        img('snapshot', '-c', 's', a)
        self.assertIn('snapshots', ours(a, 'flush', ok=False).stderr)
        ours(a, 'read-only=on', 'read', 0, 65536, 0)
        img('create', '-q', '-f', 'qcow2', a, '1M')
        img('bitmap', '--add', a, 'b')
        self.assertIn('bitmaps', ours(a, 'flush', ok=False).stderr)


if __name__ == '__main__':
    if not shutil.which('qemu-img') or not shutil.which('qemu-io'):
        print('qemu-img or qemu-io is not installed')
        sys.exit(77)
    unittest.main()
