"""Making room: what counts in a pack that is mostly garbage moves to another."""

from dataclasses import dataclass
from typing import Final

from dittofs.chunks.appender import Appender, SealedChunk
from dittofs.chunks.index import PackIndex
from dittofs.chunks.index_run import Location
from dittofs.chunks.pack import PACK_HEADER_BYTES, Frame, scan
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.seal import ChunkKind, Sealer
from dittofs.errors import Damaged, FormatError

GARBAGE_BYTES_MIN: Final = 1 << 20
"""A pack with less garbage than this is left alone."""
TIGHT_BYTES_MIN: Final = 128 << 10
TIGHT_PART: Final = 8
_AT_ONCE_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class PackShare:
    """How much of a pack counts."""

    number: int
    size: int
    live_chunks: int
    live_bytes: int

    @property
    def garbage_bytes(self) -> int:
        """What would be won by moving out the rest; to begin with, every pack has a header."""
        return max(0, self.size - PACK_HEADER_BYTES - self.live_bytes)


def worth_compacting(share: PackShare | None, *, is_tight: bool = False) -> bool:
    """Whether less than half of a pack counts, and that is worth the writing; `is_tight`: seven eighths."""
    if share is None or share.garbage_bytes < (TIGHT_BYTES_MIN if is_tight else GARBAGE_BYTES_MIN):
        return False
    return TIGHT_PART * share.garbage_bytes >= share.size if is_tight else 2 * share.live_bytes < share.size


def live_bytes(files: PackFiles, index: PackIndex) -> dict[int, PackShare]:
    """Of each pack, ascending, how much of it the index names. Blocking. Raises IndexDamaged."""
    chunks: dict[int, int] = {}
    sizes: dict[int, int] = {}
    listing = files.listing()
    for _, location in index.entries():
        chunks[location.pack] = chunks.get(location.pack, 0) + 1
        sizes[location.pack] = sizes.get(location.pack, 0) + location.length
    return {
        number: PackShare(number, size, chunks.get(number, 0), sizes.get(number, 0))
        for number, size in listing.items()
    }


def move_out(
    files: PackFiles,
    index: PackIndex,
    sealer: Sealer,
    appender: Appender,
    number: int,
) -> None:
    """Append every sound frame that counts to the pack that is open; durable after a sync. Blocking.

    What is damaged stays where it is, and so does its pack. Raises IndexDamaged, DiskFull, DiskError.
    """
    moving: list[tuple[Location, SealedChunk]] = []
    size = 0
    end = files.sizes.get(number, 0)
    for item in scan(lambda offset, length: files.read(number, offset, length), PACK_HEADER_BYTES, end):
        if not isinstance(item, Frame) or item.kind not in ChunkKind._value2member_map_:
            continue
        location = Location(number, item.offset, item.length, item.kind)
        if index.find(item.chunk) != location:
            continue
        try:
            sealer.open(ChunkKind(item.kind), item.chunk, item.sealed)
        except (Damaged, FormatError):
            continue  # sound, and not what it says it is; or of a generation that is not known here
        moving.append((location, (item.chunk, item.kind, bytes(item.sealed))))
        size += item.length
        if size >= _AT_ONCE_BYTES:
            _append(index, appender, moving)
            moving, size = [], 0
    _append(index, appender, moving)


def _append(index: PackIndex, appender: Appender, moving: list[tuple[Location, SealedChunk]]) -> None:
    with appender.lock:
        # Another thread may have stored some of them anew meanwhile.
        still = [chunk for location, chunk in moving if index.find(chunk[0]) == location]
        appender.append(still)
