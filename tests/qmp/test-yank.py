# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that stops answering, and commands that wait for it: yank lets them go on."""

import json
import os
import signal
import subprocess
import time
import unittest

from qmpclient import BUILD, Daemon, Qmp, QmpError, Relay

PROMPT = 10  # seconds a command may take that waits for nobody; machines are busy
DELAY = 600  # of reconnecting: nothing passes because it has passed


def thread_states(pid):
    """A signal to stop returns before they have."""
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/stat', encoding='ascii') as f:
            yield f.read().rsplit(')', 1)[1].split()[0]


class Yank(unittest.TestCase):
    def setUp(self):
        self.far = self.start('--blockdev',
                              'driver=null-co,node-name=d,size=1048576,read-zeroes=on',
                              '--nbd-server', 'addr.type=unix,addr.path={dir}/nbd',
                              '--export', 'type=nbd,id=e,node-name=d,name=d,writable=on')
        self.near = self.start('-qmp', 'unix:{dir}/qmp2,server=on,wait=off')
        self.c = self.client(self.near.path, enable=['oob'])
        self.server = f'{self.far.dir}/nbd'

    def start(self, *options):
        daemon = Daemon(*options)
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def client(self, path, **agreed):
        c = Qmp(path, negotiate=False)
        self.addCleanup(c.close)
        c.cmd('qmp_capabilities', **agreed)
        return c

    def relay(self):
        relay = Relay(f'{self.near.dir}/relay', self.server)
        self.addCleanup(relay.kill)
        return relay.proc, relay.path

    def stop(self, pid):
        """Until the returned function is called, or the test ends."""
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        while any(state != 'T' for state in thread_states(pid)):
            time.sleep(0.001)
        return lambda: os.kill(pid, signal.SIGCONT)

    def attach(self, path, name='n', **more):
        self.c.cmd('blockdev-add', driver='nbd', node_name=name, export='d',
                   server={'type': 'unix', 'path': path}, **more)

    def send(self, name, ident, client=None, **arguments):
        """Ask and do not wait."""
        request = {'execute': name, 'id': ident, 'arguments': arguments}
        (client or self.c).sock.sendall(json.dumps(request).encode())

    def send_io(self, line, ident, client=None, node='n'):
        self.send('human-monitor-command', ident, client,
                  **{'command-line': f'qemu-io {node} "{line}"'})

    def yank(self, *nodes):
        request = {'exec-oob': 'yank', 'id': 'yank', 'arguments': {
            'instances': [{'type': 'block-node', 'node-name': n} for n in nodes]}}
        self.began = time.monotonic()
        self.assertEqual(self.c.raw(json.dumps(request)), {'return': {}, 'id': 'yank'})

    def answer(self, ident, client=None):
        reply = (client or self.c).reply()
        self.assertEqual(reply['id'], ident)
        self.assertLess(time.monotonic() - self.began, PROMPT)
        return reply

    def assert_hangs(self, client=None):
        """What has been asked is not answered; what is out of band is."""
        c = client or self.c
        c.sock.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            c.sock.recv(1)
        c.sock.settimeout(20)

    def read_once(self):
        """What the command says of it."""
        self.near.printed()
        self.c.cmd('human-monitor-command', command_line='qemu-io n "read 0 4k"')
        said = self.near.printed()
        self.assertNotEqual(said, '')
        return said

    def wait_usable(self):
        end = time.monotonic() + 60
        while 'failed' in self.read_once():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)

    def test_instances(self):
        self.assertEqual(self.c.cmd('query-yank'), [])
        self.attach(self.server)
        self.c.cmd('blockdev-add', driver='null-co', node_name='z')
        self.assertEqual(self.c.cmd('query-yank'), [{'type': 'block-node', 'node-name': 'n'}])
        n, z = ({'type': 'block-node', 'node-name': x} for x in 'nz')
        for bad in ([z], [n, z], [{'type': 'chardev', 'id': 'n'}], [{'type': 'migration'}]):
            with self.assertRaises(QmpError) as e:
                self.c.cmd('yank', instances=bad)
            self.assertEqual((e.exception.cls, e.exception.desc),
                             ('DeviceNotFound', 'Instance not found'))
        self.assertNotIn('failed', self.read_once())
        self.c.cmd('yank', instances=[n, n])
        self.wait_usable()

    def in_flight(self, pid, path, **more):
        self.attach(path, **more)
        go_on = self.stop(pid)
        self.send_io('write 0 4k', 1)
        self.send('query-version', 2)
        self.assert_hangs()
        self.yank('n')
        self.answer(1)
        self.assertIn('write failed: Input/output error', self.near.printed())
        self.answer(2)
        self.send_io('write 0 4k', 3)
        self.answer(3)
        self.assertIn('write failed: Input/output error', self.near.printed())
        go_on()
        self.wait_usable()

    def test_request_at_a_silent_server(self):
        self.in_flight(self.far.proc.pid, self.server)

    def test_request_at_a_silent_relay(self):
        relay, path = self.relay()
        self.in_flight(relay.pid, path)

    def test_request_that_would_be_sent_again(self):
        self.in_flight(self.far.proc.pid, self.server, **{'reconnect-delay': DELAY})

    def test_request_that_waits_for_a_lost_server(self):
        relay, path = self.relay()
        self.attach(path, **{'reconnect-delay': DELAY})
        self.stop(self.far.proc.pid)
        relay.kill()
        self.send_io('write 0 4k', 1)
        self.assert_hangs()
        self.yank('n')
        self.answer(1)
        self.assertIn('write failed: Input/output error', self.near.printed())

    def test_drain(self):
        """A reopening waits for a request of another client."""
        self.attach(self.server)
        self.c.cmd('blockdev-add', driver='raw', node_name='top', file='n')
        other = self.client(f'{self.near.dir}/qmp2')
        self.stop(self.far.proc.pid)
        self.send_io('write 0 4k', 1, other, node='top')
        self.assert_hangs(other)
        self.send('blockdev-reopen', 2,
                  options=[{'driver': 'raw', 'node-name': 'top', 'file': 'n'}])
        self.assert_hangs()
        self.yank('n')
        self.answer(1, other)
        self.assertIn('write failed: Input/output error', self.near.printed())
        self.assertEqual(self.answer(2), {'return': {}, 'id': 2})

    def test_opening(self):
        relay, path = self.relay()
        self.stop(relay.pid)
        self.send('blockdev-add', 1, **{'driver': 'nbd', 'node-name': 'n', 'open-timeout': DELAY,
                                        'server': {'type': 'unix', 'path': path}})
        self.assert_hangs()
        self.assertEqual(self.c.raw('{"exec-oob": "query-yank"}'),
                         {'return': [{'type': 'block-node', 'node-name': 'n'}]})
        self.yank('n')
        self.assertIn('error', self.answer(1))
        self.assertEqual(self.c.cmd('query-yank'), [])

    def test_opening_that_waits_for_the_next_attempt(self):
        self.send('blockdev-add', 1, **{'driver': 'nbd', 'node-name': 'n', 'open-timeout': DELAY,
                                        'server': {'type': 'unix', 'path': self.near.dir + '/no'}})
        self.assert_hangs()
        self.yank('n')
        self.assertIn('error', self.answer(1))

    def test_closing(self):
        """A node that is not there any more for others can be yanked while it closes."""
        relay, path = self.relay()
        self.attach(path)
        self.send_io('write 0 4k', 1)
        self.assertEqual(self.c.reply()['id'], 1)
        self.stop(relay.pid)
        self.send('blockdev-del', 2, **{'node-name': 'n'})
        self.assert_hangs()
        self.yank('n')
        self.assertEqual(self.answer(2), {'return': {}, 'id': 2})

    def test_checkpoint(self):
        """The disk of a secondary is far away, a write of the primary on its way there."""
        d = self.near.dir
        for name in ('active', 'hidden'):
            subprocess.run([os.path.join(BUILD, 'tools', 'tandem-img'), 'create', '-q', '-f',
                            'qcow2', f'{d}/{name}', '1M'], check=True)
        self.assertEqual('OK\r\n', self.c.cmd('human-monitor-command', command_line=(
            'drive_add 0 if=none,id=disk,driver=raw,file.driver=nbd,file.node-name=n,'
            f'file.export=d,file.server.type=unix,file.server.path={self.server}')))
        self.c.cmd('blockdev-add', driver='replication', node_name='r', mode='secondary',
                   top_id='top', file={
                       'driver': 'qcow2', 'file': {'driver': 'file', 'filename': f'{d}/active'},
                       'backing': {'driver': 'qcow2', 'backing': 'disk',
                                   'file': {'driver': 'file', 'filename': f'{d}/hidden'}}})
        self.c.cmd('blockdev-add', driver='quorum', node_name='top', vote_threshold=1,
                   read_pattern='fifo', children=['r'])
        self.c.cmd('replication-start', mode='secondary')
        other = self.client(f'{d}/qmp2')
        self.stop(self.far.proc.pid)
        self.send_io('write 0 64k', 1, other, node='disk')
        self.assert_hangs(other)
        self.send('replication-checkpoint', 2)
        self.assert_hangs()
        self.yank('n')
        self.answer(1, other)
        self.assertIn('failed: Input/output error', self.near.printed())
        self.assertIn('error', self.answer(2))
        self.assertIn('error', self.c.cmd('query-replication')[0])


if __name__ == '__main__':
    unittest.main()
