"""Chunks that have come: verified and stored, several in one hop to a thread."""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

import structlog
import trio

from dittofs.chunks.seal import ChunkKind, GenerationMissing
from dittofs.errors import DiskError, DittoError
from dittofs.ids import ChunkId
from dittofs.replication.errors import WrongChunk
from dittofs.replication.parts import LocalReplica
from dittofs.replication.session import Session

log = structlog.get_logger()

INLINE_BYTES: Final = 192 << 10  # verified on the loop: a thread would cost more
BATCH_BYTES: Final = 4 << 20  # verified and stored in one hop

Ask = TypeVar("Ask")


class _Arrival(NamedTuple, Generic[Ask]):
    what: Ask
    kind: ChunkKind
    chunk: ChunkId
    session: Session
    sealed: bytes


class Arrivals(Generic[Ask]):
    """Of one volume. `run` must be running."""

    def __init__(
        self,
        replica: LocalReplica,
        ban: Callable[[Session, str], None],
        stored: Callable[[Ask, int], None],
        spoilt: Callable[[Ask, Session, DittoError | None], None],
    ) -> None:
        """`stored` is told what is in the store and its size; `spoilt` what is not what it should be, or why
        it could not be stored. Whoever sends a wrong chunk is banned.
        """
        self._replica = replica
        self._ban = ban
        self._stored = stored
        self._spoilt = spoilt
        self._arrived: list[_Arrival[Ask]] = []
        self._wake = trio.Event()

    def put(self, what: Ask, kind: ChunkKind, chunk: ChunkId, session: Session, sealed: bytes) -> None:
        """A chunk came that was asked for as `what`."""
        self._arrived.append(_Arrival(what, kind, chunk, session, sealed))
        self._wake.set()

    async def run(self, after: Callable[[], None]) -> None:
        """For ever. `after` is called after each batch."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._arrived:
                count, size = 0, 0
                while count < len(self._arrived) and size < BATCH_BYTES:
                    size += len(self._arrived[count].sealed)
                    count += 1
                batch, self._arrived = self._arrived[:count], self._arrived[count:]
                await self._store(batch, size)
                after()

    async def _store(self, batch: list[_Arrival[Ask]], size: int) -> None:
        store = self._replica.chunks
        items = [(one.kind, one.chunk, one.sealed) for one in batch]
        try:
            if size <= INLINE_BYTES:
                problems = store.put_sealed(items)
            else:
                problems = await self._replica.run_blocking(store.put_sealed, items)
        except Exception as error:
            unstored = error if isinstance(error, DittoError) else DiskError(f"not stored: {error}")
            for one in batch:
                self._spoilt(one.what, one.session, unstored)
            if error is not unstored:
                raise
            return
        for one, problem in zip(batch, problems, strict=True):
            if problem is None:
                self._stored(one.what, len(one.sealed))
                continue
            if not isinstance(problem, GenerationMissing):
                who = one.session.device.hex()[:16]
                log.error("a peer sent a wrong chunk", peer=who, reason=str(problem))
                self._ban(one.session, str(WrongChunk("it sent a chunk that is not the one asked for")))
            self._spoilt(one.what, one.session, None)
