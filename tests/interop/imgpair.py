# SPDX-License-Identifier: GPL-2.0-or-later
"""Run one command line by QEMU's tool and by ours, and compare all that can be seen."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

TOOLS = os.path.join(os.environ.get('TANDEM_BUILD', 'build'), 'tools')


def have_qemu():
    return bool(shutil.which('qemu-img') and shutil.which('qemu-io'))


def normal(text):
    """Without what may differ: program names and times."""
    text = re.sub(r'\b(qemu|tandem)-(img|io|nbd)\b', r'TOOL-\2', text)
    text = re.sub(r'\b(qemu-storage-daemon|qemu-system-x86_64|tandemd)\b', 'DAEMON', text)
    text = re.sub(r'[0-9:.]+( sec)? \([0-9.e+]+ ([KMGTP]i)?(B|bytes)/sec and [0-9.e+-]+ ops/sec\)',
                  'TIME', text)
    text = re.sub(r',0:0\d:[0-9.]+,.*', ',TIME', text)
    text = re.sub(r'in [0-9.]+ seconds', 'in T seconds', text)
    return text.replace(', "compressed": false', '')


class Result:
    def __init__(self, proc):
        self.status = proc.returncode
        self.out = normal(proc.stdout)
        self.err = normal(proc.stderr)


class Pair(unittest.TestCase):
    """Two directories, 'q' for QEMU's tool and 't' for ours, that start the same."""

    tool = None
    maxDiff = None

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix='tandem-pair-')
        self.addCleanup(shutil.rmtree, self.top)
        for side in 'qt':
            os.mkdir(os.path.join(self.top, side))

    def path(self, side, name):
        return os.path.join(self.top, side, name)

    def run_in(self, side, argv, text=None):
        return Result(subprocess.run(argv, cwd=os.path.join(self.top, side), input=text,
                                     capture_output=True, text=True, timeout=60, check=False))

    def prepare(self, *argv):
        """By QEMU, in both directories."""
        for side in 'qt':
            done = self.run_in(side, list(argv))
            self.assertEqual(done.status, 0, done.err)

    def qemu(self, *argv):
        return self.run_in('q', ['qemu-' + self.tool, *argv])

    def ours(self, *argv, text=None):
        return self.run_in('t', [os.path.abspath(f'{TOOLS}/tandem-{self.tool}'), *argv], text)

    def both(self, *argv, err=True):
        """Output, exit status and (unless told otherwise) messages are the same."""
        theirs, mine = self.qemu(*argv), self.ours(*argv)
        self.assertEqual(mine.out, theirs.out, argv)
        if err:
            self.assertEqual(mine.err.rstrip(), theirs.err.rstrip(), argv)
        self.assertEqual(mine.status, theirs.status, argv)
        return mine

    def same_content(self, name, fmt=None):
        """The images in both directories read the same, and ours is sound."""
        args = ['-f', fmt, '-F', fmt] if fmt else []
        done = subprocess.run(['qemu-img', 'compare', *args, self.path('q', name),
                               self.path('t', name)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        if fmt == 'qcow2':
            done = subprocess.run(['qemu-img', 'check', self.path('t', name)],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
