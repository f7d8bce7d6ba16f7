"""Plaintexts read lately, so that neighbouring reads of a chunk unseal it once."""

import threading
from collections import OrderedDict

from dittofs.ids import ChunkId


class PlainCache:
    """Keeps the plaintexts used last, up to a number of bytes. Thread-safe."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._plains: OrderedDict[ChunkId, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, chunk: ChunkId) -> bytes | None:
        """The plaintext, if it is kept."""
        with self._guard:
            plain = self._plains.get(chunk)
            if plain is not None:
                self._plains.move_to_end(chunk)
            return plain

    def add(self, chunk: ChunkId, plain: bytes) -> None:
        """Keep a plaintext; the ones used longest ago make room."""
        with self._guard:
            if chunk in self._plains:
                return
            self._plains[chunk] = plain
            self._bytes += len(plain)
            while self._bytes > self._bytes_max:
                _, old = self._plains.popitem(last=False)
                self._bytes -= len(old)
