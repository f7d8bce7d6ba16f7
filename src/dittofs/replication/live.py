"""Live changes on one session: groups out in order, groups in in order, each acknowledged when durable."""

from collections.abc import Sequence
from typing import Final, Protocol

import trio

from dittofs.chunks.seal import ChunkKind, GenerationMissing
from dittofs.errors import DiskError, DiskFull, ReadOnlyVolume
from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.errors import ProtocolError, WrongChunk
from dittofs.replication.outbox import NotReading, Outbox
from dittofs.replication.parts import LocalReplica
from dittofs.sync import messages as wire
from dittofs.sync.frame import BODY_BYTES_MAX
from dittofs.sync.messages import Message
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Behind

UNSENT_BYTES_MAX: Final = 16 << 20
"""Above this a peer is told to pull, instead of being sent every group."""
KEPT_BYTES_MAX: Final = 16 << 20
"""Groups that are held back while a round is under way."""
INLINE_BYTES: Final = 256 << 10  # chunks that are verified on the loop: a thread would cost more

Sealed = tuple[ChunkKind, ChunkId, bytes]
Updates = Sequence[tuple[int, Epoch, bytes]]


class Outgoing:
    """One change as every session sends it: encoded once."""

    def __init__(self, updates: Updates, chunks: Sequence[Sealed], via: bytes, *, is_round: bool) -> None:
        self.via = via
        """Whom it came from: not sent back."""
        self.is_round = is_round
        self._messages: list[tuple[tuple[wire.Update, ...], tuple[wire.Riding, ...], bytes]] = []
        if is_round:
            return
        items: list[tuple[wire.Update | wire.Riding, bytes]] = [
            (wire.Update(document, epoch.number, epoch.digest, len(update)), update)
            for document, epoch, update in updates
        ]
        items += [(wire.Riding(int(kind), chunk, len(sealed)), sealed) for kind, chunk, sealed in chunks]
        for start in range(0, len(items), wire.PARTS_MAX):
            some = items[start : start + wire.PARTS_MAX]
            self._messages.append(
                (
                    tuple(head for head, _ in some if isinstance(head, wire.Update)),
                    tuple(head for head, _ in some if isinstance(head, wire.Riding)),
                    b"".join([data for _, data in some]),
                )
            )

    def send(self, outbox: Outbox, sequence: int) -> None:
        """Queue it as number `sequence` of a session; without contents while those have to wait."""
        if self.is_round:
            outbox.put(wire.Stale(sequence))
        messages = self._messages if outbox.allowance.may_send() else self._bare()
        last = len(messages) - 1
        for number, (updates, chunks, body) in enumerate(messages):
            outbox.put(wire.Group(sequence, updates, chunks, number < last), body)

    def _bare(self) -> list[tuple[tuple[wire.Update, ...], tuple[wire.Riding, ...], bytes]]:
        """The messages without contents: whoever is to hold those asks for them."""
        return [
            (updates, (), body[: sum(update.length for update in updates)])
            for updates, _, body in self._messages
            if updates
        ]


class LiveSession(Protocol):
    """What this needs of the session it is part of."""

    device: DeviceId
    outbox: Outbox

    def send(self, message: Message, body: bytes = b"") -> None: ...

    def end(self, why: str) -> None: ...

    @property
    def rounds(self) -> "RoundState": ...


class RoundState(Protocol):
    """Whether a round is under way here."""

    @property
    def is_pulling(self) -> bool: ...

    def begin(self) -> None: ...


