"""What was is brought back while others sweep: whoever may name a chunk again has it, or is waited for."""

import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.content import ContentReader
from dittofs.errors import ChunkUnavailable
from dittofs.history.past import Pasts
from dittofs.history.restoring import Restoring
from dittofs.history.restoring_views import ViewRestoring
from dittofs.history.snapshots import SnapshotView, create_snapshot, delete_snapshot, find_snapshot
from dittofs.history.undo import Window
from dittofs.history.undoing import NOWHERE, slots_of, undo
from dittofs.history.views import Entries, ViewEntry
from dittofs.history.views import settled as in_time
from dittofs.identity.records import Role
from dittofs.ids import Stamp
from dittofs.local_disk import LocalDisk
from dittofs.replication import garbage_rounds as rounds
from dittofs.volume.events import PastContent
from tests.simulation.disk import SimulatedDisk
from tests.unit.identity.devices import DESKTOP, LAPTOP
from tests.unit.replication.pair import Side, connect, members_of, sides, until
from tests.unit.replication.sweeping import (
    EDITED,
    LARGE,
    OTHER,
    Sweeper,
    apart,
    in_step,
    lazy_pair,
    on_demand,
    settle,
    until_published,
)

DAY_S = 24 * 3600
Args = TypeVarTuple("Args")
Result = TypeVar("Result")


def past_of(side: Side, path: str, at: int) -> PastContent:
    past = Pasts(side.rig.volume.replica).of(side.rig.walk(path).id, at)
    assert past is not None
    assert past.main is not None
    return past.main


async def replaced(a: Side, b: Side, mine: Sweeper) -> int:
    """Both know that `large`, of which a has the bytes, was replaced; a alone has forgotten what it was."""
    await in_step(a, b)
    for side in (a, b):
        side.rig.clock.advance(60)
    at = b.rig.clock.now_ns()
    await a.write("large", OTHER)
    await in_step(a, b)
    mine.forget_the_past()
    return at


async def answered(a: Side, b: Side, mine: Sweeper, theirs: Sweeper) -> None:
    """a's round has b's answer, and all but the grace is over."""
    await mine.collector.collect()
    await in_step(a, b)
    await theirs.collector.step()
    await in_step(a, b)
    assert not mine.collector.outstanding()


