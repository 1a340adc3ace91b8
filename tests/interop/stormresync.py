# SPDX-License-Identifier: GPL-2.0-or-later
"""A fresh secondary, and the resync that makes it the copy; some are spoiled."""

import time

from stormfaults import Faults


class Resync(Faults):
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
