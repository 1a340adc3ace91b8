# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd against qemu-storage-daemon and qemu-system: QMP sequences, listed and random.

Each sequence goes to a fresh process of either side, in directories with equal images. Compared
are the replies (values, error class and text) and the events with their data, in order; masked is
what time, version and counters decide. After each command that starts or moves a job its end is
waited for, so that what is compared does not hang on speed.
"""

import argparse
import difflib
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from difftool import soak_seconds
from imgpair import TOOLS, have_qemu, normal

PEERS = {
    'qsd': ['qemu-storage-daemon', '--chardev', 'stdio,id=c', '--monitor', 'chardev=c'],
    'sys': ['qemu-system-x86_64', '-S', '-nodefaults', '-machine', 'none', '-display', 'none',
            '-qmp', 'stdio'],
}
OURS = [os.path.abspath(f'{TOOLS}/tandemd'), '--chardev', 'stdio,id=c', '--monitor', 'chardev=c']
OURS_SYS = [OURS[0], '-S', *OURS[1:]]

# Members that QEMU got after 7.2; ours has them, and they say what QEMU's documents say they do.
NEWER = {'active', 'children', 'actively-synced', 'limits'}
# Members that only ours has, or that no client can know in advance.
OWN = {'stats', 'driver-specific', 'dirty-bitmaps', 'singlestep', 'data-file-raw'}
VOLATILE = re.compile(r"(_ns|^timestamp|^actual-size|^account_(failed|invalid))$")


class Side:
    """One process and what it said."""

    def __init__(self, argv, cwd):
        self.proc = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines, self.events, self.printed = queue.Queue(), [], []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.next()
        self.cmd(c('qmp_capabilities', enable=['oob']))

    def read(self):
        for line in self.proc.stdout:
            if line.startswith('{'):
                self.lines.put(json.loads(line))
            else: # a command's own, in the same pipe
                self.printed.append(normal(line))
        while True: # however often it is asked for
            self.lines.put(None)
            if self.lines.qsize() > 100:
                return

    def next(self, timeout=30):
        try:
            return self.lines.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError('no answer') from None

    def cmd(self, request):
        try:
            self.proc.stdin.write(json.dumps(request) + '\n')
            self.proc.stdin.flush()
        except BrokenPipeError:
            return {'gone': True}
        while True:
            reply = self.next()
            if reply is None:
                return {'gone': True}
            if 'event' not in reply:
                return reply
            self.events.append(reply)

    def settle(self):
        """Until no job moves by itself."""
        end, idle = time.monotonic() + 30, 0
        while time.monotonic() < end:
            jobs = self.cmd({'execute': 'query-jobs'}).get('return', [])
            moving = [j for j in jobs if j['status'] in ('created', 'running', 'waiting',
                                                         'aborting')]
            # One with nothing to copy waits for writes of others, for ever.
            waits = all(j['type'] == 'backup' and not j['current-progress'] for j in moving)
            idle = idle + 1 if waits else 0
            if not moving or idle > 20:
                return
            time.sleep(0.01)
        raise TimeoutError(f'jobs go on: {jobs}')

    def settle_exports(self):
        """Until none is on its way out: ours flushes its disk first."""
        for _ in range(1000):
            exports = self.cmd({'execute': 'query-block-exports'}).get('return', [])
            if not any(e['shutting-down'] for e in exports):
                return
            time.sleep(0.01)
        raise TimeoutError(f'exports stay: {exports}')

    def end(self):
        self.proc.terminate()
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
        while (line := self.next(10)) is not None:
            if 'event' in line:
                self.events.append(line)
        self.printed += [normal(line) for line in self.proc.stderr
                         if 'terminating on signal' not in line]
        for f in (self.proc.stdout, self.proc.stderr):
            f.close()
        try:
            self.proc.stdin.close()
        except BrokenPipeError:
            pass

    # --- what may differ is taken out ---

    def mask_text(self, text):
        if text.startswith('json:{'):
            text = 'json:' + json.dumps(json.loads(text[5:]), sort_keys=True)
        # In conflicts ours names the jobs and exports that are only "unnamed" in QEMU's words.
        text = re.sub(r"(block job|export) '[^']*' \(uses", 'an unnamed block device (uses', text)
        return re.sub(r'#block\d+', '#block', text)

    def mask(self, value, key=''):
        if isinstance(value, dict):
            return {k: self.mask(v, k) for k, v in sorted(value.items())
                    if k not in NEWER and k not in OWN}
        if isinstance(value, list):
            masked = [self.mask(v) for v in value]
            # QEMU lists the youngest node first, ours the oldest; nobody may rely on either.
            ordered = any('shutting-down' in v for v in masked if isinstance(v, dict))
            return sorted(masked, key=str) if key == 'return' and not ordered else masked
        if VOLATILE.search(key):
            return 'N'
        return self.mask_text(value) if isinstance(value, str) else value


class Excuse:
    """Where @pattern matches a command's line and @ours our answer, they may differ."""

    def __init__(self, pattern, ours, reason):
        self.pattern, self.ours, self.reason = re.compile(pattern), re.compile(ours), reason
        self.used = False

    def covers(self, line, ours):
        if self.pattern.search(line) and self.ours.search(ours):
            self.used = True
            return True
        return False


def c(name, /, **args):
    """A command; '_' of an argument's name stands for '-', '__' for '_'."""
    fixed = {k.replace('__', '\0').replace('_', '-').replace('\0', '_'): v
             for k, v in args.items()}
    return {'execute': name, **({'arguments': fixed} if fixed else {})}


