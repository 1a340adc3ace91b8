# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP client: one socket, commands in order, events kept."""

import json
import os
import socket
import time


class QmpError(Exception):
    def __init__(self, error):
        super().__init__(error.get('desc'))
        self.cls = error.get('class')


class Qmp:
    def __init__(self, path, timeout=10):
        self.sock = _connect(path, timeout)
        self.sock.settimeout(60)
        self.buf = b''
        self.events = []
        self.greeting = self._read()
        self.cmd('qmp_capabilities')

    def _read(self):
        while b'\n' not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError('the monitor is gone')
            self.buf += data
        line, self.buf = self.buf.split(b'\n', 1)
        return json.loads(line)

    def cmd(self, name, /, **args):
        """Run a command; '_' in argument names stands for '-'."""
        request = {'execute': name}
        if args:
            request['arguments'] = {k.replace('_', '-'): v for k, v in args.items()}
        self.sock.sendall(json.dumps(request).encode() + b'\n')
        while True:
            reply = self._read()
            if 'event' in reply:
                self.events.append(reply)
            elif 'error' in reply:
                raise QmpError(reply['error'])
            else:
                return reply['return']

    def hmp(self, line):
        return self.cmd('human-monitor-command', command_line=line)

    def wait_event(self, name, timeout=30, match=lambda data: True):
        """The first event of that name, kept or still to come; it is consumed."""
        end = time.monotonic() + timeout
        while True:
            for ev in self.events:
                if ev['event'] == name and match(ev.get('data', {})):
                    self.events.remove(ev)
                    return ev
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.events.append(self._read())
            except socket.timeout:
                raise TimeoutError(f'no event {name} in {timeout} s; seen: '
                                   f'{[e["event"] for e in self.events]}') from None
            finally:
                self.sock.settimeout(60)

    def close(self):
        self.sock.close()


def _connect(path, timeout):
    end = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > end or not os.path.isdir(os.path.dirname(path)):
                raise
            time.sleep(0.02)
