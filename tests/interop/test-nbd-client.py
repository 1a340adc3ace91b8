# SPDX-License-Identifier: GPL-2.0-or-later
"""Our NBD client against qemu-nbd and nbdkit.

The client is in tandem-nbd, which serves the other server's export; libnbd asks
it and compares with what must be there.
"""

import errno
import time
import unittest

import nbdlib

nbdlib.need('nbdkit', 'qemu-nbd', 'qemu-img')
nbd = nbdlib.need_libnbd()

MIB = 1 << 20
DATA = bytes(range(256)) * 4096


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = nbdlib.Folder()
        self.addCleanup(self.folder.remove)

    def through(self, server, export='', **options):
        """A libnbd handle on our server, whose disk is @server's."""
        self.addCleanup(server.stop)
        text = f'driver=raw,file.driver=nbd,file.server.type=unix,' \
               f'file.server.path={server.socket},file.export={export}'
        for key, value in options.items():
            text += f',file.{key.replace("_", "-")}={value}'
        ours = nbdlib.tandem(self.folder('ours'), text, '--image-opts')
        self.addCleanup(ours.stop)
        h = nbd.NBD()
        h.add_meta_context('base:allocation')
        h.connect_uri(ours.uri())
        return h

    def exercise(self, h, status=True):
        """Each kind of request, at offsets and lengths of all sorts."""
        self.assertEqual(h.pread(MIB, 0), DATA)
        self.assertEqual(h.pread(777, 12345), DATA[12345:12345 + 777])
        h.pwrite(b'exact bytes', 2 * MIB + 17)
        h.pwrite(b'Z' * 300000, 3 * MIB, nbd.CMD_FLAG_FUA)
        self.assertEqual(h.pread(13, 2 * MIB + 16), b'\0exact bytes\0')
        self.assertEqual(h.pread(300000, 3 * MIB), b'Z' * 300000)
        h.zero(100000, 3 * MIB + 1000)
        self.assertEqual(h.pread(300000, 3 * MIB),
                         b'Z' * 1000 + bytes(100000) + b'Z' * 199000)
        h.trim(65536, 4 * MIB)
        h.trim(999, 4 * MIB + 1)
        h.flush()
        if status:
            seen = []
            h.block_status(MIB, 0, lambda name, offset, extents, err: seen.extend(extents))
            self.assertEqual(seen[1], 0)


class Qemu(Base):
    def test_all_requests(self):
        image = self.folder.image('image', 8 * MIB, DATA)
        self.exercise(self.through(nbdlib.qemu_nbd(self.folder('q'), image)))

    def test_named_export_and_zero_of_64_mib(self):
        image = self.folder.image('image', 128 * MIB, DATA * 100)
        h = self.through(nbdlib.qemu_nbd(self.folder('q'), image, '-x', 'a b'), 'a b')
        h.zero(64 * MIB, 0)
        self.assertEqual(h.pread(MIB, 0), bytes(MIB))

    def test_read_only(self):
        image = self.folder.image('image', MIB, DATA)
        with nbdlib.qemu_nbd(self.folder('q'), image, '-r') as q:
            text = nbdlib.run(nbdlib.TANDEM_NBD, '-f', 'raw', '-k', self.folder('s'), q.uri(),
                              status=1)
            self.assertIn('without write permission', text)
            with nbdlib.tandem(self.folder('s'), q.uri(), '-r') as ours:
                h = nbd.NBD()
                h.connect_uri(ours.uri())
                self.assertEqual(h.pread(MIB, 0), DATA)

    def test_wrong_export(self):
        image = self.folder.image('image', MIB, DATA)
        with nbdlib.qemu_nbd(self.folder('q'), image, '-x', 'right') as q:
            text = nbdlib.run(nbdlib.TANDEM_NBD, '-f', 'raw', '-k', self.folder('s'),
                              q.uri('wrong'), status=1)
            self.assertIn('not available', text)

    def test_killed_under_load(self):
        image = self.folder.image('image', 64 * MIB, DATA)
        q = nbdlib.qemu_nbd(self.folder('q'), image)
        h = self.through(q)
        buffers = [nbd.Buffer(MIB) for _ in range(32)]
        cookies = [h.aio_pread(b, 0) for b in buffers]
        q.kill()
        begin = time.monotonic()
        for c in cookies:
            try:
                while not h.aio_command_completed(c):
                    h.poll(5000)
            except nbd.Error as e:
                self.assertEqual(e.errnum, errno.EIO)
        with self.assertRaises(nbd.Error):
            h.pread(512, 0)
        self.assertLess(time.monotonic() - begin, 5)

    def test_comes_back_after_a_kill(self):
        image = self.folder.image('image', MIB, DATA)
        first = nbdlib.qemu_nbd(self.folder('q'), image)
        h = self.through(first, reconnect_delay=30)
        self.assertEqual(h.pread(512, 0), DATA[:512])
        first.kill()
        second = nbdlib.qemu_nbd(self.folder('q'), image)
        self.addCleanup(second.stop)
        self.assertEqual(h.pread(512, 512), DATA[512:1024])


