"""Damage to packs and index: named, everything whole is kept, nothing is silently wrong."""

import pytest

from dittofs.chunks.check import Problem
from dittofs.chunks.pack import FRAME_HEADER_BYTES, PACK_HEADER_BYTES, frame_header
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import Damaged
from dittofs.ids import ChunkId
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import DIRECTORY, noise, open_store

DATA = ChunkKind.DATA
PLAINS = [noise(n, 40 + 3 * n) for n in range(6)]
PACK = f"{DIRECTORY}/00000001.pack"
INDEX = f"{DIRECTORY}/index"


def filled() -> tuple[SimulatedDisk, list[ChunkId]]:
    """A disk with one pack of six chunks, closed in order."""
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = [store.put([(DATA, plain)])[0] for plain in PLAINS]
    store.close()
    disk.kill()
    return disk, ids


def size_of(disk: SimulatedDisk, path: str) -> int:
    return disk.open(path, read_only=True).size()


def truncate(disk: SimulatedDisk, path: str, size: int) -> None:
    file = disk.open(path)
    file.truncate(size)
    file.sync()
    disk.kill()


def without_index(disk: SimulatedDisk) -> None:
    for name in disk.listdir(INDEX):
        disk.unlink(f"{INDEX}/{name}")


def readable(store: ChunkStore, ids: list[ChunkId]) -> list[bool]:
    """Which chunks are got back; the others raise a named error and nothing else."""
    found = []
    for chunk, plain in zip(ids, PLAINS, strict=True):
        try:
            assert store.get(DATA, chunk) == plain
            found.append(True)
        except (AbsentChunk, Damaged) as error:
            assert chunk.hex() in str(error)
            found.append(False)
    return found


def lost_by_check(store: ChunkStore) -> set[ChunkId]:
    found = [finding for finding in store.verify() if isinstance(finding, Problem)]
    return {problem.chunk for problem in found if problem.chunk is not None}


def bits(size: int) -> list[tuple[int, int]]:
    """Every byte, with a bit that moves along."""
    return [(at, 1 << (at % 8)) for at in range(size)]


DISK, IDS = filled()
STARTS = [PACK_HEADER_BYTES]
for _plain in PLAINS:
    STARTS.append(STARTS[-1] + FRAME_HEADER_BYTES + 22 + 9 + 16 + len(_plain))


def test_the_layout_the_other_tests_rely_on() -> None:
    assert STARTS[-1] == size_of(DISK, PACK)
    assert readable(open_store(DISK.fork()), IDS) == [True] * 6


def test_a_flipped_bit_anywhere_in_a_chunk_costs_that_chunk_and_check_names_it() -> None:
    for at, mask in bits(STARTS[-1]):
        disk = DISK.fork()
        disk.damage(PACK, at, mask)
        hit = [n for n in range(6) if STARTS[n] + FRAME_HEADER_BYTES <= at < STARTS[n + 1]]
        store = open_store(disk)
        found = [finding for finding in store.verify() if isinstance(finding, Problem)]
        assert {problem.chunk for problem in found} - {None} == {IDS[n] for n in hit}, at
        assert found
        store = open_store(disk)
        assert readable(store, IDS) == [n not in hit for n in range(6)]
        # What comes again is stored again.
        for n in hit:
            assert not store.has(DATA, IDS[n])
            store.put([(DATA, PLAINS[n])])
        store.close()
        assert readable(open_store(disk), IDS) == [True] * 6


def test_without_an_index_a_flipped_bit_anywhere_costs_at_most_one_chunk() -> None:
    for at, mask in bits(STARTS[-1]):
        disk = DISK.fork()
        disk.damage(PACK, at, mask)
        without_index(disk)
        hit = [n for n in range(6) if STARTS[n] <= at < STARTS[n + 1]]
        store = open_store(disk)
        assert len(store.notes) == 2  # no index, and the damage
        assert readable(store, IDS) == [n not in hit for n in range(6)]
        for n in hit:
            assert store.put([(DATA, PLAINS[n])]) == [IDS[n]]
        store.close()
        assert readable(open_store(disk), IDS) == [True] * 6


