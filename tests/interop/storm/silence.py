# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody does not answer for a while: who waits for that, and what a manager may do."""

import socket
import time

from replhosts import Background
from storm.failover import Failover
from storm.ground import SIZE
from storm.guest import Guest
from storm.rules import LIMIT


class Silence(Failover):
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
