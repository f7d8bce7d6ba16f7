"""Chunks that stretches of a content are known to be, without its bytes being read. Pure."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Self

from dittofs.ids import CHUNK_ID_BYTES, ChunkId


class KnownChunks:
    """Stretches of one content, ascending and disjoint, and the chunk that each is: 44 bytes a chunk."""

    def __init__(self) -> None:
        self._starts = array("Q")
        self._lengths = array("I")
        self._ids = bytearray()

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, ChunkId]]:
        """(offset, length, chunk) of each."""
        return (self._at(number) for number in range(len(self._starts)))

    def add(self, offset: int, length: int, chunk: ChunkId) -> None:
        """A stretch behind all others."""
        assert not self._starts or offset >= self._starts[-1] + self._lengths[-1], "stretches ascend"
        self._starts.append(offset)
        self._lengths.append(length)
        self._ids += chunk

    def forget(self, start: int, end: int) -> int:
        """Bytes of [start, end) change: forget every chunk whose end they may move; the bytes of those.

        A chunk ends where it does because of its bytes and of the first one behind it.
        """
        first = bisect_left(self._starts, start)
        while first and self._starts[first - 1] + self._lengths[first - 1] >= start:
            first -= 1
        last = bisect_left(self._starts, end, first)
        forgotten: int = sum(self._lengths[first:last])
        del self._starts[first:last]
        del self._lengths[first:last]
        del self._ids[first * CHUNK_ID_BYTES : last * CHUNK_ID_BYTES]
        return forgotten

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, ChunkId]]:
        """(offset, length, chunk) of those that lie in [start, end) with all their bytes."""
        for number in range(bisect_left(self._starts, start), bisect_right(self._starts, end)):
            if self._starts[number] + self._lengths[number] > end:
                return
            yield self._at(number)

    def filtered(self, is_kept: Callable[[ChunkId], bool]) -> Self:
        """Those of the chunks for which it says so."""
        found = type(self)()
        for offset, length, chunk in self:
            if is_kept(chunk):
                found.add(offset, length, chunk)
        return found

    def _at(self, number: int) -> tuple[int, int, ChunkId]:
        chunk = self._ids[number * CHUNK_ID_BYTES : (number + 1) * CHUNK_ID_BYTES]
        return self._starts[number], self._lengths[number], ChunkId(bytes(chunk))
