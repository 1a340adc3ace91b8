# SPDX-License-Identifier: GPL-2.0-or-later
"""The standby takes over and leads; what goes wrong while it merges."""

import time

from lab.nbd import FLUSH, READ, WRITE
from stormfaults import broken
from stormresync import Resync
from stormrules import LIMIT


class Failover(Resync):
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
