# SPDX-License-Identifier: GPL-2.0-or-later
"""
One host of a pair: a process (tandemd, or QEMU as its stand-in) that is started
with the documented lines and driven over QMP.
"""

import os
import shutil
import signal
import subprocess
import time

from .nbd import Nbd
from .qmp import Qmp, QmpError

QEMU = 'qemu-system-x86_64'


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Host:
    """kind: 'tandem' or 'qemu'. work: a folder for sockets and logs."""

    def __init__(self, kind, name, work, tandemd, wrap=()):
        self.kind, self.name, self.work = kind, name, work
        self.tandemd = tandemd
        self.wrap = list(wrap)
        self.port = free_port()
        self.qmp_path = os.path.join(work, name + '.qmp')
        self.log = os.path.join(work, name + '.log')
        self.process = None
        self.qmp = None

    def start(self, drives, more=()):
        if self.kind == 'qemu':
            args = [QEMU, '-machine', 'none', '-nodefaults', '-display', 'none', '-S']
        else:
            args = [self.tandemd]
        args += ['-qmp', f'unix:{self.qmp_path},server=on,wait=off']
        for d in drives:
            args += ['-drive', d]
        args += list(more)
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.wrap + args, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        try:
            self.qmp = Qmp(self.qmp_path)
        except OSError as err:
            status = self.process.poll()
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f'{self.kind} as {self.name} did not start ({err}, exit status '
                               f'{status}): {self.log_text()}') from None
        return self

    def log_text(self):
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    # --- the two roles, as documented ---

    def start_primary(self, image, fmt='raw'):
        return self.start([f'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,'
                           f'vote-threshold=1,children.0.file.filename={image},'
                           f'children.0.driver={fmt}'])

    def start_secondary(self, image, active, hidden, fmt='raw'):
        return self.start([
            f'if=none,id=parent0,driver={fmt},file.filename={image}',
            f'if=none,id=childs0,driver=replication,mode=secondary,top-id=colo-disk0,'
            f'file.driver=qcow2,file.file.filename={active},'
            f'file.backing.driver=qcow2,file.backing.file.filename={hidden},'
            f'file.backing.backing=parent0',
            'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,'
            'children.0=childs0'])

    # --- steps of the recipes ---

    def serve(self, *devices, port=None, path=None):
        """Export devices at a TCP port, or at a unix socket."""
        if path:
            self.qmp.cmd('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}})
        else:
            self._listen(port)
        for d in devices:
            self.qmp.cmd('nbd-server-add', device=d, writable=True)

    def _listen(self, port):
        """At that port, or at one that is really free: somebody may have taken ours by now."""
        self.port = port or self.port
        for _ in range(20):
            try:
                self.qmp.cmd('nbd-server-start', addr={
                    'type': 'inet', 'data': {'host': '127.0.0.1', 'port': str(self.port)}})
                return
            except QmpError as e:
                if port or 'in use' not in e.desc:
                    raise
            self.port = free_port()
        raise RuntimeError(f'{self.name} finds no port')

    def attach_primary_filter(self, port, node='replication0', export='parent0'):
        out = self.qmp.hmp(f'drive_add -n buddy driver=replication,mode=primary,file.driver=nbd,'
                           f'file.host=127.0.0.1,file.port={port},file.export={export},'
                           f'node-name={node}')
        if out:
            raise RuntimeError('drive_add: ' + out)
        self.qmp.cmd('x-blockdev-change', parent='colo-disk0', node=node)

    def replicate(self, primary):
        self.qmp.cmd('xen-set-replication', enable=True, primary=primary)

    def checkpoint(self):
        begin = time.perf_counter()
        self.qmp.cmd('xen-colo-do-checkpoint')
        return time.perf_counter() - begin

    def failover(self):
        """Take over; returns when the merge is done."""
        self.qmp.cmd('xen-set-replication', enable=False, primary=False, failover=True)
        self.wait_merged()

    def wait_merged(self):
        end = time.monotonic() + 60
        while self.status()['error'] or not self._merged():
            if time.monotonic() > end:
                raise TimeoutError('failover does not end')
            time.sleep(0.002)

    def _merged(self):
        if self.kind == 'qemu':
            return True
        return all(r['stage'] == 'done' for r in self.qmp.cmd('query-replication'))

    def status(self):
        return self.qmp.cmd('query-xen-replication-status')

    def nbd(self, export):
        return Nbd(('127.0.0.1', self.port), export)

    # --- ends ---

    def kill(self):
        """The host dies."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.qmp.close()

    def quit(self, timeout=20):
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.qmp.cmd('quit')
        self.qmp.close()
        return self.process.wait(timeout)

    def end(self):
        """Whatever state it is in, it is gone afterwards."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def have_qemu():
    return shutil.which(QEMU) is not None
