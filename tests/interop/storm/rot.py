# SPDX-License-Identifier: GPL-2.0-or-later
"""
A pair one of whose images lies on something rotten: blkdebug fails a request of
a kind, at a moment of the format above it, the k-th time and perhaps each time
from then on. Nobody is told when, so who uses that image may see errors at any
time; all others never do, and V, T, H and I of storm/blow.py hold throughout.
"""

from lab.nbd import NbdError
from lab.qmp import QmpError
from storm.failover import Failover
from storm.ground import SIZE
from storm.image import Image
from storm.rules import same

PLACES = (('H1', 'disk0'), ('H2', 'disk0'), ('H2', 'active0'), ('H2', 'hidden0'))
# Of an image whose tables are kept, and of one under the scratch policy.
MOMENTS = ('l1_update', 'l2_load', 'l2_update', 'l2_alloc_write', 'read_aio', 'write_aio',
           'cow_write', 'refblock_load', 'refblock_update_part', 'refblock_alloc_write',
           'refblock_alloc_hookup', 'cluster_free', 'flush_to_disk')
SCRATCH = ('empty_image_prepare', 'read_aio', 'read_backing_aio', 'write_aio', 'l2_alloc_write',
           'l2_update', 'refblock_update_part', 'flush_to_disk')


class Rot(Failover):
    def __init__(self, seed, note=lambda line: None):
        super().__init__(seed, note=note)
        self.fmt = self.random.choice(('raw', 'qcow2', 'qcow2'))
        self.rotten = self.random.choice(PLACES)
        self.local_fault = self.rotten[0] == 'H1'
        self.standby_fault = not self.local_fault

    # --- what is rotten ---

    def side(self, kind):
        side = super().side(kind)
        side.small = None
        return side

    def image(self, side, name, fmt, content):
        image = Image(self.path(f'{side.host.name}-{name}'), fmt, content, self.work)
        if (side.host.name, name) == self.rotten:
            image.rules = self.rules(fmt)
            self.note(f'{self.rotten} ({fmt}): {image.rules}')
        return image

    def rules(self, fmt):
        r = self.random
        error = f'errno={r.choice((5, 28))}', f'once={r.choice(("on", "on", "off"))}'
        if fmt == 'raw' or r.random() < .3:
            kind = r.choice(('read', 'write', 'write', 'write-zeroes', 'discard', 'flush'))
            # Tables that an image cannot be opened without lie before.
            first = 0 if fmt == 'raw' else 4 * 128
            at = () if kind == 'flush' else (f'sector={first + r.randrange(SIZE // 512)}',)
            return [f'inject-error.0.{w}' for w in ('event=none', f'iotype={kind}', *at, *error)]
        moment = r.choice(MOMENTS if self.rotten[1] == 'disk0' else SCRATCH)
        k = r.choice((1, 1, 2, 3, 5, 9))
        out = [f'set-state.{i}.{w}' for i in range(k - 1)
               for w in (f'event={moment}', f'state={i + 1}', f'new_state={i + 2}')]
        return out + [f'inject-error.0.{w}' for w in (f'event={moment}', f'state={k}', *error)]

    # --- what may fail now ---

    def tried(self, side, call, *args):
        """None if it went well, and what was said if not; only who is on rotten ground may."""
        try:
            call(*args)
        except (QmpError, NbdError) as e:
            assert isinstance(e, QmpError) or e.errno, f'H: {side.host.name}: {e}'
            assert side.host.name == self.rotten[0], f'{side.host.name}: {e}'
            self.note(f'{side.host.name}: {e}')
            return e
        return None

    def start_pair(self):
        """All disks start or none; False if they do not."""
        self.lead = self.primary()
        self.stand = self.secondary('tandem', [bytes(m.content) for m in self.models])
        self.views = [m.copy() for m in self.models]
        for _ in range(3):
            no = self.fails(self.stand, 'xen-set-replication', enable=True, primary=False)
            stages = {i['stage'] for i in self.infos(self.stand)}
            assert stages == {'none' if no else 'running'}, f'T: {stages} after a start: {no}'
            if not no:
                self.attach()
                self.open_view()
                return True
            self.note(f'start: {no}')
        return False

    def view_where_it_can_be_read(self, when):
        """V, piece by piece."""
        for s in self.standbys:
            if self.tried(self.stand, s.model.settle, s.read):
                continue
            for at in range(0, SIZE, 64 << 10):
                got = []
                if not self.tried(self.stand, lambda at=at: got.append(s.read(at, 64 << 10))):
                    same(got[0], s.model.content[at:at + (64 << 10)], f'V: {at:#x} {when}')

    def epochs(self):
        r = self.random
        for _ in range(r.randrange(3, 12)):
            if r.random() < .5:
                self.note(f'checkpoint: {self.checkpoint()}')
            self.look()
            self.latched(self.lead)
            self.latched(self.stand)
            self.healthy_guests()
            self.alive()
        self.view_where_it_can_be_read('in an epoch')

    # --- ends ---

    def take_over_or_not(self):
        """Failover, tried again; True if it gets through."""
        for _ in range(4):
            self.take_over()
            if self.until('F: the end of the merge', self.merged) == {'done'}:
                return True
            assert self.latched(self.stand), 'T: a failed failover is not told'
            self.view_where_it_can_be_read('after a failed failover')
            self.look()
        return False

    def end(self, side):
        if self.random.random() < .5:
            self.end_side(side)
            return
        if side is self.stand:
            self.close_view()
        self.cmd(side, 'quit')
        code = side.host.process.wait(25)
        assert code == 0, f'H: {side.host.name} exits with {code}: {side.host.log_text()[-2000:]}'
        self.ended(side)

    def run(self, _generations):
        try:
            if self.start_pair():
                self.start_guests()
                self.epochs()
                through = self.random.random() < .7 and self.take_over_or_not()
                self.view_where_it_can_be_read('at the end')
                self.stop_guests()
                self.note(f'through: {through}')
                if through and self.stand.disks[0].fmt == 'raw':
                    for s, image in zip(self.standbys, self.stand.disks):
                        s.model.may_be(image.content())
            for side in (self.lead, self.stand):
                for event in side.host.qmp.events:
                    assert event['event'] != 'BLOCK_IMAGE_CORRUPTED', f'I: {event}'
                self.end(side)
        finally:
            self.close()
