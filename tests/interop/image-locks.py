# SPDX-License-Identifier: GPL-2.0-or-later
"""Image locks: the same bytes as QEMU, and each keeps the other out."""

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HOLD_IMAGE = os.path.join(os.environ.get('TANDEM_BUILD', 'build'), 'tests/interop/hold-image')
F_OFD_GETLK = 36
FLOCK = 'hhqqi4x'
BYTES = [base + i for base in (100, 200) for i in range(5)]


def locked_bytes(path):
    """The bytes that somebody holds a lock on."""
    found = []
    fd = os.open(path, os.O_RDWR)
    try:
        for at in BYTES:
            ask = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
            answer = fcntl.fcntl(fd, F_OFD_GETLK, ask)
            if struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK:
                found.append(at)
    finally:
        os.close(fd)
    return found


class Holder:
    """Our program with an image open."""

    def __init__(self, options, use):
        self.proc = subprocess.Popen([HOLD_IMAGE, json.dumps(options), use], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer = self.proc.stdout.readline().rstrip('\n')
        if self.answer != 'held':
            self.answer += '\n' + self.proc.stdout.read().rstrip('\n')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        self.proc.stdout.close()
        self.status = self.proc.wait(timeout=30)


class QemuIo:
    """qemu-io with an image open; it has it once it has answered."""

    def __init__(self, *args):
        self.proc = subprocess.Popen(['qemu-io', *args], text=True, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.proc.stdin.write('length\n')
        self.proc.stdin.flush()
        self.proc.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        self.proc.stdout.close()
        self.proc.wait(timeout=30)


def qemu_io(*args):
    done = subprocess.run(['qemu-io', *args, '-c', 'read 0 512'], text=True, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


class ImageLocks(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='image-locks-')
        self.raw = os.path.join(self.dir, 'disk.raw')
        self.qcow2 = os.path.join(self.dir, 'disk.qcow2')
        with open(self.raw, 'wb') as f:
            f.truncate(1 << 20)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.qcow2, '1M'], check=True)

    def tearDown(self):
        shutil.rmtree(self.dir)

    def file(self, path=None, **more):
        return {'driver': 'file', 'filename': path or self.raw, **more}

    def image(self, writable=True):
        """A node that uses its file as a format does, whatever formats this build has."""
        take = ['write', 'resize'] if writable else []
        return {'driver': 'blkdebug', 'read-only': not writable, 'image': self.file(self.qcow2),
                'take-child-perms': ['consistent-read', *take],
                'unshare-child-perms': ['write', 'resize']}

    def format(self, **more):
        options = {'driver': 'qcow2', 'file': self.file(self.qcow2), **more}
        with Holder({**options, 'force-share': True, 'read-only': True}, 'none') as h:
            if "does not accept value 'qcow2'" in h.answer:
                self.skipTest('this build has no driver qcow2')
        return options

    def check(self, options, use, path, want):
        with Holder(options, use) as h:
            self.assertEqual(h.answer, 'held')
            self.assertEqual(locked_bytes(path), want)
        self.assertEqual(h.status, 0)
        self.assertEqual(locked_bytes(path), [])

    # --- the bytes that QEMU holds in the same situations ---

    def test_no_user(self):
        self.check(self.file(), 'none', self.raw, [])

    def test_read_only_user(self):
        self.check(self.file(), 'read', self.raw, [100, 203])

    def test_writer(self):
        self.check(self.file(), 'write', self.raw, [100, 101, 203])

    def test_raw_passes_through(self):
        raw = {'driver': 'raw', 'file': self.file()}
        self.check(raw, 'read', self.raw, [100, 203])
        self.check(raw, 'write', self.raw, [100, 101, 203])

    def test_auto_read_only_goes_over_to_writing(self):
        self.check(self.file(**{'auto-read-only': True}), 'write', self.raw, [100, 101, 203])

    def test_locking_off(self):
        self.check(self.file(locking='off'), 'write', self.raw, [])

    def test_qcow2_writable(self):
        self.check(self.format(), 'none', self.qcow2, [100, 101, 103, 201, 203])
        self.check(self.format(), 'write', self.qcow2, [100, 101, 103, 201, 203])

    def test_qcow2_read_only(self):
        self.check(self.format(**{'read-only': True}), 'read', self.qcow2, [100, 201, 203])

    def test_qcow2_shared(self):
        options = self.format(**{'read-only': True, 'force-share': True})
        with Holder(options, 'none') as h:
            self.assertEqual(h.answer, 'held')
            self.assertEqual(locked_bytes(self.qcow2), [100])

    # --- we have it, QEMU wants it ---

    def test_qemu_is_kept_out(self):
        with Holder(self.image(), 'write'):
            status, text = qemu_io('-f', 'qcow2', self.qcow2)
            self.assertNotEqual(status, 0)
            self.assertIn('Failed to get "write" lock', text)
            status, text = qemu_io('-r', '-f', 'qcow2', self.qcow2)
            self.assertNotEqual(status, 0)
            self.assertIn('Failed to get shared "write" lock', text)
            status, _ = qemu_io('-r', '-U', '-f', 'qcow2', self.qcow2)
            self.assertEqual(status, 0)
        self.assertEqual(qemu_io('-f', 'qcow2', self.qcow2)[0], 0)

    def test_readers_of_both_kinds(self):
        with Holder(self.image(writable=False), 'read'):
            self.assertEqual(qemu_io('-r', '-f', 'qcow2', self.qcow2)[0], 0)
            self.assertNotEqual(qemu_io('-f', 'qcow2', self.qcow2)[0], 0)

    # --- QEMU has it, we want it ---

    def test_we_are_kept_out(self):
        with QemuIo('-f', 'qcow2', self.qcow2):
            with Holder(self.image(), 'write') as h:
                self.assertIn('Failed to get "write" lock', h.answer)
                self.assertIn(f'Is another process using the image [{self.qcow2}]?', h.answer)
            with Holder(self.image(writable=False), 'read') as h:
                self.assertIn('Failed to get shared "write" lock', h.answer)
        with Holder(self.image(), 'write') as h:
            self.assertEqual(h.answer, 'held')

    def test_we_read_beside_a_reader(self):
        with QemuIo('-r', '-f', 'qcow2', self.qcow2):
            with Holder(self.image(writable=False), 'read') as h:
                self.assertEqual(h.answer, 'held')
            with Holder(self.image(), 'write') as h:
                self.assertIn('Failed to get "write" lock', h.answer)

    def test_a_failed_open_leaves_no_lock(self):
        with QemuIo('-f', 'qcow2', self.qcow2):
            before = locked_bytes(self.qcow2)
            with Holder(self.image(), 'write'):
                self.assertEqual(locked_bytes(self.qcow2), before)

    # --- two of ours ---

    def test_two_processes(self):
        with Holder(self.image(), 'write'):
            with Holder(self.image(), 'write') as h:
                self.assertIn('Failed to get "write" lock', h.answer)
        with Holder(self.file(), 'write'):
            with Holder(self.file(), 'write') as h:
                self.assertEqual(h.answer, 'held')  # both share writing


if __name__ == '__main__':
    if not shutil.which('qemu-io') or not shutil.which('qemu-img'):
        print('qemu-io and qemu-img are not installed')
        sys.exit(77)
    unittest.main()
