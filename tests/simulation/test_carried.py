"""Small contents that the journal carries: one sync makes content and name durable."""

import os
from collections.abc import Iterator

import pytest

from dittofs.chunks.seal import ChunkKind
from dittofs.ids import ChunkId
from dittofs.volume.carried import BYTES_MAX, FILES_MAX, KIND
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

AFTER = "machine/boot-2"


def carried(rig: Rig) -> list[bytes]:
    return [key for key, _ in rig.volume.replica.journal.scan_local(KIND, b"")]


def after_power_cuts(disk: SimulatedDisk) -> Iterator[Rig]:
    for seed in range(12):
        after = disk.fork()
        after.crash(seed)
        yield Rig(after, seed=100 + seed, machine=AFTER)


def packs_synced(events: list[str]) -> list[str]:
    return [event for event in events if event.startswith("sync ") and ".pack" in event]


@pytest.mark.parametrize("size", [1, 4096, 60_000])
async def test_one_sync_of_the_journal_makes_a_small_file_durable(size: int) -> None:
    events: list[str] = []
    disk = SimulatedDisk(hook=events.append)
    rig = Rig(disk)
    await rig.write("other", b"the first in its pack")
    await rig.publish()
    events.clear()
    data = os.urandom(size)
    await rig.write("f", data)
    await rig.publish()
    rig.volume.replica.journal.sync()
    assert packs_synced(events) == []
    for back in after_power_cuts(disk):
        assert back.volume.state.local.get(back.walk("f").ref[0]) is None  # it is in the tree
        assert back.read("f") == data
        node = back.volume.replica.tree.versions(back.walk("f").ref[0])[0].node
        assert back.volume.replica.chunks.get(ChunkKind.VERSION, ChunkId(node))


async def test_a_small_file_rewritten_again_and_again_is_what_it_was_when_the_journal_was_synced() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    for number in range(5):
        data = b"%d" % number * 3000
        await rig.write("f", data)
        await rig.publish()
        rig.volume.replica.journal.sync()
        for back in after_power_cuts(disk):
            assert back.read("f") == data


async def test_rows_go_once_the_packs_are_synced_and_not_before() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    await rig.write("f", data)
    await rig.publish()
    assert len(carried(rig)) == 2
    await rig.volume.publisher.carried.settle()
    assert carried(rig) == []
    rig.volume.replica.journal.sync()
    for back in after_power_cuts(disk):
        assert back.read("f") == data


async def test_what_somebody_else_stored_and_nobody_synced_is_carried_too() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    rig.volume.replica.chunks.put([(ChunkKind.DATA, data)])  # as a chunk that rode along with a peer's change
    await rig.write("f", data)
    await rig.publish()
    rig.volume.replica.journal.sync()
    for back in after_power_cuts(disk):
        assert back.read("f") == data


async def test_a_clean_end_leaves_nothing_to_carry() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    await rig.write("f", b"content")
    await rig.close()
    assert carried(Rig(disk)) == []


async def test_a_power_cut_after_a_power_cut_finds_it_still() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    await rig.write("f", data)
    await rig.publish()
    rig.volume.replica.journal.sync()
    disk.crash(1)
    Rig(disk, seed=1, machine=AFTER)  # opened, and nothing was synced of what it put back
    disk.crash(2)
    assert Rig(disk, seed=2, machine="machine/boot-3").read("f") == data


async def test_many_files_at_once_share_one_sync_of_the_pack_instead() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    for number in range(FILES_MAX + 1):
        await rig.write(f"f{number}", os.urandom(4096))
    await rig.publish()
    assert carried(rig) == []
    rig.volume.replica.journal.sync()
    for back in after_power_cuts(disk):
        assert len(back.read(f"f{FILES_MAX}")) == 4096


async def test_what_is_carried_is_bounded() -> None:
    rig = Rig(SimulatedDisk())
    for number in range(2 * BYTES_MAX // 60_000):
        await rig.write(f"f{number}", os.urandom(60_000))
        await rig.publish()
    assert sum(len(row) for _, row in rig.volume.replica.journal.scan_local(KIND, b"")) < 1.2 * BYTES_MAX
