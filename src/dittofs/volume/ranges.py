"""Sets of byte ranges: sorted, disjoint, never touching."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Half-open ranges [start, end). Adding merges neighbours; every query is a binary search."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def total(self) -> int:
        """Bytes covered."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Cover [start, end)."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Cover nothing of [start, end)."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if start >= end or first >= last:
            return
        left, right = self._starts[first], self._ends[last - 1]
        self._starts[first:last] = ([left] if left < start else []) + ([end] if end < right else [])
        self._ends[first:last] = ([start] if left < start else []) + ([right] if end < right else [])

    def cut(self, limit: int) -> None:
        """Cover nothing at or after `limit`."""
        keep = bisect_left(self._starts, limit)
        del self._starts[keep:]
        del self._ends[keep:]
        if self._ends and self._ends[-1] > limit:
            self._ends[-1] = limit

    def clear(self) -> None:
        self._starts.clear()
        self._ends.clear()

    def around(self, offset: int) -> tuple[int, int]:
        """The covered range that has the byte at `offset`; an empty one there if none has."""
        index = bisect_right(self._ends, offset)
        if index < len(self._starts) and self._starts[index] <= offset:
            return self._starts[index], self._ends[index]
        return offset, offset

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The covered parts of [start, end), in order."""
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            yield max(start, self._starts[index]), min(end, self._ends[index])
            index += 1
