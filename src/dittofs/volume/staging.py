"""Written, not yet published: a layer of bytes over a base.

A layer holds its bytes in memory up to MEMORY_BYTES_MAX and in a staging file above.
Nothing is chunked here. What a crash of the process would lose is what `next_increment`
would hand out.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from dittofs.chunks.source import Extent
from dittofs.disk import Disk, DiskFile
from dittofs.errors import Damaged
from dittofs.ids import Stamp
from dittofs.volume.cut_ahead import CutAhead
from dittofs.volume.ranges import RangeSet
from dittofs.volume.rows import Increment, LayerRow
from dittofs.volume.scattered import Scattered

MEMORY_BYTES_MAX = 256 << 10
INLINE_BYTES_MAX = 64 << 10  # above this the journal names the staging file instead of holding the bytes
COPY_BYTES = 1 << 20
DIRECTORY = "staging"


class Base(Protocol):
    """What lies under a layer."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at `offset`, fewer only at the end."""


class StagingGone(Damaged):
    """A layer's staging file is not there."""

    def __init__(self, row: LayerRow) -> None:
        super().__init__(f"{DIRECTORY}/{row.layer}", "the staging file is gone")
        self.is_expected = not row.durable_sequence
        """Nobody was told that it is on the platter: a power cut may take it."""


class Nothing:
    """The base of a file that was empty."""

    size = 0

    def read(self, _offset: int, _length: int) -> bytes:
        return b""


