# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that misbehave, and many of them: the daemon stays small and answers the others."""

import json
import os
import socket
import time
import unittest

from qmpclient import Daemon, Qmp, TANDEMD

# AddressSanitizer keeps freed memory for a while, and is slow.
SANITIZED = b'__asan_init' in open(TANDEMD, 'rb').read()
SLACK = 256 if SANITIZED else 1


def rss_kib(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as status:
        for line in status:
            if line.startswith('VmRSS:'):
                return int(line.split()[1])
    raise AssertionError('no VmRSS')


class Clients(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon('-qmp', 'unix:{dir}/other,server=on,wait=off')
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.other = os.path.join(self.daemon.dir, 'other')

    def raw_socket(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(self.daemon.path)
        return s

    def still_works(self):
        c = Qmp(self.other)
        self.assertEqual(c.cmd('query-status')['running'], True)
        c.close()

    def test_deep_nesting(self):
        """However many brackets come, they are counted and not kept; then all is well again."""
        c = self.daemon.client()
        before = rss_kib(self.daemon.proc.pid)
        chunk = b'[' * (1 << 20)
        c.sock.settimeout(60)
        for _ in range(64 if SANITIZED else 1024):
            c.sock.sendall(chunk)
        self.assertIn('deep', c.reply()['error']['desc'])
        self.assertLess(rss_kib(self.daemon.proc.pid), before + SLACK * 4096)
        self.assertEqual(c.raw('\x00{"execute": "query-status", "id": 1}')['id'], 1)
        c.close()

    def test_deepest_that_is_allowed(self):
        """What is as deep as allowed is parsed, refused or echoed, and freed."""
        c = self.daemon.client()
        deep = '[' * 1000 + ']' * 1000
        self.assertEqual(c.raw(deep)['error']['desc'], 'QMP input must be a JSON object')
        c.sock.sendall(('{"execute": "query-status", "id": %s}' % deep).encode())
        reply = c.read_line().decode().split('"id": ')[1].strip()[:-1]
        self.assertEqual(reply, deep)
        reply = c.raw('{"execute": "query-status", "arguments": {"x": %s}}' % deep)
        self.assertIn('unexpected', reply['error']['desc'])
        nested = '{"driver": "raw", "file": ' * 900 + '1' + '}' * 900
        reply = c.raw('{"execute": "blockdev-add", "arguments": %s}' % nested)
        self.assertIn('error', reply)
        c.close()

    def test_one_large_request(self):
        c = self.daemon.client()
        c.sock.sendall(b'{"execute": "query-status", "id": "')
        for _ in range(66):
            c.sock.sendall(b'x' * (1 << 20))
        self.assertIn('large', c.reply()['error']['desc'])
        self.assertEqual(c.raw('\x00{"execute": "query-status", "id": 1}')['id'], 1)
        c.close()
        self.assertLess(rss_kib(self.daemon.proc.pid), SLACK * 64 * 1024)

    def test_client_that_never_reads(self):
        """Commands wait for it, events are dropped, and nobody else notices."""
        deaf = self.raw_socket()
        deaf.sendall(b'{"execute": "qmp_capabilities"}')
        deaf.settimeout(0.5)
        request = b'{"execute": "query-qmp-schema"}' * 1000
        sent = 0
        try:
            for _ in range(200):
                sent += deaf.send(request)
        except socket.timeout:
            pass
        self.assertLess(sent, 200 * len(request))
        c = Qmp(self.other)
        before = rss_kib(self.daemon.proc.pid)
        for _ in range(10000):
            c.sock.sendall(b'{"execute": "stop"}{"execute": "cont"}')
            for _ in range(4):
                c.read()
        self.assertLess(rss_kib(self.daemon.proc.pid), before + SLACK * 4096)
        deaf.settimeout(20)
        lines = deaf.makefile('rb')
        dropped = 0
        while not dropped:
            event = json.loads(lines.readline())
            if event.get('event') == 'MONITOR_EVENTS_DROPPED':
                dropped = event['data']['count']
        self.assertGreater(dropped, 1000)
        lines.close()
        deaf.close()
        c.close()

    def test_clients_come_and_go(self):
        """Two hundred of them: politely, half way through a request, and without reading."""
        self.still_works()
        before = rss_kib(self.daemon.proc.pid)
        fds = len(os.listdir(f'/proc/{self.daemon.proc.pid}/fd'))
        for i in range(200):
            if i % 4 == 0:
                c = self.daemon.client()
                c.cmd('query-version')
                c.close()
            elif i % 4 == 1:
                s = self.raw_socket()
                s.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-')
                s.close()
            elif i % 4 == 2:
                s = self.raw_socket()
                s.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-qmp-schema"}' * 5)
                s.close()
            else:
                self.raw_socket().close()
        self.daemon.client().close()
        self.still_works()
        end = time.monotonic() + 10
        while len(os.listdir(f'/proc/{self.daemon.proc.pid}/fd')) > fds:
            self.assertLess(time.monotonic(), end, 'descriptors are left over')
            time.sleep(0.05)
        self.assertLess(rss_kib(self.daemon.proc.pid), before + SLACK * 4096)

    def test_many_at_once(self):
        """Those who have to wait for their turn get it."""
        waiting = [self.raw_socket() for _ in range(60)]
        for s in waiting:
            with s.makefile('rb') as lines:
                self.assertIn(b'QMP', lines.readline())
            s.close()
        self.still_works()

    def test_half_closed_client_gets_its_replies(self):
        s = self.raw_socket()
        s.sendall(b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 30)
        s.shutdown(socket.SHUT_WR)
        with s.makefile('rb') as lines:
            replies = [json.loads(line) for line in lines]
        self.assertEqual(len(replies), 32)
        self.assertTrue(all('return' in r for r in replies[1:]))
        s.close()

    def test_slow_command_holds_up_nobody(self):
        """A node whose server does not answer is being opened meanwhile."""
        silent = socket.socket(socket.AF_UNIX)
        path = os.path.join(self.daemon.dir, 'silent')
        silent.bind(path)
        silent.listen(5)
        slow = self.daemon.client()
        slow.sock.sendall(json.dumps({
            'execute': 'blockdev-add', 'id': 'slow',
            'arguments': {'driver': 'nbd', 'node-name': 'n',
                          'server': {'type': 'unix', 'path': path}}}).encode())
        slow.sock.sendall(b'{"execute": "query-status", "id": "behind"}')
        peer, _ = silent.accept()
        start = time.monotonic()
        self.still_works()
        self.assertLess(time.monotonic() - start, 1)
        peer.close()
        self.assertEqual([slow.reply()['id'] for _ in range(2)], ['slow', 'behind'])

        slow.sock.sendall(json.dumps({
            'execute': 'blockdev-add',
            'arguments': {'driver': 'nbd', 'node-name': 'n',
                          'server': {'type': 'unix', 'path': path}}}).encode())
        peer, _ = silent.accept()
        slow.close()                          # vanishes while its command runs
        self.daemon.client().close()          # and the next one is served at once
        self.assertLess(time.monotonic() - start, 3)
        peer.close()
        silent.close()

    def test_quit_with_a_silent_server(self):
        silent = socket.socket(socket.AF_UNIX)
        path = os.path.join(self.daemon.dir, 'silent')
        silent.bind(path)
        silent.listen(5)
        slow = self.daemon.client()
        slow.sock.sendall(json.dumps({
            'execute': 'blockdev-add',
            'arguments': {'driver': 'nbd', 'node-name': 'n',
                          'server': {'type': 'unix', 'path': path}}}).encode())
        peer, _ = silent.accept()
        c = Qmp(self.other)
        start = time.monotonic()
        self.assertEqual(c.cmd('quit'), {})
        self.assertEqual(self.daemon.wait(), 0)
        self.assertLess(time.monotonic() - start, 8)
        peer.close()
        silent.close()
        slow.close()
        c.close()


if __name__ == '__main__':
    unittest.main()