def test_a_damaged_chunk_is_not_handed_to_a_peer() -> None:
    for at in range(STARTS[1], STARTS[2]):
        disk = DISK.fork()
        disk.damage(PACK, at, 4)
        store = open_store(disk)
        if at < STARTS[1] + FRAME_HEADER_BYTES:
            assert store.sealed(DATA, IDS[1]) == open_store(DISK.fork()).sealed(DATA, IDS[1])
        else:
            with pytest.raises(Damaged):
                store.sealed(DATA, IDS[1])


def test_a_pack_cut_anywhere_keeps_what_lies_before_and_names_the_rest() -> None:
    for size in range(STARTS[-1]):
        disk = DISK.fork()
        truncate(disk, PACK, size)
        whole = [STARTS[n + 1] <= size for n in range(6)]
        store = open_store(disk)
        assert any("shorter" in note for note in store.notes)
        assert lost_by_check(store) == {chunk for chunk, kept in zip(IDS, whole, strict=True) if not kept}
        assert readable(store, IDS) == whole
        store.put([(DATA, plain) for plain in PLAINS])
        store.close()
        assert size_of(disk, PACK) == size, "nothing is appended to a pack that lost its end"
        assert readable(open_store(disk), IDS) == [True] * 6


def test_a_pack_cut_anywhere_without_an_index_keeps_what_lies_before() -> None:
    for size in range(STARTS[-1]):
        disk = DISK.fork()
        without_index(disk)
        truncate(disk, PACK, size)
        store = open_store(disk)
        assert readable(store, IDS) == [STARTS[n + 1] <= size for n in range(6)]
        if size > PACK_HEADER_BYTES and size not in STARTS:
            store.put([(DATA, b"more")])
            assert size_of(disk, PACK) == size


def test_a_pack_that_is_gone_is_named_and_its_number_not_used_again() -> None:
    disk = DISK.fork()
    disk.unlink(PACK)
    store = open_store(disk)
    assert any("00000001.pack is gone" in note for note in store.notes)
    assert lost_by_check(store) == set(IDS)
    assert readable(store, IDS) == [False] * 6
    store.put([(DATA, plain) for plain in PLAINS])
    store.close()
    assert not disk.exists(PACK)
    assert readable(open_store(disk), IDS) == [True] * 6


def index_files() -> list[str]:
    return [f"{INDEX}/{name}" for name in DISK.listdir(INDEX)]


@pytest.mark.parametrize("path", index_files())
def test_a_flipped_bit_anywhere_in_the_index_is_mended_from_the_packs(path: str) -> None:
    for at, mask in bits(size_of(DISK, path)):
        disk = DISK.fork()
        disk.damage(path, at, mask)
        store = open_store(disk)
        assert readable(store, IDS) == [True] * 6, at
        assert any("rebuilt" in note for note in store.notes)


@pytest.mark.parametrize("path", index_files())
def test_an_index_file_that_is_gone_or_cut_is_mended_from_the_packs(path: str) -> None:
    for size in [-1, *range(0, size_of(DISK, path), 37)]:
        disk = DISK.fork()
        if size < 0:
            disk.unlink(path)
        else:
            truncate(disk, path, size)
        store = open_store(disk)
        assert readable(store, IDS) == [True] * 6
        store.close()
        assert open_store(disk).notes == []


def test_an_index_damaged_while_in_use_is_mended_at_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dittofs.chunks.store.RECENT_ENTRIES_MAX", 4)
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = [store.put([(DATA, plain)])[0] for plain in PLAINS]
    store.sync()
    for name in disk.listdir(INDEX):
        if name.endswith(".run"):
            for at in range(0, 4096, 64):
                disk.damage(f"{INDEX}/{name}", at, 0xFF)
    assert readable(store, ids) == [True] * 6
    assert [note for note in store.notes if "page" in note]
    assert store.put([(DATA, PLAINS[0])]) == ids[:1]
    store.close()
    assert open_store(disk).notes == []


def test_an_index_older_than_the_packs_is_completed() -> None:
    disk, ids = filled()
    old = {name: _content(disk, f"{INDEX}/{name}") for name in disk.listdir(INDEX)}
    store = open_store(disk)
    newer = store.put([(DATA, noise(n, 500)) for n in range(50, 60)])
    store.close()
    disk.kill()
    without_index(disk)
    for name, content in old.items():
        file = disk.open(f"{INDEX}/{name}", create=True)
        file.write(0, content)
    store = open_store(disk)
    assert store.notes == []
    assert readable(store, ids) == [True] * 6
    assert [store.get(DATA, chunk) for chunk in newer] == [noise(n, 500) for n in range(50, 60)]


