"""Where a content has bytes, and where it has nothing: SEEK_DATA and SEEK_HOLE (lseek(2))."""

from collections.abc import Iterator

from dittofs.chunks.content import ContentReader
from dittofs.chunks.source import Extent
from dittofs.volume.staging import Base, Layer

BLOCK_BYTES = 4096
"""A block with a byte in it is data whole, as on a disk."""


def next_data(base: Base, size: int, offset: int) -> int | None:
    """The first byte of data at `offset` or behind; None: only a hole follows."""
    for start, _ in _blocks(base, size, offset):
        return max(start, offset)
    return None


def next_hole(base: Base, size: int, offset: int) -> int:
    """The first byte of a hole at `offset` or behind; the end of the content counts as one."""
    for start, end in _blocks(base, size, offset):
        if start > offset:
            break
        offset = max(offset, end)
    return min(offset, size)


def _blocks(base: Base, size: int, offset: int) -> Iterator[tuple[int, int]]:
    """Blocks with data from the one with `offset` on, as [start, end), ascending; neighbours may touch."""
    for start, end in _data(base, offset // BLOCK_BYTES * BLOCK_BYTES, size):
        yield start // BLOCK_BYTES * BLOCK_BYTES, min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, size)


def _data(base: Base, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Data within [start, end), ascending. What is not known here counts as data."""
    if isinstance(base, ContentReader):
        for part in base.presence(start, end):
            if part.chunk is not None:
                yield max(part.offset, start), min(part.offset + part.length, end)
        return
    if not isinstance(base, Layer):
        yield start, end
        return
    for offset, length, what in base.extents(start):
        low, high = max(offset, start), min(offset + length, end)
        if low >= end:
            return
        if what is Extent.BASE:
            yield from _data(base.base, low, high)
        elif what is Extent.DATA:
            yield low, high
