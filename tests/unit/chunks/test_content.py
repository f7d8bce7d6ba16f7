"""Contents: any part is read back, and a change costs what it touches."""

import threading

import pytest

from dittofs.chunks.chunker import CHUNK_BYTES_MAX, SINGLE_BYTES_MAX, Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.manifest import CONTENT_BYTES_MAX, HOLE_BLOCK_BYTES, ManifestWriter
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.source import Extent
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import DiskError, FormatError
from dittofs.ids import ChunkId
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import MemorySource, noise, open_store

CDC = Chunking.CONTENT_DEFINED
BASE, DATA, HOLE = Extent.BASE, Extent.DATA, Extent.HOLE
LARGE = noise(5, 3 << 20)
HOLE_BYTES = 64 << 10


def stored(store: ChunkStore, data: bytes, chunking: Chunking = CDC) -> bytes:
    return store_content(store, MemorySource(data), b"", 0, chunking=chunking)


def edited(data: bytes, at: int, new: bytes) -> MemorySource:
    """`data` overwritten at `at`, growing if need be."""
    end = at + len(new)
    extents = [(0, at, BASE), (at, len(new), DATA), (end, len(data) - end, BASE)]
    return MemorySource(data[:at] + new + data[end:], [extent for extent in extents if extent[1] > 0])


