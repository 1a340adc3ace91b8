# SPDX-License-Identifier: GPL-2.0-or-later
"""What a storm blows over: hosts, and the disks of each."""

import os
import random
import shutil
import subprocess
import tempfile
import time

from lab.host import Host
from faults import Relay, SmallDisk
from nbddisk import NbdDisk
from replhosts import MIB, TANDEMD
from stormguest import Model

SIZE = MIB


class Side:
    """A host and what its disks lie on. disks: files (a path) or NbdDisk."""

    def __init__(self, host, disks, overlays=()):
        self.host, self.disks, self.overlays = host, disks, list(overlays)
        self.relay = None
        self.small = None
        self.alive = True

    def nbd(self, what):
        """The disks in this program that are the given layer."""
        if what == 'disk':
            return [d for d in self.disks if isinstance(d, NbdDisk)]
        return [o for layer, o in self.overlays if layer == what and isinstance(o, NbdDisk)]


class Ground:
    def __init__(self, seed, kinds=('tandem', 'tandem'), note=lambda line: None):
        self.random = random.Random(seed)
        self.kinds, self.say = kinds, note
        self.pure = kinds == ('tandem', 'tandem')
        self.work = tempfile.mkdtemp(prefix='tandem-storm-')
        self.made = []          # what is to be closed
        self.count = self.random.choice((1, 1, 2, 3)) if self.pure else 1
        self.names = 0
        self.models = [Model(self.random.randbytes(SIZE)) for _ in range(self.count)]

    def note(self, text):
        self.say(f'{time.monotonic() % 1000:8.3f} {text}')

    def path(self, name):
        return os.path.join(self.work, name)

    def close(self):
        for thing in reversed(self.made):
            thing.end() if isinstance(thing, Host) else thing.close()
        shutil.rmtree(self.work, ignore_errors=True)

    # --- what is made ---

    def place(self, name, content, fmt):
        """(a file or an NbdDisk with that content, the words that open it)"""
        if self.pure and self.random.random() < .4:
            if fmt == 'qcow2':
                content += bytes(2 * SIZE + MIB - len(content))
            disk = NbdDisk(self.path(name), content)
            self.made.append(disk)
            return disk, lambda prefix: disk.drive(prefix)
        with open(self.path(name), 'wb') as f:
            f.write(content)
        return self.path(name), lambda prefix: (f'{prefix}.driver=file,'
                                                f'{prefix}.filename={self.path(name)}')

    def new_host(self, kind):
        self.names += 1
        host = Host(kind, f'H{self.names}', self.work, TANDEMD)
        self.made.append(host)
        return host

    def primary(self):
        host, lines, disks = self.new_host(self.kinds[0]), [], []
        for n in range(self.count):
            disk, words = self.place(f'{host.name}-{n}', bytes(self.models[n].content), 'raw')
            disks.append(disk)
            lines.append(f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,'
                         f'vote-threshold=1,discard=unmap,children.0.driver=raw,'
                         f'{words("children.0.file")}')
        host.start(lines)
        host.serve(*[f'colo-disk{n}' for n in range(self.count)])
        return Side(host, disks)

    def secondary(self, kind, content=None):
        host, lines = self.new_host(kind), []
        side = Side(host, [])
        if self.pure and self.random.random() < .3:
            side.small = SmallDisk(self.path(f'{host.name}-small'), 4 * MIB * self.count)
            self.made.append(side.small)
        for n in range(self.count):
            name = f'{host.name}-{n}'
            disk, words = self.place(name, content[n] if content else bytes(SIZE), 'raw')
            side.disks.append(disk)
            overlay = {}
            for layer in ('active', 'hidden'):
                at = f'{name}-{layer}'
                if side.small and side.small.mounted and self.random.random() < .7:
                    at = f'{host.name}-small/{n}-{layer}'
                subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.path(at + '.new'),
                                str(SIZE)], check=True)
                with open(self.path(at + '.new'), 'rb') as f:
                    image = f.read()
                os.unlink(self.path(at + '.new'))
                if '/' in at:
                    with open(self.path(at), 'wb') as f:
                        f.write(image)
                    where, overlay[layer] = at, (
                        lambda prefix, at=at: f'{prefix}.driver=file,'
                                              f'{prefix}.filename={self.path(at)}')
                else:
                    where, overlay[layer] = self.place(at, image, 'qcow2')
                side.overlays.append((layer, where))
            lines += [
                f'if=none,id=parent{n},driver=raw,discard=unmap,{words("file")}',
                f'if=none,id=childs{n},driver=replication,mode=secondary,top-id=colo-disk{n},'
                f'file.driver=qcow2,{overlay["active"]("file.file")},file.backing.driver=qcow2,'
                f'{overlay["hidden"]("file.backing.file")},file.backing.backing=parent{n}',
                f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,vote-threshold=1,'
                f'children.0=childs{n}']
        host.start(lines)
        host.serve(*[f'{what}{n}' for n in range(self.count) for what in ('parent', 'colo-disk')])
        side.relay = Relay(host.port)
        self.made.append(side.relay)
        return side
