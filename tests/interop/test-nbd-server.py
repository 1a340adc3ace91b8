# SPDX-License-Identifier: GPL-2.0-or-later
"""tandem-nbd as others see it: libnbd, nbdinfo, nbdcopy, qemu-img and qemu-io."""

import errno
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import nbdlib

nbdlib.need('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'qemu-nbd')
nbd = nbdlib.need_libnbd()

MIB = 1 << 20
DATA = bytes(range(256)) * 4096  # 1 MiB


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = nbdlib.Folder()
        self.addCleanup(self.folder.remove)

    def serve(self, *options, size=8 * MIB, data=DATA):
        image = self.folder.image('image', size, data)
        server = nbdlib.tandem(self.folder('socket'), image, *options)
        self.addCleanup(server.stop)
        return server

    def connect(self, server, contexts=('base:allocation',), strict=True):
        h = nbd.NBD()
        if not strict:
            h.set_strict_mode(0)
        for c in contexts:
            h.add_meta_context(c)
        h.connect_uri(server.uri())
        return h

    def fails(self, error, call, *args):
        with self.assertRaises(nbd.Error) as caught:
            call(*args)
        self.assertEqual(caught.exception.errnum, error)


class Commands(Base):
    def test_read_and_write(self):
        h = self.connect(self.serve())
        self.assertEqual(h.get_size(), 8 * MIB)
        self.assertEqual(h.pread(MIB, 0), DATA)
        h.pwrite(b'hello', 5 * MIB + 3)
        self.assertEqual(h.pread(7, 5 * MIB + 2), b'\0hello\0')
        h.pwrite(b'fua', 5 * MIB, nbd.CMD_FLAG_FUA)
        h.flush()
        h.cache(MIB, 0)

    def test_zero_and_trim(self):
        h = self.connect(self.serve())
        h.zero(4096, 4096)
        h.zero(4096, 12288, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
        h.trim(8192, 65536)
        h.trim(1000, 200001, nbd.CMD_FLAG_FUA)  # not aligned to anything
        self.assertEqual(h.pread(4096, 4096), bytes(4096))
        self.assertEqual(h.pread(4096, 12288), bytes(4096))
        self.assertEqual(h.pread(4096, 8192), DATA[:4096])
        try:
            h.zero(4096, 20480, nbd.CMD_FLAG_FAST_ZERO)
            self.assertEqual(h.pread(4096, 20480), bytes(4096))
        except nbd.Error as e:
            self.assertEqual(e.errnum, errno.ENOTSUP)
            self.assertEqual(h.pread(4096, 20480), DATA[:4096])

    def test_status(self):
        h = self.connect(self.serve())
        seen = []
        h.block_status(8 * MIB, 0, lambda name, offset, extents, err: seen.extend(extents))
        self.assertEqual(seen, [MIB, 0, 7 * MIB, 3])
        seen = []
        h.block_status(2 * MIB, MIB // 2,
                       lambda name, offset, extents, err: seen.extend(extents),
                       nbd.CMD_FLAG_REQ_ONE)
        self.assertEqual(seen, [MIB // 2, 0])

    def test_structured_read(self):
        h = self.connect(self.serve())
        chunks = []
        h.pread_structured(2 * MIB, 0, lambda buf, offset, kind, err:
                           chunks.append((offset, len(buf), kind)))
        self.assertEqual(chunks[0], (0, MIB, nbd.READ_DATA))
        self.assertEqual(sum(c[1] for c in chunks if c[2] == nbd.READ_HOLE), MIB)
        chunks = []
        h.pread_structured(2 * MIB, 0, lambda buf, offset, kind, err:
                           chunks.append((offset, len(buf), kind)), nbd.CMD_FLAG_DF)
        self.assertEqual(chunks, [(0, 2 * MIB, nbd.READ_DATA)])

    def test_errors(self):
        h = self.connect(self.serve(), strict=False)
        self.fails(errno.EINVAL, h.pread, 512, 8 * MIB)
        self.fails(errno.ENOSPC, h.pwrite, b'x' * 512, 8 * MIB)
        self.fails(errno.ENOSPC, h.zero, 512, 8 * MIB)
        self.fails(errno.EINVAL, h.trim, 512, 8 * MIB)
        self.fails(errno.EINVAL, h.pread, 512, 1 << 62)
        self.fails(errno.EINVAL, h.pwrite, b'x', 0, nbd.CMD_FLAG_NO_HOLE)
        self.assertEqual(h.pread(1, 1), DATA[1:2])  # the connection lives

    def test_read_only(self):
        h = self.connect(self.serve('-r'), strict=False)
        self.assertTrue(h.is_read_only())
        self.fails(errno.EPERM, h.pwrite, b'x', 0)
        self.fails(errno.EPERM, h.zero, 512, 0)
        self.fails(errno.EPERM, h.trim, 512, 0)

    def test_without_structured_replies(self):
        h = nbd.NBD()
        h.set_request_structured_replies(False)
        h.connect_uri(self.serve().uri())
        self.assertEqual(h.pread(MIB, 0), DATA)

    def test_many_requests_at_once(self):
        h = self.connect(self.serve(size=64 * MIB))
        buffers = [nbd.Buffer.from_bytearray(bytearray([i + 1]) * 4096) for i in range(200)]
        cookies = [h.aio_pwrite(b, i * 4096) for i, b in enumerate(buffers)]
        while h.aio_in_flight() > 0:
            h.poll(-1)
        self.assertTrue(all(h.aio_command_completed(c) for c in cookies))
        for i in range(200):
            self.assertEqual(h.pread(4096, i * 4096), bytes([(i + 1) % 256]) * 4096)

    def test_multi_conn(self):
        server = self.serve()
        a, b = self.connect(server), self.connect(server)
        self.assertTrue(a.can_multi_conn())
        a.pwrite(b'seen', 0)
        self.assertEqual(b.pread(4, 0), b'seen')
        b.flush()

    def test_depth_context(self):
        base = self.folder.image('base', MIB, DATA)
        nbdlib.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw',
                   self.folder('top'))
        server = nbdlib.tandem(self.folder('socket'), self.folder('top'), '-f', 'qcow2', '-A')
        self.addCleanup(server.stop)
        h = self.connect(server, ('qemu:allocation-depth',))
        h.pwrite(b'x', 0)
        seen = []
        h.block_status(MIB, 0, lambda name, offset, extents, err: seen.extend(extents))
        self.assertEqual(seen, [65536, 1, MIB - 65536, 2])


class Errors(Base):
    """A disk that fails, behind our server."""

    def test_read_error_is_an_answer(self):
        image = self.folder.image('image', 8 * MIB, DATA)
        options = 'driver=blkdebug,inject-error.0.event=none,inject-error.0.iotype=read,' \
                  f'inject-error.0.sector=1024,image.driver=file,image.filename={image}'
        server = nbdlib.tandem(self.folder('socket'), options, '--image-opts')
        self.addCleanup(server.stop)
        for structured in True, False:
            h = nbd.NBD()
            h.set_request_structured_replies(structured)
            h.connect_uri(server.uri())
            self.fails(errno.EIO, h.pread, 4 * MIB, 0)
            self.assertEqual(h.pread(MIB // 2, 0), DATA[:MIB // 2])


class Programs(Base):
    def test_nbdinfo(self):
        server = self.serve('-x', 'disk', '-D', 'a description')
        text = nbdlib.run('nbdinfo', '--json', server.uri('disk'))
        for part in ('"export-size": 8388608', '"a description"', '"can_fast_zero": true',
                     '"block_size_maximum": 33554432'):
            self.assertIn(part, text)
        self.assertIn('disk', nbdlib.run('nbdinfo', '--list', server.uri()))

    def test_nbdcopy_both_ways(self):
        server = self.serve()
        nbdlib.run('nbdcopy', server.uri(), self.folder('copy'))
        with open(self.folder('copy'), 'rb') as f:
            self.assertEqual(f.read(MIB), DATA)
        other = self.folder.image('other', 8 * MIB, DATA[::-1])
        nbdlib.run('nbdcopy', other, server.uri())
        self.assertEqual(self.connect(server).pread(MIB, 0), DATA[::-1])

    def test_qemu(self):
        server = self.serve()
        nbdlib.run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', self.folder('image'),
                   server.uri())
        nbdlib.run('qemu-io', '-f', 'raw', '-c', 'write -P 5 1M 64k', '-c', 'read -P 5 1M 64k',
                   '-c', 'write -f -P 6 3M 64k', '-c', 'write -z -u 1M 32k',
                   '-c', 'read -P 0 1M 32k', '-c', 'discard 4M 1M', '-c', 'flush',
                   '-c', 'write -P 7 12345 678', '-c', 'read -P 7 12345 678', server.uri())
        self.assertIn('"start": 3145728, "length": 65536',
                      nbdlib.run('qemu-img', 'map', '--output=json', '-f', 'raw', server.uri()))

    def test_list_prints_what_qemu_prints(self):
        server = self.serve('-x', 'disk', '-D', 'a description')
        ours = nbdlib.run(nbdlib.TANDEM_NBD, '-L', '-k', server.socket)
        self.assertEqual(ours, nbdlib.run('qemu-nbd', '-L', '-k', server.socket))
        with nbdlib.qemu_nbd(self.folder('q'), self.folder.image('i', MIB), '-x', 'q') as q:
            self.assertEqual(nbdlib.run(nbdlib.TANDEM_NBD, '-L', '-k', q.socket),
                             nbdlib.run('qemu-nbd', '-L', '-k', q.socket))

    def test_offset(self):
        data = DATA[:MIB // 2] + b'x' * (MIB // 2)
        server = self.serve('-o', hex(MIB // 2), size=2 * MIB, data=data)
        h = self.connect(server)
        self.assertEqual(h.get_size(), 2 * MIB - MIB // 2)
        self.assertEqual(h.pread(MIB // 2, 0), b'x' * (MIB // 2))
        h.pwrite(b'y' * 512, 0)
        with open(self.folder('image'), 'rb') as f:
            f.seek(MIB // 2 - 1)
            self.assertEqual(f.read(2), DATA[MIB // 2 - 1:MIB // 2] + b'y')

    def test_refusals_are_qemus(self):
        image = self.folder.image('image', MIB, DATA)
        socket_path = self.folder('s')
        for words in (['-k', socket_path, '-f', 'foo', image],
                      ['-k', socket_path, '-f', 'raw', '/nonexistent'],
                      ['-k', socket_path, '-f', 'raw', '-o', '8388608', image],
                      ['-k', socket_path, '-f', 'raw', '-o', '-1', image],
                      ['-k', socket_path, '-f', 'raw', '-o', 'x', image],
                      ['-k', socket_path, '-n', '--cache=none', image],
                      ['-k', socket_path, '--aio=threads', '--aio=threads', image],
                      ['-k', socket_path, '--discard=unmap', '--discard=unmap', image],
                      ['-L', image], ['-L', '-x', 'a'], ['-L', '-f', 'raw'], ['-L', '-o', '512'],
                      ['-L', '--cache=none'], ['-L', '--fork'], ['-k', socket_path],
                      ['-k', socket_path, image, image]):
            with self.subTest(words=words):
                theirs, ours = (nbdlib.run(p, *words, status=1)
                                for p in ('qemu-nbd', nbdlib.TANDEM_NBD))
                self.assertEqual(re.sub('(^|`)tandem-nbd', r'\1qemu-nbd', ours),
                                 theirs.replace(shutil.which('qemu-nbd'), 'qemu-nbd'))

    def test_unknown_export_is_told_as_qemu_does(self):
        qemu = nbdlib.qemu_nbd(self.folder('q'), self.folder.image('other', MIB), '-x', 'there')
        self.addCleanup(qemu.stop)
        ours = self.serve('-x', 'there')
        for export in 'gone', '':
            said = {nbdlib.run(program, '-r', '-f', 'raw', '-c', 'length', server.uri(export),
                               status=1).replace(server.socket, 'S').replace('tandem-io', 'qemu-io')
                    for program in ('qemu-io', nbdlib.TANDEM_IO) for server in (qemu, ours)}
            self.assertEqual(len(said), 1, said)
            self.assertIn(f"server reported: export '{export}' not present", said.pop())

    def test_length_cannot_be_changed(self):
        server = self.serve()
        for words in (['img', 'resize', '-f', 'raw', server.uri(), '16M'],
                      ['io', '-f', 'raw', '-c', 'truncate 16M', server.uri()],
                      ['img', 'info', server.uri()]):
            theirs, ours = (subprocess.run([p + words[0], *words[1:]], capture_output=True,
                                           text=True, check=False)
                            for p in ('qemu-', nbdlib.TANDEM_IO[:-2]))
            self.assertEqual(ours.returncode, theirs.returncode)
            self.assertEqual(ours.stdout, theirs.stdout)
            self.assertEqual(ours.stderr.replace('tandem-', 'qemu-'), theirs.stderr)

    def test_tcp(self):
        image = self.folder.image('image', MIB, DATA)
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        p = subprocess.Popen([nbdlib.TANDEM_NBD, '-f', 'raw', '-b', '127.0.0.1', '-p', str(port),
                              '-v', image], stderr=subprocess.PIPE, text=True)
        self.assertIn('ready', p.stderr.readline())
        nbdlib.run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image,
                   f'nbd://127.0.0.1:{port}')
        p.wait(10)  # not persistent: it ends with its client
        p.stderr.close()
        self.assertEqual(p.returncode, 0)


class Process(Base):
    def test_fork_and_pid_file(self):
        image = self.folder.image('image', MIB, DATA)
        pid_file = self.folder('pid')
        nbdlib.run(nbdlib.TANDEM_NBD, '--fork', '--pid-file', pid_file, '-t', '-f', 'raw', '-k',
                   self.folder('s'), image)
        with open(pid_file, encoding='ascii') as f:
            pid = int(f.read())
        nbdlib.run('nbdinfo', f'nbd+unix:///?socket={self.folder("s")}')
        os.kill(pid, signal.SIGTERM)
        for _ in range(500):
            if not os.path.exists(pid_file):
                break
            time.sleep(0.02)
        self.assertFalse(os.path.exists(pid_file))
        self.assertFalse(os.path.exists(self.folder('s')))

    def test_what_is_missing_is_named(self):
        for option in ('--tls-creds=x', '--snapshot', '-c', '--nonsense', '--cache=warm'):
            text = nbdlib.run(nbdlib.TANDEM_NBD, option, 'x', status=1)
            self.assertIn(option.split('=')[-1 if option.startswith('--cache') else 0], text)
        self.assertIn('No such file', nbdlib.run(nbdlib.TANDEM_NBD, '-f', 'raw', '-k',
                                                 self.folder('s'), '/nonexistent', status=1))

    def test_ends_with_its_last_client(self):
        image = self.folder.image('image', MIB, DATA)
        server = nbdlib.Server([nbdlib.TANDEM_NBD, '-f', 'raw', '-k', self.folder('s'), image],
                               self.folder('s'))
        h = self.connect(server)
        h.shutdown()
        self.assertEqual(server.process.wait(10), 0)
        server.stop()


class Hostile(Base):
    """Raw bytes at the server; it must go on for others."""

    def raw(self, server):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(server.socket)
        self.addCleanup(s.close)
        self.assertEqual(len(s.recv(18, socket.MSG_WAITALL)), 18)
        return s

    def transmission(self, server):
        s = self.raw(server)
        s.sendall(struct.pack('>I', 3) + struct.pack('>QII', 0x49484156454f5054, 1, 0))
        self.assertEqual(len(s.recv(10, socket.MSG_WAITALL)), 10)
        return s

    def still_serves(self, server):
        self.assertEqual(self.connect(server).pread(4, 0), DATA[:4])

    def test_slow_loris(self):
        server = self.serve('--handshake-limit', '1')
        begin = time.monotonic()
        s = self.raw(server)
        s.sendall(b'\0\0\0')
        self.still_serves(server)
        self.assertEqual(s.recv(1), b'')
        self.assertLess(time.monotonic() - begin, 10)

    def test_byte_at_a_time(self):
        s = self.raw(self.serve())
        request = struct.pack('>I', 3) + struct.pack('>QII', 0x49484156454f5054, 1, 0) + \
            struct.pack('>IHHQQI', 0x25609513, 0, 0, 7, 1, 3)
        for i in range(len(request)):
            s.sendall(request[i:i + 1])
        self.assertEqual(s.recv(10, socket.MSG_WAITALL)[:8], struct.pack('>Q', 8 * MIB))
        self.assertEqual(s.recv(19, socket.MSG_WAITALL),
                         struct.pack('>IIQ', 0x67446698, 0, 7) + DATA[1:4])

    def test_never_reads(self):
        server = self.serve(size=64 * MIB)
        s = self.transmission(server)
        s.setblocking(False)
        request = struct.pack('>IHHQQI', 0x25609513, 0, 0, 7, 0, 32 * MIB)
        try:
            for _ in range(10000):
                s.send(request)
        except BlockingIOError:
            pass
        self.still_serves(server)
        with open(f'/proc/{server.process.pid}/statm', encoding='ascii') as f:
            resident = int(f.read().split()[1]) * 4096
        self.assertLess(resident, 200 * MIB)

    def test_many_idle_connections(self):
        server = self.serve()
        busy = self.connect(server)

        def resident():
            with open(f'/proc/{server.process.pid}/statm', encoding='ascii') as f:
                return int(f.read().split()[1]) * 4096

        def seconds(enough=0):
            """The best of many tries, for others use the machine too."""
            best, end = 60, time.monotonic() + (10 if enough else 0.5)
            while time.monotonic() < end and best > enough:
                begin = time.monotonic()
                for i in range(100):
                    busy.pread(4096, i * 4096)
                best = min(best, time.monotonic() - begin)
            return best

        took, before = seconds(), resident()
        idle = [self.transmission(server) for _ in range(500)]
        for s in idle:  # idle is also who was busy once
            s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 7, 0, 256 << 10))
            left = 16 + (256 << 10)
            while left > 0:
                left -= len(s.recv(left)) or self.fail('the connection has ended')
        each = (resident() - before) / len(idle)
        slower = seconds(1.3 * took) / took
        print(f'# {each / 1024:.1f} KiB a connection, a busy one takes {slower:.2f} times as long')
        self.still_serves(server)
        if 'asan' not in nbdlib.BUILD and 'tsan' not in nbdlib.BUILD:
            self.assertLess(each, 64 * 1024)
        self.assertLess(slower, 2)

    def test_client_killed_in_a_write(self):
        server = self.serve()
        s = self.transmission(server)
        s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 7, 0, 65536) + b'x' * 1000)
        s.close()
        self.still_serves(server)


if __name__ == '__main__':
    unittest.main()
