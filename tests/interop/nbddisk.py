# SPDX-License-Identifier: GPL-2.0-or-later
"""
Both ends of NBD for tests that want trouble: a disk in memory that fails, waits
or remembers what it was asked as the test says, and a client with structured
replies that can leave requests in flight.
"""

import contextlib
import errno
import os
import socket
import struct
import threading
import time

from lab.nbd import Nbd, NbdError, READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES

BLOCK_STATUS = 7
OPT_MAGIC = 0x49484156454f5054
OPT_REPLY = 0x3e889045565a9
FLAGS = 1 | 4 | 8 | 32 | 64 | 256  # has flags, flush, FUA, trim, write zeroes, multi-conn


def recv_all(sock, n):
    out = bytearray()
    while len(out) < n:
        part = sock.recv(n - len(out))
        if not part:
            raise EOFError
        out += part
    return bytes(out)


class NbdDisk:
    """
    A disk at a unix socket. fail: {kind: errno} or a function (kind, offset,
    length) -> errno or 0. go: while clear, requests wait. left: how many it does
    before it holds the next and all others (None: any number); held: it does. seen:
    what came.
    """

    def __init__(self, path, data):
        self.path, self.data = path, bytearray(data)
        self.fail = {}
        self.seen = []
        self.go, self.held = threading.Event(), threading.Event()
        self.go.set()
        self.left, self.life, self.lock = None, 0, threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.conns = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.go.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which lets go of it
        for c in self.conns:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if os.path.exists(self.path):
            os.unlink(self.path)

    def hold_after(self, requests):
        self.held.clear()
        self.left = requests

    def forget(self):
        """Whoever asked has died: what waits is never done; then all is as at first."""
        with self.lock:
            self.life += 1
            self.left, self.fail = None, {}
        self.held.clear()
        self.go.set()

    def drive(self, prefix):
        """Words of -drive that make it the node at that prefix."""
        return f'{prefix}.driver=nbd,{prefix}.path={self.path}'

    def wait_for(self, kind, timeout=5):
        """Until a request of that kind has come since seen was cleared."""
        end = time.monotonic() + timeout
        while not any(s[0] == kind for s in self.seen):
            if time.monotonic() > end:
                raise TimeoutError(f'no request {kind} came')
            time.sleep(0.005)

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                self.listener.close()
                return
            self.conns.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            if self._handshake(conn):
                self._transmission(conn)
        except (EOFError, OSError):
            pass
        conn.close()

    def _handshake(self, conn):
        conn.sendall(struct.pack('>8sQH', b'NBDMAGIC', OPT_MAGIC, 3))
        recv_all(conn, 4)
        while True:
            _, opt, length = struct.unpack('>QII', recv_all(conn, 16))
            recv_all(conn, length)
            if opt == 1:
                conn.sendall(struct.pack('>QH', len(self.data), FLAGS))
                return True
            if opt == 7:
                conn.sendall(struct.pack('>QIIIHQH', OPT_REPLY, opt, 3, 12, 0, len(self.data),
                                         FLAGS))
            ack = 1 if opt in (2, 7) else (1 << 31) | 1
            conn.sendall(struct.pack('>QIII', OPT_REPLY, opt, ack, 0))
            if opt in (2, 7):
                return opt == 7

    def _transmission(self, conn):
        life = self.life
        while True:
            _, flags, kind, cookie, offset, length = struct.unpack('>IHHQQI', recv_all(conn, 28))
            data = recv_all(conn, length) if kind == WRITE else None
            if kind == DISC:
                return
            self.seen.append((kind, offset, length, flags))
            if not self._wait(life):
                return
            fail = self.fail
            err = fail(kind, offset, length) if callable(fail) else fail.get(kind, 0)
            reply = struct.pack('>IIQ', 0x67446698, err, cookie)
            if not err:
                reply += self._do(kind, offset, length, data)
            conn.sendall(reply)

    def _wait(self, life):
        """The turn of a request; False if it never comes."""
        with self.lock:
            if self.left == 0:
                self.go.clear()
                self.held.set()
            elif self.left:
                self.left -= 1
        self.go.wait()
        return life == self.life

    def _do(self, kind, offset, length, data):
        if kind == READ:
            return bytes(self.data[offset:offset + length])
        if kind in (TRIM, WRITE_ZEROES):
            data = bytes(length)
        if kind != FLUSH:
            self.data[offset:offset + length] = data
        return b''


class Client(Nbd):
    """Structured replies and base:allocation; send() and reply() apart."""

    def __init__(self, address, export, timeout=10):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        recv_all(self.sock, 18)
        self.sock.sendall(struct.pack('>I', 3))
        name, ctx = export.encode(), b'base:allocation'
        head = struct.pack('>I', len(name)) + name
        self._option(8, b'')
        self._option(10, head + struct.pack('>II', 1, len(ctx)) + ctx)
        info = self._option(7, head + struct.pack('>H', 0))
        self.size, self.flags = struct.unpack('>QH', next(p[2:12] for p in info
                                                         if p[:2] == b'\0\0'))
        self.cookie = 0

    def _option(self, opt, data):
        self.sock.sendall(struct.pack('>QII', OPT_MAGIC, opt, len(data)) + data)
        payloads = []
        while True:
            _, _, kind, length = struct.unpack('>QIII', recv_all(self.sock, 20))
            payload = recv_all(self.sock, length)
            if kind >> 31:
                raise NbdError(kind & 0xffff, f'option {opt}: {payload!r}')
            if kind == 1:
                return payloads
            payloads.append(payload)

    def send(self, kind, offset=0, length=0, data=b'', flags=0):
        self.cookie += 1
        self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, flags, kind, self.cookie, offset,
                                      length or len(data)) + data)
        self.sent = kind, offset, length

    def reply(self):
        """Of the one request in flight: bytes of a read, extents of a status."""
        kind, start, length = self.sent
        out, err, done = bytearray(length if kind == READ else 0), 0, False
        extents = []
        while not done:
            magic, = struct.unpack('>I', recv_all(self.sock, 4))
            if magic == 0x67446698:
                err, _ = struct.unpack('>IQ', recv_all(self.sock, 12))
                break
            flags, chunk, _, n = struct.unpack('>HHQI', recv_all(self.sock, 16))
            payload = recv_all(self.sock, n)
            done = bool(flags & 1)
            if chunk == 1:
                at = struct.unpack('>Q', payload[:8])[0] - start
                out[at:at + n - 8] = payload[8:]
            elif chunk == 5:
                extents = list(struct.iter_unpack('>II', payload[4:]))
            elif chunk >> 15:
                err = struct.unpack('>I', payload[:4])[0]
        if err:
            raise NbdError(err, f'{errno.errorcode.get(err, err)}: request {kind} at {start}')
        return extents if kind == BLOCK_STATUS else bytes(out)

    def request(self, kind, offset=0, length=0, data=b'', flags=0):
        self.send(kind, offset, length, data, flags)
        return self.reply()

    def status(self, offset, length):
        return self.request(BLOCK_STATUS, offset, length)
