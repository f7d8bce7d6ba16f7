"""What users of a swarm closed, what they replaced or removed knowingly, and where it can be read."""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from dittofs.chunks.content import ContentReader
from dittofs.chunks.seal import VolumeKeys
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged
from dittofs.history.live_content import LiveContents
from dittofs.replication.wholeness import whole
from dittofs.volume.events import contents_of
from dittofs.volume.replica import Replica
from tests.simulation.disk import SimulatedDisk

Digest = str
PIECES_MAX: Final = 16
"""Of what a power cut leaves of writes that nobody synced."""


def digest_of(data: bytes) -> Digest:
    return blake3(data).hexdigest(8)


def _same_from(at: int, data: bytes, other: bytes) -> int:
    """How many bytes from there on are the same."""
    low, high = 0, max(0, min(len(data), len(other)) - at)
    while low < high:
        middle = (low + high + 1) // 2
        if data[at + low : at + middle] == other[at + low : at + middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(slots=True)
class Closed:
    """A byte sequence that a user closed."""

    device: int
    path: str
    at: float
    size: int
    is_sure: bool = True
    """False: a power cut or a restored backup may have taken it with it."""


@dataclass
class Ledger:
    """Of one run. Contents are known by a hash of their bytes."""

    keys: VolumeKeys
    closed: dict[Digest, Closed] = field(default_factory=dict)
    held: dict[Digest, bytes] = field(default_factory=dict)
    """Whatever a file held at some time."""
    superseded: dict[Digest, str] = field(default_factory=dict)
    """What a user saw and then replaced or removed, and how."""
    _digests: dict[tuple[bytes, int], Digest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._store = ChunkStore.open(SimulatedDisk(), "all", self.keys, entropy=bytes)

    def close(self) -> None:
        self._store.close()

    def renew_keys(self, keys: VolumeKeys) -> None:
        """What is sealed under the generations of `keys` can be read, too."""
        generations = {**self.keys.generations, **keys.generations}
        self.keys = dataclasses.replace(keys, generations=generations)
        self._store.renew_keys(self.keys)

    def gather(self, store: ChunkStore) -> None:
        """Keep every chunk of a device, so that any content can be read whoever loses it."""
        for kind, chunk in list(store.ids()):
            if not self._store.has(kind, chunk):
                try:
                    problems = self._store.put_sealed([(kind, chunk, store.sealed(kind, chunk))])
                except (ChunkMissing, Damaged):
                    continue
                assert problems == [None], "what a store gives is that chunk"

    def bytes_of(self, root: bytes, size: int) -> bytes:
        """A content, of which every chunk was gathered. ChunkMissing otherwise."""
        return ContentReader(self._store, root, size).read(0, size) if size else b""

    def has(self, root: bytes, size: int) -> bool:
        """Whether every chunk of a content was gathered."""
        return whole(self._store, [(root, size)])[0]

    def digest(self, root: bytes, size: int) -> Digest:
        known = self._digests.get((root, size))
        if known is None:
            known = self._digests[root, size] = digest_of(self.bytes_of(root, size))
        return known

    # -- what users do

    def note(self, data: bytes) -> None:
        """A file holds this now."""
        self.held.setdefault(digest_of(data), data)

    def is_mixture(self, data: bytes) -> bool:
        """Whether it is made of a few pieces that files held at these very places, and of zeros."""
        candidates = [bytes(len(data)), *self.held.values()]
        at = 0
        for _ in range(PIECES_MAX):
            at += max(_same_from(at, data, one) for one in candidates)
            if at == len(data):
                return True
        return False

    def close_file(self, data: bytes, device: int, path: str, at: float) -> Digest:
        """A user closed it: from now on it must not be lost."""
        name = digest_of(data)
        self.held.setdefault(name, data)
        if data and name not in self.superseded:
            self.closed[name] = Closed(device, path, at, len(data))
        return name

    def supersede(self, data: bytes, how: str) -> Digest:
        """A user who saw this replaces or removes it."""
        name = digest_of(data)
        self.superseded.setdefault(name, how)
        return name

    def name(self, data: bytes) -> Digest:
        """What some bytes are known by."""
        return digest_of(data)

    def stays_apart(self, data: bytes) -> None:
        """It is staged on a device, and can never be published: what it was made from is gone."""
        closed = self.closed.get(digest_of(data))
        if closed is not None:
            closed.is_sure = False

    def doubt(self, device: int, since: float, seen: set[Digest]) -> None:
        """What was closed on a device since then may be gone, unless it was seen elsewhere."""
        for name, one in self.closed.items():
            if one.device == device and one.at >= since and name not in seen:
                one.is_sure = False

    def may_be_lost(self, root: bytes, size: int) -> None:
        """The last copies of a content went in good faith. Who let them go was gathered before."""
        with suppress(ChunkMissing):
            closed = self.closed.get(self.digest(root, size))
            if closed is not None:
                closed.is_sure = False

    # -- what replicas show

    def live(self, replica: Replica) -> set[Digest]:
        """Contents at names and in conflict entries."""
        return {self.digest(root, size) for _, root, size in LiveContents(replica).content_roots()}

    def history(self, replica: Replica) -> set[Digest]:
        """Contents that the history speaks of."""
        found = set()
        for row in replica.journal.history.before():
            if row.kind == "content":
                for raw in (row.before, row.after):
                    for root, size, *_ in contents_of(raw):
                        try:
                            found.add(self.digest(root, size))
                        except ChunkMissing:
                            continue  # nobody has it any more, so no user can have it back
        return found
