#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest's kernel as the client: Linux with virtio-blk on QEMU's NBD client, the
disk served by tandem-nbd. The guest reads what the host has written and the host
reads, with tools of others, what the guest has left.
"""

import hashlib
import os
import random
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'scripts'))

import nbdlib  # noqa: E402
from lab import guest  # noqa: E402

MIB = 1 << 20

# Disk of 16 MiB: what the host wrote below 4 MiB, then the guest's part.
RAW_JOB = '''
echo "SIZE $(cat /sys/block/vda/size)"
echo "READ $(dd if=/dev/vda bs=1M count=4 2>/dev/null | sha256sum | cut -d' ' -f1)"
dd if=/data of=/dev/vda bs=64k seek=64 conv=notrunc 2>/dev/null || exit 1
dd if=/data of=/dev/vda bs=512 seek=20001 conv=notrunc,fsync 2>/dev/null || exit 1
blkdiscard -o 1048576 -l 1048576 /dev/vda || exit 1
sync
'''

# An ext4 file system made on the host.
FILES_JOB = '''
mount -t ext4 /dev/vda /mnt || exit 1
sha256sum </mnt/from-host | sed 's/ .*//; s/^/READ /'
mkdir /mnt/d && cp /data /mnt/d/from-guest && rm /mnt/from-host || exit 1
for i in $(seq 20); do echo "line $i" >>/mnt/d/lines; sync; done
umount /mnt
'''


class InGuest(unittest.TestCase):
    def setUp(self):
        self.folder = nbdlib.Folder()
        self.addCleanup(self.folder.remove)
        seed = int(os.environ.get('TANDEM_SEED', random.randrange(1 << 32)))
        print(f'# {self.id()}: TANDEM_SEED={seed}', flush=True)
        self.random = random.Random(seed)
        self.data = self.random.randbytes(MIB + 512)

    def run_guest(self, job, image, fmt):
        """Boot @job on @image, wait until it is over; the guest, for what it said."""
        initramfs = self.folder('initramfs')
        guest.make_initramfs(initramfs, KERNEL.modules, job, [('data', self.data)])
        vm = guest.Guest('guest', self.folder.path, KERNEL.image, initramfs)
        self.addCleanup(vm.end)
        with nbdlib.tandem(self.folder('nbd'), image, '-f', fmt, '--discard', 'unmap') as server:
            vm.start({'type': 'unix', 'path': server.socket}, '')
            ended = vm.wait_for('JOB ENDED (.*)', timeout=150)
            self.assertEqual(ended.group(1), '0', vm.text())
            self.assertEqual(vm.wait(), 0, vm.text())
            self.assertEqual(server.stop(), 0)
        return vm

    def said(self, vm, word):
        return vm.wait_for(word + ' (.*)').group(1)

    def test_raw_reads_and_writes_on_qcow2(self):
        content = bytearray(self.random.randbytes(4 * MIB) + bytes(12 * MIB))
        raw, image = self.folder.image('raw', 16 * MIB, content), self.folder('disk.qcow2')
        nbdlib.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, image)
        vm = self.run_guest(RAW_JOB, image, 'qcow2')
        self.assertEqual(self.said(vm, 'SIZE'), str(16 * MIB // 512))
        self.assertEqual(self.said(vm, 'READ'), hashlib.sha256(content[:4 * MIB]).hexdigest())
        for offset in (4 * MIB, 20001 * 512):
            content[offset:offset + len(self.data)] = self.data
        content[MIB:2 * MIB] = bytes(MIB)
        nbdlib.run('qemu-img', 'check', '-f', 'qcow2', image)
        nbdlib.run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, raw)
        with open(raw, 'rb') as f:
            self.assertTrue(f.read() == content, 'the image is not what the guest has written')

    def test_file_system_on_raw(self):
        image = self.folder.image('disk.raw', 32 * MIB)
        source = self.folder.image('source', len(self.data), self.data[::-1])
        nbdlib.run(guest.find_program('mkfs.ext4'), '-q', '-F', image)
        debugfs = guest.find_program('debugfs')
        nbdlib.run(debugfs, '-w', '-R', f'write {source} from-host', image)
        vm = self.run_guest(FILES_JOB, image, 'raw')
        self.assertEqual(self.said(vm, 'READ'), hashlib.sha256(self.data[::-1]).hexdigest())
        nbdlib.run(guest.find_program('e2fsck'), '-f', '-n', image)
        self.assertEqual(self.cat(debugfs, image, 'd/from-guest'), self.data)
        self.assertEqual(self.cat(debugfs, image, 'd/lines').decode().split('\n'),
                         [f'line {i}' for i in range(1, 21)] + [''])
        self.assertEqual(self.cat(debugfs, image, 'from-host'), b'')

    def cat(self, debugfs, image, path):
        done = subprocess.run([debugfs, '-R', f'cat {path}', image], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=True)
        return done.stdout


def prepare():
    """What each guest needs; without it the script is skipped."""
    nbdlib.need('qemu-img')
    try:
        for program in (guest.QEMU, 'busybox', 'cpio', 'mkfs.ext4', 'debugfs', 'e2fsck'):
            guest.find_program(program)
        return guest.kernel(os.path.join(os.path.abspath(nbdlib.BUILD), 'guest-kernel'),
                            lambda text: print('# ' + text, flush=True))
    except guest.NoGuest as e:
        print(f'1..0 # SKIP no guest: {e}')
        sys.exit(77)


if __name__ == '__main__':
    KERNEL = prepare()
    unittest.main(verbosity=2, warnings='ignore')
