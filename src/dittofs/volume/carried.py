"""Small contents that the journal carries until the packs are synced.

A content and the tree operation that names it become durable together, by one sync of the journal instead of
one of the pack and then one of the journal. Their sealed chunks lie in the pack as well, where they are read;
should a power cut take them from there, opening puts them back from these rows.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from dittofs.chunks.marking import Named, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DittoError
from dittofs.ids import ChunkId
from dittofs.journal.journal import Journal
from dittofs.volume.events import node_of
from dittofs.volume.jobs import Job
from dittofs.volume.replica import Replica
from dittofs.volume.transaction import Transaction

log = structlog.get_logger()

KIND: Final = "carried"
FILES_MAX: Final = 4
"""Of one publication point: a sync shared by more costs less than writing them twice."""
BYTES_MAX: Final = 1 << 20
"""Carried at a time; beyond that the packs are synced."""


class Carried:
    """The rows of one replica. Each is removed once its chunk is durable in a pack, and not before."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        bad: list[bytes] = []
        self._rows: dict[bytes, int] = {
            key: len(sealed) for key, sealed in replica.journal.scan_local(KIND, b"", bad)
        }
        self._bad = set(bad)
        """Keys of rows that carry nothing any more."""
        self._bytes = sum(self._rows.values())
        self._told: set[bytes] = set()

    def takes(self, jobs: Sequence[Job]) -> bool:
        """Whether the contents of `jobs` may be carried instead of synced."""
        return (
            len(jobs) <= FILES_MAX
            and all(job.is_small for job in jobs)
            and self._bytes + sum(job.size for job in jobs) <= BYTES_MAX
        )

    def carry(self, job: Job, change: Transaction) -> None:
        """Within the transaction that publishes `job`: its chunks are durable when that is."""
        chunks, journal = self._replica.chunks, self._replica.journal
        root, node = named_root(job.root), node_of(job.node)
        for one in (root, None if node is None else Named(ChunkKind.VERSION, node)):
            if one is None:
                continue
            key = bytes([one.kind]) + one.chunk
            # What lies there unsynced, whoever put it, would be lost with the pack.
            if key not in self._rows and not chunks.is_durable(*one):
                sealed = chunks.sealed(*one)
                journal.put_local(KIND, key, sealed)
                change.after(partial(self._note, key, len(sealed)))

    def _note(self, key: bytes, size: int) -> None:
        self._bad.discard(key)
        self._bytes += size - self._rows.get(key, 0)  # of equal contents in one point there is one row
        self._rows[key] = size

    async def settle(self) -> None:
        """Put back what is missing, sync the packs, and remove the rows that this makes needless.

        DiskFull or DiskError: the packs are not synced, and every row is still there.
        """
        if not self._rows and not self._bad:
            return
        chunks, journal = self._replica.chunks, self._replica.journal
        for key in [key for key in self._rows if not _is_here(chunks, key)]:
            try:
                sealed = journal.get_local(KIND, key)
                if sealed is not None:
                    _put_back(chunks, key, sealed)
            except (DittoError, ValueError) as error:
                if key not in self._told:
                    self._told.add(key)
                    _tell(key, error)
        await self._replica.run_blocking(chunks.sync)
        # As it is now: a chunk may have gone, and another come, while this waited.
        self._remove([key for key in (*self._rows, *self._bad) if _is_durable(chunks, key)])

    def _remove(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        with self._replica.change():
            for key in keys:
                self._replica.journal.delete_local(KIND, key)
        for key in keys:
            self._bad.discard(key)
            self._bytes -= self._rows.pop(key, 0)


def put_back(journal: Journal, chunks: ChunkStore) -> None:
    """Blocking, when a volume is opened: what a power cut took from the packs comes from the journal again.

    What cannot be put back now stays carried, and is absent until a `settle` or the next opening can.
    """
    bad: list[bytes] = []
    for key, sealed in journal.scan_local(KIND, b"", bad):
        try:
            _put_back(chunks, key, sealed)
        except (DittoError, ValueError) as error:
            _tell(key, error)
    for key in bad:
        log.error("a carried chunk is damaged", chunk=key[1:].hex())


def _put_back(chunks: ChunkStore, key: bytes, sealed: bytes) -> None:
    kind, chunk = _named(key)
    if not chunks.has(kind, chunk):
        (problem,) = chunks.put_sealed([(kind, chunk, sealed)])
        if problem is not None:
            raise problem


def _tell(key: bytes, error: Exception) -> None:
    log.error("a carried chunk cannot be put back", chunk=key[1:].hex(), reason=str(error))


def _named(key: bytes) -> Named:
    """ValueError if it names no chunk that this program knows."""
    if len(key) < 2:
        raise ValueError("it names no chunk")
    return Named(ChunkKind(key[0]), ChunkId(key[1:]))


def _is_here(chunks: ChunkStore, key: bytes) -> bool:
    try:
        return chunks.has(*_named(key))
    except ValueError:
        return False


def _is_durable(chunks: ChunkStore, key: bytes) -> bool:
    try:
        return chunks.is_durable(*_named(key))
    except ValueError:
        return False
