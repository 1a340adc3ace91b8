#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images with wrong bytes: check, check -r leaks, check -r all, then read all of them.

Stock QEMU judges: exit status and counts of each step are the same, and what can be read of a
repaired image is the same, but for what EXCUSES lists with its reason; an exception that no
image needs any more is an error, so the list stays true.
"""

import argparse
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

TOOLS = os.path.join(os.path.abspath(os.environ.get('TANDEM_BUILD', 'build')), 'tools')
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET = 0x00fffffffffffe00


def run(*args):
    return subprocess.run(args, capture_output=True, timeout=60, check=False)


def must(*args):
    done = run(*args)
    if done.returncode:
        raise RuntimeError(f'{args}: {done.stderr.decode()}')


class Image:
    """A sound image in memory, and where its tables are."""

    def __init__(self, path):
        with open(path, 'rb') as f:
            self.raw = bytearray(f.read())
        self.version, = struct.unpack_from('>I', self.raw, 4)
        self.bits, self.size, _, self.l1_size, self.l1, self.rt, self.rt_clusters = (
            struct.unpack_from('>IQIIQQI', self.raw, 20))
        self.cluster = 1 << self.bits
        self.order = self.word(96, 4) if self.version == 3 else 4
        self.raw += bytes(-len(self.raw) % self.cluster)
        self.clusters = len(self.raw) // self.cluster
        self.blocks = [self.word(self.rt + i) for i in range(0, 8 * 8, 8) if self.word(self.rt + i)]
        self.tables = [(self.l1 + i * 8, self.word(self.l1 + i * 8) & OFFSET)
                       for i in range(self.l1_size) if self.word(self.l1 + i * 8)]
        self.entries = [at for _, table in self.tables
                        for at in range(table, table + self.cluster, 8) if self.word(at)]

    def word(self, at, size=8):
        return int.from_bytes(self.raw[at:at + size], 'big')

    def put(self, at, value, size=8):
        self.raw[at:at + size] = value.to_bytes(size, 'big')

    def count_at(self, cluster, value):
        """The stored count of a cluster in the first block."""
        width = 1 << self.order
        if width >= 8:
            self.put(self.blocks[0] + cluster * width // 8, value & ((1 << width) - 1), width // 8)
        else:
            at, shift = self.blocks[0] + cluster * width // 8, cluster * width % 8
            mask = (1 << width) - 1
            self.raw[at] = self.raw[at] & ~(mask << shift) | (value & mask) << shift


class Damage:
    """What is done to an image: each method does one thing and names it."""

    def __init__(self, rng, image):
        self.rng, self.image = rng, image

    def place(self):
        """A host offset: of something, of nothing, behind the end."""
        r, i = self.rng, self.image
        return r.choice([
            0, i.l1, i.rt, i.blocks[0], r.choice(i.tables)[1],
            r.randrange(i.clusters) << i.bits, r.randrange(i.clusters) << i.bits,
            i.clusters << i.bits, (i.clusters + r.randrange(1, 4)) << i.bits,
            (i.clusters + 1000) << i.bits, r.randrange(i.clusters) << i.bits | 512])

    def value(self):
        """What a table entry may be made."""
        r = self.rng
        return r.choice([0, 1, COPIED, COPIED | 1, self.place(), self.place() | COPIED,
                         self.place() | COPIED | ZERO, self.place() | ZERO,
                         self.place() | COPIED | 2, self.place() | 1 << 57,
                         COMPRESSED | self.place(), COMPRESSED | COPIED | self.place()])

    def count(self):
        i = self.image
        cluster = self.rng.randrange(min(i.clusters + 2, 8 * i.cluster >> i.order))
        i.count_at(cluster, self.rng.choice([0, 1, 2, 3]))
        return 'count'

    def entry_at(self):
        i, r = self.image, self.rng
        used = r.random() < .7
        return r.choice(i.entries) if used else r.choice(i.tables)[1] + 8 * r.randrange(64)

    def entry(self):
        self.image.put(self.entry_at(), self.value())
        return 'entry'

    def flip(self):
        at = self.entry_at()
        self.image.put(at, self.image.word(at) ^ self.rng.choice([COPIED, COPIED, ZERO, 1 << 16]))
        return 'flip'

    def same(self):
        """Two entries with one cluster."""
        i = self.image
        i.put(self.entry_at(), i.word(self.rng.choice(i.entries)))
        return 'same'

    def l1_entry(self):
        self.image.put(self.image.l1 + 8 * self.rng.randrange(self.image.l1_size),
                       self.rng.choice([0, COPIED, self.place(), self.place() | COPIED,
                                        self.place() | COPIED | 1]))
        return 'l1'

    def l1_copied(self):
        at = self.rng.choice(self.image.tables)[0]
        self.image.put(at, self.image.word(at) ^ COPIED)
        return 'l1-copied'

    def l1_same(self):
        """Two L1 entries with one table."""
        i = self.image
        i.put(i.l1 + 8 * self.rng.randrange(i.l1_size), i.word(self.rng.choice(i.tables)[0]))
        return 'l1-same'

    def block(self):
        self.image.put(self.image.rt + 8 * self.rng.randrange(3),
                       self.rng.choice([0, self.place(), self.place() | 1]))
        return 'block'

    def bits(self):
        if self.image.version == 3:
            self.image.put(72, self.rng.choice([1, 2, 3]))
        return 'bits'

    def cut(self):
        i = self.image
        if len(i.raw) == i.clusters << i.bits:
            del i.raw[self.rng.randrange(max(i.clusters - 3, i.l1 // i.cluster + 2),
                                         i.clusters) << i.bits:]
        return 'cut'

    def apply(self):
        usual = [self.count, self.count, self.entry, self.entry, self.flip, self.flip, self.same]
        rare = [self.l1_entry, self.l1_copied, self.l1_same, self.block, self.bits, self.cut]
        return [self.rng.choice(usual + (rare if self.rng.random() < .4 else []))()
                for _ in range(self.rng.choice([1, 1, 1, 2, 3]))]


BASES = [
    ('compat=1.1,cluster_size=512', '100k', ['write -P 1 0 20k', 'write -P 2 70k 9k',
                                             'write -z 8k 4k', 'write -z -u 16k 2k']),
    ('compat=1.1,cluster_size=4k', '8M', ['write -P 1 0 60k', 'write -P 2 5M 30k',
                                          'write -z 8k 8k', 'write -z -u 32k 8k']),
    ('compat=1.1,cluster_size=16k', '40M', ['write -P 1 0 200k', 'write -P 2 33M 100k',
                                           'write -c -P 3 1M 16k', 'write -c -P 4 1216k 128k']),
    ('compat=0.10,cluster_size=4k', '8M', ['write -P 1 0 60k', 'write -P 2 5M 30k']),
    ('compat=1.1,cluster_size=4k,refcount_bits=1', '8M', ['write -P 1 0 60k',
                                                          'write -P 2 5M 30k']),
    ('compat=1.1,cluster_size=4k,refcount_bits=64', '8M', ['write -P 1 0 60k',
                                                           'write -c -P 2 5M 32k']),
]


class Excuse:
    """Images of which our check says @ours may differ in @steps, because of @reason: exit with
    one of @statuses, QEMU's and ours."""

    def __init__(self, steps, statuses, ours, reason):
        self.steps, self.statuses = steps.split(), statuses.split()
        self.ours, self.reason = re.compile(ours), reason
        self.used = False

    def covers(self, step, theirs, ours, text):
        if (step not in self.steps or f'{theirs}/{ours}' not in self.statuses
                or not self.ours.search(text)):
            return False
        self.used = True
        return True


