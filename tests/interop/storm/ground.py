# SPDX-License-Identifier: GPL-2.0-or-later
"""What a storm blows over: hosts, and the disks of each."""

import os
import random
import shutil
import tempfile
import time

from lab.host import Host
from faults import Relay, SmallDisk
from replhosts import MIB, TANDEMD
from storm.guest import Model
from storm.image import Image

SIZE = MIB


class Side:
    """A host and the images it has open: a disk each, and overlays as (layer, image)."""

    def __init__(self, host, small):
        self.host, self.small = host, small
        self.disks, self.overlays = [], []
        self.relay = None
        self.alive = True

    def images(self, what):
        if what == 'disk':
            return self.disks
        return [image for layer, image in self.overlays if layer == what]

    def nbd(self, what):
        """The disks in this program that are the given layer."""
        return [i.disk for i in self.images(what) if i.disk]

    def all_images(self):
        return self.disks + [image for _, image in self.overlays]


class Ground:
    def __init__(self, seed, kinds=('tandem', 'tandem'), note=lambda line: None):
        self.random = random.Random(seed)
        self.kinds, self.say = kinds, note
        self.pure = kinds == ('tandem', 'tandem')
        self.work = tempfile.mkdtemp(prefix='tandem-storm-')
        self.made = []          # what is to be closed
        self.count = self.random.choice((1, 1, 2, 3)) if self.pure else 1
        self.fmt = self.random.choice(('raw', 'raw', 'qcow2'))  # of the disks of all hosts
        self.names = 0
        self.models = [Model(self.first_content()) for _ in range(self.count)]

    def first_content(self):
        """Some of it nothing but zeroes."""
        content = bytearray(self.random.randbytes(SIZE))
        if self.random.random() < .5:
            for at in range(0, SIZE, 64 << 10):
                if self.random.random() < .6:
                    content[at:at + (64 << 10)] = bytes(64 << 10)
        return content

    def note(self, text):
        self.say(f'{time.monotonic() % 1000:8.3f} {text}')

    def path(self, name):
        return os.path.join(self.work, name)

    def close(self):
        for thing in reversed(self.made):
            thing.end() if isinstance(thing, Host) else thing.close()
        shutil.rmtree(self.work, ignore_errors=True)

    # --- what is made ---

    def image(self, side, name, fmt, content):
        """In this program, on a small file system, or a file like others."""
        r = self.random
        if side.small and r.random() < .7:
            return Image(os.path.join(side.small.path, name), fmt, content, self.work)
        image = Image(self.path(f'{side.host.name}-{name}'), fmt, content, self.work,
                      self.pure and r.random() < .4)
        self.made.append(image)
        return image

    def side(self, kind):
        host, small = self.new_host(kind), None
        if self.pure and self.random.random() < .3:
            small = SmallDisk(self.path(f'{host.name}-small'), 8 * MIB * self.count)
            self.made.append(small)
        return Side(host, small if small and small.mounted else None)

    def new_host(self, kind):
        self.names += 1
        host = Host(kind, f'H{self.names}', self.work, TANDEMD)
        self.made.append(host)
        return host

    def primary(self, disks=None):
        """disks: what a primary before has left."""
        side = self.side(self.kinds[0])
        side.disks = disks or [self.image(side, f'disk{n}', self.fmt, bytes(m.content))
                               for n, m in enumerate(self.models)]
        side.host.start([
            f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,vote-threshold=1,'
            f'discard=unmap,children.0.driver={disk.fmt},{disk.words("children.0.file")}'
            for n, disk in enumerate(side.disks)])
        side.host.serve(*[f'colo-disk{n}' for n in range(self.count)])
        return side

    def secondary(self, kind, content=None, old=None):
        """old: a side that has ended, whose images this one takes."""
        side, lines = self.side(kind), []
        if old:
            side.disks, side.overlays, side.small = old.disks, old.overlays, old.small
        else:
            zero = SIZE if self.fmt == 'qcow2' else bytes(SIZE)
            for n in range(self.count):
                side.disks.append(self.image(side, f'disk{n}', self.fmt,
                                             content[n] if content else zero))
                for layer in ('active', 'hidden'):
                    side.overlays.append((layer, self.image(side, f'{layer}{n}', 'qcow2', SIZE)))
        for n, (disk, active, hidden) in enumerate(zip(
                side.disks, side.images('active'), side.images('hidden'))):
            lines += [
                f'if=none,id=parent{n},driver={disk.fmt},discard=unmap,{disk.words("file")}',
                f'if=none,id=childs{n},driver=replication,mode=secondary,top-id=colo-disk{n},'
                f'file.driver=qcow2,{active.words("file.file")},file.backing.driver=qcow2,'
                f'{hidden.words("file.backing.file")},file.backing.backing=parent{n}',
                f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,vote-threshold=1,'
                f'children.0=childs{n}']
        side.host.start(lines)
        side.host.serve(*[f'{what}{n}' for n in range(self.count)
                          for what in ('parent', 'colo-disk')])
        side.relay = Relay(side.host.port)
        self.made.append(side.relay)
        return side
