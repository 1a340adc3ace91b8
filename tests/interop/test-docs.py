# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of docs/nbd.md work when they are pasted."""

import os
import re
import subprocess
import unittest
import xml.etree.ElementTree as xml

import nbdlib

nbdlib.need('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'qemu-nbd', 'qemu-system-x86_64')

TOP = os.environ.get('TANDEM_SOURCE', os.path.join(os.path.dirname(__file__), '..', '..'))


def blocks(kind):
    with open(os.path.join(TOP, 'docs', 'nbd.md'), encoding='utf-8') as f:
        return re.findall(rf'^```{kind}\n(.*?)^```$', f.read(), re.M | re.S)


class Pasted(unittest.TestCase):
    def test_shell(self):
        folder = nbdlib.Folder()
        self.addCleanup(folder.remove)
        lines = 'set -eux\n' + '\n'.join(blocks('sh'))
        # What a line left running ends with the test, in whatever state that is.
        lines = 'trap \'for p in *.pid; do kill "$(cat "$p")" || :; done\' EXIT\n' + lines
        tools = os.path.abspath(os.path.join(nbdlib.BUILD, 'tools'))
        done = subprocess.run(['bash', '-c', lines], cwd=folder.path, stdin=subprocess.DEVNULL,
                              env={**os.environ, 'PATH': f'{tools}:{os.environ["PATH"]}'},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        for program in 'tandem-nbd', 'tandemd', 'qemu-system-x86_64', 'nbdcopy', 'tandem-io':
            self.assertIn(f'+ {program} ', done.stdout)
        self.assertIn('read 1048576/1048576 bytes at offset 0', done.stdout)
        with open(folder('copy.img'), 'rb') as f:
            self.assertEqual(f.read(1 << 20), bytes([5]) * (1 << 20))

    def test_libvirt(self):
        """It is a disk of a domain: by libvirt's own schema where that is installed."""
        disk, = blocks('xml')
        source = xml.fromstring(disk).find('source')
        self.assertEqual((source.get('protocol'), source.find('host').get('transport')),
                         ('nbd', 'unix'))
        schema = os.environ.get('LIBVIRT_SCHEMAS', '/usr/share/libvirt/schemas') + '/domain.rng'
        if not os.path.exists(schema):
            self.skipTest(f'no {schema}')
        domain = '<domain type="kvm"><name>d</name><memory>65536</memory>' \
                 '<os><type arch="x86_64">hvm</type></os>' \
                 f'<devices>{disk}</devices></domain>'
        done = subprocess.run(['xmllint', '--noout', '--relaxng', schema, '-'], input=domain,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
    unittest.main()
