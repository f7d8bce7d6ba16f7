"""What a content to be stored looks like to this room."""

import enum
from collections.abc import Iterable
from typing import Protocol


class Extent(enum.Enum):
    """What a part of a content is."""

    BASE = "base"
    """As in the content it is based on, at the same offset."""
    DATA = "data"
    HOLE = "hole"
    """Zeros that were never written."""


class Source(Protocol):
    """A content to be stored."""

    @property
    def size(self) -> int: ...

    def extents(self) -> Iterable[tuple[int, int, Extent]]:
        """(offset, length, what), ascending, together [0, size) without gaps; BASE below the base's size."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes: of DATA, and of BASE where it borders on something else."""


class BytesSource:
    """A content in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def extents(self) -> Iterable[tuple[int, int, Extent]]:
        return [(0, self.size, Extent.DATA)] if self.size else []

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]
