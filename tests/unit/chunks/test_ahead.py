"""What is cut before a content is whole becomes the same content; what is not used leaves nothing behind."""

from dataclasses import replace

import pytest

from dittofs.chunks import ahead
from dittofs.chunks.ahead import DIRECTORY as AHEAD
from dittofs.chunks.ahead import AheadPacks
from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.known import KnownChunks
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError, DiskFull
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import DIRECTORY, KEYS, MemorySource, noise, open_store

MIB = 1 << 20
DATA = noise(11, 3 * MIB)
STRAYS = f"{DIRECTORY}/{AHEAD}"


class Cutting:
    """A content in memory that is cut ahead of its end."""

    def __init__(self, store: ChunkStore, chunking: Chunking = Chunking.CONTENT_DEFINED) -> None:
        self.packs: AheadPacks = store.ahead.begin("content", chunking)
        self.known = KnownChunks()
        self.end = 0

    def cut(self, data: bytes, limit: int, step: int = MIB) -> "Cutting":
        """Cut from where it ended up to `limit`, in steps."""
        while self.end < limit:
            found = self.packs.cut(lambda low, high: data[low:high], self.end, min(limit, self.end + step))
            if not found:
                break
            for piece in found:
                self.known.add(*piece)
            self.end = self.known_end()
        return self

    def known_end(self) -> int:
        *_, (offset, length, _) = self.known
        return offset + length


def plain_root(data: bytes, extents: list[tuple[int, int, Extent]] | None = None) -> bytes:
    store = open_store(SimulatedDisk())
    return store_content(store, MemorySource(data, extents), b"", 0, chunking=Chunking.CONTENT_DEFINED)


def assert_holds(store: ChunkStore, root: bytes, data: bytes) -> None:
    assert ContentReader(store, root, len(data)).read(0, len(data)) == data


@pytest.mark.parametrize("chunking", Chunking)
@pytest.mark.parametrize("step", [300_000, MIB])
def test_a_content_cut_ahead_has_the_root_it_would_have_had(chunking: Chunking, step: int) -> None:
    store, other = open_store(SimulatedDisk()), open_store(SimulatedDisk())
    cutting = Cutting(store, chunking).cut(DATA, len(DATA) - 1000, step)
    assert cutting.end > len(DATA) - (300 << 10)
    source = MemorySource(DATA)
    known = cutting.packs.adopt(cutting.known)
    root = store_content(store, source, b"", 0, chunking=chunking, known=known)
    assert root == store_content(other, MemorySource(DATA), b"", 0, chunking=chunking)
    last = list(known)[-1][0]
    assert min(offset for offset, _ in source.reads) >= last, "what was cut is not read again"
    assert_holds(store, root, DATA)