class Nbdkit(Base):
    def file(self):
        return self.folder.image('image', 8 * MIB, DATA)

    def test_filters(self):
        for filters, arguments in (
                ([], []),
                (['delay'], ['rdelay=2ms', 'wdelay=2ms']),
                (['noparallel'], ['serialize=all-requests']),
                (['noextents'], []),
                (['nozero'], []),
                (['fua'], ['fuamode=emulate']),
                (['blocksize-policy'], ['blocksize-minimum=512', 'blocksize-preferred=4096',
                                        'blocksize-maximum=65536', 'blocksize-error-policy=error']),
                (['blocksize-policy'], ['blocksize-minimum=4096', 'blocksize-preferred=4096',
                                        'blocksize-maximum=1M', 'blocksize-error-policy=error'])):
            with self.subTest(filters=filters, arguments=arguments):
                names = [f'--filter={f}' for f in filters]
                image = self.file()
                server = nbdlib.nbdkit(self.folder('k'), *names, 'file', image, *arguments)
                self.exercise(self.through(server), status='noextents' not in filters)
                self.doCleanups()
                self.setUp()

    def test_odd_size(self):
        server = nbdlib.nbdkit(self.folder('k'), '--filter=truncate', 'file', self.file(),
                               'truncate=1000001')
        h = self.through(server)
        self.assertEqual(h.get_size(), 1000001)
        self.assertEqual(h.pread(11, 999990), DATA[999990:1000001])
        h.pwrite(b'!', 1000000)
        self.assertEqual(h.pread(2, 999999), DATA[999999:1000000] + b'!')

    def test_errors_are_passed_on(self):
        server = nbdlib.nbdkit(self.folder('k'), '--filter=error', 'file', self.file(),
                               'error-pread=ENOSPC', 'error-pread-rate=100%')
        h = self.through(server)
        with self.assertRaises(nbd.Error) as caught:
            h.pread(512, 0)
        self.assertEqual(caught.exception.errnum, errno.ENOSPC)
        h.pwrite(b'x' * 512, 0)  # the connection lives

    def test_without_structured_replies(self):
        server = nbdlib.nbdkit(self.folder('k'), '--no-sr', 'file', self.file())
        self.exercise(self.through(server), status=True)

    def test_tool_flushes_when_it_ends(self):
        log = self.folder('log')
        server = nbdlib.nbdkit(self.folder('k'), '--filter=log', 'file', self.file(),
                               f'logfile={log}')
        for command, flushes in ('read 0 512', False), ('write 0 512', True):
            with self.subTest(command=command):
                nbdlib.run(nbdlib.TANDEM_IO, '-f', 'raw', '-t', 'writeback', '-c', command,
                           server.uri())
                with open(log, encoding='utf-8') as f:
                    self.assertEqual('Flush' in f.read(), flushes)

    def test_old_style_is_refused(self):
        with nbdlib.nbdkit(self.folder('k'), '-o', 'file', self.file()) as k:
            text = nbdlib.run(nbdlib.TANDEM_NBD, '-f', 'raw', '-k', self.folder('s'), k.uri(),
                              status=1)
            self.assertIn('old style', text)


class Self(Base):
    def test_our_client_and_our_server(self):
        image = self.folder.image('image', 8 * MIB, DATA)
        self.exercise(self.through(nbdlib.tandem(self.folder('s'), image)))

    def test_nobody_there(self):
        text = nbdlib.run(nbdlib.TANDEM_NBD, '-f', 'raw', '-k', self.folder('s'),
                          f'nbd+unix:///?socket={self.folder("nobody")}', status=1)
        self.assertIn('No such file', text)


if __name__ == '__main__':
    unittest.main()
