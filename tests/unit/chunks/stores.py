"""What the tests of this room share: keys, a store on a disk, content in memory."""

import random
from collections.abc import Iterable, Sequence

from dittofs.chunks.seal import VolumeKeys
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from dittofs.disk import Disk
from dittofs.ids import VolumeId

GENERATION = b"gen-0001"
KEYS = VolumeKeys(
    volume_id=VolumeId(bytes(range(32))),
    secret=bytes(range(32, 64)),
    generations={GENERATION: bytes(range(64, 96))},
    current=GENERATION,
)
DIRECTORY = "chunks"


def open_store(disk: Disk, keys: VolumeKeys = KEYS, seed: int = 0) -> ChunkStore:
    """The store of a test disk, with predictable nonces."""
    return ChunkStore.open(disk, DIRECTORY, keys, entropy=random.Random(seed).randbytes)


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


class MemorySource:
    """A content in memory; by default all of it is data."""

    def __init__(self, data: bytes, extents: Sequence[tuple[int, int, Extent]] | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []
        self._extents = extents if extents is not None else [(0, len(data), Extent.DATA)] * bool(data)

    def extents(self) -> Iterable[tuple[int, int, Extent]]:
        return self._extents

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        assert any(start <= offset and offset + length <= end for start, end in self._readable()), (
            "only data and base bytes are read"
        )
        return self.data[offset : offset + length]

    def _readable(self) -> list[tuple[int, int]]:
        """Stretches without a hole."""
        found: list[tuple[int, int]] = []
        for offset, length, extent in self._extents:
            if extent is Extent.HOLE:
                continue
            if found and found[-1][1] == offset:
                found[-1] = (found[-1][0], offset + length)
            else:
                found.append((offset, offset + length))
        return found
