# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers for the NBD interop tests, each on a unix socket of its own."""

import os
import shutil
import socket as socket_module
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get('TANDEM_BUILD', 'build')
TANDEM_NBD = os.path.join(BUILD, 'tools', 'tandem-nbd')
TANDEM_IO = os.path.join(BUILD, 'tools', 'tandem-io')


def need(*programs):
    """Skip the script if one is not installed."""
    for program in programs:
        if not shutil.which(program):
            print(f'1..0 # SKIP {program} is not installed')
            sys.exit(77)


def need_libnbd():
    try:
        import nbd
    except ImportError:
        print('1..0 # SKIP python3-libnbd is not installed')
        sys.exit(77)
    return nbd


class Folder:
    """A place for images and sockets, gone at exit."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='tandem-nbd-')

    def __call__(self, name):
        return os.path.join(self.path, name)

    def image(self, name, size, data=b''):
        with open(self(name), 'wb') as f:
            f.write(data)
            f.truncate(size)
        return self(name)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Server:
    """A running program that listens at a unix socket."""

    def __init__(self, command, socket):
        self.socket = socket
        if os.path.exists(socket):
            os.unlink(socket)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for _ in range(600):
            if self.listens() or self.process.poll() is not None:
                break
            time.sleep(0.02)
        if self.process.poll() is not None:
            raise RuntimeError(f'{command[0]}: {self.process.stderr.read()}')

    def listens(self):
        """A socket that is bound but does not listen yet refuses."""
        with socket_module.socket(socket_module.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def uri(self, export=''):
        return f'nbd+unix:///{export}?socket={self.socket}'

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def stop(self):
        """End it as a user would; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(30)
        self.process.stderr.close()
        return status


def tandem(socket, image, *options):
    command = [TANDEM_NBD, '-k', socket, '-t', '-e', '0', *options, image]
    if '-f' not in options and '--image-opts' not in options:
        command[1:1] = ['-f', 'raw']
    return Server(command, socket)


def qemu_nbd(socket, image, *options):
    return Server(['qemu-nbd', '-k', socket, '-t', '-e', '8', '-f', 'raw', *options, image], socket)


def nbdkit(socket, *arguments):
    return Server(['nbdkit', '-f', '-U', socket, *arguments], socket)


def run(*command, status=0):
    """A program's output; its exit status must be @status."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60)
    assert done.returncode == status, f'{command}: {done.returncode}: {done.stdout}'
    return done.stdout
