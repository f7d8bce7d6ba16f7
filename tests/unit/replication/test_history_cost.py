"""What the past costs is known, and what the present names costs it nothing."""

import os
from functools import partial

from trio.testing import MockClock

from dittofs.history.snapshots import create_snapshot, snapshot_roots
from dittofs.replication.collector import Collector
from dittofs.replication.history_cost import HistoryCost
from dittofs.replication.retirement import Retirement
from dittofs.volume.retained import Retained
from tests.unit.replication.pair import sides

OLD = bytes(range(256)) * 128
NEW = OLD[::-1]


async def test_the_past_costs_what_it_alone_names(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        replica = a.rig.volume.replica
        retained = Retained(a.rig.volume.state, partial(snapshot_roots, replica))
        cost = HistoryCost(Collector(a.peers, retained, Retirement(a.peers)), replica.journal.history)
        await a.write("f", OLD)
        await cost.count()
        assert cost.bytes == 0
        await a.write("f", NEW)
        await a.rig.publish()
        await cost.count()
        assert cost.bytes is not None
        once = cost.bytes
        assert once > 0
        await create_snapshot(replica, a.rig.volume.publisher, "kept")
        with replica.change():
            for row in list(replica.journal.history.since(0)):
                replica.journal.history.remove(row)
        await cost.count()
        listing = cost.bytes
        assert 0 < listing < 2000  # of the snapshot the listing alone: the file is still what it was
        await a.rig.unlink("f")
        await cost.count()
        assert cost.bytes > listing


async def test_what_is_named_may_be_gone_through_while_programs_open_files() -> None:
    async with sides() as (a,):
        opened = []
        for number in range(3):
            await a.write(f"f{number}", OLD)
            opened.append(a.rig.open_file(f"f{number}"))
        await a.rig.publish()
        live = 0
        for number, (_, is_live) in enumerate(Retained(a.rig.volume.state).named()):
            opened.append(a.rig.open_file(f"new{number}", os.O_RDWR | os.O_CREAT))
            live += is_live
        assert live >= 2 * 3, "by the tree, and as they are open"
        for handle in opened:
            a.rig.close_file(handle)
