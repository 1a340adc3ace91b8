# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports and the NBD server by QMP, and nodes whose server is silent."""

import os
import socket
import struct
import threading
import time
import unittest

from qmpclient import Daemon

MIB = 1 << 20


class Raw:
    """A bare NBD client at a unix socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(path)
        assert len(self.recv(18)) == 18
        self.sock.sendall(struct.pack('>I', 3))

    def recv(self, n):
        return self.sock.recv(n, socket.MSG_WAITALL)

    def open(self, name):
        self.sock.sendall(struct.pack('>QII', 0x49484156454f5054, 1, len(name)) + name)
        return self.recv(10)

    def request(self, kind, offset, length, payload=b''):
        """The error number on the wire; None when the connection is gone."""
        try:
            self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, kind, 7, offset, length) +
                              payload)
            reply = self.recv(16)
        except OSError:
            return None
        return struct.unpack('>IIQ', reply)[1] if len(reply) == 16 else None

    def close(self):
        self.sock.close()


class Silent:
    """A server that does the handshake, and then takes everything and says nothing."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.clients = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                s, _ = self.listener.accept()
                self.clients.append(s)
                threading.Thread(target=self.serve, args=(s,), daemon=True).start()
        except OSError:
            pass

    @staticmethod
    def reply(s, option, kind, data=b''):
        s.sendall(struct.pack('>QIII', 0x0003e889045565a9, option, kind, len(data)) + data)

    def serve(self, s):
        try:
            s.sendall(b'NBDMAGICIHAVEOPT\0\3')
            s.recv(4, socket.MSG_WAITALL)
            option = 0
            while option != 7:
                _, option, n = struct.unpack('>QII', s.recv(16, socket.MSG_WAITALL))
                if n:
                    s.recv(n, socket.MSG_WAITALL)
                if option == 7:
                    self.reply(s, 7, 3, struct.pack('>HQH', 0, MIB, 0x6d))
                    self.reply(s, 7, 1)
                else:
                    self.reply(s, option, 0x80000001)
            while s.recv(65536):
                pass
        except (OSError, struct.error):
            pass

    def close(self):
        self.listener.close()
        for s in self.clients:
            s.close()


