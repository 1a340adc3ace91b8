# SPDX-License-Identifier: GPL-2.0-or-later
"""
A pair of real processes under faults, generation after generation: guests write
without a pause on the leader, somebody reads and writes the standby's view, and
a seed decides what breaks, what the manager does about it and what it does
wrong. What must hold:

  V  the view is the last good checkpoint and the standby's own writes, to the byte;
  G  the leader's guest sees no error, and no wait longer than LIMIT, that only
     the other side has caused;
  T  what is lost is told: no checkpoint succeeds where the disks differ, and
     status, query-replication and the event say so at once;
  H  every command is answered within LIMIT, and nobody dies;
  F  after a failover disk and view are one, and the survivor can lead.
"""

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from lab.host import Host
from lab.nbd import NbdError, READ, WRITE, WRITE_ZEROES, TRIM, FLUSH
from lab.qmp import QmpError
from faults import Relay, SmallDisk
from nbddisk import NbdDisk
from replhosts import Background, MIB, TANDEMD
from stormguest import Guest, Model

SIZE = MIB
LIMIT = 25  # seconds; machines are busy
WRITES = (WRITE, WRITE_ZEROES, TRIM)


def broken(*kinds, error=errno.EIO):
    return {k: error for k in kinds}


class Side:
    """A host and what its disks lie on. disks: files (a path) or NbdDisk."""

    def __init__(self, host, disks, overlays=()):
        self.host, self.disks, self.overlays = host, disks, list(overlays)
        self.relay = None
        self.small = None
        self.alive = True

    def nbd(self, what):
        """The disks in this program that are the given layer."""
        if what == 'disk':
            return [d for d in self.disks if isinstance(d, NbdDisk)]
        return [o for layer, o in self.overlays if layer == what and isinstance(o, NbdDisk)]