class Layer:
    """Bytes over a base, with the size the file has in this layer.

    Not thread-safe while open for writing. A closed layer never changes, so a worker thread may read it.
    """

    def __init__(self, disk: Disk, layer_id: str, base: Base, base_size: int) -> None:
        self._disk = disk
        self.layer_id = layer_id
        self.path = f"{DIRECTORY}/{layer_id}"
        self.mtime = 0
        self.stamp = Stamp(0)
        self.base: Base = base
        self.base_size = base_size
        self.base_limit = base_size
        self.size = base_size
        self.ranges = RangeSet()
        self.holes = RangeSet()
        """Zeroes, whatever the base has there. Never within `ranges`."""
        self.is_closed = False
        self.is_version = False
        """The last writer closed the file with this on top: it counts for the history."""
        self.is_appended = True
        self.sequence = 0
        self.durable_sequence = 0
        self._memory: Scattered | None = Scattered()
        self._file: DiskFile | None = None
        self._unsaved = RangeSet()
        self._unsaved_holes = RangeSet()
        self._cut: int | None = None
        self._inline_bytes = 0
        self._users = 0
        self._at_end: Callable[[], None] | None = None
        self.ahead: CutAhead | None = None
        """What is cut and sealed already."""

    @property
    def is_filed(self) -> bool:
        return self._file is not None

    @property
    def is_dirty(self) -> bool:
        """Whether the journal does not know all of this layer."""
        return bool(self._unsaved) or bool(self._unsaved_holes) or self._cut is not None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`. On an error nothing has changed but bytes no range names."""
        assert not self.is_closed
        end = offset + len(data)
        if self.ahead is not None:
            self.ahead.touch(offset, end)
        if self._memory is not None and self._memory.bytes_held + len(data) > MEMORY_BYTES_MAX:
            self._move_to_file()
        if self._file is not None:
            self._file.write(offset, data)
        else:
            assert self._memory is not None
            self._memory.write(offset, data)
        if offset < self.base_limit:
            self.is_appended = False
        self.ranges.add(offset, end)
        self._unsaved.add(offset, end)
        if self.holes:
            self.holes.remove(offset, end)
            self._unsaved_holes.remove(offset, end)
        self.size = max(self.size, end)

    def punch(self, start: int, end: int) -> None:
        """Make [start, end) zeroes that take no room. The size stays."""
        assert not self.is_closed
        end = min(end, self.size)
        if start >= end:
            return
        if self.ahead is not None:
            self.ahead.touch(start, end)
        if start < self.base_limit:
            self.is_appended = False
        self.ranges.remove(start, end)
        self._unsaved.remove(start, end)
        self.holes.add(start, end)
        self._unsaved_holes.add(start, end)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeroes."""
        assert not self.is_closed
        if size < self.size:
            if self.ahead is not None:
                self.ahead.touch(size, self.size)
            if size < self.base_limit:
                self.base_limit = size
                self.is_appended = False
            for ranges in (self.ranges, self._unsaved, self.holes, self._unsaved_holes):
                ranges.cut(size)
            if self._memory is not None:
                self._memory.cut(size)
            self._cut = size if self._cut is None else min(self._cut, size)
        elif self._cut is None:
            self._cut = self.size
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        parts: list[bytes] = []
        position = offset
        for start, stop in self.ranges.within(offset, end):
            if start > position:
                parts.append(self._read_base(position, start))
            parts.append(self.read_own(start, stop))
            position = stop
        if position < end:
            parts.append(self._read_base(position, end))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_own(self, start: int, end: int) -> bytes:
        """[start, end), which must lie in one of `ranges`."""
        if self._file is not None:
            data = self._file.read(start, end - start)
            return data.ljust(end - start, b"\0")
        assert self._memory is not None
        return self._memory.read(start, end)

    def _read_base(self, start: int, end: int) -> bytes:
        if not self.holes:
            return self._read_through(start, end)
        return b"".join(
            bytes(stop - begin) if is_hole else self._read_through(begin, stop)
            for begin, stop, is_hole in self._split_at_holes(start, end)
        )

    def _split_at_holes(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """[start, end) in pieces, and whether each is a hole."""
        for begin, stop in [*self.holes.within(start, end), (end, end)]:
            if start < begin:
                yield start, begin, False
            if begin < stop:
                yield begin, stop, True
            start = stop

    def _read_through(self, start: int, end: int) -> bytes:
        shown = min(end, self.base_limit)
        data = self.base.read(start, shown - start) if shown > start else b""
        return data.ljust(end - start, b"\0")

    def shown_through(self, offset: int, length: int) -> Iterator[tuple[Base, int, int]]:
        """(base, start, end) of what a read takes from below the lowest layer."""
        end = min(offset + length, self.size)
        position = offset
        for start, stop in [*self.ranges.within(offset, end), (end, end)]:
            for below, above, is_hole in self._split_at_holes(position, start):
                shown = min(above, self.base_limit)
                if is_hole or below >= shown:
                    continue
                if isinstance(self.base, Layer):
                    yield from self.base.shown_through(below, shown - below)
                else:
                    yield self.base, below, shown
            position = stop

    def extents(self, start: int = 0) -> Iterator[tuple[int, int, Extent]]:
        """(offset, length, what it is) of every byte from `start` on: DATA of this layer, BASE or HOLE."""
        position = start
        for start, end in [*self.ranges.within(position, self.size), (self.size, self.size)]:
            for begin, stop, is_hole in self._split_at_holes(position, start):
                shown = begin if is_hole else min(max(begin, self.base_limit), stop)
                if begin < shown:
                    yield begin, shown - begin, Extent.BASE
                if shown < stop:
                    yield shown, stop - shown, Extent.HOLE
            if start < end:
                yield start, end - start, Extent.DATA
            position = end

    def take_over(self, layers: Iterable["Layer"]) -> None:
        """Say alone what `layers`, one over the other and the lowest over the same base, say together."""
        for layer in layers:
            if layer.base_limit < self.size:
                self.truncate(layer.base_limit)
            for start, end in layer.holes:
                self.punch(start, end)
            for start, end in layer.ranges:
                for position in range(start, end, COPY_BYTES):
                    self.write(position, layer.read_own(position, min(end, position + COPY_BYTES)))
            if layer.size != self.size:
                self.truncate(layer.size)
            self.mtime, self.stamp = layer.mtime, layer.stamp

    def settle(self) -> None:
        """Move to the staging file what is too long for the journal."""
        if self._memory is not None and self._inline_bytes + self._unsaved.total() > INLINE_BYTES_MAX:
            self._move_to_file()

    def next_increment(self) -> Increment:
        """What the journal does not know yet. Call `saved` once it does."""
        self.settle()
        inline: list[tuple[int, bytes]] = []
        filed: list[tuple[int, int]] = []
        if self._file is not None:
            filed = list(self._unsaved)
        else:
            inline = [(start, self.read_own(start, end)) for start, end in self._unsaved]
        return Increment(
            size=self.size, cut=self._cut, inline=inline, filed=filed, holes=list(self._unsaved_holes)
        )

    def saved(self, increment: Increment) -> None:
        """`increment` is committed, and nothing was written since it was made."""
        self._inline_bytes += sum(len(data) for _, data in increment.inline)
        self._unsaved.clear()
        self._unsaved_holes.clear()
        self._cut = None
        self.sequence += 1

    def restore(self, increment: Increment) -> None:
        """Apply an increment read back from the journal, in their order.

        Once a layer is filed its file holds what earlier increments had inline.
        """
        if increment.cut is not None:
            self.base_limit = min(self.base_limit, increment.cut)
            self.ranges.cut(increment.cut)
            self.holes.cut(increment.cut)
            if self._memory is not None:
                self._memory.cut(increment.cut)
        for start, end in increment.holes:
            self.ranges.remove(start, end)
            self.holes.add(start, end)
        for offset, data in increment.inline:
            if self._memory is not None:
                self._memory.write(offset, data)
            self.ranges.add(offset, offset + len(data))
            self.holes.remove(offset, offset + len(data))
            self._inline_bytes += len(data)
        for start, end in increment.filed:
            self.ranges.add(start, end)
            self.holes.remove(start, end)
        self.size = increment.size
        self.sequence += 1

    def open_file(self) -> None:
        """Use the staging file an earlier process left. FileNotFoundError if it is gone."""
        self._file = self._disk.open(self.path)
        self._memory = None

    def sync(self) -> None:
        """Blocking: the staging file's bytes are on the platter."""
        if self._file is not None:
            self._file.sync()
            self._disk.sync_directory(DIRECTORY)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Until the block ends another thread may read or sync the layer: giving it up waits for that."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._at_end is not None:
                self._at_end()

    def discard(self) -> None:
        """Give the bytes up: close and remove the staging file."""
        self._end(self._discard)

    def release(self) -> None:
        """Close the staging file and leave it where it is."""
        self._end(self._release)

    def take_ahead(self) -> CutAhead | None:
        """What is cut already; from now on somebody else adopts it, or gives it back."""
        ahead, self.ahead = self.ahead, None
        return ahead

    def give_back_ahead(self) -> bool:
        """Nobody will publish this: what is cut already goes. Whether there was any."""
        ahead = self.take_ahead()
        if ahead is not None:
            ahead.give_back()
        return ahead is not None

    def _end(self, action: Callable[[], None]) -> None:
        self.give_back_ahead()
        if self._users:
            self._at_end = action
        else:
            action()

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._memory = Scattered()
            self._disk.unlink(self.path)

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()

    def _move_to_file(self) -> None:
        assert self._memory is not None
        file = self._disk.open(self.path, create=True)
        for start, end in self.ranges:
            file.write(start, self._memory.read(start, end))
        if self._inline_bytes:
            # Inline bytes may be durable already, and the journal will soon say they are in this file.
            file.sync()
            self._disk.sync_directory(DIRECTORY)
        self._file, self._memory = file, None
        for start, end in self.ranges:
            self._unsaved.add(start, end)
