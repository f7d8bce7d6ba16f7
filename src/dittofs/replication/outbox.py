"""What is to be sent over one link, in two priorities: what somebody waits for overtakes what nobody does."""

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import trio

from dittofs.errors import DittoError
from dittofs.replication.allowance import UNLIMITED, Allowance
from dittofs.sync.frame import PAYLOAD_BYTES_MAX, frames
from dittofs.sync.messages import Message, encode_header

BULK_BYTES_MAX: Final = 4 << 20
"""Who sends bulk waits above this."""
QUEUED_BYTES_MAX: Final = 128 << 20
"""A peer that lets so much pile up does not read: its link ends."""
MESSAGE_BYTES: Final = 512
"""What a queued message takes beside its body: a peer that asks and does not read makes many without one."""
BATCH_BYTES: Final = (
    64 << 10
)  # small frames are sent together: a TLS record and a system call cost as much each

FramePart = bytes | memoryview


class NotReading(DittoError):
    """The peer takes nothing of what is sent to it."""


class Sink(Protocol):
    """Where frames go: a link."""

    async def send_all(self, data: FramePart, /) -> None: ...


class Outbox:
    """Queues messages; `run` sends them. `put` never waits."""

    def __init__(self, frame_bytes: int = PAYLOAD_BYTES_MAX) -> None:
        """`frame_bytes`: what a frame may carry, and what small ones are gathered to at most."""
        self._frame_bytes = frame_bytes
        self._queues: tuple[deque[Iterator[list[FramePart]]], deque[Iterator[list[FramePart]]]] = (
            deque(),
            deque(),
        )
        self._bytes: list[int] = [0, 0]
        self._wake = trio.Event()
        self._sent = trio.Event()
        self._stirred = trio.Event()
        self._is_sending = False
        self.allowance: Allowance = UNLIMITED
        """What is queued counts there."""
        self.total_bytes = 0
        """Handed to the link since the beginning."""

    def put(self, message: Message, body: bytes | memoryview = b"", *, is_bulk: bool = False) -> None:
        """Queue one message. NotReading if the peer has let too much pile up."""
        if 0 < self._queued_bytes > QUEUED_BYTES_MAX - len(body) - MESSAGE_BYTES:
            raise NotReading(f"{self._queued_bytes >> 20} MiB wait for a peer that does not read")
        header = encode_header(message)
        self.allowance.sent(len(header) + len(body))
        self._queues[is_bulk].append(frames(header, body, is_bulk=is_bulk, payload_bytes=self._frame_bytes))
        self._bytes[is_bulk] += len(body)
        self._wake.set()
        self._stirred.set()

    async def put_bulk(self, message: Message, body: bytes | memoryview = b"") -> None:
        """Queue a message that nobody waits for, once there is room for it."""
        while self._bytes[True] > BULK_BYTES_MAX:
            await self._sent.wait()
        self.put(message, body, is_bulk=True)

    @property
    def urgent_bytes(self) -> int:
        """What waits in the first queue takes so much."""
        return self._bytes[False] + MESSAGE_BYTES * len(self._queues[False])

    @property
    def _queued_bytes(self) -> int:
        return self.urgent_bytes + self._bytes[True] + MESSAGE_BYTES * len(self._queues[True])

    @property
    def is_empty(self) -> bool:
        """Everything queued has been handed to the link."""
        return not (self._is_sending or self._queues[0] or self._queues[1])

    def stir(self) -> trio.Event:
        """An event that is set when something is queued from now on. One caller."""
        self._stirred = trio.Event()
        return self._stirred

    async def flushed(self) -> None:
        """Return when everything queued has been handed to the link."""
        while not self.is_empty:
            await self._sent.wait()

    async def run(self, sink: Sink) -> None:
        """Send for ever. What the link raises ends it."""
        while True:
            await self.drain(sink)
            self._wake = trio.Event()
            await self._wake.wait()

    async def drain(self, sink: Sink) -> None:
        """Send what is queued. Raises what the link raises."""
        while batch := self._batch():
            data = b"".join(batch) if len(batch) > 1 else batch[0]
            self._is_sending = True
            await sink.send_all(data)
            self._is_sending = False
            self.total_bytes += len(data)
            self._signal()
        self._signal()

    def _signal(self) -> None:
        self._sent.set()
        self._sent = trio.Event()

    def _batch(self) -> list[FramePart]:
        """The next frames, urgent ones first: several small ones, or one."""
        batch: list[FramePart] = []
        size = 0
        while size < min(BATCH_BYTES, self._frame_bytes):
            frame = self._next()
            if frame is None:
                break
            batch += [part for part in frame if len(part)]
            size += sum(map(len, frame))
        return batch

    def _next(self) -> list[FramePart] | None:
        for priority, queue in enumerate(self._queues):
            while queue:
                frame = next(queue[0], None)
                if frame is not None:
                    self._bytes[priority] -= len(frame[1])
                    return frame
                queue.popleft()
        return None
