"""What is pinned is fetched whole, kept, and stays where others could give it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.ids import ROOT
from dittofs.replication.pinning import Pinning
from dittofs.volume.pins import Pins
from tests.unit.replication.evictions import Evictor
from tests.unit.replication.pair import connect, sides, until
from tests.unit.replication.sweeping import LARGE, OTHER, in_step, on_demand


@asynccontextmanager
async def pinning() -> AsyncIterator[tuple[Evictor, Evictor, Pinning]]:
    """a has what it writes; b has the names and may pin them."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        one, two = Evictor(a), Evictor(b)
        task = Pinning(b.peers, lambda inode: two.pins.of(inode) is not None, lambda: len(two.pins) > 0)
        nursery.start_soon(task.run)
        await on_demand(a)
        a.rig.mkdir("docs")
        await a.write("docs/large", LARGE)
        await a.write("other", OTHER)
        connect(nursery, a, b)
        await in_step(a, b)
        yield one, two, task
        nursery.cancel_scope.cancel()


async def test_all_below_a_pinned_directory_is_fetched_also_what_comes_later(
    autojump_clock: MockClock,
) -> None:
    async with pinning() as (a, b, task):
        assert b.pins.put(b.side.rig.walk("docs").id)
        task.look_again()
        await until(lambda: b.has("docs/large"))
        assert not b.has("other")
        await a.side.write("docs/later", OTHER[::-1])
        await until(
            lambda: b.side.rig.volume.replica.root_digest() == a.side.rig.volume.replica.root_digest()
        )
        await until(lambda: b.has("docs/later"))
        await a.side.rig.rename("other", "docs/moved")
        await in_step(a.side, b.side)
        await until(lambda: b.has("docs/moved"))
        await until(lambda: not task.missing)


async def test_what_is_pinned_does_not_go_and_what_is_unpinned_may(autojump_clock: MockClock) -> None:
    async with pinning() as (_, b, task):
        inode = b.side.rig.walk("docs").id
        b.pins.put(inode)
        assert not b.pins.put(inode)
        task.look_again()
        await until(lambda: b.has("docs/large"))
        done = await b.evict("docs/large", is_forced=True)
        assert [why for _, why in done.kept] == ["it is pinned"]
        again = Pins(b.side.rig.volume.state)
        assert list(again) == [inode], "a pin outlives the process"
        assert b.pins.remove(inode)
        assert not b.pins.remove(inode)
        await until(lambda: not b.side.peers.custody.is_counting)
        assert (await b.evict("docs/large")).gone
        assert not b.has("docs/large")


async def test_the_whole_volume_may_be_pinned(autojump_clock: MockClock) -> None:
    async with pinning() as (_, b, task):
        b.pins.put(ROOT)
        task.look_again()
        await until(lambda: b.has("docs/large") and b.has("other"))


async def test_a_pin_of_what_has_no_name_any_more_is_not_counted(autojump_clock: MockClock) -> None:
    async with pinning() as (_, b, _task):
        b.pins.put(ROOT)
        for path in ("docs", "other"):
            b.pins.put(b.side.rig.walk(path).id)
        assert (len(b.pins), b.pins.shown()) == (3, 3)
        await b.side.rig.unlink("other")
        await b.side.rig.publish()
        assert (len(b.pins), b.pins.shown()) == (3, 2)
        await b.side.rig.write("fresh", b"not published yet")
        b.pins.put(b.side.rig.walk("fresh").id)
        assert b.pins.shown() == 3


async def test_nothing_is_fetched_on_to_a_disk_that_is_nearly_full(autojump_clock: MockClock) -> None:
    async with pinning() as (_, b, task):
        b.side.peers.free_bytes = lambda: 1 << 20
        b.pins.put(ROOT)
        await task.step()
        assert "nearly full" in task.problem
        assert sum(task.missing) == len(LARGE) + len(OTHER)
