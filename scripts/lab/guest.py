# SPDX-License-Identifier: GPL-2.0-or-later
"""
A small guest: Debian's cloud kernel, a busybox initramfs that runs one shell
script, one disk on an NBD export, the serial console as lines of text. It runs
under TCG, so it needs no KVM.

The kernel is fetched as a package and only unpacked, never installed; what is
needed of it stays in a cache folder. Building the initramfs takes no time worth
keeping.
"""

import glob
import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

from .qmp import Qmp

QEMU = 'qemu-system-x86_64'
META_PACKAGE = 'linux-image-cloud-amd64'
MODULES = ('virtio_pci', 'virtio_blk')
SYSTEM = ('/usr/sbin', '/sbin')

INIT = '''#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
for i in $(seq 200); do [ -b /dev/vda ] && break; usleep 20000; done
mkdir -p /mnt
sh /job
echo "JOB ENDED $?"
poweroff -f
'''


class NoGuest(Exception):
    """Why no guest can run on this machine."""


def find_program(name):
    path = os.pathsep.join((os.environ.get('PATH', ''),) + SYSTEM)
    found = shutil.which(name, path=path)
    if not found:
        raise NoGuest(f'{name} is not installed')
    return found


def _run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise NoGuest(f'{" ".join(command)}: {done.stdout.strip() or done.returncode}')
    return done.stdout


# --- the kernel ---

class Kernel:
    """cache: a folder that holds vmlinuz, modules/ and the name of their package."""

    def __init__(self, cache):
        self.image = os.path.join(cache, 'vmlinuz')
        self.modules = os.path.join(cache, 'modules')
        with open(os.path.join(cache, 'package'), encoding='utf-8') as f:
            self.package = f.read().strip()


def kernel(cache, tell=print):
    """The kernel in @cache, which is filled first if it has none; NoGuest if it cannot be."""
    if not os.path.exists(cache):
        _fill(cache, tell)
    return Kernel(cache)


