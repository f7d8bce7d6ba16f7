"""Chunks that a peer asks for: read as they are stored, sent as they are sealed."""

from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
import trio

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged
from dittofs.ids import ChunkId
from dittofs.replication.errors import ProtocolError
from dittofs.replication.outbox import Outbox
from dittofs.replication.parts import LocalReplica
from dittofs.sync import messages as wire
from dittofs.sync.frame import PAYLOAD_BYTES_MAX

log = structlog.get_logger()

DAMAGED: Final = b""
AT_ONCE: Final = 16  # chunks read in one hop to a thread: about 1 MiB
AT_ONCE_LIMITED: Final = 1
"""While what is sent is limited: what comes to be waited for can overtake all the others."""


class Serving:
    """Answers one peer's requests as fast as the link takes them; bulk that waits for it holds nothing up."""

    def __init__(self, outbox: Outbox, replica: LocalReplica, lost: Callable[[], None]) -> None:
        self._outbox = outbox
        self._lost = lost
        self._replica = replica
        self._queues: tuple[deque[wire.Wanted], deque[wire.Wanted]] = (deque(), deque())
        self._wakes = [trio.Event(), trio.Event()]
        self._is_answering = [False, False]

    def take(self, wants: tuple[wire.Wanted, ...], *, is_bulk: bool) -> None:
        """Queue requests. ProtocolError above REQUESTS_MAX unanswered ones."""
        self._queues[is_bulk].extend(wants)
        if sum(map(len, self._queues)) > wire.REQUESTS_MAX:
            raise ProtocolError(f"more than {wire.REQUESTS_MAX} requests at a time")
        self._wakes[is_bulk].set()

    def hurry(self, requests: tuple[int, ...]) -> None:
        """These requests are waited for now. Those that were answered already are passed over."""
        hurried = set(requests)
        moved = [want for want in self._queues[True] if want.request in hurried]
        if moved:
            left = [want for want in self._queues[True] if want.request not in hurried]
            self._queues[True].clear()
            self._queues[True].extend(left)
            self._queues[False].extend(moved)
            self._wakes[False].set()

    @property
    def is_idle(self) -> bool:
        """Everything asked for has been answered."""
        return not (any(self._queues) or any(self._is_answering))

    async def run(self, *, is_bulk: bool) -> None:
        """For ever, the requests of one priority."""
        queue = self._queues[is_bulk]
        while True:
            self._is_answering[is_bulk] = bool(queue)
            if not queue:
                self._wakes[is_bulk] = trio.Event()
                await self._wakes[is_bulk].wait()
                continue
            count = AT_ONCE
            if is_bulk and self._outbox.allowance.is_bounded:
                await self._outbox.allowance.turn()
                count = AT_ONCE_LIMITED
            some = [queue.popleft() for _ in range(min(len(queue), count))]
            if not some:
                continue  # somebody came to wait for it meanwhile
            found = await self._replica.run_blocking(_read, self._replica.chunks, some)
            absent = tuple(want.request for want, data in found if not data)
            if any(data == DAMAGED for _, data in found):
                self._lost()
            if absent:
                self._outbox.put(wire.Absent(absent))
            await self._answer([(want.request, data) for want, data in found if data], is_bulk)

    async def _answer(self, found: list[tuple[int, bytes]], is_bulk: bool) -> None:
        """As many chunks in one message as one frame holds."""
        while found:
            count, size = 0, 0
            while count < len(found) and (not count or size + len(found[count][1]) <= PAYLOAD_BYTES_MAX):
                size += len(found[count][1])
                count += 1
            some, found = found[:count], found[count:]
            message = wire.Chunks(tuple((request, len(data)) for request, data in some))
            body = b"".join([data for _, data in some]) if count > 1 else some[0][1]
            if is_bulk:
                await self._outbox.put_bulk(message, body)
            else:
                self._outbox.put(message, body)


def _read(store: ChunkStore, wants: list[wire.Wanted]) -> list[tuple[wire.Wanted, bytes | None]]:
    """Blocking: the sealed chunks, None for what is not here, DAMAGED for what was."""
    return [(want, _sealed(store, want)) for want in wants]


def _sealed(store: ChunkStore, want: wire.Wanted) -> bytes | None:
    try:
        return store.sealed(ChunkKind(want.kind), ChunkId(want.chunk))
    except ValueError:
        return None  # a kind of a later version
    except ChunkMissing:
        return None
    except Damaged:
        return DAMAGED  # it counts as absent from now on, and `check` tells of it
