# SPDX-License-Identifier: GPL-2.0-or-later
"""tandem-img does, says and returns what qemu-img does, says and returns."""

import json
import os
import re
import struct
import subprocess
import sys
import unittest

from imgpair import TOOLS, Pair, have_qemu


class Img(Pair):
    tool = 'img'

    def image(self, name, *commands, size='10M', fmt='qcow2', options=()):
        self.prepare('qemu-img', 'create', '-q', '-f', fmt, *options, name, size)
        if commands:
            args = [word for c in commands for word in ('-c', c)]
            self.prepare('qemu-io', '-f', fmt, *args, name)


class Create(Img):
    def test_formats_and_options(self):
        for argv in [
                ['-f', 'qcow2', 'a', '64M'],
                ['-f', 'raw', 'b', '10M'],
                ['c', '1'],
                ['-f', 'qcow2', '-o', 'cluster_size=4k,compat=0.10', 'd', '1M'],
                ['-f', 'qcow2', '-o', 'preallocation=metadata,lazy_refcounts=on,refcount_bits=8',
                 'e', '1M'],
                ['-f', 'raw', '-o', 'preallocation=full', 'f', '1M'],
                ['-f', 'qcow2', '-o', 'cluster_size=2M', '-o', 'size=3M', 'g'],
                ['-f', 'qcow2', 'with,comma', '1M'],
                ['-q', '-f', 'qcow2', 'h', '1M'],
                ['-f', 'qcow2', '-b', 'a', '-F', 'qcow2', 'i'],
                ['-f', 'qcow2', '-b', 'a', '-F', 'qcow2', 'j', '128M'],
                ['-u', '-f', 'qcow2', '-b', 'missing', '-F', 'raw', 'k', '1M']]:
            with self.subTest(argv):
                self.both('create', *argv)
        for name in 'bc':
            self.both('map', '-f', 'raw', '--output=json', name)
        for name in 'acdefghij':
            fmt = 'raw' if name in 'cf' else 'qcow2'
            self.same_content(name, fmt)
            self.assertEqual(os.path.getsize(self.path('q', name)) if fmt == 'raw' else 0,
                             os.path.getsize(self.path('t', name)) if fmt == 'raw' else 0)
            theirs, mine = self.qemu('info', name), self.ours('info', name)
            self.assertEqual(re.sub('disk size.*', '', mine.out),
                             re.sub('disk size.*', '', theirs.out))

    def test_refusals(self):
        self.image('a')
        for argv in [[], ['x'], ['x', '1Q'], ['x', '--', '-5'], ['x', '1M', '2M'],
                     ['-f', 'raw', '-o', 'foo=bar', 'x', '1M'], ['-f', 'foo', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'cluster_size=1000', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'cluster_size=xx', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'lazy_refcounts=xx', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'refcount_bits=xx', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'preallocation=xx', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'compat=xx', 'x', '1M'],
                     ['-f', 'qcow2', '-o', 'size=1M', 'x', '2M'],
                     ['-f', 'qcow2', '-b', 'a', 'x'],
                     ['-f', 'qcow2', '-b', 'a', '-F', 'qcow2', 'a'],
                     ['-f', 'qcow2', '-b', 'a', '-F', 'foo', 'x'],
                     ['-u', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2', 'x'],
                     ['-f', 'raw', '-b', 'a', 'x', '1M'], ['no/dir', '1M'],
                     ['-f', 'qcow2', 'no/dir', '1M'], ['-Z']]:
            with self.subTest(argv):
                self.assertEqual(self.both('create', *argv).status, 1)


class Info(Img):
    def test_human_and_json(self):
        self.image('base', 'write 0 1M')
        self.image('raw', fmt='raw')
        self.image('top', size='20M', options=['-b', 'base', '-F', 'qcow2'])
        os.mkdir(self.path('q', 'sub'))
        os.mkdir(self.path('t', 'sub'))
        self.image('sub/o', options=['-b', '../base', '-F', 'qcow2'])
        for argv in [['base'], ['top'], ['raw'], ['sub/o'], ['--backing-chain', 'top'],
                     ['-U', 'base'], ['-f', 'raw', 'base'],
                     ['--image-opts', 'driver=qcow2,file.filename=top']]:
            with self.subTest(argv):
                self.both('info', *argv)
                js = ['info', '--output=json', *argv]
                self.assertEqual(json.loads(self.ours(*js).out), json.loads(self.qemu(*js).out))

    def test_a_backing_file_that_does_not_open(self):
        for argv in [['-b', 'missing', '-F', 'raw'], ['-b', 'missing', '-F', 'qcow2'],
                     ['-b', 'missing', '-F', 'foo'], ['-b', 'missing']]:
            for size in ([], ['1M']):
                done = self.both('create', '-f', 'qcow2', *argv, 'x', *size)
                self.assertEqual(done.status, 1)

    def test_a_missing_backing_file_matters_to_a_chain_only(self):
        self.image('base')
        self.image('top', options=['-b', 'base', '-F', 'qcow2'])
        for side in 'qt':
            os.remove(self.path(side, 'base'))
        self.both('info', 'top')
        self.assertEqual(self.both('info', '--backing-chain', 'top', err=False).status, 1)

    def test_refusals(self):
        for argv in [[], ['missing'], ['--output=xx', 'x'], ['json:{}'], ['a', 'b']]:
            with self.subTest(argv):
                self.assertEqual(self.both('info', *argv).status, 1)
        self.assertEqual(self.both('info', '.', err=False).status, 1)


class Map(Img):
    def test_layers(self):
        self.image('base', 'write 0 64k', 'write 2M 100k')
        self.image('mid', 'write 1M 100k', 'write -z 2M 32k', options=['-b', 'base', '-F', 'qcow2'])
        self.image('top', 'write 9M 100k', 'write -z 3M 320k',
                   options=['-b', 'mid', '-F', 'qcow2'])
        self.image('raw', 'write 1M 64k', fmt='raw')
        for argv in [['base'], ['mid'], ['top'], ['-f', 'raw', 'raw'],
                     ['-s', '1M', '-l', '3M', 'top'], ['missing']]:
            with self.subTest(argv):
                self.both('map', *argv)
                self.both('map', '--output=json', *argv)

    def test_written_zeroes_are_zero_clusters(self):
        self.image('base', 'write -P 1 1M 128k')
        self.prepare('qemu-img', 'create', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'top')
        for name in 'base', 'top':
            maps = []
            for side, io in ('q', 'qemu-io'), ('t', os.path.abspath(f'{TOOLS}/tandem-io')):
                self.run_in(side, [io, *(w for c in (
                    'write -z 3M 64k', 'write -z 4M 1k', 'write -z -u 4608k 1k', 'discard 5M 64k',
                    'write -z 1120k 1k', 'write -z 1100k 1k', 'write -z 4100k 1k',
                    'write -P 2 6M 64k', 'write -z 6M 64k', 'write -z 6M 1k')
                    for w in ('-c', c)), name])
                maps.append(self.run_in(side, ['qemu-img', 'map', '--output=json', name]).out)
            self.assertEqual(re.sub('"offset": [0-9]+', '', maps[1]),
                             re.sub('"offset": [0-9]+', '', maps[0]))

    def test_behind_the_end_of_a_shorter_layer(self):
        self.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'low', '1M')
        for name, size, low, fmt in [('a', '3M', 'low', 'raw'), ('b', '4M', 'a', 'qcow2'),
                                     ('c', '1500k', 'b', 'qcow2'), ('d', '5M', 'c', 'qcow2')]:
            self.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', low, '-F', fmt, name,
                         size)
            self.prepare('qemu-io', '-c', 'write 1400k 64k', name)
            with self.subTest(name):
                self.both('map', name)
                self.both('map', '--output=json', name)

    def test_compressed_has_no_place(self):
        self.image('raw', 'write -P 3 0 1M', fmt='raw')
        self.prepare('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', 'raw', 'c')
        self.assertEqual(self.both('map', 'c').status, 1)