def _kernel_package():
    """What the meta package depends on: the image of the current version."""
    command = [find_program('apt-cache'), 'depends', META_PACKAGE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    found = re.search(r'Depends: (linux-image-\d\S*)', done.stdout)
    if not found:
        raise NoGuest(f'apt knows no {META_PACKAGE}; "apt-get update" may help')
    return found.group(1)


def _fill(cache, tell):
    os.makedirs(os.path.dirname(cache), exist_ok=True)
    work = tempfile.mkdtemp(prefix='kernel-', dir=os.path.dirname(cache))
    try:
        package = _kernel_package()
        tell(f'fetching {package} (27 MB; unpacked below {os.path.relpath(cache)},'
             ' not installed)')
        os.chmod(work, 0o755)
        _run(find_program('apt-get'), '-q', '-o', 'APT::Sandbox::User=root', 'download', package,
             cwd=work)
        deb = glob.glob(os.path.join(work, '*.deb'))
        root, new = os.path.join(work, 'root'), os.path.join(work, 'new')
        _run(find_program('dpkg'), '-x', deb[0], root)
        _keep(root, new, package)
        try:
            os.rename(new, cache)
        except OSError:
            if not os.path.exists(cache):       # else somebody else was as quick
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _keep(root, new, package):
    """Of an unpacked package in @root, what a guest needs, to @new."""
    os.makedirs(os.path.join(new, 'modules'))
    shutil.copy(glob.glob(os.path.join(root, 'boot', 'vmlinuz-*'))[0],
                os.path.join(new, 'vmlinuz'))
    order = []
    for module in MODULES:
        _keep_module(root, os.path.join(new, 'modules'), module, order)
    with open(os.path.join(new, 'modules', 'order'), 'w', encoding='utf-8') as f:
        f.write('\n'.join(order) + '\n')
    with open(os.path.join(new, 'package'), 'w', encoding='utf-8') as f:
        f.write(package + '\n')


def _keep_module(root, folder, name, order):
    """@name and, before it, what it says it depends on. A built-in one has no file."""
    if name in order:
        return
    pattern = name.replace('_', '[-_]') + '.ko*'
    found = glob.glob(os.path.join(root, '**', 'kernel', '**', pattern), recursive=True)
    if not found:
        return
    with (lzma.open if found[0].endswith('.xz') else open)(found[0], 'rb') as f:
        code = f.read()
    depends = re.search(rb'\0depends=([^\0]*)\0', code)
    for other in filter(None, depends.group(1).decode().split(',') if depends else ()):
        _keep_module(root, folder, other, order)
    with open(os.path.join(folder, name + '.ko'), 'wb') as f:
        f.write(code)
    order.append(name)


# --- the initramfs ---

def make_initramfs(path, modules, job, files=()):
    """One that runs the shell script @job; @files: pairs of name and bytes, at its root."""
    root = tempfile.mkdtemp(prefix='initramfs-', dir=os.path.dirname(path))
    try:
        for folder in ('bin', 'dev', 'proc', 'sys'):
            os.mkdir(os.path.join(root, folder))
        busybox = find_program('busybox')
        shutil.copy(busybox, os.path.join(root, 'bin', 'busybox'))
        for applet in _run(busybox, '--list').split():
            if applet != 'busybox':
                os.symlink('busybox', os.path.join(root, 'bin', applet))
        shutil.copytree(modules, os.path.join(root, 'modules'))
        for name, data in (('init', INIT.encode()), ('job', job.encode()), *files):
            with open(os.path.join(root, name), 'wb') as f:
                f.write(data)
        os.chmod(os.path.join(root, 'init'), 0o755)
        names = _run('find', '.', '-print', cwd=root)
        with open(path, 'wb') as out:
            subprocess.run([find_program('cpio'), '-o', '-H', 'newc', '--quiet'], cwd=root,
                           input=names.encode(), stdout=out, check=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


# --- the guest ---

class Guest:
    """A virtual machine. Its console's lines are read by a thread as they come."""

    def __init__(self, name, work, image, initramfs):
        self.name, self.image, self.initramfs = name, image, initramfs
        self.qmp_path = os.path.join(work, name + '.qmp')
        self.qmp = None
        self.process = None
        self.lines = []
        self.ended = False
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)

    def start(self, server, export, memory=256):
        """server: where the NBD export of its disk is, as QMP has it."""
        disk = {'driver': 'nbd', 'node-name': 'disk', 'server': server, 'export': export,
                'discard': 'unmap'}
        self.process = subprocess.Popen(
            [find_program(QEMU), '-accel', 'tcg', '-cpu', 'max', '-M', 'q35', '-m', str(memory),
             '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot',
             '-qmp', f'unix:{self.qmp_path},server=on,wait=off',
             '-kernel', self.image, '-initrd', self.initramfs,
             '-append', 'console=ttyS0 panic=-1 quiet',
             '-blockdev', json.dumps(disk), '-device', 'virtio-blk-pci,drive=disk'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader.start()
        try:
            self.qmp = Qmp(self.qmp_path, connect=30)
        except OSError:
            self.end()
            raise RuntimeError(f'{self.name} did not start: {self.text()}') from None
        return self

    def _read(self):
        for raw in self.process.stdout:
            with self.news:
                self.lines.append(raw.decode(errors='replace').strip())
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def text(self):
        with self.news:
            return '\n'.join(self.lines)

    def find(self, pattern):
        """What @pattern matches so far, in order."""
        with self.news:
            return [m for m in (re.fullmatch(pattern, line) for line in self.lines) if m]

    def wait_for(self, pattern, timeout=60, count=1):
        """Wait for @count lines that @pattern matches; the last of them."""
        end = time.monotonic() + timeout
        with self.news:
            while True:
                found = self.find(pattern)
                if len(found) >= count:
                    return found[-1]
                if self.ended or time.monotonic() > end:
                    why = 'has ended' if self.ended else f'took more than {timeout} s'
                    raise RuntimeError(f'{self.name} {why}, no "{pattern}"; it said:\n'
                                       + '\n'.join(self.lines[-20:]))
                self.news.wait(max(0.01, end - time.monotonic()))

    def pause(self):
        """When this returns its processor stands and each request has been answered."""
        self.qmp.cmd('stop')

    def resume(self):
        self.qmp.cmd('cont')

    def wait(self, timeout=60):
        """Until it has powered off; its exit status."""
        status = self.process.wait(timeout)
        self.reader.join(timeout)
        return status

    def end(self):
        """Whatever state it is in, it is gone afterwards."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()
        if self.qmp:
            self.qmp.close()