class Storm:
    def __init__(self, seed, kinds=('tandem', 'tandem'), note=lambda line: None):
        self.random = random.Random(seed)
        self.kinds, self.say = kinds, note
        self.pure = kinds == ('tandem', 'tandem')
        self.work = tempfile.mkdtemp(prefix='tandem-storm-')
        self.made = []          # what is to be closed
        self.count = self.random.choice((1, 1, 2, 3)) if self.pure else 1
        self.names = 0
        self.local_fault = False
        self.standby_fault = False
        self.models = [Model(self.random.randbytes(SIZE)) for _ in range(self.count)]
        self.guests, self.standbys = [], []
        self.seen = {}

    # --- what is made ---

    def note(self, text):
        self.say(f'{time.monotonic() % 1000:8.3f} {text}')

    def path(self, name):
        return os.path.join(self.work, name)

    def place(self, name, content, fmt):
        """(a file or an NbdDisk with that content, the words that open it)"""
        if self.pure and self.random.random() < .4:
            if fmt == 'qcow2':
                content += bytes(2 * SIZE + MIB - len(content))
            disk = NbdDisk(self.path(name), content)
            self.made.append(disk)
            return disk, lambda prefix: disk.drive(prefix)
        with open(self.path(name), 'wb') as f:
            f.write(content)
        return self.path(name), lambda prefix: (f'{prefix}.driver=file,'
                                                f'{prefix}.filename={self.path(name)}')

    def new_host(self, kind):
        self.names += 1
        host = Host(kind, f'H{self.names}', self.work, TANDEMD)
        self.made.append(host)
        return host

    def primary(self):
        host, lines, disks = self.new_host(self.kinds[0]), [], []
        for n in range(self.count):
            disk, words = self.place(f'{host.name}-{n}', bytes(self.models[n].content), 'raw')
            disks.append(disk)
            lines.append(f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,'
                         f'vote-threshold=1,discard=unmap,children.0.driver=raw,'
                         f'{words("children.0.file")}')
        host.start(lines)
        host.serve(*[f'colo-disk{n}' for n in range(self.count)])
        return Side(host, disks)

    def secondary(self, kind, content=None):
        host, lines = self.new_host(kind), []
        side = Side(host, [])
        if self.pure and self.random.random() < .3:
            side.small = SmallDisk(self.path(f'{host.name}-small'), 4 * MIB * self.count)
            self.made.append(side.small)
        for n in range(self.count):
            name = f'{host.name}-{n}'
            disk, words = self.place(name, content[n] if content else bytes(SIZE), 'raw')
            side.disks.append(disk)
            overlay = {}
            for layer in ('active', 'hidden'):
                at = f'{name}-{layer}'
                if side.small and side.small.mounted and self.random.random() < .7:
                    at = f'{host.name}-small/{n}-{layer}'
                subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.path(at + '.new'),
                                str(SIZE)], check=True)
                with open(self.path(at + '.new'), 'rb') as f:
                    image = f.read()
                os.unlink(self.path(at + '.new'))
                if '/' in at:
                    with open(self.path(at), 'wb') as f:
                        f.write(image)
                    where, overlay[layer] = at, (
                        lambda prefix, at=at: f'{prefix}.driver=file,'
                                              f'{prefix}.filename={self.path(at)}')
                else:
                    where, overlay[layer] = self.place(at, image, 'qcow2')
                side.overlays.append((layer, where))
            lines += [
                f'if=none,id=parent{n},driver=raw,discard=unmap,{words("file")}',
                f'if=none,id=childs{n},driver=replication,mode=secondary,top-id=colo-disk{n},'
                f'file.driver=qcow2,{overlay["active"]("file.file")},file.backing.driver=qcow2,'
                f'{overlay["hidden"]("file.backing.file")},file.backing.backing=parent{n}',
                f'if=none,id=colo-disk{n},driver=quorum,read-pattern=fifo,vote-threshold=1,'
                f'children.0=childs{n}']
        host.start(lines)
        host.serve(*[f'{what}{n}' for n in range(self.count) for what in ('parent', 'colo-disk')])
        side.relay = Relay(host.port)
        self.made.append(side.relay)
        return side

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

    # --- a pair ---

    def begin(self):
        self.lead = self.primary()
        self.stand = self.secondary(self.kinds[1], [bytes(m.content) for m in self.models])
        self.join()
        self.start_guests()

    def join(self):
        """Both sides hold the same: start (the guests are paused)."""
        self.views = [m.copy() for m in self.models]
        no = None
        if not self.started_with_faults():
            no = self.fails(self.stand, 'xen-set-replication', enable=True, primary=False)
        assert not no, f'start of the secondary: {no}'
        self.attach()
        self.open_view()
        self.check_view('after the start')

    def attach(self):
        for n in range(self.count):
            out = self.hmp(self.lead, 'drive_add -n buddy driver=replication,mode=primary,'
                           f'file.driver=nbd,file.host=127.0.0.1,file.port={self.stand.relay.port},'
                           f'file.export=parent{n},node-name=replication{n}')
            assert not out, f'drive_add: {out}'
            self.cmd(self.lead, 'x-blockdev-change', parent=f'colo-disk{n}',
                     node=f'replication{n}')
        self.cmd(self.lead, 'xen-set-replication', enable=True, primary=True)
        self.lead.host.qmp.events.clear()

    def reattach(self):
        """The filter goes and comes back while nothing is written."""
        with self.paused():
            for n in range(self.count):
                self.cmd(self.lead, 'x-blockdev-change', parent=f'colo-disk{n}',
                         child='children.1')
                out = self.hmp(self.lead, f'drive_del replication{n}')
                assert not out, f'drive_del: {out}'
            self.attach()

    def started_with_faults(self):
        """All disks start or none."""
        disks = self.stand.nbd('hidden') + self.stand.nbd('active') + self.stand.nbd('disk')
        if not disks or self.random.random() < .7:
            return False
        disk = self.random.choice(disks)
        disk.fail = broken(*self.random.choice(((READ,), WRITES, (FLUSH,), WRITES + (READ, FLUSH))))
        no = self.fails(self.stand, 'xen-set-replication', enable=True, primary=False)
        disk.fail = {}
        stages = {i['stage'] for i in self.infos(self.stand)}
        self.note(f'start with a fault: {no}, {stages}')
        assert stages == {'none' if no else 'running'}, f'T: {stages} after a start: {no}'
        return not no

    def checkpoint(self):
        """True if it was one; on every disk or on none (T, V)."""
        with self.paused():
            for g in self.guests:
                if g.model.doubts:
                    return False
            lead, stand = self.latched(self.lead), self.latched(self.stand)
            assert lead or not stand, 'T: the secondary has an error of which the primary is silent'
            no = self.fails(self.lead, 'xen-colo-do-checkpoint')
            if self.lead.host.kind == 'tandem':
                assert bool(no) == lead, f'T: checkpoint of the primary: {no}, latched: {lead}'
            if stand:
                no = self.fails(self.stand, 'xen-colo-do-checkpoint')
                assert no, 'T: a checkpoint in spite of an error'
            if lead or no:
                self.note(f'checkpoint refused ({no})')
                return False
            no = self.fails(self.stand, 'xen-colo-do-checkpoint')
            assert not no, f'checkpoint of the secondary: {no}'
            self.views = [m.copy() for m in self.models]
            for s, v in zip(self.standbys, self.views):
                s.model = v
            if self.random.random() < .5 and not self.standby_fault:
                self.check_view('after a checkpoint')
        if self.random.random() < .3 and not self.standby_fault:
            self.check_view('after a checkpoint, with guests')
        return True

    def alive(self):
        for side in (self.lead, self.stand):
            if side and side.alive:
                code = side.host.process.poll()
                assert code is None, (f'H: {side.host.name} died with {code}: '
                                      f'{side.host.log_text()[-2000:]}')

    # --- nonsense ---

    def nonsense(self, side):
        """A command that is wrong at this moment: an error, and nothing has changed."""
        lead = side is self.lead
        choices = [
            ('xen-set-replication', dict(enable=True, primary=not lead)),
            ('xen-set-replication', dict(enable=True, primary=lead)),
            ('xen-set-replication', dict(enable=True, primary=lead, failover=True)),
            ('nbd-server-start', dict(addr={'type': 'inet', 'data': {'host': '127.0.0.1',
                                                                     'port': '0'}})),
            ('nbd-server-add', dict(device='colo-disk0', writable=True)),
            ('x-blockdev-change', dict(parent='colo-disk0', child='children.7')),
            ('x-blockdev-change', dict(parent='colo-disk0')),
            ('x-blockdev-change', dict(parent='colo-disk0', node='nobody')),
            ('block_resize', dict(device='colo-disk0', size=2 * SIZE)),
            ('blockdev-del', dict(node_name='replication0' if lead else 'childs0')),
        ]
        if self.pure:
            choices += [
                ('replication-start', dict(mode='primary' if lead else 'secondary')),
                ('replication-checkpoint', dict(group='nobody')),
                ('block-commit', dict(device='colo-disk0', job_id='c')),
                ('blockdev-del', dict(node_name='parent0')),
            ]
        if not lead:
            choices.append(('x-blockdev-change', dict(parent='colo-disk0', child='children.0')))
            choices.append(('x-blockdev-change', dict(parent='colo-disk0', node='childs0')))
        elif self.pure:
            choices.append(('x-blockdev-change', dict(parent='colo-disk0', node='replication0')))
        name, args = self.random.choice(choices)
        if lead and side.relay and name == 'xen-set-replication' and not args.get('failover'):
            return  # a survivor has nodes of both modes
        no = self.fails(side, name, **args)
        self.note(f'{side.host.name}: {name} {args}: {no}')
        assert no, f'{side.host.name}: {name} {args} succeeded'

    # --- faults: each returns what cures it, or None where nothing does ---

    def faults(self):
        stand, out = self.stand, []
        if not self.pure:
            return ['kill_stand', 'kill_lead']
        out += ['kill_stand', 'cut', 'server_stop', 'stall', 'freeze_stand', 'freeze_lead', 'slow',
                'fsize', 'nothing']
        for layer in ('hidden', 'active', 'disk'):
            out += [f'{layer}_{how}' for how in ('write', 'read', 'flush', 'wait')
                    if stand.nbd(layer)]
        if self.lead.nbd('disk'):
            out += ['local', 'local', 'local_wait']
        if stand.small and stand.small.mounted:
            out += ['full'] * 3
        return out

    def inject(self, name):
        """(cure or None, 'lost' | 'waits' | 'perhaps')"""
        stand, r = self.stand, self.random
        if name == 'kill_stand':
            stand.host.process.kill()
            stand.host.process.wait()
            stand.alive = False
            return None, 'lost'
        if name == 'cut':
            stand.relay.cut()
            return None, 'lost'
        if name == 'server_stop':
            self.cmd(stand, 'nbd-server-stop')
            stand.relay.cut()
            self.close_view()
            self.serve_view()
            return None, 'lost'
        if name == 'stall':
            stand.relay.go.clear()
            return stand.relay.go.set, 'waits'
        if name == 'slow':
            stand.relay.delay = .02
            return lambda: setattr(stand.relay, 'delay', 0), 'perhaps'
        if name in ('freeze_stand', 'freeze_lead'):
            process = (stand if name == 'freeze_stand' else self.lead).host.process
            process.send_signal(signal.SIGSTOP)
            return lambda: process.send_signal(signal.SIGCONT), 'waits'
        if name == 'fsize':
            self.standby_fault = True
            return self.limit_files(stand.host.process, r.randrange(0, 2 * MIB)), 'perhaps'
        if name == 'full':
            self.standby_fault = True
            stand.small.fill()
            return lambda: (stand.small.empty(), self.cured()), 'perhaps'
        if name == 'local':
            self.local_fault = True
            disk = r.choice(self.lead.nbd('disk'))
            kinds = r.choice(((WRITE,), WRITES, (FLUSH,), (READ,), (TRIM, WRITE_ZEROES)))
            disk.fail = broken(*kinds)
            return lambda: setattr(disk, 'fail', {}), 'perhaps'
        if name == 'nothing':
            return lambda: None, 'perhaps'
        if name == 'local_wait':
            disk = r.choice(self.lead.nbd('disk'))
            disk.go.clear()
            return disk.go.set, 'waits'
        layer, how = name.split('_')
        disk = r.choice(stand.nbd(layer))
        if how == 'wait':
            disk.go.clear()
            return disk.go.set, 'waits'
        self.standby_fault = True
        disk.fail = broken(*{'write': WRITES, 'read': (READ,), 'flush': (FLUSH,)}[how],
                           error=r.choice((errno.EIO, errno.ENOSPC)))
        return lambda: (setattr(disk, 'fail', {}), self.cured()), 'perhaps'

    def limit_files(self, process, size):
        forever = resource.RLIM_INFINITY
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, forever))

        def cure():
            if process.poll() is None:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (forever, forever))
            self.cured()
        return cure

    def cured(self):
        self.standby_fault = False

    def serve_view(self, *more):
        self.stand.host.port = 0
        from lab.host import free_port
        self.stand.host.serve(*[f'colo-disk{n}' for n in range(self.count)], *more,
                              port=free_port())
        self.open_view()

    def remove_copy(self):
        """The manager gives the other side up; nothing waits for it (G, H)."""
        for n in range(self.count):
            self.cmd(self.lead, 'x-blockdev-change', parent=f'colo-disk{n}', child='children.1')
            out = self.hmp(self.lead, f'drive_del replication{n}')
            assert not out, f'drive_del: {out}'
        self.guests_go_on()

    # --- a generation ---

    def quiet(self, steps):
        for _ in range(steps):
            what = self.random.random()
            if what < .35:
                assert self.checkpoint(), 'a healthy pair refuses a checkpoint'
            elif what < .8:
                self.look()
            elif what < .85:
                self.reattach()
            else:
                self.nonsense(self.random.choice((self.lead, self.stand)))
            self.alive()
            self.healthy_guests()

    def generation(self):
        self.quiet(self.random.randrange(2, 12))
        fault = self.random.choice(self.faults())
        self.note(f'fault: {fault}')
        if fault == 'kill_lead':
            self.fail_over(None)
            return
        sudden = fault in ('kill_stand', 'cut', 'server_stop')
        if self.pure and sudden and self.random.random() < .5:
            with self.paused():     # told without a write that finds it out
                cure, how = self.inject(fault)
                self.until('T: the error of an idle link', lambda: self.latched(self.lead))
        else:
            cure, how = self.inject(fault)
        if how == 'waits':
            self.wait_out(fault, cure)
            return
        if how == 'lost':
            self.until('T: the error', lambda: self.lead.host.kind == 'qemu'
                       or self.latched(self.lead))
            self.guests_go_on()
            self.until('T: the error', lambda: self.latched(self.lead))
            assert not self.checkpoint_refused_only(), 'T: a checkpoint of a lost copy'
        else:
            for _ in range(self.random.randrange(1, 8)):
                self.look()
                if not self.local_fault and self.random.random() < .4:
                    self.checkpoint()
                time.sleep(.01)
            if self.random.random() < .6 and cure:
                cure()
                cure = None
        self.alive()
        if self.stand.alive and not self.standby_fault:
            self.check_view(f'after {fault}')
        if fault == 'local' and cure:
            cure()
            cure = None
        if fault == 'local':
            with self.paused():
                for g in self.guests:
                    g.model.settle(g.read)
            self.local_fault = False
        if how == 'perhaps' and not cure and self.random.random() < .5:
            if self.checkpoint():
                self.check_view('after a checkpoint behind a fault')
                return
        self.give_up(cure)

    def checkpoint_refused_only(self):
        if self.lead.host.kind == 'qemu':
            return False
        return not self.fails(self.lead, 'xen-colo-do-checkpoint')

    def wait_out(self, fault, cure):
        """Somebody is silent for a while: reads and commands are not."""
        if fault == 'local_wait':
            for _ in range(5):
                self.look()
                self.latched(self.lead)
            if self.random.random() < .5:
                self.fail_over(cure)
                return
            cure()
            self.guests_go_on()
            return
        if fault == 'freeze_lead':
            for _ in range(5):
                self.look()
            if self.random.random() < .5:
                self.fail_over(cure)
                return
            cure()
            self.guests_go_on()
            return
        time.sleep(self.random.choice((0, .05, .3)))
        for n in range(self.count):
            reader = Guest(('127.0.0.1', self.lead.host.port), f'colo-disk{n}', self.models[n],
                           self.random).open()
            reader.pipes[0].sock.settimeout(LIMIT)
            try:
                reader.read(self.random.randrange(SIZE - 4096), 4096)
            except socket.timeout:
                raise AssertionError('G: a read waits for the other side') from None
            reader.stop()
        self.latched(self.lead)
        if fault != 'freeze_stand':
            self.infos(self.stand)
        if self.random.random() < .5:
            cure()
            self.guests_go_on()
            assert self.checkpoint(), f'{fault} has passed, and the pair is not well'
            self.check_view(f'after {fault}')
            return
        way = self.random.choice(('remove', 'yank', 'stop', 'take over', 'quit'))
        self.note(f'while silent: {way}')
        if way == 'take over':
            self.take_over_silent(fault, cure)
            return
        if way == 'quit' and self.quit_silent(fault, cure):
            return
        if way == 'yank':
            self.cmd(self.lead, 'yank', instances=self.links())
            self.guests_go_on()
        if way == 'stop':
            self.cmd(self.lead, 'xen-set-replication', enable=False, primary=True)
            self.guests_go_on()
        self.remove_copy()
        if self.random.random() < .5:
            cure()
            self.check_view('of who was removed')
        self.end_side(self.stand)
        self.renew()

    def links(self):
        """What yank calls the connections to the other side (not to disks of this)."""
        port = f':{self.stand.relay.port}'
        nodes = [n['node-name'] for n in self.cmd(self.lead, 'query-named-block-nodes')
                 if n['drv'] == 'nbd' and port in n['file']]
        links = [i for i in self.cmd(self.lead, 'query-yank') if i['node-name'] in nodes]
        assert len(links) == self.count, f'{links}, {nodes}'
        return links

    def later(self, side, name, cure, **args):
        """A command to who may have to wait for a disk of its own; then that answers."""
        waiting = Background(lambda: self.cmd(side, name, **args))
        time.sleep(self.random.choice((0, .05, .2)))
        cure()
        return waiting.result(LIMIT + 5)

    def take_over_silent(self, fault, cure):
        stand = self.stand
        if fault == 'stall':    # the link is silent, not the host
            self.fail_over(cure)
        elif fault == 'freeze_stand':
            cure()
            self.fail_over(None)
        else:
            self.later(stand, 'xen-set-replication', cure, enable=False, primary=False,
                       failover=True)
            self.fail_over(None)

    def quit_silent(self, fault, cure):
        """quit, or the end of the exports, while something of its own is silent."""
        if fault in ('stall', 'freeze_stand'):
            return False
        if self.random.random() < .5:
            self.later(self.stand, 'nbd-server-stop', cure)
            self.until('T: the error', lambda: self.latched(self.lead))
        else:
            self.later(self.stand, 'quit', cure)
            self.stand.alive = False
            code = self.stand.host.process.wait(LIMIT)
            assert code == 0, f'H: {self.stand.host.name} exits with {code}'
        self.guests_go_on()
        self.remove_copy()
        self.end_side(self.stand)
        self.renew()
        return True

    def give_up(self, cure):
        """The pair is broken or shall be: one of the two goes on."""
        way = self.random.random()
        if not self.stand.alive or way < .3:
            if self.random.random() < .3:
                self.cmd(self.lead, 'xen-set-replication', enable=False, primary=True)
            self.remove_copy()
            self.end_side(self.stand)
            self.standby_fault = False
            if cure:
                cure()
            self.renew()
        elif way < .45 and not cure and not self.latched(self.lead):
            self.stop_both()
        else:
            self.fail_over(cure)

    def stop_both(self):
        """stop without failover: the disk is what the primary wrote."""
        self.note('stop without failover')
        with self.paused():
            self.cmd(self.lead, 'xen-set-replication', enable=False, primary=True)
            self.cmd(self.stand, 'xen-set-replication', enable=False, primary=False)
            self.views = [m.copy() for m in self.models]
            for s, v in zip(self.standbys, self.views):
                s.model = v
            self.check_view('after stop')
        self.remove_copy()
        self.check_view('of a stopped secondary')
        self.quit_side(self.stand, self.views)
        self.renew()

    def fail_over(self, thaw):
        """The standby takes over, whatever the leader does meanwhile."""
        lead, stand, r = self.lead, self.stand, self.random
        dead = not self.pure or r.random() < .5
        frozen = thaw and not self.standby_fault
        self.note(f'failover, the leader is {"dead" if dead else "alive"}')
        if dead:
            self.local_fault = True  # nobody minds what its guests see
            self.end_side(lead)
            self.stop_guests()
        if not self.pure or r.random() < .4:
            self.cmd(stand, 'nbd-server-stop')
            self.close_view()
        waits = None
        if self.pure and r.random() < .3 and stand.nbd('disk'):
            waits = r.choice(stand.nbd('disk'))
            self.standby_fault = True
            waits.fail = broken(r.choice((READ, WRITE, FLUSH)))
        ends = self.pure and not dead and r.random() < .15
        for attempt in range(50):
            self.cmd(stand, 'xen-set-replication', enable=False, primary=False, failover=True)
            if ends:
                self.quit_in_failover(waits, thaw)
                return
            if stand.host.kind == 'tandem':
                for _ in range(r.randrange(4) if self.pure else 0):
                    self.during_failover()
                stage = self.until('F: the end of the merge', self.merged)
                if stage == {'done'}:
                    break
                self.note(f'failover: {stage}')
                assert self.latched(stand), 'T: a failed failover is not told'
                for _ in range(3):
                    self.look()
            elif not self.cmd(stand, 'query-xen-replication-status')['error']:
                break
            if attempt >= r.randrange(1, 4):
                if waits:
                    waits.fail = {}
                if thaw and self.standby_fault:
                    thaw()
                    thaw = None
                self.standby_fault = False
            time.sleep(.02)
        else:
            raise AssertionError(f'F: no failover: {self.infos(stand)}')
        if waits:
            waits.fail = {}
        if thaw:
            thaw()
        if frozen and not dead and self.guests:
            self.guests_go_on()
        self.standby_fault = False
        if not self.standbys:
            self.serve_view()
        self.check_view('after failover')
        if not dead:
            self.guests_go_on()
            self.check_view('after failover, with the old primary writing')
            self.stop_guests()
            self.end_side(lead)
        self.local_fault = False
        self.on_disk(stand, self.views)
        # it leads
        stand.relay.close()
        self.close_view()
        self.lead, self.models = stand, self.views
        self.lead.host.qmp.events.clear()
        self.start_guests()
        self.renew()

    def quit_in_failover(self, waits, thaw):
        """It changes its mind; who led leads on."""
        self.note('quit in failover')
        self.close_view()
        self.cmd(self.stand, 'quit')
        self.stand.alive = False
        code = self.stand.host.process.wait(LIMIT)
        assert code == 0, f'H: {self.stand.host.name} exits with {code}'
        for cure in (waits and (lambda: setattr(waits, 'fail', {})), thaw):
            if cure:
                cure()
        self.standby_fault = False
        self.guests_go_on()
        self.remove_copy()
        self.end_side(self.stand)
        self.renew()

    def merged(self):
        stages = {i['stage'] for i in self.infos(self.stand)}
        return stages if 'failover' not in stages else None

    def during_failover(self):
        r = self.random
        what = r.random()
        if what < .5:
            self.look()
        elif what < .7:
            self.cmd(self.stand, 'xen-set-replication', enable=False, primary=False, failover=True)
        else:
            self.fails(self.stand, *r.choice((
                ('xen-colo-do-checkpoint', ), ('query-block', ), ('query-block-jobs', ),
                ('query-named-block-nodes', ))))

    def on_disk(self, side, models):
        """F: the disk itself holds what the view showed."""
        for disk, model in zip(side.disks, models):
            if isinstance(disk, NbdDisk):
                got = bytes(disk.data)
            else:
                with open(disk, 'rb') as f:
                    got = f.read()
            same(got, model.content, f'F: disk of {side.host.name}')

    # --- a new standby ---

    def renew(self):
        """A fresh secondary, a resync under the guests' writes, a new pair."""
        self.close_view()
        self.stand = None
        kind = self.kinds[1] if self.random.random() < .5 else self.kinds[0]
        for attempt in range(4):
            self.stand = self.secondary(kind)
            bad = attempt < 3 and self.pure and self.random.random() < .3
            if self.resync(bad):
                return
            self.end_side(self.stand)
        raise AssertionError('no resync')

    def jobs(self):
        return self.cmd(self.lead, 'query-block-jobs')

    def resync(self, bad):
        for n in range(self.count):
            self.cmd(self.lead, 'drive-mirror', device=f'colo-disk{n}', job_id=f'resync{n}',
                     target=f'nbd://127.0.0.1:{self.stand.relay.port}/parent{n}',
                     mode='existing', format='raw', sync='full')
        if bad:
            return self.spoil_resync()
        self.until('resync', lambda: all(j['ready'] for j in self.jobs()))
        with self.paused():
            for n in range(self.count):
                self.cmd(self.lead, 'block-job-cancel', device=f'resync{n}')
            self.until('the end of the resync', lambda: not self.jobs())
            self.join()
        self.note('a new pair')
        return True

    def spoil_resync(self):
        how = self.random.choice(('kill_stand', 'cut', 'server_stop', 'force', 'silent'))
        self.note(f'resync spoiled: {how}')
        time.sleep(self.random.choice((0, .02, .1)))
        if how == 'silent':
            self.stand.relay.go.clear()
            self.guests_go_on()
        if how in ('force', 'silent'):
            for n in range(self.count):
                self.fails(self.lead, 'block-job-cancel', device=f'resync{n}', force=True)
            if how == 'silent':
                # what is in flight to a silent target ends when it is heard of
                self.guests_go_on()
                self.stand.relay.cut()
        elif how == 'server_stop':
            self.cmd(self.stand, 'nbd-server-stop')
        else:
            self.inject(how)
        self.guests_go_on(4)
        self.until('the end of a spoiled resync', lambda: not self.jobs())
        self.guests_go_on()
        return False

    # --- ends ---

    def end_side(self, side):
        side.alive = False
        self.close_view() if side is self.stand else None
        side.host.end()
        side.host.qmp.close()
        if side.relay:
            side.relay.close()

    def quit_side(self, side, models):
        """A clean exit, and the disk is what the models say."""
        side.alive = False
        if side is self.stand:
            self.close_view()
        try:
            self.cmd(side, 'quit')
        except ConnectionError:
            pass
        code = side.host.process.wait(LIMIT)
        assert code == 0, f'H: {side.host.name} exits with {code}: {side.host.log_text()[-2000:]}'
        side.host.qmp.close()
        self.on_disk(side, models)

    def finish(self):
        if self.pure and self.random.random() < .3:
            self.stand.relay.go.clear()  # nobody waits for a silent one
        for g in self.guests:
            if self.stand.relay.go.is_set():
                g.pause(LIMIT)
        self.healthy_guests()
        settled = self.stand.relay.go.is_set()
        if settled:
            for g in self.guests:
                g.model.settle(g.read)
            self.quit_side(self.lead, self.models)
        else:
            self.cmd(self.lead, 'quit')
            code = self.lead.host.process.wait(LIMIT)
            assert code == 0, f'H: {self.lead.host.name} exits with {code}'
        self.stop_guests()
        self.check_view('at the end')
        self.close_view()
        self.cmd(self.stand, 'quit')
        code = self.stand.host.process.wait(LIMIT)
        assert code == 0, f'H: {self.stand.host.name} exits with {code}'

    def run(self, generations):
        try:
            self.begin()
            self.note(f'{self.count} disks, {self.kinds}')
            for _ in range(generations):
                self.generation()
            self.quiet(3)
            self.finish()
        finally:
            self.close()

    def close(self):
        for g in self.guests + self.standbys:
            g.stop()
        for thing in reversed(self.made):
            thing.end() if isinstance(thing, Host) else thing.close()
        shutil.rmtree(self.work, ignore_errors=True)


def same(got, want, what):
    if bytes(got) != bytes(want):
        at = [i for i in range(min(len(got), len(want))) if got[i] != want[i]]
        raise AssertionError(f'{what}: {len(at)} bytes differ, {at[0]:#x} to {at[-1]:#x}: '
                             f'{got[at[0]]:#x}, want {want[at[0]]:#x}')
