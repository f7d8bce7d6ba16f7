"""Garbage: what nothing names goes, and what anybody has named, claimed or stored meanwhile stays."""

import threading
from collections.abc import Iterable

import pytest

from dittofs.chunks.amount import Amount
from dittofs.chunks.check import Problem
from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.pack import pack_name
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.chunks.sweeping import Sweep
from dittofs.errors import DiskFull
from dittofs.ids import ChunkId
from tests.simulation.disk import SimulatedDisk

from .stores import noise, open_store

DATA = ChunkKind.DATA


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dittofs.chunks.appender", "dittofs.chunks.recovery"):
        monkeypatch.setattr(f"{module}.PACK_BYTES_MAX", 4000)
    monkeypatch.setattr("dittofs.chunks.compaction.GARBAGE_BYTES_MIN", 100)


def put_noise(store: ChunkStore, seeds: Iterable[int], size: int = 500) -> list[ChunkId]:
    """A chunk for each seed, in packs of about seven."""
    return [store.put([(DATA, noise(seed, size))])[0] for seed in seeds]


def begin(store: ChunkStore, named: Iterable[ChunkId]) -> Amount:
    """The first half of a round."""
    marks = store.garbage.begin_round()
    marks.update(named)
    return store.garbage.close_marks(marks)


def sweep(store: ChunkStore, named: Iterable[ChunkId]) -> Amount:
    """The second half."""
    marks = store.garbage.marks()
    marks.update(named)
    return store.garbage.sweep(marks)


def held(store: ChunkStore) -> set[ChunkId]:
    return {chunk for _, chunk in store.ids()}


def problems(store: ChunkStore) -> list[Problem]:
    return [finding for finding in store.verify() if isinstance(finding, Problem)]