def excused(step, theirs, ours, text):
    return theirs == ours or any([e.covers(step, theirs, ours, text) for e in EXCUSES])


EXCUSES = [
    Excuse('check leaks all judge', '0/2 3/2', 'L2 entry [0-9a-f]*[13579bdf] is bad',
           'a zero flag in version 2: QEMU finds nothing, and cannot read it'),
    Excuse('leaks', '2/1', r'refcount table entry \d+ is bad: [0-9a-f]+[02468ace]00\n',
           'QEMU goes on without a refcount block that lies outside of the file'),
    Excuse('leaks all', '2/0 2/1 1/0', r'refcount block \d+ refcount=2',
           'counts of one bit: QEMU stops at a cluster that is used twice, we write new counts'),
    Excuse('check', '0/3', 'Leaked cluster',
           'counts of clusters behind the end of the file: QEMU does not look at them'),
    Excuse('check leaks all judge', '0/2 1/2 3/2',
           'exceeding the end of the file .* size 0x(?!1000|4000)',
           'compressed data that begin behind the end of the file: QEMU counts them'),
    Excuse('check leaks all judge', '0/2 3/2', 'L2 entry 4000000000000[0-9a-f]{3} is bad',
           'compressed data in the header: QEMU counts them'),
    Excuse('leaks', '1/2', 'L2 entry [0-9a-f]+[2468ace]00 is bad',
           'an unaligned entry in the last cluster: QEMU counts the one behind the end'),
    Excuse('all', '1/0 1/2', r'refcount table entry \d+ is bad',
           'QEMU uses or spares the bad block while it mends, and gives up; we write new ones'),
    Excuse('all', '1/2', 'refcount block',
           'QEMU gives up when a write would overlap, where we have mended nothing at all'),
    Excuse('judge', '2/1', '', 'we have given up; QEMU would again'),
]
# Seeds that need the exceptions.
PINNED = [1003, 1008, 1031, 1088, 1112, 1185, 1187, 3015, 3189, 7082, 7539, 8505, 8522, 20049,
          20287]


