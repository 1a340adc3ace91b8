# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd answers about statistics what qemu-system-x86_64 answers."""

import json
import os
import shutil
import subprocess
import sys
import unittest

QEMU = 'qemu-system-x86_64'
TANDEMD = os.path.join(os.environ.get('TANDEM_BUILD', 'build'), 'tools', 'tandemd')
DRIVE = ('if=none,id=d0,driver=null-co,size=1048576,read-zeroes=on,'
         'stats-intervals.0=10,stats-intervals.1=60,stats-account-failed=off')


class Monitor:
    """A program with QMP on its standard input and output."""

    def __init__(self, *argv):
        self.proc = subprocess.Popen(['timeout', '60', *argv], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        self.read()
        self.cmd('qmp_capabilities')

    def read(self):
        while True:
            line = self.proc.stdout.readline()
            assert line, 'the program has ended'
            if line.startswith('{'):      # QEMU's qemu-io prints there too
                message = json.loads(line)
                if 'event' not in message:
                    return message

    def cmd(self, name, **arguments):
        self.proc.stdin.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        self.proc.stdin.flush()
        return self.read()

    def histogram(self, device, **boundaries):
        named = {k.replace('_', '-'): v for k, v in boundaries.items()}
        reply = self.cmd('block-latency-histogram-set', id=device, **named)
        return reply.get('return', reply.get('error'))

    def stats(self):
        return self.cmd('query-blockstats')['return'][0]['stats']

    def close(self):
        self.cmd('quit')
        self.proc.communicate(timeout=20)


class Stats(unittest.TestCase):
    def setUp(self):
        self.qemu = Monitor(QEMU, '-M', 'pc', '-accel', 'tcg', '-S', '-nodefaults', '-display',
                            'none', '-qmp', 'stdio', '-drive', DRIVE,
                            '-device', 'ide-hd,drive=d0,id=dev0')
        self.addCleanup(self.qemu.close)
        self.tandem = Monitor(TANDEMD, '-chardev', 'stdio,id=c', '-mon', 'chardev=c,mode=control',
                              '-drive', DRIVE)
        self.addCleanup(self.tandem.close)

    def same_histograms(self):
        theirs, ours = self.qemu.stats(), self.tandem.stats()
        for kind in ('rd', 'wr', 'flush'):
            name = f'{kind}_latency_histogram'
            self.assertEqual(ours.get(name), theirs.get(name))

    def test_histograms(self):
        for args in ({'boundaries': [10, 20]}, {'boundaries': [0, 10]}, {'boundaries': [10, 10]},
                     {'boundaries_read': [5, 6]}, {'boundaries_write': [0]},
                     {'boundaries': [], 'boundaries_flush': [1, 2, 3]}, {'boundaries_flush': []},
                     {'boundaries': [1, 1 << 60]}, {}, {'boundaries': [1, 1 << 60]}):
            with self.subTest(args):
                theirs = self.qemu.histogram('dev0', **args)
                ours = self.tandem.histogram('d0', **args)
                self.assertEqual(ours.get('class'), theirs.get('class'))
                self.assertTrue(ours.get('desc', '').startswith(
                    theirs.get('desc', '').replace('dev0', 'd0')), (ours, theirs))
                self.same_histograms()
        self.assertEqual(self.tandem.histogram('x'), self.qemu.histogram('x'))
        for side in (self.qemu, self.tandem):
            for line in ('aio_read 0 4k', 'aio_read 512 4k'):
                side.cmd('human-monitor-command', **{'command-line': f'qemu-io d0 "{line}"'})
        self.same_histograms()
        self.assertEqual(self.tandem.stats()['rd_latency_histogram']['bins'], [0, 2, 0])

    def test_members(self):
        theirs, ours = self.qemu.stats(), self.tandem.stats()
        self.assertLessEqual(set(theirs), set(ours))
        for name in ('account_failed', 'account_invalid'):
            self.assertEqual(ours[name], theirs[name])
        for a, b in zip(theirs['timed_stats'], ours['timed_stats'], strict=True):
            self.assertEqual(a, {k: b[k] for k in a})     # all 0, but for the length


if __name__ == '__main__':
    if not shutil.which(QEMU):
        print(f'{QEMU} is not installed')
        sys.exit(77)
    unittest.main()
