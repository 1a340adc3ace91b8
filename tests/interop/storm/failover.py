# SPDX-License-Identifier: GPL-2.0-or-later
"""The standby takes over and leads; what goes wrong while it merges."""

import signal
import time

from lab.nbd import FLUSH, READ, WRITE
from storm.faults import broken
from storm.image import chain_content
from storm.resync import Resync
from storm.rules import same


class Failover(Resync):
    def fail_over(self, thaw):
        """Whatever the leader does meanwhile. thaw: what cures a fault that is there."""
        lead, stand, r = self.lead, self.stand, self.random
        dead = not self.pure or r.random() < .5
        frozen = thaw and not self.standby_fault
        self.note(f'failover, the leader is {"dead" if dead else "alive"}')
        if dead:
            self.kill_lead()
        ends = self.pure and not dead and r.random() < .15
        dies = self.pure and not ends and not frozen and r.random() < .3
        if dies:
            self.kill_in_failover(thaw, dead)
            return
        if not self.pure or r.random() < .4:
            self.cmd(stand, 'nbd-server-stop')
            self.close_view()
        waits = None
        if self.pure and r.random() < .3 and stand.nbd('disk'):
            waits = r.choice(stand.nbd('disk'))
            self.standby_fault = True
            waits.fail = broken(r.choice((READ, WRITE, FLUSH)))
        if ends:
            self.quit_in_failover(waits, thaw)
            return
        thaw = self.merge(waits, thaw)
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
        self.promote()

    def take_over(self):
        self.cmd(self.stand, 'xen-set-replication', enable=False, primary=False, failover=True)

    def merge(self, waits, thaw):
        """Tries again until it is through; what is left to be cured then."""
        stand, r = self.stand, self.random
        for attempt in range(50):
            self.take_over()
            if self.is_through():
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
        return thaw

    def is_through(self):
        if self.stand.host.kind == 'qemu':
            return not self.cmd(self.stand, 'query-xen-replication-status')['error']
        for _ in range(self.random.randrange(4) if self.pure else 0):
            self.during_failover()
        stages = self.until('F: the end of the merge', self.merged)
        if stages == {'done'}:
            return True
        self.note(f'failover: {stages}')
        assert self.latched(self.stand), 'T: a failed failover is not told'
        for _ in range(3):
            self.look()
        return False

    def merged(self):
        stages = {i['stage'] for i in self.infos(self.stand)}
        return stages if 'failover' not in stages else None

    def during_failover(self):
        r = self.random
        what = r.random()
        if what < .4:
            self.look()
        elif what < .5:
            self.stand.host.process.send_signal(signal.SIGSTOP)
            time.sleep(r.choice((0, .02, .1)))
            self.stand.host.process.send_signal(signal.SIGCONT)
        elif what < .7:
            self.take_over()
        else:
            self.fails(self.stand, *r.choice((
                ('xen-colo-do-checkpoint', ), ('query-block', ), ('query-block-jobs', ),
                ('query-named-block-nodes', ))))

    def promote(self):
        """It leads."""
        self.stand.relay.close()
        self.close_view()
        self.lead, self.models = self.stand, self.views
        self.lead.host.qmp.events.clear()
        self.start_guests()
        self.renew()

    # --- it ends before it is through ---

    def quit_in_failover(self, waits, thaw):
        """It changes its mind, and keeps what is not merged; who led leads on."""
        self.note('quit in failover')
        stand = self.stand
        # What nobody has flushed of a qcow2 disk may go with it where it cannot be written.
        kept = not thaw and not (waits and (READ in waits.fail or self.fmt == 'qcow2'))
        if kept:
            self.settle_view()
        self.close_view()
        self.take_over()
        self.quit_side(stand)
        if kept:
            for n, view in enumerate(self.views):
                if not view.doubts:
                    same(chain_content(*(stand.images(what)[n] for what in (
                        'active', 'hidden', 'disk'))), view.content, 'V: chain after quit')
        if thaw:
            thaw()
        self.standby_fault = False
        self.guests_go_on()
        self.remove_copy()
        self.renew()

    def kill_in_failover(self, thaw, dead):
        """kill -9: each byte is of the view or of before; who led leads on, or starts again."""
        stand, r = self.stand, self.random
        for g in self.guests:
            g.begin_trace()
        before = [image.data() for image in stand.disks]
        if self.standbys and not self.standby_fault:
            self.settle_view()
        held = None
        if stand.nbd('disk') and r.random() < .7:
            held = r.choice(stand.nbd('disk'))
            held.hold_after(r.randrange(12))
        self.take_over()
        if held:
            self.until('a request or the end', lambda: held.held.is_set() or self.merged())
        else:
            time.sleep(r.choice((0, 0, .001, .01)))
        stand.host.process.kill()
        stand.host.process.wait()
        self.note('killed in failover')
        self.close_view()
        self.ended(stand)
        for n, image in enumerate(stand.disks):
            _, requests = self.guests[n].end_trace() if self.guests else (None, [])
            if image.fmt == 'raw':
                self.views[n].may_be(image.content(), [(WRITE, 0, before[n])] + requests)
        if thaw:
            thaw()
        self.standby_fault = False
        if dead:
            self.start_lead_again()
        else:
            self.guests_go_on()
            self.until('T: the error', lambda: self.latched(self.lead))
            self.remove_copy()
        self.renew()

    def restart_lead(self):
        """kill -9 of the leader, and no failover: it starts again, and gets a new copy."""
        guests, flushed = self.guests, []
        for g in guests:
            g.begin_trace()
        if self.fmt == 'qcow2':
            with self.paused():
                flushed = [(g.request(FLUSH), bytes(g.model.content))[1] for g in guests]
                self.kill_lead()
        else:
            self.kill_lead()
        for want, image in zip(flushed, self.lead.disks):
            same(image.content(), want, 'F: what was flushed before the kill')
        if self.random.random() < .5:
            self.quit_side(self.stand)
        else:
            self.end_side(self.stand)
        for g, image in zip(guests, self.stand.disks):
            model, requests = g.end_trace()
            if image.fmt == 'raw':
                model.may_be(image.content(), requests)
        self.start_lead_again()
        self.guests_go_on()
        self.renew()
