# SPDX-License-Identifier: GPL-2.0-or-later
"""The process: options, their errors, signals, pid file, daemon, sockets, idling."""

import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from qmpclient import Daemon, Qmp, TANDEMD

SOURCE = os.environ.get('TANDEM_SOURCE', os.path.join(os.path.dirname(__file__), '../..'))
SANITIZED = b'__asan_init' in open(TANDEMD, 'rb').read()


def run(*args, stdin=b'', **kwargs):
    return subprocess.run([TANDEMD, *args], input=stdin, capture_output=True, timeout=30,
                          check=False, **kwargs)


class Options(unittest.TestCase):
    def fails(self, *args):
        """One line on stderr, exit status 1."""
        done = run(*args)
        self.assertEqual(done.returncode, 1, done)
        # getopt_long() names the program as it was called.
        program, text = done.stderr.decode().split('tandemd: ', maxsplit=1)
        self.assertTrue(program in ('', TANDEMD[:-len('tandemd')]) and text.count('\n') == 1, text)
        return text[:-1]

    def test_help_and_version(self):
        for option in ('-h', '--help', '-help'):
            done = run(option)
            self.assertEqual((done.returncode, done.stderr), (0, b''))
            self.assertIn(b'--blockdev', done.stdout)
        for option in ('-V', '--version'):
            self.assertIn(b'tandemd version 0.', run(option).stdout)

    def test_trace(self):
        listed = set(run('-T', 'help').stdout.decode().split())
        called = set()
        for folder in ('util', 'block', 'monitor', 'image', 'tools'):
            for path in pathlib.Path(SOURCE, folder).rglob('*.c'):
                called |= set(re.findall(r'\btrace\("([^"]*)"', path.read_text()))
        self.assertEqual(called, listed)
        done = run('--trace', 'graph-commit', '-T', 'bdrv*', '--blockdev', 'null-co,node-name=n',
                   'stray')
        self.assertIn(b"warning: trace event 'bdrv*' does not exist", done.stderr)
        self.assertEqual(self.fails('-T', 'x=1'), "-T x=1: Invalid parameter 'x'")
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch, 'trace')
            self.fails('-T', f'graph-*,file={path}', '--blockdev', 'null-co,node-name=n', '--bad')
            self.fails('-T', f'graph-*,file={path}', '--blockdev', 'null-co,node-name=n',
                       '--blockdev', 'raw,node-name=r,file=n', '--blockdev', 'no')
            self.assertIn(' graph-commit 0x', path.read_text())

    def test_bad_words(self):
        self.assertEqual(self.fails('stray'), 'stray: Unexpected argument')
        self.assertEqual(self.fails('--nonsense'), "unrecognized option '--nonsense'")
        self.assertEqual(self.fails('-nonsense'), '-nonsense: invalid option')
        self.assertEqual(self.fails('--pidfile'), "option '--pidfile' requires an argument")
        self.assertEqual(self.fails('-drive'), '-drive: requires an argument')
        self.assertIn("no poller 'x'", self.fails('--poller', 'x'))
        self.assertEqual(self.fails('-machine', 'pc'),
                         "-machine pc: there is no machine: only 'none' is possible")

    def test_errors_name_the_option(self):
        for args, text in (
                (('--blockdev', 'null-co'), "'node-name' must be specified for the root node"),
                (('--blockdev', 'null-co,node-name=a,size=1M'), 'size'),
                (('--blockdev', '{"driver": "null-co"'), 'JSON parse error'),
                (('--blockdev', 'x,node-name=a'), "'x'"),
                (('-drive', 'id=a,driver=null-co,if=nothing'), 'nothing'),
                (('--export', 'nbd,id=e,node-name=a'), ''),
                (('--nbd-server', 'addr.type=unix'), "'addr.path'"),
                (('--object', 'throttle-group,id=g'), 'not supported'),
                (('--chardev', 'pty,id=c'), "'pty'"),
                (('--chardev', 'socket,id=c,server=on'), "'path', 'host' and 'fd'"),
                (('--chardev', 'socket,id=c,host=h'), 'port'),
                (('--chardev', 'socket,id=c,path=x,telnet=on'), "'telnet'"),
                (('--chardev', 'socket,id=c,path=x,wait=off'), "'wait'"),
                (('--chardev', 'null'), 'no id'),
                (('--monitor', 'nothing'), 'chardev "nothing" not found'),
                (('--monitor', 'nothing,mode=readline'), 'readline'),
                (('-qmp', 'telnet:x:1'), 'not a valid char driver'),
                (('-qmp', 'unix:/does/not/exist/q,server=on,wait=off'), 'No such file'),
                (('-qmp', 'unix:/does/not/exist/q'), 'No such file'),
                (('-qmp', f'unix:/tmp/{"x" * 200},server=on,wait=off'), 'too long'),
                (('-name', 'x,debug-threads=maybe'), 'debug-threads')):
            message = self.fails(*args)
            self.assertTrue(message.startswith(f'{args[0]} {args[1]}: '), message)
            self.assertIn(text, message)

    def test_order_matters(self):
        null, raw = 'null-co,node-name=a', 'raw,node-name=b,file=a'
        self.assertIn('--blockdev raw', self.fails('--blockdev', raw, '--blockdev', null))
        with Daemon('--blockdev', null, '--blockdev', raw) as daemon:
            client = daemon.client()
            self.assertEqual(len(client.cmd('query-named-block-nodes', flat=True)), 2)
            client.close()

    def test_duplicates(self):
        self.assertIn("Duplicate ID 'c'", self.fails('--chardev', 'null,id=c',
                                                     '--chardev', 'null,id=c'))
        self.assertIn('in use', self.fails('--chardev', 'null,id=c', '--monitor', 'c',
                                           '--monitor', 'c'))
        self.assertIn('stdio', self.fails('-qmp', 'stdio', '-qmp', 'stdio'))

    def test_failure_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as d:
            self.fails('-qmp', f'unix:{d}/q,server=on,wait=off', '--pidfile', f'{d}/pid',
                       '--nbd-server', f'addr.type=unix,addr.path={d}/nbd',
                       '--blockdev', 'null-co,node-name=a',
                       '--export', 'nbd,id=e,node-name=a', '--monitor', 'nothing')
            self.assertEqual(os.listdir(d), [])

    def test_recipe_of_old(self):
        with tempfile.TemporaryDirectory() as d:
            for name in ('disk', 'other'):
                with open(f'{d}/{name}', 'wb') as f:
                    f.truncate(1 << 20)
            with Daemon('-nodefaults', '-machine', 'none', '-display', 'none', '-name', 'vm', '-S',
                        '-drive', f'if=none,id=parent0,driver=raw,file.filename={d}/disk',
                        '-drive', 'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,'
                        'vote-threshold=1,children.0=parent0',
                        '-drive', f'file={d}/other,format=raw,id=plain,readonly=on') as daemon:
                client = daemon.client()
                self.assertEqual({b['device'] for b in client.cmd('query-block')},
                                 {'parent0', 'colo-disk0', 'plain'})
                self.assertEqual(client.cmd('query-name'), {'name': 'vm'})
                self.assertEqual(client.cmd('query-status')['status'], 'prelaunch')
                client.close()