@pytest.mark.parametrize("chunking", Chunking)
@pytest.mark.parametrize("size", [0, 1, SINGLE_BYTES_MAX, SINGLE_BYTES_MAX + 1, 300_000, 3 << 20])
def test_what_was_stored_is_read_back(size: int, chunking: Chunking) -> None:
    store = open_store(SimulatedDisk())
    data = LARGE[:size]
    reader = ContentReader(store, stored(store, data, chunking), size)
    assert reader.read(0, size) == data
    assert reader.read(size, 10) == b""
    for offset, length in ((0, 1), (size - 1, 5), (size // 2, 4096), (size // 3, size), (65_535, 2)):
        assert reader.read(max(offset, 0), length) == data[max(offset, 0) : max(offset, 0) + length]
    assert sum(length for _, length, _ in reader.chunks()) == size
    assert list(reader.extents()) == ([(0, size, DATA)] if size else [])
    assert reader.chunking == (chunking if size > SINGLE_BYTES_MAX else None)


def test_an_empty_content_has_an_empty_root() -> None:
    assert stored(open_store(SimulatedDisk()), b"") == b""


def test_equal_contents_have_equal_roots_and_are_stored_once() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    size = store.statistics().pack_bytes
    assert stored(store, LARGE) == root
    assert store.statistics().pack_bytes == size


def test_a_page_written_into_a_large_file_reads_and_stores_a_few_chunks() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    before = store.statistics().pack_bytes
    source = edited(LARGE, 1 << 20, noise(9, 4096))
    changed = store_content(store, source, root, len(LARGE), chunking=CDC)
    assert changed == stored(open_store(SimulatedDisk()), source.data)
    assert sum(length for _, length in source.reads) < 4 * CHUNK_BYTES_MAX
    assert store.statistics().pack_bytes - before < 3 * CHUNK_BYTES_MAX
    assert ContentReader(store, changed, len(LARGE)).read(0, len(LARGE)) == source.data


def test_chunks_far_from_a_change_need_not_be_here() -> None:
    """A file whose content is elsewhere is edited with the chunks around the edit alone."""
    full = open_store(SimulatedDisk())
    root = stored(full, LARGE)
    lazy = open_store(SimulatedDisk())
    for kind, chunk in full.ids():
        if kind is ChunkKind.MANIFEST:
            assert lazy.put_sealed([(kind, chunk, full.sealed(kind, chunk))]) == [None]
    source = edited(LARGE, 2 << 20, b"edit")
    changed = store_content(lazy, source, root, len(LARGE), chunking=CDC)
    assert changed == stored(full, source.data)
    reader = ContentReader(lazy, changed, len(LARGE))
    assert reader.read(2 << 20, 4) == b"edit"
    with pytest.raises(AbsentChunk) as caught:
        reader.read(0, 10)
    assert caught.value.chunk == next(reader.chunks())[2]


def test_leaves_that_did_not_change_are_reused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dittofs.chunks.manifest.ends_node", lambda count, chunk: count >= 2 and chunk[-1] % 2 == 0
    )
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    entries: list[int] = []
    leaves: list[int] = []
    add, add_leaf = ManifestWriter.add, ManifestWriter.add_leaf

    def noted(writer: ManifestWriter, length: int, chunk: ChunkId | None) -> None:
        entries.append(length)
        add(writer, length, chunk)

    def noted_leaf(writer: ManifestWriter, length: int, leaf: ChunkId) -> None:
        leaves.append(length)
        add_leaf(writer, length, leaf)

    monkeypatch.setattr(ManifestWriter, "add", noted)
    monkeypatch.setattr(ManifestWriter, "add_leaf", noted_leaf)
    source = edited(LARGE, 1 << 20, b"here")
    changed = store_content(store, source, root, len(LARGE), chunking=CDC)
    assert len(entries) < 16
    assert len(leaves) > 4
    assert sum(entries) + sum(leaves) == len(LARGE)
    assert changed == stored(store, source.data)


@pytest.mark.parametrize("least", [2, 3, 4])
def test_leaves_are_reused_only_where_they_would_be_written(
    least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change anywhere may move the ends of leaves: the tree is still that of one write."""
    monkeypatch.setattr(
        "dittofs.chunks.manifest.ends_node",
        lambda count, chunk: count == 6 or (count >= least and chunk is not None and chunk[-1] % 2 == 0),
    )
    store = open_store(SimulatedDisk())
    size = len(LARGE)
    root = stored(store, LARGE)
    places = [offset for offset, _, _ in ContentReader(store, root, size).chunks()]
    for n, offset in enumerate(places):
        for new in (b"x", noise(n, 40_000)[: size - offset]):
            source = edited(LARGE, min(offset + 10, size - len(new)), new)
            assert store_content(store, source, root, size, chunking=CDC) == stored(store, source.data)
    for end in places[2:]:
        root = stored(store, LARGE[:end])
        extents = [(0, end, BASE), (end, HOLE_BYTES, HOLE)]
        grown = MemorySource(LARGE[:end] + bytes(HOLE_BYTES), extents)
        anew = MemorySource(grown.data, [(0, end, DATA), (end, HOLE_BYTES, HOLE)])
        changed = store_content(store, grown, root, end, chunking=CDC)
        assert changed == store_content(store, anew, b"", 0, chunking=CDC)


def test_an_append_reads_the_last_chunk_and_no_more() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    source = edited(LARGE, len(LARGE), noise(6, 5000))
    *_, (last, length, _) = ContentReader(store, root, len(LARGE)).chunks()
    assert store_content(store, source, root, len(LARGE), chunking=CDC) == stored(store, source.data)
    assert [read for read in source.reads if read[0] < len(LARGE)] == [(last, length)]


@pytest.mark.parametrize("size", [2 << 20, (2 << 20) + 1, 70_000, SINGLE_BYTES_MAX, 5])
def test_a_truncated_file_is_what_it_would_be_if_written_so(size: int) -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    source = MemorySource(LARGE[:size], [(0, size, BASE)])
    assert store_content(store, source, root, len(LARGE), chunking=CDC) == stored(store, LARGE[:size])
    assert sum(length for _, length in source.reads) <= CHUNK_BYTES_MAX


def test_a_cut_at_the_first_changed_byte_is_looked_at_again() -> None:
    """The cutter looks at the byte after a cut, so a chunk in front of a change may end elsewhere."""
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    for offset, _, _ in list(ContentReader(store, root, len(LARGE)).chunks())[1:20]:
        for value in range(3):
            source = edited(LARGE, offset, bytes([value]) * 2)
            changed = store_content(store, source, root, len(LARGE), chunking=CDC)
            assert changed == stored(store, source.data)


class TestHoles:
    def test_a_terabyte_of_nothing_costs_a_few_hundred_bytes(self) -> None:
        store = open_store(SimulatedDisk())
        for size in (1 << 40, CONTENT_BYTES_MAX):
            before = store.statistics().pack_bytes
            source = _Sparse(size, [(0, 1 << 30, HOLE), (1 << 30, 4096, DATA), ((1 << 30) + 4096, 0, HOLE)])
            root = store_content(store, source, b"", 0, chunking=CDC)
            assert store.statistics().pack_bytes - before < 1000
            reader = ContentReader(store, root, size)
            assert reader.read((1 << 30) - 2, 6) == b"\0\0zzzz"
            assert reader.read(size - 10, 100) == bytes(10)
            assert list(reader.extents()) == [
                (0, 1 << 30, HOLE),
                (1 << 30, 4096, DATA),
                ((1 << 30) + 4096, size - (1 << 30) - 4096, HOLE),
            ]
            assert list(reader.extents(1 << 31)) == list(reader.extents())[2:]

    @pytest.mark.parametrize(
        ("start", "length", "is_kept"),
        [
            (25 * HOLE_BLOCK_BYTES, HOLE_BLOCK_BYTES, True),
            (25 * HOLE_BLOCK_BYTES, HOLE_BLOCK_BYTES - 1, False),
            (25 * HOLE_BLOCK_BYTES - 1, HOLE_BLOCK_BYTES, False),
            (25 * HOLE_BLOCK_BYTES - 1, HOLE_BLOCK_BYTES + 1, True),
            (25 * HOLE_BLOCK_BYTES + 1, 2 * HOLE_BLOCK_BYTES - 2, False),
            (25 * HOLE_BLOCK_BYTES + 1, 2 * HOLE_BLOCK_BYTES - 1, True),
        ],
    )
    def test_a_hole_is_kept_if_a_whole_block_lies_in_it(self, start: int, length: int, is_kept: bool) -> None:
        store = open_store(SimulatedDisk())
        head, tail = noise(1, start), noise(2, 100_000)
        data = head + bytes(length) + tail
        end = start + length
        source = MemorySource(data, [(0, start, DATA), (start, length, HOLE), (end, len(tail), DATA)])
        root = store_content(store, source, b"", 0, chunking=CDC)
        reader = ContentReader(store, root, len(data))
        assert reader.read(0, len(data)) == data
        extents = [(0, start, DATA), (start, length, HOLE), (end, len(tail), DATA)]
        assert list(reader.extents()) == (extents if is_kept else [(0, len(data), DATA)])

    @pytest.mark.parametrize(
        ("start", "is_kept"), [(25 * 4096, True), (25 * 4096 + 1, False), (25 * 4096 - 9, True)]
    )
    def test_the_last_block_counts_as_whole_with_what_there_is_of_it(self, start: int, is_kept: bool) -> None:
        store = open_store(SimulatedDisk())
        size = 25 * HOLE_BLOCK_BYTES + 100
        source = MemorySource(
            noise(1, start) + bytes(size - start), [(0, start, DATA), (start, size - start, HOLE)]
        )
        reader = ContentReader(store, store_content(store, source, b"", 0, chunking=CDC), size)
        assert reader.read(0, size) == source.data
        assert [what for _, _, what in reader.extents()] == [DATA, HOLE][: 1 + is_kept]

    def test_a_write_into_a_hole_and_a_hole_over_data(self) -> None:
        store = open_store(SimulatedDisk())
        size = 1 << 20
        empty = store_content(store, MemorySource(bytes(size), [(0, size, HOLE)]), b"", 0, chunking=CDC)
        source = edited(bytes(size), 500_000, b"island")
        island = store_content(store, source, empty, size, chunking=CDC)
        reader = ContentReader(store, island, size)
        assert reader.read(0, size) == source.data
        assert [extent for _, _, extent in reader.extents()] == [HOLE, DATA, HOLE]
        punched = MemorySource(
            bytes(size), [(0, 400_000, BASE), (400_000, 200_000, HOLE), (600_000, size - 600_000, BASE)]
        )
        assert store_content(store, punched, island, size, chunking=CDC) == empty

    def test_a_file_extended_by_truncate_ends_in_a_hole(self) -> None:
        store = open_store(SimulatedDisk())
        root = stored(store, LARGE)
        for growth in (10, HOLE_BYTES, 1 << 30):
            source = _Sparse(len(LARGE) + growth, [(0, len(LARGE), BASE), (len(LARGE), growth, HOLE)], LARGE)
            grown = store_content(store, source, root, len(LARGE), chunking=CDC)
            reader = ContentReader(store, grown, len(LARGE) + growth)
            assert reader.read(len(LARGE) - 5, 10 + 5) == LARGE[-5:] + bytes(10)


def test_another_chunking_cuts_everything_anew() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE)
    source = MemorySource(LARGE, [(0, len(LARGE), BASE)])
    fixed = store_content(store, source, root, len(LARGE), chunking=Chunking.FIXED)
    assert fixed == stored(store, LARGE, Chunking.FIXED)
    assert {length for _, length, _ in ContentReader(store, fixed, len(LARGE)).chunks()} == {65_536}


def test_many_pages_written_at_random_into_fixed_chunks_store_only_these() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, LARGE, Chunking.FIXED)
    before = store.statistics().pack_bytes
    source = edited(LARGE, 65_536 * 7, noise(3, 4096))
    changed = store_content(store, source, root, len(LARGE), chunking=Chunking.FIXED)
    assert changed == stored(store, source.data, Chunking.FIXED)
    assert sum(length for _, length in source.reads) == 65_536
    assert store.statistics().pack_bytes - before < 2 * 65_536


def test_a_source_that_gives_too_little_is_an_error() -> None:
    class Short(MemorySource):
        def read(self, offset: int, length: int) -> bytes:
            return super().read(offset, length)[:-1]

    for size in (100, 1 << 20):
        with pytest.raises(DiskError):
            store_content(open_store(SimulatedDisk()), Short(LARGE[:size]), b"", 0, chunking=CDC)


def test_a_chunk_of_another_length_than_its_place_is_refused() -> None:
    store = open_store(SimulatedDisk())
    root = stored(store, b"twelve bytes")
    with pytest.raises(FormatError, match="12 bytes where 11"):
        ContentReader(store, root, 11).read(0, 11)


def test_a_large_file_is_stored_in_little_memory() -> None:
    """Nothing longer than a few mebibytes is asked for, whatever the size."""
    store = open_store(SimulatedDisk())
    source = _Sparse(96 << 20, [(0, 96 << 20, DATA)])
    store_content(store, source, b"", 0, chunking=CDC)
    assert source.largest <= 4 << 20


def test_a_reader_serves_several_threads() -> None:
    store = open_store(SimulatedDisk())
    reader = ContentReader(store, stored(store, LARGE), len(LARGE))
    wrong: list[int] = []

    def read(start: int) -> None:
        for at in range(start, len(LARGE), 50_000):
            if reader.read(at, 1000) != LARGE[at : at + 1000]:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(n * 7000,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class _Sparse:
    """A content too large for memory: `data`, then `z`. A last extent of length 0 is made to fit."""

    def __init__(self, size: int, extents: list[tuple[int, int, Extent]], data: bytes = b"") -> None:
        self.size = size
        self.largest = 0
        self._data = data
        offset, length, what = extents[-1]
        self._extents = [*extents[:-1], (offset, length or size - offset, what)]

    def extents(self) -> list[tuple[int, int, Extent]]:
        return self._extents

    def read(self, offset: int, length: int) -> bytes:
        self.largest = max(self.largest, length)
        return self._data[offset : offset + length].ljust(length, b"z")
