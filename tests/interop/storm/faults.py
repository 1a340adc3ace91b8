# SPDX-License-Identifier: GPL-2.0-or-later
"""
What breaks below and between the hosts. inject() says what cures it (None:
nothing does) and whether the copy is lost by it, waits, or perhaps is.
"""

import errno
import resource
import signal
import time

from lab.nbd import FLUSH, READ, TRIM, WRITE, WRITE_ZEROES
from replhosts import Background, MIB
from storm.pair import Pair
from storm.rules import LIMIT

WRITES = (WRITE, WRITE_ZEROES, TRIM)


def broken(*kinds, error=errno.EIO):
    return {k: error for k in kinds}


class Faults(Pair):
    def faults(self):
        stand, out = self.stand, []
        if not self.pure:
            return ['kill_stand', 'kill_lead']
        out += ['kill_stand', 'kill_stand', 'kill_checkpoint', 'kill_lead', 'restart_lead', 'cut',
                'server_stop', 'stall', 'freeze_stand', 'freeze_lead', 'slow', 'fsize', 'nothing',
                'negotiation']
        for layer in ('hidden', 'active', 'disk'):
            out += [f'{layer}_{how}' for how in ('write', 'read', 'flush', 'wait')
                    if stand.nbd(layer)]
        if self.lead.nbd('disk'):
            out += ['local', 'local', 'local_wait']
        if self.lead.small:
            out += ['local_full'] * 3
        if stand.small:
            out += ['full'] * 3
        return out

    def inject(self, name):
        """(cure or None, 'lost' | 'waits' | 'perhaps')"""
        stand, r = self.stand, self.random
        if name in ('kill_stand', 'kill_checkpoint'):
            self.kill_stand(name == 'kill_checkpoint')
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
        if name == 'local_full':
            self.local_fault = True
            self.lead.small.fill()
            return self.lead.small.empty, 'perhaps'
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

    def kill_stand(self, in_checkpoint=False):
        """Its disks have what the leader wrote there, and at most what is in flight."""
        stand, waiting = self.stand, None
        for g in self.guests:
            g.begin_trace()
        if in_checkpoint:
            waiting = Background(self.fails, stand, 'xen-colo-do-checkpoint')
            time.sleep(self.random.choice((0, 0, .0005, .002)))
        stand.host.process.kill()
        stand.host.process.wait()
        if waiting:  # it must not read from whoever gets the number of its socket
            waiting.join(LIMIT)
        self.close_view()
        self.ended(stand)
        for g, image in zip(self.guests, stand.disks):
            model, requests = g.end_trace()
            if image.fmt == 'raw':
                model.may_be(image.content(), requests)

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