class Process(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = scratch.name

    def test_signals(self):
        for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            daemon = Daemon('--pidfile', f'{self.dir}/pid',
                            '--nbd-server', f'addr.type=unix,addr.path={self.dir}/nbd',
                            '--blockdev', 'null-co,node-name=a',
                            '--export', 'nbd,id=e,node-name=a')
            daemon.wait_for(f'{self.dir}/pid')
            client = daemon.client()
            daemon.proc.send_signal(signal.SIGPIPE)
            client.cmd('query-status')
            daemon.proc.send_signal(signo)
            self.assertEqual(client.wait_event('SHUTDOWN')['data'],
                             {'guest': False, 'reason': 'host-signal'})
            client.wait_event('BLOCK_EXPORT_DELETED', id='e')
            self.assertIsNone(client.read())
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual((os.listdir(self.dir), os.listdir(daemon.dir)), ([], []))
            client.close()
            daemon.__exit__(None, None, None)

    def test_a_file_at_its_size_limit_is_an_error(self):
        path = f'{self.dir}/disk'
        with open(path, 'wb') as f:
            f.truncate(1 << 20)
        with Daemon('--blockdev', f'file,node-name=a,filename={path}') as daemon:
            client = daemon.client()
            none = resource.RLIM_INFINITY
            resource.prlimit(daemon.proc.pid, resource.RLIMIT_FSIZE, (4096, none))
            client.cmd('human-monitor-command', **{'command-line': 'qemu-io a "write 8k 4k"'})
            self.assertIn('File too large', daemon.printed())
            client.cmd('query-status')
            client.close()

    def test_quit(self):
        with Daemon('--pidfile', f'{self.dir}/pid') as daemon:
            client = daemon.client()
            client.sock.sendall(b'{"execute": "quit"}')
            self.assertEqual(client.read(), {'return': {}})
            self.assertEqual(client.read()['event'], 'SHUTDOWN')
            self.assertIsNone(client.read())
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual((os.listdir(self.dir), os.listdir(daemon.dir)), ([], []))
            client.close()

    def test_quit_is_answered_when_the_exports_are_gone(self):
        with Daemon('--nbd-server', f'addr.type=unix,addr.path={self.dir}/nbd',
                    '--blockdev', 'null-co,node-name=a', '--export', 'nbd,id=e,node-name=a',
                    '--export', 'nbd,id=f,node-name=a,name=f') as daemon:
            client = daemon.client()
            client.sock.sendall(b'{"execute": "quit"}')
            seen = []
            while (obj := client.read()) is not None:
                seen.append(obj.get('event', 'return'))
            self.assertEqual(seen, ['BLOCK_EXPORT_DELETED', 'BLOCK_EXPORT_DELETED', 'return',
                                    'SHUTDOWN'])
            self.assertEqual(daemon.wait(), 0)
            client.close()

    def test_pidfile(self):
        path = f'{self.dir}/pid'
        with open(path, 'w', encoding='ascii') as f:
            f.write('left by somebody, and longer than a number\n')
        with Daemon('--pidfile', path) as daemon:
            daemon.client().close()
            with open(path, encoding='ascii') as f:
                self.assertEqual(f.read(), f'{daemon.proc.pid}\n')
            done = run('--pidfile', path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b'cannot lock PID file', done.stderr)
            self.assertTrue(os.path.exists(path))
        self.assertFalse(os.path.exists(path))
        self.assertIn(b'cannot create PID file', run('--pidfile', '/does/not/exist').stderr)

    def test_daemonize(self):
        pid, sock = f'{self.dir}/pid', f'{self.dir}/qmp'
        done = run('--daemonize', '--pidfile', pid, '-qmp', f'unix:{sock},server=on,wait=off')
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b'', b''))
        with open(pid, encoding='ascii') as f:         # there when the parent has gone
            number = int(f.read())
        client = Qmp(sock)
        self.assertEqual(os.readlink(f'/proc/{number}/cwd'), '/')
        self.assertEqual(os.readlink(f'/proc/{number}/fd/2'), '/dev/null')
        client.cmd('quit')
        client.wait_event('SHUTDOWN')
        self.assertIsNone(client.read())
        client.close()
        end = time.monotonic() + 10
        while os.listdir(self.dir):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        done = run('--daemonize', '--monitor', 'nothing')
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'not found', done.stderr)

    def test_addresses_in_use(self):
        with Daemon() as daemon:
            done = run('-qmp', f'unix:{daemon.path},server=on,wait=off')
            self.assertEqual(done.returncode, 1)
            self.assertIn(b'in use', done.stderr.lower())
            daemon.client().close()
        busy = socket.socket()
        busy.bind(('127.0.0.1', 0))
        busy.listen()
        done = run('-qmp', f'tcp:127.0.0.1:{busy.getsockname()[1]},server,nowait')
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'in use', done.stderr.lower())
        busy.close()

    def test_stale_socket_is_replaced(self):
        path = f'{self.dir}/qmp'
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()
        with Daemon('-qmp', f'unix:{path},server=on,wait=off'):
            Qmp(path).close()
        self.assertFalse(os.path.exists(path))

    def test_tcp(self):
        probe = socket.socket()
        probe.bind(('127.0.0.1', 0))
        address = probe.getsockname()
        probe.close()
        with Daemon('-qmp', f'tcp:127.0.0.1:{address[1]},server,nowait'):
            client = Qmp(address)
            client.cmd('query-status')
            client.close()

    def test_connects_to_a_listener(self):
        path = f'{self.dir}/manager'
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        with Daemon('--chardev', f'socket,id=c,path={path}', '--monitor', 'c,pretty=on'):
            s, _ = listener.accept()
            lines = s.makefile('rb')
            self.assertEqual(lines.readline(), b'{\r\n')
            self.assertTrue(lines.readline().startswith(b'    "QMP": {'))
            lines.close()
            s.close()
        listener.close()

    def test_waits_for_a_client(self):
        path = f'{self.dir}/qmp'
        with Daemon('-qmp', f'unix:{path},server=on', '--pidfile', f'{self.dir}/pid',
                    monitor=False, stderr=subprocess.PIPE) as daemon:
            daemon.wait_for(path)
            self.assertIn(b'waiting', daemon.proc.stderr.readline())
            self.assertFalse(os.path.exists(f'{self.dir}/pid'))
            client = Qmp(path)
            self.assertTrue(os.path.exists(f'{self.dir}/pid'))
            client.close()
        with Daemon('-qmp', f'unix:{path},server=on', monitor=False,
                    stderr=subprocess.PIPE) as daemon:
            daemon.wait_for(path)
            daemon.proc.terminate()                    # a signal ends the waiting, cleanly
            self.assertEqual(daemon.wait(), 0)

    def test_stdio(self):
        done = run('-qmp', 'stdio', stdin=b'{"execute": "qmp_capabilities"}'
                                          b'{"execute": "query-name"}{"execute": "quit"}')
        self.assertEqual(done.returncode, 0)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(lines[1:4], [{'return': {}}] * 3)
        with open(f'{self.dir}/in', 'wb') as f:
            f.write(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
        with open(f'{self.dir}/in', 'rb') as f, open(f'{self.dir}/out', 'wb') as out:
            subprocess.run([TANDEMD, '-qmp', 'stdio'], stdin=f, stdout=out, timeout=30, check=True)
        with open(f'{self.dir}/out', 'rb') as f:
            self.assertEqual(len(f.read().splitlines()), 3)

    def test_file_and_null(self):
        with Daemon('--chardev', f'file,id=f,path={self.dir}/log', '--monitor', 'f',
                    '--chardev', 'null,id=n', '-mon', 'chardev=n,mode=control') as daemon:
            daemon.client().close()
        with open(f'{self.dir}/log', 'rb') as f:
            self.assertIn(b'"QMP"', f.read())

    def test_pollers(self):
        for poller in ('epoll', 'auto'):
            with Daemon('--poller', poller) as daemon:
                daemon.client().close()
        with Daemon(env={**os.environ, 'TANDEM_POLLER': 'epoll'}) as daemon:
            daemon.client().close()

    def test_idle(self):
        """Nothing to do: no wake-up in two seconds, and little memory."""
        with Daemon('--blockdev', 'null-co,node-name=a',
                    '--nbd-server', f'addr.type=unix,addr.path={self.dir}/nbd',
                    '--export', 'nbd,id=e,node-name=a') as daemon:
            client = daemon.client()
            time.sleep(0.2)
            before = self.switches(daemon.proc.pid)
            time.sleep(2)
            after = self.switches(daemon.proc.pid)
            self.assertIn(daemon.proc.pid, after)
            self.assertEqual(after, {k: v for k, v in before.items() if k in after})
            with open(f'/proc/{daemon.proc.pid}/status', encoding='ascii') as f:
                rss = [int(line.split()[1]) for line in f if line.startswith('VmRSS:')][0]
            if not SANITIZED:
                self.assertLess(rss, 15 * 1024)
            client.close()

    @staticmethod
    def switches(pid):
        """Context switches of each thread. Those that end, having waited for work, do not count."""
        counts = {}
        for task in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{task}/status', encoding='ascii') as f:
                counts[int(task)] = sum(int(l.split()[1]) for l in f if 'ctxt_switches' in l)
        return counts


if __name__ == '__main__':
    unittest.main()
