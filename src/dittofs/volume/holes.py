"""Where a content has bytes, and where it has nothing: SEEK_DATA and SEEK_HOLE (lseek(2)), fallocate(2)."""

import errno
import os
from collections.abc import Iterator

from dittofs.chunks.content import ContentReader
from dittofs.chunks.source import Extent
from dittofs.errors import FSError
from dittofs.tree.record import Kind
from dittofs.volume.files import SIZE_MAX, Files
from dittofs.volume.inodes import Inode
from dittofs.volume.room import FREE_BYTES_FLOOR
from dittofs.volume.staging import Base, Layer
from dittofs.volume.state import State

BLOCK_BYTES = 4096
"""A block with a byte in it is data whole, as on a disk."""
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
ALLOCATIONS = (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE)


class Holes:
    """Makes and finds them in open files."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def allocate(self, inode: Inode, offset: int, length: int, mode: int) -> None:
        """fallocate(2): room, holes, zeroes. Room is looked for and not kept; EOPNOTSUPP for other modes."""
        if inode.virtual is not None:
            raise FSError(errno.EROFS)
        if inode.kind is not Kind.FILE:
            raise FSError(errno.ENODEV)
        if mode not in ALLOCATIONS:
            raise FSError(errno.EOPNOTSUPP)
        end = offset + length
        if end > SIZE_MAX:
            raise FSError(errno.EFBIG)
        self._state.replica.require_writable()
        size = self._state.stat(inode).size
        is_zeroed = bool(mode & (PUNCH_HOLE | ZERO_RANGE)) and offset < size
        is_longer = end > size and not mode & KEEP_SIZE
        if not mode & PUNCH_HOLE and self._files.free_bytes(length) < FREE_BYTES_FLOOR + length:
            raise FSError(errno.ENOSPC, "the disk that holds the store is nearly full")
        if not is_zeroed and not is_longer:
            return
        content = self._files.writable(inode)
        layer = self._state.contents.writable(content)
        if is_zeroed:
            layer.punch(offset, end)
        if is_longer:
            layer.truncate(end)
        self._files.changed(content)

    def seek(self, inode: Inode, offset: int, whence: int) -> int:
        """SEEK_DATA or SEEK_HOLE: the place it finds. ENXIO behind the end, and where no data follows."""
        if whence not in (os.SEEK_HOLE, os.SEEK_DATA):
            raise FSError(errno.EINVAL)
        size = self._state.stat(inode).size
        if not 0 <= offset < size:
            raise FSError(errno.ENXIO)
        is_plain = inode.virtual is not None and inode.past is None
        if is_plain:
            return size if whence == os.SEEK_HOLE else offset
        base = self._files.content_base(inode)
        found = next_hole(base, size, offset) if whence == os.SEEK_HOLE else next_data(base, size, offset)
        if found is None:
            raise FSError(errno.ENXIO)
        return found


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