def raw(name, **args):
    """A command with its arguments' names as they are."""
    return {'execute': name, 'arguments': args}


def null(node, size=1 << 20, **more):
    return c('blockdev-add', driver='null-co', node_name=node, size=size, read_zeroes=True, **more)


def fil(node, name, **more):
    return c('blockdev-add', driver='file', node_name=node, filename=name, **more)


def qcow2(node, name, **more):
    return c('blockdev-add', driver='qcow2', node_name=node,
             file={'driver': 'file', 'filename': name}, **more)


def unix_server(**more):
    return c('nbd-server-start', addr={'type': 'unix', 'data': {'path': 'sock'}}, **more)


NODES, EXPORTS = c('query-named-block-nodes', flat=True), c('query-block-exports')

QEMU_IO = ['', 'foo', 'read', 'read 0 4k', 'read 0 0', 'read -v 0 16', 'read -P 0 0 4k',
           'read -P 1 0 4k', 'read 2M 4k', 'read -x 0 16', 'read -q 0 1k', 'write -P 1 0 4k',
           'write 1 1', 'length', 'flush', 'discard 0 4k', 'map', 'aio_read 0 4k', 'quit', 'open x',
           'help foo', 'sleep 1', 'truncate 2M', 'reopen -r']

# Name, peer, commands.
LISTED = [
    ('envelope', 'qsd', [
        {'execute': 'nope'}, {'execute': 'query-version', 'foo': 1}, {'execute': 5}, {'foo': 1},
        {}, {'execute': 'query-version', 'arguments': 5},
        {'execute': 'query-version', 'arguments': {'x': 1}}, {'execute': 'query-jobs', 'id': 'x'},
        {'execute': 'query-jobs', 'id': {'a': [1]}}, {'execute': 'nope', 'id': None},
        c('qmp_capabilities'), {'exec-oob': 'query-jobs'}, [], 5, 'x']),
    ('add', 'qsd', [
        c('blockdev-add'), c('blockdev-add', driver='null-co'),
        c('blockdev-add', node_name='n'), c('blockdev-add', driver='foo', node_name='n'),
        c('blockdev-add', driver=5, node_name='n'), null('n'), null('n'), null('1n'),
        null('n' * 32), null('n' * 31), null(''), null('#a'), null('a b'), null('a.b-c_d'),
        c('blockdev-add', driver='null-co', node_name='m', size='1M'),
        c('blockdev-add', driver='null-co', node_name='m', foo=1),
        c('blockdev-add', driver='null-co', node_name='m', read_only='yes'),
        c('blockdev-add', driver='null-co', node_name='m', discard='maybe'),
        c('blockdev-add', driver='null-co', node_name='m', cache={'direct': 1}),
        c('blockdev-add', driver='null-co', node_name='m', cache={'foo': True}),
        c('blockdev-add', driver='null-co', node_name='m', detect_zeroes='unmap'),
        c('blockdev-add', driver='null-co', node_name='m', detect_zeroes='unmap',
          discard='unmap')]),
    ('add file', 'qsd', [
        fil('f', 'missing'), fil('f', '.'), fil('f', ''), c('blockdev-add', driver='file',
                                                          node_name='f'),
        fil('f', 'raw', aio='native'), fil('f', 'raw', aio='foo'), fil('f', 'raw', locking='xx'),
        fil('f', 'raw'), fil('g', 'raw'), fil('h', 'raw', read_only=True),
        fil('i', 'file:raw'), c('blockdev-add', driver='host_device', node_name='d',
                                filename='raw'),
        c('blockdev-add', driver='raw', node_name='r', file='f'),
        c('blockdev-add', driver='raw', node_name='r2', file='f'),
        c('blockdev-add', driver='raw', node_name='r3', file='none'),
        c('blockdev-add', driver='raw', node_name='r3'),
        c('blockdev-add', driver='raw', node_name='r3', file=5),
        c('blockdev-add', driver='raw', node_name='r3', file={'filename': 'raw'}),
        c('blockdev-add', driver='raw', node_name='r3', file={'driver': 'file'}),
        c('blockdev-add', driver='raw', node_name='r4', file='f', size=100),
        c('blockdev-add', driver='raw', node_name='r4', file='f', offset=1 << 30),
        c('blockdev-add', driver='raw', node_name='r4', file='f', offset=512, size=1 << 30),
        c('blockdev-add', driver='raw', node_name='r4', file='f', offset=512, size=1024)]),
    ('add qcow2', 'qsd', [
        qcow2('q', 'raw'), qcow2('q', 'missing'), qcow2('q', 'garbage'), qcow2('q', 'base'),
        qcow2('q2', 'base'), qcow2('t', 'top'), qcow2('o', 'orphan'),
        qcow2('o', 'orphan', backing=None), qcow2('t2', 'top', backing='none'),
        qcow2('q3', 'base', lazy_refcounts='x'), qcow2('q3', 'base', foo=1),
        qcow2('q3', 'base', read_only=True), qcow2('q4', 'base', read_only=True,
                                                   force_share=True),
        qcow2('q5', 'top', backing=5), qcow2('q5', 'top', backing='')]),
    ('del', 'qsd', [
        c('blockdev-del'), c('blockdev-del', node_name='n'), null('n'),
        c('blockdev-add', driver='raw', node_name='r', file='n'),
        c('blockdev-del', node_name='n'), c('blockdev-del', node_name='r'),
        c('blockdev-del', node_name='n'), c('blockdev-del', node_name='n'),
        c('blockdev-del', device='n'), qcow2('t', 'top'), NODES,
        c('blockdev-del', node_name='t'), NODES]),
    ('query nodes', 'qsd', [
        null('n'), fil('f', 'raw'), c('blockdev-add', driver='raw', node_name='r', file='f'),
        NODES, c('query-named-block-nodes'), c('query-block'), c('query-blockstats'),
        c('query-blockstats', query_nodes=True), c('query-blockstats', query_nodes=5),
        c('query-named-block-nodes', flat='x')]),
    ('query chain', 'qsd', [
        qcow2('t', 'top', cache={'direct': False, 'no-flush': True}), NODES,
        c('query-named-block-nodes'), c('x-debug-query-block-graph')]),
    ('server', 'qsd', [
        c('nbd-server-stop'), c('nbd-server-start'), c('nbd-server-start', addr=5),
        c('nbd-server-start', addr={'type': 'unix'}),
        c('nbd-server-start', addr={'type': 'foo', 'data': {}}),
        c('nbd-server-start', addr={'type': 'unix', 'data': {'path': 'no/dir'}}),
        c('nbd-server-start', addr={'type': 'inet', 'data': {'host': 'x'}}),
        c('nbd-server-start', addr={'type': 'inet', 'data': {'host': '127.0.0.1',
                                                             'port': 'no such'}}),
        c('nbd-server-start', addr={'type': 'unix', 'data': {'path': 'x' * 200}}),
        unix_server(tls_creds='nope'), unix_server(foo=1), unix_server(max_connections=-1),
        unix_server(), unix_server(), c('nbd-server-stop'), c('nbd-server-stop'),
        unix_server(max_connections=0), c('nbd-server-stop')]),
    ('export', 'qsd', [
        null('n'), c('block-export-add', type='nbd', id='e', node_name='n'), unix_server(),
        c('block-export-add', type='nbd', id='e'), c('block-export-add', type='nbd', id='e',
                                                     node_name='none'),
        c('block-export-add', type='foo', id='e', node_name='n'),
        c('block-export-add', type='nbd', id='1e', node_name='n'),
        c('block-export-add', type='nbd', id='', node_name='n'),
        c('block-export-add', type='nbd', id='e', node_name='n', name='x' * 5000),
        c('block-export-add', type='nbd', id='e', node_name='n', description='x' * 5000),
        c('block-export-add', type='nbd', id='e', node_name='n', bitmaps=['b']),
        c('block-export-add', type='nbd', id='e', node_name='n', foo=1),
        c('block-export-add', type='nbd', id='e', node_name='n', iothread='none'),
        c('block-export-add', type='nbd', id='e', node_name='n'), EXPORTS,
        c('block-export-add', type='nbd', id='e', node_name='n', name='o'),
        c('block-export-add', type='nbd', id='f', node_name='n'),
        c('block-export-add', type='nbd', id='f', node_name='n', name='o', writable=True),
        EXPORTS, c('blockdev-del', node_name='n'), c('block-export-del'),
        c('block-export-del', id='none'), c('block-export-del', id='e', mode='foo'),
        c('block-export-del', id='e'), EXPORTS, c('block-export-del', id='f', mode='hard'),
        EXPORTS, c('blockdev-del', node_name='n'), c('nbd-server-stop')]),
    ('export read-only', 'qsd', [
        null('n', read_only=True), unix_server(),
        c('block-export-add', type='nbd', id='e', node_name='n', writable=True),
        c('nbd-server-add', device='n', writable=True), EXPORTS, c('nbd-server-add', device='n'),
        c('nbd-server-add', device='none'), c('nbd-server-remove', name='none'),
        c('nbd-server-remove', name='n', mode='foo'), c('nbd-server-remove', name='n'), EXPORTS,
        c('nbd-server-add', device='n', name='x', description='d'), EXPORTS,
        c('nbd-server-stop'), EXPORTS]),
    ('removed by id', 'qsd', [
        null('n'), null('m'), unix_server(),
        c('block-export-add', type='nbd', id='e', node_name='n', name='x'),
        c('nbd-server-remove', name='x'), c('nbd-server-remove', name='n'),
        c('nbd-server-remove', name='e'), EXPORTS,
        c('block-export-add', type='nbd', id='e', node_name='n', name='f'),
        c('block-export-add', type='nbd', id='f', node_name='m', name='e'),
        c('nbd-server-remove', name='e'), EXPORTS, c('nbd-server-remove', name='f', mode='hard'),
        c('nbd-server-add', device='n', name='x'), c('nbd-server-remove', name='n'),
        c('block-export-del', id='n'), c('block-export-del', id='x'), EXPORTS,
        c('nbd-server-stop')]),
    ('reopen', 'qsd', [
        c('blockdev-reopen'), c('blockdev-reopen', options=5),
        qcow2('q', 'base'), fil('f', 'raw'),
        c('blockdev-reopen', options=[{'driver': 'qcow2'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 'none', 'file': 'x'}]),
        c('blockdev-reopen', options=[{'driver': 'raw', 'node-name': 'q', 'file': 'f'}]),
        c('blockdev-reopen', options=[{'driver': 'file', 'node-name': 'f', 'filename': 'raw',
                                       'read-only': True}]),
        c('blockdev-reopen', options=[{'driver': 'file', 'node-name': 'f', 'filename': 'base'}]),
        c('blockdev-reopen', options=[{'driver': 'file', 'node-name': 'f', 'filename': 'raw',
                                       'foo': 1}]),
        c('blockdev-reopen', options=[{'driver': 'file', 'node-name': 'f'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 'q', 'file': 'none'}]),
        NODES]),
    ('reopen backing', 'qsd', [
        fil('bf', 'base', read_only=True),
        c('blockdev-add', driver='qcow2', node_name='b', file='bf', read_only=True),
        fil('tf', 'top'), c('blockdev-add', driver='qcow2', node_name='t', file='tf', backing='b'),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf',
                                       'backing': None}]),
        NODES,
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf',
                                       'backing': 'b'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf',
                                       'backing': 't'}]),
        c('blockdev-reopen', options=[{'driver': 'qcow2', 'node-name': 't', 'file': 'tf',
                                       'backing': 'none'}]),
        NODES]),
    ('resize', 'qsd', [
        fil('f', 'raw'), qcow2('q', 'base'), c('block_resize'),
        c('block_resize', node_name='none', size=1), c('block_resize', device='none', size=1),
        c('block_resize', node_name='f', size=-1), c('block_resize', node_name='f', size='1M'),
        c('block_resize', node_name='f', device='f', size=1),
        c('block_resize', node_name='f', size=2 << 20), c('block_resize', node_name='f', size=1000),
        c('block_resize', node_name='q', size=8 << 20),
        c('block_resize', node_name='q', size=1 << 20),
        c('block_resize', node_name='q', size=1000), null('n', read_only=True),
        c('block_resize', node_name='n', size=1024), NODES]),
    ('create', 'qsd', [
        c('blockdev-create'), c('blockdev-create', job_id='j', options={}),
        c('blockdev-create', job_id='j', options={'driver': 'raw'}),
        c('blockdev-create', job_id='j', options={'driver': 'foo'}),
        c('blockdev-create', job_id='1j', options={'driver': 'file', 'filename': 'x', 'size': 1}),
        c('blockdev-create', job_id='j', options={'driver': 'file', 'filename': 'x',
                                                  'size': 1 << 20}),
        c('query-jobs'), c('blockdev-create', job_id='j', options={'driver': 'file',
                                                                   'filename': 'x', 'size': 1}),
        c('job-dismiss', id='j'), c('query-jobs'), c('job-dismiss', id='j'),
        c('blockdev-create', job_id='j', options={'driver': 'file', 'filename': 'no/dir',
                                                  'size': 1}),
        c('query-jobs'), c('job-dismiss', id='j'), fil('f', 'x'),
        c('blockdev-create', job_id='j', options={'driver': 'qcow2', 'file': 'f',
                                                  'size': 1 << 20}),
        c('query-jobs'), c('job-dismiss', id='j'),
        c('blockdev-create', job_id='j', options={'driver': 'qcow2', 'file': 'none',
                                                  'size': 1 << 20}),
        c('query-jobs'), c('job-dismiss', id='j'),
        c('blockdev-create', job_id='j', options={'driver': 'qcow2', 'file': 'f',
                                                  'size': 1 << 20, 'cluster-size': 1000}),
        c('query-jobs'), c('job-dismiss', id='j'),
        c('blockdev-create', job_id='j', options={'driver': 'qcow2', 'file': 'f',
                                                  'size': 1000}),
        c('query-jobs'), c('job-cancel', id='j'), c('job-pause', id='j'),
        c('job-finalize', id='j'), c('job-complete', id='j'), c('job-dismiss', id='j')]),
    ('jobs unknown', 'qsd', [
        *(c(f'job-{v}', id='none') for v in
          ('pause', 'resume', 'cancel', 'complete', 'finalize', 'dismiss')),
        *(c(f'block-job-{v}', device='none') for v in
          ('pause', 'resume', 'cancel', 'complete')),
        *(c(f'block-job-{v}', id='none') for v in ('finalize', 'dismiss')),
        c('block-job-set-speed', device='none', speed=1), c('block-job-set-speed', device='x'),
        c('query-jobs'), c('query-block-jobs')]),
    ('mirror', 'qsd', [
        null('a'), null('b'), null('small', size=512), null('ro', read_only=True),
        c('blockdev-mirror', device='a', target='b'),
        c('blockdev-mirror', device='a', target='b', sync='full'),
        c('blockdev-mirror', device='a', target='none', sync='full', job_id='j'),
        c('blockdev-mirror', device='none', target='b', sync='full', job_id='j'),
        c('blockdev-mirror', device='a', target='a', sync='full', job_id='j'),
        c('blockdev-mirror', device='a', target='small', sync='full', job_id='j'),
        c('blockdev-mirror', device='a', target='ro', sync='full', job_id='j'),
        c('blockdev-mirror', device='a', target='b', sync='foo', job_id='j'),
        c('blockdev-mirror', device='a', target='b', sync='incremental', job_id='j'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='1j'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j', granularity=1000),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j', granularity=256),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j', speed=-1),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j',
          replaces='none'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j',
          filter_node_name='a'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j'),
        c('query-block-jobs'), c('query-jobs'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='k'),
        c('blockdev-del', node_name='a'), c('blockdev-del', node_name='b'),
        c('job-finalize', id='j'), c('job-dismiss', id='j'), c('job-pause', id='j'),
        c('query-block-jobs'), c('job-pause', id='j'), c('block-job-cancel', device='j'),
        c('job-resume', id='j'), c('job-resume', id='j'), c('block-job-set-speed', device='j',
                                                            speed=-1),
        c('block-job-set-speed', device='j', speed=1 << 20), c('job-complete', id='j'),
        c('query-jobs'), NODES, c('blockdev-del', node_name='a')]),
    ('mirror onto what is below', 'qsd', [
        null('f'), c('blockdev-add', driver='raw', node_name='r', file='f'),
        c('blockdev-add', driver='raw', node_name='rr', file='r'),
        c('blockdev-mirror', device='rr', target='f', sync='none', job_id='j'),
        c('blockdev-mirror', device='rr', target='r', sync='top', job_id='j'),
        null('a'), c('blockdev-mirror', device='a', target='r', sync='full', job_id='j'),
        qcow2('b', 'base', read_only=True),
        c('blockdev-add', driver='qcow2', node_name='t', backing='b',
          file={'driver': 'file', 'filename': 'top'}),
        c('blockdev-mirror', device='t', target='b', sync='full', job_id='j'),
        c('blockdev-mirror', device='t', target='b', sync='none', job_id='j'), NODES,
        c('query-block-jobs')]),
    ('mirror soft cancel', 'qsd', [
        null('a'), null('b'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j'),
        c('block-job-cancel', device='j'), c('query-jobs'), NODES,
        c('blockdev-mirror', device='a', target='b', sync='top', job_id='j'),
        c('block-job-cancel', device='j', force=True), c('query-jobs'),
        c('blockdev-mirror', device='a', target='b', sync='none', job_id='j'),
        c('job-cancel', id='j'), c('query-jobs'), NODES]),
    ('mirror kept', 'qsd', [
        null('a'), null('b'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j', auto_dismiss=False,
          auto_finalize=False),
        c('query-jobs'), c('job-dismiss', id='j'), c('job-complete', id='j'), c('query-jobs'),
        c('job-complete', id='j'), c('job-pause', id='j'), c('job-finalize', id='j'),
        c('query-jobs'), c('query-block-jobs'), c('job-finalize', id='j'),
        c('job-cancel', id='j'), c('job-dismiss', id='j'), c('query-jobs'),
        c('blockdev-mirror', device='a', target='b', sync='full', job_id='j', auto_dismiss=False),
        c('job-cancel', id='j'), c('query-jobs'), c('block-job-dismiss', id='j'),
        c('query-jobs')]),
    ('backup', 'qsd', [
        null('a'), null('b'), null('small', size=512),
        c('blockdev-backup', device='a', target='b'),
        c('blockdev-backup', device='a', target='b', sync='full'),
        c('blockdev-backup', device='a', target='none', sync='full', job_id='j'),
        c('blockdev-backup', device='none', target='b', sync='full', job_id='j'),
        c('blockdev-backup', device='a', target='a', sync='full', job_id='j'),
        c('blockdev-backup', device='a', target='small', sync='full', job_id='j'),
        c('blockdev-backup', device='a', target='b', sync='foo', job_id='j'),
        c('blockdev-backup', device='a', target='b', sync='bitmap', job_id='j'),
        c('blockdev-backup', device='a', target='b', sync='incremental', job_id='j'),
        c('blockdev-backup', device='a', target='b', sync='full', job_id='j', bitmap='x'),
        c('blockdev-backup', device='a', target='b', sync='full', job_id='j', speed=-1),
        c('blockdev-backup', device='a', target='b', sync='none', job_id='j', compress=True),
        c('blockdev-backup', device='a', target='b', sync='none', job_id='j',
          auto_dismiss=False),
        c('query-block-jobs'), c('query-jobs'), NODES,
        c('blockdev-backup', device='a', target='b', sync='none', job_id='j'),
        c('job-complete', id='j'), c('job-pause', id='j'), c('query-jobs'),
        c('job-resume', id='j'), c('block-job-cancel', device='j'), c('query-jobs'),
        c('job-dismiss', id='j'), NODES]),
    ('backup beside its source', 'qsd', [
        fil('f', 'raw'), c('blockdev-add', driver='raw', node_name='r', file='f'),
        *[c('blockdev-backup', device=s, target=t, sync='none', job_id='j')
          for s, t in (('r', 'f'), ('f', 'r'))],
        c('blockdev-add', driver='blkdebug', node_name='b', image='r'),
        *[c('blockdev-backup', device=s, target=t, sync='none', job_id='j')
          for s, t in (('b', 'r'), ('r', 'b'))],
        c('query-jobs')]),
    ('backup full', 'qsd', [
        null('a'), null('b'),
        c('blockdev-backup', device='a', target='b', sync='full', job_id='j'),
        c('query-jobs'),
        c('blockdev-backup', device='a', target='b', sync='top', job_id='j',
          auto_dismiss=False, auto_finalize=False),
        c('query-jobs'), c('job-finalize', id='j'), c('query-jobs'),
        c('job-dismiss', id='j')]),
    ('commit', 'qsd', [
        c('block-commit', device='none'), c('block-commit'), null('n'),
        c('block-commit', device='n', job_id='j'), qcow2('t', 'top'),
        c('block-commit', device='t'), c('block-commit', device='t', job_id='j', top_node='none'),
        c('block-commit', device='t', job_id='j', base_node='none'),
        c('block-commit', device='t', job_id='j', base_node='t'),
        c('block-commit', device='t', job_id='j', base_node='n'),
        c('block-commit', device='t', job_id='j', speed=-1),
        c('block-commit', device='t', job_id='j', on_error='foo'),
        c('block-commit', device='t', job_id='j', backing_file='x'),
        c('block-commit', device='t', job_id='j', base='x', base_node='n'),
        c('block-commit', device='t', job_id='j'), c('query-jobs'), c('query-block-jobs'),
        NODES, c('job-complete', id='j'), c('query-jobs'), NODES]),
    ('commit cancelled', 'qsd', [
        qcow2('t', 'top'), c('block-commit', device='t', job_id='j'),
        c('block-job-cancel', device='j'), c('query-jobs'), NODES,
        c('block-commit', device='t', job_id='j'), c('job-cancel', id='j'), c('query-jobs')]),
    ('quorum', 'sys', [
        null('a'), null('b'), null('d'), null('short', size=512),
        c('blockdev-add', driver='quorum', node_name='q', vote_threshold=1, children=['a', 'b']),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=1, children=[]),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=3,
          children=['a', 'd']),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=0,
          children=['a', 'd']),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=1, children=['none']),
        c('blockdev-add', driver='quorum', node_name='q2', children=['d']),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=2, children=['d', 'b'],
          blkverify=True, rewrite_corrupted=True),
        c('blockdev-add', driver='quorum', node_name='q2', vote_threshold=1, children=['d'],
          read_pattern='foo'),
        c('x-blockdev-change'), c('x-blockdev-change', parent='none'),
        c('x-blockdev-change', parent='q'), c('x-blockdev-change', parent='q', node='none'),
        c('x-blockdev-change', parent='q', child='none'),
        c('x-blockdev-change', parent='q', child='children.7'),
        c('x-blockdev-change', parent='a', node='d'),
        c('x-blockdev-change', parent='a', child='x'),
        c('x-blockdev-change', parent='q', node='d', child='children.0'),
        c('x-blockdev-change', parent='q', node='d'), NODES,
        c('x-blockdev-change', parent='q', node='d'), c('x-blockdev-change', parent='q', node='a'),
        c('x-blockdev-change', parent='q', child='children.1'),
        c('x-blockdev-change', parent='q', child='children.2'),
        c('x-blockdev-change', parent='q', child='children.0'), NODES]),
    ('hmp', 'sys', [
        c('human-monitor-command'), *(c('human-monitor-command', command_line=t) for t in [
            '', 'foo', 'info', 'info foo', 'info block', 'info block none', 'drive_add',
            'drive_add 0', 'drive_add 0 foo', 'drive_add -n 0 driver=null-co',
            'drive_add -n 0 driver=null-co,node-name=n,size=1M',
            'drive_add -n 0 driver=null-co,node-name=n,size=1M',
            'drive_add -n 0 driver=foo,node-name=m',
            'drive_add -n 0 node-name=m', 'drive_add -n 0 file.driver=file,node-name=m',
            'drive_add -n 0 driver=qcow2,file.filename=missing,node-name=m',
            'drive_add -n 0 driver=qcow2,file.filename=base,node-name=m',
            'drive_add -n buddy driver=raw,node-name=r,file.driver=file,file.filename=raw',
            'info block', 'info block -n', 'info block m', 'drive_del', 'drive_del none',
            'drive_del n', 'drive_del m', 'info block -n', 'qemu-io', 'qemu-io none "read 0 1"',
            'qemu-io n', 'qemu-io n "foo"', 'drive_add -n 0 driver=null-co,node-name=n,size=1M,'
            'read-zeroes=on', *(f'qemu-io n "{t}"' for t in QEMU_IO), 'qemu-io -d n "read 0 4k"',
            'qemu-io -d n'])]),
    ('drive', 'sys', [
        c('human-monitor-command',
          command__line='x'), raw('human-monitor-command',
                                  **{'command-line': 'drive_add 0 if=none,id=d,file=raw,'
                                     'format=raw'}),
        c('query-block'), NODES, raw('human-monitor-command', **{'command-line': 'info block'}),
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,id=d,file=raw2,'
                                        'format=raw'}),
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,id=e,file=missing'}),
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,id=e,file=base,'
                                        'format=foo'}),
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,id=1e,file=base'}),
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,file=base,foo=1'}),
        c('query-blockstats'), c('blockdev-del', node_name='d'),
        c('block_resize', device='d', size=2 << 20), unix_server(),
        c('nbd-server-add', device='d', writable=True), EXPORTS,
        raw('human-monitor-command', **{'command-line': 'drive_del d'}), c('query-block'),
        EXPORTS, c('nbd-server-stop')]),
    ('drive permissions', 'sys', [
        raw('human-monitor-command', **{'command-line': 'drive_add 0 if=none,id=d,file=raw,'
                                        'format=raw,node-name=n'}),
        c('x-debug-query-block-graph'),
        c('blockdev-add', driver='quorum', node_name='q', vote_threshold=1, children=['n']),
        fil('f', 'raw2'), null('m'),
        c('blockdev-mirror', device='d', target='m', sync='full'), c('query-block-jobs'),
        c('block-job-cancel', device='d'), c('block-commit', device='d'),
        c('blockdev-backup', device='d', target='m', sync='none'), c('query-block-jobs'),
        c('block-job-cancel', device='d'), c('query-block')]),
    ('yank', 'sys', [
        c('query-yank'), c('yank'), c('yank', instances=[]), null('n'),
        c('yank', instances=[{'type': 'block-node'}]),
        c('yank', instances=[{'type': 'block-node', 'node-name': 'n'}]),
        c('yank', instances=[{'type': 'block-node', 'node-name': 'x'}]),
        c('yank', instances=[{'type': 'chardev', 'id': 'c'}, {'type': 'migration'}]),
        c('yank', instances=[{'type': 'migration', 'id': 'x'}]),
        {'exec-oob': 'query-yank', 'id': 1}, {'exec-oob': 'yank', 'arguments': {'instances': []}},
        {'exec-oob': 'query-status'}, {'exec-oob': 'nope'}, {'exec-oob': 7},
        {'exec-oob': 'query-yank', 'execute': 'query-yank'}]),
    ('status', 'sys', [
        c('query-status'), c('stop'), c('query-status'), c('cont'), c('query-status'), c('stop'),
        c('query-status'),
        c('query-name'), c('query-xen-replication-status'),
        c('xen-set-replication', enable=True, primary=False),
        c('xen-set-replication', enable=True, primary=True),
        c('xen-set-replication', enable=False, primary=False, failover=False),
        c('xen-set-replication', enable=True, primary=True, failover=True),
        c('xen-set-replication'), c('xen-colo-do-checkpoint'),
        c('query-xen-replication-status'), c('query-colo-status'), c('x-colo-lost-heartbeat')]),
    ('objects', 'qsd', [
        c('object-add'), c('object-add', qom_type='foo', id='o'),
        c('object-add', qom_type='iothread', id='i'), c('object-add', qom_type='iothread', id='i'),
        c('object-add', qom_type='iothread', id='1i'), c('object-add', qom_type='secret', id='s'),
        c('object-add', qom_type='secret', id='s', data='x'),
        c('object-add', qom_type='secret', id='t', data='x', foo=1),
        c('object-add', qom_type='secret', id='t', file='missing'),
        c('object-del'), c('object-del', id='none'), c('object-del', id='i'),
        c('object-del', id='i'), c('object-del', id='s')]),
]