class Side:
    def __init__(self, folder, name):
        self.path = os.path.join(folder, name)
        self.tool = (shutil.which('qemu-img') if name == 'theirs'
                     else os.path.join(TOOLS, 'tandem-img'))

    def check(self, raw, *repair):
        """Exit status and messages."""
        with open(self.path, 'wb') as f:
            f.write(raw)
        done = run(self.tool, 'check', '-f', 'qcow2', *repair, self.path)
        return done.returncode, done.stderr.decode()

    def content(self, path=None):
        """All of the disk, or None; @path: of another's."""
        out = self.path + '.raw'
        done = run(self.tool, 'convert', '-f', 'qcow2', '-O', 'raw', path or self.path, out)
        if done.returncode:
            return None
        with open(out, 'rb') as f:
            return f.read()


class Fuzz:
    def __init__(self, folder):
        self.theirs, self.ours = [Side(folder, name) for name in ('theirs', 'ours')]
        self.bases = []
        for i, (options, size, commands) in enumerate(BASES):
            path = os.path.join(folder, f'base{i}')
            must('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, size)
            must('qemu-io', '-f', 'qcow2', *[x for c in commands for x in ('-c', c)], path)
            self.bases.append(path)

    def case(self, seed):
        """What was done, and differences that are not excused."""
        rng = random.Random(seed)
        base = rng.randrange(len(self.bases))
        image = Image(self.bases[base])
        what = f'base {base}: ' + ' '.join(Damage(rng, image).apply())
        bad, said = [], ''
        for step, repair in (('check', []), ('leaks', ['-r', 'leaks']), ('all', ['-r', 'all'])):
            theirs, _ = self.theirs.check(image.raw, *repair)
            ours, text = self.ours.check(image.raw, *repair)
            said += text
            if not excused(step, theirs, ours, said):
                bad.append(f'{step}: exit {theirs} and {ours}')
        judged = run('qemu-img', 'check', '-f', 'qcow2', self.ours.path).returncode
        if not excused('judge', judged, ours, said):
            bad.append(f'after -r all we say {ours}, and QEMU of the same {judged}')
        bad += self.read(ours)
        return what, bad, said

    def read(self, status):
        """What check calls sound reads as QEMU reads what it has repaired, or else what we have: an
        entry that points at a table shows what became of it. We may refuse to read what check does
        not call sound, where QEMU takes what lies behind the end of the file for zeroes."""
        theirs, ours = self.theirs.content(), self.ours.content()
        if ours == theirs or (ours is None and status != 0):
            return []
        theirs = self.theirs.content(self.ours.path)
        if ours == theirs:
            return []
        return ['reads otherwise: ' + ('not at all' if ours is None else
                                       'it can be read' if theirs is None else 'other bytes')]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--cases', type=int, default=50)
    p.add_argument('-v', action='store_true', help='what our checks say of those that differ')
    args = p.parse_args()
    if not shutil.which('qemu-img'):
        return 77
    folder = tempfile.mkdtemp(prefix='tandem-check-')
    failed = 0
    try:
        fuzz = Fuzz(folder)
        for seed in PINNED + list(range(args.seed, args.seed + args.cases)):
            what, bad, said = fuzz.case(seed)
            failed += bool(bad)
            for line in bad:
                print(f'--- seed {seed}, {what}: {line}', flush=True)
            if bad and args.v:
                print(said)
    finally:
        shutil.rmtree(folder)
    for e in EXCUSES:
        if not e.used:
            failed += 1
            print(f'--- no image needs the exception {e.ours.pattern!r} ({e.reason})')
    print(f'test-check: {args.cases} images from seed {args.seed}, {failed} differ')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
