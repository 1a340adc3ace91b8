# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest of a storm: bursts of requests, many in flight and overlapping, on one
disk, and the model of what that disk may hold.

Where the requests of a burst leave open what a byte is (they overlap, one
failed, a discard), the disk is asked afterwards; its answer must be one of those
possible, and counts from then on.
"""

import contextlib
import socket
import struct
import threading
import time

from lab.nbd import FLUSH, FUA, NbdError, Nbd, READ, TRIM, WRITE, WRITE_ZEROES


class Pipe(Nbd):
    """Many requests without data in their replies in flight at once."""

    def send(self, kind, offset, length, data=b'', flags=0):
        self.cookie += 1
        self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, flags, kind, self.cookie, offset,
                                      length) + data)
        return self.cookie

    def done(self):
        """(cookie, error) of one that ended"""
        magic, error, cookie = struct.unpack('>IIQ', self._recv(16))
        if magic != 0x67446698:
            raise NbdError('bad reply')
        return cookie, error


class Model:
    def __init__(self, content):
        self.content = bytearray(content)
        self.doubts = []  # (offset, the contents possible there)

    def copy(self):
        if self.doubts:
            raise AssertionError('a model with doubts is not to be copied')
        return Model(self.content)

    def apply(self, requests, failed):
        """requests: (kind, offset, data); failed: indices of those not acknowledged."""
        edges = sorted({e for _, at, data in requests for e in (at, at + len(data))})
        for a, b in zip(edges, edges[1:]):
            over = [(i, r) for i, r in enumerate(requests)
                    if r[1] <= a and b <= r[1] + len(r[2])]
            if not over:
                continue
            may = [r[2][a - r[1]:b - r[1]] for _, r in over]
            if not any(r[0] in (WRITE, WRITE_ZEROES) and i not in failed for i, r in over):
                may.append(bytes(self.content[a:b]))
            may = list(dict.fromkeys(may))
            if len(may) == 1:
                self.content[a:b] = may[0]
            else:
                self.doubts.append((a, may))

    def may_be(self, got, requests=()):
        """Each byte is the one known, or of one of those requests, or of one open."""
        may = [(at, data) for _, at, data in requests]
        may += [(at, data) for at, all_of_it in self.doubts for data in all_of_it]
        wrong = [i for i, (a, b) in enumerate(zip(got, self.content)) if a != b and not any(
            at <= i < at + len(data) and data[i - at] == a for at, data in may)]
        if wrong:
            raise AssertionError(f'{len(wrong)} bytes, {wrong[0]:#x} to {wrong[-1]:#x}: '
                                 f'{got[wrong[0]]:#x}, was {self.content[wrong[0]]:#x}')

    def settle(self, read):
        while self.doubts:
            at, may = self.doubts[0]
            got = read(at, len(may[0]))
            if got not in may:
                for i, byte in enumerate(got):
                    if not any(m[i] == byte for m in may):
                        raise AssertionError(f'byte {at + i} is {byte:#x}, not one of '
                                             f'{[hex(m[i]) for m in may]}')
            self.content[at:at + len(got)] = got
            del self.doubts[0]


class Guest:
    """
    rough: any range, overlapping, discards; else whole sectors that do not
    overlap. may_fail(): whether an error is nobody's fault at this moment.
    """

    def __init__(self, address, export, model, random, rough=True, may_fail=lambda: False):
        self.address, self.export, self.model, self.random = address, export, model, random
        self.rough, self.may_fail = rough, may_fail
        self.pipes = []
        self.bursts = 0
        self.error = None
        self.latest = None, []  # the content before the latest burst, and its requests
        self.trace = None       # requests from some time on
        self.go, self.idle, self.over = threading.Event(), threading.Event(), False
        self.idle.set()
        self.thread = None

    # --- requests ---

    def open(self):
        self.pipes = [Pipe(self.address, self.export, timeout=120) for _ in range(2)]
        self.size = self.pipes[0].size
        return self

    def read(self, offset, length):
        return self.pipes[0].request(READ, offset, length)

    def request(self, kind):
        return self.pipes[0].request(kind)

    def read_all(self):
        return self.pipes[0].read_all()

    def _range(self):
        r = self.random
        length = r.choice((512, 3000, 4096, 4096, 10000, 65536, 100000))
        if not self.rough:
            length = length // 512 * 512
        room = self.size - length
        offset = r.randrange(0, min(room, 200000) if r.random() < .6 else room)
        if not self.rough or r.random() < .5:
            offset = offset // 512 * 512
        return offset, length

    def _request(self):
        r, (offset, length) = self.random, self._range()
        kind = r.choices((WRITE, WRITE_ZEROES, TRIM if self.rough else WRITE), (8, 2, 1))[0]
        data = bytes([r.randrange(1, 256)]) * length if r.random() < .3 else r.randbytes(length)
        return kind, offset, data if kind == WRITE else bytes(length)

    def _requests(self):
        out = []
        for _ in range(self.random.randrange(1, 9)):
            new = self._request()
            if self.rough or all(new[1] + len(new[2]) <= at or at + len(data) <= new[1]
                                 for _, at, data in out):
                out.append(new)
        return out

    def burst(self):
        """Some requests, all in flight at once, and what they left."""
        may_fail = self.may_fail()
        self.model.settle(self.read)
        requests, failed, flight = self._requests(), set(), {}
        self.latest = bytes(self.model.content), requests
        if self.trace is not None:
            self.trace.append(requests)
        try:
            for i, (kind, offset, data) in enumerate(requests):
                pipe = self.random.choice(self.pipes)
                cookie = pipe.send(kind, offset, len(data), data if kind == WRITE else b'',
                                   FUA if self.random.random() < .1 else 0)
                flight[pipe, cookie] = i
            if self.random.random() < .3:
                flight[self.pipes[0], self.pipes[0].send(FLUSH, 0, 0)] = None
            for pipe in self.pipes:
                for _ in range(sum(1 for p, _ in flight if p is pipe)):
                    cookie, error = pipe.done()
                    i = flight[pipe, cookie]
                    if error and not (may_fail or self.may_fail()):
                        what = 'a flush' if i is None else requests[i][:2]
                        raise AssertionError(f'{self.export}: {what} failed with {error}')
                    if error and i is not None:
                        failed.add(i)
        except OSError:
            failed = set(range(len(requests)))
            raise
        finally:
            self.model.apply(requests, failed)
        self.model.settle(self.read)
        self.bursts += 1

    # --- what may be where writes are cut off ---

    def begin_trace(self):
        self.trace = []
        self.before = self.latest

    def end_trace(self):
        """(a model of what was there when the trace began, the requests since)"""
        base, first = self.before
        trace, self.trace = self.trace, None
        if base is None:
            base = self.model.content
        return Model(base), sum(trace, list(first))

    # --- as a thread ---

    def start(self):
        self.open()
        self.go.set()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        while not self.over:
            self.go.wait()
            self.idle.clear()
            if not self.go.is_set() or self.over:
                self.idle.set()
                continue
            try:
                self.burst()
            except NbdError as e:
                if not (self.may_fail() and e.errno):
                    self.error = e
                    break
                time.sleep(.01)
            except Exception as e:  # noqa: BLE001
                self.error = e
                break
            self.idle.set()
        self.idle.set()

    def pause(self, timeout):
        self.go.clear()
        if not self.idle.wait(timeout):
            raise AssertionError(f'{self.export}: a guest waits longer than {timeout} s')

    def resume(self):
        self.go.set()

    def stop(self):
        self.over = True
        self.go.set()
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.sock.shutdown(socket.SHUT_RDWR)
        if self.thread:  # it must not read from whoever gets the number of its socket
            self.thread.join(60)
        for pipe in self.pipes:
            pipe.sock.close()
        self.pipes = []