class Random:
    """Commands over a few names, so that they meet. Jobs are left to the lists: how often QEMU
    pauses one hangs on the graph around it."""

    def __init__(self, rng):
        self.rng = rng

    def name(self):
        return self.rng.choice(['n0', 'n1', 'n2', 'n3'])

    def command(self):
        r, n = self.rng, self.name
        kinds = [
            lambda: null(n(), size=r.choice([512, 65536, 1 << 20])),
            lambda: null(n(), read_only=True),
            lambda: c('blockdev-add', driver='raw', node_name=n(), file=n()),
            lambda: qcow2(n(), r.choice(['base', 'top', 'raw', 'missing'])),
            lambda: fil(n(), r.choice(['raw', 'raw2'])),
            lambda: c('blockdev-del', node_name=n()),
            lambda: unix_server(), lambda: c('nbd-server-stop'),
            lambda: c('block-export-add', type='nbd', id=r.choice(['e0', 'e1']), node_name=n(),
                      writable=r.random() < .5),
            lambda: c('block-export-del', id=r.choice(['e0', 'e1'])),
            lambda: c('nbd-server-add', device=n(), writable=r.random() < .5),
            lambda: c('nbd-server-remove', name=r.choice(['none', 'e0', 'e1', n()])),
            lambda: EXPORTS, lambda: NODES, lambda: c('query-jobs'),
            lambda: c('block_resize', node_name=n(), size=r.choice([512, 1 << 20, 8 << 20])),
        ]
        return r.choice(kinds)()

    def script(self):
        return [self.command() for _ in range(self.rng.randrange(10, 40))]