class Exports(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.c = self.daemon.client()
        self.addCleanup(self.c.close)
        self.socket = os.path.join(self.daemon.dir, 'nbd')
        self.image = os.path.join(self.daemon.dir, 'image')
        with open(self.image, 'wb') as f:
            f.truncate(MIB)

    def add_disk(self, name='disk', **options):
        self.c.cmd('blockdev-add', driver='file', node_name=name, filename=self.image, **options)

    def start(self):
        self.c.cmd('nbd-server-start', addr={'type': 'unix', 'data': {'path': self.socket}})

    def connect(self, name=b'disk'):
        raw = Raw(self.socket)
        self.addCleanup(raw.close)
        self.assertEqual(struct.unpack('>QH', raw.open(name))[0], MIB)
        return raw

    def test_server_start_and_stop(self):
        self.assertEqual(self.c.error('nbd-server-stop'), 'NBD server not running')
        self.start()
        self.assertEqual(self.c.error('nbd-server-start',
                                      addr={'type': 'unix', 'data': {'path': self.socket}}),
                         'NBD server already running')
        self.c.cmd('nbd-server-stop')
        self.assertFalse(os.path.exists(self.socket))
        self.assertIn('tls-creds', self.c.error(
            'nbd-server-start', tls_creds='x',
            addr={'type': 'unix', 'data': {'path': self.socket}}))
        self.start()

    def test_add_says_what_is_wrong(self):
        self.add_disk()
        add = {'type': 'nbd', 'id': 'e0', 'node_name': 'disk'}
        self.assertEqual(self.c.error('block-export-add', **add), 'NBD server not running')
        self.start()
        self.c.cmd('block-export-add', **add)
        self.assertIn('already in use', self.c.error('block-export-add', **add))
        add['id'] = 'e1'
        self.assertIn("already has export named 'disk'", self.c.error('block-export-add', **add))
        self.assertIn('too long', self.c.error('block-export-add', name='x' * 4097, **add))
        self.assertIn('nope', self.c.error('block-export-add', type='nbd', id='e1',
                                           node_name='nope'))
        (row,) = self.c.cmd('query-block-exports')
        self.assertEqual(row.pop('stats')['rd_operations'], 0)
        self.assertEqual(row, {'id': 'e0', 'type': 'nbd', 'node-name': 'disk',
                               'shutting-down': False})

    def test_requests_of_clients_are_counted(self):
        self.add_disk()
        self.start()
        self.c.cmd('block-export-add', type='nbd', id='e0', node_name='disk', writable=True)
        self.c.cmd('block-latency-histogram-set', id='e0', boundaries=[1])
        raw = self.connect()
        self.assertEqual(raw.request(1, 0, 512, bytes(512)), 0)
        self.assertEqual(raw.request(3, 0, 0), 0)
        (row,) = self.c.cmd('query-block-exports')
        self.assertEqual(row['stats']['wr_operations'], 1)
        self.assertEqual(row['stats']['wr_bytes'], 512)
        self.assertEqual(row['stats']['flush_operations'], 1)
        self.assertEqual(row['stats']['wr_latency_histogram'], {'boundaries': [1], 'bins': [0, 1]})

    def test_read_only_node(self):
        self.add_disk(read_only=True)
        self.start()
        self.assertIn('read-only', self.c.error('block-export-add', type='nbd', id='e0',
                                                node_name='disk', writable=True))
        self.c.cmd('nbd-server-add', device='disk', writable=True)  # the old way takes less
        self.assertEqual(self.connect().request(1, 0, 1, b'x'), 1)

    def test_safe_and_hard_removal(self):
        self.add_disk()
        self.start()
        self.c.cmd('block-export-add', type='nbd', id='e0', node_name='disk', writable=True)
        raw = self.connect()
        self.assertEqual(raw.request(1, 0, 1, b'x'), 0)
        self.assertEqual(self.c.error('block-export-del', id='e0'), "export 'e0' still in use")
        self.assertEqual(raw.request(3, 0, 0), 0)
        self.assertIn('use', self.c.error('blockdev-del', node_name='disk'))
        self.c.cmd('block-export-del', id='e0', mode='hard')
        self.c.wait_event('BLOCK_EXPORT_DELETED', id='e0')
        self.assertIsNone(raw.request(3, 0, 0))
        self.assertEqual(self.c.cmd('query-block-exports'), [])
        self.assertIn("'e0' is not found", self.c.error('block-export-del', id='e0'))
        self.c.cmd('blockdev-del', node_name='disk')

    def test_stop_removes_the_exports(self):
        self.add_disk()
        self.start()
        self.c.cmd('nbd-server-add', device='disk', writable=True)
        raw = self.connect()
        self.c.cmd('nbd-server-stop')
        self.c.wait_event('BLOCK_EXPORT_DELETED', id='disk')
        self.assertIsNone(raw.request(3, 0, 0))
        self.assertEqual(self.c.cmd('query-block-exports'), [])

    def test_remove_by_name(self):
        self.add_disk()
        self.start()
        self.c.cmd('nbd-server-add', device='disk', name='other')
        self.assertIn('not found', self.c.error('nbd-server-remove', name='disk'))
        self.c.cmd('nbd-server-remove', name='other')
        self.c.wait_event('BLOCK_EXPORT_DELETED', id='other')

    def client_node(self, path, export='', **options):
        return {'driver': 'nbd', 'node_name': 'remote', 'export': export,
                'server': {'type': 'unix', 'path': path}, **options}

    def test_connecting_to_oneself(self):
        self.add_disk()
        self.start()
        self.c.cmd('block-export-add', type='nbd', id='e0', node_name='disk', writable=True)
        self.assertIn('not available', self.c.error('blockdev-add',
                                                    **self.client_node(self.socket, 'wrong')))
        self.c.cmd('blockdev-add', **self.client_node(self.socket, 'disk'))
        self.c.cmd('blockdev-del', node_name='remote')

    def test_tls_is_refused_by_name(self):
        self.assertIn('tls-creds', self.c.error(
            'blockdev-add', **self.client_node(self.socket, tls_creds='x')))

    def silent_node(self, **options):
        path = os.path.join(self.daemon.dir, 'silent')
        silent = Silent(path)
        self.addCleanup(silent.close)
        self.c.cmd('blockdev-add', **self.client_node(path, **options))
        return silent

    def test_silent_server_does_not_hold_up_del_and_quit(self):
        for options in {}, {'reconnect_delay': 300}:
            with self.subTest(options=options):
                self.silent_node(**options)
                begin = time.monotonic()
                self.c.cmd('blockdev-del', node_name='remote')
                self.assertLess(time.monotonic() - begin, 5)
                os.unlink(os.path.join(self.daemon.dir, 'silent'))
        self.silent_node()
        begin = time.monotonic()
        self.c.cmd('quit')
        self.assertEqual(self.daemon.wait(), 0)
        self.assertLess(time.monotonic() - begin, 5)

    def test_quit_with_a_request_in_flight_to_a_silent_server(self):
        self.silent_node(reconnect_delay=300)
        self.start()
        self.c.cmd('block-export-add', type='nbd', id='e0', node_name='remote', name='disk')
        raw = self.connect()
        raw.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 7, 0, 512))
        time.sleep(0.2)
        begin = time.monotonic()
        self.c.cmd('quit')
        self.assertEqual(self.daemon.wait(), 0)
        self.assertLess(time.monotonic() - begin, 5)


if __name__ == '__main__':
    unittest.main()
