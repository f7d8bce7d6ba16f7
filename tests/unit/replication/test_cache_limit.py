"""Above its limit a store lets go what enough others have, the longest unused first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from dittofs.cache_settings import CacheSettings
from dittofs.identity.records import Role
from dittofs.ids import InodeId
from dittofs.replication.cache_limit import CacheLimit, Room, excess
from tests.unit.replication.evictions import Evictor
from tests.unit.replication.pair import connect, sides, until
from tests.unit.replication.sweeping import LARGE, OTHER, Sweeper, in_step, on_demand

GIB = 1 << 30


@pytest.mark.parametrize(
    ("settings", "over"),
    [
        (CacheSettings(), 0),
        (CacheSettings(bytes_max=4 * GIB), 6 * GIB),
        (CacheSettings(bytes_max=20 * GIB), 0),
        (CacheSettings(disk_share_max=0.05), 5 * GIB),
        (CacheSettings(free_bytes_min=3 * GIB), GIB),
        (CacheSettings(free_share_min=0.5), 10 * GIB),
        (CacheSettings(bytes_max=9 * GIB, free_bytes_min=3 * GIB), GIB),
    ],
)
def test_the_strictest_limit_counts_and_no_more_than_there_is(settings: CacheSettings, over: int) -> None:
    assert excess(settings, Room(10 * GIB, 100 * GIB, 2 * GIB)) == over


@asynccontextmanager
async def limited(
    bytes_max: int, *, copies: bytes = b"on-demand"
) -> AsyncIterator[tuple[Evictor, CacheLimit]]:
    """A device that holds two files, as another one does."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        one = Evictor(a)
        used: dict[InodeId, int] = {}
        limit = CacheLimit(
            a.peers,
            one.evicting,
            CacheSettings(bytes_max=bytes_max),
            used=used,
            make_room=lambda: Sweeper(a).collector.make_room(is_tight=True),
        )
        a.rig.volume.state.used = used
        await a.write("large", LARGE)
        await a.write("other", OTHER)
        connect(nursery, a, b)
        await in_step(a, b)
        await until(lambda: one.believes(b, "large") and one.believes(b, "other"))
        if copies == b"on-demand":
            await on_demand(a)
        await until(lambda: not a.peers.custody.is_counting)
        yield one, limit
        nursery.cancel_scope.cancel()


async def test_the_longest_unused_goes_and_what_was_read_stays(autojump_clock: MockClock) -> None:
    async with limited(1_600_000) as (a, limit):
        await trio.sleep(5)
        a.side.rig.close_file(a.side.rig.open_file("large", 0))
        await limit.step()
        assert limit.over_bytes == 0
        assert a.has("large")
        assert not a.has("other")
        assert a.side.rig.volume.replica.chunks.statistics().pack_bytes <= 1_600_000


async def test_what_is_pinned_stays_and_what_cannot_be_freed_is_said(autojump_clock: MockClock) -> None:
    async with limited(100_000) as (a, limit):
        a.pins.put(a.side.rig.walk("large").id)
        await limit.step()
        assert a.has("large")
        assert not a.has("other")
        assert limit.over_bytes > 1_400_000


async def test_below_the_number_of_copies_nothing_goes_by_itself(autojump_clock: MockClock) -> None:
    async with limited(100_000, copies=b"2") as (a, limit):
        await limit.step()
        assert a.has("large")
        assert a.has("other")
        assert limit.over_bytes > 2_000_000


async def test_what_was_used_is_known_after_a_restart(autojump_clock: MockClock) -> None:
    async with limited(1_600_000) as (a, limit):
        inode = a.side.rig.walk("large").id
        a.side.rig.close_file(a.side.rig.open_file("large", 0))
        at = limit._last_use(inode)
        limit._save_uses()
        assert not a.side.rig.volume.state.used
        assert limit._last_use(inode) == at