class Check(Img):
    def l2_entry(self, side, index, change):
        with open(self.path(side, 'i'), 'r+b') as f:
            f.seek(40)
            l1 = struct.unpack('>Q', f.read(8))[0]
            f.seek(l1)
            l2 = struct.unpack('>Q', f.read(8))[0] & 0xfffffffffffe00
            f.seek(l2 + 8 * index)
            entry = struct.unpack('>Q', f.read(8))[0]
            f.seek(l2 + 8 * change(entry)[0])
            f.write(struct.pack('>Q', change(entry)[1]))

    def damage(self, index, change):
        for side in 'qt':
            self.l2_entry(side, index, change)

    def test_clean(self):
        self.image('i', 'write 0 1M')
        self.both('check', 'i')
        self.both('check', '-q', 'i')
        js = ['check', '--output=json', 'i']
        self.assertEqual(json.loads(self.ours(*js).out), json.loads(self.qemu(*js).out))

    def test_leaks(self):
        self.image('i', 'write 0 1M')
        self.damage(0, lambda _: (0, 0))
        self.assertEqual(self.both('check', 'i', err=False).status, 3)
        self.assertEqual(self.both('check', '-r', 'leaks', 'i', err=False).status, 0)
        self.assertEqual(self.both('check', 'i').status, 0)

    def test_corruption(self):
        self.image('i', 'write 0 1M')
        self.damage(2, lambda entry: (0, entry))
        self.assertEqual(self.ours('check', 'i').status, 2)
        self.assertEqual(self.qemu('check', 'i').status, 2)
        self.assertEqual(self.ours('check', '-r', 'all', 'i').status, 0)
        done = subprocess.run(['qemu-img', 'check', self.path('t', 'i')], capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, 0)

    def test_refusals(self):
        self.image('raw', fmt='raw')
        self.assertEqual(self.both('check', '-f', 'raw', 'raw').status, 63)
        for argv in [[], ['missing'], ['-r', 'foo', 'raw'], ['-T', 'xx', 'raw']]:
            with self.subTest(argv):
                self.assertEqual(self.both('check', *argv).status, 1)


