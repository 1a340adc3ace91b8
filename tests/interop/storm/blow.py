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
  F  after a failover disk and view are one, and the survivor can lead;
  I  whoever ends, killed or not, leaves images that are sane, and can come back on
     them.
"""

import signal
import time

from replhosts import Background
from storm.ground import SIZE
from storm.rules import LIMIT
from storm.silence import Silence


class Storm(Silence):
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

    def quiet(self, steps):
        for _ in range(steps):
            what = self.random.random()
            if what < .35:
                assert self.checkpoint(), 'a healthy pair refuses a checkpoint'
            elif what < .8:
                self.look()
            elif what < .83:
                self.reattach()
            elif what < .86 and self.pure:
                self.hiccup()
            else:
                self.nonsense(self.random.choice((self.lead, self.stand)))
            self.alive()
            self.healthy_guests()

    def generation(self):
        self.quiet(self.random.randrange(2, 12))
        fault = self.random.choice(self.faults())
        self.note(f'fault: {fault}')
        alone = {'kill_lead': lambda: self.fail_over(None), 'restart_lead': self.restart_lead,
                 'negotiation': self.negotiate}
        if fault in alone:
            alone[fault]()
            return
        local = fault in ('local', 'local_full')
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
        if local and cure:
            cure()
            cure = None
        if local:
            with self.paused():
                for g in self.guests:
                    g.model.settle(g.read)
            self.local_fault = False
        if how == 'perhaps' and not cure and self.random.random() < .5:
            if self.checkpoint():
                self.check_view('after a checkpoint behind a fault')
                return
        self.give_up(cure)

    def hiccup(self):
        """A host stops for a moment while a checkpoint is under way."""
        process = self.random.choice((self.lead, self.stand)).host.process
        pause = self.random.choice((0, .02, .1))
        process.send_signal(signal.SIGSTOP)
        waiting = Background(self.checkpoint)
        time.sleep(pause)
        process.send_signal(signal.SIGCONT)
        assert waiting.result(2 * LIMIT), 'a healthy pair refuses a checkpoint'

    def give_up(self, cure):
        """The pair is broken or shall be: one of the two goes on."""
        way = self.random.random()
        if not self.stand.alive or way < .3:
            if self.random.random() < .3:
                self.cmd(self.lead, 'xen-set-replication', enable=False, primary=True)
            self.remove_copy()
            if self.stand.alive:
                self.end_side(self.stand)
            self.standby_fault = False
            if cure:
                cure()
            self.renew()
        elif way < .45 and not cure and not self.latched(self.lead):
            self.stop_both()
        else:
            self.fail_over(cure)

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
