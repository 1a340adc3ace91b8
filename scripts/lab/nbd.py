# SPDX-License-Identifier: GPL-2.0-or-later
"""A small NBD client (simple replies, one request at a time)."""

import hashlib
import socket
import struct

FUA, NO_HOLE = 1, 2
READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6


class NbdError(OSError):
    pass


class Nbd:
    def __init__(self, address, export, timeout=30):
        """address: a path, or (host, port)"""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        magic, opt, _ = struct.unpack('>QQH', self._recv(18))
        if (magic, opt) != (0x4e42444d41474943, 0x49484156454f5054):
            raise NbdError('not an NBD server')
        name = export.encode()
        self.sock.sendall(struct.pack('>IQII', 3, opt, 1, len(name)) + name)
        self.size, self.flags = struct.unpack('>QH', self._recv(10))
        self.cookie = 0

    def _recv(self, n):
        out = bytearray()
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise NbdError('the server closed the connection')
            out += part
        return bytes(out)

    def request(self, kind, offset=0, length=0, data=b'', flags=0):
        self.cookie += 1
        self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, flags, kind, self.cookie, offset,
                                      length) + data)
        magic, error, cookie = struct.unpack('>IIQ', self._recv(16))
        if magic != 0x67446698 or cookie != self.cookie:
            raise NbdError('bad reply')
        if error:
            raise NbdError(error, f'request {kind} at {offset} failed with {error}')
        return self._recv(length) if kind == READ else None

    def read(self, offset, length):
        return self.request(READ, offset, length)

    def write(self, offset, data, flags=0):
        self.request(WRITE, offset, len(data), data, flags)

    def zero(self, offset, length, flags=0):
        self.request(WRITE_ZEROES, offset, length, flags=flags)

    def trim(self, offset, length):
        self.request(TRIM, offset, length)

    def flush(self):
        self.request(FLUSH)

    def chunks(self, end=None, chunk=64 << 10):
        """
        In small requests: glibc keeps what it freed once of a large buffer and never asks the
        kernel for buffers of that size again, so large ones would change what is measured later.
        """
        end = self.size if end is None else end
        for offset in range(0, end, chunk):
            yield self.read(offset, min(chunk, end - offset))

    def read_all(self):
        return b''.join(self.chunks())

    def sha256(self, end=None):
        """Of the bytes before end, or of all."""
        digest = hashlib.sha256()
        for data in self.chunks(end):
            digest.update(data)
        return digest.hexdigest()

    def close(self):
        try:
            self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, DISC, 0, 0, 0))
        except OSError:
            pass
        self.sock.close()