class Compare(Img):
    def test_verdicts(self):
        self.image('a', fmt='raw')
        self.image('b', size='12M', fmt='raw')
        self.image('c', 'write -P 5 5000 4k', fmt='raw')
        self.image('d', 'write -P 5 11M 4k', size='12M', fmt='raw')
        self.image('e')
        raw = ['-f', 'raw', '-F', 'raw']
        for status, argv in [(0, [*raw, 'a', 'a']), (0, ['-p', *raw, 'a', 'b']),
                             (1, ['-p', *raw, 'a', 'c']), (0, [*raw, 'a', 'b']),
                             (1, ['-s', *raw, 'a', 'b']),
                             (1, [*raw, 'a', 'c']), (1, [*raw, 'd', 'a']),
                             (1, ['-q', *raw, 'a', 'c']),
                             (0, ['-f', 'raw', '-F', 'qcow2', 'a', 'e']), (0, ['-s', 'e', 'e']),
                             (2, [*raw, 'missing', 'a']), (2, [*raw, '-T', 'xx', 'a', 'b']),
                             (1, ['a'])]:
            with self.subTest(argv):
                mine = self.both('compare', *argv, err=status != 1 or len(argv) > 1)
                self.assertEqual(mine.status, status)


class Resize(Img):
    def test_sizes(self):
        for argv in [['-f', 'raw', 'r', '+1M'], ['-f', 'raw', 'r', '5M'],
                     ['-f', 'raw', '--shrink', 'r', '5M'], ['-f', 'raw', '--shrink', 'r', '-1M'],
                     ['--shrink', '-f', 'raw', 'r', '-20M'], ['-f', 'raw', 'r', 'x'], ['r'], [],
                     ['--preallocation=full', '-f', 'raw', 'r', '+1M'],
                     ['--preallocation=foo', '-f', 'raw', 'r', '+1M'],
                     ['--preallocation=full', '--shrink', '-f', 'raw', 'r', '1M'],
                     ['q', '+5M'], ['-q', 'q', '+5M'], ['q', '+1'], ['--shrink', 'q', '5M'],
                     ['--preallocation=metadata', 'q', '+5M'], ['missing', '5M'],
                     ['-f', 'raw', 'r', '+0'], ['-f', 'raw', 'r', '--shrink', '1000']]:
            with self.subTest(argv):
                self.image('r', 'write 0 1M', fmt='raw')
                self.image('q', 'write 0 1M')
                self.both('resize', *argv)
                self.same_content('r', 'raw')
                self.same_content('q', 'qcow2')
                self.assertEqual(os.path.getsize(self.path('t', 'r')),
                                 os.path.getsize(self.path('q', 'r')))


