# SPDX-License-Identifier: GPL-2.0-or-later
"""
What must hold of a pair (storm/blow.py says what V, G, T, H and F are), and those who
find out: guests, readers of the view, commands with their answers.
"""

import contextlib
import os
import random
import socket
import time

from lab.host import free_port
from lab.nbd import NbdError
from lab.qmp import QmpError
from storm.guest import Guest
from storm.ground import SIZE, Ground

LIMIT = 25  # seconds; machines are busy


class Rules(Ground):
    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.guests, self.standbys = [], []
        self.local_fault = False        # errors that nobody but the leader's disk has caused
        self.standby_fault = False      # and the standby's

    def close(self):
        for g in self.guests + self.standbys:
            g.stop()
        super().close()

    # --- commands ---

    def cmd(self, side, name, **args):
        """Its answer comes within LIMIT (H)."""
        host = side.host
        host.qmp.sock.settimeout(LIMIT)
        try:
            return host.qmp.cmd(name, **args)
        except socket.timeout:
            raise AssertionError(f'H: {host.name}: {name} {args} is not answered') from None
        except (ConnectionError, BrokenPipeError):
            raise AssertionError(f'H: {host.name} is gone at {name} {args}: '
                                 f'{host.process.wait(5)}') from None

    def fails(self, side, name, **args):
        try:
            self.cmd(side, name, **args)
        except QmpError as e:
            return str(e) or 'an error without words'
        return None

    def hmp(self, side, line):
        return self.cmd(side, 'human-monitor-command', command_line=line)

    def infos(self, side):
        """query-replication of the disks that take part."""
        if side.host.kind == 'qemu':
            return []
        return self.cmd(side, 'query-replication')

    def latched(self, side):
        """Every way to ask gives one answer (T)."""
        status = self.cmd(side, 'query-xen-replication-status')['error']
        if side.host.kind == 'qemu':
            return status
        infos = [i for i in self.infos(side) if i['stage'] != 'done']
        errors = [i for i in infos if 'error' in i]
        if errors and not status:  # it came between the two questions
            status = self.cmd(side, 'query-xen-replication-status')['error']
        assert status == bool(errors) or 'none' in [i['stage'] for i in infos], (
            f'T: {side.host.name}: status is {status}, but {infos}')
        told = {e['data']['node-name'] for e in side.host.qmp.events
                if e['event'] == 'REPLICATION_ERROR'}
        for i in errors:
            assert i['node-name'] in told, f'T: {side.host.name}: no event for {i}'
        return status

    def until(self, what, condition):
        end = time.monotonic() + LIMIT
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f'{what} does not come')
            time.sleep(.02)
        return value

    def alive(self):
        for side in (self.lead, self.stand):
            if side and side.alive:
                code = side.host.process.poll()
                assert code is None, (f'H: {side.host.name} died with {code}: '
                                      f'{side.host.log_text()[-2000:]}')

    # --- guests ---

    def start_guests(self):
        rough = self.lead.host.kind == 'tandem' and self.pure
        self.guests = [
            Guest(('127.0.0.1', self.lead.host.port), f'colo-disk{n}', self.models[n],
                  random.Random(self.random.random()), rough, lambda: self.local_fault).start()
            for n in range(self.count)]

    def stop_guests(self):
        for g in self.guests:
            g.stop()
        self.guests = []

    @contextlib.contextmanager
    def paused(self):
        for g in self.guests:
            g.pause(LIMIT)
        self.healthy_guests()
        yield
        for g in self.guests:
            g.resume()

    def healthy_guests(self):
        for g in self.guests:
            if g.error:
                raise AssertionError(f'G: {g.error!r}') from g.error

    def guests_go_on(self, bursts=2):
        """G: everybody gets further."""
        for g in self.guests:
            want = g.bursts + bursts
            self.until(f'G: progress of {g.export}', lambda: g.bursts >= want or g.error)
        self.healthy_guests()

    # --- the view ---

    def open_view(self):
        self.standbys = [
            Guest(('127.0.0.1', self.stand.host.port), f'colo-disk{n}', model,
                  random.Random(self.random.random()), self.pure,
                  lambda: self.standby_fault).open()
            for n, model in enumerate(self.views)]

    def close_view(self):
        for s in self.standbys:
            s.stop()
        self.standbys = []

    def serve_view(self, *more):
        self.stand.host.port = free_port()
        self.stand.host.serve(*[f'colo-disk{n}' for n in range(self.count)], *more)
        self.open_view()

    def settle_view(self):
        for s in self.standbys:
            s.model.settle(s.read)

    def check_view(self, when):
        """V: all of it."""
        self.settle_view()
        for n, s in enumerate(self.standbys):
            same(s.read_all(), s.model.content, f'V: view of disk {n} {when}')

    def look(self):
        """V: a part of the view, or writes of the standby."""
        r = self.random
        for s in self.standbys:
            try:
                if r.random() < .4:
                    s.burst()
                s.model.settle(s.read)
                at = r.randrange(SIZE)
                part = s.read(at, min(SIZE - at, r.choice((512, 5000, 65536))))
            except NbdError as e:
                if self.standby_fault and e.errno:
                    continue
                raise
            same(part, s.model.content[at:at + len(part)], f'V: view at {at}')

    # --- what is on disk ---

    def on_disk(self, side, models):
        """F: the disk itself holds what the view showed; asked of a file while it is in use."""
        for image, model in zip(side.disks, models):
            if image.fmt == 'raw' or not side.alive:
                same(image.content(), model.content, f'F: disk of {side.host.name}')

    def check_images(self, side):
        """I: whoever has ended, however, has left images that both checkers accept."""
        assert not side.alive
        if side.host.kind == 'tandem':
            for image in side.all_images():
                image.check(f'{os.path.basename(image.path)} of {side.host.name}')


def same(got, want, what):
    if bytes(got) != bytes(want):
        at = [i for i in range(min(len(got), len(want))) if got[i] != want[i]]
        raise AssertionError(f'{what}: {len(at)} bytes differ, {at[0]:#x} to {at[-1]:#x}: '
                             f'{got[at[0]]:#x}, want {want[at[0]]:#x}')
