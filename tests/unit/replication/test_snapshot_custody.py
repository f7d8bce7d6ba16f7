"""What snapshots keep, counted and swept though some of their listings are not here, or are none."""

import os

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.history.snapshots import FORMAT, SETTING, _Stored, create_snapshot, snapshots_of
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from tests.unit.replication.pair import Side, connect, sides, until
from tests.unit.replication.sweeping import LARGE, Sweeper, in_step

KINDS = (ChunkKind.DATA, ChunkKind.MANIFEST)


def announce(side: Side, name: str, root: bytes, size: int) -> None:
    with side.rig.volume.replica.change() as change:
        stored = _Stored(FORMAT, root, size, 1, "b", 1, 1)
        change.group.set_setting(f"{SETTING}{name}/0123456789ab", msgspec.msgpack.encode(stored))


async def test_a_snapshot_is_held_twice_though_the_listing_of_another_is_not_here(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        await a.write("f", LARGE)
        connect(nursery, a, b)
        await in_step(a, b)
        await create_snapshot(a.rig.volume.replica, a.rig.volume.publisher, "one")
        a.peers.custody.recount()
        await in_step(a, b)
        await trio.sleep(300)
        connect(nursery, b, c)
        connect(nursery, a, c)
        await in_step(a, b, c)
        await trio.sleep(300)
        c.rig.clock.advance(1000)
        await c.write("more", b"x" * 100_000)
        await create_snapshot(c.rig.volume.replica, c.rig.volume.publisher, "two")
        two = next(one for one in snapshots_of(c.rig.volume.replica) if one.name == "two")
        assert two.root in {root for _, root, _ in c.peers.custody.content.content_roots()}
        c.peers.custody.recount()
        await in_step(a, b, c)

        def holders() -> int:
            chunks = [side.rig.volume.replica.chunks for side in (a, b, c)]
            return sum(one.has(kind, ChunkId(two.root[1:])) for one in chunks for kind in KINDS)

        await until(lambda: holders() >= 2, 600)
        nursery.cancel_scope.cancel()


async def test_a_snapshot_makes_no_second_file_of_one_and_what_it_alone_keeps_is_counted_apart(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _):
        custody = a.peers.custody
        await a.write("kept", b"12345")
        await a.write("gone", b"1234567")
        await create_snapshot(a.rig.volume.replica, a.rig.volume.publisher, "one")
        (one,) = snapshots_of(a.rig.volume.replica)
        custody.recount()
        await until(lambda: not custody.is_counting)
        tally = custody.tally()
        assert (tally.only_here - tally.past, tally.past) == (2, 1), "the listing is no file"
        assert (tally.only_here_bytes - tally.past_bytes, tally.past_bytes) == (12, one.size)

        await a.rig.unlink("gone")
        await a.rig.publish()
        await until(lambda: not custody.is_counting)
        tally = custody.tally()
        assert (tally.only_here - tally.past, tally.past) == (1, 2)
        assert (tally.only_here_bytes - tally.past_bytes, tally.past_bytes) == (5, one.size + 7)


@pytest.mark.logs_warning("a snapshot")
@pytest.mark.parametrize("what", ["a chunk that nobody has", "the root of a file"])
async def test_a_snapshot_that_nobody_can_ever_read_stops_no_round(
    what: str, autojump_clock: MockClock
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine = Sweeper(a)
        root, size = bytes([ChunkKind.DATA]) + os.urandom(32), 100
        if what == "the root of a file":
            await b.write("file", b"no listing")
            version = b.rig.volume.replica.tree.version(b.rig.walk("file").ref)
            assert version is not None
            root, size = version.root, version.size
        announce(b, "bad", root, size)
        connect(nursery, a, b)
        await in_step(a, b)
        await a.write("x", LARGE)
        await a.rig.unlink("x")
        await a.rig.publish()
        mine.forget_the_past()
        await mine.collector.collect()
        assert mine.collector.status().problem == ""
        assert mine.collector.status().round is not None, "the round has begun"
        nursery.cancel_scope.cancel()


async def test_a_listing_that_a_device_may_have_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        mine = Sweeper(a)
        announce(b, "one", bytes([ChunkKind.DATA]) + os.urandom(32), 100)
        connect(nursery, a, b)
        await in_step(a, b)
        await a.write("x", LARGE)
        await a.rig.unlink("x")
        await a.rig.publish()
        mine.forget_the_past()
        await mine.collector.collect()
        assert "the listing of a snapshot is not here" in mine.collector.status().problem
        assert c is not None
        nursery.cancel_scope.cancel()
