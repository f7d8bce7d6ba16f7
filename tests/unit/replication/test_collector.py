"""Rounds of garbage between devices: whatever the order, no byte goes that anybody names or may yet name."""

import random

import trio
from trio.testing import MockClock

from dittofs.chunks.content import ContentReader
from dittofs.chunks.seal import ChunkKind
from dittofs.identity.records import Role
from dittofs.replication import garbage_rounds as rounds
from dittofs.replication.custody import HOLD
from dittofs.tree.record import NewVersion
from tests.simulation.rig import settled
from tests.unit.replication.pair import connect, sides, until
from tests.unit.replication.sweeping import (
    EDITED,
    LARGE,
    OTHER,
    Sweeper,
    apart,
    edited_lazily,
    in_step,
    lazy_pair,
    on_demand,
    read,
    settle,
    until_published,
)


async def test_alone_what_was_removed_goes_and_what_is_there_stays(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        sweeper = Sweeper(a)
        await a.write("kept", LARGE)
        await a.write("gone", OTHER)
        before = sweeper.chunks
        await a.rig.unlink("gone")
        await sweeper.collector.collect()
        assert sweeper.chunks == before, "the history names it"
        sweeper.forget_the_past()
        await sweeper.collector.collect()
        assert sweeper.is_done
        assert sweeper.chunks < before
        assert a.rig.read("kept") == LARGE


async def test_nothing_goes_before_the_grace_is_over(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        sweeper = Sweeper(a, grace_s=3600)
        await a.write("gone", LARGE)
        await a.rig.unlink("gone")
        sweeper.forget_the_past()
        await sweeper.collector.collect()
        assert not sweeper.is_done
        a.rig.clock.advance(3500)
        await sweeper.collector.step()
        assert not sweeper.is_done
        a.rig.clock.advance(200)
        await sweeper.collector.step()
        assert sweeper.is_done


async def test_what_is_open_staged_or_detached_stays(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        sweeper = Sweeper(a)
        for name in ("reading", "writing"):
            await a.write(name, random.Random(name).randbytes(500_000))
        reading = a.rig.open_file("reading")
        writing = a.rig.open_file("writing", 2)
        await a.rig.write_at(writing, 100_000, b"edit")
        for name in ("reading", "writing"):
            await a.rig.unlink(name)
        sweeper.forget_the_past()
        await sweeper.collector.collect()
        assert a.rig.volume.files.read(reading.inode, 0, 500_000) == random.Random("reading").randbytes(
            500_000
        )
        whole = bytearray(random.Random("writing").randbytes(500_000))
        whole[100_000:100_004] = b"edit"
        assert a.rig.volume.files.read(writing.inode, 0, 500_000) == bytes(whole)


async def test_large_attributes_and_version_nodes_stay(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        sweeper = Sweeper(a)
        await a.write("file", b"content")
        await a.write("gone", LARGE)
        inode = a.rig.walk("file")
        await settled(a.rig.volume.attributes.set_xattr(inode, b"user.large", OTHER[:9000], 0))
        await a.rig.publish()
        await a.rig.unlink("gone")
        sweeper.forget_the_past()
        await sweeper.collector.collect()
        assert sweeper.is_done
        assert a.rig.volume.attributes.get_xattr(inode, b"user.large") == OTHER[:9000]
        replica = a.rig.volume.replica
        version = replica.tree.version(inode.ref)
        assert version is not None
        assert replica.chunks.has(ChunkKind.VERSION, version.node[-32:])  # type: ignore[arg-type]


async def test_a_round_waits_for_a_device_that_is_away(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a), Sweeper(b)
        await a.write("gone", LARGE)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        cut.close()
        await apart(a, b)
        await a.rig.unlink("gone")
        mine.forget_the_past()
        before = mine.chunks
        await mine.collector.collect()
        for _ in range(3):
            await mine.collector.step()
        assert mine.chunks == before
        assert [one.device for one in mine.collector.outstanding()] == [b.device.id]
        connect(nursery, a, b)
        await in_step(a, b)
        await theirs.collector.step()
        await in_step(a, b)
        await mine.collector.step()
        assert mine.is_done
        assert mine.chunks < before
        nursery.cancel_scope.cancel()


async def test_the_other_goes_on_holding_what_it_names_itself(autojump_clock: MockClock) -> None:
    """Each sweeps its own store alone: b still has the file's past."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a), Sweeper(b)
        await a.write("gone", LARGE)
        connect(nursery, a, b)
        await until(lambda: not a.peers.custody.tally().unsent and not a.peers.custody.is_counting)
        root = next(iter(a.peers.custody.content.content_roots()))[1]
        await a.rig.unlink("gone")
        mine.forget_the_past()
        await mine.collector.collect()
        await in_step(a, b)
        await theirs.collector.step()
        await in_step(a, b)
        await mine.collector.step()
        assert mine.is_done
        assert ContentReader(b.rig.volume.replica.chunks, root, len(LARGE)).absent() == []
        assert b.rig.volume.replica.journal.get_local(HOLD, a.device.id + root) is None
        nursery.cancel_scope.cancel()


async def test_an_edit_of_a_lazy_file_that_is_being_written_keeps_others_from_sweeping(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair() as (a, b, mine, theirs, _, nursery):
        handle = b.rig.open_file("large", 2)
        await b.rig.write_at(handle, 700_000, b"x" * 4096)
        # a replaces the file and sweeps what it was: b's edit builds on that.
        await a.write("large", OTHER)
        mine.forget_the_past()
        await mine.collector.collect()
        await in_step(a, b)
        await theirs.collector.step()
        assert theirs.collector.status().owed
        await in_step(a, b)
        await mine.collector.step()
        assert not mine.is_done
        b.rig.close_file(handle)
        nursery.start_soon(b.rig.volume.publisher.left_behind.run)
        await until_published(b)
        await in_step(a, b)
        await theirs.collector.step()
        await until(lambda: not theirs.collector.answers.due() or bool(theirs.collector.status().owed))
        contents = {await b.rig.fetch(name) for name in b.rig.listing("")}
        assert contents == {EDITED, OTHER}


async def test_an_edit_of_a_lazy_file_loses_nothing_when_the_holder_sweeps_what_it_replaced(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair() as (a, b, mine, theirs, _, nursery):
        nursery.start_soon(b.rig.volume.publisher.left_behind.run)
        await edited_lazily(a, b)
        await until_published(b)
        await in_step(a, b)
        mine.forget_the_past()
        theirs.forget_the_past()
        await mine.collector.collect()
        await settle(mine, theirs, done=lambda: mine.is_done)
        assert await read(a, "large") == EDITED
        assert await read(b, "large") == EDITED


async def test_a_names_only_replica_renames_what_the_holder_unlinks_and_sweeps(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair({"old": LARGE}) as (a, b, mine, theirs, cut, nursery):
        cut.close()
        await apart(a, b)
        await b.rig.rename("old", "new")
        await a.rig.unlink("old")
        mine.forget_the_past()
        await mine.collector.collect()
        for _ in range(3):
            await mine.collector.step()
        connect(nursery, a, b)
        await settle(mine, theirs, done=lambda: mine.is_done)
        assert a.rig.listing("") == ["new"]
        assert await read(b, "new") == LARGE


async def test_a_reflink_of_a_lazy_file_keeps_its_bytes_when_the_original_goes(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        sweepers = [Sweeper(side) for side in (a, b, c)]
        await on_demand(a)
        await a.write("original", LARGE)
        connect(nursery, a, b)
        connect(nursery, a, c)
        connect(nursery, b, c)
        await in_step(a, b, c)
        # b, which has none of the bytes, makes a second file of the same content.
        replica = b.rig.volume.replica
        version = replica.tree.version(b.rig.walk("original").ref)
        assert version is not None
        await b.write("copy", b"")
        with replica.change() as change:
            inode = b.rig.walk("copy")
            empty = replica.tree.version(inode.ref)
            assert empty is not None
            change.group.write(
                inode.id, NewVersion(*version[1:5]), replaces=(empty.dot,), stamp=replica.tree.tick()
            )
        await a.rig.unlink("original")
        for sweeper in sweepers:
            sweeper.forget_the_past()
        await sweepers[0].collector.collect()
        await settle(*sweepers, done=lambda: sweepers[0].is_done or not sweepers[0].collector.status().round)
        await in_step(a, b, c)
        for side in (a, b, c):
            assert await read(side, "copy") == LARGE
        nursery.cancel_scope.cancel()


async def test_what_is_named_by_a_manifest_that_is_not_here_keeps_everything(
    autojump_clock: MockClock,
) -> None:
    """b's edit names most of a's chunks in a list that only b has; nobody waits for b any more."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine = Sweeper(a)
        await on_demand(a)
        await a.write("large", LARGE)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        nursery.start_soon(b.rig.volume.publisher.left_behind.run)
        await edited_lazily(a, b)
        await until_published(b)
        await in_step(a, b)
        cut.close()
        await apart(a, b)
        with a.rig.volume.replica.change() as change:
            change.group.set_setting(
                rounds.RETIRED + b.device.id.hex(), rounds.encode(rounds.Retired(1, "a"))
            )
        mine.forget_the_past()
        before = mine.chunks
        await mine.collector.collect()
        assert mine.chunks == before
        assert "not known here" in mine.collector.status().problem
        connect(nursery, a, b)
        await settle(mine, done=lambda: bool(a.peers.open_sessions))
        await mine.collector.collect()
        assert mine.is_done
        assert await read(a, "large") == EDITED
        nursery.cancel_scope.cancel()
