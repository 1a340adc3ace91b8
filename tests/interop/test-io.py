# SPDX-License-Identifier: GPL-2.0-or-later
"""tandem-io does, says and returns what qemu-io does, says and returns."""

import os
import sys
import unittest

from imgpair import Pair, have_qemu


class Io(Pair):
    tool = 'io'

    def setUp(self):
        super().setUp()
        self.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'r', '11M')
        self.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'q', '10M')

    def commands(self, *commands, name='r', fmt='raw', args=()):
        """All in one run, and each in a run of its own for its exit status."""
        words = [word for c in commands for word in ('-c', c)]
        self.both('-f', fmt, *args, *words, name)
        for c in commands:
            with self.subTest(c):
                self.both('-f', fmt, *args, '-c', c, name)
        self.same_content(name, fmt)

    def test_read_and_write(self):
        self.commands('write -P 1 0 64k', 'read 0 64k', 'read -P 2 0 64k', 'read -v 0 40',
                      'read -q -P 3 0 512', 'read -P 1 -s 10 -l 20 0 64k', 'write -C 0 4k',
                      'writev 0 4k 8k', 'readv -P 205 0 4k 8k', 'write 0xa 1', 'write -q 0 4',
                      'write -f 0 4', 'write -z 0 64k', 'write -z -u 0 64k', 'write -z -n 0 64k',
                      'read 100M 1', 'write 100M 512', 'write -z 100M 512', 'r 0 512', 'w 0 512',
                      'readv 0 0', 'read -C 0 512')

    def test_numbers_and_flags(self):
        self.commands('read', 'read 0', 'read a b', 'read -Z 0 1', 'read 0 -5', 'read 0 3G',
                      'write -u 0 4', 'write -n 0 4', 'write -P 300 0 4', 'write -P -1 0 1',
                      'write -b -z 0 512', 'write -f -b 0 512', 'write -f -c 0 512',
                      'write -z -P 1 0 512', 'write -P 1 -s x 0 512', 'write -s missing 0 512',
                      'read -P 1 -l 70k 0 64k', 'read -P 1 -s 70k 0 64k', 'read -l 5 0 64k',
                      'read -P 1 -l x 0 64k', 'read 0 99999999999999999999', 'read 0 9e',
                      'write -r 0 16', 'writev 0 512 x', 'writev -Q 0', 'aio_write -u 0 512',
                      'aio_write -z 0 512 512', 'foo', 'length 3', 'truncate', 'sleep', 'sleep x',
                      'sleep 5 5', 'break', 'sigraise xx', 'abort 1', 'help foo')

    def test_in_the_background(self):
        for c in ['aio_read 0 4k', 'aio_write -P 3 0 4k', 'aio_read -P 4 0 4k', 'aio_read 100M 1',
                  'aio_write -z 0 64k', 'aio_read -v -q 0 16', 'aio_read -i 0 16']:
            self.both('-f', 'raw', '-c', c, '-c', 'aio_flush', 'r')
        self.same_content('r', 'raw')

    def test_a_pattern_file_is_repeated(self):
        for side in 'qt':
            with open(self.path(side, 'pattern'), 'w', encoding='ascii') as f:
                f.write('abcdefg')
        self.both('-f', 'raw', '-c', 'write -s pattern 512 1000', '-c', 'read -v 500 64', 'r')
        self.same_content('r', 'raw')

    def test_the_whole(self):
        self.commands('length', 'l', 'info', 'i', 'map', 'alloc 0 1M', 'alloc 10M 2M', 'alloc 20M',
                      'flush', 'f', 'truncate 12M', 'length', 'truncate xx', 'truncate -m xx 11M',
                      'discard 0 64k', 'discard 0 4', 'discard -q 0 4', 'discard -C 0 512',
                      'discard 100M 512', 'discard 0 3G', 't 11M', 'help', '?', 'sleep 1')

    def test_qcow2(self):
        self.commands('info', 'write -P 1 0 64k', 'write -P 1 2M 64k', 'map', 'alloc 0 10M',
                      'alloc 4M 1M', 'write 1M 10', 'map', 'truncate 12M', 'length',
                      'discard 0 64k', 'read -P 0 0 64k', name='q', fmt='qcow2')

    def test_reopening(self):
        self.both('-f', 'raw', '-c', 'reopen -r', '-c', 'write 0 512', '-c', 'reopen -w', '-c',
                  'write 0 512', '-c', 'reopen -c xx', '-c', 'reopen -c writeback', '-c',
                  'read -P 205 0 512', '-c', 'reopen x', '-c', 'reopen -r -w', 'r')
        self.both('-f', 'qcow2', '-r', '-c', 'write 0 512', '-c', 'reopen -w', '-c', 'write 0 512',
                  'q')
        self.same_content('q', 'qcow2')

    def test_opening(self):
        self.both('-f', 'raw', '-c', 'close', '-c', 'length', '-c', 'open -r r', '-c', 'length',
                  '-c', 'open r', '-c', 'close', '-c', 'open -o driver=raw,file.filename=r', '-c',
                  'length', '-c', 'quit', '-c', 'length', 'r')
        self.both('-c', 'length')
        self.assertEqual(self.both('missing').status, 1)
        self.assertEqual(self.both('-f', 'foo', 'r').status, 1)
        self.assertEqual(self.both('-t', 'foo', 'r').status, 1)
        self.both('-t', 'none', '-f', 'raw', '-c', 'write 0 100', '-c', 'read -P 205 0 100', 'r')
        self.both('-i', 'threads', '-f', 'raw', '-c', 'read 0 100', 'r')
        self.both('--image-opts', '-c', 'length', 'driver=qcow2,file.filename=q')

    def test_lines_from_standard_input(self):
        text = 'length\n\nfoo\nread 0 512\n'
        argv = ['-f', 'raw', 'r']
        mine = self.ours(*argv, text=text)
        theirs = self.run_in('q', ['qemu-io', *argv], text)
        self.assertEqual((mine.out, mine.err, mine.status), (theirs.out, theirs.err, theirs.status))
        quitting = self.ours(*argv, text='quit\nread 0 512\n')
        self.assertEqual((quitting.status, quitting.out), (0, 'TOOL-io> '))

    def test_breakpoints(self):
        debug = ['--image-opts', 'driver=qcow2,file.driver=blkdebug,file.image.driver=file,'
                 'file.image.filename=q']
        done = self.both(*debug, '-c', 'break write_aio A', '-c', 'aio_write 0 64k', '-c',
                         'wait_break A', '-c', 'sleep 10', '-c', 'resume A', '-c', 'aio_flush',
                         '-c', 'read -P 205 0 64k')
        self.assertEqual(done.status, 0)
        for c in ['break write_aio', 'break foo A', 'remove_break A', 'resume A']:
            self.assertEqual((self.ours(*debug, '-c', c).status, self.qemu(*debug, '-c', c).status),
                             (1, 1), c)
        for c in ['break write_aio A', 'remove_break A', 'resume A']:
            self.assertEqual(self.ours('-c', c, 'q').status, 1)


if __name__ == '__main__':
    if not have_qemu():
        sys.exit(77)
    unittest.main(verbosity=2)
