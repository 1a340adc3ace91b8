# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands for nodes, drives, exports, jobs and objects: success and each error."""

import os
import time
import unittest

from qmpclient import Daemon, Qmp, QmpError

NULL = {'driver': 'null-co', 'size': 1 << 20, 'read-zeroes': True}


class Block(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.c = self.daemon.client()
        self.addCleanup(self.c.close)

    def add(self, name, **options):
        self.c.cmd('blockdev-add', node_name=name, **(options or NULL))

    def nodes(self):
        rows = self.c.cmd('query-named-block-nodes', flat=True)
        return {n['node-name']: n for n in rows}

    def hmp(self, line):
        return self.c.cmd('human-monitor-command', command_line=line)

    def wait_job(self, job, status):
        self.c.wait_event('JOB_STATUS_CHANGE', id=job, status=status)

    # --- nodes ---

    def test_add_and_delete(self):
        self.add('n0')
        self.assertEqual(self.nodes()['n0']['drv'], 'null-co')
        self.assertEqual(self.nodes()['n0']['image']['virtual-size'], 1 << 20)
        self.c.cmd('blockdev-del', node_name='n0')
        self.assertEqual(self.nodes(), {})

    def test_add_errors(self):
        self.add('n0')
        error = self.c.error
        self.assertEqual(error('blockdev-add', **NULL),
                         "'node-name' must be specified for the root node")
        self.assertEqual(error('blockdev-add', node_name='n0', **NULL),
                         "Duplicate nodes with node-name='n0'")
        self.assertIn('0bad', error('blockdev-add', node_name='0bad', **NULL))
        self.assertIn('nodriver', error('blockdev-add', driver='nodriver', node_name='x'))
        self.assertIn('nofile', error('blockdev-add', driver='raw', node_name='x', file='nofile'))
        self.assertEqual(error('blockdev-add', driver='raw', node_name='x'),
                         "Parameter 'file' is missing")
        self.assertIn('No such file', error('blockdev-add', driver='file', node_name='x',
                                            filename='/does/not/exist'))
        self.assertEqual(error('blockdev-add', node_name='x', driver='null-co', size='1M'),
                         "Invalid parameter type for 'size', expected: integer")
        self.assertEqual(list(self.nodes()), ['n0'])

    def test_delete_errors(self):
        self.add('n0')
        self.add('r0', driver='raw', file='n0')
        self.assertEqual(self.c.error('blockdev-del', node_name='n0'),
                         'Block device n0 is in use')
        self.assertIn('nothing', self.c.error('blockdev-del', node_name='nothing'))
        self.c.cmd('blockdev-del', node_name='r0')
        self.c.cmd('blockdev-del', node_name='n0')

    def test_resize(self):
        path = os.path.join(self.daemon.dir, 'f')
        with open(path, 'wb') as f:
            f.truncate(4096)
        self.add('f', driver='file', filename=path)
        self.c.cmd('block_resize', node_name='f', size=8192)
        self.assertEqual(os.path.getsize(path), 8192)
        self.assertEqual(self.nodes()['f']['image']['virtual-size'], 8192)
        for args in ({'size': 1}, {'size': 1, 'node_name': 'f', 'device': 'f'},
                     {'size': -1, 'node_name': 'f'}, {'size': 1, 'node_name': 'x'}):
            self.c.error('block_resize', **args)

    def test_reopen(self):
        path = os.path.join(self.daemon.dir, 'f')
        with open(path, 'wb') as f:
            f.truncate(4096)
        options = {'driver': 'file', 'node-name': 'f', 'filename': path}
        self.add('f', driver='file', filename=path)
        self.c.cmd('blockdev-reopen', options=[{**options, 'read-only': True}])
        self.assertTrue(self.nodes()['f']['ro'])
        self.c.cmd('blockdev-reopen', options=[options])
        self.assertFalse(self.nodes()['f']['ro'])
        self.c.error('blockdev-reopen', options=[{**options, 'filename': path + 'x'}])
        self.c.error('blockdev-reopen', options=[{**options, 'node-name': 'x'}])

    def test_quorum_children(self):
        for name in 'abc':
            self.add(name)
        self.add('q', driver='quorum', vote_threshold=1, children=['a'])
        error = self.c.error
        change = 'x-blockdev-change'
        self.c.cmd(change, parent='q', node='b')
        self.assertEqual([c['child'] for c in self.nodes()['q']['children']],
                         ['children.0', 'children.1'])
        self.assertEqual(error(change, parent='q', node='b', child='children.0'),
                         'The parameters child and node are in conflict')
        self.assertEqual(error(change, parent='q'), 'Either child or node must be specified')
        self.assertEqual(error(change, parent='x', node='b'),
                         "Cannot find device='x' nor node-name='x'")
        self.assertEqual(error(change, parent='q', node='x'), "Node 'x' not found")
        self.assertEqual(error(change, parent='q', child='children.9'),
                         "Node 'q' does not have child 'children.9'")
        self.assertEqual(error(change, parent='a', node='b'),
                         'The node a does not support adding a child')
        self.assertEqual(error(change, parent='q', node='b'), 'The node b already has a parent')
        self.c.cmd(change, parent='q', child='children.1')
        self.assertIn('vote threshold', error(change, parent='q', child='children.0'))
        self.c.cmd('blockdev-del', node_name='b')

    def test_a_child_to_be_is_kept_while_its_parent_drains(self):
        slow = dict(NULL, **{'latency-ns': 700 * 10**6})
        extra = [o for i in (1, 2) for o in ('-qmp', f'unix:{{dir}}/qmp{i},server=on,wait=off')]
        with Daemon(*extra) as daemon:
            one, two, three = [Qmp(daemon.path + i) for i in ('', '1', '2')]
            for name, options in (('a', slow), ('b', slow), ('c', NULL)):
                one.cmd('blockdev-add', node_name=name, **options)
            one.cmd('blockdev-add', node_name='q', driver='quorum', vote_threshold=1,
                    children=['a', 'b'])
            one.sock.sendall(b'{"execute": "human-monitor-command", "arguments": '
                             b'{"command-line": "qemu-io q \\"write 0 512\\""}}')
            time.sleep(0.2)
            two.sock.sendall(b'{"execute": "x-blockdev-change", '
                             b'"arguments": {"parent": "q", "node": "c"}}')
            time.sleep(0.2)
            self.assertIn('in use', three.error('blockdev-del', node_name='c'))
            self.assertIn('return', one.reply())
            self.assertIn('return', two.reply())
            (row,) = [n for n in one.cmd('query-named-block-nodes') if n['node-name'] == 'q']
            self.assertEqual([c['node-name'] for c in row['children']], ['a', 'b', 'c'])
            for client in (one, two, three):
                client.close()

    def test_graph_and_statistics(self):
        self.add('n0')
        self.add('r0', driver='raw', file='n0')
        graph = self.c.cmd('x-debug-query-block-graph')
        ids = {n['name']: n['id'] for n in graph['nodes']}
        self.assertEqual([(e['parent'], e['child'], e['name']) for e in graph['edges']],
                         [(ids['r0'], ids['n0'], 'file')])
        self.assertEqual(self.c.cmd('query-blockstats'), [])
        stats = self.c.cmd('query-blockstats', query_nodes=True)
        self.assertEqual({s['node-name'] for s in stats}, {'n0', 'r0'})

    def test_graph_of_a_job(self):
        self.add('src')
        self.add('dst')
        self.c.cmd('blockdev-mirror', job_id='j', device='src', target='dst', sync='none')
        graph = self.c.cmd('x-debug-query-block-graph')
        ids = {n['name']: n['id'] for n in graph['nodes']}
        self.assertEqual([n['name'] for n in graph['nodes'] if n['type'] != 'block-driver'], ['j'])
        edges = {e['child']: e for e in graph['edges'] if e['parent'] == ids['j']}
        self.assertEqual(set(edges), {ids['src'], ids['dst']})
        self.assertEqual(edges[ids['dst']]['shared-perm'], ['write-unchanged', 'write'])
        self.c.cmd('job-cancel', id='j')

    def histograms(self):
        stats = self.c.cmd('query-blockstats')[0]['stats']
        return {k.split('_latency_')[0]: stats[k] for k in stats if 'histogram' in k}

    def test_latency_histograms(self):
        self.hmp('drive_add 0 if=none,id=disk,driver=null-co,size=1M')

        def hist(**args):
            self.c.cmd('block-latency-histogram-set', id='disk', **args)

        def error(**args):
            return self.c.error('block-latency-histogram-set', **{'id': 'disk', **args})

        self.assertEqual(self.histograms(), {})
        self.assertEqual(error(id='nope'), "Device 'nope' not found")
        for bad in ([0, 10], [10, 10], [20, 10], list(range(1, 1026))):
            self.assertIn("Device 'disk' set read boundaries fail", error(boundaries=bad))
        self.assertIn('boundaries', error(boundaries=[-1]))
        self.assertIn('set flush boundaries fail',
                      error(boundaries=[1], boundaries_flush=[2, 1]))
        self.assertEqual(self.histograms(), {})

        hist(boundaries=[1, 1000000000000])
        self.hmp('qemu-io disk "read 0 512"')
        want = {'boundaries': [1, 1000000000000], 'bins': [0, 1, 0]}
        none = {'boundaries': [1, 1000000000000], 'bins': [0, 0, 0]}
        self.assertEqual(self.histograms(),
                         {'rd': want, 'wr': none, 'zone_append': none, 'flush': none})
        hist(boundaries_write=[], boundaries_zap=[5])
        self.assertEqual(self.histograms(),
                         {'rd': want, 'wr': {'boundaries': [], 'bins': [0]},
                          'zone_append': {'boundaries': [5], 'bins': [0, 0]}, 'flush': none})
        hist(boundaries_read=[1])
        self.assertEqual(self.histograms()['rd'], {'boundaries': [1], 'bins': [0, 0]})
        hist()
        self.assertEqual(self.histograms(), {})

    # --- drives and HMP ---

    def test_drives_by_hmp(self):
        self.assertEqual(self.hmp('drive_add -n buddy driver=null-co,node-name=d0,size=1M'), '')
        self.assertEqual(self.hmp('drive_add 0 if=none,id=disk,driver=null-co'), 'OK\r\n')
        self.assertEqual([b['device'] for b in self.c.cmd('query-block')], ['disk'])
        self.assertEqual(self.c.cmd('query-blockstats')[0]['device'], 'disk')
        self.assertIn('disk (#block', self.hmp('info block'))
        for line, words in (
                ('drive_add -n buddy driver=null-co,node-name=d0', 'Duplicate nodes'),
                ('drive_add -n', 'drive_add: string expected'),
                ('drive_add -n buddy driver=null-co', "'node-name' needs to be specified"),
                ('drive_add 0 id=disk,driver=null-co', "Duplicate ID 'disk' for drive"),
                ('drive_del nothing', "Device 'nothing' not found"),
                ('drive_del', 'drive_del: block device name expected'),
                ('nothing', "unknown command: 'nothing'"),
                ('info nothing', "unknown command: 'info nothing'"),
                ('qemu-io d0', 'qemu-io: string expected'),
                ('qemu-io nothing "read 0 1"', 'Error: Cannot find device='),
                ('drive_add "open', 'unterminated string'),
                ('info "block', 'unterminated string')):
            answer = self.hmp(line)
            self.assertTrue(answer.startswith(words) and answer.endswith('\r\n'), answer)
        for line, reply, printed in (
                ('qemu-io d0 "write -P 1 0 512"', '', 'wrote 512/512 bytes at offset 0'),
                ('qemu-io disk "read 512 512"', '', 'read 512/512 bytes at offset 512'),
                ('qemu-io disk "nonsense"', '', ''), # to standard error
                ('qemu-io d0 "read 2M 512"', '', 'read failed'),
                ('qemu-io d0 "truncate 2M"', 'Image format driver does not support resize\r\n',
                 '')):
            self.assertEqual(self.hmp(line), reply)
            self.assertTrue(self.daemon.printed().startswith(printed), line)
        self.assertEqual(self.hmp('drive_del d0'), '')
        self.assertEqual(self.hmp('drive_del "disk"'), '')
        self.assertEqual(self.hmp(''), '')
        self.assertEqual((self.c.cmd('query-block'), self.nodes()), ([], {}))
        self.assertEqual(self.hmp('info jobs'), 'No active jobs\r\n')
        self.assertEqual(self.hmp('info status'), 'VM status: running\r\n')
        self.assertIn('tandem', self.hmp('info version'))

    # --- jobs ---

    def test_create(self):
        path = os.path.join(self.daemon.dir, 'new')
        self.c.cmd('blockdev-create', job_id='j',
                   options={'driver': 'file', 'filename': path, 'size': 1 << 20})
        self.wait_job('j', 'concluded')
        self.assertEqual(self.c.cmd('query-jobs')[0]['status'], 'concluded')
        self.assertEqual(self.c.cmd('query-block-jobs'), [])
        self.assertIn('in use', self.c.error(
            'blockdev-create', job_id='j',
            options={'driver': 'file', 'filename': path, 'size': 1}))
        self.assertIn('verb', self.c.error('job-cancel', id='j'))
        self.c.cmd('job-dismiss', id='j')
        self.assertEqual(os.path.getsize(path), 1 << 20)

        self.c.cmd('blockdev-create', job_id='k',
                   options={'driver': 'file', 'filename': '/does/not/exist', 'size': 1})
        self.wait_job('k', 'concluded')
        self.assertIn('No such file', self.c.cmd('query-jobs')[0]['error'])
        self.c.cmd('job-dismiss', id='k')
        self.assertFalse([e for e in self.c.events if e['event'].startswith('BLOCK_JOB')])
        self.c.error('blockdev-create', job_id='l', options={'driver': 'raw'})

    def start_mirror(self, **options):
        self.c.cmd('blockdev-mirror', device='src', target='dst', sync='full', job_id='m',
                   **options)

    def test_mirror(self):
        self.add('src')
        self.add('dst')
        self.start_mirror()
        self.c.wait_event('BLOCK_JOB_READY', device='m')
        row = self.c.cmd('query-block-jobs')[0]
        self.assertEqual((row['device'], row['type'], row['status'], row['ready']),
                         ('m', 'mirror', 'ready', True))
        self.assertEqual(self.c.error('blockdev-mirror', device='src', target='dst', sync='full',
                                      job_id='m2'), 'Need a root block node')
        self.add('other')
        self.add('dst2')
        self.assertIn('in use', self.c.error('blockdev-mirror', device='other', target='dst2',
                                             sync='full', job_id='m'))
        self.assertIn('verb', self.c.error('job-finalize', id='m'))
        self.c.cmd('job-pause', id='m')
        self.assertEqual(self.c.error('block-job-cancel', device='m'),
                         "The block job for device 'm' is currently paused")
        self.c.error('job-pause', id='m')
        self.c.cmd('job-resume', id='m')
        self.c.cmd('block-job-set-speed', device='m', speed=1 << 30)
        self.c.error('block-job-set-speed', device='m', speed=-1)
        self.c.cmd('block-job-cancel', device='m')
        data = self.c.wait_event('BLOCK_JOB_COMPLETED', device='m')['data']
        self.assertNotIn('error', data)
        self.wait_job('m', 'null')
        self.start_mirror()
        self.c.wait_event('BLOCK_JOB_READY', device='m')
        self.c.cmd('job-cancel', id='m')
        self.c.wait_event('BLOCK_JOB_CANCELLED', device='m')

    def test_mirror_pivots(self):
        self.assertIn('OK', self.hmp('drive_add 0 if=none,id=src,driver=null-co,size=1M'))
        self.add('dst')
        self.start_mirror()
        self.c.wait_event('BLOCK_JOB_READY', device='m')
        self.c.cmd('block-job-complete', device='m')
        self.c.wait_event('BLOCK_JOB_COMPLETED', device='m')
        self.assertEqual(self.c.cmd('query-block')[0]['inserted']['node-name'], 'dst')

    def test_job_stays_until_dismissed(self):
        self.add('src')
        self.add('dst')
        self.start_mirror(auto_dismiss=False, auto_finalize=False)
        self.c.wait_event('BLOCK_JOB_READY', device='m')
        self.c.cmd('job-complete', id='m')
        self.c.wait_event('BLOCK_JOB_PENDING', id='m')
        self.c.cmd('job-finalize', id='m')
        self.wait_job('m', 'concluded')
        self.assertEqual(self.c.cmd('query-block-jobs')[0]['status'], 'concluded')
        self.c.cmd('block-job-dismiss', id='m')
        self.assertEqual(self.c.cmd('query-jobs'), [])

    def test_start_errors(self):
        self.add('src')
        self.add('dst')
        error = self.c.error
        mirror = {'target': 'dst', 'sync': 'full'}
        self.assertEqual(error('blockdev-mirror', device='src', **mirror),
                         "Invalid job ID ''")
        self.assertIn("device='x'", error('blockdev-mirror', job_id='j', device='x', **mirror))
        self.assertIn('not supported', error('blockdev-mirror', job_id='j', device='src',
                                             target='dst', sync='bitmap'))
        self.assertIn('0bad', error('blockdev-mirror', job_id='0bad', device='src', **mirror))
        self.assertIn('speed', error('blockdev-mirror', job_id='j', device='src', speed=-1,
                                     **mirror))
        self.assertIn("'none'", error('blockdev-backup', job_id='j', device='src', target='dst',
                                      sync='full'))
        self.assertIn('existing', error('drive-mirror', job_id='j', device='src', sync='full',
                                        target='/does/not/exist'))
        self.assertIn('No such file', error('drive-mirror', job_id='j', device='src', sync='full',
                                            target='/does/not/exist', mode='existing'))
        self.assertIn('into itself', error('block-commit', job_id='j', device='src'))
        self.add('above', driver='raw', file='src')
        for job in ('blockdev-mirror', 'drive-mirror', 'block-commit'):
            self.assertEqual(error(job, job_id='j', device='src',
                                   **(mirror if 'mirror' in job else {})),
                             'Need a root block node')
        with self.assertRaises(QmpError) as caught:
            self.c.cmd('block-commit', device='x')
        self.assertEqual(caught.exception.cls, 'DeviceNotFound')
        self.assertEqual(self.c.cmd('query-jobs'), [])

    def test_unknown_jobs(self):
        for verb in ('pause', 'resume', 'cancel', 'complete', 'finalize', 'dismiss'):
            with self.assertRaises(QmpError) as caught:
                self.c.cmd(f'job-{verb}', id='x')
            self.assertEqual(caught.exception.cls, 'GenericError')
            member = 'id' if verb in ('finalize', 'dismiss') else 'device'
            with self.assertRaises(QmpError) as caught:
                self.c.cmd(f'block-job-{verb}', **{member: 'x'})
            self.assertEqual(caught.exception.cls, 'DeviceNotActive')

    # --- exports and objects ---

    def test_exports(self):
        self.add('n0')
        path = os.path.join(self.daemon.dir, 'nbd')
        unix = {'type': 'unix', 'data': {'path': path}}
        add = {'type': 'nbd', 'id': 'e0', 'node_name': 'n0'}
        self.c.error('block-export-add', **add)
        self.c.error('nbd-server-stop')
        self.c.cmd('nbd-server-start', addr=unix)
        self.c.error('nbd-server-start', addr=unix)
        self.c.cmd('block-export-add', writable=True, **add)
        self.c.error('block-export-add', **add)
        self.assertIn('use', self.c.error('blockdev-del', node_name='n0'))
        rows = self.c.cmd('query-block-exports')
        for row in rows:
            self.assertEqual(row.pop('stats')['rd_operations'], 0)
        self.assertEqual(rows,
                         [{'id': 'e0', 'type': 'nbd', 'node-name': 'n0', 'shutting-down': False}])
        self.c.events.clear()
        self.c.cmd('block-export-del', id='e0')
        self.assertEqual([e['event'] for e in self.c.events], ['BLOCK_EXPORT_DELETED'])
        self.c.events.clear()
        self.c.error('block-export-del', id='e0')
        self.c.cmd('nbd-server-add', device='n0', writable=True)
        self.c.cmd('nbd-server-stop')
        self.assertEqual([e['data']['id'] for e in self.c.events
                          if e['event'] == 'BLOCK_EXPORT_DELETED'], ['n0'])
        self.assertFalse(os.path.exists(path))

    def test_objects(self):
        path = os.path.join(self.daemon.dir, 'secret')
        with open(path, 'w', encoding='ascii') as f:
            f.write('c2VjcmV0\n')
        add = 'object-add'
        self.c.cmd(add, qom_type='iothread', id='t0')
        self.c.cmd(add, qom_type='secret', id='s0', data='x')
        self.c.cmd(add, qom_type='secret', id='s1', file=path, format='base64')
        self.assertEqual(self.c.cmd('qom-list', path='/objects'),
                         [{'name': 'type', 'type': 'string'},
                          {'name': 't0', 'type': 'child<iothread>'},
                          {'name': 's0', 'type': 'child<secret>'},
                          {'name': 's1', 'type': 'child<secret>'}])
        error = self.c.error
        self.assertIn('duplicate', error(add, qom_type='iothread', id='t0'))
        self.assertIn('throttle-group', error(add, qom_type='throttle-group', id='g'))
        self.assertIn('identifier', error(add, qom_type='iothread', id='1'))
        self.assertIn("'file' or 'data'", error(add, qom_type='secret', id='s2'))
        self.assertIn('Base64', error(add, qom_type='secret', id='s2', data='%', format='base64'))
        self.assertIn('No such file', error(add, qom_type='secret', id='s2', file='/not/there'))
        self.assertIn('larger', error(add, qom_type='secret', id='s2', file='/dev/zero'))
        self.assertIn('keyid', error(add, qom_type='secret', id='s2', data='x', keyid='s0'))
        self.c.cmd('object-del', id='t0')
        self.assertEqual(error('object-del', id='t0'), "object 't0' not found")
        self.assertIn('/objects', error('qom-list', path='/'))


if __name__ == '__main__':
    unittest.main()