class Convert(Img):
    def sources(self):
        self.image('r', 'write -P 7 0 1M', 'write -P 8 3M 100k', fmt='raw')
        self.image('base', 'write -P 1 0 64k', 'write -P 2 2M 100k')
        self.image('top', 'write -P 3 1M 100k', 'write -z 2M 32k', size='20M',
                   options=['-b', 'base', '-F', 'qcow2'])

    def test_contents(self):
        self.sources()
        for fmt, argv in [('qcow2', ['-f', 'raw', '-O', 'qcow2', 'r']), ('raw', ['top']),
                          ('qcow2', ['-O', 'qcow2', 'top']), ('raw', ['-f', 'raw', 'r', 'r']),
                          ('raw', ['-S', '0', '-f', 'raw', 'r']), ('raw', ['-W', '-f', 'raw', 'r']),
                          ('raw', ['-C', '-f', 'raw', 'r']), ('raw', ['-m', '1', 'top']),
                          ('raw', ['-r', '100M', 'top']),
                          ('qcow2', ['-S', '64k', '-O', 'qcow2', 'top']),
                          ('qcow2', ['-O', 'qcow2', '-o', 'cluster_size=4k,compat=0.10', 'top']),
                          ('qcow2', ['-O', 'qcow2', '-B', 'base', '-F', 'qcow2', 'top']),
                          ('raw', ['--image-opts', 'driver=qcow2,file.filename=top']),
                          ('raw', ['-t', 'none', '-T', 'writeback', 'top'])]:
            with self.subTest(argv):
                self.both('convert', *argv, 'out')
                self.same_content('out', fmt)
                keys = ['virtual-size', 'format', 'cluster-size', 'backing-filename']
                js = ['info', '--output=json', 'out']
                mine, theirs = json.loads(self.ours(*js).out), json.loads(self.qemu(*js).out)
                self.assertEqual([mine.get(k) for k in keys], [theirs.get(k) for k in keys])

    def test_holes_stay(self):
        self.sources()
        self.assertEqual(self.ours('convert', '-f', 'raw', 'r', 'out').status, 0)
        self.assertLess(os.stat(self.path('t', 'out')).st_blocks * 512, 1300 << 10)
        self.assertEqual(self.ours('convert', '-S', '0', '-f', 'raw', 'r', 'out').status, 0)
        self.assertGreaterEqual(os.stat(self.path('t', 'out')).st_blocks * 512, 10 << 20)

    def test_into_an_image_that_is_there(self):
        self.sources()
        self.image('old', 'write -P 9 0 10M', fmt='raw')
        self.image('small', size='1M', fmt='raw')
        self.both('convert', '-n', '-f', 'raw', '-O', 'raw', 'r', 'old')
        self.same_content('old', 'raw')
        self.assertEqual(self.both('convert', '-n', '-f', 'raw', '-O', 'raw', 'r',
        'small').status, 1)
        self.image('new', size='20M')
        self.both('convert', '-n', '--target-is-zero', '-O', 'qcow2', 'top', 'new')
        self.same_content('new', 'qcow2')

    def test_bad_sectors_can_be_left_out(self):
        self.image('r', 'write -P 7 0 1M', size='1M', fmt='raw')
        bad = ('driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=r,'
               'file.inject-error.0.event=none,file.inject-error.0.sector=1000'
               ',file.inject-error.0.iotype=read')
        self.assertEqual(self.ours('convert', '--image-opts', bad, 'o').status, 1)
        self.assertEqual(self.ours('convert', '-q', '--salvage', '--image-opts', bad, 'o').status,
        0)
        with open(self.path('t', 'o'), 'rb') as f:
            data = f.read()
        self.assertEqual(data[:512000], b'\x07' * 512000)
        self.assertEqual(data[512000:512512], bytes(512))
        self.assertEqual(data[512512:], b'\x07' * (len(data) - 512512))

    def test_refusals(self):
        self.sources()
        for argv in [[], ['r'], ['-f', 'raw', 'r', 'o', '-O', 'foo'], ['missing', 'o'],
                     ['-f', 'raw', 'r', 'no/dir'], ['-S', 'x', '-f', 'raw', 'r', 'o'],
                     ['-S', '100', '-f', 'raw', 'r', 'o'], ['-m', '17', '-f', 'raw', 'r', 'o'],
                     ['-m', '0', '-f', 'raw', 'r', 'o'], ['-C', '-S', '4k', '-f', 'raw', 'r', 'o'],
                     ['--target-is-zero', '-f', 'raw', 'r', 'o'],
                     ['-t', 'xx', '-f', 'raw', 'r', 'o'],
                     ['-T', 'xx', '-f', 'raw', 'r', 'o'],
                     ['-O', 'qcow2', '-o', 'x=y', '-f', 'raw', 'r', 'o'],
                     ['-O', 'qcow2', '-B', 'base', '-f', 'raw', 'r', 'o'],
                     ['-n', '-o', 'x=y', '-f', 'raw', 'r', 'o'],
                     ['-B', 'base', '-F', 'qcow2', '-f', 'raw', 'r', 'o'],
                     ['--salvage', '-C', '-f', 'raw', 'r', 'o']]:
            with self.subTest(argv):
                self.assertEqual(self.both('convert', *argv).status, 1)