class Live:
    """Both directions. `sequence` numbers what we send, `received` what we were sent."""

    def __init__(self, session: LiveSession, replica: LocalReplica) -> None:
        self._session = session
        self._replica = replica
        self._is_begun = False
        self._is_lagging = False
        self._updates: list[tuple[int, Epoch, bytes]] = []  # of a group that goes on
        self._sealed: list[Sealed] = []
        self._open_bytes = 0
        self._kept: list[tuple[int, Updates | None]] = []
        self._kept_bytes = 0
        self._has_unacknowledged = trio.Event()
        self._applied = 0
        self._acknowledged_here = 0
        self._moved = trio.Event()
        self.sequence = 0
        self.acknowledged_there = 0
        self.received = 0
        self.quiet_since = 0.0

    # -- out

    def begin(self) -> None:
        """From now on everything that changes is sent."""
        self._is_begun = True
        self.quiet_since = trio.current_time()

    @property
    def is_in_step(self) -> bool:
        """Everything sent is durable there, and nothing waits to be sent."""
        return not self._is_lagging and self.acknowledged_there == self.sequence

    def offer(self, change: Outgoing) -> None:
        """Send a change, unless it came from there."""
        if not self._is_begun or change.via == self._session.device:
            return
        if self._is_lagging or self._session.outbox.urgent_bytes > UNSENT_BYTES_MAX:
            self._is_lagging = True
            return
        self.sequence += 1
        self.quiet_since = trio.current_time()
        try:
            change.send(self._session.outbox, self.sequence)
        except NotReading as error:
            self._session.end(str(error))

    def _catch_up(self) -> None:
        """What could not be queued is pulled instead, once the queue is short."""
        if self._is_lagging and self._session.outbox.urgent_bytes < UNSENT_BYTES_MAX // 4:
            self._is_lagging = False
            self.sequence += 1
            self._session.send(wire.Stale(self.sequence))

    def acknowledged(self, sequence: int) -> None:
        """The peer has everything up to `sequence`. ProtocolError for what it was never sent."""
        if not self.acknowledged_there <= sequence <= self.sequence:
            raise ProtocolError(f"acknowledges group {sequence} of {self.sequence}")
        self.acknowledged_there = sequence
        self._catch_up()
        self._moved.set()
        self._moved = trio.Event()

    async def moved(self) -> None:
        """Return at the next acknowledgement."""
        await self._moved.wait()

    # -- in

    async def take(self, message: wire.Group | wire.Stale, body: bytes) -> None:
        """One message of the peer's live stream."""
        if message.sequence != self.received + 1:
            raise ProtocolError(f"group {message.sequence} after {self.received}")
        self.quiet_since = trio.current_time()
        if isinstance(message, wire.Stale):
            self._keep(message.sequence, None)
            self._session.rounds.begin()
            return
        pieces = wire.split_body(
            body, [part.length for part in message.updates] + [part.length for part in message.chunks]
        )
        self._open_bytes += len(body)
        if self._open_bytes > BODY_BYTES_MAX:
            raise ProtocolError("a group without end")
        self._updates += [
            (part.document, Epoch(part.epoch, part.digest), update)
            for part, update in zip(message.updates, pieces[: len(message.updates)], strict=True)
        ]
        for riding, sealed in zip(message.chunks, pieces[len(message.updates) :], strict=True):
            try:
                kind = ChunkKind(riding.kind)
            except ValueError:
                raise ProtocolError(f"a chunk of kind {riding.kind}") from None
            self._sealed.append((kind, ChunkId(riding.chunk), sealed))
        if message.more:
            return
        updates, sealed_chunks = self._updates, self._sealed
        self._updates, self._sealed, self._open_bytes = [], [], 0
        await self._store(sealed_chunks)
        self._apply(message.sequence, updates)

    async def _store(self, sealed: list[Sealed]) -> None:
        """Keep what rode along. Its durability matters when it is told of, not before."""
        if sum(len(data) for _, _, data in sealed) <= INLINE_BYTES:
            problems = self._replica.chunks.put_sealed(sealed)
        else:
            problems = await self._replica.run_blocking(self._replica.chunks.put_sealed, sealed)
        for problem in problems:
            if problem is not None and not isinstance(problem, GenerationMissing):
                raise WrongChunk(str(problem)) from problem

    def _apply(self, sequence: int, updates: Updates) -> None:
        if self._session.rounds.is_pulling:
            self._keep(sequence, updates)
            return
        try:
            self._replica.receive(updates, self._session.device)
        except (Behind, DiskFull, DiskError, ReadOnlyVolume):
            self._keep(sequence, updates)
            self._session.rounds.begin()
            return
        self.received = sequence
        self._note_applied(sequence)

    def _keep(self, sequence: int, updates: Updates | None) -> None:
        """Hold a group back until a round has ended; None: the round must bring it."""
        self.received = sequence
        self._kept.append((sequence, updates))
        self._kept_bytes += sum(len(update) for _, _, update in updates or ())
        if updates is None or self._kept_bytes > KEPT_BYTES_MAX:  # it brings all that came before, too
            self._kept, self._kept_bytes = [(sequence, None)], 0

    def release(self, through: int) -> bool:
        """A round has brought everything up to `through`: apply what came after. False: pull again.

        Called without an await since the round was applied, so that both are one step to whoever looks.
        """
        if through > self.received:
            raise ProtocolError(f"a round with group {through}, which was not sent")
        kept = [one for one in self._kept if one[0] > through]
        self._kept, self._kept_bytes = [], 0
        self._note_applied(through)
        for number, (sequence, updates) in enumerate(kept):
            try:
                if updates is None:
                    raise Behind("a group that has to be pulled")
                self._replica.receive(updates, self._session.device)
            except (Behind, DiskFull, DiskError, ReadOnlyVolume):
                self._kept = kept[number:]
                self._kept_bytes = sum(len(one[2]) for _, rest in self._kept for one in rest or ())
                return False
            self._note_applied(sequence)
        return True

    def _note_applied(self, sequence: int) -> None:
        self._applied = max(self._applied, sequence)
        self._has_unacknowledged.set()

    async def acknowledge(self) -> None:
        """For ever: what was received becomes durable, then it is acknowledged. Syncs are shared."""
        while True:
            await self._has_unacknowledged.wait()
            self._has_unacknowledged = trio.Event()
            sequence = self._applied
            await self._replica.run_blocking(self._replica.journal.sync)
            if sequence > self._acknowledged_here:
                self._acknowledged_here = sequence
                self._session.send(wire.Ack(sequence))
