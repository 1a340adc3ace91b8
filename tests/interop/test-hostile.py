# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that lie, at real programs: the client gives up soon, the server goes on for others.

What is said byte for byte is in the unit tests; here count time, memory and the neighbours.
"""

import os
import socket
import struct
import subprocess
import threading
import time
import unittest

import nbdlib

nbd = nbdlib.need_libnbd()

MIB = 1 << 20
SANITIZED = 'asan' in nbdlib.BUILD or 'tsan' in nbdlib.BUILD
TANDEM_IO = os.path.join(nbdlib.BUILD, 'tools', 'tandem-io')
OPT, REP = 0x49484156454f5054, 0x0003e889045565a9
ACK, INFO, META, UNSUP = 1, 3, 4, 0x80000001


def reply(option, kind, data=b'', length=None):
    return struct.pack('>QIII', REP, option, kind, len(data) if length is None else length) + data


def export(size=MIB, flags=0xded):
    return reply(7, INFO, struct.pack('>HQH', 0, size, flags))


def chunk(cookie, kind, data=b'', flags=1, length=None):
    return struct.pack('>IHHQI', 0x668e33ef, flags, kind, cookie,
                       len(data) if length is None else length) + data


def data_chunk(cookie, offset, data, flags=1):
    return chunk(cookie, 1, struct.pack('>Q', offset) + data, flags)


class Liar:
    """A server that says the greeting, answers options, and then what the test wants."""

    def __init__(self, path, greeting=b'NBDMAGICIHAVEOPT\0\3', answers=None, on_read=None):
        self.greeting, self.answers, self.on_read = greeting, answers or {}, on_read
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            with s:
                try:
                    self.serve(s)
                except (OSError, struct.error):
                    pass  # the client has had enough

    @staticmethod
    def take(s, n):
        out = b''
        while len(out) < n:
            part = s.recv(n - len(out))
            if not part:
                raise OSError('end')
            out += part
        return out

    def serve(self, s):
        s.sendall(self.greeting)
        if len(self.greeting) < 18:
            return
        self.take(s, 4)
        option = 0
        while option != 7:
            _, option, n = struct.unpack('>QII', self.take(s, 16))
            self.take(s, n)
            self.say(s, self.answers.get(option, {
                8: reply(8, ACK), 10: reply(10, UNSUP), 7: export() + reply(7, ACK),
            }.get(option, reply(option, UNSUP))))
        while True:
            _, _, kind, cookie, _, length = struct.unpack('>IHHQQI', self.take(s, 28))
            if kind == 1:
                self.take(s, length)
            elif kind == 2:
                return
            self.say(s, self.on_read(cookie) if self.on_read and kind == 0
                     else struct.pack('>IIQ', 0x67446698, 0, cookie))

    @staticmethod
    def say(s, what):
        if isinstance(what, tuple):  # the same again and again, for two seconds
            end = time.monotonic() + 2
            while time.monotonic() < end:
                s.sendall(what[0] * max(1, 65536 // len(what[0])))
            raise OSError('enough')
        s.sendall(what)

    def close(self):
        self.socket.close()


HUGE = 0xffffffff
GREETINGS = {
    'nothing': b'',
    'no magic': b'x' * 18,
    'half a magic': b'NBDMAGIC',
    'the old style': struct.pack('>QQQI', 0x4e42444d41474943, 0x420281861253, MIB, 1) + bytes(124),
}
ANSWERS = {
    'no reply magic': {8: bytes(20)},
    'the reply to another option': {8: reply(7, ACK)},
    'a huge reply': {8: reply(8, ACK, length=HUGE)},
    'a huge error': {7: reply(7, UNSUP, length=HUGE)},
    'an ACK with data': {8: reply(8, ACK, b'x')},
    'a reply of no known type': {8: reply(8, 77)},
    'GO without size': {7: reply(7, ACK)},
    'a size that is negative': {7: export(1 << 63) + reply(7, ACK)},
    'the largest size': {7: export((1 << 64) - 1) + reply(7, ACK)},
    'no flags': {7: export(flags=0) + reply(7, ACK)},
    'a short export info': {7: reply(7, INFO, bytes(11)) + reply(7, ACK)},
    'a block size of 3': {7: reply(7, INFO, struct.pack('>HIII', 3, 3, 4096, MIB)) + export()
                          + reply(7, ACK)},
    'preferred below minimum': {7: reply(7, INFO, struct.pack('>HIII', 3, 4096, 512, MIB))
                                + export() + reply(7, ACK)},
    'infos without end': {7: (export(),)},
    'descriptions without end': {7: (reply(7, INFO, b'\0\2' + b'x' * 4000),)},
    'contexts without end': {10: (reply(10, META, struct.pack('>I', 1) + b'base:allocation'),)},
    'a context nobody asked for': {10: reply(10, META, struct.pack('>I', 1) + b'x:y')
                                   + reply(10, ACK)},
}
READS = {
    'no magic': lambda c: bytes(20),
    'a simple reply to a read': lambda c: struct.pack('>IIQ', 0x67446698, 0, c) + bytes(4096),
    'a cookie of nobody': lambda c: chunk(c + 1, 0),
    'nothing of it': lambda c: chunk(c, 0),
    'half of it': lambda c: data_chunk(c, 0, bytes(2048)),
    'more than it': lambda c: data_chunk(c, 0, bytes(8192)),
    'what lies before': lambda c: data_chunk(c, (1 << 64) - 512, bytes(1024)),
    'what lies behind': lambda c: data_chunk(c, 8192, bytes(512)),
    'a part twice': lambda c: data_chunk(c, 0, bytes(4096), 0) + data_chunk(c, 0, bytes(512)),
    'a huge chunk': lambda c: chunk(c, 1, bytes(8), length=HUGE),
    'an empty chunk': lambda c: data_chunk(c, 0, b''),
    'an empty hole': lambda c: chunk(c, 2, struct.pack('>QI', 0, 0)),
    'a huge hole': lambda c: chunk(c, 2, struct.pack('>QI', 0, HUGE)),
    'a chunk of no type': lambda c: chunk(c, 77),
    'status of a read': lambda c: chunk(c, 5, struct.pack('>III', 1, 4096, 0)),
    'a huge error': lambda c: chunk(c, 0x8001, length=HUGE),
    'an error that is none': lambda c: chunk(c, 0x8001, bytes(6)),
    'an error text beyond its end': lambda c: chunk(c, 0x8001, struct.pack('>IH', 5, 99)),
    'an end that has content': lambda c: chunk(c, 0, b'x'),
    'ends that end nothing': lambda c: chunk(c, 0, flags=0),
    'errors without end': lambda c: (chunk(c, 0x8077, bytes(60000), 0),),
    'a huge error that comes': lambda c: chunk(c, 0x8001, bytes(128 * MIB), length=HUGE),
}


class Client(unittest.TestCase):
    """tandem-io at a server that lies"""

    def gives_up(self, **lie):
        folder = nbdlib.Folder()
        self.addCleanup(folder.remove)
        liar = Liar(folder('s'), **lie)
        self.addCleanup(liar.close)
        begin = time.monotonic()
        p = subprocess.Popen([TANDEM_IO, '-f', 'raw', '-c', 'read 0 4k',
                              f'nbd+unix:///exp?socket={folder("s")}'],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        killer = threading.Timer(20, p.kill)
        killer.start()
        text = p.stdout.read().decode()
        killer.cancel()
        p.stdout.close()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(p.returncode, 1, text)
        self.assertNotEqual(text, '')
        self.assertLess(time.monotonic() - begin, 15)
        if not SANITIZED:
            self.assertLess(usage.ru_maxrss, 64 * 1024)  # KiB

    def test_greetings(self):
        for name, greeting in GREETINGS.items():
            with self.subTest(name):
                self.gives_up(greeting=greeting)

    def test_options(self):
        for name, answers in ANSWERS.items():
            with self.subTest(name):
                self.gives_up(answers=answers)

    def test_replies(self):
        for name, on_read in READS.items():
            with self.subTest(name):
                self.gives_up(on_read=on_read)


def option(number, data=b'', length=None):
    return struct.pack('>QII', OPT, number, len(data) if length is None else length) + data


def request(kind, offset=0, length=0, flags=0, cookie=7, magic=0x25609513):
    return struct.pack('>IHHQQI', magic, flags, kind, cookie, offset, length)


FLAGS, ENTER = struct.pack('>I', 3), option(1)
HOSTILE = lambda: {  # made late: what a child of ours takes at most counts from us
    'nothing': b'',
    'unknown flags': struct.pack('>I', 0xff) + ENTER,
    'no option magic': FLAGS + bytes(16),
    'an option of 4 GiB': FLAGS + option(7, length=HUGE),
    'an option that does not come': FLAGS + option(7, length=60000),
    'a name beyond its option': FLAGS + option(7, struct.pack('>IH', HUGE, 0)),
    'a name with NUL': FLAGS + option(7, struct.pack('>I', 3) + b'a\0b\0\0'),
    'contexts by the million': FLAGS + option(8) + option(10, struct.pack('>II', 0, HUGE)),
    'lists by the thousand': FLAGS + option(3) * 2000,
    'unknown options by the thousand': FLAGS + option(0xdead, b'x' * 60000) * 1100,
    'no request magic': FLAGS + ENTER + request(0, magic=0x12345678),
    'requests of all types': FLAGS + ENTER + b''.join(
        request(k, 8 * MIB, 512) for k in range(4, 4000)),
    'all flags': FLAGS + ENTER + request(0, 0, 512, 0xffff) * 1000,
    'the end of the numbers': FLAGS + ENTER + b''.join(
        request(k, (1 << 64) - 1, HUGE) for k in (0, 4, 5, 6, 7)) * 200,
    'a write of 4 GiB': FLAGS + ENTER + request(1, 0, HUGE) + bytes(MIB),
    'writes that do not come': FLAGS + ENTER + request(1, 0, 32 * MIB),
    'half a header': FLAGS + ENTER + request(0)[:13],
    'reads whose answers nobody takes': FLAGS + ENTER + request(0, 0, 8 * MIB) * 500,
    'the same, and good-bye': FLAGS + ENTER + request(0, 0, 8 * MIB) * 3 + request(2),
    'zeroes of the whole disk': FLAGS + ENTER + request(6, 8 * MIB, 56 * MIB) * 500,
}


class Server(unittest.TestCase):
    """tandem-nbd with clients that lie, each of them several times, beside an honest one"""

    def test_all(self):
        folder = nbdlib.Folder()
        self.addCleanup(folder.remove)
        content = os.urandom(MIB)
        server = nbdlib.tandem(folder('s'), folder.image('disk', 64 * MIB, content))
        self.addCleanup(server.stop)
        honest = nbd.NBD()
        honest.connect_uri(server.uri())
        for name, words in HOSTILE().items():
            with self.subTest(name):
                liars = [self.lie(server, words) for _ in range(4)]
                begin = time.monotonic()
                for i in range(100):
                    self.assertEqual(honest.pread(4096, i * 4096), content[i * 4096:][:4096])
                late = nbd.NBD()
                late.connect_uri(server.uri())
                self.assertEqual(late.pread(512, 512), content[512:1024])
                late.shutdown()
                self.assertLess(time.monotonic() - begin, 10)
                for s in liars:
                    s.close()
        with open(f'/proc/{server.process.pid}/status', encoding='ascii') as f:
            peak = int(next(line for line in f if line.startswith('VmHWM')).split()[1])
        if not SANITIZED:
            self.assertLess(peak, 400 * 1024)  # KiB: 4 clients of 64 MiB, and what they left
        honest.shutdown()

    @staticmethod
    def lie(server, words):
        s = socket.socket(socket.AF_UNIX)
        s.connect(server.socket)
        s.settimeout(0.2)  # a client that is not read goes on with its life
        try:
            s.sendall(words)
        except OSError:
            pass
        return s


if __name__ == '__main__':
    unittest.main()
