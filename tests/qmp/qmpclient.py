# SPDX-License-Identifier: GPL-2.0-or-later
"""A tandemd to talk to, and a wire to cut."""

import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'scripts'))

from lab.qmp import Qmp, QmpError  # noqa: E402,F401

BUILD = os.environ.get('TANDEM_BUILD', 'build')
TANDEMD = os.path.join(BUILD, 'tools', 'tandemd')


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
        return Qmp(self.path, **kwargs)

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
    try:
        while (data := a.recv(65536)):
            b.sendall(data)
        b.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # one of the two has gone
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
