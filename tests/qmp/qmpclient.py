# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain client of QMP, and a tandemd to talk to; standard library only."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get('TANDEM_BUILD', 'build')
TANDEMD = os.path.join(BUILD, 'tools', 'tandemd')


class QMPError(Exception):
    """An error reply; 'cls' and 'desc' are its members."""

    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.cls, self.desc = error['class'], error['desc']


class Client:
    """One connection; events are kept in 'events' in order of arrival."""

    def __init__(self, address, negotiate=True, timeout=20):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self._connect(address)
        self.lines = self.sock.makefile('rb')
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self.cmd('qmp_capabilities')

    def _connect(self, address):
        """A socket that is bound and does not listen yet refuses; that passes."""
        for _ in range(100):
            try:
                return self.sock.connect(address)
            except ConnectionRefusedError:
                time.sleep(0.01)
        return self.sock.connect(address)

    def read(self):
        """The next object from the server; None at the end."""
        line = self.lines.readline()
        return json.loads(line) if line else None

    def raw(self, text):
        """Send bytes or text as they are; return the next object that is no event."""
        self.sock.sendall(text if isinstance(text, bytes) else text.encode())
        return self.reply()

    def reply(self):
        while True:
            obj = self.read()
            if obj is None or 'event' not in obj:
                return obj
            self.events.append(obj)

    def cmd(self, name, /, **arguments):
        """Run a command; '_' in names of arguments stands for '-'."""
        request = {'execute': name}
        if arguments:
            request['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        obj = self.raw(json.dumps(request))
        if obj is None:
            raise EOFError(name)
        if 'error' in obj:
            raise QMPError(obj['error'])
        return obj['return']

    def error(self, name, /, **arguments):
        """The description of the error that a command must give."""
        try:
            result = self.cmd(name, **arguments)
        except QMPError as err:
            return err.desc
        raise AssertionError(f'{name} succeeded: {result}')

    def wait_event(self, name, /, **data):
        """The next event with this name and these members of its data."""
        while True:
            for i, event in enumerate(self.events):
                have = event.get('data', {})
                if event['event'] == name and all(
                        have.get(k.replace('_', '-')) == v for k, v in data.items()):
                    return self.events.pop(i)
            obj = self.read()
            if obj is None:
                raise EOFError(name)
            assert 'event' in obj, obj
            self.events.append(obj)

    def close(self):
        self.lines.close()
        self.sock.close()


class Daemon:
    """A tandemd with a monitor on 'path', in a scratch folder 'dir'. Use it with 'with'."""

    def __init__(self, *options, monitor=True, program=TANDEMD, **popen):
        self.scratch = tempfile.TemporaryDirectory(prefix='tandem-')
        self.dir = self.scratch.name
        self.path = os.path.join(self.dir, 'qmp')
        args = [program]
        if monitor:
            args += ['-qmp', f'unix:{self.path},server=on,wait=off']
        args += [o.replace('{dir}', self.dir) for o in options]
        self.output, self.seen = None, 0
        if 'stdout' not in popen:
            self.output = tempfile.TemporaryFile() # it has no name
        self.proc = subprocess.Popen(args, **{'stdout': self.output, **popen})
        if monitor:
            self.wait_for(self.path)

    def wait_for(self, path, seconds=20):
        end = time.monotonic() + seconds
        while not os.path.exists(path):
            assert self.proc.poll() is None, f'tandemd ended with {self.proc.returncode}'
            assert time.monotonic() < end, f'no {path}'
            time.sleep(0.01)

    def client(self, **kwargs):
        return Client(self.path, **kwargs)

    def printed(self):
        """What it printed since the last call."""
        text = os.pread(self.output.fileno(), 1 << 20, self.seen) # its offset is the daemon's
        self.seen += len(text)
        return text.decode()

    def wait(self, seconds=20):
        """Its exit status."""
        return self.proc.wait(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                status = self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                raise
            if exc[0] is None:
                assert status == 0, f'tandemd ended with {status}'
        for stream in (self.proc.stdin, self.proc.stdout, self.proc.stderr, self.output):
            if stream:
                stream.close()
        self.scratch.cleanup()


class Relay:
    """A process at a unix socket that passes all on to the one at 'to': a wire to cut."""

    PROGRAM = """
import socket, sys, threading
def pump(a, b):
    while (data := a.recv(65536)):
        b.sendall(data)
    b.shutdown(socket.SHUT_RDWR)
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
print(flush=True)
while True:
    a, _ = s.accept()
    b = socket.socket(socket.AF_UNIX)
    b.connect(sys.argv[2])
    threading.Thread(target=pump, args=(a, b), daemon=True).start()
    threading.Thread(target=pump, args=(b, a), daemon=True).start()
"""

    def __init__(self, path, to):
        self.path = path
        self.proc = subprocess.Popen([sys.executable, '-c', self.PROGRAM, path, to],
                                     stdout=subprocess.PIPE)
        with self.proc.stdout as listens:
            listens.readline()

    def kill(self):
        """Cut all its connections and refuse new ones; may be called again."""
        if os.path.exists(self.path):
            self.proc.kill()
            self.proc.wait()
            os.unlink(self.path)
