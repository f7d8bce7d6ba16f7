"""What is cut before the end of a content is known becomes the same content."""

import pytest

from dittofs.chunks.ahead import Beginning, cut_ahead
from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import MemorySource, noise, open_store

DATA = noise(11, 6 << 20)


def cut(store: ChunkStore, data: bytes, start: int, end: int, chunking: Chunking) -> list[Beginning]:
    return cut_ahead(store, lambda low, high: data[low:high], start, end, chunking=chunking)


@pytest.mark.parametrize("chunking", Chunking)
def test_a_content_cut_ahead_in_any_steps_has_the_same_root(chunking: Chunking) -> None:
    store, other = open_store(SimulatedDisk()), open_store(SimulatedDisk())
    beginning: list[Beginning] = []
    end = 0
    for limit in (1 << 20, (1 << 20) + 1, 5_500_000):
        beginning += cut(store, DATA, end, limit, chunking)
        end = sum(length for length, _ in beginning)
        assert end <= limit
    assert end > 5 << 20
    source = MemorySource(DATA)
    root = store_content(store, source, b"", 0, chunking=chunking, beginning=beginning)
    assert root == store_content(other, MemorySource(DATA), b"", 0, chunking=chunking)
    assert min(offset for offset, _ in source.reads) == end, "what was cut is not read again"
    assert ContentReader(store, root, len(DATA)).read(0, len(DATA)) == DATA


def test_a_hole_or_a_base_behind_the_beginning_changes_nothing() -> None:
    store = open_store(SimulatedDisk())
    base = store_content(store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    written = 3 << 20
    new = noise(12, written) + DATA[written:]
    extents = [(0, written, Extent.DATA), (written, len(DATA) - written, Extent.BASE)]
    beginning = cut(store, new, 0, written, Chunking.CONTENT_DEFINED)
    root = store_content(
        store,
        MemorySource(new, extents),
        base,
        len(DATA),
        chunking=Chunking.CONTENT_DEFINED,
        beginning=beginning,
    )
    plain = store_content(
        open_store(SimulatedDisk()), MemorySource(new), b"", 0, chunking=Chunking.CONTENT_DEFINED
    )
    assert root == plain
    sparse = new[:written] + bytes(2 << 20)
    holed = [(0, written, Extent.DATA), (written, 2 << 20, Extent.HOLE)]
    root = store_content(
        store,
        MemorySource(sparse, holed),
        b"",
        0,
        chunking=Chunking.CONTENT_DEFINED,
        beginning=beginning,
    )
    assert ContentReader(store, root, len(sparse)).read(0, len(sparse)) == sparse


def test_a_chunk_of_the_beginning_that_is_not_here_is_cut_again() -> None:
    store = open_store(SimulatedDisk())
    elsewhere = cut(open_store(SimulatedDisk()), DATA, 0, 4 << 20, Chunking.CONTENT_DEFINED)
    root = store_content(
        store, MemorySource(DATA), b"", 0, chunking=Chunking.CONTENT_DEFINED, beginning=elsewhere
    )
    assert ContentReader(store, root, len(DATA)).read(0, len(DATA)) == DATA


def test_a_beginning_of_a_content_that_became_short_is_passed_over() -> None:
    store = open_store(SimulatedDisk())
    beginning = cut(store, DATA, 0, 1 << 20, Chunking.CONTENT_DEFINED)
    short = DATA[:40_000]
    root = store_content(
        store, MemorySource(short), b"", 0, chunking=Chunking.CONTENT_DEFINED, beginning=beginning
    )
    assert ContentReader(store, root, len(short)).read(0, len(short)) == short


def test_a_source_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(DiskError):
        cut(open_store(SimulatedDisk()), DATA[:1000], 0, 1 << 20, Chunking.FIXED)