def test_what_neither_mark_names_goes_and_all_else_stays() -> None:
    store = open_store(SimulatedDisk())
    ids = put_noise(store, range(60))
    found = begin(store, ids[:20])
    assert found.chunks == 40
    assert found.bytes > 40 * 500
    assert sweep(store, ids[10:30]) == Amount(30, 30 * found.bytes // 40)
    assert held(store) == set(ids[:30])
    for chunk in ids[30:]:
        with pytest.raises(AbsentChunk):
            store.sealed(DATA, chunk)


def test_a_swept_chunk_is_stored_again_when_it_comes_again() -> None:
    store = open_store(SimulatedDisk())
    (chunk,) = put_noise(store, [1])
    begin(store, [])
    sweep(store, [])
    assert put_noise(store, [1]) == [chunk]
    assert store.get(DATA, chunk) == noise(1, 500)


def test_compacting_gives_the_room_back_and_keeps_what_counts() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = put_noise(store, range(70))
    live = ids[::10]
    begin(store, live)
    sweep(store, live)
    before = store.statistics().pack_bytes
    went = list(store.garbage.compact())
    assert len(went) >= 9
    assert store.statistics().pack_bytes < before / 4
    assert [store.get(DATA, chunk) for chunk in live] == [noise(seed, 500) for seed in range(0, 70, 10)]
    assert problems(store) == []
    store.close()
    again = open_store(disk)
    assert again.notes == []
    assert held(again) == set(live)


def test_an_empty_volume_shrinks_to_one_pack_without_chunks() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    put_noise(store, range(30))
    begin(store, [])
    sweep(store, [])
    list(store.garbage.compact())
    assert store.statistics().pack_bytes < 100
    assert put_noise(store, [99])
    store.close()
    assert len(held(open_store(disk))) == 1


def test_a_pack_more_than_half_of_which_counts_is_left_alone() -> None:
    store = open_store(SimulatedDisk())
    ids = put_noise(store, range(70))
    live = [chunk for number, chunk in enumerate(ids) if number % 3]
    begin(store, live)
    sweep(store, live)
    assert list(store.garbage.compact()) == []


def test_a_chunk_put_again_during_a_round_is_not_swept() -> None:
    """It is here already, so only its name is taken: nothing but the touch shows that it is needed."""
    store = open_store(SimulatedDisk())
    first, second = put_noise(store, [1, 2])
    begin(store, [])
    put_noise(store, [1])
    assert sweep(store, []).chunks == 1
    assert store.has(DATA, first)
    assert not store.has(DATA, second)


def test_a_chunk_promised_during_a_round_is_not_swept() -> None:
    store = open_store(SimulatedDisk())
    (chunk,) = put_noise(store, [1])
    begin(store, [])
    assert store.claim(DATA, chunk)
    assert sweep(store, []) == Amount()


def test_what_was_put_before_a_round_and_is_named_after_it_is_kept_by_a_lease() -> None:
    store = open_store(SimulatedDisk())
    (chunk,) = put_noise(store, [1])
    with store.lease():
        put_noise(store, [1])  # found here, by a publication that takes long
        begin(store, [])
        assert sweep(store, []) == Amount()
        begin(store, [])
        assert sweep(store, []) == Amount()
    begin(store, [])
    assert sweep(store, []).chunks == 1
    assert not store.has(DATA, chunk)


def test_a_put_between_the_decision_and_the_new_index_stores_the_chunk_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The classic race: it was decided that the chunk goes, and somebody finds it while it is still there."""
    disk = SimulatedDisk()
    store = open_store(disk)
    first, second = put_noise(store, [1, 2])
    begin(store, [])
    kept = Sweep.kept

    def overtaken(self: Sweep, entries: Iterable[bytes]) -> Iterable[bytes]:
        monkeypatch.undo()
        writer = threading.Thread(target=put_noise, args=(store, [1]))
        writer.start()
        writer.join()
        return kept(self, entries)

    monkeypatch.setattr(Sweep, "kept", overtaken)
    assert sweep(store, []).chunks == 2
    assert store.get(DATA, first) == noise(1, 500)
    assert not store.has(DATA, second)
    store.close()
    assert held(open_store(disk)) == {first}


def test_a_put_right_before_the_decision_keeps_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It touches, the sweep decides, and only then it looks: what it finds stays."""
    store = open_store(SimulatedDisk())
    (chunk,) = put_noise(store, [1])
    begin(store, [])
    has = ChunkStore.has

    def overtaken(self: ChunkStore, kind: ChunkKind, one: ChunkId) -> bool:
        monkeypatch.undo()
        sweep(store, [])
        return has(self, kind, one)

    monkeypatch.setattr(ChunkStore, "has", overtaken)
    put_noise(store, [1])
    assert store.get(DATA, chunk) == noise(1, 500)


def test_a_reader_that_knows_where_a_chunk_lay_finds_it_where_it_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(SimulatedDisk())
    ids = put_noise(store, range(30))
    begin(store, ids[:1])
    sweep(store, ids[:1])
    read, losses = PackFiles.read, store.losses

    def overtaken(self: PackFiles, number: int, offset: int, size: int) -> bytes:
        monkeypatch.setattr(PackFiles, "read", read)
        assert list(store.garbage.compact())
        assert not self._disk.exists(f"chunks/{pack_name(number)}")
        return read(self, number, offset, size)

    monkeypatch.setattr(PackFiles, "read", overtaken)
    assert store.sealed(DATA, ids[0])
    assert store.losses == losses


def test_a_round_outlives_a_restart_in_order_with_all_that_was_touched() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    first, second = put_noise(store, [1, 2])
    begin(store, [])
    put_noise(store, [1])
    store.close()
    again = open_store(disk)
    assert again.garbage.candidates == 2
    assert sweep(again, []).chunks == 1
    assert held(again) == {first}
    assert second not in held(again)


@pytest.mark.parametrize("end", ["kill", "crash"])
def test_a_round_does_not_outlive_a_process_that_died(end: str) -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    put_noise(store, [1, 2])
    begin(store, [])
    store.close()
    store = open_store(disk)
    assert store.garbage.candidates == 2
    disk.kill() if end == "kill" else disk.crash(1)
    assert open_store(disk).garbage.candidates is None


def test_without_room_nothing_is_swept_and_nothing_lost() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = put_noise(store, range(30))
    begin(store, ids[:15])
    disk.capacity = 0
    with pytest.raises(DiskFull):
        sweep(store, ids[:15])
    assert held(store) == set(ids)
    disk.capacity = 1 << 40
    begin(store, ids[:15])
    assert sweep(store, ids[:15]).chunks == 15


def test_a_damaged_chunk_keeps_its_pack_from_being_removed() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = put_noise(store, range(12))
    store.sync()
    begin(store, ids[:1])
    sweep(store, ids[:1])
    file = disk.open("chunks/00000001.pack")
    file.write(300, b"?")
    file.close()
    list(store.garbage.compact())
    assert disk.exists("chunks/00000001.pack")
    assert [one.chunk for one in problems(store) if one.chunk] == ids[:1]


def test_a_filter_holds_all_that_was_added_and_little_else() -> None:
    added = [ChunkId(noise(seed, 32)) for seed in range(20_000)]
    found = IdFilter(len(added), offset=5)
    found.update(added)
    assert all(chunk in found for chunk in added)
    others = [noise(seed, 32) for seed in range(50_000, 70_000)]
    assert sum(chunk in found for chunk in others) < 200
    again = IdFilter.decode(found.encode())
    assert again is not None
    assert all(chunk in again for chunk in added)
    assert IdFilter.decode(found.encode()[:-1] + b"?") is None
