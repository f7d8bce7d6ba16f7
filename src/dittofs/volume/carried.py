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
    """The rows of one replica. They are removed once the packs were synced after them."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._rows: dict[bytes, int] = {
            key: len(sealed) for key, sealed in replica.journal.scan_local(KIND, b"", [])
        }
        self._bytes = sum(self._rows.values())

    def has_room(self, jobs: Sequence[Job]) -> bool:
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
        self._rows[key] = size
        self._bytes += size

    async def settle(self) -> None:
        """Sync the packs and remove the rows that this makes needless."""
        keys = list(self._rows)
        if not keys:
            return
        await self._replica.run_blocking(self._replica.chunks.sync)
        with self._replica.change():
            for key in keys:
                self._replica.journal.delete_local(KIND, key)
        for key in keys:
            self._bytes -= self._rows.pop(key, 0)


def put_back(journal: Journal, chunks: ChunkStore) -> None:
    """Blocking, when a volume is opened: what a power cut took from the packs comes from the journal again.

    What cannot be put back now stays carried, and is absent until the next opening.
    """
    bad: list[bytes] = []
    for key, sealed in journal.scan_local(KIND, b"", bad):
        try:
            kind, chunk = ChunkKind(key[0]), ChunkId(key[1:])
            if not chunks.has(kind, chunk):
                (problem,) = chunks.put_sealed([(kind, chunk, sealed)])
                if problem is not None:
                    raise problem
        except (DittoError, ValueError) as error:
            log.error("a carried chunk cannot be put back", chunk=key[1:].hex(), reason=str(error))
    for key in bad:
        log.error("a carried chunk is damaged", chunk=key[1:].hex())
