"""Any history of edits gives the content, and the root, that writing it in one go would give."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.manifest import HOLE_BLOCK_BYTES
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import MemorySource, open_store

SIZE_MAX = 1_500_000


@pytest.fixture(params=["nodes as they are", "small nodes"], scope="module", autouse=True)
def _nodes(request: pytest.FixtureRequest) -> Iterator[None]:
    """With nodes of two to eight entries a small content has many leaves, and levels."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small nodes":
            patch.setattr(
                "dittofs.chunks.manifest.ends_node",
                lambda count, chunk: count == 8 or (count >= 2 and chunk is not None and chunk[-1] % 4 == 0),
            )
        yield


_edge = st.sampled_from([1, 100, 4096, 8191, 8192, 65_535, 65_536, 65_537, 70_000, 262_144, 300_000])
_edit = st.tuples(
    st.sampled_from(["write", "write", "write", "punch", "truncate", "insert"]),
    st.integers(0, SIZE_MAX) | st.integers(0, SIZE_MAX // 4096).map(lambda block: 4096 * block),
    _edge | st.integers(1, 400_000),
    st.integers(0, 1 << 30),
)


class Model:
    """A file as bytes, with what differs from the content last stored."""

    def __init__(self) -> None:
        self.data = b""
        self.kinds = bytearray()  # one byte of content each: 0 base, 1 data, 2 hole

    def apply(self, what: str, at: int, length: int, seed: int) -> None:
        at = min(at, len(self.data))
        if what == "truncate":
            self._resize(min(at + length if seed % 2 else at, SIZE_MAX))
            return
        if what == "insert":  # what an editor does: everything behind moves, so everything behind is data
            new = random.Random(seed).randbytes(min(length, 5000))
            self.data = (self.data[:at] + new + self.data[at:])[:SIZE_MAX]
            self.kinds = self.kinds[:at] + bytearray(b"\1" * (len(self.data) - at))
            return
        end = min(at + length, SIZE_MAX)
        if end > len(self.data):
            self._resize(end)
        new = bytes(end - at) if what == "punch" else random.Random(seed).randbytes(end - at)
        self.data = self.data[:at] + new + self.data[end:]
        self.kinds[at:end] = (b"\2" if what == "punch" else b"\1") * (end - at)

    def extents(self) -> Iterator[tuple[int, int, Extent]]:
        names = (Extent.BASE, Extent.DATA, Extent.HOLE)
        at = 0
        while at < len(self.kinds):
            kind = self.kinds[at]
            rest = bytes(self.kinds[at:])
            length = len(rest) - len(rest.lstrip(bytes([kind])))
            yield at, length, names[kind]
            at += length

    def settle(self) -> None:
        self.kinds = bytearray(len(self.data))

    def _resize(self, size: int) -> None:
        growth = size - len(self.data)
        if growth < 0:
            self.data, self.kinds = self.data[:size], self.kinds[:size]
        else:
            self.data += bytes(growth)
            self.kinds += b"\2" * growth


def from_nothing(store: ChunkStore, model: Model, holes: list[tuple[int, int]], chunking: Chunking) -> bytes:
    """The root of the same content with the same holes, written in one go."""
    extents: list[tuple[int, int, Extent]] = []
    at = 0
    for start, length in [*holes, (len(model.data), 0)]:
        if start > at:
            extents.append((at, start - at, Extent.DATA))
        if length:
            extents.append((start, length, Extent.HOLE))
        at = start + length
    return store_content(store, MemorySource(model.data, extents), b"", 0, chunking=chunking)


def has_block(start: int, end: int, size: int) -> bool:
    block = range(start, end)[-start % HOLE_BLOCK_BYTES :][:HOLE_BLOCK_BYTES]
    return len(block) == HOLE_BLOCK_BYTES or (len(block) > 0 and block[-1] == size - 1)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(_edit, min_size=1, max_size=4), min_size=1, max_size=6), st.sampled_from(Chunking))
def test_a_history_of_edits_is_what_one_write_would_be(
    history: list[list[tuple[str, int, int, int]]], chunking: Chunking
) -> None:
    store = open_store(SimulatedDisk())
    model = Model()
    root, size = b"", 0
    for step in history:
        for edit in step:
            model.apply(*edit)
        source = MemorySource(model.data, list(model.extents()))
        root = store_content(store, source, root, size, chunking=chunking)
        size = len(model.data)
        model.settle()
        reader = ContentReader(store, root, size)
        assert reader.read(0, size) == model.data
        extents = list(reader.extents())
        assert sum(length for _, length, _ in extents) == size
        holes = [(offset, length) for offset, length, what in extents if what is Extent.HOLE]
        assert not any(any(model.data[at : at + length]) for at, length in holes)
        assert all(has_block(at, at + length, size) for at, length in holes)
        assert from_nothing(store, model, holes, chunking) == root


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, SIZE_MAX), st.data())
def test_any_part_is_read_as_it_was_written(seed: int, size: int, data: st.DataObject) -> None:
    store = open_store(SimulatedDisk())
    content = random.Random(seed).randbytes(size)
    root = store_content(store, MemorySource(content), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    reader = ContentReader(store, root, size)
    for _ in range(10):
        offset = data.draw(st.integers(0, SIZE_MAX + 10))
        length = data.draw(st.integers(0, 300_000))
        assert reader.read(offset, length) == content[offset : offset + length]