@pytest.mark.parametrize("appended_at", [1_000_000, 2 * MIB])
def test_what_is_cut_behind_a_base_meets_its_cuts(appended_at: int) -> None:
    store = open_store(SimulatedDisk())
    base = DATA[:appended_at]
    root = store_content(store, MemorySource(base), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    cutting = Cutting(store)
    cutting.end = appended_at
    cutting.cut(DATA, len(DATA) - 1000)
    extents = [(0, appended_at, Extent.BASE), (appended_at, len(DATA) - appended_at, Extent.DATA)]
    source = MemorySource(DATA, extents)
    known = cutting.packs.adopt(cutting.known)
    longer = store_content(store, source, root, appended_at, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert longer == plain_root(DATA)
    assert sum(length for _, length in source.reads) < 2 * MIB, "most of what was cut is not read again"
    assert_holds(store, longer, DATA)


def test_a_base_or_a_hole_may_follow_what_was_cut() -> None:
    store = open_store(SimulatedDisk())
    base = store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    written = 2 * MIB
    new = noise(12, written) + DATA[written:]
    cutting = Cutting(store).cut(new, written)
    extents = [(0, written, Extent.DATA), (written, len(DATA) - written, Extent.BASE)]
    known = cutting.packs.adopt(cutting.known)
    source = MemorySource(new, extents)
    root = store_content(store, source, base, len(DATA), chunking=Chunking.CONTENT_DEFINED, known=known)
    assert root == plain_root(new)
    sparse = new[:written] + bytes(MIB)
    holed = [(0, written, Extent.DATA), (written, MIB, Extent.HOLE)]
    source = MemorySource(sparse, holed)
    root = store_content(store, source, b"", 0, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert root == plain_root(sparse, holed)
    assert_holds(store, root, sparse)


@pytest.mark.parametrize("place", [0, 100_000, MIB, 2 * MIB + 5, 3 * MIB - 1])
@pytest.mark.parametrize("length", [1, 5_000, 700_000])
def test_what_was_rewritten_behind_the_cut_is_cut_anew(place: int, length: int) -> None:
    store = open_store(SimulatedDisk())
    cutting = Cutting(store).cut(DATA, len(DATA))
    new = (DATA[:place] + noise(13, length) + DATA[place + length :])[: len(DATA)]
    cutting.known.forget(place, place + length)
    source = MemorySource(new)
    known = cutting.packs.adopt(cutting.known)
    root = store_content(store, source, b"", 0, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert root == plain_root(new)
    assert_holds(store, root, new)


def test_a_content_that_became_short_knows_nothing() -> None:
    store = open_store(SimulatedDisk())
    cutting = Cutting(store).cut(DATA, MIB)
    short = DATA[:40_000]
    cutting.known.forget(len(short), len(DATA))
    known = cutting.packs.adopt(cutting.known)
    root = store_content(store, MemorySource(short), b"", 0, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert_holds(store, root, short)


def test_what_the_store_had_is_not_stored_twice_and_is_asked_for_again() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    cutting = Cutting(store).cut(DATA, len(DATA))
    assert not disk.listdir(STRAYS), "nothing was new"
    lost = next(chunk for _, _, chunk in cutting.known)
    store._lose(lost)
    known = cutting.packs.adopt(cutting.known)
    assert len(known) == len(cutting.known) - 1
    root = store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert store.has(ChunkKind.DATA, lost)
    assert_holds(store, root, DATA)


def test_what_is_given_back_leaves_neither_files_nor_chunks() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    free = disk.free_bytes()
    cutting = Cutting(store).cut(DATA, len(DATA))
    assert disk.free_bytes() < free - 2 * MIB
    cutting.packs.empty()
    assert disk.free_bytes() == free, "the room is there while somebody may still be cutting"
    cutting.packs.give_back()
    assert not disk.listdir(STRAYS)
    assert not list(store.ids())


def test_packs_that_were_finished_give_their_room_back_as_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PACK_BYTES_MAX", MIB // 2)
    disk = SimulatedDisk()
    store = open_store(disk)
    free = disk.free_bytes()
    cutting = Cutting(store).cut(DATA, len(DATA))
    assert len(disk.listdir(STRAYS)) == 3
    cutting.packs.empty()
    assert disk.free_bytes() == free
    cutting.packs.give_back()
    assert not disk.listdir(STRAYS)


def test_a_pack_has_nothing_of_a_file_that_was_left_under_its_name() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    first = Cutting(store).cut(DATA, len(DATA))
    (left,) = disk.listdir(STRAYS)
    long = disk.open(f"{STRAYS}/{left}").size()
    second = Cutting(store).cut(noise(12, MIB), MIB)
    assert disk.open(f"{STRAYS}/{left}").size() < long // 2
    known = second.packs.adopt(second.known)
    assert len(known)
    disk.kill()
    again = open_store(disk)
    assert not again.notes
    assert {chunk for _, chunk in again.ids()} == {chunk for _, _, chunk in known}
    first.packs.give_back()


def test_a_pack_of_waste_is_given_back_and_cut_again() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    cutting = Cutting(store).cut(DATA, len(DATA))
    cutting.known.forget(0, 2 * MIB)
    assert not len(cutting.packs.adopt(cutting.known))
    assert not disk.listdir(STRAYS)
    assert not list(store.ids())


def test_what_a_dead_process_cut_ahead_goes_at_the_next_start() -> None:
    disk = SimulatedDisk()
    Cutting(open_store(disk)).cut(DATA, len(DATA))
    assert disk.listdir(STRAYS)
    disk.kill()
    store = open_store(disk)
    assert not disk.listdir(STRAYS)
    assert not store.notes


def test_appending_goes_on_behind_what_was_adopted() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    before = store.put([(ChunkKind.DATA, b"before")])
    cutting = Cutting(store).cut(DATA, len(DATA))
    known = cutting.packs.adopt(cutting.known)
    after = store.put([(ChunkKind.DATA, b"after")])
    store.sync()
    disk.crash(3)
    again = open_store(disk)
    assert not again.notes
    chunks = [*before, *after, *(chunk for _, _, chunk in known)]
    assert all(again.has(ChunkKind.DATA, chunk) for chunk in chunks)
    assert [again.get(ChunkKind.DATA, one) for one in (*before, *after)] == [b"before", b"after"]


def test_a_power_cut_at_any_instant_of_an_adoption_leaves_a_sound_store() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    early = store.put([(ChunkKind.DATA, noise(1, 30_000))])
    store.sync()
    cutting = Cutting(store).cut(DATA, len(DATA))
    instants: list[SimulatedDisk] = []
    disk.hook = lambda _event: instants.append(disk.fork())
    known = cutting.packs.adopt(cutting.known)
    disk.hook = None
    instants.append(disk.fork())
    assert len(instants) >= 6
    for number, instant in enumerate(instants):
        for seed in range(4):
            forked = instant.fork()
            forked.crash(seed)
            again = open_store(forked)
            assert not again.notes, f"at {number}"
            assert again.get(ChunkKind.DATA, early[0]) == noise(1, 30_000)
            assert not forked.listdir(STRAYS)
            for kind, chunk in again.ids():
                again.get(kind, chunk)
            if number == len(instants) - 1:
                assert all(again.has(ChunkKind.DATA, chunk) for _, _, chunk in known)


@pytest.mark.parametrize("event", ["rename", "sync_directory", "write", "sync"])
def test_an_adoption_that_fails_leaves_a_store_that_works(event: str) -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    cutting = Cutting(store).cut(DATA, len(DATA))
    count = 0

    def fail(told: str) -> None:
        nonlocal count
        if told.startswith(f"{event} "):
            count += 1
            raise DiskError("now")

    disk.hook = fail
    with pytest.raises(DiskError):
        cutting.packs.adopt(cutting.known)
    disk.hook = None
    assert count
    assert not disk.listdir(STRAYS)
    root = store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    store.sync()
    assert_holds(store, root, DATA)
    disk.kill()
    again = open_store(disk)
    assert not again.notes
    assert_holds(again, root, DATA)


def test_no_room_for_what_is_cut_leaves_the_store_as_it_was() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    disk.capacity = disk.total_bytes() - disk.free_bytes() + MIB
    cutting = Cutting(store)
    with pytest.raises(DiskFull):
        cutting.cut(DATA, len(DATA))
    cutting.packs.give_back()
    assert disk.free_bytes() == MIB
    store.put([(ChunkKind.DATA, noise(5, 500_000))])


def test_a_source_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(DiskError):
        Cutting(open_store(SimulatedDisk())).cut(DATA[:1000], MIB)


def test_what_is_adopted_while_a_round_of_garbage_is_open_is_claimed_and_stays() -> None:
    store = open_store(SimulatedDisk())
    cutting = Cutting(store).cut(DATA, len(DATA))
    garbage = store.garbage
    garbage.close_marks(garbage.begin_round())
    known = cutting.packs.adopt(cutting.known)
    assert all(garbage.was_claimed(chunk) for _, _, chunk in known), "what was told to others is kept"
    garbage.sweep(garbage.marks())
    assert all(store.has(ChunkKind.DATA, chunk) for _, _, chunk in known)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_put_before_an_adoption_is_durable_with_it(seed: int) -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    chunk = store.put([(ChunkKind.DATA, noise(4, 50_000))])[0]
    cutting = Cutting(store).cut(DATA, len(DATA))
    cutting.packs.adopt(cutting.known)
    disk.crash(seed)
    again = open_store(disk)
    assert again.get(ChunkKind.DATA, chunk) == noise(4, 50_000), "a start trusts all packs but the last"


def test_what_was_sealed_before_a_device_was_removed_is_sealed_anew() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    cutting = Cutting(store).cut(DATA, len(DATA))
    later = replace(
        KEYS, generations={**KEYS.generations, b"gen-0002": bytes(range(32))}, current=b"gen-0002"
    )
    store.renew_keys(later)
    known = cutting.packs.adopt(cutting.known)
    assert not len(known)
    assert not disk.listdir(STRAYS)
    store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED, known=known)
    assert {store.sealed(kind, chunk)[2:10] for kind, chunk in store.ids()} == {b"gen-0002"}


def test_a_start_on_a_disk_that_removes_nothing_is_a_start() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    chunk = store.put([(ChunkKind.DATA, b"kept")])[0]
    store.sync()
    Cutting(store).cut(DATA, len(DATA))
    disk.kill()

    def refuse(event: str) -> None:
        if event.startswith("unlink"):
            raise DiskError("now")

    disk.hook = refuse
    assert open_store(disk).get(ChunkKind.DATA, chunk) == b"kept"


def test_one_stray_that_cannot_be_removed_keeps_no_other() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    for name in ("one", "two", "three"):
        packs = store.ahead.begin(name, Chunking.CONTENT_DEFINED)
        packs.cut(lambda low, high: DATA[low:high], 0, MIB)
    stuck = disk.listdir(STRAYS)[0]
    disk.kill()

    def refuse(event: str) -> None:
        if event == f"unlink {STRAYS}/{stuck}":
            raise DiskError("now")

    disk.hook = refuse
    open_store(disk)
    assert disk.listdir(STRAYS) == [stuck]
