"""The pack index: what was added is found, by whoever looks whenever."""

import random
import threading

import msgspec
import pytest

from dittofs.chunks.index import PackIndex
from dittofs.chunks.index_run import (
    PAGE_BYTES,
    PAGE_ENTRIES,
    IndexDamaged,
    Location,
    Run,
    decode_current,
    encode_current,
    encode_entry,
    write_run,
)
from dittofs.errors import DiskError, DiskFull
from dittofs.ids import ChunkId
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import noise

EVERYTHING = dict.fromkeys(range(1, 100), 1 << 31)


def some(count: int, seed: int = 1) -> dict[ChunkId, Location]:
    rng = random.Random(seed)
    return {ChunkId(rng.randbytes(32)): Location(1, 100 * n, 100, 1 + n % 3) for n in range(count)}


def add_all(index: PackIndex, entries: dict[ChunkId, Location]) -> None:
    for chunk, location in entries.items():
        index.add(chunk, location)


def save(index: PackIndex) -> None:
    index.leave(EVERYTHING)
    index.save({1: 5})


def test_files_are_the_published_bytes() -> None:
    assert (
        encode_current([2], {1: 1000}, []).hex()
        == "446974746f49647801000000000000089291028101cd03e8636125bec2f1e108"
    )
    assert encode_current([2], {1: 1000}, [3])[16:-8] == msgspec.msgpack.encode([[2], {1: 1000}, [3]])
    disk = SimulatedDisk()
    file = disk.open("r", create=True)
    write_run(file, [encode_entry(ChunkId(b"\x07" * 32), Location(1, 40, 600, 2))], 1)
    data = file.read(0, file.size())
    assert data[:60].hex() == (
        "83f688733de2289a0707070707070707070707070707070707070707070707070707070707070707"
        "0000000100000028000002580200000000000000"
    )
    assert data[60:PAGE_BYTES] == bytes(PAGE_BYTES - 60)
    assert data[PAGE_BYTES:].hex() == (
        "07070707070707070200000000000000446974746f52756e0106000000000001000000000000000195d8d20f8f35be74"
    )


@pytest.mark.parametrize("count", [1, PAGE_ENTRIES - 1, PAGE_ENTRIES, PAGE_ENTRIES + 1, 1000])
def test_what_was_saved_is_found_after_a_restart(count: int) -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    entries = some(count)
    add_all(index, entries)
    save(index)
    again = PackIndex.open(disk, "index")
    assert all(again.find(chunk) == location for chunk, location in entries.items())
    assert dict(again.entries()) == entries
    assert again.covered == {1: 5}
    assert not any(again.find(chunk) for chunk in some(500, seed=2))


def test_of_two_notes_the_later_counts_before_and_after_merges() -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    entries = some(200)
    for turn in range(5):
        moved = {
            chunk: Location(turn + 1, *rest)
            for chunk, (_, *rest) in entries.items()
            if chunk[1] % 2 or not turn
        }
        entries |= moved
        add_all(index, moved)
        assert all(index.find(chunk) == location for chunk, location in entries.items())
        save(index)
        assert all(index.find(chunk) == location for chunk, location in entries.items())
    assert dict(index.entries()) == entries


def test_runs_stay_few_however_many_are_saved() -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    for seed in range(60):
        add_all(index, some(20, seed))
        save(index)
    assert len(disk.listdir("index")) <= 6
    assert index.count == 1200


def test_entries_that_are_not_durable_stay_in_memory() -> None:
    """A run never names a frame that a power cut could take."""
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    entries = some(10)
    add_all(index, entries)
    index.leave({1: 500})
    index.save({1: 500})
    assert {location.offset for _, location in PackIndex.open(disk, "index").entries()} == {
        0,
        100,
        200,
        300,
        400,
    }
    assert index.recent_count == 5
    assert dict(index.entries()) == entries


@pytest.mark.parametrize("changes", range(8))
def test_a_save_that_fails_loses_nothing_and_can_be_done_again(changes: int) -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    entries = some(30)
    add_all(index, entries)
    disk.fail_after(changes)
    index.leave(EVERYTHING)
    try:
        index.save({1: 5})
    except (DiskError, DiskFull):
        index.stay()
    disk.fail_after(None)
    later = some(3, seed=9)
    add_all(index, later)
    assert dict(index.entries()) == entries | later
    save(index)
    assert dict(PackIndex.open(disk, "index").entries()) == entries | later


def test_a_lookup_that_began_before_a_merge_ends_well() -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    entries = some(300)
    add_all(index, entries)
    save(index)
    walk = index.entries()
    first = next(walk)
    for seed in range(5):
        add_all(index, some(300, 50 + seed))
        save(index)
    assert dict([first, *walk]) == entries
    index.find(first[0])
    assert len([name for name in disk.listdir("index") if name.endswith(".run")]) <= 2, "old runs are removed"


def test_threads_find_everything_while_runs_are_merged() -> None:
    disk = SimulatedDisk()
    index = PackIndex.create(disk, "index")
    lock = threading.Lock()
    known: list[ChunkId] = []
    missed: list[ChunkId] = []
    done = threading.Event()

    def look() -> None:
        rng = random.Random(1)
        while not done.is_set():
            if known:
                chunk = known[rng.randrange(len(known))]
                if index.find(chunk) is None:
                    missed.append(chunk)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(40):
        for chunk, location in some(50, seed).items():
            with lock:
                index.add(chunk, location)
            known.append(chunk)
        save(index)
    done.set()
    for thread in threads:
        thread.join()
    assert missed == []


def test_a_closed_index_does_not_answer_that_a_chunk_is_absent() -> None:
    index = PackIndex.create(SimulatedDisk(), "index")
    entries = some(5)
    add_all(index, entries)
    save(index)
    index.close()
    with pytest.raises(IndexDamaged):
        index.find(next(iter(entries)))


def test_ids_with_equal_beginnings_are_told_apart() -> None:
    """More of them than a page holds, so that several pages begin alike."""
    disk = SimulatedDisk()
    entries = {ChunkId(b"same.... " + noise(n, 23)): Location(1, n, 50, 1) for n in range(3 * PAGE_ENTRIES)}
    before = {ChunkId(b"safe" + noise(n, 28)): Location(1, n, 50, 1) for n in range(40)}
    file = disk.open("r", create=True)
    write_run(file, sorted(encode_entry(*entry) for entry in (entries | before).items()), len(entries))
    run = Run(disk.open("r"), "r")
    assert all(run.find(chunk) == location for chunk, location in (entries | before).items())


def test_an_id_that_lies_across_two_entries_is_not_found() -> None:
    disk = SimulatedDisk()
    one, two = ChunkId(b"\x01" * 32), ChunkId(b"\x02" * 32)
    entries = encode_entry(one, Location(1, 1, 1, 1)) + encode_entry(two, Location(1, 1, 1, 1))
    across = ChunkId(entries[20:52])
    file = disk.open("r", create=True)
    write_run(file, [entries[:45], entries[45:]], 1)
    run = Run(disk.open("r"), "r")
    run._filter = b"\xff" * len(run._filter)
    assert run.find(across) is None
    assert run.find(one)


@pytest.mark.parametrize(
    "bad", [b"", b"short", encode_current([1], {}, [])[:-1], encode_current([1], {}, []) + b"x"]
)
def test_a_list_of_runs_that_is_none_is_damaged(bad: bytes) -> None:
    with pytest.raises(IndexDamaged):
        decode_current(bad)
