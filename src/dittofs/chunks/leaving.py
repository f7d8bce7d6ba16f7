"""Chunks that go from this device though something names them, because others are proven to have them.

Whoever touches one before the decision keeps it. After it they count as absent: who puts one then stores it
again, elsewhere, and that stays.
"""

import threading
from collections.abc import Callable, Iterable, Iterator

from dittofs.chunks.amount import Amount
from dittofs.chunks.index_run import Location, decode_entry, encode_entry
from dittofs.ids import ChunkId


class Leaving:
    """Some chunks of one store, until they have gone. Thread-safe."""

    def __init__(self, chunks: Iterable[ChunkId], leases: frozenset[int]) -> None:
        """`leases`: those that are held now: what was touched under them may be named soon."""
        self.leases = leases
        self.gone = Amount()
        self.is_decided = False
        self._guard = threading.Lock()
        self._entries: dict[ChunkId, bytes] = dict.fromkeys(chunks, b"")

    def __contains__(self, chunk: ChunkId) -> bool:
        return chunk in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def chunks(self) -> list[ChunkId]:
        """What is to go, as of now."""
        with self._guard:
            return list(self._entries)

    def keep(self, chunk: ChunkId) -> None:
        """Somebody relies on it: it stays, unless that was decided already."""
        if chunk in self._entries:
            with self._guard:
                if not self.is_decided:
                    self._entries.pop(chunk, None)

    def locate(self, find: Callable[[ChunkId], Location | None]) -> None:
        """Note where each lies: only what still lies there goes. Before the decision. Raises IndexDamaged."""
        for chunk in self.chunks():
            location = find(chunk)
            with self._guard:
                if chunk in self._entries:
                    if location is None:
                        del self._entries[chunk]
                    else:
                        self._entries[chunk] = encode_entry(chunk, location)

    def decide(self) -> None:
        """At one instant: from now on all of them count as absent."""
        with self._guard:
            self.is_decided = True

    def takes(self, chunk: ChunkId, location: Location) -> bool:
        """Whether the chunk that lies there is on its way out."""
        if not self.is_decided:
            return False
        entry = self._entries.get(chunk)
        return entry is not None and entry == encode_entry(chunk, location)

    def kept(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """Entries of the index without those that go."""
        count = size = 0
        for entry in entries:
            if self.is_decided and self._entries.get(ChunkId(entry[:32])) == entry:
                count += 1
                size += decode_entry(entry)[1].length
            else:
                yield entry
        self.gone = Amount(count, size)