class Dd(Img):
    def test_as_posix_dd(self):
        self.image('r', 'write -P 7 0 1M', 'write -P 8 3M 1M', fmt='raw')
        for argv in [['bs=1M', 'count=3'], ['bs=1M', 'skip=2'], ['bs=1M', 'skip=2', 'count=3'],
                     ['bs=1000', 'skip=7', 'count=1024'], ['skip=3'], ['bs=4k', 'count=0']]:
            with self.subTest(argv):
                mine = self.ours('dd', '-f', 'raw', '-O', 'raw', 'if=r', 'of=o', *argv)
                self.assertEqual((mine.status, mine.err), (0, ''))
                self.run_in('t', ['dd', 'if=r', 'of=p', 'status=none', *argv])
                with open(self.path('t', 'o'), 'rb') as a, open(self.path('t', 'p'), 'rb') as b:
                    want = b.read()
                    self.assertEqual(a.read(), want + bytes(-len(want) % 512))

    def test_refusals(self):
        self.image('r', fmt='raw')
        for argv in [['if=r'], ['of=x'], ['foo=1', 'if=a'], ['if=r', 'of=x', 'bs=0'],
                     ['if=r', 'of=x', 'bs=x'], ['if=missing', 'of=x']]:
            with self.subTest(argv):
                self.assertEqual(self.both('dd', *argv).status, 1)


class Bench(Img):
    def test_lines(self):
        self.image('r', size='16M', fmt='raw')
        self.image('q', size='16M')
        for argv in [[], ['-d', '2', '-s', '8k', '-S', '16k', '-w'],
                     ['-w', '--pattern', '3', '-d', '4',
                     '--flush-interval', '10'],
                     ['-w', '-d', '8', '--flush-interval', '10', '--no-drain'],
                     ['--flush-interval', '10'], ['-w', '--flush-interval', '10'], ['-o', '4k'],
                     ['-i', 'threads'], ['-i', 'io_uring'], ['-i', 'foo'], ['-t', 'foo'],
                     ['-w', '--pattern', '300'], ['-s', '20M']]:
            with self.subTest(argv):
                self.both('bench', '-c', '100', *argv, '-f', 'raw', 'r')
        self.both('bench', '-c', '500', '-w', '-s', '3000', 'q')
        self.same_content('q', 'qcow2')


class Refused(Img):
    def test_by_name(self):
        for name in ['amend', 'bitmap', 'commit', 'measure', 'rebase', 'snapshot']:
            done = self.ours(name, 'x')
            self.assertEqual((done.status, done.err.strip()),
                             (1, f"TOOL-img: Command '{name}' is not supported"))
        for argv in [['foo'], []]:
            self.assertEqual(self.both(*argv).status, 1)
        self.assertEqual(self.ours('--help').status, 0)
        self.assertEqual(self.ours('create', '--help').status, 0)

    def test_an_image_in_use_is_left_alone(self):
        self.image('q')
        hold = subprocess.Popen(['qemu-io', self.path('t', 'q')], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        try:
            hold.stdin.write(b'length\n')
            hold.stdin.flush()
            hold.stdout.readline()
            self.assertEqual(self.ours('info', 'q').status, 1)
            self.assertEqual(self.ours('info', '-U', 'q').status, 0)
            self.assertEqual(self.ours('create', '-f', 'qcow2', 'q', '1M').status, 1)
        finally:
            hold.communicate(b'quit\n')


if __name__ == '__main__':
    if not have_qemu():
        sys.exit(77)
    unittest.main(verbosity=2)
