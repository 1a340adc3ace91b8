# SPDX-License-Identifier: GPL-2.0-or-later
"""What fails below and between real processes: a link, a file system that fills up."""

import contextlib
import errno
import os
import socket
import subprocess
import threading
import time


class Relay:
    """
    A TCP port whose connections go to another. delay: seconds each piece takes;
    go: while clear nothing moves; cut() ends what is there and refuses what comes.
    limit: bytes, of both directions, after which a connection meets its end(relay).
    """

    def __init__(self, to):
        self.to, self.delay = to, 0
        self.go = threading.Event()
        self.go.set()
        self.limit, self.end = None, Relay.cut
        self.socks, self.lock, self.whole = [], threading.Lock(), True
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
            except OSError:
                self.listener.close()
                return
            try:
                b = socket.create_connection(('127.0.0.1', self.to))
            except OSError:
                a.close()
                continue
            with self.lock:
                whole = self.whole
                self.socks += [a, b]
            for x, y in ((a, b), (b, a)):
                x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(x, y), daemon=True).start()
            if not whole:
                self.cut()

    def _pump(self, a, b):
        try:
            while data := a.recv(1 << 16):
                if self.delay:
                    time.sleep(self.delay)
                self._pass(b, data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _pass(self, b, data):
        if self.limit is not None:
            with self.lock:
                part = data[:self.limit]
                self.limit -= len(part)
            b.sendall(part)
            data = data[len(part):]
            if data:
                self.limit = None
                self.end(self)
        self.go.wait()
        b.sendall(data)

    def cut(self):
        with self.lock:
            self.whole = False
            socks, self.socks = self.socks, []
        for s in socks:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.go.set()

    def mend(self):
        self.limit, self.whole = None, True
        self.go.set()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which lets go of it
        self.cut()


class SmallDisk:
    """A file system of its own that can be full; available only to who may mount."""

    def __init__(self, path, size):
        self.path = path
        os.makedirs(path)
        self.mounted = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', path],
            stderr=subprocess.DEVNULL, check=False).returncode == 0

    @property
    def ballast(self):
        return os.path.join(self.path, 'ballast')

    def fill(self):
        fd = os.open(self.ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while os.write(fd, bytes(1 << 16)):
                pass
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
        finally:
            os.close(fd)

    def empty(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)

    def close(self):
        if self.mounted:
            subprocess.run(['umount', '-l', self.path], check=False)