def images(top):
    def img(*argv):
        subprocess.run(['qemu-img', *argv], cwd=top, check=True, stdout=subprocess.DEVNULL)

    for name in ('raw', 'raw2'):
        img('create', '-q', '-f', 'raw', name, '1M')
    img('create', '-q', '-f', 'qcow2', 'base', '4M')
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write 0 64k', 'base'], cwd=top, check=True,
                   stdout=subprocess.DEVNULL)
    img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'top')
    img('create', '-q', '-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', 'orphan', '4M')
    with open(f'{top}/garbage', 'wb') as f:
        f.write(b'QFI\xfb' + bytes(range(250)) * 20)


class Differ:
    def __init__(self, template):
        self.template = template
        self.commands = self.different = self.excused = 0

    def run_side(self, argv, commands):
        cwd = tempfile.mkdtemp(prefix='tandem-qmp-')
        try:
            subprocess.run(['cp', '-r', f'{self.template}/.', cwd], check=True)
            side = Side(argv, cwd)
            log = []
            try:
                for command in commands:
                    start = len(side.events)
                    reply = side.cmd(command)
                    if re.search('export-del|server-(remove|stop)', str(command)):
                        side.settle_exports()
                    side.settle()
                    side.settle()
                    log.append((side.mask(reply), self.events(side, start)))
            finally:
                side.end()
            return log, side.printed
        finally:
            shutil.rmtree(cwd, ignore_errors=True)

    @staticmethod
    def events(side, start):
        seen = [side.mask({'event': e['event'], 'data': e.get('data', {})})
                for e in side.events[start:]]
        return [e for e in seen if e['event'] != 'SHUTDOWN']

    def script(self, name, peer, commands):
        argv = OURS_SYS if peer == 'sys' else OURS
        with ThreadPoolExecutor(2) as both:
            runs = [both.submit(self.run_side, a, commands) for a in (argv, PEERS[peer])]
        (ours, our_prints), (theirs, their_prints) = [r.result() for r in runs]
        for command, mine, other in zip(commands, ours, theirs):
            self.commands += 1
            self.compare(name, json.dumps(command), mine, other)
        if 'qemu-io' in str(commands) and our_prints != their_prints:
            self.different += 1
            print(f'--- {name}: printed')
            print(*difflib.ndiff(their_prints, our_prints), sep='')

    def compare(self, name, line, mine, other):
        for part, a, b in (('reply', mine[0], other[0]), ('events', mine[1], other[1])):
            a, b = json.dumps(a), json.dumps(b)
            if a == b:
                continue
            if any([e.covers(f'{part} {line}', a) for e in EXCUSES]):
                self.excused += 1
                continue
            self.different += 1
            print(f'--- {name}: {line}\n    {part} theirs: {b}\n    {part} ours:   {a}',
                  flush=True)


