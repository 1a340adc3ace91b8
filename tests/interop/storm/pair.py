# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair as its manager drives it where nothing fails: start, checkpoint, stop, end."""

import contextlib

from storm.rules import LIMIT, Rules


class Pair(Rules):
    # --- start ---

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

    def add_filter(self, n):
        """What drive_add says: nothing, or why not."""
        return self.hmp(self.lead, 'drive_add -n buddy driver=replication,mode=primary,'
                        f'file.driver=nbd,file.host=127.0.0.1,file.port={self.stand.relay.port},'
                        f'file.export=parent{n},node-name=replication{n}')

    def attach(self):
        for n in range(self.count):
            out = self.add_filter(n)
            assert not out, f'drive_add: {out}'
            self.cmd(self.lead, 'x-blockdev-change', parent=f'colo-disk{n}',
                     node=f'replication{n}')
        self.cmd(self.lead, 'xen-set-replication', enable=True, primary=True)
        self.lead.host.qmp.events.clear()

    def detach(self):
        for n in range(self.count):
            self.cmd(self.lead, 'x-blockdev-change', parent=f'colo-disk{n}', child='children.1')
            out = self.hmp(self.lead, f'drive_del replication{n}')
            assert not out, f'drive_del: {out}'

    def reattach(self):
        """The filter goes and comes back while nothing is written."""
        with self.paused():
            self.detach()
            self.attach()

    def remove_copy(self):
        """The manager gives the other side up; nothing waits for it (G, H)."""
        self.detach()
        self.guests_go_on()

    # --- checkpoint ---

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

    def checkpoint_refused_only(self):
        if self.lead.host.kind == 'qemu':
            return False
        return not self.fails(self.lead, 'xen-colo-do-checkpoint')

    # --- ends ---

    def end_side(self, side):
        """kill -9, if it is not dead yet; what it leaves."""
        if side is self.stand:
            self.close_view()
        side.host.end()
        self.ended(side)

    def ended(self, side):
        side.alive = False
        side.host.qmp.close()
        if side.relay:
            side.relay.close()
        for image in side.all_images():
            if image.disk:
                image.disk.forget()
        self.check_images(side)

    def quit_side(self, side, models=None):
        """A clean exit, and the disk is what the models say."""
        if side is self.stand:
            self.close_view()
        with contextlib.suppress(ConnectionError):
            self.cmd(side, 'quit')
        code = side.host.process.wait(LIMIT)
        assert code == 0, f'H: {side.host.name} exits with {code}: {side.host.log_text()[-2000:]}'
        self.ended(side)
        if models:
            self.on_disk(side, models)

    def finish(self):
        if self.pure and self.random.random() < .3:
            self.stand.relay.go.clear()  # nobody waits for a silent one
        settled = self.stand.relay.go.is_set()
        for g in self.guests:
            if settled:
                g.pause(LIMIT)
                g.model.settle(g.read)
        self.healthy_guests()
        self.quit_side(self.lead, self.models if settled else None)
        self.stop_guests()
        self.check_view('at the end')
        self.quit_side(self.stand)

    # --- a leader that dies ---

    def kill_lead(self):
        self.local_fault = True  # nobody minds what its guests see
        self.end_side(self.lead)
        self.stop_guests()

    def start_lead_again(self):
        """On the disks that it has left: what was acknowledged is there."""
        old = self.lead
        for model, image in zip(self.models, old.disks):
            if image.fmt == 'qcow2':    # what nobody has flushed may be gone
                model.content, model.doubts = bytearray(image.content()), []
        self.lead = self.primary(old.disks)
        self.lead.small = old.small
        self.local_fault = False
        self.start_guests()