async def test_what_was_gone_before_the_answer_comes_back_only_with_all_its_bytes(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair(grace_s=DAY_S) as (a, b, mine, theirs, cut, nursery):
        at = await replaced(a, b, mine)
        await answered(a, b, mine, theirs)
        cut.close()
        await apart(a, b)
        inode, past = b.rig.walk("large").id, past_of(b, "large", at)
        with pytest.raises(ChunkUnavailable):
            await Restoring(b.rig.volume).content(inode, past)
        connect(nursery, a, b)
        await in_step(a, b)
        assert (await Restoring(b.rig.volume).content(inode, past)).missing_bytes == 0
        for side in (a, b):
            side.rig.clock.advance(DAY_S + 1)
        await mine.collector.step()
        assert mine.is_done
        await in_step(a, b)
        assert [await side.rig.fetch("large") for side in (a, b)] == [LARGE, LARGE]


async def test_what_was_shown_after_the_answer_comes_back_at_once_and_is_swept_nowhere(
    autojump_clock: MockClock,
) -> None:
    files = {"large": LARGE, "gone": b"gone"}
    async with lazy_pair(files, grace_s=DAY_S) as (
        a,
        b,
        mine,
        theirs,
        cut,
        nursery,
    ):
        await a.rig.unlink("gone")
        await in_step(a, b)
        mine.forget_the_past()
        await answered(a, b, mine, theirs)
        at = await replaced(a, b, mine)
        cut.close()
        await apart(a, b)
        inode = b.rig.walk("large").id
        done = await Restoring(b.rig.volume).content(inode, past_of(b, "large", at))
        assert done.missing_bytes == len(LARGE)
        for side in (a, b):
            side.rig.clock.advance(DAY_S + 1)
        await mine.collector.step()
        assert mine.is_done
        await mine.collector.collect()
        connect(nursery, a, b)
        await settle(mine, theirs, done=lambda: not theirs.collector.answers.due())
        for side in (a, b):
            side.rig.clock.advance(DAY_S + 1)
        await settle(mine, theirs, done=lambda: mine.collector.status().round is None)
        assert [await side.rig.fetch("large") for side in (a, b)] == [LARGE, LARGE]


async def test_undo_leaves_what_others_may_have_swept_and_fetches_it_where_it_can(
    autojump_clock: MockClock,
) -> None:
    files = {"large": LARGE, "removed": LARGE[:300_000]}
    async with lazy_pair(files, grace_s=DAY_S) as (
        a,
        b,
        mine,
        theirs,
        cut,
        nursery,
    ):
        a.rig.clock.advance(10)
        since = a.rig.clock.now_ns()
        await a.rig.unlink("removed")
        await replaced(a, b, mine)
        await answered(a, b, mine, theirs)
        cut.close()
        await apart(a, b)
        window = Window(slots_of(b.rig.volume, "device 1"), Stamp(since), Stamp((1 << 62) - 1))

        async def run() -> set[tuple[str, str]]:
            may_fetch = bool(b.peers.open_sessions)
            steps = undo(b.rig.volume, "device 1", window, under=b"", dry_run=False, may_fetch=may_fetch)
            return {(step.kind, step.reason) async for step in steps}

        assert await run() == {("left", NOWHERE)}
        connect(nursery, a, b)
        await in_step(a, b)
        assert await run() == {("content", ""), ("back", "")}
        for side in (a, b):
            side.rig.clock.advance(DAY_S + 1)
        await mine.collector.step()
        assert mine.is_done
        await in_step(a, b)
        assert [await side.rig.fetch("large") for side in (a, b)] == [LARGE, LARGE]
        assert [await side.rig.fetch("removed") for side in (a, b)] == [LARGE[:300_000]] * 2


def slow(side: Side, work_begins_with: str) -> tuple[trio.Event, trio.Event]:
    """A disk that is busy with some work. Returns when that has begun, and what lets it go on."""
    replica = side.rig.volume.replica
    inline = replica.run_blocking
    begun, go = trio.Event(), trio.Event()

    async def run(work: Callable[[*Args], Result], /, *args: *Args) -> Result:
        if work.__qualname__.startswith(work_begins_with):
            begun.set()
            await go.wait()
        return await inline(work, *args)

    replica.run_blocking = run
    return begun, go


async def view_entries(view: SnapshotView, directory: ViewEntry) -> Entries:
    return await in_time(view.entries(directory))


def absent(side: Side, root: bytes, size: int) -> int:
    return len(ContentReader(side.rig.volume.replica.chunks, root, size).absent())


async def test_a_snapshot_that_is_being_taken_keeps_others_from_sweeping_what_it_will_name(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a, grace_s=DAY_S), Sweeper(b)
        await on_demand(a)
        a.rig.mkdir("d")
        await a.write("d/large", LARGE)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        cut.close()
        await apart(a, b)
        await a.write("d/large", OTHER)
        mine.forget_the_past()
        await mine.collector.collect()
        for side in (a, b):
            side.rig.clock.advance(DAY_S + 1)
        begun, go = slow(b, "_stored")
        replica = b.rig.volume.replica
        nursery.start_soon(create_snapshot, replica, b.rig.volume.publisher, "before")
        await begun.wait()
        connect(nursery, a, b)
        await in_step(a, b)
        await theirs.collector.step()
        assert theirs.collector.status().owed
        await mine.collector.step()
        assert not mine.is_done
        go.set()
        await until(lambda: find_snapshot(replica, "before") is not None)
        await theirs.collector.step()
        await in_step(a, b)
        assert not mine.collector.outstanding()
        await mine.collector.step()
        snapshot = find_snapshot(replica, "before")
        assert snapshot is not None
        view = SnapshotView(b.rig.volume.state, snapshot)
        directory = (await view_entries(view, view.top()))[b"d"]
        large = (await view_entries(view, directory))[b"large"]
        assert absent(a, large.root, large.size) == 0
        nursery.cancel_scope.cancel()


async def test_what_is_being_brought_back_out_of_a_snapshot_is_not_swept_though_that_is_deleted(
    autojump_clock: MockClock,
) -> None:
    async with sides() as (a,):
        sweeper = Sweeper(a)
        await a.write("large", LARGE)
        replica = a.rig.volume.replica
        snapshot = await create_snapshot(replica, a.rig.volume.publisher, "before")
        await a.rig.unlink("large")
        run = ViewRestoring(a.rig.volume, SnapshotView(a.rig.volume.state, snapshot)).run((), dry_run=True)
        async for _ in run:
            delete_snapshot(replica, "before")
            sweeper.forget_the_past()
            await sweeper.collector.collect()
            assert not sweeper.is_done
        await sweeper.collector.collect()
        assert sweeper.is_done


async def test_rows_from_before_an_answer_are_not_merged_with_later_ones(autojump_clock: MockClock) -> None:
    async with lazy_pair(grace_s=DAY_S) as (a, b, mine, theirs, cut, _):
        for side in (a, b):
            side.rig.clock.advance(7200)
        at = await replaced(a, b, mine)
        await answered(a, b, mine, theirs)
        await a.write("large", b"shown for a moment after the answer")
        await in_step(a, b)
        cut.close()
        await apart(a, b)
        b.rig.clock.advance(3 * DAY_S)
        past = past_of(b, "large", at)
        await b.rig.retention.thin()
        with pytest.raises(ChunkUnavailable):
            await Restoring(b.rig.volume).content(b.rig.walk("large").id, past)


# -- a device that was set back to a backup

RECORDS = members_of([(LAPTOP, Role.OWNER), (DESKTOP, Role.WRITER)])
Meeting = Callable[[Side, Side, trio.Nursery], Awaitable[None]]


async def meet(number: int, top: Path, do: Meeting) -> None:
    """Both devices run until `do` is done, then end cleanly."""
    made = [
        Side(device, RECORDS, label, LocalDisk(str(top / label)), seed=10 * number + index)
        for index, (device, label) in enumerate(((LAPTOP, "a"), (DESKTOP, "b")))
    ]
    async with trio.open_nursery() as nursery:
        for side in made:
            side.rig.clock.advance(1000 * number)
            nursery.start_soon(side.peers.run)
        await do(made[0], made[1], nursery)
        nursery.cancel_scope.cancel()
    for side in made:
        await side.rig.close()


async def in_step_again(a: Side, b: Side, nursery: trio.Nursery) -> None:
    """In step, though sessions end because a copy of a device has written too."""
    with trio.fail_after(600):
        while a.rig.volume.replica.root_digest() != b.rig.volume.replica.root_digest():
            if not (a.peers.open_sessions and b.peers.open_sessions):
                connect(nursery, a, b)
            await trio.sleep(5)


async def garbage(a: Side, number: int) -> None:
    await a.write("x", random.Random(number).randbytes(100_000))
    await a.rig.unlink("x")
    await a.rig.publish()


@pytest.mark.logs_warning("another copy of this device has written too")
async def test_answers_to_rounds_that_a_backup_does_not_know_count_for_none_of_its_own(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def first(a: Side, b: Side, nursery: trio.Nursery) -> None:
        await on_demand(a)
        await a.write("large", LARGE)
        connect(nursery, a, b)
        await in_step(a, b)

    async def lost(a: Side, b: Side, nursery: trio.Nursery) -> None:
        connect(nursery, a, b)
        mine, theirs = Sweeper(a), Sweeper(b)
        for number in range(3):
            await garbage(a, number)
            mine.forget_the_past()
            await mine.collector.collect()
            await settle(mine, theirs, done=lambda: mine.is_done)
            await in_step(a, b)

    async def set_back(a: Side, b: Side, nursery: trio.Nursery) -> None:
        mine, theirs = Sweeper(a), Sweeper(b)
        await garbage(a, 9)
        mine.forget_the_past()
        await mine.collector.collect()
        await in_step_again(a, b, nursery)
        assert mine.collector.outstanding()
        handle = b.rig.open_file("large", 2)
        await b.rig.write_at(handle, 700_000, b"x" * 4096)
        await a.write("large", OTHER)
        mine.forget_the_past()
        for _ in range(3):
            await mine.collector.collect()
            await in_step_again(a, b, nursery)
            await theirs.collector.step()
            await in_step_again(a, b, nursery)
        assert theirs.collector.status().owed
        b.rig.close_file(handle)
        nursery.start_soon(b.rig.volume.publisher.left_behind.run)
        await until_published(b)
        await in_step_again(a, b, nursery)
        assert {await b.rig.fetch(name) for name in b.rig.listing("")} == {EDITED, OTHER}

    await meet(1, tmp_path, first)
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    await meet(2, tmp_path, lost)
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "backup", tmp_path / "a")
    await meet(3, tmp_path, set_back)


@pytest.mark.logs_warning("another copy of this device has written too")
async def test_a_round_in_a_backup_ends_only_when_it_is_known_what_was_done_after_the_backup(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def begun(a: Side, b: Side, nursery: trio.Nursery) -> None:
        mine, theirs = Sweeper(a, grace_s=DAY_S), Sweeper(b)
        await on_demand(a)
        await a.write("removed", LARGE)
        connect(nursery, a, b)
        await in_step(a, b)
        await a.rig.unlink("removed")
        await in_step(a, b)
        mine.forget_the_past()
        await answered(a, b, mine, theirs)

    async def lost(a: Side, b: Side, nursery: trio.Nursery) -> None:
        connect(nursery, a, b)
        await a.write("again", LARGE)
        await in_step(a, b)

    async def set_back(a: Side, b: Side, nursery: trio.Nursery) -> None:
        mine = Sweeper(a, grace_s=DAY_S)
        for side in (a, b):
            side.rig.clock.advance(2 * DAY_S)
        assert mine.collector.status().round is not None
        assert not mine.collector.outstanding()
        await mine.collector.step()
        assert not mine.is_done
        await in_step_again(a, b, nursery)
        await mine.collector.collect()
        assert mine.is_done
        assert [await side.rig.fetch("again") for side in (a, b)] == [LARGE, LARGE]

    await meet(1, tmp_path, begun)
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    await meet(2, tmp_path, lost)
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "backup", tmp_path / "a")
    await meet(3, tmp_path, set_back)


async def test_a_round_that_was_begun_alone_asks_whoever_joined_since(autojump_clock: MockClock) -> None:
    a = Side(LAPTOP, RECORDS[:1], "a", SimulatedDisk(), seed=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.peers.run)
        mine = Sweeper(a, grace_s=DAY_S)
        await garbage(a, 1)
        mine.forget_the_past()
        await mine.collector.collect()
        assert not mine.collector.outstanding()
        a.members.add(RECORDS)
        a.rig.clock.advance(DAY_S + 1)
        await mine.collector.step()
        assert not mine.is_done
        assert [one.device for one in mine.collector.outstanding()] == [DESKTOP.id]
        announced = rounds.round_of(a.rig.volume.replica.tree.settings(), LAPTOP.id)
        assert len(announced) == rounds.NAME_BYTES
        nursery.cancel_scope.cancel()


async def test_who_may_only_read_names_nothing_again_that_was_gone_before_it_may_write(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair() as (a, b, mine, theirs, cut, _):
        at = await replaced(a, b, mine)
        replica = b.rig.volume.replica
        replica.refused = "this device may only read"
        await theirs.collector.step()
        replica.refused = None
        cut.close()
        await apart(a, b)
        with pytest.raises(ChunkUnavailable):
            await Restoring(b.rig.volume).content(b.rig.walk("large").id, past_of(b, "large", at))


@pytest.mark.logs_warning("this device was retired while it was away")
async def test_who_was_retired_names_nothing_again_that_was_gone_before_others_knew_of_its_return(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a), Sweeper(b)
        b.rig.volume.state.may_borrow = lambda: theirs.retirement.may_borrow
        await on_demand(a)
        await a.write("large", LARGE)
        connect(nursery, a, b)
        at = await replaced(a, b, mine)
        await mine.retirement.retire(b.device.id, 0)
        await in_step(a, b)
        await mine.collector.collect()
        assert mine.is_done
        inode, past = b.rig.walk("large").id, past_of(b, "large", at)
        for _ in range(2):
            with pytest.raises(ChunkUnavailable):
                await Restoring(b.rig.volume).content(inode, past)
            if not theirs.retirement.may_borrow:
                await theirs.retirement.rejoin()
                await settle(mine, theirs, done=lambda: theirs.retirement.may_borrow)
        nursery.cancel_scope.cancel()