EXCUSES = [
    # What is not there yet, refused by name.
    Excuse('"(tls-creds|bitmaps|iothread|bitmap|compress)"', 'not supported|unexpected',
           'no TLS, bitmaps, I/O threads of exports or compression'),
    Excuse('blockdev-backup.*"sync": "(full|top|bitmap|incremental)"', "mode 'none'|\\[\\]",
           'backup copies nothing by itself: only sync=none'),
    Excuse('(job-finalize|job-dismiss|query-jobs)', 'Job not found|"return": \\[\\]|^\\[\\]$',
           'such a backup is therefore not there later'),
    Excuse('quorum.*blkverify', 'blkverify', 'no blkverify'),
    Excuse('"replaces": "none"', 'replaces', 'mirror replaces its source only'),
    Excuse('block-commit.*"top-node": "none"', 'active layer', 'only the active layer is merged'),
    # Better, or better said.
    Excuse('.', 'Block node is read-only: ', 'the node and its user are named'),
    Excuse('.', 'is busy: block device is in use by', 'the user is named'),
    Excuse('nbd-server-start|blockdev-create', "Parameter '(addr.type|options.driver)'",
           'the whole path of the parameter'),
    Excuse('x{100}', 'too long', 'long names are cut'),
    Excuse('offset.*size', 'sum of offset', 'one blank between two words'),
    Excuse('"reply .*blockdev-reopen|reply .*blockdev-reopen',
           "of node|nor node-name='none'|file child", 'the node, or the first edge, is named'),
    Excuse('block_resize.*"device": "f"', 'exactly one', 'a contradiction is refused'),
    Excuse('blockdev-mirror.*small', 'differ in length|\\[\\]',
           'different lengths are refused before there is a job'),
    Excuse('blockdev-mirror.*incremental', 'not supported by mirror', 'the job is named'),
    Excuse('events .*"speed": -1', '\\[\\]', 'refused before there is a job'),
    Excuse('events .*filter-node-name', 'null', 'QEMU has not made its job yet when it refuses'),
    Excuse('block-commit', 'backing-file|not in this backing|commit an image',
           'the parameter, or the node, is named'),
    Excuse('quorum.*"children": \\[\\]', '1 to 32', 'both limits'),
    Excuse('object-add.*missing', 'Unable to read missing', 'without the words of a library'),
    Excuse('"filename": ""', "Could not open ''", 'as for any name that is not there'),
    Excuse('x-colo-lost-heartbeat', 'Not in COLO state', 'there is no such feature to enable'),
    # Different, and nothing a client can build on.
    Excuse('x-debug-query-block-graph', '"edges"', 'numbers; a drive takes no consistent-read'),
    Excuse('events .*blockdev-backup', 'running', 'QEMU drains, and so pauses, to insert a filter'),
    Excuse('query-named-block-nodes', 'copy-before-write|mirror_top|quorum',
           'names of internal nodes, options of quorum in its json: name'),
    Excuse('"command-line": "info"', 'info block', 'what there is to ask for'),
    Excuse('command-line": "info block -n', 'null-co|raw', 'the order of nodes'),
    Excuse('command-line": "drive_add', 'Could not open .foo|is missing|Invalid device id',
           'a bare word is a file name; what is missing or wrong is named'),
    Excuse('blockdev-backup.*"sync": "none"', "Job ID 'j.?' already|^\\[\\]$",
           'the id is looked at before the nodes'),
    # Exports keep a drive until they are gone.
    Excuse('drive_del d"|nbd-server-stop|query-block-exports', 'BLOCK_EXPORT|\\[\\]|"id": "d"',
           'deleting a drive leaves its exports'),
    # A node may be mirrored where it is.
    Excuse('"device": "d"|query-block-jobs', '.', 'a node under another one can be mirrored'),
]

