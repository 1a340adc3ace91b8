# SPDX-License-Identifier: GPL-2.0-or-later
"""Two daemons and the recipes for replication: start, checkpoint, failover, errors, ends."""

import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from qmpclient import BUILD, Daemon, Qmp, QmpError, Relay

SIZE = '16M'


class Replication(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = d = scratch.name
        for name in ('active', 'hidden', 'secondary', 'primary'):
            subprocess.run([os.path.join(BUILD, 'tools', 'tandem-img'), 'create', '-f', 'qcow2',
                            f'{d}/{name}.qcow2', SIZE], stdout=subprocess.DEVNULL, check=True)
        self.sec = self.start(
            '-drive', f'if=none,id=parent0,driver=qcow2,file.filename={d}/secondary.qcow2',
            '-drive', 'if=none,id=childs0,driver=replication,mode=secondary,top-id=colo-disk0,'
            f'file.driver=qcow2,file.file.filename={d}/active.qcow2,'
            f'file.backing.driver=qcow2,file.backing.file.filename={d}/hidden.qcow2,'
            'file.backing.backing=parent0',
            '-drive', 'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,'
            'children.0=childs0',
            '--nbd-server', f'addr.type=unix,addr.path={d}/nbd')
        self.pri = self.start(
            '-drive', 'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1,'
            f'children.0.file.filename={d}/primary.qcow2,children.0.driver=qcow2',
            '-qmp', 'unix:{dir}/qmp2,server=on,wait=off')
        self.s, self.p = self.sec.client(), self.pri.client()
        self.addCleanup(self.s.close)
        self.addCleanup(self.p.close)

    def start(self, *options):
        daemon = Daemon(*options)
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    @staticmethod
    def hmp(client, line):
        return client.cmd('human-monitor-command', command_line=line)

    def io(self, client, line):
        self.assertEqual('', self.hmp(client, f'qemu-io colo-disk0 "{line}"'))
        printed = (self.pri if client is self.p else self.sec).printed()
        self.assertIn(' bytes at offset ', printed)
        self.assertNotIn('failed', printed)

    def connect(self, path=None, more=''):
        self.s.cmd('nbd-server-add', device='parent0', writable=True)
        self.assertEqual('', self.hmp(
            self.p, 'drive_add -n buddy driver=replication,mode=primary,file.driver=nbd,'
            f'file.path={path or self.dir + "/nbd"},file.export=parent0,node-name=replication0'
            + more))
        self.p.cmd('x-blockdev-change', parent='colo-disk0', node='replication0')

    def replicate(self, *how):
        self.connect(*how)
        self.s.cmd('xen-set-replication', enable=True, primary=False)
        self.p.cmd('xen-set-replication', enable=True, primary=True)

    def checkpoint(self):
        for client in (self.p, self.s):
            client.cmd('xen-colo-do-checkpoint')

    def stage(self, client):
        return client.cmd('query-replication')[0]['stage']

    def test_checkpoint_and_failover(self):
        self.replicate()
        self.io(self.p, 'write -P 1 0 64k')
        self.io(self.s, 'read -P 0 0 64k')
        self.checkpoint()
        self.io(self.s, 'read -P 1 0 64k')
        self.io(self.p, 'write -P 2 0 64k')
        self.io(self.s, 'write -P 3 1M 64k')
        for client in (self.p, self.s):
            self.assertEqual(client.cmd('query-xen-replication-status'), {'error': False})
        self.assertEqual(self.s.cmd('query-replication')[0]['epoch'], 2)

        self.pri.proc.kill()
        self.pri.proc.wait()
        self.s.cmd('nbd-server-stop')
        self.s.cmd('x-colo-lost-heartbeat')
        self.s.wait_event('COLO_EXIT', mode='secondary', reason='request')
        self.assertEqual(self.s.cmd('query-colo-status'),
                         {'mode': 'none', 'last-mode': 'secondary', 'reason': 'request'})
        self.s.wait_event('REPLICATION_STAGE_CHANGE', stage='done')
        self.assertEqual(self.s.cmd('query-xen-replication-status'), {'error': False})
        self.io(self.s, 'read -P 1 0 64k')
        self.io(self.s, 'read -P 3 1M 64k')
        self.assertIn('COLO', self.s.error('x-colo-lost-heartbeat'))

    def test_primary_goes_on_alone(self):
        self.replicate()
        self.sec.proc.kill()
        self.sec.proc.wait()
        self.p.wait_event('REPLICATION_ERROR', operation='link')
        self.assertEqual(self.p.cmd('query-xen-replication-status'),
                         {'error': True, 'desc': 'I/O error occurred'})
        self.p.error('xen-colo-do-checkpoint')
        self.io(self.p, 'write -P 2 0 64k')
        self.p.cmd('x-blockdev-change', parent='colo-disk0', child='children.1')
        self.assertEqual(self.hmp(self.p, 'drive_del replication0'), '')
        self.p.cmd('xen-set-replication', enable=False, primary=True, failover=True)
        self.assertEqual(self.p.cmd('query-xen-replication-status'), {'error': False})
        self.io(self.p, 'read -P 2 0 64k')

    def test_checkpoint_with_writes_that_wait_for_a_lost_secondary(self):
        """They do not fail; what is lost is told and latched; the epoch does not end."""
        relay = Relay(f'{self.dir}/relay', f'{self.dir}/nbd')
        self.addCleanup(relay.kill)
        self.replicate(relay.path, ',file.reconnect-delay=600')
        guest = Qmp(f'{self.pri.dir}/qmp2')
        self.addCleanup(guest.close)
        relay.kill()
        guest.sock.sendall(b'{"execute": "human-monitor-command", "arguments": '
                           b'{"command-line": "qemu-io colo-disk0 \\"write -P 7 0 64k\\""}}')
        guest.sock.settimeout(1)
        with self.assertRaises(TimeoutError):
            guest.sock.recv(1)
        guest.sock.settimeout(20)
        self.assertNotIn('error', self.p.cmd('query-replication')[0])
        self.assertIn('a resync is needed', self.p.error('xen-colo-do-checkpoint'))
        guest.reply()
        self.assertIn('wrote 65536/65536', self.pri.printed())
        self.p.wait_event('REPLICATION_ERROR', operation='link')
        info = self.p.cmd('query-replication')[0]
        self.assertEqual((info['stage'], info['epoch']), ('running', 1))
        self.assertEqual((info['error']['operation'], info['error']['missed-bytes']),
                         ('link', 64 << 10))
        self.assertNotIn('canceled', info['error']['message'])
        self.assertEqual(self.p.cmd('query-xen-replication-status'),
                         {'error': True, 'desc': 'I/O error occurred'})
        self.io(self.p, 'write -P 8 64k 64k')
        self.io(self.p, 'read -P 7 0 64k')

    def test_checkpoint_while_an_idle_link_is_down(self):
        """It is refused. Nothing is lost, so the disk goes on when the link is there again."""
        path = f'{self.dir}/relay'
        relay = Relay(path, f'{self.dir}/nbd')
        self.addCleanup(relay.kill)
        self.replicate(path, ',file.reconnect-delay=600')
        self.io(self.p, 'write -P 1 0 64k')
        self.hmp(self.p, 'qemu-io colo-disk0 flush')
        relay.kill()
        with self.assertRaisesRegex(QmpError, "is not connected to the secondary's disk"):
            for _ in range(200): # until it has noticed
                self.p.cmd('xen-colo-do-checkpoint')
                time.sleep(0.1)
        epoch = self.p.cmd('query-replication')[0]['epoch']
        relay = Relay(path, f'{self.dir}/nbd')
        self.addCleanup(relay.kill)
        self.io(self.p, 'write -P 2 0 64k')
        info = self.p.cmd('query-replication')[0]
        self.assertNotIn('error', info)
        self.assertEqual(info['epoch'], epoch)
        self.checkpoint()
        self.io(self.s, 'read -P 2 0 64k')

    def cut_with_unflushed_write(self, meanwhile):
        """The link breaks, and comes back after that."""
        path = f'{self.dir}/relay'
        relay = Relay(path, f'{self.dir}/nbd')
        self.addCleanup(relay.kill)
        self.replicate(path, ',file.reconnect-delay=600')
        self.io(self.p, 'write -P 1 0 64k')
        relay.kill()
        meanwhile()
        relay = Relay(path, f'{self.dir}/nbd')
        self.addCleanup(relay.kill)

    def test_link_that_comes_back_to_the_same_export(self):
        """It has what it had acknowledged, flushed or not."""
        self.cut_with_unflushed_write(lambda: None)
        self.io(self.p, 'write -P 2 64k 64k')
        self.hmp(self.p, 'qemu-io colo-disk0 flush')
        self.assertNotIn('error', self.p.cmd('query-replication')[0])
        self.checkpoint()
        self.io(self.s, 'read -P 1 0 64k')
        self.io(self.s, 'read -P 2 64k 64k')

    def test_link_that_comes_back_to_another_export(self):
        """Which may lack what the one before had acknowledged: told before a write gets there."""
        def export_again():
            self.s.cmd('nbd-server-remove', name='parent0', mode='hard')
            self.s.wait_event('BLOCK_EXPORT_DELETED')
            self.s.cmd('nbd-server-add', device='parent0', writable=True)
        self.cut_with_unflushed_write(export_again)
        self.io(self.p, 'write -P 2 64k 64k') # waits for the link, and then in vain
        self.p.wait_event('REPLICATION_ERROR', operation='link')
        self.assertIn('a resync is needed', self.p.error('xen-colo-do-checkpoint'))
        info = self.p.cmd('query-replication')[0]
        self.assertEqual((info['epoch'], info['error']['missed-bytes']), (1, 64 << 10))
        self.s.cmd('xen-colo-do-checkpoint')
        self.io(self.s, 'read -P 0 64k 64k')

    def drives(self, client):
        return {b['device']: b['inserted'] for b in client.cmd('query-block')}

    def test_names_follow_the_graph(self):
        active, hidden, disk = (f'{self.dir}/{n}.qcow2' for n in ('active', 'hidden', 'secondary'))
        self.replicate()
        children = json.loads(self.drives(self.p)['colo-disk0']['file'][len('json:'):])['children']
        self.assertEqual([c['driver'] for c in children], ['qcow2', 'replication'])
        self.assertEqual(self.drives(self.s)['parent0']['file'], disk)
        top = self.drives(self.s)['colo-disk0']['file']
        self.assertTrue(all(path in top for path in (active, hidden, disk)), top)
        self.assertNotIn('backing_file', self.drives(self.s)['childs0'])
        self.s.cmd('x-colo-lost-heartbeat')
        self.s.wait_event('REPLICATION_STAGE_CHANGE', stage='done')
        top = self.drives(self.s)['colo-disk0']['file']
        self.assertIn(disk, top)
        self.assertFalse(active in top or hidden in top, top)
        self.p.cmd('x-blockdev-change', parent='colo-disk0', child='children.1')
        self.assertNotIn('replication', self.drives(self.p)['colo-disk0']['file'])

    def test_the_chain_is_not_reopened_as_another(self):
        self.replicate()
        self.io(self.p, 'write -P 1 0 64k')
        nodes = {n['node-name']: n for n in self.s.cmd('query-named-block-nodes', flat=True)}
        below = {name: {c['child']: c['node-name'] for c in n['children']}
                 for name, n in nodes.items()}
        repl = self.drives(self.s)['childs0']['node-name']
        active = below[repl]['file']
        hidden = below[active]['backing']
        for node, backing in itertools.product((active, hidden), (None, below[hidden]['backing'])):
            if below[node]['backing'] != backing:
                self.assertIn('in use by internal backup job', self.s.error(
                    'blockdev-reopen', options=[{
                        'driver': 'qcow2', 'node-name': node, 'file': below[node]['file'],
                        'backing': backing}]))
        for stage in ('running', 'done'):
            self.s.error('blockdev-reopen', options=[{
                'driver': 'replication', 'node-name': repl, 'mode': 'secondary',
                'top-id': 'colo-disk0', 'file': hidden}])
            self.assertEqual(self.stage(self.s), stage)
            self.io(self.s, 'read -P 0 0 64k')
            if stage == 'running':
                self.s.cmd('x-colo-lost-heartbeat')
                self.s.wait_event('REPLICATION_STAGE_CHANGE', stage='done')

    def test_commands_and_errors(self):
        status = {'error': True, 'desc': 'Block replication is not running'}
        self.assertEqual(self.p.cmd('query-replication'), [])
        self.assertEqual(self.p.cmd('query-xen-replication-status'), {'error': False})
        self.assertEqual(self.s.cmd('query-xen-replication-status'), status)
        self.assertEqual(self.s.cmd('query-colo-status'),
                         {'mode': 'none', 'last-mode': 'none', 'reason': 'none'})
        self.assertIn('COLO', self.s.error('x-colo-lost-heartbeat'))
        self.connect()
        self.assertIn('mode', self.s.error('xen-set-replication', enable=True, primary=True))
        self.assertIn('failover', self.s.error('xen-set-replication', enable=True, primary=False,
                                               failover=False))
        self.s.error('xen-colo-do-checkpoint')
        self.s.error('xen-set-replication', enable=False, primary=False)
        self.assertEqual(self.s.cmd('xen-set-replication', enable=False, primary=False,
                                    failover=True), {})
        self.assertIn('group', self.s.error('replication-start', mode='secondary', group='x'))
        self.assertEqual(self.stage(self.s), 'none')
        self.s.cmd('replication-start', mode='secondary')
        self.p.cmd('replication-start', mode='primary')
        self.p.cmd('replication-checkpoint')
        self.s.cmd('replication-checkpoint')
        self.p.cmd('replication-stop')
        self.s.cmd('replication-stop')
        self.assertEqual([self.stage(c) for c in (self.s, self.p)], ['done', 'done'])

    def test_floods_of_events_are_thinned(self):
        """Before the start each write fails on the filter: the first and the last are told."""
        self.connect()
        start = time.monotonic()
        for i in range(20):
            self.io(self.p, f'write {i * 64}k 64k')
        self.assertLess(time.monotonic() - start, 0.9, 'too slow to tell')
        told = [e for e in self.p.events if e['event'] == 'QUORUM_REPORT_BAD']
        self.assertEqual([e['data']['sector-num'] for e in told], [0])
        self.p.events.clear()
        last = self.p.wait_event('QUORUM_REPORT_BAD')
        self.assertGreater(time.monotonic() - start, 0.9)
        self.assertEqual((last['data']['sector-num'], last['data']['node-name']),
                         (19 * 128, 'replication0'))

    def test_end_with_a_silent_secondary(self):
        """Also while a write of the guest hangs there."""
        self.replicate()
        self.sec.proc.send_signal(signal.SIGSTOP)
        try:
            self.p.sock.sendall(b'{"execute": "human-monitor-command", "arguments": '
                                b'{"command-line": "qemu-io colo-disk0 \\"write 0 64k\\""}}')
            time.sleep(0.2)
            start = time.monotonic()
            self.pri.proc.terminate()
            self.assertEqual(self.pri.wait(), 0)
            self.assertLess(time.monotonic() - start, 8)
        finally:
            self.sec.proc.send_signal(signal.SIGCONT)

    def test_end_while_replicating(self):
        self.replicate()
        self.io(self.p, 'write -P 1 0 1M')
        self.io(self.s, 'write -P 2 2M 1M')
        self.assertEqual(self.s.cmd('quit'), {})
        self.assertEqual(self.sec.wait(), 0)
        self.p.wait_event('REPLICATION_ERROR', operation='link')
        self.assertEqual(self.p.cmd('quit'), {})
        self.assertEqual(self.pri.wait(), 0)


if __name__ == '__main__':
    unittest.main()
