"""A set of chunk ids in two bytes each that may hold more than was added, and never less."""

import struct
import threading
from collections.abc import Iterable
from typing import Final, Self

from dittofs.chunks.pack import checksum
from dittofs.ids import ChunkId

BITS_PER_ID: Final = 16  # with four probes: 0.24 % of all others seem to be in it
_BITS_LOG_MIN: Final = 19
_BITS_LOG_MAX: Final = 32
_PROBES: Final = struct.Struct(">4I")
_OFFSETS: Final = 32 - _PROBES.size + 1
_HEADER: Final = struct.Struct(">8sBBB")
_MAGIC: Final = b"DittoFlt"
_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 8


class IdFilter:
    """Everything that was added is in it. Thread-safe.

    What keeps chunks from being swept may err on that side, and only there. `offset` chooses which bytes of
    an id are looked at, so that two filters do not err about the same ids.
    """

    def __init__(self, expected: int, offset: int = 0) -> None:
        log = (expected * BITS_PER_ID).bit_length()
        self._log = min(max(log, _BITS_LOG_MIN), _BITS_LOG_MAX)
        self._mask = (1 << self._log) - 1
        self._offset = offset % _OFFSETS
        self._bits = bytearray(1 << self._log >> 3)
        self._guard = threading.Lock()

    def add(self, chunk: ChunkId) -> None:
        """From now on `chunk` is in it."""
        with self._guard:
            self._add(chunk)

    def update(self, chunks: Iterable[ChunkId]) -> None:
        """Add all of them, as one step."""
        with self._guard:
            for chunk in chunks:
                self._add(chunk)

    def _add(self, chunk: ChunkId) -> None:
        bits, mask = self._bits, self._mask
        for probe in _PROBES.unpack_from(chunk, self._offset):
            bit = probe & mask
            bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, chunk: bytes) -> bool:
        bits, mask = self._bits, self._mask
        for probe in _PROBES.unpack_from(chunk, self._offset):
            bit = probe & mask
            if not bits[bit >> 3] >> (bit & 7) & 1:
                return False
        return True

    def copy(self) -> "IdFilter":
        """Another one with the same ids, as of now."""
        found = IdFilter(0, self._offset)
        with self._guard:
            found._log, found._mask, found._bits = self._log, self._mask, bytearray(self._bits)
        return found

    def encode(self) -> bytes:
        """The filter as a file keeps it."""
        with self._guard:
            data = _HEADER.pack(_MAGIC, _VERSION, self._log, self._offset) + self._bits
        return data + checksum(data)

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """The inverse of `encode`; None for anything else."""
        if len(data) < _HEADER.size + _CHECKSUM_BYTES:
            return None
        magic, version, log, offset = _HEADER.unpack_from(data)
        body = data[_HEADER.size : -_CHECKSUM_BYTES]
        is_known = magic == _MAGIC and version == _VERSION and _BITS_LOG_MIN <= log <= _BITS_LOG_MAX
        if not is_known or len(body) != 1 << log >> 3:
            return None
        if checksum(data[:-_CHECKSUM_BYTES]) != data[-_CHECKSUM_BYTES:]:
            return None
        found = cls(0, offset)
        found._log, found._mask, found._bits = log, (1 << log) - 1, bytearray(body)
        return found