# What combinations bring about besides: which of two errors comes first, and whose name is told.
RANDOM_EXCUSES = [
    Excuse('block-export-add|nbd-server-add', 'NBD server not running|read-only|Cannot find',
           'the server is looked for before the node'),
    Excuse('blockdev-add', 'Duplicate nodes', 'a name is looked at before files are opened'),
    Excuse('.', 'Permission conflict', 'exports and jobs are named'),
    Excuse('.', 'in use|already', 'which of the users is named'),
    Excuse('query-named-block-nodes', 'virtual-size', 'where the file of a qcow2 image ends'),
]


def main():
    if not have_qemu() or not shutil.which('qemu-system-x86_64'):
        sys.exit(77)
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 32))
    p.add_argument('--seconds', type=float, default=soak_seconds(),
                   help='for random sequences')
    p.add_argument('--only', default='', help='expression that names of listed sequences match')
    args = p.parse_args()
    print(f'test-diff-qmp: seed {args.seed}', flush=True)
    with tempfile.TemporaryDirectory(prefix='tandem-qmp-') as template:
        images(template)
        d = Differ(template)
        for name, peer, commands in LISTED:
            if re.search(args.only, name):
                d.script(name, peer, commands)
        stale = [] if args.only else [e for e in EXCUSES if not e.used]
        EXCUSES.extend(RANDOM_EXCUSES)
        maker = Random(random.Random(args.seed))
        end = time.monotonic() + args.seconds
        while not args.only and time.monotonic() < end:
            d.script('random', 'qsd', maker.script())
    for e in stale:
        print(f'--- no command needs the exception {e.pattern.pattern!r} ({e.reason})')
    print(f'test-diff-qmp: seed {args.seed}, {d.commands} commands, {d.different} differ, '
          f'{d.excused} differences as listed')
    return 1 if d.different or stale or not d.commands else 0


if __name__ == '__main__':
    sys.exit(main())
