"""Bytes in memory, here and there in a file."""

from bisect import bisect_left, bisect_right


class Scattered:
    """Scattered bytes in memory: sorted, disjoint, merged where they meet."""

    __slots__ = ("_data", "_starts", "bytes_held")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._data: list[bytearray] = []
        self.bytes_held = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        last = bisect_right(self._starts, end)
        first = bisect_right(self._starts, offset) - 1
        if first < 0 or self._starts[first] + len(self._data[first]) < offset:
            first += 1
        if first >= last:
            self._starts.insert(first, offset)
            self._data.insert(first, bytearray(data))
            self.bytes_held += len(data)
            return
        start, held = self._starts[first], self._data[first]
        before = sum(map(len, self._data[first:last]))
        if last - first > 1:
            tail_start, tail = self._starts[last - 1], self._data[last - 1]
            if start > offset:
                held = bytearray(data)
                self._starts[first] = start = offset
            else:
                held[offset - start :] = data
            if tail_start + len(tail) > end:
                held += tail[end - tail_start :]
            self._data[first] = held
            del self._starts[first + 1 : last]
            del self._data[first + 1 : last]
        elif start > offset:
            held[: max(0, end - start)] = data
            self._starts[first] = offset
        else:
            held[offset - start : end - start] = data
        self.bytes_held += len(held) - before

    def read(self, start: int, end: int) -> bytes:
        """[start, end), which must lie in one extent."""
        index = bisect_right(self._starts, start) - 1
        base = self._starts[index]
        return bytes(memoryview(self._data[index])[start - base : end - base])

    def cut(self, limit: int) -> None:
        keep = bisect_left(self._starts, limit)
        for data in self._data[keep:]:
            self.bytes_held -= len(data)
        del self._starts[keep:]
        del self._data[keep:]
        if keep and self._starts[-1] + len(self._data[-1]) > limit:
            excess = self._starts[-1] + len(self._data[-1]) - limit
            del self._data[-1][-excess:]
            self.bytes_held -= excess
