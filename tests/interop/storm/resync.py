# SPDX-License-Identifier: GPL-2.0-or-later
"""A new secondary, and the resync that makes it the copy; some are spoiled."""

import time

from replhosts import Background
from storm.faults import Faults
from storm.rules import LIMIT


class Resync(Faults):
    def renew(self):
        """A resync under the guests' writes, a new pair."""
        self.close_view()
        kind = self.kinds[1] if self.random.random() < .5 else self.kinds[0]
        old, self.stand = self.stand, None
        for attempt in range(4):
            self.stand = self.secondary(kind, old=self.left_by(old))
            bad = attempt < 3 and self.pure and self.random.random() < .3
            if self.resync(bad):
                return
            self.end_side(self.stand)
            old = self.stand
        raise AssertionError('no resync')

    def left_by(self, old):
        """Whoever was the copy may come back with its images."""
        if not old or old is self.lead or self.random.random() < .5:
            return None
        if old.small:
            old.small.empty()
        self.note(f'the images of {old.host.name} again')
        return old

    def jobs(self):
        return self.cmd(self.lead, 'query-block-jobs')

    def mirror(self, n, command):
        return command(self.lead, 'drive-mirror', device=f'colo-disk{n}', job_id=f'resync{n}',
                       target=f'nbd://127.0.0.1:{self.stand.relay.port}/parent{n}',
                       mode='existing', format='raw', sync='full')

    def resync(self, bad):
        if bad:
            return self.spoil_resync()
        for n in range(self.count):
            self.mirror(n, self.cmd)
        self.until('resync', lambda: all(j['ready'] for j in self.jobs()))
        with self.paused():
            for n in range(self.count):
                self.cmd(self.lead, 'block-job-cancel', device=f'resync{n}')
            self.until('the end of the resync', lambda: not self.jobs())
            self.join()
        self.note('a new pair')
        return True

    def spoil_resync(self):
        stand = self.stand
        how = self.random.choice(('kill', 'restart', 'cut', 'server_stop', 'force', 'silent',
                                  'negotiation'))
        self.note(f'resync spoiled: {how}')
        if how == 'negotiation':
            self.spoil_link()
        refused = [self.mirror(n, self.fails) for n in range(self.count)]
        assert how == 'negotiation' or not any(refused), refused
        time.sleep(self.random.choice((0, .02, .1)))
        if how == 'silent':
            stand.relay.go.clear()
            self.guests_go_on()
        if how in ('force', 'silent'):
            for n in range(self.count):
                self.fails(self.lead, 'block-job-cancel', device=f'resync{n}', force=True)
            if how == 'silent':
                # what is in flight to a silent target ends when it is heard of
                self.guests_go_on()
                stand.relay.cut()
        elif how == 'server_stop':
            self.cmd(stand, 'nbd-server-stop')
        elif how == 'restart':
            self.kill_lead()
            self.start_lead_again()
        elif how == 'kill':
            stand.host.process.kill()
            stand.host.process.wait()
        else:
            stand.relay.cut()
        self.guests_go_on(4)
        self.until('the end of a spoiled resync', lambda: not self.jobs())
        self.guests_go_on()
        return False

    # --- in the middle of words ---

    def spoil_link(self):
        """Connections to the standby break after so many bytes, of whatever."""
        relay = self.stand.relay
        relay.end = type(relay).cut
        relay.limit = self.random.randrange(700)

    def negotiate(self):
        """The filter goes; on its way back the link breaks or falls silent in the handshake."""
        relay, r = self.stand.relay, self.random
        with self.paused():
            self.detach()
            for _ in range(r.randrange(1, 4)):
                self.spoil_link()
                if r.random() < .5:
                    relay.end = lambda relay: relay.go.clear()
                self.note(f'a link that ends after {relay.limit} bytes')
                n = r.randrange(self.count)
                waiting = Background(self.add_filter, n)
                while waiting.is_alive() and relay.go.is_set():
                    time.sleep(.005)
                if waiting.is_alive():
                    time.sleep(r.choice((0, .05)))
                    r.choice((relay.cut, relay.go.set))()
                no = waiting.result(LIMIT)
                nodes = [i['node-name'] for i in self.cmd(self.lead, 'query-named-block-nodes')]
                assert bool(no) != (f'replication{n}' in nodes), f'{no}: {nodes}'
                if not no:
                    out = self.hmp(self.lead, f'drive_del replication{n}')
                    assert not out, f'drive_del: {out}'
                relay.mend()
            self.attach()

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
