"""Where a run of content is cut into chunks. Pure."""

import enum
from typing import TypeAlias

from pyfastcdc.cy import FastCDC  # the compiled one: the fallback of the package is 200 times slower

from dittofs.chunks.seal import derive

Buffer: TypeAlias = bytes | bytearray | memoryview

SINGLE_BYTES_MAX = 64 << 10
"""A content up to this size is one chunk."""
CHUNK_BYTES_MIN = 16 << 10
CHUNK_BYTES_AVERAGE = 64 << 10
CHUNK_BYTES_MAX = 256 << 10
FIXED_BYTES = 64 << 10
_NORMALISATION = 1


class Chunking(enum.IntEnum):
    """How a content above `SINGLE_BYTES_MAX` is cut; the numbers stand in manifests."""

    CONTENT_DEFINED = 1
    FIXED = 2


class Cutter:
    """Cuts one volume's content: alike on all its devices, differently in any other volume.

    Not thread-safe.
    """

    def __init__(self, chunking: Chunking, secret: bytes) -> None:
        self.chunking = chunking
        seed = int.from_bytes(derive("chunker seed", secret)[:8], "big") >> 2
        self._cdc = FastCDC(
            CHUNK_BYTES_AVERAGE,
            min_size=CHUNK_BYTES_MIN,
            max_size=CHUNK_BYTES_MAX,
            normalized_chunking=_NORMALISATION,
            seed=seed,
        )

    def cut(self, data: Buffer, *, offset: int, final: bool) -> list[int]:
        """The ends, ascending, of the chunks in `data`, which begins at a cut at `offset` of the file.

        What lies beyond the last end is to be given again, with more bytes after it: what follows
        may move its end. With `final` the run ends with `data`, and so does the last chunk.
        """
        size = len(data)
        if self.chunking is Chunking.FIXED:
            ends = list(range(FIXED_BYTES - offset % FIXED_BYTES, size + 1, FIXED_BYTES))
            if final and size and (not ends or ends[-1] != size):
                ends.append(size)
            return ends
        ends = []
        for chunk in self._cdc.cut_buf(data):
            end = chunk.offset + chunk.length
            if end == size and not final and chunk.length < CHUNK_BYTES_MAX:
                break  # it ended because the bytes did
            ends.append(end)
        return ends

    def ends_by_itself(self, offset: int, length: int) -> bool:
        """Whether a chunk this long that begins at `offset` ends there whatever byte comes next.

        Otherwise the cut has looked at the first byte after it.
        """
        if self.chunking is Chunking.FIXED:
            return (offset + length) % FIXED_BYTES == 0
        return length == CHUNK_BYTES_MAX
