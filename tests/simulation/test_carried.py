"""Small contents that the journal carries: one sync makes content and name durable."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError, DiskFull, DittoError
from dittofs.ids import ChunkId
from dittofs.journal.journal import Journal
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


async def after_power_cuts_without_room(
    patching: pytest.MonkeyPatch, error: DittoError
) -> AsyncIterator[tuple[int, SimulatedDisk, Rig, bytes]]:
    """One file each, carried, opened again while nothing can be put back, until `patching` is undone."""
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    await rig.write("f", data)
    await rig.publish()
    rig.volume.replica.journal.sync()
    lost = 0

    def fail(*_: object) -> None:
        raise error

    for seed in range(12):
        after = disk.fork()
        after.crash(seed)
        patching.setattr(ChunkStore, "put_sealed", fail)
        rig = Rig(after, seed=100 + seed, machine=AFTER)
        lost += is_absent(rig)
        yield seed, after, rig, data
    assert lost


@pytest.mark.logs_warning("a carried chunk cannot be put back")
@pytest.mark.parametrize("error", [DiskFull("no room"), DiskError("bad sector")])
async def test_what_could_not_be_put_back_at_opening_is_carried_until_it_is(
    error: DittoError, monkeypatch: pytest.MonkeyPatch
) -> None:
    async for seed, disk, rig, data in after_power_cuts_without_room(monkeypatch, error):
        await rig.volume.publisher.carried.settle()
        monkeypatch.undo()
        rig.volume.replica.journal.sync()
        disk.crash(seed)
        again = Rig(disk, seed=200 + seed, machine="machine/boot-3")
        assert again.read("f") == data
        await again.volume.publisher.carried.settle()
        assert carried(again) == []


@pytest.mark.logs_warning("a carried chunk cannot be put back")
async def test_what_could_not_be_put_back_at_opening_is_tried_again_without_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async for _, _, rig, data in after_power_cuts_without_room(monkeypatch, DiskFull("no room")):
        monkeypatch.undo()
        await rig.volume.publisher.carried.settle()
        assert rig.read("f") == data
        assert carried(rig) == []


async def test_a_chunk_that_went_and_came_again_while_the_packs_were_synced_is_still_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    await rig.write("f", data)
    await rig.publish()
    chunks = rig.volume.replica.chunks
    sync = ChunkStore.sync

    def sync_and_lose(store: ChunkStore) -> None:
        sync(store)
        for key in carried(rig):
            kind, chunk = ChunkKind(key[0]), ChunkId(key[1:])
            sealed = chunks.sealed(kind, chunk)
            chunks._lose(chunk)
            assert chunks.put_sealed([(kind, chunk, sealed)]) == [None]

    monkeypatch.setattr(ChunkStore, "sync", sync_and_lose)
    await rig.volume.publisher.carried.settle()
    assert len(carried(rig)) == 2
    monkeypatch.undo()
    await rig.volume.publisher.carried.settle()
    assert carried(rig) == []


@pytest.mark.logs_warning("a carried chunk is damaged")
async def test_a_damaged_row_goes_once_its_chunk_is_durable() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    data = os.urandom(4096)
    await rig.write("f", data)
    await rig.publish()
    journal = rig.volume.replica.journal
    with journal.transaction():
        sql = f"UPDATE local SET sum=zeroblob(16) WHERE kind='{KIND}'"
        journal._database.statements.run("test", sql)
    rig.abandon()
    disk.kill()
    rig = Rig(disk, seed=1)
    await rig.volume.publisher.carried.settle()
    rows = rig.volume.replica.journal._database.statements.rows("test", "SELECT kind FROM local")
    assert (KIND,) not in rows
    assert rig.read("f") == data


def is_absent(rig: Rig) -> bool:
    keys = carried(rig)
    assert keys
    return not all(rig.volume.replica.chunks.has(ChunkKind(key[0]), ChunkId(key[1:])) for key in keys)


@pytest.mark.logs_warning("what the journal carries cannot be settled")
@pytest.mark.parametrize("is_end", [False, True])
async def test_packs_that_cannot_be_synced_keep_nothing_else_from_the_platter(
    is_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    await rig.write("f", b"carried" * 500)
    await rig.publish()
    handle = rig.open_file("staged", os.O_RDWR | os.O_CREAT)
    data = os.urandom(1 << 20)
    await rig.write_at(handle, 0, data)

    def fail(_: ChunkStore) -> None:
        raise DiskError("what was written is lost")

    async def publish_nothing() -> None: ...

    monkeypatch.setattr(ChunkStore, "sync", fail)
    checkpoints: list[None] = []
    monkeypatch.setattr(Journal, "is_checkpoint_due", True)
    monkeypatch.setattr(Journal, "checkpoint", lambda _: checkpoints.append(None))
    if is_end:
        monkeypatch.setattr(rig.volume.publisher, "drain_all", publish_nothing)  # a front end gone for good
        await rig.volume.close()
    else:
        await rig.volume.background_sync()
        assert checkpoints
    monkeypatch.undo()
    for back in after_power_cuts(disk):
        assert back.read("staged") == data
        assert back.read("f") == b"carried" * 500


async def test_what_a_killed_process_could_not_sync_is_written_anew_before_its_row_goes() -> None:
    """After a failed sync its pages may count as clean: the next process reads what is not on the platter."""
    disk = SimulatedDisk()
    rig = Rig(disk)
    await rig.write("first", b"1")
    await rig.publish()
    await rig.volume.publisher.carried.settle()
    data = os.urandom(50_000)
    await rig.write("f", data)
    await rig.publish()
    rig.volume.replica.journal.sync()
    pack = next(event for event in disk.listdir("chunks") if event.endswith(".pack"))
    has_failed = False

    def die_after_the_failed_sync(event: str) -> None:
        nonlocal has_failed
        if has_failed:
            raise KeyboardInterrupt
        has_failed = event.startswith("sync ") and event.endswith(pack)

    disk.fail_path(f"chunks/{pack}", ("sync",))
    disk.hook = die_after_the_failed_sync
    with pytest.raises(BaseException):  # noqa: B017 - of whatever kind: the process is gone
        await rig.volume.publisher.carried.settle()
    assert has_failed
    disk.hook = None
    disk.fail_path(f"chunks/{pack}", ())
    disk.kill()
    back = Rig(disk, seed=5)
    assert back.read("f") == data
    await back.volume.publisher.carried.settle()
    back.volume.replica.journal.sync()
    for again in after_power_cuts(disk):
        assert again.read("f") == data


async def test_equal_contents_of_one_point_are_counted_once() -> None:
    rig = Rig(SimulatedDisk())
    for number in range(2 * BYTES_MAX // 60_000):
        data = os.urandom(60_000)
        await rig.write(f"a{number}", data)
        await rig.write(f"b{number}", data)
        await rig.publish()
        await rig.volume.publisher.carried.settle()
    for name in "cd":
        await rig.write(name, os.urandom(60_000))
    await rig.publish()
    assert carried(rig)
