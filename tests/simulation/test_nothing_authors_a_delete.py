"""What goes wrong with a disk or a mount never removes anything for others: only a user's own call does."""

import itertools
from collections.abc import Sequence

import pytest

from dittofs.errors import DittoError
from dittofs.tree.brake import Limits
from tests.simulation.disk import SimulatedDisk
from tests.simulation.pair import Pair
from tests.simulation.replica_rig import ReplicaRig, pull
from tests.simulation.rig import Rig, SimulatedClock

FILES = [f"d/file {number}" for number in range(12)]
PACK = "chunks/00000001.pack"
FEW = Limits(files_min=5)

pytestmark = pytest.mark.logs_warning(
    "index",
    "volume turned read-only",
    "saving failed",
    "publication failed",
    "background sync failed",
    "damage",
    "chunk store recovered",
)


async def filled() -> tuple[Pair, SimulatedDisk]:
    """Two devices that have the same; the disk of the second one."""
    disk = SimulatedDisk()
    pair = Pair(SimulatedDisk(), disk)
    pair.a.mkdir("d")
    for path in FILES:
        await pair.a.write(path, path.encode() * 100)
    await pair.settle()
    for path in FILES:
        await pair.b.fetch(path)
    return pair, disk


def removals(rig: Rig) -> list[str]:
    """What the history says was removed."""
    return [row.kind for row in rig.volume.replica.journal.history.since(0) if row.kind == "remove"]


def counts(rig: Rig) -> tuple[int, int]:
    found = rig.volume.replica.tree.counts()
    return found.files, found.directories


async def test_reads_that_fail_remove_nothing() -> None:
    pair, disk = await filled()
    pair.b.abandon()
    pair.b.open()  # nothing is in memory any more
    pair.connect()
    pair.from_a.is_gone = True
    disk.fail_path(PACK, ("read",))
    for path in FILES:
        with pytest.raises(DittoError):
            await pair.b.fetch(path)
    pair.b.volume.save()
    await pair.b.volume.background_sync()
    receive_all(pair)
    assert counts(pair.a) == counts(pair.b) == (12, 1)
    assert removals(pair.a) == removals(pair.b) == []


async def test_a_journal_that_cannot_be_written_removes_nothing() -> None:
    pair, disk = await filled()
    disk.fail_after(0)
    for path in FILES:
        with pytest.raises(DittoError):
            await pair.b.unlink(path)
    disk.fail_after(None)
    assert counts(pair.b) == (12, 1)
    assert pair.b.volume.replica.writability.try_again()
    await pair.settle()
    assert counts(pair.a) == (12, 1)
    assert removals(pair.a) == []


async def test_contents_that_are_evicted_or_lost_from_the_store_remove_nothing() -> None:
    pair, disk = await filled()
    pair.b.abandon()
    disk.unlink(PACK)
    pair.b.open()
    assert counts(pair.b) == (12, 1)
    receive_all(pair)
    assert counts(pair.a) == (12, 1)
    assert removals(pair.a) == []


def receive_all(pair: Pair) -> None:
    """Everything that the second device would say to the first."""
    a, b = pair.a.volume.replica, pair.b.volume.replica
    parts = [b.difference(number, state) for number, state in enumerate(a.states())]
    a.receive_round([part for part in parts if part is not None], b"b" * 32)


def test_a_disk_that_is_missing_or_empty_removes_nothing_from_others() -> None:
    clock = SimulatedClock()
    one, other = (ReplicaRig(name, seed=n, clock=clock) for n, name in enumerate(("one", "other"), 1))
    one.mkdir("d")
    for path in FILES:
        one.make(path, path.encode())
    pull(other, one)
    empty = ReplicaRig("other", seed=3, clock=clock)  # its directory was on a disk that is not there
    pull(one, empty)
    assert len(one.show()) == 13
    pull(empty, one)
    assert empty.show() == one.show()
    assert [row.kind for row in one.replica.journal.history.since(0) if row.kind == "remove"] == []


@pytest.mark.parametrize("decision", ["accept", "reject"])
def test_a_crash_at_any_point_keeps_the_rest_held_and_deciding_again_ends_it(decision: str) -> None:
    for crash_at in itertools.count(1):
        disk = SimulatedDisk()
        clock = SimulatedClock()
        one = ReplicaRig("one", seed=1, clock=clock)
        other = ReplicaRig("other", seed=2, disk=disk, clock=clock)
        other.tree.brake.limits = FEW
        one.mkdir("d")
        for path in FILES:
            one.make(path, path.encode())
        pull(other, one)
        before = other.show()
        for path in FILES:
            one.unlink(path)
        pull(other, one)
        other.replica.journal.sync()
        disk.fail_after(crash_at)
        is_over = decide(other, decision, sorted(other.tree.brake.holds.all))
        disk.fail_after(None)
        other.replica.chunks.close()
        other.replica.journal.abandon()
        disk.crash(crash_at)
        other.open()
        other.tree.brake.limits = FEW
        shown = other.show()
        assert shown == before or decision == "accept"
        held = other.tree.brake.holds.all
        if decision == "accept":
            assert len(shown) == len(held) + 1
        assert decide(other, decision, sorted(held))
        pull(one, other)
        pull(other, one)
        assert one.show() == other.show()
        assert len(one.show()) == (1 if decision == "accept" else 13)
        if is_over:
            return


def test_a_crash_at_any_point_while_a_batch_arrives_shows_everything_as_it_was() -> None:
    for crash_at in itertools.count(1):
        disk = SimulatedDisk()
        clock = SimulatedClock()
        one = ReplicaRig("one", seed=1, clock=clock)
        other = ReplicaRig("other", seed=2, disk=disk, clock=clock)
        other.tree.brake.limits = FEW
        one.mkdir("d")
        for path in FILES:
            one.make(path, path.encode())
        pull(other, one)
        other.replica.journal.sync()
        before = other.show()
        for path in FILES:
            one.unlink(path)
        disk.fail_after(crash_at)
        is_over = True
        try:
            pull(other, one)
            other.replica.journal.sync()
        except DittoError:
            is_over = False
        disk.fail_after(None)
        other.replica.chunks.close()
        other.replica.journal.abandon()
        disk.crash(crash_at)
        other.open()
        other.tree.brake.limits = FEW
        assert other.show() == before
        pull(other, one)
        assert other.show() == before
        assert len(other.tree.brake.holds.all) == len(FILES)
        if is_over:
            return


def decide(rig: ReplicaRig, decision: str, inodes: Sequence[str]) -> bool:
    """One group each three inodes. False: the disk failed."""
    try:
        for start in range(0, len(inodes), 3):
            batch = inodes[start : start + 3]
            if decision == "accept":
                rig.replica.show_held(batch)  # type: ignore[arg-type]
            else:
                with rig.group() as group:
                    for inode in batch:
                        group.take_back(inode)  # type: ignore[arg-type]
            rig.replica.journal.sync()
    except DittoError:
        return False
    return True