def test_packs_older_than_the_index_are_never_written_where_the_index_points() -> None:
    """Packs restored from a backup beside a newer index: the index may point into what is new there."""
    disk, ids = filled()
    store = open_store(disk)
    late = store.put([(DATA, noise(70, 300))])
    store.close()
    disk.kill()
    truncate(disk, PACK, STARTS[-1])
    store = open_store(disk)
    assert not store.has(DATA, late[0])
    fresh = store.put([(DATA, noise(71, 300))])
    assert size_of(disk, PACK) == STARTS[-1]
    assert readable(store, ids) == [True] * 6
    assert store.get(DATA, fresh[0]) == noise(71, 300)
    assert not store.has(DATA, late[0])


def test_a_damaged_chunk_that_was_stored_again_counts_no_more() -> None:
    disk = DISK.fork()
    disk.damage(PACK, STARTS[2] + 90, 1)
    store = open_store(disk)
    with pytest.raises(Damaged, match=r"00000001\.pack at"):
        store.get(DATA, IDS[2])
    assert not store.has(DATA, IDS[2])
    store.put([(DATA, PLAINS[2])])
    store.close()
    store = open_store(disk)
    assert lost_by_check(store) == set()
    assert [f for f in store.verify() if isinstance(f, Problem)], "the damaged place is still told"
    without_index(disk)
    assert readable(open_store(disk), IDS) == [True] * 6


def test_a_frame_the_index_does_not_know_is_told() -> None:
    disk = DISK.fork()
    store = open_store(disk)
    store._index = type(store._index).create(disk, INDEX)
    found = [finding for finding in store.verify() if isinstance(finding, Problem)]
    assert len(found) == 6
    assert all("rebuild" in problem.detail for problem in found)
    store.rebuild_index()
    assert lost_by_check(store) == set()
    assert readable(store, IDS) == [True] * 6


def test_a_chunk_of_a_later_kind_is_kept_and_told() -> None:
    """What a newer program stored survives an older one."""
    disk = DISK.fork()
    later = ChunkId(noise(9, 32))
    sealed = b"\x01\x09" + noise(10, 80)
    disk.open(PACK).write(STARTS[-1], frame_header(later, sealed) + sealed)
    without_index(disk)
    store = open_store(disk)
    assert readable(store, IDS) == [True] * 6
    assert later not in {chunk for _, chunk in store.ids()}
    assert lost_by_check(store) == {later}
    store.close()
    assert size_of(disk, PACK) == STARTS[-1] + FRAME_HEADER_BYTES + len(sealed)


def test_an_unfinished_write_is_told_as_harmless() -> None:
    disk = DISK.fork()
    file = disk.open(PACK)
    file.write(STARTS[-1], b"DtFr and then the power went")
    store = open_store(disk)
    assert ["unfinished" in note for note in store.notes] == [True]
    found = [finding for finding in store.verify() if isinstance(finding, Problem)]
    assert [problem.is_harmless for problem in found] == [True]
    store.put([(DATA, b"next")])
    assert size_of(disk, PACK) == STARTS[-1] + 28
    store.close()
    for _ in range(2):
        store = open_store(disk)
        store.put([(DATA, b"and the next")])
        assert size_of(disk, PACK) == STARTS[-1] + 28


def _content(disk: SimulatedDisk, path: str) -> bytes:
    file = disk.open(path, read_only=True)
    return file.read(0, file.size())


def test_a_store_tells_when_something_that_was_there_is_lost_or_in_doubt() -> None:
    sound = open_store(DISK.fork())
    assert not sound.losses
    list(sound.verify())
    assert not sound.losses
    for spoil in (
        lambda disk: disk.unlink(PACK),
        lambda disk: truncate(disk, PACK, STARTS[3]),
        without_index,
    ):
        disk = DISK.fork()
        spoil(disk)
        assert open_store(disk).losses
    disk = DISK.fork()
    disk.damage(PACK, STARTS[2] + 90, 1)
    store = open_store(disk)
    heard: list[int] = []
    store.on_loss.append(lambda: heard.append(store.losses))
    list(store.verify())
    assert heard == [1]
    list(store.verify())
    assert heard == [1], "it is known already"
