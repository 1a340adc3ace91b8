# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of QMP: one socket, commands in order, events kept."""

import json
import os
import socket
import time

CONNECT = 10  # seconds until there has to be somebody at the socket
REPLY = 60


class QmpError(Exception):
    """An error reply; 'cls' and 'desc' are its members."""

    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.cls, self.desc = error['class'], error['desc']


class Qmp:
    """One connection; events are kept in 'events' in order of arrival."""

    def __init__(self, address, negotiate=True, connect=CONNECT):
        self.sock = _connect(address, connect)
        self.sock.settimeout(REPLY)
        self.buf = b''
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self.cmd('qmp_capabilities')

    def read_line(self):
        """The next line from the server, with its end; empty when there is no more."""
        while b'\n' not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                return b''
            self.buf += data
        end = self.buf.index(b'\n') + 1
        line, self.buf = self.buf[:end], self.buf[end:]
        return line

    def read(self):
        """The next object from the server; None at the end."""
        line = self.read_line()
        return json.loads(line) if line else None

    def reply(self):
        """The next object that is no event."""
        while True:
            obj = self.read()
            if obj is None or 'event' not in obj:
                return obj
            self.events.append(obj)

    def raw(self, text):
        """Send bytes or text as they are; return the next object that is no event."""
        self.sock.sendall(text if isinstance(text, bytes) else text.encode())
        return self.reply()

    def cmd(self, name, /, **arguments):
        """Run a command; '_' in names of arguments stands for '-'."""
        request = {'execute': name}
        if arguments:
            request['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        obj = self.raw(json.dumps(request))
        if obj is None:
            raise ConnectionError(f'the monitor has gone and not answered {name}')
        if 'error' in obj:
            raise QmpError(obj['error'])
        return obj['return']

    def hmp(self, line):
        return self.cmd('human-monitor-command', command_line=line)

    def error(self, name, /, **arguments):
        """The description of the error that a command must give."""
        try:
            result = self.cmd(name, **arguments)
        except QmpError as err:
            return err.desc
        raise AssertionError(f'{name} succeeded: {result}')

    def wait_event(self, name, /, timeout=30, match=lambda data: True, **data):
        """The first event with this name, these members of its data ('_' stands for '-') and
        data that @match likes, kept or still to come; it is consumed."""
        want = {k.replace('_', '-'): v for k, v in data.items()}
        end = time.monotonic() + timeout
        while True:
            for event in self.events:
                have = event.get('data', {})
                if event['event'] == name and want.items() <= have.items() and match(have):
                    self.events.remove(event)
                    return event
            self._read_event(end, name)

    def _read_event(self, end, name):
        self.sock.settimeout(max(0.01, end - time.monotonic()))
        try:
            obj = self.read()
        except TimeoutError:
            raise TimeoutError(f'no event {name}; seen: '
                               f'{[e["event"] for e in self.events]}') from None
        finally:
            self.sock.settimeout(REPLY)
        if obj is None:
            raise ConnectionError(f'the monitor has gone without an event {name}')
        assert 'event' in obj, obj
        self.events.append(obj)

    def close(self):
        self.sock.close()


def _connect(address, seconds):
    """To a path or (host, port). What is not there yet, or does not listen yet, may come."""
    unix = isinstance(address, str)
    end = time.monotonic() + seconds
    while True:
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            sock.connect(address)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > end or (unix and not os.path.isdir(os.path.dirname(address))):
                raise
            time.sleep(0.02)
