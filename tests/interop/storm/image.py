# SPDX-License-Identifier: GPL-2.0-or-later
"""An image of a storm: its format, what it lies on, and what can be said of it from outside."""

import os
import subprocess

from nbddisk import NbdDisk
from replhosts import KIB, MIB, TANDEM_IMG


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)


def write_sparse(path, content):
    """Where it is zero nothing is stored, so that a full file system has something to refuse."""
    with open(path, 'wb') as f:
        for at in range(0, len(content), 4 * KIB):
            part = content[at:at + 4 * KIB]
            if any(part):
                f.seek(at)
                f.write(part)
        f.truncate(len(content))


class Image:
    """
    At a path: a file or, in memory, an NbdDisk. fmt: raw, or qcow2 (content may be
    just a length then). work: a folder with room for copies.
    """

    def __init__(self, path, fmt, content, work, in_memory=False):
        self.path, self.fmt = path, fmt
        self.rules = []     # of a blkdebug between format and file
        self.beside = os.path.join(work, os.path.basename(path))
        data = content if fmt == 'raw' else self._qcow2(content)
        if in_memory and fmt == 'qcow2':
            data += bytes(max(0, 2 * len(data) + 2 * MIB - len(data)))
        self.disk = NbdDisk(path, data) if in_memory else None
        if not in_memory:
            write_sparse(path, data)

    def _qcow2(self, content):
        new = self.beside + '.new'
        if isinstance(content, int):
            self._make('create', '-f', 'qcow2', new, str(content))
        else:
            write_sparse(new + '.raw', content)
            self._make('convert', '-t', 'unsafe', '-f', 'raw', '-O', 'qcow2', new + '.raw', new)
            os.unlink(new + '.raw')
        with open(new, 'rb') as f:
            data = f.read()
        os.unlink(new)
        return data

    @staticmethod
    def _make(*args):
        done = run('qemu-img', args[0], '-q', *args[1:])
        assert done.returncode == 0, f'qemu-img {args}: {done.stderr}'

    def words(self, prefix):
        """Of -drive: the node at that prefix is the file below the format."""
        if self.disk:
            return self.disk.drive(prefix)
        if self.rules:
            words = ['driver=blkdebug', 'image.driver=file', f'image.filename={self.path}']
            return ','.join(f'{prefix}.{w}' for w in words + self.rules)
        return f'{prefix}.driver=file,{prefix}.filename={self.path}'

    def close(self):
        if self.disk:
            self.disk.close()

    # --- when nobody has it open ---

    def data(self):
        if self.disk:
            return bytes(self.disk.data)
        with open(self.path, 'rb') as f:
            return f.read()

    def copy(self):
        path = self.beside + '.copy'
        if os.path.exists(path):
            os.unlink(path)
        write_sparse(path, self.data())
        return path

    def content(self):
        """What a guest reads there."""
        if self.fmt == 'raw':
            return self.data()
        copy, out = self.copy(), self.beside + '.out'
        self._make('convert', '-t', 'unsafe', '-f', 'qcow2', '-O', 'raw', copy, out)
        with open(out, 'rb') as f:
            data = f.read()
        os.unlink(out)
        os.unlink(copy)
        return data

    def check(self, what):
        """
        Both checkers: at worst leaks. One that says it is dirty may have to be
        repaired, as whoever opens it for writing does, and is sane then.
        """
        if self.fmt == 'raw':
            return
        copy = self.copy()
        with open(copy, 'rb') as f:
            dirty = f.read(80)[79] & 1
        if dirty:
            run('qemu-img', 'check', '-q', '-T', 'unsafe', '-f', 'qcow2', '-r', 'all', copy)
        for tool in ('qemu-img', TANDEM_IMG):
            done = run(tool, 'check', '-f', 'qcow2', copy)
            assert done.returncode in (0, 3), (
                f'I: {what} ({"dirty" if dirty else "clean"}), {tool}: {done.returncode} '
                f'{done.stdout}{done.stderr}')
        os.unlink(copy)


def chain_content(active, hidden, disk):
    """What stock QEMU reads in images that nobody has open."""
    a, h, d = active.copy(), hidden.copy(), disk.copy()
    out = disk.beside + '.out'
    done = run('qemu-img', 'convert', '-t', 'unsafe', '--image-opts',
               f'driver=qcow2,file.driver=file,file.filename={a},backing.driver=qcow2,'
               f'backing.file.driver=file,backing.file.filename={h},'
               f'backing.backing.driver={disk.fmt},backing.backing.file.driver=file,'
               f'backing.backing.file.filename={d}', '-O', 'raw', out)
    assert done.returncode == 0, f'qemu-img convert of a chain: {done.stderr}'
    with open(out, 'rb') as f:
        content = f.read()
    for path in (a, h, d, out):
        os.unlink(path)
    return content
