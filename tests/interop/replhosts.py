# SPDX-License-Identifier: GPL-2.0-or-later
"""Base of the replication tests that drive real processes: hosts, disks, comparisons."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'scripts'))

from lab.host import Host  # noqa: E402
from lab.qmp import QmpError  # noqa: E402
from nbddisk import Client, NbdDisk  # noqa: E402

BUILD = os.environ.get('TANDEM_BUILD', os.path.join(HERE, '..', '..', 'build'))
TANDEMD = os.path.join(BUILD, 'tools', 'tandemd')
TANDEM_IMG = os.path.join(BUILD, 'tools', 'tandem-img')
KIB, MIB = 1 << 10, 1 << 20
SIZE = MIB
PROMPT = 8  # seconds a command may take that waits for nobody; machines are busy


class Background(threading.Thread):
    """A call on a thread of its own; result() gives what it returned or raises."""

    def __init__(self, fn, *args):
        super().__init__(daemon=True)
        self.fn, self.args, self.value, self.error = fn, args, None, None
        self.start()

    def run(self):
        try:
            self.value = self.fn(*self.args)
        except Exception as e:  # noqa: BLE001
            self.error = e

    def result(self, timeout=20):
        self.join(timeout)
        if self.is_alive():
            raise TimeoutError('still running')
        if self.error:
            raise self.error
        return self.value


class Replicated(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix='tandem-defect-')
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)

    # --- disks ---

    def path(self, name):
        return os.path.join(self.work, name)

    def raw(self, name, content=None):
        with open(self.path(name), 'wb') as f:
            f.write(pattern(SIZE) if content is None else content)
        return self.path(name)

    def content(self, name):
        with open(self.path(name), 'rb') as f:
            return f.read()

    def qcow2(self, name, size=SIZE):
        subprocess.run([TANDEM_IMG, 'create', '-q', '-f', 'qcow2', self.path(name), str(size)],
                       check=True, timeout=20)
        return self.path(name)

    def nbd_disk(self, name, content):
        disk = NbdDisk(self.path(name), content)
        self.addCleanup(disk.close)
        return disk

    def nbd_qcow2(self, name, size=SIZE):
        """An empty qcow2 image on a disk with room for its data."""
        self.qcow2(name + '.img', size)
        image = self.content(name + '.img')
        return self.nbd_disk(name, image + bytes(2 * size + MIB - len(image)))

    # --- hosts ---

    def host(self, name):
        host = Host('tandem', name, self.work, TANDEMD)
        self.addCleanup(self.end, host)
        return host

    def end(self, host):
        """Gone, whatever it did; one that died by itself is a failure of the test."""
        died = host.process and host.process.poll()
        host.end()
        if host.qmp:
            host.qmp.close()
        if died is not None and died not in (0, -signal.SIGKILL):
            self.fail(f'{host.name} died with {died}: {host.log_text()[-3000:]}')

    def primary(self, local=None, fmt='raw', name='P'):
        local = local or f'children.0.file.driver=file,children.0.file.filename={self.raw(name)}'
        host = self.host(name).start([
            'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,discard=unmap,'
            f'children.0.driver={fmt},{local}'])
        host.serve('colo-disk0')
        return host

    def chain(self, n=0, name='S', disk=None, hidden=None, active=None, top=None, size=SIZE):
        """The -drive lines of a secondary disk; disk, hidden, active: words for another file."""
        def words(given, prefix, make, path):
            if given is None:
                make(path)
                return f'{prefix}.driver=file,{prefix}.filename={self.path(path)}'
            return given.drive(prefix) if isinstance(given, NbdDisk) else given
        raw = lambda path: self.raw(path, pattern(size))
        qcow2 = lambda path: self.qcow2(path, size)
        return [
            f'if=none,id=parent{n},driver=raw,discard=unmap,'
            + words(disk, 'file', raw, f'{name}{n}.raw'),
            f'if=none,id=childs{n},driver=replication,mode=secondary,'
            f'top-id={top or f"colo-disk{n}"},'
            f'file.driver=qcow2,{words(active, "file.file", qcow2, f"{name}{n}-active")},'
            f'file.backing.driver=qcow2,'
            + words(hidden, 'file.backing.file', qcow2, f'{name}{n}-hidden')
            + f',file.backing.backing=parent{n}',
            f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,vote-threshold=1,'
            f'children.0=childs{n}']

    def secondary(self, disks=1, name='S', **chain):
        lines = [line for n in range(disks) for line in self.chain(n, name, **chain)]
        host = self.host(name).start(lines)
        host.serve(*[f'{what}{n}' for n in range(disks) for what in ('parent', 'colo-disk')])
        return host

    def pair(self, primary=None, port=None, **secondary):
        """A running pair of one disk."""
        p, s = primary or self.primary(), self.secondary(**secondary)
        p.attach_primary_filter(port or s.port)
        s.replicate(primary=False)
        p.replicate(primary=True)
        return p, s

    def filter_on(self, disk, p=None):
        """A running primary whose copy is that disk, and its guest."""
        p = p or self.primary()
        self.assertEqual(p.qmp.hmp(
            'drive_add -n buddy driver=replication,mode=primary,file.driver=nbd,'
            f'file.path={disk.path},node-name=replication0'), '')
        p.qmp.cmd('x-blockdev-change', parent='colo-disk0', node='replication0')
        p.replicate(primary=True)
        disk.seen.clear()
        return p, self.client(p)

    def client(self, host, export='colo-disk0', timeout=PROMPT):
        client = Client(('127.0.0.1', host.port), export, timeout)
        self.addCleanup(client.sock.close)
        return client

    def freeze(self, host):
        host.process.send_signal(signal.SIGSTOP)

    def thaw(self, host):
        host.process.send_signal(signal.SIGCONT)

    # --- commands ---

    def prompt(self, host, command, **args):
        """A command that must not wait for anybody."""
        host.qmp.sock.settimeout(PROMPT)
        try:
            return host.qmp.cmd(command, **args)
        except socket.timeout:
            self.fail(f'{command} hangs')
        finally:
            host.qmp.sock.settimeout(60)

    def refused(self, host, command, **args):
        """A command that must fail, and say why; returns the words."""
        with self.assertRaises(QmpError) as caught:
            self.prompt(host, command, **args)
        self.assertTrue(str(caught.exception))
        return str(caught.exception)

    def stages(self, host):
        return {r['node-name']: r['stage'] for r in self.prompt(host, 'query-replication')}

    def stage(self, host):
        return self.prompt(host, 'query-replication')[0]['stage']

    def start_failover(self, host):
        self.prompt(host, 'xen-set-replication', enable=False, primary=False, failover=True)

    def wait_stage(self, host, stage, timeout=20):
        end = time.monotonic() + timeout
        while self.stage(host) != stage:
            if time.monotonic() > end:
                self.fail(f'stage is {self.prompt(host, "query-replication")}, want {stage}')
            time.sleep(0.01)

    def error_event(self, host, operation):
        ev = host.qmp.wait_event('REPLICATION_ERROR', PROMPT)['data']
        self.assertEqual(ev['operation'], operation)
        return ev

    def in_trouble(self, host):
        """Status says so, and a checkpoint is refused."""
        self.assertTrue(host.status()['error'])
        self.assertIn('error', self.prompt(host, 'query-replication')[0])
        self.refused(host, 'xen-colo-do-checkpoint')

    def well(self, host):
        self.assertEqual(host.status(), {'error': False})

    # --- content ---

    def same(self, got, want, what):
        if bytes(got) != bytes(want):
            at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), 0)
            self.fail(f'{what}: {len(got)} bytes, byte {at} is {got[at]:#x}, want {want[at]:#x}')


def pattern(size):
    """No two sectors alike, no byte 0."""
    return b''.join(bytes([1 + i % 251]) * 256 + bytes([1 + i // 251 % 255]) * 256
                    for i in range(size // 512))


def patched(content, *parts):
    out = bytearray(content)
    for offset, data in parts:
        out[offset:offset + len(data)] = data
    return bytes(out)
