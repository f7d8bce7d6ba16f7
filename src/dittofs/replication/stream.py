"""The stream of changes: each commit, once durable, is offered to every session, in their order."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog
import trio

from dittofs.chunks.manifest import parse_root
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import DittoError
from dittofs.replication.live import Outgoing, Sealed
from dittofs.replication.parts import LiveContent, LocalReplica
from dittofs.tree.entry import Change

log = structlog.get_logger()

RIDING_BYTES_MAX: Final = 8 << 20
"""Contents that travel with one change; the others are fetched."""
RETRY_S: Final = 2.0


class Listener(Protocol):
    """A session's live half."""

    def offer(self, change: Outgoing) -> None: ...


class Stream:
    """Nothing is sent before it is durable here: a peer never knows what this device could forget."""

    def __init__(
        self,
        replica: LocalReplica,
        content: LiveContent,
        listeners: Callable[[], Iterable[Listener]],
    ) -> None:
        self._replica = replica
        self._content = content
        self._listeners = listeners
        self._waiting: deque[Change] = deque()
        self._wake = trio.Event()
        self._committed = 0
        self._released = 0
        self._progress = trio.Event()
        replica.listeners.append(self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.updates or change.is_round:
            self._waiting.append(change)
            self._committed += 1
            self._wake.set()

    async def flushed(self) -> None:
        """Return when every change committed before the call is durable and was offered to every session."""
        goal = self._committed
        while self._released < goal:
            await self._progress.wait()

    async def run(self) -> None:
        """For ever."""
        while True:
            while not self._waiting:
                self._wake = trio.Event()
                await self._wake.wait()
            count = len(self._waiting)
            try:
                await self._replica.run_blocking(self._replica.journal.sync)
            except DittoError as error:
                log.error("changes cannot be made durable and are not sent", reason=str(error))
                await trio.sleep(RETRY_S)
                continue
            try:
                for _ in range(count):
                    self._release(self._waiting.popleft())
            finally:
                self._progress.set()
                self._progress = trio.Event()

    def _release(self, change: Change) -> None:
        self._released += 1  # even if this fails: nobody waits for ever for a change that is gone
        listeners = list(self._listeners())
        if listeners:
            chunks = () if change.is_round else self._riding(change)
            outgoing = Outgoing(change.updates, chunks, change.via, is_round=change.is_round)
            for listener in listeners:
                listener.offer(outgoing)

    def _riding(self, change: Change) -> list[Sealed]:
        """The contents of one chunk that came with a change and are here."""
        store = self._replica.chunks
        found: dict[bytes, Sealed] = {}
        room = RIDING_BYTES_MAX
        for _, root, size in self._content.roots_of(change)[0]:
            if room < size:
                continue
            try:
                named = parse_root(root, size)
                if named is None or named[0] is not ChunkKind.DATA or root in found:
                    continue
                found[root] = (*named, store.sealed(*named))
            except DittoError:
                continue  # whoever needs it asks for it, and is told then
            room -= size
        return list(found.values())
